/*
 * Many caps in one answer: GET_MANY, its pieces, and GETs where the daemon does not offer it.
 *
 * Happy path. The body of the answer is taken apart as it arrives: heads, and the bytes behind
 * each, which become a cap that is verified and given to the caller as soon as it is complete.
 *
 * Failure modes.
 *   - A cap is not there, is damaged, too long, or not what its hash says: it is given as that
 *     error, and the others are not affected.
 *   - The pieces are not as PROTOCOL.md section 4.18 says: the stream is closed.
 *   - The caller's function returns an error: the request is given up with it.
 */
#include <stdlib.h>

#include "client/lib/conn.h"
#include "client/lib/link.h"

struct client_many {
    capstore_got_cb *got;
    void *ctx;
    size_t count;
    size_t left;             /* hashes whose answer is not complete */
    bool *answered;          /* of each hash */
    bool inside;             /* bytes of the piece at hand are next, rather than a head */
    bool goes_on;            /* the next piece is of the same hash */
    uint32_t rest;           /* bytes of the piece at hand that have not come */
    uint64_t received;       /* bytes of its cap that have come */
    enum cap_error error;    /* why its cap is not kept; the bytes are skipped */
    enum cap_error given_up; /* what the caller's function returned */
    struct proto_piece piece;
    size_t filled; /* bytes of the head that have come */
    uint8_t head[PROTO_PIECE_SIZE];
    struct capstore_hash hashes[];
};

void client_many_free(struct client_many *many)
{
    if (many != NULL) {
        free(many->answered);
        free(many);
    }
}

/* ---- pieces ---- */

/* Gives the caller the outcome for a hash. */
static void give(struct capstore_request *request, enum cap_error error, struct capstore_cap *cap)
{
    struct client_many *many = request->many;
    int64_t began_ns = client_clock_ns();
    many->answered[many->piece.index] = true;
    many->left--;
    many->given_up =
        client_inner(many->got(many->ctx, many->piece.index, client_public(error), cap));
    request->store->caller_ns += client_clock_ns() - began_ns;
}

/* The last piece of a cap is complete. CAP_E_BAD_REPLY. */
static enum cap_error end_cap(struct capstore_request *request)
{
    struct capstore *store = request->store;
    struct client_many *many = request->many;
    struct capstore_cap *cap = NULL;
    enum cap_error error = many->error;
    if (many->piece.code == 0 && many->received != many->piece.body_len) {
        return CAP_E_BAD_REPLY;
    }
    if (error == CAP_OK) {
        struct cap_hash hash = client_cap_hash(&many->hashes[many->piece.index]);
        error = client_cap_make(&request->body, &hash, !store->no_verify, NULL, &cap);
    }
    cap_buf_free(&request->body);
    store->held -= request->held;
    request->held = 0;
    give(request, error, cap);
    return CAP_OK;
}

/* Whether a head can come after the one before. */
static bool is_in_place(const struct client_many *many, const struct proto_piece *piece)
{
    if (piece->index >= many->count || many->answered[piece->index]) {
        return false;
    }
    return !many->goes_on || (piece->index == many->piece.index &&
                              (piece->code != 0 || (piece->kind == many->piece.kind &&
                                                    piece->body_len == many->piece.body_len)));
}

/* Takes a head that is complete. CAP_E_BAD_REPLY. */
static enum cap_error take_head(struct capstore_request *request)
{
    struct client_many *many = request->many;
    struct proto_piece piece;
    if (proto_piece_decode(many->head, &piece) != CAP_OK || !is_in_place(many, &piece)) {
        return CAP_E_BAD_REPLY;
    }
    if (!many->goes_on) {
        many->error = piece.body_len > request->most ? CAP_E_BODY_TOO_LARGE : CAP_OK;
        many->received = 0;
    }
    if (piece.code != 0) {
        many->error = cap_error_from_code(piece.code);
        many->error = many->error == CAP_OK ? CAP_E_INTERNAL : many->error; /* of a later daemon */
    }
    many->filled = 0;
    many->inside = true;
    many->piece = piece;
    many->rest = piece.len;
    many->goes_on = piece.more != 0;
    return CAP_OK;
}

/* Keeps bytes of the cap at hand, or notes why it is not kept. */
static void keep(struct capstore_request *request, struct cap_bytes bytes)
{
    struct capstore *store = request->store;
    struct client_many *many = request->many;
    if (bytes.len > store->max_bodies - store->held) {
        many->error = CAP_E_MEMORY_LIMIT;
    } else {
        many->error = cap_buf_append(&request->body, bytes.data, bytes.len);
    }
    if (many->error == CAP_OK) {
        store->held += bytes.len;
        request->held += bytes.len;
    }
}

/* Takes bytes of the piece at hand. CAP_E_BAD_REPLY. */
static enum cap_error take_bytes(struct capstore_request *request, struct cap_bytes bytes)
{
    struct client_many *many = request->many;
    if (bytes.len > many->piece.body_len - many->received) {
        return CAP_E_BAD_REPLY;
    }
    many->rest -= (uint32_t)bytes.len;
    many->received += bytes.len;
    if (many->received <= request->store->max_bodies) {
        client_moved(request->store, bytes.len); /* not for ever, of what is only skipped */
    }
    if (many->error == CAP_OK) {
        keep(request, bytes);
    }
    return CAP_OK;
}

/* Takes bytes from the front of the input: of a head, or behind it. CAP_E_BAD_REPLY. */
static enum cap_error take_some(struct capstore_request *request, struct cap_bytes *input)
{
    struct client_many *many = request->many;
    size_t want = many->inside ? many->rest : sizeof(many->head) - many->filled;
    size_t len = want < input->len ? want : input->len;
    struct cap_bytes front = {input->data, len};
    input->data += len;
    input->len -= len;
    if (!many->inside) {
        memcpy(many->head + many->filled, front.data, len);
        many->filled += len;
        if (len < want) {
            return CAP_OK;
        }
        enum cap_error error = take_head(request);
        if (error != CAP_OK || many->rest > 0) {
            return error;
        }
    } else {
        enum cap_error error = take_bytes(request, front);
        if (error != CAP_OK) {
            return error;
        }
    }
    if (many->rest > 0) {
        return CAP_OK;
    }
    many->inside = false;
    return many->goes_on ? CAP_OK : end_cap(request);
}

enum cap_error client_many_take(struct capstore_request *request, struct cap_bytes bytes, bool end,
                                enum cap_error *ret_given_up)
{
    struct client_many *many = request->many;
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && many->given_up == CAP_OK && bytes.len > 0) {
        error = take_some(request, &bytes);
    }
    *ret_given_up = many->given_up;
    bool whole = many->left == 0 && many->filled == 0 && !many->inside;
    return end && many->given_up == CAP_OK && !whole ? CAP_E_BAD_REPLY : error;
}

enum cap_error client_many_reply(struct capstore_request *request, struct cap_bytes payload)
{
    struct proto_get_many_reply reply;
    if (proto_get_many_reply_decode(payload, &reply) != CAP_OK ||
        (request != NULL && reply.count != request->many->count)) {
        return CAP_E_BAD_REPLY;
    }
    return CAP_OK;
}

/* ---- requests ---- */

bool client_many_offered(const struct capstore *store)
{
    return (store->features & PROTO_FEATURE_GET_MANY) != 0;
}

static enum cap_error make(struct capstore *store, const struct capstore_hash *hashes, size_t count,
                           capstore_got_cb *got, void *ctx, struct capstore_request **ret_request)
{
    struct proto_get_many message = {{count > 0 ? hashes->bytes : NULL, count * CAP_HASH_SIZE},
                                     count};
    struct cap_buf payload = {0};
    struct client_many *many = calloc(1, sizeof(*many) + count * sizeof(*hashes));
    bool *answered = calloc(count + 1, sizeof(*answered));
    if (many == NULL || answered == NULL) {
        free(many);
        free(answered);
        return CAP_E_NO_MEMORY;
    }
    many->got = got;
    many->ctx = ctx;
    many->count = many->left = count;
    many->answered = answered;
    if (count > 0) {
        memcpy(many->hashes, hashes, count * sizeof(*hashes));
    }
    enum cap_error encoded = proto_get_many_encode(&message, &payload);
    enum cap_error error =
        client_request_new(store, PROTO_GET_MANY, encoded, &payload, ret_request);
    if (error != CAP_OK) {
        client_many_free(many);
        return error;
    }
    (*ret_request)->many = many;
    return CAP_OK;
}

enum capstore_error capstore_async_get_many(struct capstore *store,
                                            const struct capstore_hash *hashes, size_t count,
                                            capstore_got_cb *got, capstore_done_cb *done, void *ctx,
                                            struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (done == NULL || got == NULL) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    if (!capstore_connected(store)) {
        return CAPSTORE_E_CONNECTION_LOST;
    }
    if (!client_many_offered(store)) {
        return CAPSTORE_E_UNSUPPORTED_REQUEST;
    }
    if (count > client_most_hashes(store)) {
        return CAPSTORE_E_TOO_MANY_HASHES;
    }
    enum cap_error error = make(store, hashes, count, got, ctx, &request);
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

/* ---- a GET for each ---- */

/* Errors of one cap; others end the call. */
static bool is_of_cap(enum capstore_error error)
{
    switch ((int)error) {
    case CAPSTORE_OK:
    case CAPSTORE_E_NOT_FOUND:
    case CAPSTORE_E_QUARANTINED:
    case CAPSTORE_E_FORBIDDEN_CAP:
    case CAPSTORE_E_CORRUPT:
    case CAPSTORE_E_IO:
    case CAPSTORE_E_BODY_TOO_LARGE:
    case CAPSTORE_E_HASH_MISMATCH:
    case CAPSTORE_E_BODY_NOT_CANONICAL:
    case CAPSTORE_E_MEMORY_LIMIT:
        return true;
    default:
        return false;
    }
}

/* One after the other: several at a time would share what options.max_bodies allows for each. */
static enum cap_error get_each(struct capstore *store, const struct capstore_hash *hashes,
                               size_t count, capstore_got_cb *got, void *ctx)
{
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        struct capstore_cap *cap = NULL;
        enum capstore_error outcome = capstore_get(store, &hashes[i], &cap);
        if (!is_of_cap(outcome)) {
            return client_inner(outcome);
        }
        client_forget(store);
        int64_t began_ns = client_clock_ns();
        error = client_inner(got(ctx, i, outcome, cap));
        store->caller_ns += client_clock_ns() - began_ns;
    }
    return error;
}

/* ---- blocking ---- */

/* What shifts the indexes of one part of the hashes. */
struct part {
    capstore_got_cb *got;
    void *ctx;
    size_t first;
};

static enum capstore_error on_part(void *ctx, size_t index, enum capstore_error error,
                                   struct capstore_cap *cap)
{
    const struct part *part = (const struct part *)ctx;
    return part->got(part->ctx, part->first + index, error, cap);
}

/* One request of at most the daemon's limit. */
static enum cap_error get_part(struct capstore *store, const struct capstore_hash *hashes,
                               size_t count, struct part *part)
{
    struct capstore_request *request = NULL;
    enum cap_error error = make(store, hashes, count, on_part, part, &request);
    if (error == CAP_OK) {
        error = client_run(request);
        client_request_free(request);
    }
    return error;
}

enum capstore_error capstore_get_many(struct capstore *store, const struct capstore_hash *hashes,
                                      size_t count, capstore_got_cb *got, void *ctx)
{
    enum cap_error error = client_begin(store);
    if (error == CAP_OK && !client_many_offered(store)) {
        return client_end(store, get_each(store, hashes, count, got, ctx));
    }
    for (size_t done = 0; error == CAP_OK && done < count;) {
        struct part part = {got, ctx, done};
        size_t most = client_most_hashes(store);
        size_t some = count - done < most ? count - done : most;
        error = get_part(store, hashes + done, some, &part);
        if (error == CAP_OK && done + some < count) {
            error = client_begin(store); /* a callback of another request may have closed it */
        }
        done += some;
    }
    return client_end(store, error);
}
