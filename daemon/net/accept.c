/*
 * Accepting.
 *
 * Happy path: a connection is accepted, its peer asked from the kernel and counted, a session made.
 *
 * Failure modes.
 *   - Over a limit of connections: the client is told (ERROR, id 0) as far as its socket takes it
 *     at once, and closed.
 *   - No descriptors are left: accepting pauses until the next tick, or it would spin.
 */
#include "daemon/net/accept.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/core/oserror.h"
#include "daemon/net/session.h"
#include "proto/message.h"

#define ACCEPTS_TURN 32

struct listener {
    struct hub *hub;
    struct bound bound;
    int fd; /* that of `bound`, which may have been released */
    uv_poll_t poll;
    bool accepting;
    bool starved; /* of descriptors or memory, and said so */
};

/* Tells a client that it cannot stay, as far as its socket takes it at once. */
static void turn_away(struct hub *hub, int fd, const struct peer *peer, enum cap_error error)
{
    const char *name = cap_error_name(error);
    const char *text = cap_error_text(error);
    struct output output = {0};
    struct cap_buf payload = {0};
    uint64_t sent = 0;
    uint8_t rest[256];
    const struct proto_error m = {
        .code = (uint16_t)-error,
        .name = {(const uint8_t *)name, strlen(name)},
        .message = {(const uint8_t *)text, strlen(text)},
    };
    hub->shard->stats.connections_refused++;
    shard_refused(hub->shard, 0, peer, "connection", error, text);
    if (proto_error_encode(&m, &payload) == CAP_OK &&
        output_message(&output, PROTO_ERROR, 0, cap_buf_bytes(&payload)) == CAP_OK) {
        (void)output_pump(&output, fd, UINT64_MAX, &sent);
    }
    (void)shutdown(fd, SHUT_WR);
    /* What has come already would turn the close into a reset. */
    (void)recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
    close(fd);
    cap_buf_free(&payload);
    output_free(&output);
}

static void admit(struct hub *hub, int fd)
{
    struct peer peer;
    struct ledger_peer *account = NULL;
    int on = 1;
    const struct config *config = &hub->shard->context->config;
    if (peer_of(fd, (unsigned)config->peer_prefix6, &peer) != CAP_OK) {
        close(fd);
        return;
    }
    if (!peer.local) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    enum cap_error error = ledger_connect(hub->shard->context->ledger, peer.key, &account);
    if (error == CAP_OK) {
        error = session_new(hub, fd, &peer, account);
        if (error != CAP_OK) {
            ledger_disconnect(hub->shard->context->ledger, account);
        }
    }
    if (error != CAP_OK) {
        turn_away(hub, fd, &peer, error);
    }
}

/* Accepting rests until the next tick; said once until it works again. */
static void pause_accepting(struct listener *listener)
{
    if (!listener->starved) {
        context_fault(listener->hub->shard->context, error_of_errno(errno),
                      "no descriptors or memory are left to accept a connection");
    }
    listener->starved = true;
    listener->accepting = false;
    (void)uv_poll_stop(&listener->poll);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_TURN; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            listener->starved = false;
            admit(listener->hub, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener);
        }
        return;
    }
}

enum cap_error listener_start(struct hub *hub, const struct bound *bound,
                              struct listener **ret_listener)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (uv_poll_init(&hub->shard->loop, &listener->poll, bound->fd) != 0) {
        free(listener);
        return CAP_E_NO_MEMORY;
    }
    listener->hub = hub;
    listener->bound = *bound;
    listener->fd = bound->fd;
    listener->poll.data = listener;
    listener_resume(listener);
    *ret_listener = listener;
    return CAP_OK;
}

void listener_resume(struct listener *listener)
{
    if (!listener->accepting) {
        listener->accepting = true;
        (void)uv_poll_start(&listener->poll, UV_READABLE, on_connection);
    }
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void listener_close(struct listener *listener)
{
    if (listener == NULL) {
        return;
    }
    int fd = listener->fd;
    uv_close((uv_handle_t *)&listener->poll, on_closed);
    bound_release(&listener->bound, true);
    close(fd);
}
