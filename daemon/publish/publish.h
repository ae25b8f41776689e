/* The room of uploads on one loop: what every upload of it needs besides its shard. */
#ifndef DAEMON_PUBLISH_PUBLISH_H
#define DAEMON_PUBLISH_PUBLISH_H

#include "daemon/net/hub.h"

struct writer;

struct publish {
    struct hub *hub;
    struct shard *shard;   /* of the hub */
    struct writer *writer; /* shared by all loops */
    size_t upload_count;
};

#endif
