/*
 * The writer: the one thread that writes to the store, with shared commits.
 *
 * A job is one admission. Jobs are handed over on the loop thread and come back there; in between
 * they belong to the writer.
 */
#ifndef DAEMON_PUBLISH_WRITER_H
#define DAEMON_PUBLISH_WRITER_H

#include <stdatomic.h>
#include <sys/queue.h>
#include <uv.h>

#include "daemon/core/env.h"
#include "daemon/core/stats.h"
#include "lib/store/store.h"

/*
 * Longer bodies are always staged: 1 MiB is written in some 10 ms with its sync, which small
 * admissions that share the commit can wait for.
 */
#define WRITER_STAGE_MIN (UINT64_C(1) << 20)

struct writer;

/*
 * One admission. The owner fills `admission` but for stages and `cancelled`, says by is_new which
 * puts the store does not have (cap_store_dry_run does), and keeps it and all that it refers to
 * until `done` is called; the result is admission.error.
 */
struct writer_job {
    struct cap_admission admission;
    atomic_bool cancelled;                /* the owner may set it at any time */
    void (*done)(struct writer_job *job); /* on the loop thread */
    void *owner;

    /* The writer's own. */
    STAILQ_ENTRY(writer_job) link;
    bool prepared;
    uint64_t stage_min; /* longer bodies of this job are staged */
    size_t stage_at;    /* puts before it have their stage, or need none */
    uint64_t stage;     /* of puts[stage_at], half written; 0 when none was begun */
};

struct writer_config {
    struct cap_store *store;
    const char *store_dir;
    uint64_t disk_reserve; /* bytes that stay free on its disk */
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

/* Frees it, once the loop has turned after writer_stop. NULL is fine. */
void writer_free(struct writer *writer);

#endif
