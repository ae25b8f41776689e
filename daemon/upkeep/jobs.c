/*
 * The registry of jobs.
 *
 * Each kind has a slot, with the job of that kind that runs or ran last. What is known of a job is
 * copied into a ring when it ends; its thread is joined before the slot is used again.
 */
#include "daemon/upkeep/jobs.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "lib/cap/must.h"

/* How much nicer than the thread that starts them jobs are, as long work of the pool is: on cores
 * that are short they get a tenth of what a loop gets. */
#define JOB_NICE 10

struct slot {
    struct upkeep_job job;
    struct upkeep_job_info info; /* under the lock, as are the next */
    bool running;
    bool threaded; /* `thread` is to be joined */
    uv_thread_t thread;
    uint64_t began_us; /* monotonic */
    upkeep_run *run;
    void *ctx;
};

struct upkeep_jobs {
    struct context *context;
    uv_mutex_t lock;
    uv_cond_t changed; /* a job ended, or was cancelled */
    struct slot slots[UPKEEP_KINDS];
    struct upkeep_job_info ended[UPKEEP_JOBS_KEPT]; /* a ring */
    uint64_t ended_count;                           /* since start */
    uint64_t last_id;
    bool stopped;
};

const char *upkeep_kind_name(enum upkeep_kind kind)
{
    static const char *const names[UPKEEP_KINDS] = {"gc", "scrub", "backup", "compact"};
    return names[kind];
}

const char *upkeep_state_name(enum upkeep_state state)
{
    static const char *const names[] = {"running", "done", "failed", "cancelled"};
    return names[state];
}

enum cap_error upkeep_jobs_new(struct context *context, struct upkeep_jobs **ret_jobs)
{
    struct upkeep_jobs *jobs = calloc(1, sizeof(*jobs));
    if (jobs == NULL) {
        return CAP_E_NO_MEMORY;
    }
    jobs->context = context;
    if (uv_mutex_init(&jobs->lock) != 0) {
        free(jobs);
        return CAP_E_NO_MEMORY;
    }
    if (uv_cond_init(&jobs->changed) != 0) {
        uv_mutex_destroy(&jobs->lock);
        free(jobs);
        return CAP_E_NO_MEMORY;
    }
    *ret_jobs = jobs;
    return CAP_OK;
}

void upkeep_jobs_free(struct upkeep_jobs *jobs)
{
    if (jobs == NULL) {
        return;
    }
    for (size_t i = 0; i < UPKEEP_KINDS; i++) {
        must(!jobs->slots[i].threaded);
    }
    uv_cond_destroy(&jobs->changed);
    uv_mutex_destroy(&jobs->lock);
    free(jobs);
}

/* --- The life of a job ------------------------------------------------------------------------ */

static void tell_started(struct upkeep_jobs *jobs, const struct upkeep_job_info *info)
{
    log_event(&jobs->context->log, LOG_LEVEL_INFO, log_name("job_started"),
              log_number("job", info->id), log_text("kind", upkeep_kind_name(info->kind)));
    events_emit(&jobs->context->events, EVENT_JOB_STARTED, NULL, "job %" PRIu64 ", %s", info->id,
                upkeep_kind_name(info->kind));
}

static void tell_ended(struct upkeep_jobs *jobs, const struct upkeep_job_info *info)
{
    log_event(&jobs->context->log,
              info->state == UPKEEP_FAILED ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
              log_name("job_ended"), log_number("job", info->id),
              log_text("kind", upkeep_kind_name(info->kind)),
              log_text("outcome", upkeep_state_name(info->state)), log_error(info->error),
              log_number("ms", info->took_us / 1000), log_number("done", info->done),
              log_number("bytes", info->done_bytes), log_text("message", info->message));
    events_emit(&jobs->context->events, EVENT_JOB_ENDED, NULL, "job %" PRIu64 ", %s, %s%s%s",
                info->id, upkeep_kind_name(info->kind), upkeep_state_name(info->state),
                info->message[0] != '\0' ? ": " : "", info->message);
}

static enum upkeep_state state_of(enum cap_error error)
{
    if (error == CAP_OK) {
        return UPKEEP_DONE;
    }
    return error == CAP_E_CANCELLED ? UPKEEP_CANCELLED : UPKEEP_FAILED;
}

/*
 * Notes the end of a job, and returns what is known of it. One that is done has done all, whatever
 * its total was thought to be when it began, and wherever it last said how far it was.
 */
static struct upkeep_job_info end_job(struct upkeep_jobs *jobs, struct slot *slot,
                                      enum cap_error error)
{
    struct upkeep_job_info *info = &slot->info;
    const struct env *env = jobs->context->env;
    uv_mutex_lock(&jobs->lock);
    info->state = state_of(error);
    info->error = error;
    if (error == CAP_OK && info->total > 0) {
        info->done = info->total = MAX(info->done, info->total);
    }
    if (error == CAP_OK && info->total_bytes > 0) {
        info->done_bytes = info->total_bytes = MAX(info->done_bytes, info->total_bytes);
    }
    info->ended_us = env_real_us(env);
    info->took_us = env_monotonic_us(env) - slot->began_us;
    if (error != CAP_OK && info->message[0] == '\0') {
        snprintf(info->message, sizeof(info->message), "%s", cap_error_text(error));
    }
    jobs->ended[jobs->ended_count++ % UPKEEP_JOBS_KEPT] = *info;
    const struct upkeep_job_info copy = *info;
    uv_mutex_unlock(&jobs->lock);
    return copy;
}

static void job_main(void *arg)
{
    struct slot *slot = arg;
    struct upkeep_jobs *jobs = slot->job.jobs;
    int nice = getpriority(PRIO_PROCESS, (id_t)gettid());
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), nice + JOB_NICE);
    const struct upkeep_job_info info = end_job(jobs, slot, slot->run(&slot->job, slot->ctx));
    tell_ended(jobs, &info);
    uv_mutex_lock(&jobs->lock);
    slot->running = false;
    uv_cond_broadcast(&jobs->changed);
    uv_mutex_unlock(&jobs->lock);
}

/* Lets go of a thread that has ended but for its last few instructions. Under the lock. */
static void join_slot(struct slot *slot)
{
    if (slot->threaded) {
        must(!slot->running);
        (void)uv_thread_join(&slot->thread);
        slot->threaded = false;
    }
}

/* Under the lock. */
static enum cap_error start_slot(struct upkeep_jobs *jobs, enum upkeep_kind kind, upkeep_run *run,
                                 void *ctx)
{
    struct slot *slot = &jobs->slots[kind];
    if (slot->running) {
        return CAP_E_JOB_RUNNING;
    }
    if (jobs->stopped) {
        return CAP_E_DRAINING;
    }
    join_slot(slot);
    slot->job.jobs = jobs;
    slot->job.kind = kind;
    atomic_store(&slot->job.cancelled, false);
    slot->info = (struct upkeep_job_info){
        .id = jobs->last_id + 1,
        .kind = kind,
        .started_us = env_real_us(jobs->context->env),
    };
    slot->began_us = env_monotonic_us(jobs->context->env);
    slot->run = run;
    slot->ctx = ctx;
    if (uv_thread_create(&slot->thread, job_main, slot) != 0) {
        return CAP_E_NO_MEMORY;
    }
    slot->running = slot->threaded = true;
    jobs->last_id++;
    tell_started(jobs, &slot->info); /* under the lock, so before what tells its end */
    return CAP_OK;
}

enum cap_error upkeep_jobs_start(struct upkeep_jobs *jobs, enum upkeep_kind kind, upkeep_run *run,
                                 void *ctx, uint64_t *ret_id)
{
    uv_mutex_lock(&jobs->lock);
    enum cap_error error = start_slot(jobs, kind, run, ctx);
    if (ret_id != NULL) {
        *ret_id = jobs->last_id;
    }
    uv_mutex_unlock(&jobs->lock);
    return error;
}

/* Under the lock. */
static void cancel_slot(struct upkeep_jobs *jobs, struct slot *slot)
{
    slot->info.cancelled = true;
    atomic_store(&slot->job.cancelled, true);
    uv_cond_broadcast(&jobs->changed);
}

enum cap_error upkeep_jobs_cancel(struct upkeep_jobs *jobs, uint64_t id)
{
    enum cap_error error = CAP_E_NO_JOB;
    uv_mutex_lock(&jobs->lock);
    for (size_t i = 0; i < UPKEEP_KINDS; i++) {
        struct slot *slot = &jobs->slots[i];
        if (slot->running && slot->info.state == UPKEEP_RUNNING && slot->info.id == id) {
            cancel_slot(jobs, slot);
            error = CAP_OK;
        }
    }
    uv_mutex_unlock(&jobs->lock);
    return error;
}

void upkeep_jobs_cancel_all(struct upkeep_jobs *jobs)
{
    uv_mutex_lock(&jobs->lock);
    jobs->stopped = true;
    for (size_t i = 0; i < UPKEEP_KINDS; i++) {
        if (jobs->slots[i].running) {
            cancel_slot(jobs, &jobs->slots[i]);
        }
    }
    uv_mutex_unlock(&jobs->lock);
}

/* Under the lock. */
static size_t count_running(const struct upkeep_jobs *jobs)
{
    size_t count = 0;
    for (size_t i = 0; i < UPKEEP_KINDS; i++) {
        count += jobs->slots[i].running ? 1 : 0;
    }
    return count;
}

bool upkeep_jobs_join(struct upkeep_jobs *jobs, uint64_t within_us)
{
    const struct env *env = jobs->context->env;
    uint64_t until = env_monotonic_us(env) + within_us;
    uv_mutex_lock(&jobs->lock);
    for (uint64_t now = env_monotonic_us(env); count_running(jobs) > 0 && now < until;
         now = env_monotonic_us(env)) {
        (void)uv_cond_timedwait(&jobs->changed, &jobs->lock, (until - now) * 1000);
    }
    bool all = count_running(jobs) == 0;
    for (size_t i = 0; i < UPKEEP_KINDS && all; i++) {
        join_slot(&jobs->slots[i]);
    }
    uv_mutex_unlock(&jobs->lock);
    return all;
}

/* --- What is known of them -------------------------------------------------------------------- */

/* Under the lock. */
static struct upkeep_job_info look(const struct upkeep_jobs *jobs, const struct slot *slot)
{
    struct upkeep_job_info info = slot->info;
    info.took_us = env_monotonic_us(jobs->context->env) - slot->began_us;
    return info;
}

/* Under the lock. One that has ended but for its line in the log is in the ring. */
static bool is_shown(const struct slot *slot)
{
    return slot->running && slot->info.state == UPKEEP_RUNNING;
}

bool upkeep_jobs_running(struct upkeep_jobs *jobs, enum upkeep_kind kind,
                         struct upkeep_job_info *ret_info)
{
    const struct slot *slot = &jobs->slots[kind];
    uv_mutex_lock(&jobs->lock);
    bool shown = is_shown(slot);
    if (shown) {
        *ret_info = look(jobs, slot);
    }
    uv_mutex_unlock(&jobs->lock);
    return shown;
}

size_t upkeep_jobs_count(struct upkeep_jobs *jobs)
{
    uv_mutex_lock(&jobs->lock);
    size_t count = count_running(jobs);
    uv_mutex_unlock(&jobs->lock);
    return count;
}

size_t upkeep_jobs_list(struct upkeep_jobs *jobs, struct upkeep_job_info ret_infos[UPKEEP_JOBS_MAX])
{
    size_t count = 0;
    uv_mutex_lock(&jobs->lock);
    for (size_t i = 0; i < UPKEEP_KINDS; i++) {
        if (is_shown(&jobs->slots[i])) {
            ret_infos[count++] = look(jobs, &jobs->slots[i]);
        }
    }
    for (uint64_t i = 0; i < UPKEEP_JOBS_KEPT && i < jobs->ended_count; i++) {
        ret_infos[count++] = jobs->ended[(jobs->ended_count - 1 - i) % UPKEEP_JOBS_KEPT];
    }
    uv_mutex_unlock(&jobs->lock);
    return count;
}

/* --- The job's own ---------------------------------------------------------------------------- */

void job_progress(struct upkeep_job *job, uint64_t done, uint64_t total, uint64_t done_bytes,
                  uint64_t total_bytes, const char *phase)
{
    struct upkeep_jobs *jobs = job->jobs;
    struct upkeep_job_info *info = &jobs->slots[job->kind].info;
    uv_mutex_lock(&jobs->lock);
    info->done = done;
    info->total = total;
    info->done_bytes = done_bytes;
    info->total_bytes = total_bytes;
    snprintf(info->phase, sizeof(info->phase), "%s", phase);
    uv_mutex_unlock(&jobs->lock);
}

void job_message(struct upkeep_job *job, const char *format, ...)
{
    struct upkeep_jobs *jobs = job->jobs;
    char message[UPKEEP_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    uv_mutex_lock(&jobs->lock);
    memcpy(jobs->slots[job->kind].info.message, message, sizeof(message));
    uv_mutex_unlock(&jobs->lock);
}

bool job_wait(struct upkeep_job *job, uint64_t us)
{
    struct upkeep_jobs *jobs = job->jobs;
    const struct env *env = jobs->context->env;
    uint64_t until = env_monotonic_us(env) + us;
    uv_mutex_lock(&jobs->lock);
    for (uint64_t now = env_monotonic_us(env); !atomic_load(&job->cancelled) && now < until;
         now = env_monotonic_us(env)) {
        (void)uv_cond_timedwait(&jobs->changed, &jobs->lock, (until - now) * 1000);
    }
    uv_mutex_unlock(&jobs->lock);
    return !atomic_load(&job->cancelled);
}
