/*
 * Accepting clients on a listening socket. One loop accepts, and hands each connection to the loop
 * that has the fewest: so they are spread evenly, on every kind of socket.
 */
#ifndef DAEMON_NET_ACCEPT_H
#define DAEMON_NET_ACCEPT_H

#include "daemon/net/bind.h"
#include "daemon/net/door.h"

struct listener;

/*
 * Accepts connections of the set of `hub`, on whose loop it does so, on a socket, which it takes
 * over on success, and lets them in by `door`, which outlives it. CAP_E_NO_MEMORY.
 */
enum cap_error listener_start(struct hub *hub, const struct door *door, const struct bound *bound,
                              struct listener **ret_listener);

/* Goes on accepting after descriptors had run out. */
void listener_resume(struct listener *listener);

/*
 * Closes, and frees itself when the loop has let go. Who connects is refused from then on; but the
 * queue of an inherited socket is systemd's and waits for our successor. NULL is fine.
 */
void listener_close(struct listener *listener);

#endif
