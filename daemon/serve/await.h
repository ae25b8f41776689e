/*
 * Reading through: a request for caps that are not here waits until the fetcher (core/fetcher.h)
 * has brought them, and goes to its room then. Stands in front of the routes of all that read but
 * HAS, which says what is here, in a daemon that has another one above.
 */
#ifndef DAEMON_SERVE_AWAIT_H
#define DAEMON_SERVE_AWAIT_H

#include "daemon/net/session.h"
#include "daemon/serve/serve.h"

/* What stands in front of one route; where it lies it stays. */
struct await {
    struct serve *serve;
    struct route route; /* behind it */
};

/*
 * Puts `await` in front of a route, which it changes. False: messages of that type do not wait, and
 * the route is as before.
 */
bool await_route(struct await *await, struct serve *serve, struct route *route);

#endif
