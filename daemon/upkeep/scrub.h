/*
 * The scrub as a job: looks the whole store through while it is in use, at a rate and giving way to
 * load, again each scrub-period if one is set. What is damaged is quarantined at once.
 *
 * A pass that the daemon's end interrupts goes on at its next start; one that was paused when it is
 * started again. Any thread, but for scrub_tick.
 */
#ifndef DAEMON_UPKEEP_SCRUB_H
#define DAEMON_UPKEEP_SCRUB_H

#include "daemon/core/context.h"
#include "daemon/publish/writer.h"
#include "daemon/upkeep/jobs.h"
#include "lib/store/store.h"

#define SCRUB_FINDINGS  64u /* that are remembered */
#define SCRUB_WHAT_SIZE 200u

struct scrub;

/* Something that was found since the daemon's start. */
struct scrub_finding {
    uint64_t time_us; /* real time */
    bool has_hash;
    struct cap_hash hash;
    char what[SCRUB_WHAT_SIZE];
};

struct scrub_figures {
    bool running;
    bool repair;                        /* of the one that runs */
    struct cap_check_progress progress; /* of the pass that runs, or the last that did */
    struct cap_scrub_state state;       /* as last written down */
    uint64_t passes;                    /* that came to their end, as are the next since start */
    uint64_t findings;
    uint64_t mended;
    uint64_t quarantined;
    uint64_t bytes;
};

/*
 * Reads how far the store's last scrub came. All that is handed over outlives it. `writer` may be
 * NULL over a store whose scrub does not write. CAP_E_NO_MEMORY, or the store's error.
 */
enum cap_error scrub_new(struct context *context, struct writer *writer, struct upkeep_jobs *jobs,
                         struct scrub **ret_scrub);

/* After upkeep_jobs_join. NULL is fine. */
void scrub_free(struct scrub *scrub);

/*
 * Starts a job that begins a pass or goes on with one that is not at its end. CAP_E_JOB_RUNNING,
 * CAP_E_DRAINING, CAP_E_NO_MEMORY. `ret_id` may be NULL.
 */
enum cap_error scrub_start(struct scrub *scrub, bool repair, uint64_t *ret_id);

/* Has the pass that runs wait until it is started again, also over restarts; *ret_id is its job's.
 * CAP_E_NO_JOB. */
enum cap_error scrub_pause(struct scrub *scrub, uint64_t *ret_id);

/* Once a second or so: starts a pass that is due, or was interrupted. Main thread. */
void scrub_tick(struct scrub *scrub);

void scrub_figures(struct scrub *scrub, struct scrub_figures *ret_figures);

/* Copies what was found last, the newest first. Returns how many. */
size_t scrub_findings(struct scrub *scrub, struct scrub_finding ret_findings[SCRUB_FINDINGS]);

#endif
