/*
 * The pool.
 *
 * Happy path: a job that waits for the disk is ready for a worker at once, a small one when fewer
 * than `workers` small ones of its crew are, by peers. A long one gets a thread: at once for a peer
 * that has none, else while there are threads to spare. All threads but `long_max` of them rest;
 * one that has hashed POOL_TURN bytes hands on to a peer that comes before its own, if one rests.
 * What ran goes to its outlet, and the thread that ran it starts what comes next: no loop waits for
 * another.
 *
 * Failure modes.
 *   - A thread cannot be made: while others have one, the job waits for theirs; else it runs in a
 *     worker, without turns, one at a time.
 *   - No memory for a peer's queue: its jobs wait in the daemon's own.
 *   - A job is cancelled: it runs, beside the others if need be, finds its flag and returns early;
 *     `done` is always called.
 */
#include "daemon/core/pool.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "lib/cap/must.h"

/*
 * How much nicer than the daemon threads of long jobs and of the crew in the background are: they
 * give way to the loop, the writer and other small jobs on the cores that they share, and still
 * have a tenth of a core beside each other program that computes.
 */
#define BACK_NICE 10

/* --- Peers: under the lock -------------------------------------------------------------------- */

/* Where the least served peer stands: a newcomer is owed nothing from before. */
static uint64_t least_served(const struct pool *pool)
{
    const struct pool_peer *peer;
    uint64_t least = UINT64_MAX;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        least = peer->jobs > 0 && peer->served < least ? peer->served : least;
    }
    return least == UINT64_MAX ? 0 : least;
}

static void add_peer(struct pool *pool, struct pool_peer *peer, uint64_t id)
{
    *peer = (struct pool_peer){.id = id};
    for (size_t i = 0; i < POOL_CREWS; i++) {
        TAILQ_INIT(&peer->small[i]);
    }
    TAILQ_INIT(&peer->large);
    TAILQ_INSERT_TAIL(&pool->peers, peer, link);
}

/* The peer of an id, added if it is not known. */
static struct pool_peer *peer_of(struct pool *pool, uint64_t id)
{
    struct pool_peer *peer;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        if (peer->id == id) {
            return peer;
        }
    }
    peer = malloc(sizeof(*peer));
    if (peer == NULL) {
        return &pool->daemon;
    }
    add_peer(pool, peer, id);
    return peer;
}

/* One more job for a peer, which may be its first. */
static void join(struct pool *pool, struct pool_peer *peer)
{
    if (peer->jobs == 0) {
        peer->served = least_served(pool);
        pool->peer_count++;
    }
    peer->jobs++;
}

/* Forgets peers without jobs that have hashed less than `bytes` of late. */
static void forget(struct pool *pool, uint64_t bytes)
{
    struct pool_peer *next;
    for (struct pool_peer *peer = TAILQ_FIRST(&pool->peers); peer != NULL; peer = next) {
        next = TAILQ_NEXT(peer, link);
        if (peer != &pool->daemon && peer->jobs == 0 && peer->recent < bytes) {
            TAILQ_REMOVE(&pool->peers, peer, link);
            free(peer);
        }
    }
}

/* --- Order: under the lock -------------------------------------------------------------------- */

/* Counts what a peer hashes. The window moves on in eighths. */
static void charge(struct pool *pool, struct pool_peer *charged, uint64_t bytes)
{
    struct pool_peer *peer;
    charged->served += bytes;
    charged->recent += bytes;
    pool->recent += bytes;
    while (pool->recent > POOL_WINDOW) {
        pool->recent = 0;
        TAILQ_FOREACH(peer, &pool->peers, link)
        {
            peer->recent -= (peer->recent + 7) / 8;
            pool->recent += peer->recent;
        }
    }
}

static bool past_share(const struct pool *pool, const struct pool_peer *peer)
{
    return peer->recent > pool->share_recent || peer->running >= pool->share_running;
}

/* Whether the next turn is `one`'s rather than `other`'s. */
static bool comes_before(const struct pool *pool, const struct pool_peer *one,
                         const struct pool_peer *other)
{
    bool past = past_share(pool, one);
    return past == past_share(pool, other) ? one->served < other->served : !past;
}

/* The first peer with small jobs for a crew, or NULL. */
static struct pool_peer *next_small(const struct pool *pool, size_t crew)
{
    struct pool_peer *peer;
    struct pool_peer *next = NULL;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        if (!TAILQ_EMPTY(&peer->small[crew]) && (next == NULL || comes_before(pool, peer, next))) {
            next = peer;
        }
    }
    return next;
}

/* Whether a peer may have a thread: a second one only while half of them are free for others. */
static bool may_have_thread(const struct pool *pool, const struct pool_peer *peer)
{
    return pool->threads < POOL_LONG_THREADS &&
           (peer->threads == 0 ||
            (peer->threads < pool->long_max && pool->threads < POOL_LONG_THREADS / 2));
}

/* The first peer with a long job that may have a thread, or NULL. */
static struct pool_peer *next_long(const struct pool *pool)
{
    struct pool_peer *peer;
    struct pool_peer *next = NULL;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        if (TAILQ_EMPTY(&peer->large) || !may_have_thread(pool, peer)) {
            continue;
        }
        if (next == NULL || peer->threads < next->threads ||
            (peer->threads == next->threads && comes_before(pool, peer, next))) {
            next = peer;
        }
    }
    return next;
}

/* --- Turns: under the lock -------------------------------------------------------------------- */

static bool is_cancelled(const struct pool_job *job)
{
    return job->cancelled != NULL && atomic_load(job->cancelled);
}

/* The resting job of the first peer, or NULL. */
static struct pool_job *next_turn(const struct pool *pool)
{
    struct pool_job *job;
    struct pool_job *next = NULL;
    TAILQ_FOREACH(job, &pool->resting, link)
    {
        if (next == NULL || comes_before(pool, job->peer, next->peer)) {
            next = job;
        }
    }
    return next;
}

static void set_turn(struct pool *pool, struct pool_job *job, bool its_turn)
{
    job->its_turn = its_turn;
    if (its_turn) {
        pool->long_running++;
        job->peer->running++;
    } else {
        pool->long_running--;
        job->peer->running--;
    }
}

static void give_turn(struct pool *pool, struct pool_job *job)
{
    TAILQ_REMOVE(&pool->resting, job, link);
    set_turn(pool, job, true);
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
    while (!job->its_turn) {
        uv_cond_wait(&pool->turn, &pool->lock);
    }
}

/* Charges its peer for what it has hashed, and ends its turn. */
static void end_turn(struct pool *pool, struct pool_job *job)
{
    charge(pool, job->peer, job->hashed - job->reported);
    job->reported = job->hashed;
    if (job->its_turn) {
        set_turn(pool, job, false);
    }
}

void pool_hashed(struct pool_job *job, uint64_t bytes)
{
    job->hashed += bytes;
    if (!job->threaded || (job->has_turn && job->hashed - job->reported < POOL_TURN)) {
        return;
    }
    struct pool *pool = job->outlet->pool;
    uv_mutex_lock(&pool->lock);
    end_turn(pool, job);
    const struct pool_job *next = next_turn(pool);
    bool room = pool->long_running < pool->long_max;
    bool first = next == NULL || !comes_before(pool, next->peer, job->peer);
    if (is_cancelled(job) || (room && first)) {
        set_turn(pool, job, true);
    } else {
        hand_on(pool);
        TAILQ_INSERT_TAIL(&pool->resting, job, link);
        wait_for_turn(pool, job);
    }
    job->has_turn = true;
    uv_mutex_unlock(&pool->lock);
}

void pool_rest(struct pool_job *job)
{
    if (!job->threaded) {
        return;
    }
    struct pool *pool = job->outlet->pool;
    uv_mutex_lock(&pool->lock);
    end_turn(pool, job);
    hand_on(pool);
    job->has_turn = false;
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

static struct pool_crew *crew_of(struct pool *pool, const struct pool_job *job)
{
    return &pool->crews[job->background ? POOL_BACK : POOL_FRONT];
}

static void make_ready(struct pool *pool, struct pool_job *job)
{
    struct pool_crew *crew = crew_of(pool, job);
    TAILQ_INSERT_TAIL(&crew->ready, job, link);
    uv_cond_signal(&crew->work);
}

/* A hash job for a worker. */
static void start_small(struct pool *pool, struct pool_job *job)
{
    crew_of(pool, job)->small_running++;
    job->peer->running++;
    make_ready(pool, job);
}

/* Gives this thread the priority of a crew: the one that made it may have another. */
static void take_priority(const struct pool_crew *crew)
{
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), crew->nice);
}

static void long_main(void *arg);

/* Gives a long job a thread, if there is one to be had. Under the lock, which its thread waits for.
 */
static bool start_long(struct pool *pool, struct pool_job *job)
{
    job->threaded = true;
    if (uv_thread_create(&job->thread, long_main, job) != 0) {
        job->threaded = false;
        return false;
    }
    TAILQ_REMOVE(&job->peer->large, job, link);
    pool->threads++;
    job->peer->threads++;
    TAILQ_INSERT_TAIL(&pool->resting, job, link);
    hand_on(pool);
    return true;
}

/* Starts what may start. Under the lock. */
static void start_jobs(struct pool *pool)
{
    struct pool_peer *peer;
    for (size_t i = 0; i < POOL_CREWS; i++) {
        const struct pool_crew *crew = &pool->crews[i];
        while (crew->small_running < crew->worker_count && (peer = next_small(pool, i)) != NULL) {
            struct pool_job *job = TAILQ_FIRST(&peer->small[i]);
            TAILQ_REMOVE(&peer->small[i], job, link);
            charge(pool, peer, job->cost);
            start_small(pool, job);
        }
    }
    while ((peer = next_long(pool)) != NULL) {
        struct pool_job *job = TAILQ_FIRST(&peer->large);
        if (start_long(pool, job)) {
            continue;
        }
        /* No thread: a worker has it, one at a time. What ends starts others. */
        if (pool->threads > 0 || pool->crews[POOL_FRONT].small_running > 0) {
            return;
        }
        TAILQ_REMOVE(&peer->large, job, link);
        charge(pool, peer, job->cost);
        start_small(pool, job);
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
            pool->peer_count--;
            forget(pool, POOL_TURN); /* so that at most POOL_WINDOW / POOL_TURN are remembered */
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
    take_priority(&pool->crews[POOL_BACK]);
    uv_mutex_lock(&pool->lock);
    wait_for_turn(pool, job);
    job->has_turn = true;
    uv_mutex_unlock(&pool->lock);
    run(job);
    uv_mutex_lock(&pool->lock);
    charge(pool, job->peer, job->hashed == 0 ? job->cost : 0); /* it has not said */
    end_turn(pool, job);
    pool->threads--;
    job->peer->threads--;
    hand_on(pool);
    finish(pool, job);
    uv_mutex_unlock(&pool->lock);
}

static void worker_main(void *arg)
{
    struct pool_crew *crew = arg;
    struct pool *pool = crew->pool;
    take_priority(crew);
    uv_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        struct pool_job *job = TAILQ_FIRST(&crew->ready);
        if (job == NULL) {
            uv_cond_wait(&crew->work, &pool->lock);
            continue;
        }
        TAILQ_REMOVE(&crew->ready, job, link);
        uv_mutex_unlock(&pool->lock);
        run(job);
        uv_mutex_lock(&pool->lock);
        if (job->peer != NULL) {
            crew->small_running--;
            job->peer->running--;
        }
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
    job->threaded = job->its_turn = job->has_turn = false;
    job->hashed = job->reported = job->took_us = 0;
    if (outlet->jobs++ == 0) {
        uv_ref((uv_handle_t *)&outlet->async);
    }
    uv_mutex_lock(&pool->lock);
    if (job->cost == 0) {
        make_ready(pool, job);
    } else {
        pool->count++;
        job->peer = peer_of(pool, job->peer_id);
        join(pool, job->peer);
        struct pool_jobs *small = &job->peer->small[job->background ? POOL_BACK : POOL_FRONT];
        TAILQ_INSERT_TAIL(job->cost > POOL_SMALL ? &job->peer->large : small, job, link);
        start_jobs(pool);
    }
    uv_mutex_unlock(&pool->lock);
}

/* Those of a queue that are cancelled return at once: they need no thread of their own. Under the
 * lock. */
static void start_cancelled(struct pool *pool, struct pool_jobs *jobs)
{
    struct pool_job *next;
    for (struct pool_job *job = TAILQ_FIRST(jobs); job != NULL; job = next) {
        next = TAILQ_NEXT(job, link);
        if (is_cancelled(job)) {
            TAILQ_REMOVE(jobs, job, link);
            start_small(pool, job);
        }
    }
}

void pool_cancelled(struct pool *pool)
{
    struct pool_job *next;
    uv_mutex_lock(&pool->lock);
    for (struct pool_job *job = TAILQ_FIRST(&pool->resting); job != NULL; job = next) {
        next = TAILQ_NEXT(job, link);
        if (is_cancelled(job)) {
            give_turn(pool, job);
        }
    }
    uv_cond_broadcast(&pool->turn);
    struct pool_peer *peer;
    TAILQ_FOREACH(peer, &pool->peers, link)
    {
        start_cancelled(pool, &peer->small[POOL_FRONT]);
        start_cancelled(pool, &peer->small[POOL_BACK]);
        start_cancelled(pool, &peer->large);
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
static enum cap_error start_workers(struct pool *pool, struct pool_crew *crew, size_t count)
{
    enum cap_error error = CAP_OK;
    crew->workers = calloc(count, sizeof(*crew->workers));
    if (crew->workers == NULL) {
        return CAP_E_NO_MEMORY;
    }
    uv_mutex_lock(&pool->lock);
    while (error == CAP_OK && crew->worker_count < count) {
        if (uv_thread_create(&crew->workers[crew->worker_count], worker_main, crew) != 0) {
            error = CAP_E_NO_MEMORY;
        } else {
            crew->worker_count++;
        }
    }
    uv_mutex_unlock(&pool->lock);
    return error;
}

/* Ends its threads, when the pool is stopping. */
static void close_crew(struct pool_crew *crew)
{
    for (size_t i = 0; i < crew->worker_count; i++) {
        uv_thread_join(&crew->workers[i]);
    }
    free(crew->workers);
    uv_cond_destroy(&crew->work);
}

static enum cap_error open_locks(struct pool *pool)
{
    if (uv_mutex_init(&pool->lock) != 0) {
        return CAP_E_NO_MEMORY;
    }
    if (uv_cond_init(&pool->turn) != 0) {
        goto fail_lock;
    }
    if (uv_cond_init(&pool->crews[POOL_FRONT].work) != 0) {
        goto fail_turn;
    }
    if (uv_cond_init(&pool->crews[POOL_BACK].work) != 0) {
        goto fail_front;
    }
    return CAP_OK;
fail_front:
    uv_cond_destroy(&pool->crews[POOL_FRONT].work);
fail_turn:
    uv_cond_destroy(&pool->turn);
fail_lock:
    uv_mutex_destroy(&pool->lock);
    return CAP_E_NO_MEMORY;
}

static void set_share(struct pool *pool, uint64_t percent)
{
    size_t running = (size_t)(pool->workers * percent / 100);
    pool->share_running = running > 0 ? running : 1;
    pool->share_recent = POOL_WINDOW / 100 * percent;
}

void pool_set_share(struct pool *pool, uint64_t percent)
{
    uv_mutex_lock(&pool->lock);
    set_share(pool, percent);
    uv_mutex_unlock(&pool->lock);
}

enum cap_error pool_open(struct pool *pool, const struct env *env, const struct pool_size *size)
{
    size_t workers = size->workers > 0 ? (size_t)size->workers : 1;
    *pool = (struct pool){
        .env = env,
        .workers = workers,
        .long_max = long_max(workers, size->cores),
    };
    set_share(pool, size->share);
    pool->crews[POOL_FRONT].nice = getpriority(PRIO_PROCESS, (id_t)gettid());
    pool->crews[POOL_BACK].nice = pool->crews[POOL_FRONT].nice + BACK_NICE; /* 19 at most */
    for (size_t i = 0; i < POOL_CREWS; i++) {
        pool->crews[i].pool = pool;
        TAILQ_INIT(&pool->crews[i].ready);
    }
    TAILQ_INIT(&pool->peers);
    TAILQ_INIT(&pool->resting);
    add_peer(pool, &pool->daemon, 0);
    if (open_locks(pool) != CAP_OK) {
        return CAP_E_NO_MEMORY;
    }
    pool->open = true;
    enum cap_error error = CAP_OK;
    for (size_t i = 0; i < POOL_CREWS && error == CAP_OK; i++) {
        error = start_workers(pool, &pool->crews[i], workers);
    }
    if (error != CAP_OK) {
        pool_close(pool);
    }
    return error;
}

void pool_close(struct pool *pool)
{
    if (!pool->open) {
        return;
    }
    pool->open = false;
    uv_mutex_lock(&pool->lock);
    must(pool->count == 0);
    pool->stopping = true;
    for (size_t i = 0; i < POOL_CREWS; i++) {
        must(TAILQ_EMPTY(&pool->crews[i].ready));
        uv_cond_broadcast(&pool->crews[i].work);
    }
    uv_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < POOL_CREWS; i++) {
        close_crew(&pool->crews[i]);
    }
    forget(pool, UINT64_MAX);
    uv_cond_destroy(&pool->turn);
    uv_mutex_destroy(&pool->lock);
}

void pool_figures(struct pool *pool, size_t *ret_jobs, size_t *ret_peers)
{
    uv_mutex_lock(&pool->lock);
    *ret_jobs = pool->count;
    *ret_peers = pool->peer_count;
    uv_mutex_unlock(&pool->lock);
}
