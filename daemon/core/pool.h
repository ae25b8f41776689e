/*
 * Work for the pool's threads, from one loop: small jobs at once, long hashing jobs in a queue of
 * their own, so that a thread stays free for what is small. Loop thread, but for `run`.
 */
#ifndef DAEMON_CORE_POOL_H
#define DAEMON_CORE_POOL_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "daemon/core/env.h"
#include "daemon/core/stats.h"

#define POOL_SMALL (UINT64_C(1) << 20) /* bytes up to which a hash job does not queue */

struct pool;

struct hash_job {
    uint64_t cost;                      /* bytes to hash */
    void (*run)(struct hash_job *job);  /* in a worker */
    void (*done)(struct hash_job *job); /* on the loop, exactly once */

    uv_work_t work; /* the pool's own, from here */
    struct pool *pool;
    STAILQ_ENTRY(hash_job) link;
    uint64_t took_us;
};

STAILQ_HEAD(hash_jobs, hash_job);

struct pool {
    uv_loop_t *loop;
    const struct env *env;
    struct stats *stats;
    struct hash_jobs waiting; /* long jobs */
    size_t long_running;
    size_t long_max;
    size_t count; /* hash jobs whose `done` has not been called */
    size_t works; /* all requests to the pool that have not come back */
};

/* A pool on `loop`, which outlives it, of `workers` threads. */
void pool_init(struct pool *pool, uv_loop_t *loop, const struct env *env, struct stats *stats,
               uint64_t workers);

/* Runs a hash job; the job stays where it is until `done`. */
void pool_hash(struct pool *pool, struct hash_job *job);

/*
 * Small work, at once. `work` has its callbacks' data; as uv_queue_work, which cannot fail for a
 * loop that runs. `after` calls pool_work_done first.
 */
void pool_work(struct pool *pool, uv_work_t *work, uv_work_cb run, uv_after_work_cb after);
void pool_work_done(struct pool *pool);

#endif
