/*
 * Accepts on one listening socket, for clients and for operators. Loop thread only.
 *
 * Without descriptors or memory accepting pauses until acceptor_tick, since the loop would spin
 * otherwise.
 */
#ifndef DAEMON_NET_ACCEPTOR_H
#define DAEMON_NET_ACCEPTOR_H

#include <stdbool.h>
#include <uv.h>

#include "lib/cap/error.h"

struct acceptor {
    /* The owner's, set before acceptor_open. */
    int fd;                                /* bound, listening, nonblocking; stays the owner's */
    unsigned turn_max;                     /* connections accepted in one turn of the loop */
    void (*accepted)(void *owner, int fd); /* takes the connected fd over */
    void (*paused)(void *owner, enum cap_error error); /* once, until accepting works again */
    void *owner;

    /* The acceptor's own, from here. */
    uv_poll_t poll;
    bool accepting;
    bool told;
    void (*closed)(struct acceptor *acceptor);
};

/* Begins to accept. It stays where it is until it is closed. CAP_E_NO_MEMORY. */
enum cap_error acceptor_open(struct acceptor *acceptor, uv_loop_t *loop);

/* Accepts again after a pause; about ten times a second. */
void acceptor_tick(struct acceptor *acceptor);

/* Stops; `closed` is called when the loop has let go of it. */
void acceptor_close(struct acceptor *acceptor, void (*closed)(struct acceptor *acceptor));

#endif
