/* /caps/HASH/slice?pages=...: some pages of a cap with their proof. A thread of libmicrohttpd's. */
#ifndef DAEMON_HTTP_SLICE_H
#define DAEMON_HTTP_SLICE_H

#include "daemon/http/answer.h"

/* Answers with the slice, for the argument `pages` of the query. */
enum MHD_Result http_slice(const struct http_call *call, const struct cap_hash *hash);

#endif
