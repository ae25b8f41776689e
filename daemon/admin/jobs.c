/* Commands in threads. */
#include "daemon/admin/jobs.h"

#include <stdlib.h>

#include "daemon/admin/limits.h"

void admin_jobs_init(struct admin_jobs *jobs, uv_loop_t *loop)
{
    *jobs = (struct admin_jobs){.loop = loop};
    STAILQ_INIT(&jobs->waiting);
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

static void on_work(uv_work_t *work)
{
    admin_job_run(work->data);
}

static void on_work_done(uv_work_t *work, int status)
{
    struct admin_job *job = work->data;
    struct admin_jobs *jobs = job->jobs;
    job->running = false;
    jobs->running--;
    if (status != 0 && job->call.error.reason == NULL) {
        admin_error_cap(&job->call.error, CAP_E_CANCELLED);
    }
    job->done(job);
    start_jobs(jobs);
}

static void start_jobs(struct admin_jobs *jobs)
{
    while (!STAILQ_EMPTY(&jobs->waiting) && jobs->running < ADMIN_JOBS_MAX) {
        struct admin_job *job = STAILQ_FIRST(&jobs->waiting);
        STAILQ_REMOVE_HEAD(&jobs->waiting, link);
        job->work.data = job;
        if (uv_queue_work(jobs->loop, &job->work, on_work, on_work_done) != 0) {
            admin_error_cap(&job->call.error, CAP_E_NO_MEMORY);
            job->done(job);
            continue;
        }
        job->running = true;
        jobs->running++;
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
        (void)uv_cancel((uv_req_t *)&job->work);
        return;
    }
    STAILQ_REMOVE(&job->jobs->waiting, job, admin_job, link);
    admin_job_free(job);
}
