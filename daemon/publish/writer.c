/*
 * The writer thread.
 *
 * Happy path. The loop hands over jobs; the thread takes all that wait and works in rounds. In a
 * round, the jobs that are ready are admitted together, one job whose bodies are long writes one
 * stage step (durable, invisible), or else one of the bodies that are still arriving does, and one
 * bounded sweep gives back room of dropped stages; between them one function of another thread
 * runs (writer_run). So many small admissions cost one sync, and none waits for more than one step
 * of a large one, one such function and one sweep.
 *
 * Failure modes.
 *   - An admission is refused or cannot be stored: the store says so of that one alone.
 *   - A stage step fails: the stage is dropped, the job fails. Of a body that is still arriving, or
 *     where there is no room: it is staged when its admission comes, which then fails as any other.
 *   - The store fails for good (cap_store_failure): all jobs fail, nothing is acknowledged any
 *     more, and the loop is told to end the daemon.
 *   - Cancelled: noticed before every step and by the store before the puts; a commit under way
 *     wins.
 */
#include "daemon/publish/writer.h"

#include <stdlib.h>
#include <sys/param.h>

#include "daemon/core/container.h"
#include "lib/cap/must.h"

#define HEARTBEAT_NS UINT64_C(1000000000) /* well below WatchdogSec=30 of the unit */
#define STEP_BODIES  512u /* staged in one step: of a few KiB each, so many fill it */
#define ROUND_JOBS   256u /* admissions of a round; as many as fit into a commit or more */

/*
 * How long the disk's figure is good for, less what was claimed since, where far more is free than
 * is asked for: asking takes a system call, which every small admission would make.
 */
#define DISK_GOOD_US   UINT64_C(100000)
#define DISK_GOOD_ROOM (UINT64_C(64) << 20)

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

    uv_mutex_t lock;
    uv_cond_t wake;
    struct writer_jobs incoming; /* under the lock */
    struct figures figures;      /* under the lock */
    struct writer_aheads aheads; /* under the lock */
    struct errands errands;
    bool stopping;                      /* under the lock */
    LIST_HEAD(, writer_outlet) outlets; /* under the lock */
    atomic_uint_fast64_t heartbeat;
    atomic_uint_fast64_t held_since_us; /* monotonic: an errand runs; 0: none */
    atomic_size_t queued;
    atomic_bool failure_told;

    struct writer_jobs active;  /* the thread's, as is all that follows */
    struct writer_jobs staging; /* of this round */
    struct writer_jobs decided; /* not yet given back */
    struct cap_admission *ready[ROUND_JOBS];
    size_t ready_count;
    bool sweeping; /* there is more to sweep */
    uint64_t commit_began_us;
    uint64_t disk_free; /* bytes, when asked, less claims */
    uint64_t disk_asked_us;
};

static struct writer_job *pop(struct writer_jobs *queue)
{
    struct writer_job *job = STAILQ_FIRST(queue);
    if (job != NULL) {
        STAILQ_REMOVE_HEAD(queue, link);
    }
    return job;
}

void writer_beat(struct writer *writer)
{
    atomic_fetch_add(&writer->heartbeat, 1);
}

/* --- One job ---------------------------------------------------------------------------------- */

/* Gives what is decided back to its loops, each of which wakes once. */
static void give_back(struct writer *writer)
{
    struct writer_outlet *outlet;
    if (STAILQ_EMPTY(&writer->decided)) {
        return;
    }
    uv_mutex_lock(&writer->lock);
    for (struct writer_job *job = pop(&writer->decided); job != NULL; job = pop(&writer->decided)) {
        job->outlet->woken = true;
        STAILQ_INSERT_TAIL(&job->outlet->finished, job, link);
    }
    LIST_FOREACH(outlet, &writer->outlets, link)
    {
        if (outlet->woken) {
            outlet->woken = false;
            uv_async_send(&outlet->async);
        }
    }
    uv_mutex_unlock(&writer->lock);
}

/* Says what is new and not staged yet, and what the store's map has for it. */
static void claim_map(struct writer *writer, struct writer_job *job)
{
    const struct cap_admission *admission = &job->admission;
    struct cap_space space;
    job->claim = (struct room_claim){.where = "in the store"};
    if (cap_store_space(writer->config.store, &space) != CAP_OK) {
        return;
    }
    job->claim.free = space.room_bytes;
    for (size_t i = 0; i < admission->put_count; i++) {
        const struct cap_put *put = &admission->puts[i];
        bool staged = put->stage != 0 && i < job->stage_at;
        job->claim.needed += put->is_new && !staged ? put->info.body_len : 0;
    }
}

/* A job is decided. */
static void finish(struct writer *writer, struct writer_job *job, enum cap_error error)
{
    job->admission.error = error;
    if (error == CAP_E_MAP_FULL) {
        claim_map(writer, job);
    }
    if (error != CAP_OK) {
        for (size_t i = 0; i < job->admission.put_count; i++) {
            cap_store_stage_drop(writer->config.store, job->admission.puts[i].stage);
        }
    }
    STAILQ_INSERT_TAIL(&writer->decided, job, link);
}

/* Longer bodies of a job are staged, so that the others together fit into a transaction. */
static uint64_t stage_min_of(const struct cap_admission *admission)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < admission->put_count; i++) {
        uint64_t len = admission->puts[i].info.body_len;
        sum += len > WRITER_STAGE_MIN ? 0 : len;
    }
    return sum > CAP_ADMIT_LEN ? CAP_ADMIT_LEN / admission->put_count : WRITER_STAGE_MIN;
}

static uint64_t new_bytes(const struct cap_admission *admission)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < admission->put_count; i++) {
        bytes += admission->puts[i].is_new ? admission->puts[i].info.body_len : 0;
    }
    return bytes;
}

/* What is free on the disk, asked anew where the last figure is old or leaves little. */
static enum cap_error ask_disk(struct writer *writer, uint64_t needed)
{
    const struct writer_config *config = &writer->config;
    uint64_t now = env_monotonic_us(config->env);
    if (writer->disk_asked_us != 0 && now - writer->disk_asked_us < DISK_GOOD_US &&
        writer->disk_free >= needed + config->disk_reserve + DISK_GOOD_ROOM) {
        return CAP_OK;
    }
    writer->disk_asked_us = now;
    return config->env->disk_free(config->env->ctx, config->store_dir, &writer->disk_free);
}

/* Whether the disk has room for what is new, in the store's file or beside it, and keeps the
 * reserve. */
static enum cap_error check_room(struct writer *writer, struct writer_job *job)
{
    const struct writer_config *config = &writer->config;
    struct room_claim *claim = &job->claim;
    struct cap_space space;
    uint64_t staged = job->ahead == NULL ? 0 : job->ahead->staged;
    uint64_t wanted = new_bytes(&job->admission);
    *claim = (struct room_claim){.needed = wanted - MIN(staged, wanted),
                                 .where = "in the store",
                                 .reserve = config->disk_reserve};
    enum cap_error error = ask_disk(writer, claim->needed);
    claim->free = writer->disk_free;
    if (error != CAP_OK || room_fits(claim)) {
        writer->disk_free -= MIN(writer->disk_free, claim->needed);
        return error;
    }
    /* Its owner may not have looked what is there. */
    error = cap_store_dry_run(config->store, &job->admission);
    if (error != CAP_OK) {
        return error;
    }
    claim->needed = new_bytes(&job->admission);
    error = cap_store_space(config->store, &space);
    if (error != CAP_OK) {
        return error;
    }
    claim->free += space.free_bytes;
    /* What fits into the store's own free pages takes nothing of the disk. */
    return room_fits(claim) || space.free_bytes >= claim->needed ? CAP_OK : CAP_E_DISK_FULL;
}

/* A job takes what was staged ahead for it. */
static void take_ahead(struct writer *writer, struct writer_job *job)
{
    struct writer_ahead *ahead = job->ahead;
    const struct cap_admission *admission = &job->admission;
    job->ahead = NULL;
    if (ahead == NULL) {
        return;
    }
    uv_mutex_lock(&writer->lock);
    TAILQ_REMOVE(&writer->aheads, ahead, link);
    uv_mutex_unlock(&writer->lock);
    struct cap_put *put =
        admission->put_count == 0 ? NULL : &admission->puts[admission->put_count - 1];
    if (put != NULL && put->is_new && put->info.body_len == ahead->body_len) {
        put->stage = ahead->stage;
    } else {
        cap_store_stage_drop(writer->config.store, ahead->stage);
    }
}

static bool is_staged(const struct writer_job *job, const struct cap_put *put)
{
    return put->is_new && put->info.body_len > job->stage_min;
}

/* Moves job->stage_at to the next put that has to be staged; false when there is none. */
static bool next_stage(struct writer_job *job)
{
    const struct cap_admission *admission = &job->admission;
    while (job->stage_at < admission->put_count) {
        if (is_staged(job, &admission->puts[job->stage_at])) {
            return true;
        }
        job->stage_at++;
    }
    return false;
}

static void count_step(struct writer *writer)
{
    uv_mutex_lock(&writer->lock);
    writer->figures.stage_steps++;
    uv_mutex_unlock(&writer->lock);
}

/* Writes the next piece of the body that is being staged, and of those after it that fit in. */
static enum cap_error stage_step(struct writer *writer, struct writer_job *job)
{
    struct cap_store *store = writer->config.store;
    struct cap_admission *admission = &job->admission;
    struct cap_staging stagings[STEP_BODIES];
    size_t count = 0;
    uint64_t len = 0;
    for (size_t at = job->stage_at;
         at < admission->put_count && count < STEP_BODIES && len < CAP_STAGE_STEP; at++) {
        struct cap_put *put = &admission->puts[at];
        if (!is_staged(job, put)) {
            continue;
        }
        if (put->stage == 0) {
            enum cap_error error = cap_store_stage_begin(store, put->info.body_len, &put->stage);
            if (error != CAP_OK) {
                return error;
            }
        }
        stagings[count++] = (struct cap_staging){.stage = put->stage, .body = &put->body};
        len += put->info.body_len;
    }
    enum cap_error error = cap_store_stage_step(store, stagings, count);
    count_step(writer);
    for (size_t i = 0; i < count && error == CAP_OK && stagings[i].done; i++) {
        (void)next_stage(job);
        job->stage_at++;
    }
    return error;
}

/* --- Ahead ------------------------------------------------------------------------------------ */

/* Whether it has enough for a step; its end is left to the admission. */
static bool is_step_ready(const struct writer_ahead *ahead)
{
    return !ahead->failed && ahead->ready >= ahead->staged + CAP_STAGE_STEP;
}

/* The first that is ready for a step, which goes to the end of the line, or NULL. Under the lock.
 */
static struct writer_ahead *next_ahead(struct writer *writer)
{
    struct writer_ahead *ahead;
    TAILQ_FOREACH(ahead, &writer->aheads, link)
    {
        if (is_step_ready(ahead)) {
            TAILQ_REMOVE(&writer->aheads, ahead, link);
            TAILQ_INSERT_TAIL(&writer->aheads, ahead, link);
            return ahead;
        }
    }
    return NULL;
}

/* Begins its stage, where the disk has room for all of the body and keeps the reserve. */
static enum cap_error begin_ahead(struct writer *writer, struct writer_ahead *ahead)
{
    enum cap_error error = ask_disk(writer, ahead->body_len);
    if (error != CAP_OK) {
        return error;
    }
    if (writer->disk_free < ahead->body_len + writer->config.disk_reserve) {
        return CAP_E_DISK_FULL;
    }
    return cap_store_stage_begin(writer->config.store, ahead->body_len, &ahead->stage);
}

/* One step of a body that is still arriving. */
static void run_ahead(struct writer *writer)
{
    uv_mutex_lock(&writer->lock);
    struct writer_ahead *ahead = next_ahead(writer);
    uint64_t ready = ahead == NULL ? 0 : ahead->ready;
    uv_mutex_unlock(&writer->lock);
    if (ahead == NULL) {
        return;
    }
    enum cap_error error = ahead->stage == 0 ? begin_ahead(writer, ahead) : CAP_OK;
    if (error == CAP_OK) {
        struct cap_staging staging = {.stage = ahead->stage, .body = &ahead->body, .ready = ready};
        error = cap_store_stage_step(writer->config.store, &staging, 1);
        count_step(writer);
        ahead->staged = staging.written;
    }
    if (error != CAP_OK) {
        cap_store_stage_drop(writer->config.store, ahead->stage);
        ahead->stage = ahead->staged = 0;
        ahead->failed = true;
    }
}

/* --- Rounds ----------------------------------------------------------------------------------- */

/* Sorts active jobs into those that stage, those that are ready, and those that are over. */
static void sort_jobs(struct writer *writer)
{
    struct writer_jobs later = STAILQ_HEAD_INITIALIZER(later);
    writer->ready_count = 0;
    for (struct writer_job *job = pop(&writer->active); job != NULL; job = pop(&writer->active)) {
        enum cap_error error = CAP_OK;
        if (atomic_load(&job->cancelled)) {
            error = CAP_E_CANCELLED;
        } else if (!job->prepared) {
            job->prepared = true;
            job->stage_min = stage_min_of(&job->admission);
            error = check_room(writer, job);
        }
        take_ahead(writer, job); /* or what is staged stays with a job that fails */
        if (error != CAP_OK) {
            finish(writer, job, error);
        } else if (next_stage(job)) {
            STAILQ_INSERT_TAIL(&writer->staging, job, link);
        } else if (writer->ready_count < ROUND_JOBS) {
            writer->ready[writer->ready_count++] = &job->admission;
        } else {
            STAILQ_INSERT_TAIL(&later, job, link);
        }
    }
    STAILQ_CONCAT(&writer->active, &later);
}

/* One stage step of one job, which then goes to the end of the line. */
static void run_stage(struct writer *writer)
{
    struct writer_job *job = pop(&writer->staging);
    if (job == NULL) {
        run_ahead(writer);
        return;
    }
    enum cap_error error = stage_step(writer, job);
    if (error != CAP_OK) {
        finish(writer, job, error);
    } else {
        STAILQ_INSERT_TAIL(&writer->staging, job, link);
    }
}

static void on_decided(void *ctx, struct cap_admission *admission)
{
    struct writer *writer = ctx;
    finish(writer, CONTAINER_OF(admission, struct writer_job, admission), admission->error);
    writer_beat(writer);
}

static void on_commit_begins(void *ctx)
{
    struct writer *writer = ctx;
    give_back(writer);
    writer->commit_began_us = env_monotonic_us(writer->config.env);
}

static void on_committed(void *ctx, size_t count, enum cap_error error)
{
    struct writer *writer = ctx;
    uint64_t us = env_monotonic_us(writer->config.env) - writer->commit_began_us;
    uv_mutex_lock(&writer->lock);
    if (error == CAP_OK) {
        writer->figures.commits++;
        histogram_add(&writer->figures.commit_us, us);
        histogram_add(&writer->figures.commit_admissions, count);
    } else {
        writer->figures.commits_failed++;
    }
    uv_mutex_unlock(&writer->lock);
    writer_beat(writer);
}

static void wake_loops(struct writer *writer)
{
    struct writer_outlet *outlet;
    uv_mutex_lock(&writer->lock);
    LIST_FOREACH(outlet, &writer->outlets, link)
    {
        uv_async_send(&outlet->async);
    }
    uv_mutex_unlock(&writer->lock);
}

static void run_round(struct writer *writer)
{
    const struct cap_admit_watch watch = {on_decided, on_commit_begins, on_committed, writer};
    sort_jobs(writer);
    /* What is ready goes first: it has waited for one step of a large body already. */
    cap_store_admit(writer->config.store, writer->ready, writer->ready_count, &watch);
    give_back(writer);
    writer_beat(writer);
    atomic_store(&writer->held_since_us, env_monotonic_us(writer->config.env));
    errands_run_one(&writer->errands, writer->config.store);
    atomic_store(&writer->held_since_us, 0);
    writer_beat(writer);
    run_stage(writer);
    give_back(writer);
    writer_beat(writer);
    /* Trouble is not the sweep's to tell: what is left stays marked, and a failure is latched. */
    (void)cap_store_sweep(writer->config.store, env_real_us(writer->config.env), &writer->sweeping);
    STAILQ_CONCAT(&writer->active, &writer->staging);
    if (cap_store_failure(writer->config.store) != CAP_OK) {
        wake_loops(writer); /* one of them tells, also when no job of its was concerned */
    }
}

/* Whether there is nothing to do before something comes in. Under the lock. */
static bool is_idle(const struct writer *writer)
{
    const struct writer_ahead *ahead;
    TAILQ_FOREACH(ahead, &writer->aheads, link)
    {
        if (is_step_ready(ahead)) {
            return false;
        }
    }
    return STAILQ_EMPTY(&writer->incoming) && STAILQ_EMPTY(&writer->active) &&
           !errands_any(&writer->errands) && !writer->sweeping && !writer->stopping;
}

/* Takes what has come in, waiting for a while when there is nothing else to do. False: stop. */
static bool take_jobs(struct writer *writer)
{
    uv_mutex_lock(&writer->lock);
    if (is_idle(writer)) {
        uv_cond_timedwait(&writer->wake, &writer->lock, HEARTBEAT_NS);
    }
    STAILQ_CONCAT(&writer->active, &writer->incoming);
    bool go_on = !writer->stopping;
    uv_mutex_unlock(&writer->lock);
    return go_on;
}

static void writer_main(void *arg)
{
    struct writer *writer = arg;
    while (take_jobs(writer)) {
        run_round(writer);
        writer_beat(writer);
    }
    for (struct writer_job *job = pop(&writer->active); job != NULL; job = pop(&writer->active)) {
        finish(writer, job, CAP_E_CANCELLED);
    }
    give_back(writer);
    errands_close(&writer->errands);
}

/* --- The loop's side -------------------------------------------------------------------------- */

static void merge_figures(struct stats *stats, const struct figures *figures)
{
    stats->commits += figures->commits;
    stats->commits_failed += figures->commits_failed;
    stats->stage_steps += figures->stage_steps;
    histogram_merge(&stats->commit_us, &figures->commit_us);
    histogram_merge(&stats->commit_admissions, &figures->commit_admissions);
}

static void deliver(struct writer_outlet *outlet)
{
    struct writer *writer = outlet->writer;
    struct writer_jobs finished = STAILQ_HEAD_INITIALIZER(finished);
    uv_mutex_lock(&writer->lock);
    STAILQ_CONCAT(&finished, &outlet->finished);
    struct figures figures = writer->figures;
    writer->figures = (struct figures){0};
    uv_mutex_unlock(&writer->lock);
    merge_figures(outlet->stats, &figures);
    for (struct writer_job *job = pop(&finished); job != NULL; job = pop(&finished)) {
        must(outlet->queued > 0);
        outlet->queued--;
        atomic_fetch_sub(&writer->queued, 1);
        job->done(job);
    }
    enum cap_error failure = cap_store_failure(writer->config.store);
    if (failure != CAP_OK && !atomic_exchange(&writer->failure_told, true)) {
        writer->config.failed(writer->config.ctx, failure);
    }
}

static void on_async(uv_async_t *async)
{
    deliver(async->data);
}

enum cap_error writer_new(const struct writer_config *config, struct writer **ret_writer)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return CAP_E_NO_MEMORY;
    }
    writer->config = *config;
    STAILQ_INIT(&writer->incoming);
    STAILQ_INIT(&writer->active);
    STAILQ_INIT(&writer->staging);
    STAILQ_INIT(&writer->decided);
    TAILQ_INIT(&writer->aheads);
    if (uv_mutex_init(&writer->lock) != 0) {
        goto fail;
    }
    if (uv_cond_init(&writer->wake) != 0) {
        goto fail_lock;
    }
    if (errands_init(&writer->errands) != CAP_OK) {
        goto fail_wake;
    }
    if (uv_thread_create(&writer->thread, writer_main, writer) != 0) {
        goto fail_errands;
    }
    *ret_writer = writer;
    return CAP_OK;
fail_errands:
    errands_free(&writer->errands);
fail_wake:
    uv_cond_destroy(&writer->wake);
fail_lock:
    uv_mutex_destroy(&writer->lock);
fail:
    free(writer);
    return CAP_E_NO_MEMORY;
}

enum cap_error writer_outlet_open(struct writer_outlet *outlet, struct writer *writer,
                                  uv_loop_t *loop, struct stats *stats)
{
    *outlet = (struct writer_outlet){.writer = writer, .stats = stats};
    STAILQ_INIT(&outlet->finished);
    if (uv_async_init(loop, &outlet->async, on_async) != 0) {
        *outlet = (struct writer_outlet){0};
        return CAP_E_NO_MEMORY;
    }
    outlet->async.data = outlet;
    uv_mutex_lock(&writer->lock);
    LIST_INSERT_HEAD(&writer->outlets, outlet, link);
    uv_mutex_unlock(&writer->lock);
    return CAP_OK;
}

void writer_outlet_close(struct writer_outlet *outlet)
{
    if (outlet->writer != NULL) {
        deliver(outlet);
        must(outlet->queued == 0);
        uv_mutex_lock(&outlet->writer->lock);
        LIST_REMOVE(outlet, link);
        uv_mutex_unlock(&outlet->writer->lock);
        uv_close((uv_handle_t *)&outlet->async, NULL);
        outlet->writer = NULL;
    }
}

void writer_ahead_begin(const struct writer_outlet *outlet, struct writer_ahead *ahead)
{
    struct writer *writer = outlet->writer;
    ahead->writer = writer;
    uv_mutex_lock(&writer->lock);
    TAILQ_INSERT_TAIL(&writer->aheads, ahead, link);
    uv_mutex_unlock(&writer->lock);
}

void writer_ahead_ready(struct writer_ahead *ahead, uint64_t ready)
{
    struct writer *writer = ahead->writer;
    uv_mutex_lock(&writer->lock);
    ahead->ready = ready;
    uv_mutex_unlock(&writer->lock);
    uv_cond_signal(&writer->wake);
}

void writer_submit(struct writer_outlet *outlet, struct writer_job *job)
{
    struct writer *writer = outlet->writer;
    job->admission.cancelled = &job->cancelled;
    job->outlet = outlet;
    outlet->queued++;
    atomic_fetch_add(&writer->queued, 1);
    uv_mutex_lock(&writer->lock);
    STAILQ_INSERT_TAIL(&writer->incoming, job, link);
    uv_mutex_unlock(&writer->lock);
    uv_cond_signal(&writer->wake); /* not under the lock, for which the thread would wait again */
}

enum cap_error writer_run(struct writer *writer, writer_errand *run, void *ctx)
{
    struct errand errand = {.run = run, .ctx = ctx};
    errands_add(&writer->errands, &errand);
    uv_mutex_lock(&writer->lock);
    uv_cond_signal(&writer->wake);
    uv_mutex_unlock(&writer->lock);
    return errands_await(&writer->errands, &errand);
}

size_t writer_queued(const struct writer *writer)
{
    return atomic_load(&writer->queued);
}

void writer_set_reserve(struct writer *writer, uint64_t bytes)
{
    writer->config.disk_reserve = bytes;
}

uint64_t writer_held_us(const struct writer *writer)
{
    uint64_t since = atomic_load(&writer->held_since_us);
    return since == 0 ? 0 : env_monotonic_us(writer->config.env) - since;
}

uint64_t writer_heartbeat(const struct writer *writer)
{
    return atomic_load(&writer->heartbeat);
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
}

void writer_free(struct writer *writer)
{
    if (writer == NULL) {
        return;
    }
    errands_free(&writer->errands);
    uv_cond_destroy(&writer->wake);
    uv_mutex_destroy(&writer->lock);
    free(writer);
}
