/*
 * Threads that may wait for the device.
 *
 * Happy path: a job queues in its peer's lane, a free thread takes the next lane's first job, runs
 * it and leaves it with the finished ones; the first of these wakes the loop.
 *
 * Failure modes: none of its own. A device that never answers holds threads, at most all but the
 * hot one; what waits behind them can be withdrawn.
 */
#include "daemon/serve/readers.h"

#include <stdint.h>
#include <stdlib.h>

#include "lib/cap/must.h"

/* --- Lanes: under the lock -------------------------------------------------------------------- */

static unsigned bucket_of(const void *account)
{
    /* Accounts are heap blocks: the low bits say nothing. */
    return (unsigned)(((uintptr_t)account >> 6) % READERS_BUCKETS);
}

/* The lane of a peer, made if need be. NULL: no memory. */
static struct readers_lane *find_lane(struct readers *readers, const void *account)
{
    struct readers_lane *lane;
    LIST_FOREACH(lane, &readers->buckets[bucket_of(account)], find)
    {
        if (lane->account == account) {
            return lane;
        }
    }
    lane = calloc(1, sizeof(*lane));
    if (lane != NULL) {
        lane->account = account;
        TAILQ_INIT(&lane->waiting);
        LIST_INSERT_HEAD(&readers->buckets[bucket_of(account)], lane, find);
    }
    return lane;
}

static void free_if_idle(struct readers_lane *lane)
{
    if (TAILQ_EMPTY(&lane->waiting) && lane->running == 0) {
        LIST_REMOVE(lane, find);
        free(lane);
    }
}

static void enqueue(struct readers *readers, struct read_job *job)
{
    job->queued = true;
    if (job->lane == NULL) {
        TAILQ_INSERT_TAIL(&readers->hot, job, link);
        return;
    }
    if (TAILQ_EMPTY(&job->lane->waiting)) {
        TAILQ_INSERT_TAIL(&readers->lanes, job->lane, link);
    }
    TAILQ_INSERT_TAIL(&job->lane->waiting, job, link);
}

static void dequeue(struct readers *readers, struct read_job *job)
{
    job->queued = false;
    if (job->lane == NULL) {
        TAILQ_REMOVE(&readers->hot, job, link);
        return;
    }
    TAILQ_REMOVE(&job->lane->waiting, job, link);
    if (TAILQ_EMPTY(&job->lane->waiting)) {
        TAILQ_REMOVE(&readers->lanes, job->lane, link);
    }
}

/* The next job that a thread may take; NULL: none. *ret_lane is NULL for a hot one. */
static struct read_job *find_next(const struct readers *readers, struct readers_lane **ret_lane)
{
    size_t cold_max = readers->count - 1;
    size_t peer_max = (cold_max + 1) / 2;
    struct readers_lane *lane;
    *ret_lane = NULL;
    if (readers->finished_count >= READERS_FINISHED_MAX) {
        return NULL;
    }
    if (!TAILQ_EMPTY(&readers->hot)) {
        return TAILQ_FIRST(&readers->hot);
    }
    if (readers->cold_running == cold_max) {
        return NULL;
    }
    TAILQ_FOREACH(lane, &readers->lanes, link)
    {
        if (lane->running < peer_max) {
            *ret_lane = lane;
            return TAILQ_FIRST(&lane->waiting);
        }
    }
    return NULL;
}

/*
 * Wakes one thread if there is work for it. Never two at once: the one that wakes calls this again
 * when it leaves work for another. So a burst of short jobs costs a wake-up or two, not one each.
 */
static void wake_one(struct readers *readers)
{
    struct readers_lane *lane;
    if (readers->idle > 0 && !readers->waking && find_next(readers, &lane) != NULL) {
        readers->waking = true;
        uv_cond_signal(&readers->more);
    }
}

/* Takes the next job; its lane goes behind the others. */
static struct read_job *take_next(struct readers *readers)
{
    struct readers_lane *lane;
    struct read_job *job = find_next(readers, &lane);
    if (job != NULL && lane != NULL) {
        TAILQ_REMOVE(&readers->lanes, lane, link);
        TAILQ_INSERT_TAIL(&readers->lanes, lane, link);
        lane->running++;
        readers->cold_running++;
    }
    if (job != NULL) {
        dequeue(readers, job);
        wake_one(readers);
    }
    return job;
}

/* A thread has run a job: it waits for another turn, or is finished. True: the loop must know. */
static bool put_back(struct readers *readers, struct read_job *job, bool is_done)
{
    struct readers_lane *lane = job->lane;
    bool wakes = false;
    if (lane != NULL) {
        lane->running--;
        readers->cold_running--;
    }
    if (is_done || atomic_load(&job->withdrawn)) {
        wakes = TAILQ_EMPTY(&readers->finished);
        TAILQ_INSERT_TAIL(&readers->finished, job, link);
        readers->finished_count++;
        if (lane != NULL) {
            free_if_idle(lane);
        }
    } else {
        enqueue(readers, job);
    }
    return wakes;
}

/* --- Threads ---------------------------------------------------------------------------------- */

static void reader_main(void *arg)
{
    struct readers *readers = arg;
    uv_mutex_lock(&readers->lock);
    while (!readers->stopping) {
        struct read_job *job = take_next(readers);
        if (job == NULL) {
            readers->idle++;
            uv_cond_wait(&readers->more, &readers->lock);
            readers->idle--;
            readers->waking = false;
            continue;
        }
        uv_mutex_unlock(&readers->lock);
        bool is_done = job->run(job);
        uv_mutex_lock(&readers->lock);
        if (put_back(readers, job, is_done)) {
            (void)uv_async_send(&readers->async);
        }
    }
    uv_mutex_unlock(&readers->lock);
}

/* --- The loop --------------------------------------------------------------------------------- */

static void on_async(uv_async_t *async)
{
    struct readers *readers = async->data;
    struct read_jobs finished = TAILQ_HEAD_INITIALIZER(finished);
    uv_mutex_lock(&readers->lock);
    TAILQ_CONCAT(&finished, &readers->finished, link);
    readers->finished_count = 0;
    wake_one(readers);
    uv_mutex_unlock(&readers->lock);
    while (!TAILQ_EMPTY(&finished)) {
        struct read_job *job = TAILQ_FIRST(&finished);
        TAILQ_REMOVE(&finished, job, link);
        must(readers->jobs > 0);
        readers->jobs--;
        job->done(job);
    }
}

static enum cap_error start_threads(struct readers *readers, size_t count)
{
    readers->threads = calloc(count, sizeof(*readers->threads));
    if (readers->threads == NULL) {
        return CAP_E_NO_MEMORY;
    }
    readers->count = count; /* before they start: they look at it */
    for (size_t i = 0; i < count; i++) {
        if (uv_thread_create(&readers->threads[i], reader_main, readers) != 0) {
            uv_mutex_lock(&readers->lock);
            readers->count = i;
            uv_mutex_unlock(&readers->lock);
            return CAP_E_NO_MEMORY;
        }
    }
    return CAP_OK;
}

enum cap_error readers_open(struct readers *readers, uv_loop_t *loop, size_t count)
{
    *readers = (struct readers){0};
    TAILQ_INIT(&readers->lanes);
    TAILQ_INIT(&readers->hot);
    TAILQ_INIT(&readers->finished);
    if (uv_mutex_init(&readers->lock) != 0) {
        return CAP_E_NO_MEMORY;
    }
    if (uv_cond_init(&readers->more) != 0) {
        uv_mutex_destroy(&readers->lock);
        return CAP_E_NO_MEMORY;
    }
    if (uv_async_init(loop, &readers->async, on_async) != 0) {
        uv_cond_destroy(&readers->more);
        uv_mutex_destroy(&readers->lock);
        return CAP_E_NO_MEMORY;
    }
    readers->async.data = readers;
    readers->open = true;
    enum cap_error error = start_threads(readers, count);
    if (error != CAP_OK) {
        readers_close(readers);
    }
    return error;
}

void readers_close(struct readers *readers)
{
    if (!readers->open) {
        return;
    }
    readers->open = false;
    uv_mutex_lock(&readers->lock);
    readers->stopping = true;
    uv_cond_broadcast(&readers->more);
    uv_mutex_unlock(&readers->lock);
    for (size_t i = 0; i < readers->count; i++) {
        uv_thread_join(&readers->threads[i]);
    }
    on_async(&readers->async);
    free(readers->threads);
    readers->threads = NULL;
    uv_cond_destroy(&readers->more);
    uv_mutex_destroy(&readers->lock);
    uv_close((uv_handle_t *)&readers->async, NULL);
}

enum cap_error readers_submit(struct readers *readers, struct read_job *job)
{
    job->lane = NULL;
    atomic_store(&job->withdrawn, false);
    uv_mutex_lock(&readers->lock);
    if (!job->hot) {
        job->lane = find_lane(readers, job->account);
    }
    if (job->hot || job->lane != NULL) {
        enqueue(readers, job);
        readers->jobs++;
        wake_one(readers);
    }
    uv_mutex_unlock(&readers->lock);
    return job->hot || job->lane != NULL ? CAP_OK : CAP_E_NO_MEMORY;
}

bool readers_withdraw(struct readers *readers, struct read_job *job)
{
    uv_mutex_lock(&readers->lock);
    bool queued = job->queued;
    atomic_store(&job->withdrawn, true);
    if (queued) {
        dequeue(readers, job);
        readers->jobs--;
        if (job->lane != NULL) {
            free_if_idle(job->lane);
        }
    }
    uv_mutex_unlock(&readers->lock);
    return queued;
}
