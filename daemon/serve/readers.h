/*
 * Reading from the store where waiting is allowed: threads that look caps up and read pages in, so
 * that the loop never does.
 *
 * Each loop has its own. Peers take turns, job by job, and no peer has more than half of the
 * threads, so that what one peer asks for, cold or not there at all, delays another by one job. One
 * thread is kept for *hot* jobs, which are not expected to wait: a body whose pages are in memory
 * goes out at its pace while every other thread waits for the device.
 *
 * Loop thread, but for `run`.
 */
#ifndef DAEMON_SERVE_READERS_H
#define DAEMON_SERVE_READERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "lib/cap/error.h"

struct readers_lane;

/* Of a thread's time: a job that has more to do gives way to other peers' after it. */
#define READERS_TURN_US UINT64_C(5000)

/* One job. It belongs to the caller that submits it, and stays where it is until `done` or
 * withdrawn. */
struct read_job {
    const void *account; /* the peer that it is for; only compared */
    bool hot;
    /* In a thread. False: there is more to do; it is called again after other peers' turns. */
    bool (*run)(struct read_job *job);
    void (*done)(struct read_job *job); /* on the loop, once, unless the job was withdrawn */
    atomic_bool withdrawn;              /* `run` may return early */

    /* The readers' own, from here. */
    bool queued; /* under the lock */
    struct readers_lane *lane;
    TAILQ_ENTRY(read_job) link;
};

TAILQ_HEAD(read_jobs, read_job);

/* A peer that has jobs which are not hot. Under the lock. */
struct readers_lane {
    TAILQ_ENTRY(readers_lane) link; /* of those with waiting jobs */
    LIST_ENTRY(readers_lane) find;
    const void *account;
    struct read_jobs waiting;
    size_t running;
};

/* Finished jobs that the loop has not taken; past it the threads rest. Each may hold a small body,
 * or a snapshot of the store, which has 512. */
#define READERS_FINISHED_MAX 128u

#define READERS_BUCKETS 64u /* of lanes, by account: as many peers rarely wait at once */

struct readers {
    uv_async_t async;
    uv_thread_t *threads;
    size_t count;
    size_t jobs; /* whose `done` has not been called; the loop's */
    bool open;

    uv_mutex_t lock; /* of what follows */
    uv_cond_t more;
    TAILQ_HEAD(, readers_lane) lanes;
    LIST_HEAD(, readers_lane) buckets[READERS_BUCKETS];
    struct read_jobs hot;
    struct read_jobs finished;
    size_t finished_count;
    size_t cold_running;
    size_t idle; /* threads that wait for `more` */
    bool waking; /* one of them was woken and does not run yet */
    bool stopping;
};

/* Starts `count` threads, at least two. CAP_E_NO_MEMORY. A zeroed one may be closed. */
enum cap_error readers_open(struct readers *readers, uv_loop_t *loop, size_t count);

/*
 * Ends the threads, after the jobs that they have, calls the last `done`, and closes the handle: of
 * which the loop must let go. No job waits any more: their owners have withdrawn them.
 */
void readers_close(struct readers *readers);

/* Runs a job, filled by its owner. CAP_E_NO_MEMORY: it does not run. */
enum cap_error readers_submit(struct readers *readers, struct read_job *job);

/* True: the job has not begun and is its owner's again. False: `done` will be called. */
bool readers_withdraw(struct readers *readers, struct read_job *job);

#endif
