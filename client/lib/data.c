/* Data caps of raw bytes: what is known to be a hole is not read. */
#include <capstore/publish.h>

#include <stdlib.h>

#include "client/lib/internal.h"

#define STEP ((size_t)1 << 20)

_Static_assert(STEP % CAPSTORE_PAGE_SIZE == 0, "steps begin at pages");

/* Where content goes on at or after `offset` < its length; the length when it does not. */
static uint64_t next_data(const struct capstore_source *content, uint64_t offset)
{
    uint64_t next = content->next_data != NULL ? content->next_data(content->ctx, offset) : offset;
    if (next < offset) {
        return offset;
    }
    return next < content->len ? next : content->len;
}

bool client_mostly_holes(const struct capstore_source *content)
{
    uint64_t holes = 0;
    for (uint64_t at = 0; content->next_data != NULL && at < content->len;) {
        uint64_t next = next_data(content, at);
        holes += next - at;
        at = next > UINT64_MAX - STEP ? UINT64_MAX : next + STEP;
    }
    return holes > content->len / 2;
}

/* Adds the pages of bytes that stand at logical address `at`. */
static enum cap_error add_pages(struct cap_data_builder *builder, const uint8_t *bytes, size_t len,
                                uint64_t at)
{
    for (size_t done = 0; done < len; done += CAP_PAGE_SIZE) {
        size_t page_len = len - done < CAP_PAGE_SIZE ? len - done : CAP_PAGE_SIZE;
        enum cap_error error = cap_data_builder_add(builder, (at + done) / CAP_PAGE_SIZE,
                                                    bytes + done, page_len, at + done);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

static enum cap_error add_content(struct cap_data_builder *builder,
                                  const struct capstore_source *content)
{
    uint8_t *step = malloc(STEP);
    enum cap_error error = step != NULL ? CAP_OK : CAP_E_NO_MEMORY;
    uint64_t at = 0;
    while (error == CAP_OK && at < content->len) {
        uint64_t next = next_data(content, at);
        if (next == content->len) {
            break;
        }
        at = next / CAP_PAGE_SIZE * CAP_PAGE_SIZE; /* `at` begins a page: it never goes back */
        size_t len = content->len - at < STEP ? (size_t)(content->len - at) : STEP;
        error = client_inner(content->read(content->ctx, at, step, len));
        if (error == CAP_OK) {
            error = add_pages(builder, step, len, at);
        }
        at += len;
    }
    free(step);
    return error;
}

enum cap_error client_data_make(const struct capstore_source *content, uint64_t size,
                                struct cap_data *ret_data)
{
    struct cap_data_builder *builder;
    uint64_t wanted = size > content->len ? size : content->len;
    if (wanted > UINT64_MAX - (CAP_PAGE_SIZE - 1)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    wanted = (wanted + CAP_PAGE_SIZE - 1) / CAP_PAGE_SIZE * CAP_PAGE_SIZE;
    enum cap_error error = cap_data_builder_new(wanted, UINT64_MAX, &builder);
    if (error != CAP_OK) {
        return error;
    }
    error = add_content(builder, content);
    if (error == CAP_OK) {
        error = cap_data_builder_finish(builder, ret_data);
    }
    cap_data_builder_free(builder);
    return error;
}

enum capstore_error capstore_data_hash(const struct capstore_source *content, uint64_t size,
                                       struct capstore_data_id *ret_id)
{
    struct cap_data data;
    enum cap_error error = client_data_make(content, size, &data);
    if (error != CAP_OK) {
        return client_public(error);
    }
    *ret_id = (struct capstore_data_id){client_hash(&data.hash), data.size, data.body.len};
    cap_data_free(&data);
    return CAPSTORE_OK;
}
