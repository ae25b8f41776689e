/*
 * Slices over HTTP.
 *
 * Happy path: the encoder makes a piece from a snapshot that ends before the piece is sent, and the
 * piece goes out as libmicrohttpd takes it, in chunks, since nobody knows how long the whole will
 * be.
 *
 * Failure modes: a cap that goes or breaks meanwhile ends the connection without the last chunk.
 */
#include "daemon/http/slice.h"

#include <stdlib.h>
#include <sys/param.h>

#include "daemon/admin/body_reader.h"
#include "daemon/core/container.h"
#include "daemon/http/caps.h"
#include "daemon/http/ranges.h"
#include "daemon/serve/slice_source.h"
#include "lib/cap/slice_encode.h"
#include "proto/message.h"

/* Ranges of pages in one request. */
#define RANGES_MAX PROTO_SLICE_RANGES_MAX

struct slice_stream {
    struct http_stream stream;
    struct cap_store *store;
    struct cap_hash hash;
    struct cap_slice_encoder *encoder;
    bool done; /* the encoder has given everything */
    size_t len;
    size_t sent; /* of these */
    uint8_t piece[CAP_SLICE_ROOM];
};

/* --- The store as a source ------------------------------------------------------------------ */

static enum cap_error read_body(void *ctx, uint64_t offset, size_t len, uint8_t *dst)
{
    const struct slice_snapshot *snapshot = ctx;
    return admin_body_copy(snapshot->read, snapshot->hash, offset, dst, len);
}

/* --- The stream ----------------------------------------------------------------------------- */

/* Makes the next piece, which may be empty: a step is bounded, and ends without one if need be. */
static enum cap_error make_piece(struct slice_stream *slice)
{
    struct slice_snapshot snapshot = {NULL, &slice->hash};
    enum cap_error error = cap_store_read_begin(slice->store, &snapshot.read);
    if (error != CAP_OK) {
        return error;
    }
    const struct cap_slice_source parts = {read_body, slice_roots, slice_nodes, &snapshot};
    slice->sent = 0;
    slice->len = 0;
    error = cap_slice_encoder_next(slice->encoder, &parts, slice->piece, sizeof(slice->piece),
                                   &slice->len, &slice->done);
    cap_store_read_end(snapshot.read);
    return error;
}

static enum cap_error read_slice(struct http_stream *stream, uint64_t at, uint8_t *dst, size_t room,
                                 size_t *ret_len)
{
    struct slice_stream *slice = CONTAINER_OF(stream, struct slice_stream, stream);
    enum cap_error error = CAP_OK;
    (void)at;
    while (error == CAP_OK && slice->sent == slice->len && !slice->done) {
        error = make_piece(slice);
    }
    *ret_len = MIN(room, slice->len - slice->sent);
    memcpy(dst, slice->piece + slice->sent, *ret_len);
    slice->sent += *ret_len;
    return error;
}

static void free_slice(struct http_stream *stream)
{
    struct slice_stream *slice = CONTAINER_OF(stream, struct slice_stream, stream);
    cap_slice_encoder_free(slice->encoder);
    free(slice);
}

/* --- The request ---------------------------------------------------------------------------- */

/* Reads "N" or "N-M", with both ends in. Returns where it ends, NULL when it is neither. */
static const char *read_range(const char *at, struct cap_range *ret_range)
{
    uint64_t first = 0;
    const char *end = http_number_read(at, &first);
    uint64_t last = first;
    if (end != NULL && *end == '-') {
        end = http_number_read(end + 1, &last);
    }
    if (end == NULL || last < first || last == UINT64_MAX) {
        return NULL;
    }
    *ret_range = (struct cap_range){first, last - first + 1};
    return end;
}

/* Reads "0-15,100": *ret_count ranges, canonical; of "" none. False: it is not that, or of more
 * than RANGES_MAX. */
static bool read_pages(const char *text, struct cap_range ret_ranges[RANGES_MAX], size_t *ret_count)
{
    size_t count = 0;
    bool more = *text != '\0';
    for (const char *at = text; more; at++) {
        at = count < RANGES_MAX ? read_range(at, &ret_ranges[count]) : NULL;
        if (at == NULL || (*at != ',' && *at != '\0')) {
            return false;
        }
        count++;
        more = *at == ',';
    }
    *ret_count = cap_ranges_merge(ret_ranges, count);
    return true;
}

/* NULL: there is no memory. The encoder is taken over in any case. */
static struct MHD_Response *respond(const struct http_call *call, const struct cap_hash *hash,
                                    struct cap_slice_encoder *encoder)
{
    struct slice_stream *slice = malloc(sizeof(*slice));
    if (slice == NULL) {
        cap_slice_encoder_free(encoder);
        return NULL;
    }
    slice->stream = (struct http_stream){.read = read_slice, .free = free_slice};
    slice->store = call->http->context->store;
    slice->hash = *hash;
    slice->encoder = encoder;
    slice->done = false;
    slice->len = slice->sent = 0;
    struct MHD_Response *response = http_response_stream(call, &slice->stream, UINT64_MAX);
    http_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    http_headers(response, HTTP_CACHE_FOREVER, hash);
    return response;
}

enum MHD_Result http_slice(const struct http_call *call, const struct cap_hash *hash)
{
    struct cap_range ranges[RANGES_MAX];
    size_t count = 0;
    struct cap_info info;
    struct cap_slice_encoder *encoder = NULL;
    const char *pages = http_argument_of(call, "pages");
    if (pages == NULL || !read_pages(pages, ranges, &count)) {
        return http_answer_refusal(call, MHD_HTTP_BAD_REQUEST, CAP_E_INVALID_ARGUMENT,
                                   "say which pages: ?pages=0-15,100 (at most 256 ranges), or "
                                   "?pages= for the head alone");
    }
    enum cap_error error = http_cap_find(call->http->context->store, hash, &info);
    if (error != CAP_OK) {
        return http_caps_unserved(call, hash, error);
    }
    const struct cap_slice_subject subject = slice_subject(&info);
    error = cap_slice_encoder_new(&subject, ranges, count, &encoder);
    if (error != CAP_OK) {
        return http_answer_error(call, error, NULL);
    }
    unsigned status = http_is_known(call, hash) ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK;
    return http_send(call, status, respond(call, hash, encoder),
                     sizeof(struct slice_stream) + CAP_SLICE_ENCODER_SIZE);
}
