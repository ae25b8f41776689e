/*
 * Jobs: the long work that an operator sees, lists and cancels.
 *
 * Each has a thread of its own, which is nicer than the daemon's others, and at most one of a kind
 * runs. A job reports how far it is, looks often whether it is cancelled, and ends with an error
 * and, if it likes, a sentence. Beginning and end are a line of the log and an event each. The last
 * UPKEEP_JOBS_KEPT that have ended are remembered. When the daemon stops all are cancelled, and
 * have UPKEEP_JOBS_GRACE_US to end.
 *
 * Any thread, but for what says that it is the job's own.
 */
#ifndef DAEMON_UPKEEP_JOBS_H
#define DAEMON_UPKEEP_JOBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/context.h"
#include "lib/cap/error.h"

#define UPKEEP_JOBS_KEPT    64u
#define UPKEEP_PHASE_SIZE   32u
#define UPKEEP_MESSAGE_SIZE 256u

/* A job looks at `cancelled` some times a second, between slices of bounded work; this is far more
 * than any slice takes. */
#define UPKEEP_JOBS_GRACE_US UINT64_C(10000000)

enum upkeep_kind {
    UPKEEP_GC,
    UPKEEP_SCRUB,
    UPKEEP_BACKUP,
    UPKEEP_COMPACT,
    UPKEEP_KINDS,
};

enum upkeep_state {
    UPKEEP_RUNNING,
    UPKEEP_DONE,
    UPKEEP_FAILED,
    UPKEEP_CANCELLED,
};

/* What is known of a job, that runs or has ended. */
struct upkeep_job_info {
    uint64_t id; /* 1 for the first since start */
    enum upkeep_kind kind;
    enum upkeep_state state;
    bool cancelled;                /* it was asked to end, if it has not yet */
    char phase[UPKEEP_PHASE_SIZE]; /* a word or two; empty: none */
    uint64_t done;                 /* caps, or what the job counts */
    uint64_t total;                /* 0: unknown */
    uint64_t done_bytes;
    uint64_t total_bytes; /* 0: unknown */
    uint64_t started_us;  /* real time */
    uint64_t ended_us;    /* real time; 0: it runs */
    uint64_t took_us;     /* so far */
    enum cap_error error; /* with which it ended */
    char message[UPKEEP_MESSAGE_SIZE];
};

struct upkeep_jobs;

/* A job that runs, as its own function sees it. */
struct upkeep_job {
    atomic_bool cancelled; /* `run` is to return soon; read only */
    struct upkeep_jobs *jobs;
    enum upkeep_kind kind;
};

/*
 * What a job does, on its own thread. CAP_E_CANCELLED when it ends because it was cancelled; then
 * what it has done so far stays done.
 */
typedef enum cap_error upkeep_run(struct upkeep_job *job, void *ctx);

/* A registry without jobs; the context outlives it. CAP_E_NO_MEMORY. */
enum cap_error upkeep_jobs_new(struct context *context, struct upkeep_jobs **ret_jobs);

/*
 * Starts a job. `ctx` is the job's when this succeeds: `run` is then called exactly once, also
 * when the job has been cancelled by then. Otherwise it stays the caller's: CAP_E_JOB_RUNNING,
 * CAP_E_DRAINING after upkeep_jobs_cancel_all, CAP_E_NO_MEMORY, also when there are too many
 * threads. `ret_id` may be NULL.
 */
enum cap_error upkeep_jobs_start(struct upkeep_jobs *jobs, enum upkeep_kind kind, upkeep_run *run,
                                 void *ctx, uint64_t *ret_id);

/* Asks a job to end, and does not wait for it. CAP_E_NO_JOB: none with that number runs. */
enum cap_error upkeep_jobs_cancel(struct upkeep_jobs *jobs, uint64_t id);

/* Copies what is known of the job of a kind that runs; false: none does. */
bool upkeep_jobs_running(struct upkeep_jobs *jobs, enum upkeep_kind kind,
                         struct upkeep_job_info *ret_info);

/* How many run. */
size_t upkeep_jobs_count(struct upkeep_jobs *jobs);

#define UPKEEP_JOBS_MAX (UPKEEP_KINDS + UPKEEP_JOBS_KEPT)

/* Copies all that are known, those that run first, then those that have ended, the last of them
 * first. Returns how many. */
size_t upkeep_jobs_list(struct upkeep_jobs *jobs,
                        struct upkeep_job_info ret_infos[UPKEEP_JOBS_MAX]);

/* Asks all to end, and lets no other start. */
void upkeep_jobs_cancel_all(struct upkeep_jobs *jobs);

/*
 * After upkeep_jobs_cancel_all: waits until all have ended, or for `within_us`. False: one
 * still runs, and with it the process has to end, for the registry cannot be freed.
 */
bool upkeep_jobs_join(struct upkeep_jobs *jobs, uint64_t within_us);

/* Frees it, after upkeep_jobs_join. NULL is fine. */
void upkeep_jobs_free(struct upkeep_jobs *jobs);

/* --- For the job itself, on its thread -------------------------------------------------------- */

/* Says how far it is. A total of 0: unknown. `phase` is copied. */
void job_progress(struct upkeep_job *job, uint64_t done, uint64_t total, uint64_t done_bytes,
                  uint64_t total_bytes, const char *phase);

/* Gives it a sentence for a person, in place of an earlier one: how it ended, or why it waits. */
void job_message(struct upkeep_job *job, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Sleeps; false, without sleeping on, when the job is cancelled. */
bool job_wait(struct upkeep_job *job, uint64_t us);

/* --- Words ------------------------------------------------------------------------------------ */

/* "gc", "scrub", "backup", "compact". Static, as the next. */
const char *upkeep_kind_name(enum upkeep_kind kind);

/* "running", "done", "failed", "cancelled". */
const char *upkeep_state_name(enum upkeep_state state);

#endif
