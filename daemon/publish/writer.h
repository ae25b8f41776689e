/*
 * The writer: the one thread that writes to the store, with shared commits.
 *
 * A job is one admission. Every loop has an outlet of its own: a job is handed over on a loop's
 * thread and comes back there; in between it belongs to the writer.
 */
#ifndef DAEMON_PUBLISH_WRITER_H
#define DAEMON_PUBLISH_WRITER_H

#include <stdatomic.h>
#include <sys/queue.h>
#include <uv.h>

#include "daemon/core/config.h"
#include "daemon/core/env.h"
#include "daemon/core/stats.h"
#include "daemon/publish/errands.h"
#include "daemon/publish/room.h"
#include "lib/store/store.h"

/*
 * Longer bodies are always staged: 1 MiB is written in some 10 ms with its sync, which small
 * admissions that share the commit can wait for.
 */
#define WRITER_STAGE_MIN (UINT64_C(1) << 20)

struct writer;
struct writer_job;

STAILQ_HEAD(writer_jobs, writer_job);

/* Where one loop hands over its jobs and gets them back. */
struct writer_outlet {
    struct writer *writer;
    uv_async_t async;
    struct stats *stats;            /* the loop's; the writer's figures are counted there */
    LIST_ENTRY(writer_outlet) link; /* under the writer's lock, as is the next */
    struct writer_jobs finished;
    bool woken;    /* there are new ones among them */
    size_t queued; /* the loop's: jobs whose `done` has not been called */
};

/*
 * A body that is staged before its admission is there. The owner fills `body` and `body_len`, and
 * keeps it and what it refers to until a job that has taken it is done.
 */
struct writer_ahead {
    struct cap_source body; /* its first `ready` bytes can be read by the writer */
    uint64_t body_len;

    /* The writer's own. */
    struct writer *writer;
    uint64_t ready; /* under the lock */
    TAILQ_ENTRY(writer_ahead) link;
    uint64_t staged; /* bytes; the thread's, as are the next */
    uint64_t stage;
    bool failed; /* to be staged with the admission, which will tell */
};

TAILQ_HEAD(writer_aheads, writer_ahead);

/*
 * One admission. The owner fills `admission` but for stages and `cancelled`, says by is_new which
 * puts the store may not have (cap_store_dry_run knows; only those that are new are staged), and
 * keeps it and all that it refers to until `done` is called; the result is admission.error, which
 * `claim` explains if it is CAP_E_DISK_FULL or CAP_E_MAP_FULL and there is no room for that.
 */
struct writer_job {
    struct cap_admission admission;
    atomic_bool cancelled;                /* the owner may set it at any time */
    void (*done)(struct writer_job *job); /* on the thread of its outlet's loop */
    void *owner;
    struct room_claim claim;    /* on the disk or in the map, for what is new */
    struct writer_ahead *ahead; /* NULL, or of its last put: taken, or dropped if it is of no use */

    /* The writer's own. */
    struct writer_outlet *outlet;
    STAILQ_ENTRY(writer_job) link;
    bool prepared;
    uint64_t stage_min; /* longer bodies of this job are staged */
    size_t stage_at;    /* puts before it are staged, or need not be; later ones may be begun */
};

struct writer_config {
    struct cap_store *store;
    const char *store_dir;
    config_number disk_reserve; /* bytes that stay free on its disk */
    const struct env *env;
    /* The store failed: nothing is acknowledged any more. On the thread of some loop, once. */
    void (*failed)(void *ctx, enum cap_error error);
    void *ctx;
};

/* Starts the thread. CAP_E_NO_MEMORY. */
enum cap_error writer_new(const struct writer_config *config, struct writer **ret_writer);

/* An outlet on `loop`, which counts in `stats`; all of them outlive it. CAP_E_NO_MEMORY. */
enum cap_error writer_outlet_open(struct writer_outlet *outlet, struct writer *writer,
                                  uv_loop_t *loop, struct stats *stats);

/*
 * After writer_stop: calls `done` of the jobs that are left and closes the handle, of which the
 * loop must let go. A zeroed outlet is fine. Loop thread.
 */
void writer_outlet_close(struct writer_outlet *outlet);

/* Begins a body that is staged ahead, by the outlet's writer; it is idle until some is ready. */
void writer_ahead_begin(const struct writer_outlet *outlet, struct writer_ahead *ahead);

/* So many bytes of it can be read now. */
void writer_ahead_ready(struct writer_ahead *ahead, uint64_t ready);

/* Whether jobs can be handed over. */
static inline bool writer_outlet_is_open(const struct writer_outlet *outlet)
{
    return outlet->writer != NULL;
}

/* Hands a zero-initialised and filled job over. Loop thread. */
void writer_submit(struct writer_outlet *outlet, struct writer_job *job);

/*
 * Runs a function on the writer's thread, between admissions, and waits until it has returned; in
 * turn with the functions of other threads, one in each round. Admissions wait as long as it
 * takes, so it is short: a slice of some 10 ms. Any thread but a loop's and the writer's, which
 * must be back before writer_free. Returns what the function returned, or CAP_E_CANCELLED when the
 * writer has stopped without running it.
 */
enum cap_error writer_run(struct writer *writer, writer_errand *run, void *ctx);

/* Jobs of all loops that were handed over and whose `done` has not been called. Any thread. */
size_t writer_queued(const struct writer *writer);

/* Changes disk_reserve. Any thread. */
void writer_set_reserve(struct writer *writer, uint64_t bytes);

/* A function that the writer runs (writer_run) and that takes longer than a slice says that it is
 * alive, several times a second. On the writer's thread. */
void writer_beat(struct writer *writer);

/* For how long a function that the writer runs has kept admissions waiting; 0: none runs. Any
 * thread. */
uint64_t writer_held_us(const struct writer *writer);

/* A number that rises at least once a second while the thread is alive. Any thread. */
uint64_t writer_heartbeat(const struct writer *writer);

/*
 * Finishes the transaction that is open, gives every other job back with CAP_E_CANCELLED, which
 * their outlets deliver when they close, ends every writer_run that waits, and joins the thread.
 * NULL is fine.
 */
void writer_stop(struct writer *writer);

/* Frees it, stopped and without open outlets. NULL is fine. */
void writer_free(struct writer *writer);

#endif
