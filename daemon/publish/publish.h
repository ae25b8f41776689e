/* The room of uploads on one loop: what every upload of it needs besides its shard. */
#ifndef DAEMON_PUBLISH_PUBLISH_H
#define DAEMON_PUBLISH_PUBLISH_H

#include "daemon/net/hub.h"
#include "daemon/publish/caps.h"
#include "daemon/publish/keeping.h"
#include "daemon/publish/room.h"
#include "daemon/publish/spool.h"
#include "daemon/publish/writer.h"

struct publish {
    struct hub *hub;
    struct shard *shard; /* of the hub */
    struct writer_outlet outlet;
    struct keeping keeping;
    struct room *room; /* shared by all loops */
    struct spools spools;
    struct pool_job refresh; /* of the room */
    bool refreshing;
};

/* A room on the hub's loop; all that it is given outlives it. CAP_E_NO_MEMORY. */
enum cap_error publish_open(struct publish *publish, struct hub *hub, struct writer *writer,
                            struct room *room);

/* After writer_stop; run the loop until its handle is closed. A zeroed one is fine. */
void publish_close(struct publish *publish);

/* Looks at the disk, for the uploads of all loops; blocks. As room_refresh. */
enum cap_error publish_look(const struct publish *publish);

/* What publish_reserve is asked for. */
struct publish_ask {
    struct ledger_peer *account;
    uint64_t len;
    uint64_t max_upload;
    bool goes_on; /* with what is kept of it */
};

/*
 * Whether an upload may have its bytes and there is room for them; then they are reserved in the
 * ledger until ledger_upload_end. Where one that begins has room only in place of what is parked,
 * *ret_drop says so: the caller drops that once nothing refuses the upload any more.
 * CAP_E_UPLOAD_TOO_LARGE, CAP_E_DISK_FULL, or as ledger_upload_begin; the judgement says why. Loop
 * thread.
 */
enum cap_error publish_reserve(const struct publish *publish, const struct publish_ask *ask,
                               bool *ret_drop, struct judgement *ret_judgement);

/* Has a worker look at the disk, and drops what is kept too long of uploads that were cut off: both
 * for all loops. */
void publish_tick(struct publish *publish);

#endif
