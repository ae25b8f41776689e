/*
 * Functions that other threads have the writer run, and wait for.
 *
 * An errand lies on the stack of the thread that waits. The writer runs one in each of its rounds,
 * the oldest first.
 */
#ifndef DAEMON_PUBLISH_ERRANDS_H
#define DAEMON_PUBLISH_ERRANDS_H

#include <stdatomic.h>
#include <sys/queue.h>
#include <uv.h>

#include "lib/store/store.h"

/* A function of the caller's, on the writer's thread: it may write to the store. */
typedef enum cap_error writer_errand(struct cap_store *store, void *ctx);

/* The caller fills in `run` and `ctx`. */
struct errand {
    writer_errand *run;
    void *ctx;

    /* Their own, under the lock. */
    bool over;
    enum cap_error error;
    STAILQ_ENTRY(errand) link;
};

struct errands {
    uv_mutex_t lock;
    uv_cond_t over; /* an errand is */
    STAILQ_HEAD(, errand) queue;
    atomic_size_t waiting;
    bool closed;
};

/* CAP_E_NO_MEMORY. */
enum cap_error errands_init(struct errands *errands);

/* When no thread waits any more. */
void errands_free(struct errands *errands);

/* Adds an errand, which stays where it is until errands_await has returned. Any thread. */
void errands_add(struct errands *errands, struct errand *errand);

/*
 * Waits until it is over: what its function returned, or CAP_E_CANCELLED when it was not run. Any
 * thread but the writer's.
 */
enum cap_error errands_await(struct errands *errands, struct errand *errand);

/* Whether there is something to run. Any thread. */
static inline bool errands_any(const struct errands *errands)
{
    return atomic_load(&errands->waiting) > 0;
}

/* Runs the oldest, if there is one. The writer's thread, as the next. */
void errands_run_one(struct errands *errands, struct cap_store *store);

/* Ends all that wait or are still to come, with CAP_E_CANCELLED. */
void errands_close(struct errands *errands);

#endif
