/* Commands in threads. */
#include "daemon/admin/jobs.h"

#include <stdlib.h>

#include "daemon/admin/limits.h"
#include "daemon/core/container.h"

enum cap_error admin_jobs_open(struct admin_jobs *jobs, const struct env *env, struct shard *shard)
{
    STAILQ_INIT(&jobs->waiting);
    jobs->running = 0;
    enum cap_error error =
        pool_open(&jobs->pool, env, &(struct pool_size){ADMIN_JOBS_MAX, ADMIN_JOBS_MAX, 100});
    if (error == CAP_OK) {
        error = pool_outlet_open(&jobs->outlet, &jobs->pool, &shard->loop, &shard->stats);
        if (error != CAP_OK) {
            pool_close(&jobs->pool);
        }
    }
    return error;
}

void admin_jobs_close(struct admin_jobs *jobs)
{
    pool_outlet_close(&jobs->outlet);
}

void admin_jobs_free(struct admin_jobs *jobs)
{
    pool_close(&jobs->pool);
}

void admin_job_free(struct admin_job *job)
{
    jsonrpc_request_free(&job->request);
    admin_call_free(&job->call);
    cap_buf_free(&job->line);
    free(job);
}

static void write_answer(struct admin_job *job, json_t *result)
{
    if (job->request.id != NULL) { /* otherwise a notification */
        job->failed = jsonrpc_reply(job->request.id, result, &job->call.error, &job->line);
    }
}

/* Writing out a megabyte of JSON takes longer than the loop may take: it is the thread's part. */
void admin_job_run(struct admin_job *job)
{
    json_t *result = admin_call_run(&job->call);
    job->ran = true;
    job->succeeded = result != NULL;
    write_answer(job, result);
    json_decref(result);
}

void admin_job_refuse(struct admin_job *job)
{
    write_answer(job, NULL);
}

static void start_jobs(struct admin_jobs *jobs);

static void on_work(struct pool_job *work)
{
    admin_job_run(CONTAINER_OF(work, struct admin_job, work));
}

static void on_work_done(struct pool_job *work)
{
    struct admin_job *job = CONTAINER_OF(work, struct admin_job, work);
    struct admin_jobs *jobs = job->jobs;
    job->running = false;
    jobs->running--;
    job->done(job);
    start_jobs(jobs);
}

static void start_jobs(struct admin_jobs *jobs)
{
    while (!STAILQ_EMPTY(&jobs->waiting) && jobs->running < ADMIN_JOBS_MAX) {
        struct admin_job *job = STAILQ_FIRST(&jobs->waiting);
        STAILQ_REMOVE_HEAD(&jobs->waiting, link);
        job->work = (struct pool_job){.run = on_work, .done = on_work_done};
        job->running = true;
        jobs->running++;
        pool_submit(&jobs->outlet, &job->work);
    }
}

void admin_job_submit(struct admin_jobs *jobs, struct admin_job *job,
                      void (*done)(struct admin_job *job))
{
    job->jobs = jobs;
    job->done = done;
    STAILQ_INSERT_TAIL(&jobs->waiting, job, link);
    start_jobs(jobs);
}

void admin_job_abandon(struct admin_job *job)
{
    job->connection = NULL;
    if (job->running) {
        return;
    }
    STAILQ_REMOVE(&job->jobs->waiting, job, admin_job, link);
    admin_job_free(job);
}
