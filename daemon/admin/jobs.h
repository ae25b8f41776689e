/*
 * Commands of the admin socket that work in threads.
 *
 * A job is one command from its line to its answer. The threads are ADMIN_JOBS_MAX of their own, so
 * that operators are answered while the disk keeps uploads waiting; the other jobs wait in order. A
 * job may outlive the connection that it came from.
 *
 * Loop thread only, but for admin_job_run, which touches the job alone.
 */
#ifndef DAEMON_ADMIN_JOBS_H
#define DAEMON_ADMIN_JOBS_H

#include <sys/queue.h>

#include "daemon/admin/jsonrpc.h"
#include "daemon/admin/methods.h"
#include "daemon/core/pool.h"

struct admin;
struct admin_connection;

struct admin_job {
    struct admin *admin;
    struct admin_connection *connection; /* NULL once that has closed */
    struct jsonrpc_request request;
    struct admin_call call;
    bool ran;              /* what follows says with which outcome */
    bool succeeded;        /* otherwise call.error is set */
    struct cap_buf line;   /* the answer; empty for a notification */
    enum cap_error failed; /* the answer could not be written */

    /* The queue's own, from here. */
    void (*done)(struct admin_job *job);
    struct admin_jobs *jobs;
    STAILQ_ENTRY(admin_job) link;
    struct pool_job work;
    bool running; /* in a thread; otherwise it waits */
};

STAILQ_HEAD(admin_job_queue, admin_job);

struct admin_jobs {
    struct pool pool;
    struct pool_outlet outlet;
    struct admin_job_queue waiting; /* the oldest first */
    unsigned running;
};

/* Starts the threads, for the loop of `shard`, which outlives them. CAP_E_NO_MEMORY. */
enum cap_error admin_jobs_open(struct admin_jobs *jobs, const struct env *env, struct shard *shard);

/* When every job is abandoned. The loop must run until those in threads are done. */
void admin_jobs_close(struct admin_jobs *jobs);

/* After admin_jobs_close and the loop: ends the threads. */
void admin_jobs_free(struct admin_jobs *jobs);

/* Runs a job that admin_call_begin accepted, and writes its answer into its line. Any thread. */
void admin_job_run(struct admin_job *job);

/* Writes the answer of a job that did not run: its error. */
void admin_job_refuse(struct admin_job *job);

/*
 * Runs a job in a thread as soon as one is free for it. Then calls `done` on the loop, which takes
 * the job over.
 */
void admin_job_submit(struct admin_jobs *jobs, struct admin_job *job,
                      void (*done)(struct admin_job *job));

/* Parts a job from its connection: one that waits is freed, one in a thread is still `done`. */
void admin_job_abandon(struct admin_job *job);

/* Frees a job that is not in a thread. */
void admin_job_free(struct admin_job *job);

#endif
