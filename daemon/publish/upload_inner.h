/*
 * An upload as its files see it: upload_begin.c makes it, upload.c moves it, upload_end.c frees it
 * or leaves what has come of it in the park. Loop thread.
 */
#ifndef DAEMON_PUBLISH_UPLOAD_INNER_H
#define DAEMON_PUBLISH_UPLOAD_INNER_H

#include "daemon/net/session.h"
#include "daemon/publish/ahead.h"
#include "daemon/publish/head.h"
#include "daemon/publish/job.h"
#include "daemon/publish/pace.h"
#include "daemon/publish/park.h"
#include "daemon/publish/publish.h"
#include "daemon/publish/quota.h"
#include "daemon/publish/upload_state.h"
#include "daemon/publish/writer.h"

struct upload {
    struct request request;
    struct publish *publish;
    enum upload_state state;
    uint64_t session; /* its number */
    uint64_t total_len;
    uint64_t received;
    uint64_t resumed;         /* of these, what an upload before it that was cut off had received */
    bool reserved;            /* total_len bytes, in the ledger */
    bool ended;               /* END has come */
    bool busy;                /* a worker has `job`, or the writer `writing` */
    bool kept;                /* it is over, and what has come of it stays for one that goes on */
    bool parting;             /* it is over, and only its spool is not quiet yet */
    struct park_place *place; /* NULL: it has no name */
    uint64_t wanted_us;       /* monotonic: since when it is; 0: it is not */
    struct ledger_peer *account;
    struct quota_hold quota;
    struct proto_limits limits;
    uint64_t held;          /* memory taken from the ledger */
    struct cap_bytes piece; /* of the body, while it is handled */
    struct head head;
    struct spool *spool;
    struct pace pace;
    struct job job;
    struct ahead ahead;
    struct writer_job writing;
    struct judgement outcome; /* of a failed upload */
};

/* What uploads do for their session. Static. */
extern const struct request_class upload_class;

static inline struct context *upload_context(const struct upload *upload)
{
    return upload->request.shard->context;
}

/* Whether operators have to act. */
static inline bool upload_is_trouble(enum cap_error error)
{
    return error == CAP_E_DISK_FULL || error == CAP_E_MAP_FULL || error == CAP_E_IO;
}

/* Changes the memory that it holds to `wanted`: as ledger_memory_hold. */
bool upload_hold_memory(struct upload *upload, uint64_t wanted);

/* Memory that it keeps until it is over: the head, and roots of what lies in the spool. */
uint64_t upload_kept_memory(const struct upload *upload);

/* Has the quotas hold what it may bring to the store. As quota_take. */
enum cap_error upload_hold_quota(struct upload *upload, struct cap_usage wanted);

/* How its spool sees an upload whose body has `len` bytes for it. */
struct spool_order upload_spool_order(struct upload *upload, uint64_t len);

/* Hands it to the writer, which has it until it tells that it is written. */
void upload_write(struct upload *upload);

/*
 * Frees it, once nothing works for it: not at once where the writer has to drop what it staged, or
 * where it is kept and its spool still writes; then it is called again. What is kept goes to the
 * park.
 */
void upload_free(struct upload *upload);

#endif
