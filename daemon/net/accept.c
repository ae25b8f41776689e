/*
 * Connections of clients.
 *
 * Happy path: a connection is accepted, its peer learned from the kernel and counted, and let in by
 * the door of the listener, on the loop that has the fewest.
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

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/net/acceptor.h"
#include "lib/cap/must.h"

#define ACCEPTS_TURN 32 /* a burst of new connections must not hold up those that are there */

struct listener {
    struct hub *hub;
    const struct door *door;
    struct bound bound; /* its path is released before its descriptor */
    struct acceptor acceptor;
};

/* A connection on its way to its loop. */
struct arrival {
    struct letter letter;
    struct hub *hub;
    const struct door *door;
    int fd;
    struct peer peer;
    struct ledger_peer *account;
};

static void turn_away(struct hub *hub, const struct door *door, int fd, const struct peer *peer,
                      enum cap_error error)
{
    struct shard *shard = hub->shard;
    uint8_t rest[256];
    shard->stats.connections_refused++;
    shard_refused(shard, 0, peer, "connection", error, cap_error_text(error), NULL);
    door->turn_away(fd, error);
    (void)shutdown(fd, SHUT_WR);
    /* What has come already would turn the close into a reset. */
    (void)recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
    close(fd);
}

/* On the hub's loop. The peer has been counted. */
static void let_in(struct hub *hub, const struct door *door, int fd, const struct peer *peer,
                   struct ledger_peer *account)
{
    enum cap_error error = door->open(hub, fd, peer, account);
    if (error != CAP_OK) {
        ledger_disconnect(hub->shard->context->ledger, account);
        turn_away(hub, door, fd, peer, error);
    }
}

static void on_arrival(struct letter *letter)
{
    struct arrival *arrival = CONTAINER_OF(letter, struct arrival, letter);
    struct hub *hub = arrival->hub;
    let_in(hub, arrival->door, arrival->fd, &arrival->peer, arrival->account);
    hub->arriving--;
    free(arrival);
}

/* Hands a connection to the loop of another hub. CAP_E_NO_MEMORY: it stays the caller's. */
static enum cap_error send_on(struct hub *hub, const struct door *door, int fd,
                              const struct peer *peer, struct ledger_peer *account)
{
    struct arrival *arrival = malloc(sizeof(*arrival));
    if (arrival == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *arrival = (struct arrival){
        .letter = {.run = on_arrival},
        .hub = hub,
        .door = door,
        .fd = fd,
        .peer = *peer,
        .account = account,
    };
    hub->arriving++;
    bool posted = mailbox_post(&hub->shard->mailbox, &arrival->letter);
    must(posted); /* loops end after the listeners have closed */
    return CAP_OK;
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
    struct ledger *ledger = hub->shard->context->ledger;
    enum cap_error error = ledger_connect(ledger, peer.key, &account);
    if (error != CAP_OK) {
        turn_away(hub, listener->door, fd, &peer, error);
        return;
    }
    struct hub *least = hub_least(hub);
    if (least == hub) {
        let_in(hub, listener->door, fd, &peer, account);
    } else if (send_on(least, listener->door, fd, &peer, account) != CAP_OK) {
        ledger_disconnect(ledger, account);
        turn_away(hub, listener->door, fd, &peer, CAP_E_NO_MEMORY);
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
