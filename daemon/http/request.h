/* Requests by method and path. */
#ifndef DAEMON_HTTP_REQUEST_H
#define DAEMON_HTTP_REQUEST_H

#include "daemon/http/answer.h"

/*
 * Answers a request, whose header is there, or has it wait for the daemon above: then it is asked
 * again. A thread of libmicrohttpd's.
 */
enum MHD_Result http_request(const struct http_call *call, const char *method);

#endif
