/*
 * Slices: the request, and the verifier as the public sees it.
 *
 * Happy path: SLICE, its reply, a body of which each piece is verified and passed on. Failure
 * modes: the daemon refuses; a piece is wrong, then the request is given up, the message says
 * where, and the connection stays usable.
 */
#include "client/lib/slice.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- the verifier ---- */

struct capstore_slice_verifier {
    struct cap_slice_verifier *inner;
    struct capstore_slice_sink sink;
    struct cap_hash hash;
};

enum cap_error client_slice_image(const struct cap_slice_head *head, const struct cap_hash *hash,
                                  struct capstore_cap **ret_cap)
{
    struct cap_buf copy = {0};
    enum cap_error error = cap_buf_append(&copy, head->structure.data, head->structure.len);
    if (error == CAP_OK) {
        error = client_cap_make(&copy, hash, false, NULL, ret_cap);
    }
    if (error == CAP_OK) {
        (*ret_cap)->verified = true;
    }
    cap_buf_free(&copy);
    return error;
}

static enum cap_error on_head(void *ctx, const struct cap_slice_head *head)
{
    const struct capstore_slice_verifier *verifier = ctx;
    struct capstore_cap *image = NULL;
    if (verifier->sink.head == NULL) {
        return CAP_OK;
    }
    enum cap_error error =
        head->kind == CAP_KIND_IMAGE ? client_slice_image(head, &verifier->hash, &image) : CAP_OK;
    if (error == CAP_OK) {
        const struct capstore_slice_head shown = {client_kind(head->kind), head->size,
                                                  head->page_count, image};
        error = client_inner(verifier->sink.head(verifier->sink.ctx, &shown));
    }
    capstore_cap_free(image);
    return error;
}

static enum cap_error on_pages(void *ctx, uint64_t first, size_t count, const uint8_t *bytes)
{
    const struct capstore_slice_sink *sink = &((struct capstore_slice_verifier *)ctx)->sink;
    return sink->pages == NULL ? CAP_OK : client_inner(sink->pages(sink->ctx, first, count, bytes));
}

static enum cap_error on_zeros(void *ctx, uint64_t first, uint64_t count)
{
    const struct capstore_slice_sink *sink = &((struct capstore_slice_verifier *)ctx)->sink;
    return sink->zeros == NULL ? CAP_OK : client_inner(sink->zeros(sink->ctx, first, count));
}

/* A copy of the caller's ranges in canonical order; *ret_count of them. NULL without memory. */
static struct cap_range *merged(const struct capstore_range *ranges, size_t count,
                                size_t *ret_count)
{
    struct cap_range *copy = calloc(count + 1, sizeof(*copy));
    if (copy == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        copy[i] = (struct cap_range){ranges[i].first, ranges[i].pages};
    }
    *ret_count = cap_ranges_merge(copy, count);
    return copy;
}

enum capstore_error capstore_slice_verifier_new(const struct capstore_hash *hash,
                                                const struct capstore_range *ranges, size_t count,
                                                const struct capstore_slice_sink *sink,
                                                struct capstore_slice_verifier **ret_verifier)
{
    struct cap_range *copy = NULL;
    struct capstore_slice_verifier *verifier = calloc(1, sizeof(*verifier));
    if (verifier == NULL || (ranges != NULL && (copy = merged(ranges, count, &count)) == NULL)) {
        free(verifier);
        return CAPSTORE_E_NO_MEMORY;
    }
    verifier->hash = client_cap_hash(hash);
    if (sink != NULL) {
        verifier->sink = *sink;
    }
    const struct cap_slice_sink inner = {
        .head = on_head, .pages = on_pages, .zeros = on_zeros, .ctx = verifier};
    enum cap_error error = cap_slice_verifier_new(&verifier->hash, copy, copy != NULL ? count : 0,
                                                  CAP_SLICE_STRUCTURE, &inner, &verifier->inner);
    free(copy);
    if (error != CAP_OK) {
        free(verifier);
        return client_public(error);
    }
    *ret_verifier = verifier;
    return CAPSTORE_OK;
}

enum capstore_error capstore_slice_verifier_take(struct capstore_slice_verifier *verifier,
                                                 struct capstore_bytes bytes)
{
    return client_public(cap_slice_verifier_take(verifier->inner, client_cap_bytes(bytes)));
}

enum capstore_error capstore_slice_verifier_finish(struct capstore_slice_verifier *verifier)
{
    return client_public(cap_slice_verifier_finish(verifier->inner));
}

struct capstore_slice_where
capstore_slice_verifier_where(const struct capstore_slice_verifier *verifier)
{
    struct cap_slice_where where = cap_slice_verifier_where(verifier->inner);
    return (struct capstore_slice_where){where.offset, where.level, where.index};
}

void capstore_slice_verifier_free(struct capstore_slice_verifier *verifier)
{
    if (verifier != NULL) {
        cap_slice_verifier_free(verifier->inner);
        free(verifier);
    }
}

/* ---- the request ---- */

/* What takes the bytes of a slice that is arriving. */
struct taking {
    struct cap_slice_verifier *verifier;
    capstore_write_cb *write;
    void *ctx;
};

static enum capstore_error take(void *ctx, struct capstore_bytes piece)
{
    const struct taking *taking = ctx;
    enum cap_error error = cap_slice_verifier_take(taking->verifier, client_cap_bytes(piece));
    if (error != CAP_OK) {
        return client_public(error);
    }
    return taking->write != NULL ? taking->write(taking->ctx, piece) : CAPSTORE_OK;
}

static enum cap_error make_slice(struct capstore *store, const struct cap_hash *hash,
                                 const struct cap_range *ranges, size_t count,
                                 struct capstore_request **ret_request)
{
    uint8_t packed[PROTO_SLICE_RANGES_MAX * PROTO_RANGE_SIZE];
    uint64_t pages = 0;
    for (size_t i = 0; i < count; i++) {
        cap_store64(packed + i * PROTO_RANGE_SIZE, ranges[i].first);
        cap_store64(packed + i * PROTO_RANGE_SIZE + sizeof(uint64_t), ranges[i].pages);
        pages += ranges[i].pages; /* they do not overlap */
    }
    const struct proto_slice message = {*hash, {packed, count * PROTO_RANGE_SIZE}, count};
    struct cap_buf payload = {0};
    enum cap_error encoded = proto_slice_encode(&message, &payload);
    enum cap_error error = client_request_new(store, PROTO_SLICE, encoded, &payload, ret_request);
    if (error == CAP_OK) {
        (*ret_request)->report = true;
        (*ret_request)->len = pages < UINT64_MAX / CAP_PAGE_SIZE ? pages * CAP_PAGE_SIZE : 0;
    }
    return error;
}

bool client_slice_offered(const struct capstore *store)
{
    return (store->features & PROTO_FEATURE_SLICE) != 0;
}

static enum cap_error say_where(struct capstore *store, enum cap_error error,
                                const struct cap_slice_verifier *verifier)
{
    struct cap_slice_where where = cap_slice_verifier_where(verifier);
    if (error == CAP_E_SLICE_MISMATCH) {
        client_forget(store);
        return client_say(store, error,
                          "a hash in the slice does not match: node %" PRIu64
                          " of level %u, before byte %" PRIu64,
                          where.index, where.level, where.offset);
    }
    if (error == CAP_E_SLICE_MALFORMED) {
        client_forget(store);
        return client_say(store, error, "not a canonical slice from byte %" PRIu64 " on",
                          where.offset);
    }
    return error;
}

enum cap_error client_slice(struct capstore *store, const struct cap_hash *hash,
                            const struct cap_range *ranges, size_t count,
                            const struct cap_slice_sink *sink, capstore_write_cb *write, void *ctx)
{
    static const struct cap_range none; /* no ranges are asked for, rather than any */
    struct taking taking = {NULL, write, ctx};
    struct capstore_request *request = NULL;
    if (!client_slice_offered(store)) {
        return client_say(store, CAP_E_UNSUPPORTED_REQUEST,
                          "this daemon makes no slices; it is older than that");
    }
    if (count > PROTO_SLICE_RANGES_MAX) {
        return client_say(store, CAP_E_INVALID_ARGUMENT, "%zu ranges; a slice has at most %u",
                          count, PROTO_SLICE_RANGES_MAX);
    }
    enum cap_error error = cap_slice_verifier_new(hash, ranges != NULL ? ranges : &none, count,
                                                  CAP_SLICE_STRUCTURE, sink, &taking.verifier);
    if (error != CAP_OK) {
        return error;
    }
    error = make_slice(store, hash, ranges, count, &request);
    if (error == CAP_OK) {
        request->write = take;
        request->write_ctx = &taking;
        error = client_run(request);
        client_request_free(request);
    }
    if (error == CAP_OK) {
        error = cap_slice_verifier_finish(taking.verifier);
    }
    error = say_where(store, error, taking.verifier);
    cap_slice_verifier_free(taking.verifier);
    return error;
}

/* ---- the call ---- */

enum capstore_error capstore_slice(struct capstore *store, const struct capstore_hash *hash,
                                   const struct capstore_range *ranges, size_t count,
                                   const struct capstore_slice_sink *sink, capstore_write_cb *write,
                                   void *ctx)
{
    struct capstore_slice_verifier shown = {.hash = client_cap_hash(hash)}; /* for its sink */
    enum cap_error error = client_begin(store);
    if (error != CAP_OK) {
        return client_end(store, error);
    }
    struct cap_range *copy = merged(ranges, count, &count);
    if (copy == NULL) {
        return client_end(store, CAP_E_NO_MEMORY);
    }
    if (sink != NULL) {
        shown.sink = *sink;
    }
    const struct cap_slice_sink inner = {
        .head = on_head, .pages = on_pages, .zeros = on_zeros, .ctx = &shown};
    error = client_slice(store, &shown.hash, copy, count, &inner, write, ctx);
    free(copy);
    return client_end(store, error);
}
