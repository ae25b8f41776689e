/*
 * Tasks: each request of the handle while it is answered.
 *
 * Happy path: a task begins one request over HTTP, a HAS or a CLOSURE several; what comes of them
 * becomes frames at once, and next to nothing is kept.
 *
 * Failure modes: a request that fails ends its task with an ERROR, also in the middle of a body, as
 * the protocol allows. What was announced and does not come is an ERROR as well, so that an answer
 * cut short is never taken for whole. Of what a reply says the handle believes nothing that matters
 * here, since bodies, slices and entries prove themselves: the kind in a GET_REPLY or SLICE_REPLY
 * is a placeholder (the body's first byte is the kind).
 */
#ifndef CLIENT_LIB_TASK_H
#define CLIENT_LIB_TASK_H

#include "client/lib/closure_stream.h"
#include "client/lib/transfer.h"
#include "proto/frame.h"

#define CLIENT_TASKS_MOST  32u  /* in flight: more would only wait for connections */
#define CLIENT_HASHES_MOST 256u /* in a HAS: each is a request over HTTP, 8 of them at a time */
#define CLIENT_HEAD_SIZE   33u  /* of a body: its kind, and the fixed part of an Image */
#define CLIENT_PLACEHOLDER CAP_KIND_DATA

/* What the tasks of one handle share (translate.h). */
struct client_translator {
    struct client_transfers transfers;
    char *base;          /* of all URLs, without a slash at its end */
    struct cap_buf *out; /* borrowed: frames go there */
    struct client_link tasks;
    size_t task_count;
    bool failed; /* there was no memory for a frame: the stream is broken */
};

struct client_task {
    struct client_link link;
    struct client_translator *translator;
    uint32_t id;
    enum proto_type type;
    struct client_link parts; /* under way */

    uint64_t offset; /* GET: what was asked */
    uint64_t len;    /* GET: what was asked, then what there is of it */
    uint64_t skip;   /* GET: bytes to come before it */
    uint64_t left;   /* GET: bytes of it to come */

    struct cap_buf hashes;                 /* HAS; CLOSURE: the roots */
    size_t next;                           /* of these */
    struct cap_buf kinds;                  /* HAS */
    struct cap_buf have;                   /* CLOSURE */
    bool list;                             /* CLOSURE */
    struct client_closure_stream *entries; /* CLOSURE */
};

/* A request over HTTP of a task's; the ctx of its transfer. */
struct client_part {
    struct client_link link;
    struct client_task *task;
    struct client_transfer *transfer;
    size_t index; /* HAS: of the hash */
    uint8_t head[CLIENT_HEAD_SIZE];
    size_t head_len;
    uint64_t body_len; /* of the whole body that `head` begins */
};

/* ---- frames (task.c) ---- */

/* Sends a message whose encoding has just ended so, and releases it. */
void client_task_reply_encoded(struct client_translator *translator, enum proto_type type,
                               uint32_t id, enum cap_error encoded, struct cap_buf *payload);

/* Sends an ERROR; `message` "": what the error means in general. */
void client_translator_refuse(struct client_translator *translator, uint32_t id,
                              enum cap_error error, const char *message);

/* Sends bytes of a task's body; `end`: the last. */
void client_task_body(const struct client_task *task, struct cap_bytes bytes, bool end);

/* ---- tasks ---- */

/* Ends a task that has been answered, and gives up its parts that are under way. */
void client_task_end(struct client_task *task);

/* Ends a task with an ERROR. */
void client_task_fail(struct client_task *task, enum cap_error error, const char *message);

/* Ends a task whose body is complete, or with an error. */
void client_task_end_body(struct client_task *task, enum cap_error error, const char *message);

/* Whether this says that a cap is not to be had here, rather than that something went wrong. */
bool client_is_absent(enum cap_error error);

/* Writes the URL of a cap in that room ("caps", "closures"), and of what is behind it. */
void client_task_url(const struct client_translator *translator, char ret_url[CLIENT_URL_MAX],
                     const char *room, const struct cap_hash *hash, const char *behind);

/* Begins a request over HTTP for a task. As client_transfer_start. */
enum cap_error client_part_begin(struct client_task *task, const char *url, const char *range,
                                 const struct client_transfer_calls *calls, size_t index);

/* Releases a part whose transfer ends. */
void client_part_free(struct client_part *part);

/* ---- the beginning of a body: HAS, STAT, and a GET of nothing ---- */

/* Begins a request for the first bytes of a body, whose calls begin with the next two. */
enum cap_error client_head_begin(struct client_task *task, const struct cap_hash *hash,
                                 size_t index, const struct client_transfer_calls *calls);

/* Keeps the first bytes of a good answer, and how long the body is. */
enum cap_error client_head_begun(struct client_transfer *transfer);
enum cap_error client_head_take(struct client_transfer *transfer, struct cap_bytes bytes,
                                bool *ret_enough);

/* Whether what came can be a cap, as far as its first byte and `least` bytes of it tell.
 * CAP_E_HASH_MISMATCH. */
enum cap_error client_head_judge(struct client_transfer *transfer, size_t least);

/* How long the whole body is of which a good answer has some or all. CAP_E_BAD_REPLY. */
enum cap_error client_learn_length(struct client_transfer *transfer, uint64_t *ret_len);

/* Says that the answer has another range than was asked for. CAP_E_BAD_REPLY. */
enum cap_error client_wrong_range(struct client_transfer *transfer);

/* ---- each kind (task_ask.c, task_body.c) ---- */

/*
 * Each begins the answer to a message with that payload. After an error nothing has been sent and
 * the task is still there: CAP_E_BAD_MESSAGE, CAP_E_TOO_MANY_HASHES, CAP_E_NO_MEMORY.
 */
enum cap_error client_begin_hello(struct client_task *task);
enum cap_error client_begin_has(struct client_task *task, struct cap_bytes payload);
enum cap_error client_begin_stat(struct client_task *task, struct cap_bytes payload);
enum cap_error client_begin_get(struct client_task *task, struct cap_bytes payload);
enum cap_error client_begin_slice(struct client_task *task, struct cap_bytes payload);
enum cap_error client_begin_closure(struct client_task *task, struct cap_bytes payload);

#endif
