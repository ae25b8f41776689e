/*
 * The admin socket: JSON-RPC 2.0 in lines on a Unix socket (daemon/admin/ADMIN.md).
 *
 * Loop thread only. Bounds: ADMIN_CONNECTIONS_MAX connections; of each, one line of input, one
 * command at a time, and one answer that waits for the socket: while one waits, nothing is read.
 * ADMIN_JOBS_MAX commands are on workers at once, the others queue, one per connection. A command
 * may outlive its connection; its answer is then dropped.
 */
#ifndef DAEMON_ADMIN_ADMIN_H
#define DAEMON_ADMIN_ADMIN_H

#include "daemon/admin/gauges.h"

#define ADMIN_CONNECTIONS_MAX 16u
#define ADMIN_JOBS_MAX        2u
#define ADMIN_TURN_MAX        16u /* commands of one connection in one turn of the loop */

struct admin;
struct admin_figures;
struct admin_group;

/*
 * Takes over a bound, listening, nonblocking, close-on-exec Unix socket and serves on the loop of
 * `rooms`. Members of the group `operators` may operate. On failure the fd stays the caller's.
 * CAP_E_NO_MEMORY, CAP_E_IO.
 */
enum cap_error admin_start(const struct admin_rooms *rooms, int listen_fd,
                           const struct admin_group *operators, struct admin **ret_admin);

/*
 * Closes the listener and every connection and cancels what is under way. Then run the loop until
 * it has nothing left to do, and free. NULL is fine, and so is a second call.
 */
void admin_stop(struct admin *admin);

/* After admin_stop and the loop. NULL is fine. */
void admin_free(struct admin *admin);

/*
 * Serves a connected Unix socket, as if it had been accepted; the fd is taken over in every case.
 * CAP_E_TOO_MANY_CONNECTIONS (told to the peer), CAP_E_IO, CAP_E_NO_MEMORY.
 */
enum cap_error admin_adopt(struct admin *admin, int fd);

/* The present values; all zero for NULL. */
void admin_figures(const struct admin *admin, struct admin_figures *ret_figures);

#endif
