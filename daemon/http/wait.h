/*
 * Reading through: a request for a cap that is not here waits until the fetcher (core/fetcher.h)
 * has brought it. Meanwhile libmicrohttpd has its connection suspended, and serves others.
 *
 * A wait ends once: by the fetcher, on any thread, or by http_wait_end, and then its connection is
 * resumed and the request is answered as if it came now. All waits end before libmicrohttpd's
 * threads do, since the fetcher ends its orders first.
 */
#ifndef DAEMON_HTTP_WAIT_H
#define DAEMON_HTTP_WAIT_H

#include "daemon/core/fetcher.h"

#define HTTP_WAIT_CAPS 16u /* that are ordered at a time, 512 bytes of a connection */

struct MHD_Connection;

/* One for each connection; it stays where it is. */
struct http_wait {
    struct fetcher *fetcher;
    struct MHD_Connection *connection;
    struct cap_hash hashes[HTTP_WAIT_CAPS];
    size_t count;
    bool lost; /* these are not what is asked for, but what it refers to (serve/lack.h) */
    struct fetch_order order;
};

/*
 * Suspends a connection, from within its handler, and orders wait->hashes, wait->count of them, for
 * the peer of that number.
 * From the return on the wait may be over, and order.error says how.
 */
void http_wait_begin(struct http_wait *wait, struct fetcher *fetcher,
                     struct MHD_Connection *connection, uint64_t peer);

/*
 * Ends it with an error, unless it is over: CAP_E_UPSTREAM_AWAY after `upstream-timeout`,
 * CAP_E_CANCELLED, its client is gone. Not beside http_wait_begin.
 */
void http_wait_end(struct http_wait *wait, enum cap_error error);

#endif
