/*
 * Reading a cap for HTTP.
 *
 * A Data cap's references to its pages lie in order at the front of its body. The first of a range
 * is found by halving, and reading on goes on where the last read ended.
 */
#include "daemon/http/body.h"

#include <sys/param.h>

#include "daemon/admin/body_reader.h"
#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/slice.h"

#define REFS_TOGETHER 64u

static enum cap_error read_refs(struct cap_read *read, const struct http_body *body, uint64_t first,
                                size_t count, struct cap_page_ref *ret_refs)
{
    uint8_t bytes[REFS_TOGETHER * CAP_PAGE_REF_SIZE];
    enum cap_error error =
        admin_body_copy(read, &body->hash, CAP_DATA_BODY_FIXED + first * CAP_PAGE_REF_SIZE, bytes,
                        count * CAP_PAGE_REF_SIZE);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        ret_refs[i] = cap_page_ref_at((struct cap_bytes){bytes, sizeof(bytes)}, i);
    }
    return error;
}

/* Sets next_ref for the page. */
static enum cap_error seek(struct cap_read *read, struct http_body *body, uint64_t page)
{
    uint64_t low = 0;
    uint64_t high = body->ref_count;
    if (page == body->next_page) {
        return CAP_OK;
    }
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct cap_page_ref ref;
        enum cap_error error = read_refs(read, body, middle, 1, &ref);
        if (error != CAP_OK) {
            return error;
        }
        if (ref.page_index < page) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    body->next_ref = low;
    body->next_page = page;
    return CAP_OK;
}

/* The bytes [from, to) of the content that the page has, into `dst`, which begins at `from`. */
static enum cap_error read_page(struct cap_read *read, const struct http_body *body,
                                const struct cap_page_ref *ref, uint64_t from, uint64_t to,
                                uint8_t *dst)
{
    uint64_t start = (uint64_t)ref->page_index * CAP_PAGE_SIZE;
    uint64_t first = MAX(start, from);
    uint64_t end = MIN(start + ref->len, to);
    uint64_t arena = CAP_DATA_BODY_FIXED + body->ref_count * CAP_PAGE_REF_SIZE;
    if (first >= end) {
        return CAP_OK;
    }
    return admin_body_copy(read, &body->hash, arena + ref->arena_off + (first - start),
                           dst + (first - from), (size_t)(end - first));
}

static enum cap_error read_data(struct cap_read *read, struct http_body *body, uint64_t offset,
                                uint8_t *dst, size_t len)
{
    uint64_t end = offset + len;
    uint64_t pages = cap_slice_page_count(end);
    memset(dst, 0, len);
    enum cap_error error = seek(read, body, offset / CAP_PAGE_SIZE);
    while (error == CAP_OK && body->next_ref < body->ref_count) {
        struct cap_page_ref refs[REFS_TOGETHER];
        size_t count = (size_t)MIN(REFS_TOGETHER, body->ref_count - body->next_ref);
        size_t used = 0;
        error = read_refs(read, body, body->next_ref, count, refs);
        for (; error == CAP_OK && used < count && refs[used].page_index < pages; used++) {
            error = read_page(read, body, &refs[used], offset, end, dst);
        }
        body->next_ref += used;
        if (used < count) {
            break;
        }
    }
    /* The page that `end` lies in may be read once more. */
    body->next_page = error == CAP_OK && end % CAP_PAGE_SIZE == 0 ? pages : UINT64_MAX;
    return error;
}

/* What the figures of the store cannot be if they are to be used here. */
static enum cap_error judge(struct http_body *body)
{
    const struct cap_info *info = &body->info;
    if (body->form == HTTP_FORM_BODY) {
        body->size = info->body_len;
        return CAP_OK;
    }
    body->size = info->size;
    if (info->kind == CAP_KIND_IMAGE) {
        bool fits =
            info->size <= CAP_MAX_CODE_SIZE && info->body_len >= CAP_IMAGE_CODE_AT + info->size;
        return fits ? CAP_OK : CAP_E_CORRUPT;
    }
    body->ref_count = info->page_count;
    /* The size may be near 2^64: no page is past 2^44, and what is behind it is zero. */
    bool fits = info->size % CAP_PAGE_SIZE == 0 && info->page_count <= UINT64_C(1) << 32 &&
                info->body_len >= CAP_DATA_BODY_FIXED + info->page_count * CAP_PAGE_REF_SIZE;
    return fits ? CAP_OK : CAP_E_CORRUPT;
}

enum cap_error http_cap_find(struct cap_store *store, const struct cap_hash *hash,
                             struct cap_info *ret_info)
{
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = cap_store_find(read, hash, ret_info);
        cap_store_read_end(read);
    }
    return error;
}

enum cap_error http_body_find(struct http_body *body, struct cap_store *store,
                              const struct cap_hash *hash, enum http_form form)
{
    *body =
        (struct http_body){.store = store, .hash = *hash, .form = form, .next_page = UINT64_MAX};
    enum cap_error error = http_cap_find(store, hash, &body->info);
    return error == CAP_OK ? judge(body) : error;
}

enum cap_error http_body_read(struct http_body *body, uint64_t offset, uint8_t *dst, size_t len)
{
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(body->store, &read);
    if (error != CAP_OK) {
        return error;
    }
    if (body->form == HTTP_FORM_CONTENT && body->info.kind == CAP_KIND_DATA) {
        error = read_data(read, body, offset, dst, len);
    } else {
        uint64_t front = body->form == HTTP_FORM_CONTENT ? CAP_IMAGE_CODE_AT : 0;
        error = admin_body_copy(read, &body->hash, front + offset, dst, len);
    }
    cap_store_read_end(read);
    return error;
}
