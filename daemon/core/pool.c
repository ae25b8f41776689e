/*
 * The pool.
 *
 * Happy path: a job that waits for the disk goes to libuv's threads at once, a small one when fewer
 * than `workers` small ones are there, by peers. A long one gets a thread: at once for a peer that
 * has none, else while there are workers to spare. All threads but `long_max` of them rest; one
 * that has hashed POOL_TURN bytes hands on to a peer that was served less, if one rests.
 *
 * Failure modes.
 *   - A thread cannot be made: the long job runs in libuv's threads, without turns.
 *   - No memory for a peer's queue: its jobs wait in the daemon's own.
 *   - A job is cancelled: it runs, finds its flag and returns early; `done` is always called.
 */
#include "daemon/core/pool.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/must.h"

/*
 * Threads of long jobs give way to the loop, the writer and small jobs on the cores that they
 * share, and still have a tenth of a core beside each other program that computes.
 */
#define LONG_NICE 10

/*
 * What a job hashes of a structure it does not report, and some take a minute. A job that waits for
 * so long takes a turn beside them: the machine shares its cores then. It is the time in which a
 * full set of long jobs, each with its 10 ms, comes round.
 */
#define WAIT_NS UINT64_C(300000000)

static void on_async(uv_async_t *async);

/* --- Life ------------------------------------------------------------------------------------- */

static void init_peer(struct pool_peer *peer, const void *account)
{
    *peer = (struct pool_peer){.account = account};
    TAILQ_INIT(&peer->small);
    TAILQ_INIT(&peer->large);
}

/* A worker and a core stay free of long jobs, as far as there are two. */
static size_t long_max(uint64_t workers, uint64_t cores)
{
    uint64_t least = workers < cores ? workers : cores;
    return least > 1 ? (size_t)least - 1 : 1;
}

enum cap_error pool_init(struct pool *pool, uv_loop_t *loop, const struct env *env,
                         struct stats *stats, uint64_t workers, uint64_t cores)
{
    *pool = (struct pool){
        .loop = loop,
        .env = env,
        .stats = stats,
        .small_max = workers > 0 ? (size_t)workers : 1,
        .long_max = long_max(workers, cores),
        .wait_ns = WAIT_NS,
    };
    TAILQ_INIT(&pool->peers);
    TAILQ_INIT(&pool->resting);
    TAILQ_INIT(&pool->finished);
    init_peer(&pool->daemon, NULL);
    if (uv_mutex_init(&pool->lock) != 0) {
        return CAP_E_NO_MEMORY;
    }
    if (uv_cond_init(&pool->turn) != 0) {
        uv_mutex_destroy(&pool->lock);
        return CAP_E_NO_MEMORY;
    }
    if (uv_async_init(loop, &pool->async, on_async) != 0) {
        uv_cond_destroy(&pool->turn);
        uv_mutex_destroy(&pool->lock);
        return CAP_E_NO_MEMORY;
    }
    uv_unref((uv_handle_t *)&pool->async); /* only long jobs keep the loop alive */
    pool->open = true;
    return CAP_OK;
}

static void close_if_done(struct pool *pool)
{
    if (pool->closing && pool->count == 0 && !uv_is_closing((uv_handle_t *)&pool->async)) {
        uv_close((uv_handle_t *)&pool->async, NULL);
    }
}

void pool_close(struct pool *pool)
{
    if (pool->open) {
        pool->closing = true;
        close_if_done(pool);
    }
}

void pool_free(struct pool *pool)
{
    if (pool->open) {
        pool->open = false;
        uv_cond_destroy(&pool->turn);
        uv_mutex_destroy(&pool->lock);
    }
}

/* --- Peers ------------------------------------------------------------------------------------ */

/* Where the least served peer stands: a newcomer is owed nothing from before. Under the lock. */
static uint64_t least_served(const struct pool *pool)
{
    const struct pool_peer *peer;
    uint64_t least = UINT64_MAX;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        least = peer->served < least ? peer->served : least;
    }
    return least == UINT64_MAX ? 0 : least;
}

/* The queue of an account, made if it has none. */
static struct pool_peer *peer_of(struct pool *pool, const void *account)
{
    struct pool_peer *peer;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        if (peer->account == account) {
            return peer;
        }
    }
    peer = account == NULL ? NULL : malloc(sizeof(*peer));
    if (peer == NULL) {
        peer = &pool->daemon;
        if (peer->jobs > 0) {
            return peer;
        }
    }
    init_peer(peer, account);
    uv_mutex_lock(&pool->lock);
    peer->served = least_served(pool);
    TAILQ_INSERT_TAIL(&pool->peers, peer, link);
    uv_mutex_unlock(&pool->lock);
    pool->peer_count++;
    return peer;
}

static void peer_left(struct pool *pool, struct pool_peer *peer)
{
    uv_mutex_lock(&pool->lock);
    TAILQ_REMOVE(&pool->peers, peer, link);
    uv_mutex_unlock(&pool->lock);
    pool->peer_count--;
    if (peer != &pool->daemon) {
        free(peer);
    }
}

/* The least served peer with small jobs, or NULL. Under the lock. */
static struct pool_peer *next_small(const struct pool *pool)
{
    struct pool_peer *peer;
    struct pool_peer *next = NULL;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        if (!TAILQ_EMPTY(&peer->small) && (next == NULL || peer->served < next->served)) {
            next = peer;
        }
    }
    return next;
}

/*
 * The least served peer with a long job that may have a thread, or NULL: first those that have
 * none, the others while there are workers for them. Under the lock.
 */
static struct pool_peer *next_long(const struct pool *pool)
{
    struct pool_peer *peer;
    struct pool_peer *next = NULL;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        if (TAILQ_EMPTY(&peer->large) || (peer->threads > 0 && pool->threads >= pool->long_max)) {
            continue;
        }
        if (next == NULL || peer->threads < next->threads ||
            (peer->threads == next->threads && peer->served < next->served)) {
            next = peer;
        }
    }
    return pool->threads < POOL_LONG_THREADS ? next : NULL;
}

/* --- Turns ------------------------------------------------------------------------------------ */

/* The resting job of the least served peer, or NULL. Under the lock. */
static struct pool_job *next_turn(const struct pool *pool)
{
    struct pool_job *job;
    struct pool_job *next = NULL;
    TAILQ_FOREACH(job, &pool->resting, link)
    {
        if (next == NULL || job->peer->served < next->peer->served) {
            next = job;
        }
    }
    return next;
}

static void give_turn(struct pool *pool, struct pool_job *job)
{
    TAILQ_REMOVE(&pool->resting, job, link);
    job->its_turn = true;
    pool->long_running++;
}

/* Lets resting jobs run while there is room for them. Under the lock. */
static void hand_on(struct pool *pool)
{
    struct pool_job *next;
    while (pool->long_running < pool->long_max && (next = next_turn(pool)) != NULL) {
        give_turn(pool, next);
    }
    uv_cond_broadcast(&pool->turn);
}

/* Of a resting job. Under the lock. */
static void wait_for_turn(struct pool *pool, struct pool_job *job)
{
    uint64_t until = env_monotonic_us(pool->env) + pool->wait_ns / 1000;
    while (!job->its_turn) {
        uint64_t now = env_monotonic_us(pool->env);
        bool waited = now >= until || uv_cond_timedwait(&pool->turn, &pool->lock,
                                                        (until - now) * 1000) == UV_ETIMEDOUT;
        if (waited && !job->its_turn) {
            give_turn(pool, job);
        }
    }
}

static void charge(struct pool_job *job)
{
    job->peer->served += job->hashed - job->reported;
    job->reported = job->hashed;
}

void pool_hashed(struct pool_job *job, uint64_t bytes)
{
    struct pool *pool = job->pool;
    job->hashed += bytes;
    if (!job->threaded || job->hashed - job->reported < POOL_TURN) {
        return;
    }
    uv_mutex_lock(&pool->lock);
    charge(job);
    const struct pool_job *next = next_turn(pool);
    if (next != NULL && next->peer->served < job->peer->served) {
        job->its_turn = false;
        pool->long_running--;
        hand_on(pool);
        TAILQ_INSERT_TAIL(&pool->resting, job, link);
        wait_for_turn(pool, job);
    }
    uv_mutex_unlock(&pool->lock);
}

/* --- Running ---------------------------------------------------------------------------------- */

static void run(struct pool_job *job)
{
    uint64_t started = env_monotonic_us(job->pool->env);
    job->run(job);
    job->took_us = env_monotonic_us(job->pool->env) - started;
}

static void long_main(void *arg)
{
    struct pool_job *job = arg;
    struct pool *pool = job->pool;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), LONG_NICE); /* of this thread alone */
    uv_mutex_lock(&pool->lock);
    wait_for_turn(pool, job);
    uv_mutex_unlock(&pool->lock);
    run(job);
    uv_mutex_lock(&pool->lock);
    job->peer->served += job->hashed == 0 ? job->cost : 0; /* it has not said */
    charge(job);
    pool->long_running--;
    hand_on(pool);
    TAILQ_INSERT_TAIL(&pool->finished, job, link);
    (void)uv_async_send(&pool->async);
    uv_mutex_unlock(&pool->lock);
}

static void on_work(uv_work_t *work)
{
    run(work->data);
}

static void on_work_done(uv_work_t *work, int status);

static void start_small(struct pool *pool, struct pool_job *job)
{
    pool->small_running++;
    job->work.data = job;
    (void)uv_queue_work(pool->loop, &job->work, on_work, on_work_done);
}

static void start_long(struct pool *pool, struct pool_job *job)
{
    job->threaded = true;
    uv_mutex_lock(&pool->lock);
    TAILQ_INSERT_TAIL(&pool->resting, job, link);
    uv_mutex_unlock(&pool->lock);
    if (uv_thread_create(&job->thread, long_main, job) != 0) {
        uv_mutex_lock(&pool->lock);
        TAILQ_REMOVE(&pool->resting, job, link);
        uv_mutex_unlock(&pool->lock);
        job->threaded = false;
        start_small(pool, job);
        return;
    }
    if (pool->threads++ == 0) {
        uv_ref((uv_handle_t *)&pool->async);
    }
    job->peer->threads++;
    uv_mutex_lock(&pool->lock);
    hand_on(pool);
    uv_mutex_unlock(&pool->lock);
}

/* Takes the first job of the queue that `next` chooses. */
static struct pool_job *take(struct pool *pool, struct pool_peer *(*next)(const struct pool *pool))
{
    uv_mutex_lock(&pool->lock);
    struct pool_peer *peer = next(pool);
    struct pool_job *job = NULL;
    if (peer != NULL) {
        struct pool_jobs *jobs = next == next_small ? &peer->small : &peer->large;
        job = TAILQ_FIRST(jobs);
        TAILQ_REMOVE(jobs, job, link);
        peer->served += jobs == &peer->small ? job->cost : 0;
    }
    uv_mutex_unlock(&pool->lock);
    return job;
}

static void start_jobs(struct pool *pool)
{
    struct pool_job *job;
    while (pool->small_running < pool->small_max && (job = take(pool, next_small)) != NULL) {
        start_small(pool, job);
    }
    while ((job = take(pool, next_long)) != NULL) {
        start_long(pool, job);
    }
}

/* --- Ends ------------------------------------------------------------------------------------- */

static void finish(struct pool_job *job)
{
    struct pool *pool = job->pool;
    must(job->peer->jobs > 0 && pool->count > 0);
    if (--job->peer->jobs == 0) {
        peer_left(pool, job->peer);
    }
    pool->works--;
    pool->count--;
    pool->stats->hashed_bytes += job->hashed;
    start_jobs(pool);
    job->done(job);
    close_if_done(pool);
}

static void on_work_done(uv_work_t *work, int status)
{
    struct pool_job *job = work->data;
    (void)status;
    if (job->peer == NULL) {
        job->pool->works--;
        job->done(job);
        return;
    }
    job->pool->small_running--;
    finish(job);
}

static void on_async(uv_async_t *async)
{
    struct pool *pool = CONTAINER_OF(async, struct pool, async);
    struct pool_jobs finished = TAILQ_HEAD_INITIALIZER(finished);
    uv_mutex_lock(&pool->lock);
    TAILQ_CONCAT(&finished, &pool->finished, link);
    uv_mutex_unlock(&pool->lock);
    while (!TAILQ_EMPTY(&finished)) {
        struct pool_job *job = TAILQ_FIRST(&finished);
        TAILQ_REMOVE(&finished, job, link);
        uv_thread_join(&job->thread);
        job->peer->threads--;
        if (--pool->threads == 0) {
            uv_unref((uv_handle_t *)&pool->async);
        }
        finish(job);
    }
}

void pool_submit(struct pool *pool, struct pool_job *job)
{
    job->pool = pool;
    job->peer = NULL;
    job->threaded = job->its_turn = false;
    job->hashed = job->reported = job->took_us = 0;
    pool->works++;
    if (job->cost == 0) {
        job->work.data = job;
        (void)uv_queue_work(pool->loop, &job->work, on_work, on_work_done);
        return;
    }
    pool->count++;
    job->peer = peer_of(pool, job->account);
    job->peer->jobs++;
    struct pool_jobs *jobs = job->cost > POOL_SMALL ? &job->peer->large : &job->peer->small;
    TAILQ_INSERT_TAIL(jobs, job, link);
    start_jobs(pool);
}
