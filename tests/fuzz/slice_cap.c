#include "tests/fuzz/slice_cap.h"

#include <stdlib.h>

void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

uint8_t next8(struct cap_bytes *input)
{
    if (input->len == 0) {
        return 0;
    }
    uint8_t value = input->data[0];
    *input = cap_bytes_slice(*input, 1, input->len - 1);
    return value;
}

uint16_t next16(struct cap_bytes *input)
{
    uint16_t low = next8(input);
    return (uint16_t)(low | next8(input) << 8);
}

uint32_t next32(struct cap_bytes *input)
{
    uint32_t low = next16(input);
    return low | (uint32_t)next16(input) << 16;
}

/* --- Caps ------------------------------------------------------------------------------------- */

static void open_parts(struct slice_cap *cap)
{
    struct cap_bytes body = cap_buf_bytes(&cap->body);
    require(cap_slice_body_open(body, &cap->parts) == CAP_OK);
    cap->pages = cap_slice_page_count(cap->parts.subject.size);
}

struct slice_cap slice_cap_data(uint64_t size, const uint32_t *indexes, const uint16_t *lens,
                                size_t count)
{
    struct slice_cap cap = {.pages = 0};
    struct cap_data_builder *builder;
    struct cap_data data;
    uint8_t *content = calloc(count + 1, CAP_PAGE_SIZE);
    struct cap_bytes bytes = {content, count * CAP_PAGE_SIZE};
    struct cap_source source = cap_source_memory(&bytes);
    require(content != NULL);
    require(cap_data_builder_new(size, UINT64_MAX, &builder) == CAP_OK);
    for (size_t i = 0; i < count; i++) {
        uint8_t *page = content + i * CAP_PAGE_SIZE;
        memset(page, (int)(1 + i % 255), lens[i]);
        require(cap_data_builder_add(builder, indexes[i], page, CAP_PAGE_SIZE, i * CAP_PAGE_SIZE) ==
                CAP_OK);
    }
    require(cap_data_builder_finish(builder, &data) == CAP_OK);
    require(cap_buf_append_zeros(&cap.body, (size_t)data.body.len) == CAP_OK);
    require(cap_body_read(&data.body, &source, 0, cap.body.data, cap.body.len) == CAP_OK);
    cap_data_builder_free(builder);
    cap_data_free(&data);
    free(content);
    open_parts(&cap);
    require(cap_data_view_decode(cap.parts.body, cap.parts.body.len, &cap.data) == CAP_OK);
    return cap;
}

struct slice_cap slice_cap_image(const uint8_t *code, size_t len)
{
    struct slice_cap cap = {.pages = 0};
    uint32_t end = 32 + (uint32_t)len;
    const uint32_t offsets[8] = {32, end, end, end, end, end, end + 1, end + 1};
    require(cap_buf_append8(&cap.body, CAP_KIND_IMAGE) == CAP_OK);
    for (size_t i = 0; i < 8; i++) {
        require(cap_buf_append32(&cap.body, offsets[i]) == CAP_OK);
    }
    require(cap_buf_append(&cap.body, code, len) == CAP_OK);
    require(cap_buf_append8(&cap.body, 0) == CAP_OK); /* no yield_receiver_slot */
    open_parts(&cap);
    require(cap_image_view_decode(cap.parts.body, &cap.image) == CAP_OK);
    return cap;
}

void slice_cap_free(struct slice_cap *cap)
{
    cap_slice_body_free(&cap->parts);
    cap_buf_free(&cap->body);
}

static void read_page(const struct slice_cap *cap, uint64_t index, uint8_t page[CAP_PAGE_SIZE])
{
    uint64_t from = index * CAP_PAGE_SIZE;
    require(index < cap->pages);
    memset(page, 0, CAP_PAGE_SIZE);
    if (cap->parts.subject.kind == CAP_KIND_DATA) {
        cap_data_read(&cap->data, cap->parts.body, from, page, CAP_PAGE_SIZE);
        return;
    }
    uint64_t left = cap->image.code.len - from;
    memcpy(page, cap->image.code.data + from, left < CAP_PAGE_SIZE ? (size_t)left : CAP_PAGE_SIZE);
}

size_t slice_ranges(struct cap_bytes *input, size_t most, uint64_t pages, struct cap_range *ranges)
{
    size_t count = pages > 0 ? next8(input) % (most + 1) : 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t first = next8(input);
        if (first == 255) {
            first = next32(input);
        }
        uint64_t wanted = next8(input);
        ranges[i].first = first % pages;
        ranges[i].pages =
            wanted == 255 || wanted > pages - ranges[i].first ? pages - ranges[i].first : wanted;
    }
    return cap_ranges_merge(ranges, count);
}

/* --- Encoding --------------------------------------------------------------------------------- */

enum cap_error slice_encode(struct cap_slice_body *parts, const struct cap_range *ranges,
                            size_t count, size_t more, struct cap_buf *out)
{
    struct cap_slice_encoder *encoder;
    enum cap_error error = cap_slice_encoder_new(&parts->subject, ranges, count, &encoder);
    require(error == CAP_OK);
    for (bool done = false; error == CAP_OK && !done;) {
        struct cap_slice_body here = *parts;
        struct cap_slice_source source = cap_slice_body_source(&here);
        size_t room = CAP_SLICE_ROOM + more;
        size_t len;
        uint8_t *dst = malloc(room);
        require(dst != NULL);
        error = cap_slice_encoder_next(encoder, &source, dst, room, &len, &done);
        if (error == CAP_OK) {
            require(len <= room && cap_buf_append(out, dst, len) == CAP_OK);
        }
        free(dst);
    }
    cap_slice_encoder_free(encoder);
    return error;
}

/* --- Verifying -------------------------------------------------------------------------------- */

struct taken {
    const struct slice_cap *cap;
    const struct cap_range *ranges;
    size_t count;
    size_t range; /* where the next page belongs */
    uint64_t page;
    bool any;
    bool head;
};

/* Pages come in order and, where the ranges are known, as these say. */
static void take_next(struct taken *taken, uint64_t first, uint64_t count)
{
    require(taken->head && count > 0);
    if (taken->any) {
        require(first >= taken->page);
        taken->page = first + count;
        return;
    }
    require(taken->range < taken->count);
    const struct cap_range *range = &taken->ranges[taken->range];
    require(first == range->first + taken->page && count <= range->pages - taken->page);
    taken->page += count;
    if (taken->page == range->pages) {
        taken->range++;
        taken->page = 0;
    }
}

static enum cap_error take_head(void *ctx, const struct cap_slice_head *head)
{
    struct taken *taken = ctx;
    const struct cap_slice_subject *subject = &taken->cap->parts.subject;
    require(!taken->head);
    require(head->kind == subject->kind && head->size == subject->size);
    require((head->view == NULL) == (head->kind == CAP_KIND_DATA));
    taken->head = true;
    return CAP_OK;
}

static enum cap_error take_pages(void *ctx, uint64_t first, size_t count, const uint8_t *bytes)
{
    struct taken *taken = ctx;
    uint8_t page[CAP_PAGE_SIZE];
    take_next(taken, first, count);
    for (size_t i = 0; i < count; i++) {
        read_page(taken->cap, first + i, page);
        require(memcmp(page, bytes + i * CAP_PAGE_SIZE, CAP_PAGE_SIZE) == 0);
    }
    return CAP_OK;
}

static enum cap_error take_zeros(void *ctx, uint64_t first, uint64_t count)
{
    static const uint8_t zeros[CAP_PAGE_SIZE];
    struct taken *taken = ctx;
    uint8_t page[CAP_PAGE_SIZE];
    take_next(taken, first, count);
    for (uint64_t i = 0; i < count && i < 64; i++) {
        read_page(taken->cap, first + i, page);
        require(memcmp(page, zeros, CAP_PAGE_SIZE) == 0);
    }
    return CAP_OK;
}

enum cap_error slice_take(const struct slice_cap *cap, const struct cap_range *ranges, size_t count,
                          bool any, struct cap_bytes slice, size_t piece)
{
    struct taken taken = {.cap = cap, .ranges = ranges, .count = count, .any = any};
    struct cap_slice_sink sink = {
        .head = take_head, .pages = take_pages, .zeros = take_zeros, .ctx = &taken};
    struct cap_slice_verifier *verifier;
    require(cap_slice_verifier_new(&cap->parts.hash, any ? NULL : ranges, count,
                                   CAP_SLICE_STRUCTURE, &sink, &verifier) == CAP_OK);
    enum cap_error error = CAP_OK;
    for (size_t at = 0; error == CAP_OK && at < slice.len;) {
        size_t len = piece < slice.len - at ? piece : slice.len - at;
        uint8_t *exact = malloc(len);
        require(exact != NULL);
        memcpy(exact, slice.data + at, len);
        error = cap_slice_verifier_take(verifier, (struct cap_bytes){exact, len});
        free(exact);
        at += len;
    }
    if (error == CAP_OK) {
        error = cap_slice_verifier_finish(verifier);
    }
    require(error != CAP_OK || (taken.head && (any || taken.range == count)));
    cap_slice_verifier_free(verifier);
    return error;
}
