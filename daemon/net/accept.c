/*
 * Connections of clients.
 *
 * Happy path: a connection is accepted, its peer learned from the kernel and counted, and let in by
 * the door of the listener.
 *
 * Failure mode: over a limit of connections the client is told as far as its socket
 * takes it at once, and closed.
 */
#include "daemon/net/accept.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/net/acceptor.h"

#define ACCEPTS_TURN 32 /* a burst of new connections must not hold up those that are there */

struct listener {
    struct hub *hub;
    const struct door *door;
    struct bound bound; /* its path is released before its descriptor */
    struct acceptor acceptor;
};

static void turn_away(const struct listener *listener, int fd, const struct peer *peer,
                      enum cap_error error)
{
    struct shard *shard = listener->hub->shard;
    uint8_t rest[256];
    shard->stats.connections_refused++;
    shard_refused(shard, 0, peer, "connection", error, cap_error_text(error));
    listener->door->turn_away(fd, error);
    (void)shutdown(fd, SHUT_WR);
    /* What has come already would turn the close into a reset. */
    (void)recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
    close(fd);
}

static void admit(void *owner, int fd)
{
    struct listener *listener = owner;
    struct hub *hub = listener->hub;
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
        error = listener->door->open(hub, fd, &peer, account);
        if (error != CAP_OK) {
            ledger_disconnect(hub->shard->context->ledger, account);
        }
    }
    if (error != CAP_OK) {
        turn_away(listener, fd, &peer, error);
    }
}

static void on_paused(void *owner, enum cap_error error)
{
    struct listener *listener = owner;
    context_fault(listener->hub->shard->context, error,
                  "too few file descriptors or too little memory to accept a connection");
}

enum cap_error listener_start(struct hub *hub, const struct door *door, const struct bound *bound,
                              struct listener **ret_listener)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *listener = (struct listener){
        .hub = hub,
        .door = door,
        .bound = *bound,
        .acceptor =
            {
                .fd = bound->fd,
                .turn_max = ACCEPTS_TURN,
                .accepted = admit,
                .paused = on_paused,
                .owner = listener,
            },
    };
    enum cap_error error = acceptor_open(&listener->acceptor, &hub->shard->loop);
    if (error != CAP_OK) {
        free(listener);
        return error;
    }
    *ret_listener = listener;
    return CAP_OK;
}

void listener_resume(struct listener *listener)
{
    acceptor_tick(&listener->acceptor);
}

static void on_closed(struct acceptor *acceptor)
{
    free(acceptor->owner);
}

void listener_close(struct listener *listener)
{
    if (listener == NULL) {
        return;
    }
    acceptor_close(&listener->acceptor, on_closed);
    bound_release(&listener->bound);
}
