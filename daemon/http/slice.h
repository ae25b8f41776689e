/* /caps/HASH/slice?pages=...: some pages of a cap with their proof. A thread of libmicrohttpd's. */
#ifndef DAEMON_HTTP_SLICE_H
#define DAEMON_HTTP_SLICE_H

#include "daemon/http/answer.h"
#include "lib/cap/slice.h"

/* Ranges of pages in one request, as in SLICE. */
#define HTTP_PAGES_MAX 256u

/*
 * Reads "0-15,100": page numbers, and ranges of them with both ends in. "" asks for none.
 * *ret_count ranges, canonical. CAP_E_INVALID_ARGUMENT, CAP_E_RANGE_OUT_OF_BODY for numbers past 64
 * bits, CAP_E_TOO_MANY_HASHES for more than HTTP_PAGES_MAX. Pure.
 */
enum cap_error http_pages_read(const char *text, struct cap_range ret_ranges[HTTP_PAGES_MAX],
                               size_t *ret_count);

/* Answers with the slice, for the argument `pages` of the query. */
enum MHD_Result http_slice(const struct http_call *call, const struct cap_hash *hash);

#endif
