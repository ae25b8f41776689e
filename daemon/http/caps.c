/*
 * Bytes of a cap.
 *
 * Happy path: the cap is found, a stream is made of what is asked for, and libmicrohttpd takes a
 * block of it whenever the client has taken the last.
 *
 * Failure modes: what cannot be served has its status and name; a cap that goes or breaks while it
 * is sent ends the connection, before the length that was announced.
 */
#include "daemon/http/caps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/core/container.h"
#include "daemon/http/parts.h"

struct parts_stream {
    struct http_stream stream;
    struct http_parts parts;
};

static enum cap_error read_parts(struct http_stream *stream, uint64_t at, uint8_t *dst, size_t room,
                                 size_t *ret_len)
{
    struct parts_stream *parts = CONTAINER_OF(stream, struct parts_stream, stream);
    return http_parts_read(&parts->parts, at, dst, room, ret_len);
}

static void free_parts(struct http_stream *stream)
{
    free(CONTAINER_OF(stream, struct parts_stream, stream));
}

static bool was_deleted(struct cap_store *store, const struct cap_hash *hash)
{
    struct cap_read *read = NULL;
    struct cap_removed removed;
    if (cap_store_read_begin(store, &read) != CAP_OK) {
        return false;
    }
    enum cap_error error = cap_store_removed(read, hash, &removed);
    cap_store_read_end(read);
    return error == CAP_OK && removed.cause == CAP_GONE_DELETED;
}

enum MHD_Result http_caps_unserved(const struct http_call *call, const struct cap_hash *hash,
                                   enum cap_error error)
{
    struct cap_store *store = call->http->context->store;
    char message[REFUSAL_MESSAGE_SIZE];
    if (error == CAP_E_FORBIDDEN_CAP) {
        context_say_forbidden(store, hash, message, sizeof(message));
        return http_answer_error(call, error, message);
    }
    if (error == CAP_E_NOT_FOUND && was_deleted(store, hash)) {
        return http_answer_refusal(call, MHD_HTTP_GONE, error, "the cap was deleted");
    }
    return http_answer_error(call, error, NULL);
}

/* 32 hex digits that nobody can guess. */
static enum cap_error draw_boundary(const struct env *env, char ret_boundary[HTTP_BOUNDARY_SIZE])
{
    uint8_t bytes[(HTTP_BOUNDARY_SIZE - 1) / 2];
    enum cap_error error = env->random(env->ctx, bytes, sizeof(bytes));
    cap_hex_format((struct cap_bytes){bytes, sizeof(bytes)}, ret_boundary);
    return error;
}

/* The ranges that hold of what the client has a part of already (If-Range). */
static const char *range_asked(const struct http_call *call, const struct cap_hash *hash)
{
    const char *range = http_header_of(call, MHD_HTTP_HEADER_RANGE);
    const char *only_if = http_header_of(call, MHD_HTTP_HEADER_IF_RANGE);
    char tag[HTTP_TAG_SIZE];
    http_tag_format(hash, tag);
    /* A weak tag does not do, nor a time: a part of other bytes would be worse than all of these.
     */
    return only_if == NULL || strcmp(only_if, tag) == 0 ? range : NULL;
}

/* One range, which may be all, or several. NULL: there is no memory. */
static struct MHD_Response *respond(const struct http_call *call, const struct http_body *body,
                                    const struct http_range *ranges, size_t count)
{
    char boundary[HTTP_BOUNDARY_SIZE];
    char type[sizeof("multipart/byteranges; boundary=") + HTTP_BOUNDARY_SIZE];
    struct parts_stream *stream = malloc(sizeof(*stream));
    if (stream == NULL ||
        (count > 1 && draw_boundary(call->http->context->env, boundary) != CAP_OK)) {
        free(stream);
        return NULL;
    }
    stream->stream = (struct http_stream){.read = read_parts, .free = free_parts};
    if (count > 1) {
        http_parts_many(&stream->parts, body, ranges, count, boundary);
        snprintf(type, sizeof(type), "multipart/byteranges; boundary=%s", boundary);
    } else {
        http_parts_one(&stream->parts, body, ranges);
        snprintf(type, sizeof(type), "application/octet-stream");
    }
    struct MHD_Response *response = http_response_stream(call, &stream->stream, stream->parts.size);
    http_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    return response;
}

/* The size there is, beside the range that is sent; NULL: none of it. */
static void say_range(struct MHD_Response *response, const struct http_range *range, uint64_t size)
{
    char text[80];
    if (range == NULL) {
        snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
    } else {
        snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, range->first,
                 range->first + range->len - 1, size);
    }
    http_header(response, MHD_HTTP_HEADER_CONTENT_RANGE, text);
}

enum MHD_Result http_caps_bytes(const struct http_call *call, const struct cap_hash *hash,
                                enum http_form form)
{
    struct http_body body;
    struct http_range ranges[HTTP_RANGES_MAX];
    size_t count = 0;
    struct MHD_Response *response = NULL;
    unsigned status = MHD_HTTP_PARTIAL_CONTENT;
    enum http_cache cache = HTTP_CACHE_FOREVER;
    enum cap_error error = http_body_find(&body, call->http->context->store, hash, form);
    if (error != CAP_OK) {
        return http_caps_unserved(call, hash, error);
    }
    const struct http_range whole = {0, body.size};
    if (http_is_known(call, hash)) {
        /* Of this nothing is sent but its length, which must be that of the cap. */
        response = respond(call, &body, &whole, 1);
        http_headers(response, cache, hash);
        return http_send(call, MHD_HTTP_NOT_MODIFIED, response, HTTP_BLOCK);
    }
    switch (http_ranges_read(range_asked(call, hash), body.size, ranges, &count)) {
    case HTTP_RANGES_WHOLE:
        status = MHD_HTTP_OK;
        response = respond(call, &body, &whole, 1);
        break;
    case HTTP_RANGES_SOME:
        response = respond(call, &body, ranges, count);
        if (response != NULL && count == 1) {
            say_range(response, &ranges[0], body.size);
        }
        break;
    case HTTP_RANGES_NONE:
        status = MHD_HTTP_RANGE_NOT_SATISFIABLE;
        cache = HTTP_CACHE_NEVER;
        response = http_response_empty();
        say_range(response, NULL, body.size);
        break;
    }
    http_header(response, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
    http_headers(response, cache, status == MHD_HTTP_RANGE_NOT_SATISFIABLE ? NULL : hash);
    return http_send(call, status, response, HTTP_BLOCK);
}
