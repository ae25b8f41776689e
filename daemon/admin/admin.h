/*
 * The admin socket: JSON-RPC 2.0 in lines on a Unix socket (daemon/admin/ADMIN.md).
 *
 * Loop thread only. Bounds: ADMIN_CONNECTIONS_MAX connections; of each, one line of input, one
 * command at a time, and one answer that waits for the socket: while one waits, nothing is read.
 * ADMIN_COMMANDS_MAX commands are in threads at once, the others queue, one per connection. A
 * command may outlive its connection; its answer is then dropped. The numbers are in limits.h.
 */
#ifndef DAEMON_ADMIN_ADMIN_H
#define DAEMON_ADMIN_ADMIN_H

#include "daemon/admin/gauges.h"

struct admin;
struct admin_figures;
struct admin_group;

/*
 * Takes over a bound, listening, nonblocking, close-on-exec Unix socket and serves on the first
 * loop of `rooms`. Members of the group `operators` may operate. On failure the fd stays the
 * caller's, and *ret_admin, unless it is NULL, is to be freed after the loop. CAP_E_NO_MEMORY, also
 * when there are too many threads.
 */
enum cap_error admin_start(const struct admin_rooms *rooms, int listen_fd,
                           const struct admin_group *operators, struct admin **ret_admin);

/* Has members of another group operate, from their next connection on. NULL is fine. Any thread. */
void admin_set_operators(struct admin *admin, const struct admin_group *operators);

/*
 * Closes the listener and every connection and cancels what is under way. Then run the loop until
 * it has nothing left to do, and free. NULL is fine, and so is a second call.
 */
void admin_stop(struct admin *admin);

/* After admin_stop and the loop. NULL is fine. */
void admin_free(struct admin *admin);

/*
 * Closes connections that have been idle, or do not read, for too long, and accepts again after a
 * pause; about ten times a second. NULL is fine.
 */
void admin_tick(struct admin *admin);

/* The present values; all zero for NULL. */
void admin_figures(const struct admin *admin, struct admin_figures *ret_figures);

#endif
