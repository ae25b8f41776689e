/* Caps in memory: made of a served body, verified, read by a runtime. */
#include <capstore/cap.h>

#include <stdlib.h>

#include "client/lib/internal.h"
#include "client/lib/verify.h"

/* Decodes by the selector, without hashing. */
static enum cap_error decode(struct cap_bytes body, struct capstore_cap *cap)
{
    if (body.len == 0) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    if (body.data[0] == CAP_KIND_IMAGE) {
        cap->kind = CAP_KIND_IMAGE;
        return cap_image_view_decode(body, &cap->image);
    }
    if (body.data[0] == CAP_KIND_DATA) {
        cap->kind = CAP_KIND_DATA;
        return cap_data_view_decode(body, body.len, &cap->data);
    }
    return CAP_E_BODY_NOT_CANONICAL;
}

static enum cap_error verify_body(struct cap_bytes body, struct client_verify *begun,
                                  const struct cap_hash *expected, struct cap_hash *ret_hash)
{
    enum cap_kind kind;
    enum cap_error error = begun != NULL ? client_verify_finish(begun, body, &kind, ret_hash)
                                         : cap_body_hash(body, &kind, ret_hash);
    if (error != CAP_OK) {
        return error;
    }
    if (expected != NULL && !cap_hash_equal(ret_hash, expected)) {
        return CAP_E_HASH_MISMATCH;
    }
    return CAP_OK;
}

enum cap_error client_cap_make(struct cap_buf *body, const struct cap_hash *expected, bool verify,
                               struct client_verify *begun, struct capstore_cap **ret_cap)
{
    struct capstore_cap *cap = calloc(1, sizeof(*cap));
    if (cap == NULL) {
        return CAP_E_NO_MEMORY;
    }
    struct cap_hash hash = {{0}};
    enum cap_error error = decode(cap_buf_bytes(body), cap);
    if (error == CAP_OK && verify) {
        error = verify_body(cap_buf_bytes(body), begun, expected, &hash);
    }
    if (error != CAP_OK) {
        free(cap);
        return error;
    }
    cap->hash = client_hash(verify ? &hash : expected);
    cap->verified = verify;
    cap->body = *body; /* the views point into its bytes, which stay where they are */
    *body = (struct cap_buf){0};
    *ret_cap = cap;
    return CAP_OK;
}

enum capstore_error capstore_cap_from_body(struct capstore_bytes body,
                                           const struct capstore_hash *expected,
                                           struct capstore_cap **ret_cap)
{
    struct cap_buf copy = {0};
    enum cap_error error = cap_buf_append(&copy, body.data, body.len);
    if (error == CAP_OK) {
        struct cap_hash hash = {{0}};
        if (expected != NULL) {
            hash = client_cap_hash(expected);
        }
        error = client_cap_make(&copy, expected != NULL ? &hash : NULL, true, NULL, ret_cap);
    }
    cap_buf_free(&copy);
    return client_public(error);
}

void capstore_cap_free(struct capstore_cap *cap)
{
    if (cap == NULL) {
        return;
    }
    cap_buf_free(&cap->body);
    free(cap);
}

enum capstore_kind capstore_cap_kind(const struct capstore_cap *cap)
{
    return client_kind(cap->kind);
}

const struct capstore_hash *capstore_cap_hash(const struct capstore_cap *cap)
{
    return &cap->hash;
}

bool capstore_cap_verified(const struct capstore_cap *cap)
{
    return cap->verified;
}

struct capstore_bytes capstore_cap_body(const struct capstore_cap *cap)
{
    return client_bytes(cap_buf_bytes(&cap->body));
}

uint64_t capstore_data_size(const struct capstore_cap *cap)
{
    return cap->kind == CAP_KIND_DATA ? cap->data.size : 0;
}

uint64_t capstore_data_page_count(const struct capstore_cap *cap)
{
    return cap->kind == CAP_KIND_DATA ? cap->data.page_count : 0;
}

struct capstore_page capstore_data_page(const struct capstore_cap *cap, uint64_t i)
{
    struct cap_page_ref ref = cap_page_ref_at(cap->data.pages, (size_t)i);
    return (struct capstore_page){
        ref.page_index, {cap->body.data + cap->data.arena_start + ref.arena_off, ref.len}};
}

enum capstore_error capstore_data_read(const struct capstore_cap *cap, uint64_t offset, void *dst,
                                       size_t len)
{
    if (cap->kind != CAP_KIND_DATA) {
        return CAPSTORE_E_WRONG_KIND;
    }
    if (offset > cap->data.size || len > cap->data.size - offset) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    cap_data_read(&cap->data, cap_buf_bytes(&cap->body), offset, dst, len);
    return CAPSTORE_OK;
}
