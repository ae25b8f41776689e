/* A body as a sequence of segments: kept short by extending the last one, read by binary search. */
#include "lib/cap/body.h"

#include <stdlib.h>

#include "lib/cap/must.h"

/* Room for one more segment, after the last one; NULL when there is no memory for it. */
static struct cap_segment *reserve_segment(struct cap_body *body)
{
    if (body->segment_count == body->segment_capacity) {
        size_t capacity = body->segment_capacity > 0 ? 2 * body->segment_capacity : 8;
        if (capacity > SIZE_MAX / sizeof(struct cap_segment)) {
            return NULL;
        }
        struct cap_segment *segments = realloc(body->segments, capacity * sizeof(*segments));
        if (segments == NULL) {
            return NULL;
        }
        body->segments = segments;
        body->segment_capacity = capacity;
    }
    return body->segments + body->segment_count;
}

/* Adds `len` bytes at the end: to the segment before `next`, or as `next`. */
static void extend(struct cap_body *body, struct cap_segment *next, uint64_t offset, uint64_t len,
                   bool from_source)
{
    struct cap_segment *last = body->segment_count > 0 ? next - 1 : NULL;
    if (last != NULL && last->from_source == from_source && last->offset + last->len == offset) {
        last->len += len;
    } else {
        *next = (struct cap_segment){body->len, len, offset, from_source};
        body->segment_count++;
    }
    body->len += len;
}

enum cap_error cap_body_append(struct cap_body *body, struct cap_bytes bytes)
{
    if (bytes.len == 0) {
        return CAP_OK;
    }
    struct cap_segment *next = reserve_segment(body);
    if (next == NULL) {
        return CAP_E_NO_MEMORY;
    }
    size_t offset = body->memory.len;
    enum cap_error error = cap_buf_append(&body->memory, bytes.data, bytes.len);
    if (error != CAP_OK) {
        return error;
    }
    extend(body, next, offset, bytes.len, false);
    return CAP_OK;
}

enum cap_error cap_body_append_source(struct cap_body *body, uint64_t offset, uint64_t len)
{
    if (len == 0) {
        return CAP_OK;
    }
    struct cap_segment *next = reserve_segment(body);
    if (next == NULL) {
        return CAP_E_NO_MEMORY;
    }
    extend(body, next, offset, len, true);
    return CAP_OK;
}

/* The segment that holds byte `offset` of a body that is longer. */
static size_t find_segment(const struct cap_body *body, uint64_t offset)
{
    size_t low = 0;
    size_t high = body->segment_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (body->segments[middle].at <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum cap_error read_segment(const struct cap_body *body, const struct cap_source *source,
                                   const struct cap_segment *segment, uint64_t skip,
                                   struct cap_buf *out)
{
    size_t wanted = out->capacity - out->len;
    uint64_t there = segment->len - skip;
    expect(skip < segment->len);
    size_t len = there < wanted ? (size_t)there : wanted;
    uint8_t *to = out->data + out->len;
    out->len += len;
    uint64_t offset = segment->offset + skip;
    if (!segment->from_source) {
        memcpy(to, body->memory.data + offset, len);
    } else if (source->memory != NULL) {
        memcpy(to, source->memory + offset, len);
    } else {
        return source->read(source->ctx, offset, to, len);
    }
    return CAP_OK;
}

enum cap_error cap_body_read(const struct cap_body *body, const struct cap_source *source,
                             uint64_t offset, void *dst, size_t len)
{
    struct cap_buf out = {dst, 0, len};
    if (len == 0) {
        return CAP_OK;
    }
    for (size_t i = find_segment(body, offset); out.len < len; i++) {
        const struct cap_segment *segment = &body->segments[i];
        uint64_t skip = offset + out.len - segment->at;
        enum cap_error error = read_segment(body, source, segment, skip, &out);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

void cap_body_free(struct cap_body *body)
{
    if (body == NULL) {
        return;
    }
    free(body->segments);
    cap_buf_free(&body->memory);
    *body = (struct cap_body){0};
}
