/*
 * Work beside a loop: hashing, which is fair between peers, and waits for the disk.
 *
 * A job that hashes takes the turn of the peer that it is for. Of the peers that wait, the one that
 * has been served the fewest bytes comes next, so that what one peer brings never makes another
 * wait for more than a turn. *Small* jobs run in libuv's threads. *Long* ones have a thread each,
 * for as long as they run, and take turns of POOL_TURN bytes: fewer of them hash at a time than
 * there are workers, the others rest. One that rests for long takes a turn beside them, since they
 * may be hashing what they do not report. So a small job never waits for a long one, and a long one
 * never for the end of another peer's.
 *
 * Loop thread, but for `run` and pool_hashed.
 */
#ifndef DAEMON_CORE_POOL_H
#define DAEMON_CORE_POOL_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "daemon/core/env.h"
#include "daemon/core/stats.h"

/* Bytes up to which a job is small: about 3 ms of hashing at 100 MB/s, the pace without SHA
 * instructions. */
#define POOL_SMALL (UINT64_C(256) << 10)

/* Bytes that a long job hashes before it looks whether another peer waits: about 10 ms. */
#define POOL_TURN (UINT64_C(1) << 20)

/* Long jobs that have a thread. Past it, a peer waits for a job to end. */
#define POOL_LONG_THREADS 32u

struct pool;
struct pool_peer;

/* One job. It belongs to the caller that submits it, and stays where it is until `done`. */
struct pool_job {
    const void *account; /* the peer that it is for; only compared. NULL: the daemon itself */
    uint64_t cost;       /* bytes that it hashes, at most; 0: it only waits for the disk */
    void (*run)(struct pool_job *job);  /* in a thread */
    void (*done)(struct pool_job *job); /* on the loop, exactly once */

    /* The pool's own, from here. */
    struct pool *pool;
    struct pool_peer *peer; /* NULL when it only waits for the disk */
    TAILQ_ENTRY(pool_job) link;
    uv_work_t work;
    uv_thread_t thread;
    bool threaded;     /* `thread` runs it, and it takes turns */
    bool its_turn;     /* under the lock */
    uint64_t hashed;   /* the thread's */
    uint64_t reported; /* the thread's: of these, what its peer has been charged */
    uint64_t took_us;
};

TAILQ_HEAD(pool_jobs, pool_job);

/* A peer that has jobs. */
struct pool_peer {
    TAILQ_ENTRY(pool_peer) link;
    const void *account;
    struct pool_jobs small; /* that wait */
    struct pool_jobs large; /* that wait for a thread */
    size_t jobs;            /* whose `done` has not been called */
    size_t threads;         /* of its long jobs */
    uint64_t served;        /* under the lock: bytes, from where the least served peer then stood */
};

TAILQ_HEAD(pool_peers, pool_peer);

struct pool {
    uv_loop_t *loop;
    const struct env *env;
    struct stats *stats;
    struct pool_peers peers;
    struct pool_peer daemon; /* of jobs without an account, and of those whose peer has no memory */
    size_t peer_count;
    size_t small_running;
    size_t small_max;
    size_t threads; /* of long jobs */
    size_t count;   /* hash jobs whose `done` has not been called */
    size_t works;   /* all work that has not come back */
    uv_async_t async;
    bool open;
    bool closing;

    uv_mutex_t lock;
    uv_cond_t turn;
    struct pool_jobs resting;  /* under the lock: long jobs that wait for their turn */
    struct pool_jobs finished; /* under the lock */
    size_t long_running;       /* under the lock */
    size_t long_max;
    uint64_t wait_ns; /* after which a resting job takes a turn beside those that do not hand on */
};

/*
 * A pool on `loop`, which outlives it, of `workers` threads on a machine of `cores`: one of each
 * stays free of long jobs. CAP_E_NO_MEMORY.
 */
enum cap_error pool_init(struct pool *pool, uv_loop_t *loop, const struct env *env,
                         struct stats *stats, uint64_t workers, uint64_t cores);

/* Closes its handle when the last job is done; the loop must run until then. A zeroed one is fine.
 */
void pool_close(struct pool *pool);

/* After the loop has let go of it. A zeroed one is fine. */
void pool_free(struct pool *pool);

/* Runs a job, filled by its owner. */
void pool_submit(struct pool *pool, struct pool_job *job);

/*
 * In the job's thread: it has hashed so many more bytes. Returns when it may go on, which is after
 * other peers' turns if it had its own.
 */
void pool_hashed(struct pool_job *job, uint64_t bytes);

#endif
