/*
 * Collection of caps that nothing needs: a job that works through what the store says is due, in
 * slices between admissions.
 *
 * An operator starts it, or it starts by itself: when the store uses gc-high bytes, until it uses
 * no more than gc-low, or nothing is left that may go.
 */
#ifndef DAEMON_UPKEEP_GC_H
#define DAEMON_UPKEEP_GC_H

#include "daemon/upkeep/jobs.h"

struct gc;
struct writer;

struct gc_figures {
    uint64_t runs;  /* that have ended since start */
    uint64_t caps;  /* collected since start */
    uint64_t bytes; /* of their bodies */
};

/* Context, jobs and writer outlive it. CAP_E_NO_MEMORY. */
enum cap_error gc_new(struct context *context, struct upkeep_jobs *jobs, struct writer *writer,
                      struct gc **ret_gc);

/* After upkeep_jobs_join, and when the pool of the main loop is idle. NULL is fine. */
void gc_free(struct gc *gc);

/* Starts a job that collects all that may go now. As upkeep_jobs_start. Any thread. */
enum cap_error gc_start(struct gc *gc, uint64_t *ret_id);

/* Has a thread look, at most once a second, whether gc-high is reached. Main loop. */
void gc_tick(struct gc *gc, uint64_t now_us);

/* Any thread. */
void gc_figures(struct gc *gc, struct gc_figures *ret_figures);

#endif
