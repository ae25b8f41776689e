/*
 * What an answer sends of a cap: all of it, one range, or several as multipart/byteranges (RFC 9110
 * section 14.6). One thread at a time.
 */
#ifndef DAEMON_HTTP_PARTS_H
#define DAEMON_HTTP_PARTS_H

#include "daemon/http/body.h"
#include "daemon/http/ranges.h"

#define HTTP_BOUNDARY_SIZE 33 /* 32 hex digits and a NUL */
#define HTTP_PART_HEAD_MAX 192

/* A range and what goes before it. */
struct http_part {
    uint64_t at; /* in the answer, of its head */
    size_t head_len;
    char head[HTTP_PART_HEAD_MAX];
    struct http_range range;
};

struct http_parts {
    struct http_body body;
    uint64_t size; /* of the answer */
    size_t count;
    struct http_part parts[HTTP_RANGES_MAX + 1]; /* of several the last is their end */
};

/* One range of a cap, which may be all of it. */
void http_parts_one(struct http_parts *parts, const struct http_body *body,
                    const struct http_range *range);

/*
 * Several, between boundaries. Nobody who publishes may be able to guess the boundary: it would end
 * a part early.
 */
void http_parts_many(struct http_parts *parts, const struct http_body *body,
                     const struct http_range *ranges, size_t count,
                     const char boundary[HTTP_BOUNDARY_SIZE]);

/* Copies up to `room` (not 0) bytes of the answer from `at` < size on. Errors as http_body_read. */
enum cap_error http_parts_read(struct http_parts *parts, uint64_t at, uint8_t *dst, size_t room,
                               size_t *ret_len);

#endif
