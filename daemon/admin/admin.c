/*
 * The life of the admin socket, and its connections as they come: a peer over the limit is told so
 * and closed before anything is allocated for it.
 */
#include "daemon/admin/admin.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/admin/connection.h"
#include "daemon/admin/limits.h"

#define ACCEPTS_TURN 8 /* half of all connections */

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

/* Whether there is room for one more, whom the last places are kept from who only observes. */
static bool has_room(struct admin *admin, int fd)
{
    struct peer peer;
    enum admin_level level = ADMIN_OBSERVE;
    bool complete;
    uint64_t count = admin->figures.connections;
    if (count < ADMIN_CONNECTIONS_MAX - ADMIN_CONNECTIONS_KEPT || count >= ADMIN_CONNECTIONS_MAX) {
        return count < ADMIN_CONNECTIONS_MAX;
    }
    const struct admin_group operators = admin->operators;
    return peer_of(fd, 128, &peer) == CAP_OK &&
           admin_level_read(fd, &peer, &operators, &level, &complete) == CAP_OK &&
           level > ADMIN_OBSERVE;
}

static enum cap_error adopt(struct admin *admin, int fd)
{
    if (!has_room(admin, fd)) {
        refuse(fd, CAP_E_TOO_MANY_CONNECTIONS);
        return CAP_E_TOO_MANY_CONNECTIONS;
    }
    return admin_connection_open(admin, fd);
}

static void on_accepted(void *owner, int fd)
{
    struct admin *admin = owner;
    enum cap_error error = adopt(admin, fd);
    if (error != CAP_OK) {
        log_event(&admin->rooms.context->log, LOG_LEVEL_WARNING, log_name("admin_refused"),
                  log_error(error));
    }
}

static void on_paused(void *owner, enum cap_error error)
{
    struct admin *admin = owner;
    context_fault(admin->rooms.context, error,
                  "too few file descriptors or too little memory to accept an operator");
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
    admin->acceptor = (struct acceptor){
        .fd = listen_fd,
        .turn_max = ACCEPTS_TURN,
        .accepted = on_accepted,
        .paused = on_paused,
        .owner = admin,
    };
    admin->operators = *operators;
    LIST_INIT(&admin->connections);
    struct shard *shard = rooms->hubs->hubs[0]->shard;
    admin->figures.connections_limit = ADMIN_CONNECTIONS_MAX;
    /* jansson seeds its tables on first use; that must not happen in two threads. */
    json_object_seed(0);
    enum cap_error error = admin_commands_open(&admin->commands, rooms->context->env, shard);
    if (error != CAP_OK) {
        free(admin);
        return error;
    }
    error = acceptor_open(&admin->acceptor, &shard->loop);
    if (error != CAP_OK) {
        admin->stopped = true;
        admin_commands_close(&admin->commands);
    } else {
        admin_events_open(admin);
    }
    *ret_admin = admin;
    return error;
}

static void on_listener_closed(struct acceptor *acceptor)
{
    close(acceptor->fd);
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL || admin->stopped) {
        return;
    }
    admin->stopped = true;
    acceptor_close(&admin->acceptor, on_listener_closed);
    while (!LIST_EMPTY(&admin->connections)) {
        admin_connection_close(LIST_FIRST(&admin->connections));
    }
    admin_events_close(admin);
    admin_commands_close(&admin->commands);
}

void admin_set_operators(struct admin *admin, const struct admin_group *operators)
{
    if (admin != NULL) {
        admin->operators = *operators;
    }
}

void admin_tick(struct admin *admin)
{
    if (admin != NULL && !admin->stopped) {
        acceptor_tick(&admin->acceptor);
        admin_connections_tick(admin);
    }
}

void admin_free(struct admin *admin)
{
    if (admin != NULL) {
        admin_commands_free(&admin->commands);
        free(admin);
    }
}

void admin_figures(const struct admin *admin, struct admin_figures *ret_figures)
{
    *ret_figures = admin != NULL ? admin->figures : (struct admin_figures){0};
}
