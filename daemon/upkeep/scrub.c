/*
 * The scrub's job. It waits between slices of the store: for its rate, and while the daemon has
 * other work, but never so long that it would not come to its end.
 */
#include "daemon/upkeep/scrub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_WAIT_US     UINT64_C(10000)
#define BUSY_WAIT_MAX_US UINT64_C(200000)   /* for one slice of 1 MiB: at least 5 MiB/s */
#define TICK_WAIT_US     UINT64_C(60000000) /* between two tries of one that could not start */

struct scrub {
    struct context *context;
    struct writer *writer;
    struct upkeep_jobs *jobs;
    uint64_t tried_us; /* monotonic: when the tick last started one; the main thread's */

    pthread_mutex_t lock; /* of what follows */
    struct scrub_figures figures;
    bool resumes;   /* a pass was interrupted: it goes on by itself */
    uint64_t found; /* in all; where the next goes in the ring */
    struct scrub_finding ring[SCRUB_FINDINGS];
};

/* One run of the job. */
struct run {
    struct scrub *scrub;
    struct upkeep_job *job;
    bool repair;
    uint64_t begun_us; /* monotonic: when the slice at hand was begun */
};

/* --- The job ---------------------------------------------------------------------------------- */

static void on_finding(void *ctx, const struct cap_hash *hash, const char *what)
{
    const struct run *run = ctx;
    struct scrub *scrub = run->scrub;
    struct context *context = scrub->context;
    struct scrub_finding finding = {.time_us = env_real_us(context->env)};
    char hex[CAP_HASH_HEX_SIZE] = "";
    if (hash != NULL) {
        finding.has_hash = true;
        finding.hash = *hash;
        cap_hash_format(hash, hex);
    }
    snprintf(finding.what, sizeof(finding.what), "%s", what);
    pthread_mutex_lock(&scrub->lock);
    scrub->ring[scrub->found++ % SCRUB_FINDINGS] = finding;
    scrub->figures.findings++;
    pthread_mutex_unlock(&scrub->lock);
    if (context_may_log(context, LINE_FAULT)) {
        log_event(&context->log, LOG_LEVEL_ERROR, log_name("scrub_found"),
                  log_text("cap", hash != NULL ? hex : "store"), log_text("what", what));
    }
}

static void on_progress(void *ctx, const struct cap_check_progress *progress)
{
    const struct run *run = ctx;
    struct scrub *scrub = run->scrub;
    pthread_mutex_lock(&scrub->lock);
    if (progress->bytes > scrub->figures.progress.bytes) {
        scrub->figures.bytes += progress->bytes - scrub->figures.progress.bytes;
    }
    scrub->figures.progress = *progress;
    pthread_mutex_unlock(&scrub->lock);
}

static enum cap_error on_writer(void *ctx, cap_store_work *work, void *work_ctx)
{
    const struct run *run = ctx;
    return writer_run(run->scrub->writer, work, work_ctx);
}

/* Whether somebody waits for what the scrub would use: the processor, the disk, the writer. */
static bool is_busy(struct scrub *scrub)
{
    struct stats stats;
    size_t jobs = 0;
    size_t peers = 0;
    pool_figures(&scrub->context->pool, &jobs, &peers);
    context_stats(scrub->context, &stats);
    return jobs > 0 || stats.now.read_jobs > 0 ||
           (scrub->writer != NULL && writer_queued(scrub->writer) > 0);
}

static void tell(const struct run *run)
{
    struct scrub_figures figures;
    char phase[UPKEEP_PHASE_SIZE];
    scrub_figures(run->scrub, &figures);
    const struct cap_check_progress *progress = &figures.progress;
    snprintf(phase, sizeof(phase), "index %s", progress->index != NULL ? progress->index : "");
    job_progress(run->job, progress->caps, progress->caps_total, progress->bytes,
                 progress->bytes_total, phase);
}

static enum cap_scrub_pace on_pace(void *ctx, uint64_t bytes)
{
    struct run *run = ctx;
    struct scrub *scrub = run->scrub;
    const struct env *env = scrub->context->env;
    uint64_t rate = scrub->context->config.scrub_rate;
    uint64_t took_us = env_monotonic_us(env) - run->begun_us;
    uint64_t due_us = rate == 0 ? 0 : bytes * 1000000 / rate;
    bool goes_on = true;
    tell(run);
    if (due_us > took_us) {
        goes_on = job_wait(run->job, due_us - took_us);
    }
    for (uint64_t waited = 0; goes_on && waited < BUSY_WAIT_MAX_US && is_busy(scrub);
         waited += BUSY_WAIT_US) {
        goes_on = job_wait(run->job, BUSY_WAIT_US);
    }
    run->begun_us = env_monotonic_us(env);
    if (goes_on && !atomic_load(&run->job->cancelled)) {
        return CAP_SCRUB_GO;
    }
    /* At the daemon's end it goes on at the next start; otherwise somebody has cancelled it. */
    return scrub->context->phase == PHASE_RUNNING ? CAP_SCRUB_PAUSE : CAP_SCRUB_STOP;
}

/* Reads how far the last scrub came. */
static enum cap_error load_state(struct scrub *scrub)
{
    struct cap_read *read;
    struct cap_scrub_state state;
    enum cap_error error = cap_store_read_begin(scrub->context->store, &read);
    if (error == CAP_OK) {
        error = cap_store_scrub_state(read, &state);
        cap_store_read_end(read);
    }
    if (error == CAP_OK) {
        pthread_mutex_lock(&scrub->lock);
        scrub->figures.state = state;
        pthread_mutex_unlock(&scrub->lock);
    }
    return error;
}

static void say(struct upkeep_job *job, enum cap_error error,
                const struct cap_check_outcome *outcome)
{
    if (error == CAP_E_CORRUPT) {
        job_message(job, "the store's pages are damaged: restore a backup, or load a dump into a "
                         "new store");
    } else if (outcome->findings == 0) {
        job_message(job, "%s",
                    error == CAP_OK ? "nothing is damaged" : "nothing is damaged so far");
    } else {
        job_message(job,
                    "findings: %llu, entries repaired: %llu, not repaired: %llu, caps quarantined: "
                    "%llu; see capctl scrub",
                    (unsigned long long)outcome->findings, (unsigned long long)outcome->mended,
                    (unsigned long long)outcome->unmended,
                    (unsigned long long)outcome->quarantined);
    }
}

static enum cap_error run_scrub(struct upkeep_job *job, void *ctx)
{
    struct run *run = ctx;
    struct scrub *scrub = run->scrub;
    const struct cap_scrub_watch watch = {.finding = on_finding,
                                          .progress = on_progress,
                                          .on_writer = on_writer,
                                          .pace = on_pace,
                                          .ctx = run};
    struct cap_check_outcome outcome;
    run->job = job;
    run->begun_us = env_monotonic_us(scrub->context->env);
    enum cap_error error = cap_store_scrub(scrub->context->store, run->repair, &watch, &outcome);
    tell(run); /* the figures of its end: it has said how far it was only where it rested */
    (void)load_state(scrub);
    say(job, error, &outcome);
    pthread_mutex_lock(&scrub->lock);
    scrub->figures.running = false;
    scrub->figures.passes += error == CAP_OK;
    scrub->figures.mended += outcome.mended;
    scrub->figures.quarantined += outcome.quarantined;
    pthread_mutex_unlock(&scrub->lock);
    free(run);
    return error;
}

/* --- For others ------------------------------------------------------------------------------- */

enum cap_error scrub_new(struct context *context, struct writer *writer, struct upkeep_jobs *jobs,
                         struct scrub **ret_scrub)
{
    struct scrub *scrub = calloc(1, sizeof(*scrub));
    if (scrub == NULL) {
        return CAP_E_NO_MEMORY;
    }
    scrub->context = context;
    scrub->writer = writer;
    scrub->jobs = jobs;
    pthread_mutex_init(&scrub->lock, NULL);
    enum cap_error error = load_state(scrub);
    if (error != CAP_OK) {
        scrub_free(scrub);
        return error;
    }
    const struct cap_scrub_state *state = &scrub->figures.state;
    scrub->resumes = state->began_us != 0 && !state->paused;
    *ret_scrub = scrub;
    return CAP_OK;
}

void scrub_free(struct scrub *scrub)
{
    if (scrub != NULL) {
        pthread_mutex_destroy(&scrub->lock);
        free(scrub);
    }
}

enum cap_error scrub_start(struct scrub *scrub, bool repair, uint64_t *ret_id)
{
    struct run *run = calloc(1, sizeof(*run));
    if (run == NULL) {
        return CAP_E_NO_MEMORY;
    }
    run->scrub = scrub;
    run->repair = repair;
    pthread_mutex_lock(&scrub->lock);
    enum cap_error error = upkeep_jobs_start(scrub->jobs, UPKEEP_SCRUB, run_scrub, run, ret_id);
    if (error == CAP_OK) {
        scrub->figures.running = true;
        scrub->figures.repair = repair;
        scrub->figures.progress = (struct cap_check_progress){0};
        scrub->resumes = false;
    }
    pthread_mutex_unlock(&scrub->lock);
    if (error != CAP_OK) {
        free(run);
    }
    return error;
}

enum cap_error scrub_pause(struct scrub *scrub, uint64_t *ret_id)
{
    struct upkeep_job_info info;
    if (!upkeep_jobs_running(scrub->jobs, UPKEEP_SCRUB, &info)) {
        return CAP_E_NO_JOB;
    }
    *ret_id = info.id;
    return upkeep_jobs_cancel(scrub->jobs, info.id);
}

/* Whether a pass is to run now: one that was interrupted, or one by the period. */
static bool is_due(struct scrub *scrub)
{
    uint64_t period_us = (uint64_t)scrub->context->config.scrub_period * 1000000;
    uint64_t now_us = env_real_us(scrub->context->env);
    pthread_mutex_lock(&scrub->lock);
    const struct cap_scrub_state *state = &scrub->figures.state;
    uint64_t last_us = state->began_us != 0 ? state->began_us : state->ended_us;
    bool due = !scrub->figures.running &&
               (scrub->resumes || (period_us > 0 && !state->paused &&
                                   (last_us > now_us || now_us - last_us >= period_us)));
    pthread_mutex_unlock(&scrub->lock);
    return due;
}

void scrub_tick(struct scrub *scrub)
{
    uint64_t now_us = env_monotonic_us(scrub->context->env);
    if (scrub->context->phase != PHASE_RUNNING ||
        (scrub->tried_us != 0 && now_us - scrub->tried_us < TICK_WAIT_US) || !is_due(scrub)) {
        return;
    }
    scrub->tried_us = now_us;
    (void)scrub_start(scrub, false, NULL); /* else it is tried again */
}

void scrub_figures(struct scrub *scrub, struct scrub_figures *ret_figures)
{
    pthread_mutex_lock(&scrub->lock);
    *ret_figures = scrub->figures;
    pthread_mutex_unlock(&scrub->lock);
}

size_t scrub_findings(struct scrub *scrub, struct scrub_finding ret_findings[SCRUB_FINDINGS])
{
    pthread_mutex_lock(&scrub->lock);
    size_t count = scrub->found < SCRUB_FINDINGS ? (size_t)scrub->found : SCRUB_FINDINGS;
    for (size_t i = 0; i < count; i++) {
        ret_findings[i] = scrub->ring[(scrub->found - 1 - i) % SCRUB_FINDINGS];
    }
    pthread_mutex_unlock(&scrub->lock);
    return count;
}
