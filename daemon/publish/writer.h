/*
 * The writer: the one thread that writes to the store, with shared commits.
 *
 * A job is one admission: caps to store and slots that must resolve, all or nothing. Jobs are
 * handed over on the loop thread and come back there; in between they belong to the writer.
 */
#ifndef DAEMON_PUBLISH_WRITER_H
#define DAEMON_PUBLISH_WRITER_H

#include <stdatomic.h>
#include <uv.h>

#include "daemon/core/env.h"
#include "daemon/core/ledger.h"
#include "daemon/core/stats.h"
#include "lib/store/store.h"

/*
 * What jobs that share a write transaction may sum up to, and so the memory that it takes. A job is
 * never split: of one that is larger by itself, the longer bodies are staged beforehand, and its
 * puts are bounded by the slots that an Image may have (config.max_slots).
 */
#define WRITER_BATCH_PUTS 4096u
#define WRITER_BATCH_LEN  (UINT64_C(20) << 20) /* unstaged body bytes */
#define WRITER_STAGE_MIN  (UINT64_C(1) << 20)  /* longer bodies are always staged */

struct writer;

/* A cap to store. `put` is filled by the owner but for `stage`. */
struct writer_cap {
    struct cap_put put;
    bool is_new; /* result; in a dry run: would be */
};

/* The slots of an Image that must resolve before its caps are stored. */
struct writer_slots {
    const struct cap_wire_image *image; /* NULL: no slots */
    const struct cap_hash *hashes;      /* one per slot */
    const bool *own;                    /* one per slot: resolved by the job's own caps */
};

/* One admission. The owner keeps it and all that it refers to until `done` is called. */
struct writer_job {
    struct writer_cap *caps; /* what refers to others comes after them: an Image is last */
    size_t cap_count;
    struct writer_slots slots;
    bool dry_run;
    atomic_bool cancelled;                /* the owner may set it at any time */
    void (*done)(struct writer_job *job); /* on the loop thread */
    void *owner;

    enum cap_error error;  /* result */
    struct cap_buf detail; /* result, of CAP_E_UNRESOLVED_SLOT; the owner frees it */
    uint64_t detail_held;  /* memory of it taken from the ledger, the owner gives it back */
    size_t unresolved;     /* how many slots it lists */

    /* The writer's own. */
    struct writer_job *next;
    bool prepared;
    bool staging;
    uint64_t stage_min; /* longer bodies of this job are staged */
    size_t stage_at;    /* caps before it have their stage, or need none */
    uint64_t stage;     /* of caps[stage_at], half written; 0 when none was begun */
};

struct writer_config {
    struct cap_store *store;
    struct ledger *ledger;
    const struct env *env;
    struct stats *stats; /* the loop thread's; counted when results come back */
    /* The store failed: nothing is acknowledged any more. On the loop thread, once. */
    void (*failed)(void *ctx, enum cap_error error);
    void *ctx;
};

/* Starts the thread; results come back on `loop`. CAP_E_NO_MEMORY. */
enum cap_error writer_new(uv_loop_t *loop, const struct writer_config *config,
                          struct writer **ret_writer);

/* Hands a zero-initialised and filled job over. Loop thread. */
void writer_submit(struct writer *writer, struct writer_job *job);

/* Jobs handed over whose `done` has not been called. Loop thread. */
size_t writer_queued(const struct writer *writer);

/* A number that rises at least once a second while the thread is alive. Loop thread. */
uint64_t writer_heartbeat(const struct writer *writer);

/*
 * Finishes the transaction that is open, gives every other job back with CAP_E_CANCELLED (their
 * `done` is called from here), and joins the thread. The loop must turn once more before
 * writer_free. NULL is fine.
 */
void writer_stop(struct writer *writer);

/* Whether the loop is done with it, after writer_stop. */
bool writer_closed(const struct writer *writer);

/* Frees it, once closed. NULL is fine. */
void writer_free(struct writer *writer);

#endif
