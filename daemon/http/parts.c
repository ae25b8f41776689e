#include "daemon/http/parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/param.h>

void http_parts_one(struct http_parts *parts, const struct http_body *body,
                    const struct http_range *range)
{
    parts->body = *body;
    parts->size = range->len;
    parts->count = 1;
    parts->parts[0] = (struct http_part){.range = *range};
}

static void add(struct http_parts *parts, const struct http_part *part)
{
    struct http_part *added = &parts->parts[parts->count++];
    *added = *part;
    added->at = parts->size;
    added->head_len = strlen(added->head);
    parts->size += added->head_len + added->range.len;
}

void http_parts_many(struct http_parts *parts, const struct http_body *body,
                     const struct http_range *ranges, size_t count,
                     const char boundary[HTTP_BOUNDARY_SIZE])
{
    struct http_part part;
    parts->body = *body;
    parts->size = 0;
    parts->count = 0;
    for (size_t i = 0; i < count; i++) {
        part = (struct http_part){.range = ranges[i]};
        snprintf(part.head, sizeof(part.head),
                 "%s--%s\r\nContent-Type: application/octet-stream\r\n"
                 "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n\r\n",
                 i == 0 ? "" : "\r\n", boundary, ranges[i].first,
                 ranges[i].first + ranges[i].len - 1, body->size);
        add(parts, &part);
    }
    part = (struct http_part){.range = {0}};
    snprintf(part.head, sizeof(part.head), "\r\n--%s--\r\n", boundary);
    add(parts, &part);
}

enum cap_error http_parts_read(struct http_parts *parts, uint64_t at, uint8_t *dst, size_t room,
                               size_t *ret_len)
{
    size_t index = parts->count - 1;
    while (parts->parts[index].at > at) {
        index--;
    }
    const struct http_part *part = &parts->parts[index];
    uint64_t skip = at - part->at;
    if (skip < part->head_len) {
        *ret_len = MIN(room, part->head_len - (size_t)skip);
        memcpy(dst, part->head + skip, *ret_len);
        return CAP_OK;
    }
    skip -= part->head_len;
    *ret_len = (size_t)MIN(room, part->range.len - skip);
    return http_body_read(&parts->body, part->range.first + skip, dst, *ret_len);
}
