/*
 * Work beside the loops: hashing, which is fair between peers, and waits for the disk. All loops
 * share the pool; each has an outlet, at which it hands jobs over and gets them back.
 *
 * A job that hashes takes the turn of the peer that it is for. Peers that are within their share
 * come first, and of these the one that has been served the fewest bytes; then the others, in the
 * same order. A peer is past its share while it has hashed more than that of the last POOL_WINDOW
 * bytes, or has that many of the workers. So what one peer brings never makes another wait for more
 * than a turn, and one that brings little does not wait for those that bring much; a peer that is
 * alone may have everything.
 *
 * *Small* jobs run in the workers, of which there are two crews: those in the background give way
 * to the loops, the writer and the other crew on the cores that they share. *Long* jobs have a
 * thread each, for as long as they run, and take turns of POOL_TURN bytes: fewer of them hash at a
 * time than there are workers, the others rest. So a small job never waits for a long one, and a
 * long one never for the end of another peer's. They must say what they hash, and when they are
 * about to wait for something else.
 *
 * Outlets belong to their loops' threads; `run`, pool_hashed and pool_rest to the job's.
 */
#ifndef DAEMON_CORE_POOL_H
#define DAEMON_CORE_POOL_H

#include <stdatomic.h>
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

/* How far back a peer's share is looked at: some seconds of hashing at that pace. A peer that comes
 * while others hash has its share of this before they go on. */
#define POOL_WINDOW (UINT64_C(256) << 20)

/* Long jobs that have a thread. Past it, a peer waits for a job to end. */
#define POOL_LONG_THREADS 32u

struct pool_outlet;
struct pool_peer;

/* One job. It belongs to the caller that submits it, and stays where it is until `done`. */
struct pool_job {
    uint64_t peer_id;             /* the peer that it is for; 0: the daemon itself */
    uint64_t cost;                /* bytes that it hashes, about; 0: it only waits for the disk */
    const atomic_bool *cancelled; /* NULL: never; else `run` returns soon once it is set */
    bool background;              /* a small job that hashes is the background crew's */
    void (*run)(struct pool_job *job);  /* in a thread */
    void (*done)(struct pool_job *job); /* on the loop that submitted it, exactly once */

    /* The pool's own, from here. */
    struct pool_outlet *outlet;
    struct pool_peer *peer; /* NULL when it only waits for the disk */
    TAILQ_ENTRY(pool_job) link;
    uv_thread_t thread;
    bool threaded;     /* `thread` runs it, and it takes turns */
    bool its_turn;     /* under the lock */
    bool has_turn;     /* the thread's copy */
    uint64_t hashed;   /* the thread's */
    uint64_t reported; /* the thread's: of these, what its peer has been charged */
    uint64_t took_us;
};

TAILQ_HEAD(pool_jobs, pool_job);

enum { POOL_FRONT, POOL_BACK, POOL_CREWS };

/* Workers of one priority, as many as the pool has of each. */
struct pool_crew {
    struct pool *pool;
    int nice;
    uv_thread_t *workers;
    size_t worker_count;
    uv_cond_t work;
    struct pool_jobs ready; /* in order; under the lock, as is the next */
    size_t small_running;   /* in a worker, or ready for one */
};

/* A peer that has jobs, or had some not long ago. Under the lock. */
struct pool_peer {
    TAILQ_ENTRY(pool_peer) link;
    uint64_t id;
    struct pool_jobs small[POOL_CREWS]; /* that wait for a worker */
    struct pool_jobs large;             /* that wait for a thread */
    size_t jobs;                        /* that have not run to their end */
    size_t threads;                     /* of its long jobs */
    size_t running;                     /* in a worker, and long jobs that have their turn */
    uint64_t served;                    /* bytes, from where the least served peer then stood */
    uint64_t recent;                    /* bytes, of the pool's */
};

TAILQ_HEAD(pool_peers, pool_peer);

/* Where one loop hands over its jobs and gets them back. */
struct pool_outlet {
    struct pool *pool;
    struct stats *stats; /* the loop's */
    uv_async_t async;
    struct pool_jobs finished; /* under the pool's lock */
    size_t jobs;               /* whose `done` has not been called */
    bool closing;
};

struct pool {
    const struct env *env;
    struct pool_crew crews[POOL_CREWS];
    size_t workers;
    size_t long_max; /* long jobs that hash at a time, the cancelled not counted */
    bool open;

    uv_mutex_t lock;      /* of what follows */
    size_t share_running; /* of a peer */
    uint64_t share_recent;
    uv_cond_t turn;
    struct pool_peers peers;
    struct pool_peer daemon; /* of its own jobs, and of those whose peer has no memory */
    size_t peer_count;       /* that have jobs */
    uint64_t recent;         /* bytes, of the last POOL_WINDOW, about */
    size_t count;            /* hash jobs that have not run to their end */
    size_t threads;          /* of long jobs */
    size_t long_running;
    struct pool_jobs resting; /* long jobs that wait for their turn */
    bool stopping;
};

/* Threads, on a machine of so many cores: one of each stays free of long jobs. */
struct pool_size {
    uint64_t workers;
    uint64_t cores;
    uint64_t
        share; /* of a peer, in percent of the window and of the workers; at least one worker */
};

/* A pool of that size. CAP_E_NO_MEMORY, also when there are too many threads. */
enum cap_error pool_open(struct pool *pool, const struct env *env, const struct pool_size *size);

/* Changes a peer's share, in percent as in struct pool_size. Any thread. */
void pool_set_share(struct pool *pool, uint64_t percent);

/* Ends the threads, when every outlet is closed. A zeroed one is fine. */
void pool_close(struct pool *pool);

/* How many hash jobs there are, and of how many peers. Any thread. */
void pool_figures(struct pool *pool, size_t *ret_jobs, size_t *ret_peers);

/* An outlet on `loop`, which counts in `stats`; all of them outlive it. CAP_E_NO_MEMORY. */
enum cap_error pool_outlet_open(struct pool_outlet *outlet, struct pool *pool, uv_loop_t *loop,
                                struct stats *stats);

/*
 * Closes its handle when its last job is done; the loop must run until then. A zeroed one is fine.
 */
void pool_outlet_close(struct pool_outlet *outlet);

/* Runs a job, filled by its owner. */
void pool_submit(struct pool_outlet *outlet, struct pool_job *job);

/*
 * In the job's thread: it has hashed so many more bytes. Returns when it may go on, which is after
 * other peers' turns if it had its own.
 */
void pool_hashed(struct pool_job *job, uint64_t bytes);

/* In the job's thread: it is about to wait for the disk, and leaves its turn to others. */
void pool_rest(struct pool_job *job);

/* Some job was cancelled, in any loop: if it waits, for a thread or its turn, it does not wait any
 * longer. */
void pool_cancelled(struct pool *pool);

#endif
