/* /closures/HASH: a cap with all that it refers to, in one stream. A thread of libmicrohttpd's. */
#ifndef DAEMON_HTTP_CLOSURE_H
#define DAEMON_HTTP_CLOSURE_H

#include "daemon/http/answer.h"

/*
 * Answers with the entries of a CLOSURE_REPLY (PROTOCOL.md section 4.24), without those in the
 * argument `have` and with `list` without bodies. A closure that is too large ends without the last
 * chunk, as a lost connection does: who asks again with what it has by then gets the rest.
 */
enum MHD_Result http_closure(const struct http_call *call, const struct cap_hash *hash);

#endif
