/*
 * The hashing queue.
 *
 * Happy path: a small job goes to the pool at once; a long one when fewer than all but one of the
 * threads have long ones, else it waits its turn.
 *
 * Failure modes: none of its own. A job that is cancelled runs, finds its flag and returns early;
 * `done` is always called.
 */
#include "daemon/hashing.h"

#include <stdlib.h>

struct hashing {
    struct server *server;
    struct hash_job *first; /* long jobs that wait */
    struct hash_job *last;
    size_t long_running;
    size_t long_max;
    size_t count;
};

enum cap_error hashing_new(struct server *server, struct hashing **ret_hashing)
{
    struct hashing *hashing = calloc(1, sizeof(*hashing));
    if (hashing == NULL) {
        return CAP_E_NO_MEMORY;
    }
    hashing->server = server;
    hashing->long_max = server->config.workers > 1 ? server->config.workers - 1 : 1;
    *ret_hashing = hashing;
    return CAP_OK;
}

void hashing_free(struct hashing *hashing)
{
    free(hashing);
}

size_t hashing_count(const struct hashing *hashing)
{
    return hashing->count;
}

static bool is_long(const struct hash_job *job)
{
    return job->cost > HASHING_SMALL;
}

static void on_run(uv_work_t *work)
{
    struct hash_job *job = work->data;
    const struct env *env = job->hashing->server->env;
    uint64_t started = env_monotonic_us(env);
    job->run(job);
    job->took_us = env_monotonic_us(env) - started;
}

static void on_done(uv_work_t *work, int status);

static void start(struct hashing *hashing, struct hash_job *job)
{
    if (is_long(job)) {
        hashing->long_running++;
    }
    job->work.data = job;
    server_work(hashing->server, &job->work, on_run, on_done);
}

static void start_next(struct hashing *hashing)
{
    while (hashing->first != NULL && hashing->long_running < hashing->long_max) {
        struct hash_job *job = hashing->first;
        hashing->first = job->next;
        hashing->last = job->next == NULL ? NULL : hashing->last;
        start(hashing, job);
    }
}

static void on_done(uv_work_t *work, int status)
{
    struct hash_job *job = work->data;
    struct hashing *hashing = job->hashing;
    (void)status;
    server_work_done(hashing->server);
    hashing->count--;
    if (is_long(job)) {
        hashing->long_running--;
        start_next(hashing);
    }
    hashing->server->stats.hash_jobs++;
    histogram_add(&hashing->server->stats.hash_us, job->took_us);
    job->done(job);
}

void hashing_submit(struct hashing *hashing, struct hash_job *job)
{
    job->hashing = hashing;
    job->next = NULL;
    hashing->count++;
    if (!is_long(job)) {
        start(hashing, job);
        return;
    }
    if (hashing->last == NULL) {
        hashing->first = job;
    } else {
        hashing->last->next = job;
    }
    hashing->last = job;
    start_next(hashing);
}

void server_work(struct server *server, uv_work_t *work, uv_work_cb run, uv_after_work_cb after)
{
    server->works++;
    (void)uv_queue_work(&server->loop, work, run, after);
}

void server_work_done(struct server *server)
{
    server->works--;
}
