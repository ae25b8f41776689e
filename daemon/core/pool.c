/*
 * The pool.
 *
 * Happy path: a small job goes to the threads at once; a long one when fewer than all but one of
 * them have long ones, else it waits its turn.
 *
 * Failure modes: none of its own. A job that is cancelled runs, finds its flag and returns early;
 * `done` is always called.
 */
#include "daemon/core/pool.h"

void pool_init(struct pool *pool, uv_loop_t *loop, const struct env *env, struct stats *stats,
               uint64_t workers)
{
    *pool = (struct pool){
        .loop = loop,
        .env = env,
        .stats = stats,
        .long_max = workers > 1 ? (size_t)workers - 1 : 1,
    };
    STAILQ_INIT(&pool->waiting);
}

static bool is_long(const struct hash_job *job)
{
    return job->cost > POOL_SMALL;
}

static void on_run(uv_work_t *work)
{
    struct hash_job *job = work->data;
    const struct env *env = job->pool->env;
    uint64_t started = env_monotonic_us(env);
    job->run(job);
    job->took_us = env_monotonic_us(env) - started;
}

static void on_done(uv_work_t *work, int status);

static void start(struct pool *pool, struct hash_job *job)
{
    if (is_long(job)) {
        pool->long_running++;
    }
    job->work.data = job;
    pool_work(pool, &job->work, on_run, on_done);
}

static void start_next(struct pool *pool)
{
    while (!STAILQ_EMPTY(&pool->waiting) && pool->long_running < pool->long_max) {
        struct hash_job *job = STAILQ_FIRST(&pool->waiting);
        STAILQ_REMOVE_HEAD(&pool->waiting, link);
        start(pool, job);
    }
}

static void on_done(uv_work_t *work, int status)
{
    struct hash_job *job = work->data;
    struct pool *pool = job->pool;
    (void)status;
    pool_work_done(pool);
    pool->count--;
    if (is_long(job)) {
        pool->long_running--;
        start_next(pool);
    }
    pool->stats->hash_jobs++;
    histogram_add(&pool->stats->hash_us, job->took_us);
    job->done(job);
}

void pool_hash(struct pool *pool, struct hash_job *job)
{
    job->pool = pool;
    pool->count++;
    if (is_long(job)) {
        STAILQ_INSERT_TAIL(&pool->waiting, job, link);
        start_next(pool);
    } else {
        start(pool, job);
    }
}

void pool_work(struct pool *pool, uv_work_t *work, uv_work_cb run, uv_after_work_cb after)
{
    pool->works++;
    (void)uv_queue_work(pool->loop, work, run, after);
}

void pool_work_done(struct pool *pool)
{
    pool->works--;
}
