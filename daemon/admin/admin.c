/*
 * The listener and the jobs of the admin socket.
 *
 * Accepting uses the descriptor directly, so that a peer over the limit can be told so and closed
 * before anything is allocated for it. When the process has no descriptors left, accepting rests
 * for a moment instead of turning the loop in vain.
 */
#include "daemon/admin/admin.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/admin/connection.h"

#define ACCEPTS_PER_TURN 8
#define BACKOFF_MS       100

/* --- Jobs ------------------------------------------------------------------------------------- */

void admin_job_free(struct admin_job *job)
{
    jsonrpc_request_free(&job->request);
    admin_call_free(&job->call);
    cap_buf_free(&job->line);
    free(job);
}

static void start_jobs(struct admin *admin);

/* On a worker: touches the job's request, call and answer only. */
static void on_work(uv_work_t *work)
{
    admin_job_run(work->data);
}

static void on_work_done(uv_work_t *work, int status)
{
    struct admin_job *job = work->data;
    struct admin *admin = job->admin;
    job->running = false;
    admin->running--;
    if (status != 0 && !job->call.error.reason) {
        admin_error_cap(&job->call.error, CAP_E_CANCELLED);
    }
    admin_connection_finish(job);
    start_jobs(admin);
}

static void start_jobs(struct admin *admin)
{
    while (admin->jobs && admin->running < ADMIN_JOBS_MAX) {
        struct admin_job *job = admin->jobs;
        admin->jobs = job->next;
        job->next = NULL;
        job->work.data = job;
        if (uv_queue_work(&admin->rooms.shard->loop, &job->work, on_work, on_work_done) != 0) {
            admin_error_cap(&job->call.error, CAP_E_NO_MEMORY);
            admin_connection_finish(job);
            continue;
        }
        job->running = true;
        admin->running++;
    }
}

void admin_job_submit(struct admin_job *job)
{
    struct admin_job **at = &job->admin->jobs;
    while (*at) {
        at = &(*at)->next;
    }
    *at = job;
    start_jobs(job->admin);
}

void admin_job_abandon(struct admin_job *job)
{
    job->connection = NULL;
    if (job->running) {
        (void)uv_cancel((uv_req_t *)&job->work);
        return;
    }
    struct admin_job **at = &job->admin->jobs;
    while (*at && *at != job) {
        at = &(*at)->next;
    }
    if (!*at) {
        return;
    }
    *at = job->next;
    admin_job_free(job);
}

/* --- Accepting -------------------------------------------------------------------------------- */

/* The answer fits any socket's buffer; whether it arrives is up to the peer. */
static void refuse(int fd, enum cap_error reason)
{
    struct admin_error error;
    struct cap_buf line = {0};
    admin_error_cap(&error, reason);
    if (jsonrpc_reply(NULL, NULL, &error, &line) == CAP_OK) {
        (void)!send(fd, line.data, line.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    cap_buf_free(&line);
    close(fd);
}

enum cap_error admin_adopt(struct admin *admin, int fd)
{
    if (admin->figures.connections >= ADMIN_CONNECTIONS_MAX) {
        refuse(fd, CAP_E_TOO_MANY_CONNECTIONS);
        return CAP_E_TOO_MANY_CONNECTIONS;
    }
    return admin_connection_open(admin, fd);
}

static void on_connectable(uv_poll_t *poll, int status, int events);

static void on_backoff(uv_timer_t *timer)
{
    struct admin *admin = timer->data;
    if (!admin->stopped) {
        uv_poll_start(&admin->listener, UV_READABLE, on_connectable);
    }
}

static void on_connectable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct admin *admin = poll->data;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(admin->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            enum cap_error error = admin_adopt(admin, fd);
            if (error != CAP_OK) {
                log_event(&admin->rooms.context->log, LOG_LEVEL_WARNING, log_name("admin_refused"),
                          log_error(error));
            }
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) {
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            uv_poll_stop(&admin->listener);
            uv_timer_start(&admin->backoff, on_backoff, BACKOFF_MS, 0);
        }
        return;
    }
}

/* --- Life ------------------------------------------------------------------------------------- */

enum cap_error admin_start(const struct admin_rooms *rooms, int listen_fd,
                           const struct admin_group *operators, struct admin **ret_admin)
{
    struct admin *admin = calloc(1, sizeof *admin);
    if (!admin) {
        return CAP_E_NO_MEMORY;
    }
    admin->rooms = *rooms;
    admin->listen_fd = listen_fd;
    admin->operators = *operators;
    admin->figures.connections_limit = ADMIN_CONNECTIONS_MAX;
    /* jansson seeds its tables on first use; do it before workers are there. */
    json_object_seed(0);
    if (uv_poll_init(&rooms->shard->loop, &admin->listener, listen_fd) != 0) {
        free(admin);
        return CAP_E_IO;
    }
    uv_timer_init(&rooms->shard->loop, &admin->backoff);
    admin->listener.data = admin;
    admin->backoff.data = admin;
    uv_poll_start(&admin->listener, UV_READABLE, on_connectable);
    *ret_admin = admin;
    return CAP_OK;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct admin *admin = handle->data;
    close(admin->listen_fd);
    admin->listen_fd = -1;
}

void admin_stop(struct admin *admin)
{
    if (!admin || admin->stopped) {
        return;
    }
    admin->stopped = true;
    uv_close((uv_handle_t *)&admin->listener, on_listener_closed);
    uv_close((uv_handle_t *)&admin->backoff, NULL);
    while (admin->connections) {
        admin_connection_close(admin->connections);
    }
}

void admin_free(struct admin *admin)
{
    free(admin);
}

void admin_figures(const struct admin *admin, struct admin_figures *ret_figures)
{
    *ret_figures = admin ? admin->figures : (struct admin_figures){0};
}
