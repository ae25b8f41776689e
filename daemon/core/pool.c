/*
 * The pool.
 *
 * Happy path: a job that waits for the disk is ready for a worker at once, a small one when fewer
 * than `workers` small ones are, by peers. A long one gets a thread: at once for a peer that has
 * none, else while there are workers to spare. All threads but `long_max` of them rest; one that
 * has hashed POOL_TURN bytes hands on to a peer that was served less, if one rests. What ran goes
 * to its outlet, and the thread that ran it starts what comes next: no loop waits for another.
 *
 * Failure modes.
 *   - A thread cannot be made: the long job runs in a worker, without turns.
 *   - No memory for a peer's queue: its jobs wait in the daemon's own.
 *   - A job is cancelled: it runs, finds its flag and returns early; `done` is always called.
 */
#include "daemon/core/pool.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "lib/cap/must.h"

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

/* --- Peers: under the lock -------------------------------------------------------------------- */

static void init_peer(struct pool_peer *peer, const void *account)
{
    *peer = (struct pool_peer){.account = account};
    TAILQ_INIT(&peer->small);
    TAILQ_INIT(&peer->large);
}

/* Where the least served peer stands: a newcomer is owed nothing from before. */
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
    peer->served = least_served(pool);
    TAILQ_INSERT_TAIL(&pool->peers, peer, link);
    pool->peer_count++;
    return peer;
}

static void peer_left(struct pool *pool, struct pool_peer *peer)
{
    TAILQ_REMOVE(&pool->peers, peer, link);
    pool->peer_count--;
    if (peer != &pool->daemon) {
        free(peer);
    }
}

/* The least served peer with small jobs, or NULL. */
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
 * none, the others while there are workers for them.
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

/* --- Turns: under the lock -------------------------------------------------------------------- */

/* The resting job of the least served peer, or NULL. */
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

/* Lets resting jobs run while there is room for them. */
static void hand_on(struct pool *pool)
{
    struct pool_job *next;
    while (pool->long_running < pool->long_max && (next = next_turn(pool)) != NULL) {
        give_turn(pool, next);
    }
    uv_cond_broadcast(&pool->turn);
}

/* Of a resting job. */
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
    job->hashed += bytes;
    if (!job->threaded || job->hashed - job->reported < POOL_TURN) {
        return;
    }
    struct pool *pool = job->outlet->pool;
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
    const struct env *env = job->outlet->pool->env;
    uint64_t started = env_monotonic_us(env);
    job->run(job);
    job->took_us = env_monotonic_us(env) - started;
}

static void make_ready(struct pool *pool, struct pool_job *job)
{
    TAILQ_INSERT_TAIL(&pool->ready, job, link);
    uv_cond_signal(&pool->work);
}

static void long_main(void *arg);

/* Gives a long job a thread. Under the lock, which its thread waits for. */
static void start_long(struct pool *pool, struct pool_job *job)
{
    job->threaded = true;
    if (uv_thread_create(&job->thread, long_main, job) != 0) {
        job->threaded = false;
        pool->small_running++;
        make_ready(pool, job);
        return;
    }
    pool->threads++;
    job->peer->threads++;
    TAILQ_INSERT_TAIL(&pool->resting, job, link);
    hand_on(pool);
}

/* Starts what may start. Under the lock. */
static void start_jobs(struct pool *pool)
{
    struct pool_peer *peer;
    while (pool->small_running < pool->worker_count && (peer = next_small(pool)) != NULL) {
        struct pool_job *job = TAILQ_FIRST(&peer->small);
        TAILQ_REMOVE(&peer->small, job, link);
        peer->served += job->cost;
        pool->small_running++;
        make_ready(pool, job);
    }
    while ((peer = next_long(pool)) != NULL) {
        struct pool_job *job = TAILQ_FIRST(&peer->large);
        TAILQ_REMOVE(&peer->large, job, link);
        start_long(pool, job);
    }
}

/* A job has run: it goes back to its loop, and others begin. Under the lock. */
static void finish(struct pool *pool, struct pool_job *job)
{
    struct pool_outlet *outlet = job->outlet;
    if (job->peer != NULL) {
        must(job->peer->jobs > 0 && pool->count > 0);
        pool->count--;
        if (--job->peer->jobs == 0) {
            peer_left(pool, job->peer);
        }
        start_jobs(pool);
    }
    bool wakes = TAILQ_EMPTY(&outlet->finished);
    TAILQ_INSERT_TAIL(&outlet->finished, job, link);
    if (wakes) {
        (void)uv_async_send(&outlet->async);
    }
}

static void long_main(void *arg)
{
    struct pool_job *job = arg;
    struct pool *pool = job->outlet->pool;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), LONG_NICE); /* of this thread alone */
    uv_mutex_lock(&pool->lock);
    wait_for_turn(pool, job);
    uv_mutex_unlock(&pool->lock);
    run(job);
    uv_mutex_lock(&pool->lock);
    job->peer->served += job->hashed == 0 ? job->cost : 0; /* it has not said */
    charge(job);
    pool->long_running--;
    pool->threads--;
    job->peer->threads--;
    hand_on(pool);
    finish(pool, job);
    uv_mutex_unlock(&pool->lock);
}

static void worker_main(void *arg)
{
    struct pool *pool = arg;
    uv_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        struct pool_job *job = TAILQ_FIRST(&pool->ready);
        if (job == NULL) {
            uv_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        TAILQ_REMOVE(&pool->ready, job, link);
        uv_mutex_unlock(&pool->lock);
        run(job);
        uv_mutex_lock(&pool->lock);
        pool->small_running -= job->peer != NULL ? 1 : 0;
        finish(pool, job);
    }
    uv_mutex_unlock(&pool->lock);
}

/* --- The loops' side -------------------------------------------------------------------------- */

static void close_if_done(struct pool_outlet *outlet)
{
    if (outlet->closing && outlet->jobs == 0) {
        outlet->closing = false;
        uv_close((uv_handle_t *)&outlet->async, NULL);
    }
}

static void on_async(uv_async_t *async)
{
    struct pool_outlet *outlet = CONTAINER_OF(async, struct pool_outlet, async);
    struct pool_jobs finished = TAILQ_HEAD_INITIALIZER(finished);
    uv_mutex_lock(&outlet->pool->lock);
    TAILQ_CONCAT(&finished, &outlet->finished, link);
    uv_mutex_unlock(&outlet->pool->lock);
    while (!TAILQ_EMPTY(&finished)) {
        struct pool_job *job = TAILQ_FIRST(&finished);
        TAILQ_REMOVE(&finished, job, link);
        if (job->threaded) {
            uv_thread_join(&job->thread);
        }
        outlet->stats->hashed_bytes += job->hashed;
        if (--outlet->jobs == 0) {
            uv_unref((uv_handle_t *)&outlet->async);
        }
        job->done(job);
    }
    close_if_done(outlet);
}

enum cap_error pool_outlet_open(struct pool_outlet *outlet, struct pool *pool, uv_loop_t *loop,
                                struct stats *stats)
{
    *outlet = (struct pool_outlet){.stats = stats};
    TAILQ_INIT(&outlet->finished);
    if (uv_async_init(loop, &outlet->async, on_async) != 0) {
        return CAP_E_NO_MEMORY;
    }
    uv_unref((uv_handle_t *)&outlet->async); /* only jobs keep the loop alive */
    outlet->pool = pool;
    return CAP_OK;
}

void pool_outlet_close(struct pool_outlet *outlet)
{
    if (outlet->pool != NULL) {
        outlet->closing = true;
        close_if_done(outlet);
    }
}

void pool_submit(struct pool_outlet *outlet, struct pool_job *job)
{
    struct pool *pool = outlet->pool;
    must(!uv_is_closing((uv_handle_t *)&outlet->async));
    job->outlet = outlet;
    job->peer = NULL;
    job->threaded = job->its_turn = false;
    job->hashed = job->reported = job->took_us = 0;
    if (outlet->jobs++ == 0) {
        uv_ref((uv_handle_t *)&outlet->async);
    }
    uv_mutex_lock(&pool->lock);
    if (job->cost == 0) {
        make_ready(pool, job);
    } else {
        pool->count++;
        job->peer = peer_of(pool, job->account);
        job->peer->jobs++;
        struct pool_jobs *jobs = job->cost > POOL_SMALL ? &job->peer->large : &job->peer->small;
        TAILQ_INSERT_TAIL(jobs, job, link);
        start_jobs(pool);
    }
    uv_mutex_unlock(&pool->lock);
}

/* --- Life ------------------------------------------------------------------------------------- */

/* A worker and a core stay free of long jobs, as far as there are two. */
static size_t long_max(uint64_t workers, uint64_t cores)
{
    uint64_t least = workers < cores ? workers : cores;
    return least > 1 ? (size_t)least - 1 : 1;
}

/* Under the lock, so that pool_close finds how many there are. */
static enum cap_error start_workers(struct pool *pool, size_t count)
{
    enum cap_error error = CAP_OK;
    pool->workers = calloc(count, sizeof(*pool->workers));
    if (pool->workers == NULL) {
        return CAP_E_NO_MEMORY;
    }
    uv_mutex_lock(&pool->lock);
    while (error == CAP_OK && pool->worker_count < count) {
        if (uv_thread_create(&pool->workers[pool->worker_count], worker_main, pool) != 0) {
            error = CAP_E_NO_MEMORY;
        } else {
            pool->worker_count++;
        }
    }
    uv_mutex_unlock(&pool->lock);
    return error;
}

enum cap_error pool_open(struct pool *pool, const struct env *env, uint64_t workers, uint64_t cores)
{
    *pool = (struct pool){
        .env = env,
        .long_max = long_max(workers, cores),
        .wait_ns = WAIT_NS,
    };
    TAILQ_INIT(&pool->ready);
    TAILQ_INIT(&pool->peers);
    TAILQ_INIT(&pool->resting);
    init_peer(&pool->daemon, NULL);
    if (uv_mutex_init(&pool->lock) != 0) {
        return CAP_E_NO_MEMORY;
    }
    if (uv_cond_init(&pool->work) != 0) {
        goto fail_lock;
    }
    if (uv_cond_init(&pool->turn) != 0) {
        goto fail_work;
    }
    pool->open = true;
    enum cap_error error = start_workers(pool, workers > 0 ? (size_t)workers : 1);
    if (error != CAP_OK) {
        pool_close(pool);
    }
    return error;
fail_work:
    uv_cond_destroy(&pool->work);
fail_lock:
    uv_mutex_destroy(&pool->lock);
    return CAP_E_NO_MEMORY;
}

void pool_close(struct pool *pool)
{
    if (!pool->open) {
        return;
    }
    pool->open = false;
    uv_mutex_lock(&pool->lock);
    must(pool->count == 0 && TAILQ_EMPTY(&pool->ready));
    pool->stopping = true;
    uv_cond_broadcast(&pool->work);
    uv_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->worker_count; i++) {
        uv_thread_join(&pool->workers[i]);
    }
    free(pool->workers);
    uv_cond_destroy(&pool->turn);
    uv_cond_destroy(&pool->work);
    uv_mutex_destroy(&pool->lock);
}

void pool_figures(struct pool *pool, size_t *ret_jobs, size_t *ret_peers)
{
    uv_mutex_lock(&pool->lock);
    *ret_jobs = pool->count;
    *ret_peers = pool->peer_count;
    uv_mutex_unlock(&pool->lock);
}
