/* The room of uploads on one loop: what every upload of it needs besides its shard. */
#ifndef DAEMON_PUBLISH_PUBLISH_H
#define DAEMON_PUBLISH_PUBLISH_H

#include "daemon/net/hub.h"
#include "daemon/publish/room.h"
#include "daemon/publish/spool.h"

struct writer;

struct publish {
    struct hub *hub;
    struct shard *shard;   /* of the hub */
    struct writer *writer; /* shared by all loops */
    struct room *room;     /* shared by all loops */
    struct spools spools;
    struct pool_job refresh; /* of the room */
    bool refreshing;
};

/* Fills `publish`; everything outlives it. Nothing has to be released. */
void publish_init(struct publish *publish, struct hub *hub, struct writer *writer,
                  struct room *room);

/* Has a worker look at the disk, for the uploads of all loops. */
void publish_tick(struct publish *publish);

#endif
