/*
 * The writer thread.
 *
 * Happy path. The loop hands over jobs; the thread takes all that wait and works in rounds. In a
 * round, one job whose bodies are long writes one stage step (durable, invisible); then the jobs
 * that are ready share one write transaction: each resolves its slots and puts its caps, then one
 * commit with sync answers all of them. So many small admissions cost one sync, and none waits for
 * more than one step of a large one. What does not fit into the transaction is ready for the next
 * round.
 *
 * Failure modes.
 *   - Slots do not resolve: that job is answered, nothing of it was put, the transaction goes on.
 *   - A put fails (disk or map full, an unreadable spool): the transaction is aborted and its jobs
 *     run again one by one, so that only the one that cannot be stored fails.
 *   - A commit fails with disk or map full: likewise. With CAP_E_IO or CAP_E_STORE_FAILED nobody
 *     can say what is on the disk: this job and all others fail, nothing is acknowledged any more,
 *     and the loop is told to end the daemon.
 *   - A stage step fails: the stage is dropped, the job fails.
 *   - Cancelled: noticed before every step and before the puts; a commit under way wins.
 */
#include "daemon/publish/writer.h"

#include <stdlib.h>

#include "daemon/publish/admit.h"

#define HEARTBEAT_NS UINT64_C(1000000000)

/* Jobs in order. */
struct queue {
    struct writer_job *first;
    struct writer_job *last;
};

/* What the thread counts for the loop; under the lock. */
struct figures {
    uint64_t commits;
    uint64_t commits_failed;
    uint64_t stage_steps;
    struct histogram commit_us;
    struct histogram commit_admissions;
};

struct writer {
    struct writer_config config;
    uv_thread_t thread;
    uv_async_t async;
    bool async_closed;

    uv_mutex_t lock;
    uv_cond_t wake;
    struct queue incoming;  /* under the lock */
    struct queue finished;  /* under the lock */
    struct figures figures; /* under the lock */
    bool stopping;          /* under the lock */
    enum cap_error failed;  /* under the lock once set; CAP_OK: the store is sound */
    atomic_uint_fast64_t heartbeat;

    struct queue active; /* the thread's */
    size_t queued;       /* the loop's */
    bool failure_told;   /* the loop's */
};

static void queue_push(struct queue *queue, struct writer_job *job)
{
    job->next = NULL;
    if (queue->last == NULL) {
        queue->first = job;
    } else {
        queue->last->next = job;
    }
    queue->last = job;
}

static struct writer_job *queue_pop(struct queue *queue)
{
    struct writer_job *job = queue->first;
    if (job != NULL) {
        queue->first = job->next;
        queue->last = job->next == NULL ? NULL : queue->last;
        job->next = NULL;
    }
    return job;
}

/* Moves all of `from` behind `to`. */
static void queue_append(struct queue *to, struct queue *from)
{
    for (struct writer_job *job = queue_pop(from); job != NULL; job = queue_pop(from)) {
        queue_push(to, job);
    }
}

static void beat(struct writer *writer)
{
    atomic_fetch_add(&writer->heartbeat, 1);
}

/* --- One job ------------------------------------------------------------------------------------
 */

/* Drops whatever stages a job holds; no transaction is open. */
static void drop_stages(struct writer *writer, struct writer_job *job)
{
    if (job->stage != 0) {
        (void)cap_store_stage_drop(writer->config.store, job->stage);
        job->stage = 0;
    }
    for (size_t i = 0; i < job->cap_count; i++) {
        if (job->caps[i].put.stage != 0) {
            (void)cap_store_stage_drop(writer->config.store, job->caps[i].put.stage);
            job->caps[i].put.stage = 0;
        }
    }
}

/* Gives a job back to the loop. */
static void finish(struct writer *writer, struct writer_job *job, enum cap_error error)
{
    job->error = error;
    if (error != CAP_OK) {
        drop_stages(writer, job);
    }
    uv_mutex_lock(&writer->lock);
    queue_push(&writer->finished, job);
    uv_mutex_unlock(&writer->lock);
    uv_async_send(&writer->async);
}

/* Longer bodies of a job are staged, so that the others together fit into a transaction. */
static uint64_t stage_min_of(const struct writer_job *job)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < job->cap_count; i++) {
        uint64_t len = job->caps[i].put.info.body_len;
        sum += len > WRITER_STAGE_MIN ? 0 : len;
    }
    return sum > WRITER_BATCH_LEN ? WRITER_BATCH_LEN / job->cap_count : WRITER_STAGE_MIN;
}

/* Moves job->stage_at to the next cap that has to be staged; clears job->staging at the end. */
static enum cap_error next_stage(struct writer *writer, struct writer_job *job)
{
    for (; job->stage_at < job->cap_count; job->stage_at++) {
        const struct writer_cap *cap = &job->caps[job->stage_at];
        if (cap->put.info.body_len <= job->stage_min) {
            continue;
        }
        struct cap_read *read = NULL;
        enum cap_error error = cap_store_read_begin(writer->config.store, &read);
        if (error != CAP_OK) {
            return error;
        }
        error = cap_store_find(read, &cap->put.hash, NULL);
        cap_store_read_end(read);
        if (error == CAP_E_NOT_FOUND) {
            job->staging = true;
            return CAP_OK;
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    job->staging = false;
    return CAP_OK;
}

/*
 * The first look at a job: whether bodies must be staged. A job that would cost much has its slots
 * resolved beforehand, so that a hopeless one costs nothing; what counts is the look in the
 * transaction.
 */
static enum cap_error prepare(struct writer *writer, struct writer_job *job)
{
    job->prepared = true;
    job->stage_min = stage_min_of(job);
    enum cap_error error = next_stage(writer, job);
    if (error == CAP_OK && job->staging) {
        error = admit_resolve_read(writer->config.store, writer->config.ledger, job);
    }
    return error;
}

/* Writes one piece of the body that is being staged. */
static enum cap_error stage_step(struct writer *writer, struct writer_job *job)
{
    struct cap_store *store = writer->config.store;
    struct writer_cap *cap = &job->caps[job->stage_at];
    enum cap_error error = CAP_OK;
    bool done = false;
    if (job->stage == 0) {
        error = cap_store_stage_begin(store, cap->put.info.body_len, &job->stage);
    }
    if (error == CAP_OK) {
        error = cap_store_stage_step(store, job->stage, &cap->put.body, &done);
    }
    uv_mutex_lock(&writer->lock);
    writer->figures.stage_steps++;
    uv_mutex_unlock(&writer->lock);
    if (error != CAP_OK || !done) {
        return error;
    }
    cap->put.stage = job->stage;
    job->stage = 0;
    job->stage_at++;
    return next_stage(writer, job);
}

/* --- One transaction
 * ------------------------------------------------------------------------------ */

static void count_commit(struct writer *writer, uint64_t started, size_t jobs, enum cap_error error)
{
    uint64_t took = env_monotonic_us(writer->config.env) - started;
    uv_mutex_lock(&writer->lock);
    if (error == CAP_OK) {
        writer->figures.commits++;
        histogram_add(&writer->figures.commit_us, took);
        histogram_add(&writer->figures.commit_admissions, jobs);
    } else {
        writer->figures.commits_failed++;
    }
    uv_mutex_unlock(&writer->lock);
}

/* After these nobody knows what is on the disk. */
static void note_failure(struct writer *writer, enum cap_error error, bool commit)
{
    if (error == CAP_E_STORE_FAILED || (commit && error == CAP_E_IO)) {
        uv_mutex_lock(&writer->lock);
        writer->failed = error;
        uv_mutex_unlock(&writer->lock);
    }
}

static bool has_failed(struct writer *writer)
{
    uv_mutex_lock(&writer->lock);
    bool failed = writer->failed != CAP_OK;
    uv_mutex_unlock(&writer->lock);
    return failed;
}

/* Gives jobs back with the verdict that they hold, after their transaction. */
static void finish_all(struct writer *writer, struct queue *over)
{
    for (struct writer_job *job = queue_pop(over); job != NULL; job = queue_pop(over)) {
        finish(writer, job, job->error);
    }
}

/*
 * Puts the jobs of `batch` into one transaction and commits. Jobs that are answered by themselves
 * (unresolved, cancelled) leave the batch. An error is the transaction's: nothing was stored, and
 * the batch holds the jobs that were in it.
 */
static enum cap_error commit_batch(struct writer *writer, struct queue *batch)
{
    struct queue in = {0};
    struct queue over = {0};
    struct cap_write *write = NULL;
    size_t count = 0;
    enum cap_error error = cap_store_write_begin(writer->config.store, &write);
    while (error == CAP_OK && batch->first != NULL) {
        struct writer_job *job = queue_pop(batch);
        enum cap_error verdict = CAP_OK;
        error = admit_put(write, writer->config.ledger, job, &verdict);
        if (error == CAP_OK && verdict != CAP_OK) {
            job->error = verdict;
            queue_push(&over, job);
            continue;
        }
        queue_push(&in, job);
        count++;
    }
    if (error == CAP_OK && count > 0) {
        uint64_t started = env_monotonic_us(writer->config.env);
        error = cap_store_write_commit(write);
        note_failure(writer, error, true);
        count_commit(writer, started, count, error);
    } else {
        cap_store_write_abort(write);
        note_failure(writer, error, false);
    }
    finish_all(writer, &over);
    if (error != CAP_OK) {
        queue_append(&in, batch);
        *batch = in;
        return error;
    }
    for (struct writer_job *job = queue_pop(&in); job != NULL; job = queue_pop(&in)) {
        finish(writer, job, CAP_OK);
    }
    return CAP_OK;
}

/* Commits a batch; after a failure each of its jobs alone, so that only the culprit fails. */
static void run_batch(struct writer *writer, struct queue *batch)
{
    enum cap_error error = commit_batch(writer, batch);
    bool alone = batch->first == batch->last;
    for (struct writer_job *job = queue_pop(batch); job != NULL; job = queue_pop(batch)) {
        struct queue single = {0};
        if (alone || has_failed(writer)) {
            finish(writer, job, error);
            continue;
        }
        queue_push(&single, job);
        enum cap_error own = commit_batch(writer, &single);
        if (own != CAP_OK) {
            finish(writer, job, own);
        }
        beat(writer);
    }
}

/* --- Rounds
 * --------------------------------------------------------------------------------------- */

/* Sorts active jobs into those that stage, those that are ready, and those that are over. */
static void sort_jobs(struct writer *writer, struct queue *staging, struct queue *ready)
{
    struct admit_budget budget = {0};
    struct queue later = {0};
    for (struct writer_job *job = queue_pop(&writer->active); job != NULL;
         job = queue_pop(&writer->active)) {
        enum cap_error error = CAP_OK;
        if (atomic_load(&job->cancelled)) {
            error = CAP_E_CANCELLED;
        } else if (!job->prepared && !job->dry_run) {
            error = prepare(writer, job);
        }
        if (error != CAP_OK) {
            note_failure(writer, error, false);
            finish(writer, job, error);
        } else if (job->dry_run) {
            finish(writer, job, admit_dry_run(writer->config.store, writer->config.ledger, job));
        } else if (job->staging) {
            queue_push(staging, job);
        } else if (admit_fits(job, &budget)) {
            queue_push(ready, job);
        } else {
            queue_push(&later, job);
        }
    }
    writer->active = later;
}

/* One stage step of one job, which then goes to the end of the line. */
static void run_stage(struct writer *writer, struct queue *staging)
{
    struct writer_job *job = queue_pop(staging);
    if (job == NULL) {
        return;
    }
    enum cap_error error = stage_step(writer, job);
    if (error != CAP_OK) {
        note_failure(writer, error, false);
        finish(writer, job, error);
    } else {
        queue_push(staging, job);
    }
}

static void run_round(struct writer *writer)
{
    struct queue staging = {0};
    struct queue ready = {0};
    sort_jobs(writer, &staging, &ready);
    run_stage(writer, &staging);
    beat(writer);
    if (ready.first != NULL) {
        run_batch(writer, &ready);
    }
    queue_append(&writer->active, &staging);
}

/* Takes what has come in, waiting for it when there is nothing else to do. False: stop. */
static bool take_jobs(struct writer *writer)
{
    uv_mutex_lock(&writer->lock);
    while (writer->incoming.first == NULL && writer->active.first == NULL && !writer->stopping) {
        uv_cond_timedwait(&writer->wake, &writer->lock, HEARTBEAT_NS);
        beat(writer);
    }
    queue_append(&writer->active, &writer->incoming);
    bool go_on = !writer->stopping;
    uv_mutex_unlock(&writer->lock);
    return go_on;
}

/* Gives every job back unanswered: the end, or a store that failed. */
static void refuse_all(struct writer *writer, enum cap_error error)
{
    for (struct writer_job *job = queue_pop(&writer->active); job != NULL;
         job = queue_pop(&writer->active)) {
        finish(writer, job, error);
    }
}

static void writer_main(void *arg)
{
    struct writer *writer = arg;
    while (take_jobs(writer)) {
        if (has_failed(writer)) {
            refuse_all(writer, CAP_E_STORE_FAILED);
        } else {
            run_round(writer);
        }
        beat(writer);
    }
    refuse_all(writer, CAP_E_CANCELLED);
}

/* --- The loop's side
 * ------------------------------------------------------------------------------ */

static void histogram_merge(struct histogram *to, const struct histogram *from)
{
    to->count += from->count;
    to->sum += from->sum;
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        to->buckets[i] += from->buckets[i];
    }
}

static void merge_figures(struct stats *stats, const struct figures *figures)
{
    stats->commits += figures->commits;
    stats->commits_failed += figures->commits_failed;
    stats->stage_steps += figures->stage_steps;
    histogram_merge(&stats->commit_us, &figures->commit_us);
    histogram_merge(&stats->commit_admissions, &figures->commit_admissions);
}

static void deliver(struct writer *writer)
{
    uv_mutex_lock(&writer->lock);
    struct queue finished = writer->finished;
    struct figures figures = writer->figures;
    enum cap_error failed = writer->failed;
    writer->finished = (struct queue){0};
    writer->figures = (struct figures){0};
    uv_mutex_unlock(&writer->lock);
    merge_figures(writer->config.stats, &figures);
    for (struct writer_job *job = queue_pop(&finished); job != NULL; job = queue_pop(&finished)) {
        writer->queued--;
        job->done(job);
    }
    if (failed != CAP_OK && !writer->failure_told) {
        writer->failure_told = true;
        writer->config.failed(writer->config.ctx, failed);
    }
}

static void on_async(uv_async_t *async)
{
    deliver(async->data);
}

enum cap_error writer_new(uv_loop_t *loop, const struct writer_config *config,
                          struct writer **ret_writer)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return CAP_E_NO_MEMORY;
    }
    writer->config = *config;
    if (uv_mutex_init(&writer->lock) != 0) {
        goto fail;
    }
    if (uv_cond_init(&writer->wake) != 0) {
        goto fail_lock;
    }
    if (uv_async_init(loop, &writer->async, on_async) != 0) {
        goto fail_cond;
    }
    writer->async.data = writer;
    if (uv_thread_create(&writer->thread, writer_main, writer) != 0) {
        writer->stopping = true;
        uv_close((uv_handle_t *)&writer->async, NULL);
        uv_run(loop, UV_RUN_NOWAIT);
        goto fail_cond;
    }
    *ret_writer = writer;
    return CAP_OK;
fail_cond:
    uv_cond_destroy(&writer->wake);
fail_lock:
    uv_mutex_destroy(&writer->lock);
fail:
    free(writer);
    return CAP_E_NO_MEMORY;
}

void writer_submit(struct writer *writer, struct writer_job *job)
{
    writer->queued++;
    uv_mutex_lock(&writer->lock);
    queue_push(&writer->incoming, job);
    uv_cond_signal(&writer->wake);
    uv_mutex_unlock(&writer->lock);
}

size_t writer_queued(const struct writer *writer)
{
    return writer->queued;
}

uint64_t writer_heartbeat(const struct writer *writer)
{
    return atomic_load(&writer->heartbeat);
}

static void on_async_closed(uv_handle_t *handle)
{
    struct writer *writer = handle->data;
    writer->async_closed = true;
}

void writer_stop(struct writer *writer)
{
    if (writer == NULL || writer->stopping) {
        return;
    }
    uv_mutex_lock(&writer->lock);
    writer->stopping = true;
    uv_cond_signal(&writer->wake);
    uv_mutex_unlock(&writer->lock);
    uv_thread_join(&writer->thread);
    deliver(writer);
    uv_close((uv_handle_t *)&writer->async, on_async_closed);
}

bool writer_closed(const struct writer *writer)
{
    return writer->async_closed;
}

void writer_free(struct writer *writer)
{
    if (writer == NULL) {
        return;
    }
    uv_cond_destroy(&writer->wake);
    uv_mutex_destroy(&writer->lock);
    free(writer);
}
