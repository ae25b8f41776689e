/*
 * A connection over HTTP: capstored with --http, or any cache in front of it.
 *
 * The handle speaks the protocol over one end of a pair of sockets as it does over any connection.
 * The other end belongs to a thread, the translator's, which asks for the same over HTTP through
 * libcurl and answers in frames. So everything above the stream is as always, and what comes is
 * verified by the same code: nothing of HTTP is trusted. translate.h says what becomes of each
 * message, transfer.h of each request over HTTP.
 *
 * The thread lives from client_http_start until the other end of the pair is shut, which any thread
 * may do with shutdown(2), and is joined by client_http_stop.
 */
#ifndef CLIENT_LIB_HTTP_H
#define CLIENT_LIB_HTTP_H

#include <stdint.h>

#include "lib/cap/error.h"

struct client_http;

/*
 * Starts a translator for `base`, an address that client_address_is_http accepts, which is copied,
 * as is `agent`; a server gets `timeout_ms` to accept a connection. Nothing is asked yet. *ret_fd
 * is the handle's end, for the caller to close. CAP_E_NO_MEMORY, also for want of descriptors or
 * threads; CAP_E_NOT_SUPPORTED in a build without HTTP.
 */
enum cap_error client_http_start(const char *base, const char *agent, uint32_t timeout_ms,
                                 struct client_http **ret_http, int *ret_fd);

/*
 * Shuts the handle's end, which is still open, waits for the thread and releases everything but
 * that end. What is under way is given up; no answer is waited for. In another process than the one
 * that started it, after fork(2), it does nothing.
 */
void client_http_stop(struct client_http *http, int fd);

#endif
