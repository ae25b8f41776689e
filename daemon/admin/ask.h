/*
 * What only the other loops know: asked of them by letter, from a thread that may wait.
 *
 * A loop that is stuck does not answer; what it last published stands for it. A caller waits
 * for ADMIN_ASK_MS at most.
 */
#ifndef DAEMON_ADMIN_ASK_H
#define DAEMON_ADMIN_ASK_H

#include "daemon/admin/gauges.h"

#define ADMIN_ASK_MS 1000u /* ten times the tick: past it a loop is in trouble */

struct admin_ask;

/* A page of the clients of one loop. */
struct admin_clients {
    size_t count;
    bool more; /* with higher numbers */
    struct client clients[];
};

/*
 * Has every loop but the first publish its stats, and find up to `max` clients with a number above
 * `after`. NULL: no memory. On a thread that runs none of the loops.
 */
struct admin_ask *admin_ask(const struct admin_rooms *rooms, uint64_t after, size_t max);

/* Whether a loop answered in time, by its place; the first did. */
bool admin_ask_answered(const struct admin_ask *ask, size_t loop);

/* The clients of a loop other than the first that answered. Valid until admin_ask_free. */
const struct admin_clients *admin_ask_clients(const struct admin_ask *ask, size_t loop);

/* NULL is fine. What comes later is dropped. */
void admin_ask_free(struct admin_ask *ask);

/* Room for `max` clients. NULL: no memory. Release with free. */
struct admin_clients *admin_clients_new(size_t max);

#endif
