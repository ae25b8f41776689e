/*
 * Uploads that have a name, and what is kept of those that were cut off (PROTOCOL.md section 4.25).
 *
 * A name is a token that the client chose, and who the client is. An upload with one has a *place*
 * here, from its beginning to its end; where it ends because its connection was lost, what has come
 * of it (its *load*) stays in its place, until an upload of that name goes on with it. It goes when
 * it is too old, when its peer leaves more than its share, when the disk is short or has no room
 * for another upload, and with the daemon.
 *
 * What one peer leaves takes the place of what it left before, the oldest first, and never of what
 * another did: a peer may have a quarter of all. The memory of a load is the peer's in the ledger.
 *
 * Any thread: what is kept moves from the loop that lost the connection to the one that has the
 * next. Calls that take an outlet are for the thread of its loop; files are closed beside it.
 */
#ifndef DAEMON_PUBLISH_PARK_H
#define DAEMON_PUBLISH_PARK_H

#include "daemon/core/context.h"
#include "daemon/publish/head.h"
#include "daemon/publish/job.h"
#include "daemon/publish/spool.h"
#include "proto/message.h"

/* What can be sent again in less time than it takes to ask is not kept. */
#define PARK_MIN (64u << 10)

/* How many loads a peer may leave, and all peers. */
#define PARK_PEER_MAX 64u
#define PARK_MAX      (4u * PARK_PEER_MAX)

struct park;
struct park_place;

/* Who names an upload, and how. */
struct park_name {
    const char *peer; /* struct peer.key */
    const uint8_t *token;
};

/* An upload with a name: its token and its offset are the end of its message. */
struct park_upload {
    const char *peer;
    struct cap_bytes payload; /* of the message, at most PROTO_UPLOAD_MAX */
    uint64_t total_len;
    uint64_t offset;
};

/* What has come of an upload. It owns all but the account. */
struct park_load {
    struct head head;       /* of a PUT_IMAGE, whole or in part */
    struct job_front front; /* of others */
    bool spooled;           /* there is: */
    struct spool_rest spool;
    uint64_t received; /* bytes of the body, in all */
    struct ledger_peer *account;
    uint64_t held; /* memory, of the account */
};

struct park_figures {
    uint64_t count; /* loads */
    uint64_t bytes; /* of bodies, in them */
};

/* What a load takes of memory beside what it holds. */
uint64_t park_memory(void);

/* An empty park; what it is given outlives it. CAP_E_NO_MEMORY. */
enum cap_error park_new(const struct config *config, struct ledger *ledger, struct park **ret_park);

/* Drops every load, and closes their files here. No upload has a place any more. NULL is fine. */
void park_free(struct park *park);

/*
 * Gives an upload its place. With offset 0 it begins: the name is its from now on, and what had it
 * is dropped, or not kept any more. Else it goes on with what is kept under its name, and gets it:
 * CAP_E_RESUME_OFFSET when that is nothing, or another length, or of an upload with other fields;
 * then what is kept stays. CAP_E_NO_MEMORY.
 */
enum cap_error park_enter(struct park *park, const struct park_upload *upload,
                          struct pool_outlet *outlet, struct park_place **ret_place,
                          struct park_load *ret_load);

/*
 * The upload is over. `load`, unless NULL, is kept in its place if there is room for it, until
 * `now_us` and the configured time, and is taken over in any case.
 */
void park_leave(struct park *park, struct park_place *place, const struct park_load *load,
                uint64_t now_us, struct pool_outlet *outlet);

/*
 * Where an upload of that name goes on, and how long it is; 0 and 0 when nothing is kept. False:
 * it has not ended yet, and is told so (park_is_wanted).
 */
bool park_find(struct park *park, const struct park_name *name, uint64_t *ret_total_len,
               uint64_t *ret_offset);

/* Whether somebody asks to go on with the upload that has the place. */
bool park_is_wanted(const struct park_place *place);

/* Drops what is too old; `all`: everything that is kept. */
void park_clear(struct park *park, uint64_t now_us, bool all, struct pool_outlet *outlet);

/* What is kept now. */
void park_figures(struct park *park, struct park_figures *ret_figures);

#endif
