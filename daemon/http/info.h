/* What a cap is, beside its bytes. A thread of libmicrohttpd's. */
#ifndef DAEMON_HTTP_INFO_H
#define DAEMON_HTTP_INFO_H

#include <jansson.h>

#include "daemon/admin/page.h"
#include "daemon/http/answer.h"

/* Entries of each list of an Image, or runs of pages of a Data cap, in one answer. */
#define HTTP_LIST_MAX 1000u

/* The part of the lists that the argument `offset` asks for; false: it does not hold a number. */
bool http_info_page(const struct http_call *call, struct admin_page *ret_page);

/*
 * Lays a cap out as cap.explain does, with `size`; without its lists where an Image's structure is
 * too large to be laid out. The caller owns *ret_object. Errors as http_body_find.
 */
enum cap_error http_info_read(struct cap_store *store, const struct cap_hash *hash,
                              const struct admin_page *page, json_t **ret_object);

/* /caps/HASH/info: of that what follows from the hash alone, and so holds for ever, as JSON. */
enum MHD_Result http_info(const struct http_call *call, const struct cap_hash *hash);

#endif
