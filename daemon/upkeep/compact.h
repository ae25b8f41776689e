/*
 * Compaction of the store: a job that makes its file anew, without the room that is free in it.
 *
 * Publications wait in the writer's queue while the copy is made; reads go on. Cancelled, or
 * refused for want of room, it leaves all as before.
 */
#ifndef DAEMON_UPKEEP_COMPACT_H
#define DAEMON_UPKEEP_COMPACT_H

#include "daemon/upkeep/jobs.h"

struct writer;

/* Starts it. Context and writer outlive the job. As upkeep_jobs_start. Any thread. */
enum cap_error compact_start(struct upkeep_jobs *jobs, struct context *context,
                             struct writer *writer, uint64_t *ret_id);

#endif
