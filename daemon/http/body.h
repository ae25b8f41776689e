/*
 * The bytes of a cap that answers are made of: its served body, or its content (a Data cap's
 * logical bytes, an Image's code). Each read has a snapshot of its own. One thread at a time.
 */
#ifndef DAEMON_HTTP_BODY_H
#define DAEMON_HTTP_BODY_H

#include "lib/store/store.h"

enum http_form {
    HTTP_FORM_BODY,
    HTTP_FORM_CONTENT,
};

struct http_body {
    struct cap_store *store;
    struct cap_hash hash;
    struct cap_info info;
    enum http_form form;
    uint64_t size; /* bytes that there are */

    /* Of a Data cap's content: where its pages are looked up. */
    uint64_t ref_count;
    uint64_t next_ref; /* the first reference to a page at or after: */
    uint64_t next_page;
};

/* As cap_store_find, in a snapshot of its own. */
enum cap_error http_cap_find(struct cap_store *store, const struct cap_hash *hash,
                             struct cap_info *ret_info);

/*
 * Finds a cap. CAP_E_NOT_FOUND, CAP_E_FORBIDDEN_CAP, CAP_E_QUARANTINED, CAP_E_CORRUPT, or as the
 * store fails. Nothing is to be released.
 */
enum cap_error http_body_find(struct http_body *body, struct cap_store *store,
                              const struct cap_hash *hash, enum http_form form);

/*
 * Copies bytes [offset, offset + len), which lie within `size`. Reads as much of the store as that,
 * and of a Data cap the references to those pages. Errors as http_body_find.
 */
enum cap_error http_body_read(struct http_body *body, uint64_t offset, uint8_t *dst, size_t len);

#endif
