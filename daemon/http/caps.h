/* What is served of one cap. A thread of libmicrohttpd's. */
#ifndef DAEMON_HTTP_CAPS_H
#define DAEMON_HTTP_CAPS_H

#include "daemon/http/answer.h"
#include "daemon/http/body.h"

/* /caps/HASH and /caps/HASH/content: bytes, whole or in ranges. */
enum MHD_Result http_caps_bytes(const struct http_call *call, const struct cap_hash *hash,
                                enum http_form form);

/* Why a cap is not served: not_found, forbidden_cap, quarantined, or as the store fails. */
enum MHD_Result http_caps_unserved(const struct http_call *call, const struct cap_hash *hash,
                                   enum cap_error error);

#endif
