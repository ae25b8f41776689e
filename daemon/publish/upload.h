/*
 * An upload: PUT_DATA or PUT_IMAGE with its body, from the message to the answer.
 *
 * What both kinds share is in upload.c; what differs is behind a table, in upload_data.c and
 * upload_image.c. Loop thread, but for `hash`.
 */
#ifndef DAEMON_PUBLISH_UPLOAD_H
#define DAEMON_PUBLISH_UPLOAD_H

#include "daemon/core/container.h"
#include "daemon/net/session.h"
#include "daemon/publish/publish.h"
#include "daemon/publish/spool.h"
#include "daemon/publish/upload_state.h"
#include "daemon/publish/writer.h"
#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/hash_set.h"
#include "lib/cap/image_cap.h"
#include "proto/message.h"

#define UPLOAD_JUDGE_INLINE (64u << 10) /* heads up to this are judged on the loop */
#define UPLOAD_PAGE_MEMORY  128u        /* heap that one page of a Data cap costs while hashed */

struct upload;

struct upload_kind {
    /* The message has been read and room reserved: whether the body may come. */
    enum cap_error (*begin)(struct upload *upload);
    /* Takes a piece of the body; what belongs to the spool is left in *piece. */
    enum cap_error (*take)(struct upload *upload, struct cap_bytes *piece);
    /* Memory that hashing will need, beyond what is held. */
    uint64_t (*hash_memory)(const struct upload *upload);
    /* Bytes that will be hashed. */
    uint64_t (*hash_cost)(const struct upload *upload);
    /* In a worker: makes the caps and fills job.admission. Sets upload->message on failure if it
     * can.
     */
    enum cap_error (*hash)(struct upload *upload);
    /* Sends the positive answer. */
    void (*reply)(struct upload *upload);
    /* Frees what the kind made. */
    void (*release)(struct upload *upload);
};

/* A Data cap on its way to the store. */
struct upload_data_cap {
    struct cap_data data;
    struct cap_source bytes; /* what the body's windows refer to */
};

/* What a PUT_IMAGE has. */
struct upload_image {
    uint8_t flags;
    uint8_t *head;
    size_t head_filled;
    size_t head_capacity;
    size_t head_len; /* 0: not known yet */
    bool judged;     /* on the loop; a worker need not do it again */
    struct cap_wire_image wire;
    struct cap_hash content_hash;
    struct cap_hash *slot_hashes;
    bool *own;                    /* per slot: resolved by a cap of this upload */
    struct cap_hash_set distinct; /* of slot_hashes, the first slot of each Data cap */
    struct cap_window_memo *memo; /* of the arena, while its slots are hashed */
    struct upload_data_cap *data; /* one per Data cap to store */
    size_t data_count;
    uint32_t data_distinct;
    struct cap_image image;
    struct cap_source image_bytes;
    struct cap_ref *refs;
    struct cap_needed *needed; /* caps that slots name and that do not come with the upload */
    uint32_t *needed_slots;    /* whose they are */
};

/* What a PUT_DATA has. */
struct upload_data {
    uint8_t flags;
    uint64_t size;
    uint8_t front[CAP_DATA_BODY_FIXED];
    size_t front_filled;
    uint64_t pages; /* at most so many; of a canonical body known with its front */
    struct upload_data_cap cap;
};

struct upload {
    struct request request;
    struct publish *publish;
    const struct upload_kind *kind;
    enum upload_state state;
    uint64_t total_len;
    uint64_t received;
    bool reserved; /* total_len bytes, in the ledger */
    struct ledger_peer *account;
    struct cap_publisher publisher;
    struct spool *spool;
    struct cap_source spooled; /* its bytes */
    uint64_t held;             /* memory taken from the ledger */
    bool busy;                 /* a worker or the writer has it */
    uv_work_t judge_work;
    struct pool_job hash_job;
    struct writer_job job;
    bool dry_run;
    enum cap_error error; /* of the worker */
    char message[CAP_REFUSAL_MESSAGE_SIZE];
    union {
        struct upload_image image;
        struct upload_data data;
    } of;
};

/* Begins an upload. As struct route wants it. */
const struct verdict *upload_begin(void *publish, struct session *session, uint32_t id,
                                   uint8_t type, struct cap_bytes payload);

/* --- For the kinds
 * -------------------------------------------------------------------------------- */

extern const struct upload_kind upload_image_kind;
extern const struct upload_kind upload_data_kind;

/* Moves to a state that the table allows. */
void upload_move(struct upload *upload, enum upload_state to);

/* Answers with an error, which ends the upload; `message` may be NULL. */
void upload_refuse(struct upload *upload, enum cap_error error, const char *message);

/* A thread gives the upload back. False when nobody waits for it: it is freed. */
bool upload_take_back(struct upload *upload);

/*
 * Whether hashing could have its memory if nobody else had any: CAP_E_MEMORY_LIMIT, and the message
 * says so. Any thread.
 */
enum cap_error upload_check_memory(struct upload *upload);

/* Makes the spool for `len` bytes. */
enum cap_error upload_make_spool(struct upload *upload, uint64_t len);

/* The head was accepted: JUDGING to BODY, and further if the body has ended. */
void upload_accepted(struct upload *upload);

/* Answers unresolved_slot with the list of what job.admission lacks; the upload ends. */
void upload_send_unresolved(struct upload *upload);

/*
 * Appends that list, encoded, to `detail`, which the caller frees; its memory is taken from the
 * ledger as *held. CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY.
 */
enum cap_error upload_image_list_missing(const struct upload *upload, struct cap_buf *detail,
                                         uint64_t *held);

/* The spool's bytes for hashing: what is read is counted as the job's, who may have to wait. */
struct cap_source upload_hash_source(struct upload *upload);

/* Fills the put of a Data cap. */
void upload_fill_data(const struct upload *upload, struct upload_data_cap *cap,
                      struct cap_put *ret_put);

#endif
