/*
 * HTTP: caps for everything that speaks HTTP/1.1, read-only; metrics and health beside them.
 *
 * What the bytes of HTTP need (parsing, keep-alive, chunks) is libmicrohttpd's; who may connect,
 * for how long and how slowly is ours. Connections are accepted on the main loop and counted in the
 * ledger like all others, then belong to one of a few threads, each a daemon of libmicrohttpd.
 * These threads read the store by themselves: a snapshot is taken for one block and ended before
 * the block is sent, so a client that does not read holds its block and nothing else. A cold page
 * keeps the clients of its thread waiting, and no loop.
 *
 * Main thread only.
 */
#ifndef DAEMON_HTTP_HTTP_H
#define DAEMON_HTTP_HTTP_H

#include "daemon/admin/gauges.h"
#include "daemon/net/bind.h"

struct admin_figures;
struct http;

/* Whether this build has it. Without, http_start is CAP_E_NOT_SUPPORTED, and a NULL does nothing.
 */
bool http_is_built(void);

/*
 * Serves on `count` (not 0) sockets, which it takes over on success. `rooms` is copied; what it
 * refers to outlives all of this. *ret_http, unless it is NULL, is to be stopped and freed after a
 * failure, too. CAP_E_NO_MEMORY, also when there are too many threads.
 */
enum cap_error http_start(const struct admin_rooms *rooms, const struct bound *bounds, size_t count,
                          struct http **ret_http);

/*
 * Looks at every connection's clock, accepts again after a pause, and takes the figures of the
 * admin socket for its metrics; about ten times a second. NULL is fine, as at all that follow.
 */
void http_tick(struct http *http, const struct admin_figures *admin);

/* Accepts nobody any more, closes idle connections, and the others after their answer. */
void http_drain(struct http *http);

/* Closes every connection and ends the threads. Then run the loop, and free. */
void http_stop(struct http *http);
void http_free(struct http *http);

#endif
