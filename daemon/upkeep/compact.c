/*
 * Happy path. The writer runs the compaction as an errand, and ticks meanwhile, so that the
 * watchdog knows it alive. When it is over every loop is passed by a letter: what a loop was
 * loading from the old map by its address (serve/places) is over then, and the old file is let go
 * when no snapshot is left in it. Only then is its room on the disk free.
 *
 * Failure modes. Cancelled while it waits for the loops or for readers: the store goes on in the
 * new file, and the old one is let go by the next compaction, or by the end of the daemon.
 */
#include "daemon/upkeep/compact.h"

#include <inttypes.h>
#include <stdlib.h>

#include "daemon/core/container.h"
#include "daemon/publish/writer.h"

#define LOOK_US UINT64_C(20000) /* between two looks whether loops have passed, readers ended */

struct compaction {
    struct context *context;
    struct writer *writer;
    struct upkeep_job *job;
    struct cap_copy copy;
    uint64_t records; /* copied */
};

/* --- Loops that pass -------------------------------------------------------------------------- */

struct pass {
    struct letter letter;
    struct passing *passing;
};

/* It belongs to the letters, and the job: the last frees it. */
struct passing {
    atomic_size_t holders;
    struct pass passes[];
};

static void release(struct passing *passing)
{
    if (atomic_fetch_sub(&passing->holders, 1) == 1) {
        free(passing);
    }
}

static void on_pass(struct letter *letter)
{
    release(CONTAINER_OF(letter, struct pass, letter)->passing);
}

/* Waits until each loop has been between two of its callbacks. CAP_E_CANCELLED, CAP_E_NO_MEMORY. */
static enum cap_error pass_loops(struct upkeep_job *job, const struct context *context)
{
    size_t count = context->shard_count;
    size_t ended = 0; /* loops that take no letter */
    struct passing *passing = calloc(1, sizeof(*passing) + count * sizeof(passing->passes[0]));
    if (passing == NULL) {
        return CAP_E_NO_MEMORY;
    }
    atomic_store(&passing->holders, count + 1);
    for (size_t i = 0; i < count; i++) {
        struct pass *pass = &passing->passes[i];
        *pass = (struct pass){{.run = on_pass}, passing};
        ended += mailbox_post(&context->shards[i]->mailbox, &pass->letter) ? 0 : 1;
    }
    atomic_fetch_sub(&passing->holders, ended);
    bool waiting = true;
    while (waiting && atomic_load(&passing->holders) > 1) {
        waiting = job_wait(job, LOOK_US);
    }
    release(passing);
    return waiting ? CAP_OK : CAP_E_CANCELLED;
}

/* Has the store let go of the file before the last compaction. */
static enum cap_error let_go(const struct compaction *compaction)
{
    enum cap_error error = pass_loops(compaction->job, compaction->context);
    while (error == CAP_OK && !cap_store_let_go(compaction->context->store)) {
        error = job_wait(compaction->job, LOOK_US) ? CAP_OK : CAP_E_CANCELLED;
    }
    return error;
}

/* --- The job ---------------------------------------------------------------------------------- */

static void show(const struct compaction *compaction, const struct cap_copy_progress *progress,
                 const char *phase)
{
    job_progress(compaction->job, progress->records, progress->records_total, progress->bytes,
                 progress->bytes_total, phase);
}

static bool on_copied(void *ctx, const struct cap_copy_progress *progress)
{
    struct compaction *compaction = ctx;
    writer_beat(compaction->writer);
    compaction->records = progress->records;
    show(compaction, progress, "copying");
    return !atomic_load(&compaction->job->cancelled);
}

/* On the writer's thread. */
static enum cap_error compact(struct cap_store *store, void *ctx)
{
    struct compaction *compaction = ctx;
    return cap_store_compact(store, &compaction->copy);
}

static void tell(const struct compaction *compaction, enum cap_error error)
{
    const struct cap_copy *copy = &compaction->copy;
    if (error == CAP_E_DISK_FULL) {
        job_message(compaction->job,
                    "not enough room for a second file: need %" PRIu64 " bytes, have %" PRIu64,
                    copy->need, copy->have);
    } else if (error == CAP_E_NO_MEMORY) {
        job_message(compaction->job, "no memory, or no addresses for a second map: lower map-size, "
                                     "or raise the limit (ulimit -v)");
    } else if (error == CAP_E_CORRUPT) {
        job_message(compaction->job, "an index of the store is damaged; scrub the store");
    }
}

static enum cap_error run_compaction(struct compaction *compaction)
{
    const struct cap_copy *copy = &compaction->copy;
    enum cap_error error = let_go(compaction);
    if (error == CAP_OK) {
        error = writer_run(compaction->writer, compact, compaction);
    }
    if (error != CAP_OK) {
        tell(compaction, error);
        return error;
    }
    job_message(compaction->job, "the file has %" PRIu64 " bytes, and had %" PRIu64,
                copy->file_bytes, copy->file_bytes_before);
    job_progress(compaction->job, compaction->records, compaction->records, copy->file_bytes,
                 copy->file_bytes, "waiting for readers");
    if (let_go(compaction) != CAP_OK) { /* it is compacted all the same */
        job_message(compaction->job,
                    "the file has %" PRIu64 " bytes, and had %" PRIu64
                    ", which are free when the daemon restarts or the store is compacted again",
                    copy->file_bytes, copy->file_bytes_before);
    }
    job_progress(compaction->job, compaction->records, compaction->records, copy->file_bytes,
                 copy->file_bytes, "");
    return CAP_OK;
}

static enum cap_error run(struct upkeep_job *job, void *ctx)
{
    struct compaction *compaction = ctx;
    compaction->job = job;
    enum cap_error error = run_compaction(compaction);
    free(compaction);
    return error;
}

enum cap_error compact_start(struct upkeep_jobs *jobs, struct context *context,
                             struct writer *writer, uint64_t *ret_id)
{
    struct compaction *compaction = calloc(1, sizeof(*compaction));
    if (compaction == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *compaction = (struct compaction){
        .context = context,
        .writer = writer,
        .copy = {.keep_free = context->config.disk_reserve, .go_on = on_copied, .ctx = compaction},
    };
    enum cap_error error = upkeep_jobs_start(jobs, UPKEEP_COMPACT, run, compaction, ret_id);
    if (error != CAP_OK) {
        free(compaction);
    }
    return error;
}
