/*
 * The listener of the admin socket, and its life.
 *
 * Accepting uses the descriptor directly, so that a peer over the limit can be told so and closed
 * before anything is allocated for it. When the process has no descriptors left, accepting pauses
 * for a moment instead of spinning.
 */
#include "daemon/admin/admin.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/admin/connection.h"
#include "daemon/admin/limits.h"

#define ACCEPTS_PER_TURN 8
#define BACKOFF_MS       100

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

static enum cap_error adopt(struct admin *admin, int fd)
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
            enum cap_error error = adopt(admin, fd);
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
    struct admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL) {
        return CAP_E_NO_MEMORY;
    }
    admin->rooms = *rooms;
    admin->listen_fd = listen_fd;
    admin->operators = *operators;
    LIST_INIT(&admin->connections);
    admin_jobs_init(&admin->jobs, &rooms->shard->loop);
    admin->figures.connections_limit = ADMIN_CONNECTIONS_MAX;
    /* jansson seeds its tables on first use; that must not happen in two threads. */
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
    if (admin == NULL || admin->stopped) {
        return;
    }
    admin->stopped = true;
    uv_close((uv_handle_t *)&admin->listener, on_listener_closed);
    uv_close((uv_handle_t *)&admin->backoff, NULL);
    while (!LIST_EMPTY(&admin->connections)) {
        admin_connection_close(LIST_FIRST(&admin->connections));
    }
}

void admin_tick(struct admin *admin)
{
    if (admin != NULL) {
        admin_connections_tick(admin);
    }
}

void admin_free(struct admin *admin)
{
    free(admin);
}

void admin_figures(const struct admin *admin, struct admin_figures *ret_figures)
{
    *ret_figures = admin != NULL ? admin->figures : (struct admin_figures){0};
}
