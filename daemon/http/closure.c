/*
 * Closures over HTTP.
 *
 * Happy path: the walk gives the next cap in a snapshot of its own, its head is sent, then its body
 * in blocks. A cap that goes between the two ends the connection, for its head has promised it.
 */
#include "daemon/http/closure.h"

#include <stdlib.h>
#include <sys/param.h>

#include "daemon/core/container.h"
#include "daemon/http/body.h"
#include "daemon/http/caps.h"
#include "daemon/serve/walk.h"

#define STEP_BUDGET 4096u /* records and references that one look goes through: milliseconds */

struct closure_stream {
    struct http_stream stream;
    struct cap_store *store;
    struct walk *walk;
    bool bodies;
    bool done;
    enum cap_error failed;          /* told when what came before it has been sent */
    uint8_t head[PROTO_ENTRY_SIZE]; /* of the entry at hand */
    size_t head_sent;
    uint64_t body_sent;
    struct http_body body; /* its size is 0 where none follows */
};

/* Looks for the next cap, and sets the entry at hand. */
static enum cap_error next_entry(struct closure_stream *closure)
{
    enum walk_step step = WALK_MORE;
    struct walk_cap cap;
    while (step == WALK_MORE) {
        struct cap_read *read = NULL;
        size_t budget = STEP_BUDGET;
        enum cap_error error = cap_store_read_begin(closure->store, &read);
        if (error == CAP_OK) {
            error = walk_next(closure->walk, read, &budget, &step, &cap);
            cap_store_read_end(read);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    if (step == WALK_END) {
        closure->done = true;
        return CAP_OK;
    }
    const struct proto_entry entry = walk_entry(&cap);
    proto_entry_encode(&entry, closure->head);
    closure->head_sent = 0;
    closure->body_sent = 0;
    closure->body = (struct http_body){
        .store = closure->store,
        .hash = cap.hash,
        .info = cap.info,
        .form = HTTP_FORM_BODY,
        .size = closure->bodies ? entry.body_len : 0,
    };
    return CAP_OK;
}

/* Adds what there is of the entry at hand. */
static enum cap_error send_some(struct closure_stream *closure, uint8_t *dst, size_t room,
                                size_t *len)
{
    size_t head = MIN(room - *len, sizeof(closure->head) - closure->head_sent);
    memcpy(dst + *len, closure->head + closure->head_sent, head);
    closure->head_sent += head;
    *len += head;
    size_t some = (size_t)MIN(room - *len, closure->body.size - closure->body_sent);
    if (some == 0) {
        return CAP_OK;
    }
    enum cap_error error = http_body_read(&closure->body, closure->body_sent, dst + *len, some);
    if (error == CAP_OK) {
        closure->body_sent += some;
        *len += some;
    }
    return error;
}

static enum cap_error read_closure(struct http_stream *stream, uint64_t at, uint8_t *dst,
                                   size_t room, size_t *ret_len)
{
    struct closure_stream *closure = CONTAINER_OF(stream, struct closure_stream, stream);
    size_t len = 0;
    (void)at;
    while (closure->failed == CAP_OK && !closure->done && len < room) {
        bool sent =
            closure->head_sent == sizeof(closure->head) && closure->body_sent == closure->body.size;
        closure->failed = sent ? next_entry(closure) : send_some(closure, dst, room, &len);
    }
    *ret_len = len;
    return len > 0 ? CAP_OK : closure->failed;
}

static void free_closure(struct http_stream *stream)
{
    struct closure_stream *closure = CONTAINER_OF(stream, struct closure_stream, stream);
    walk_free(closure->walk);
    free(closure);
}

/* --- The request ---------------------------------------------------------------------------- */

/* Appends the hashes of a list with commas between. CAP_E_INVALID_ARGUMENT, CAP_E_NO_MEMORY. */
static enum cap_error read_hashes(const char *text, struct cap_buf *hashes)
{
    enum cap_error error = CAP_OK;
    bool more = *text != '\0';
    for (const char *at = text; error == CAP_OK && more; at++) {
        struct cap_hash hash;
        at = http_hash_read(at, &hash);
        if (at == NULL || (*at != ',' && *at != '\0')) {
            return CAP_E_INVALID_ARGUMENT;
        }
        error = cap_buf_append(hashes, hash.bytes, sizeof(hash.bytes));
        more = *at == ',';
    }
    return error;
}

/* A walk from the hash, without what the client has. */
static enum cap_error begin(const struct http_call *call, const struct cap_hash *hash,
                            const char *have, struct walk **ret_walk)
{
    const struct context *context = call->http->context;
    struct cap_buf hashes = {0};
    enum cap_error error = have == NULL ? CAP_OK : read_hashes(have, &hashes);
    if (error == CAP_OK) {
        const struct walk_query query = {
            .roots = {hash->bytes, sizeof(hash->bytes)},
            .have = cap_buf_bytes(&hashes),
            .max = context->config.closure_max,
        };
        error = walk_new(context->ledger, call->client->account, &query, ret_walk);
    }
    cap_buf_free(&hashes);
    return error;
}

/* NULL: there is no memory. The walk is taken over in any case. */
static struct MHD_Response *respond(const struct http_call *call, struct walk *walk)
{
    struct closure_stream *closure = calloc(1, sizeof(*closure));
    if (closure == NULL) {
        walk_free(walk);
        return NULL;
    }
    closure->stream = (struct http_stream){.read = read_closure, .free = free_closure};
    closure->store = call->http->context->store;
    closure->walk = walk;
    closure->bodies = !http_has_argument(call, "list");
    closure->head_sent = sizeof(closure->head); /* there is no entry at hand yet */
    struct MHD_Response *response = http_response_stream(call, &closure->stream, UINT64_MAX);
    http_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    http_headers(response, HTTP_CACHE_NEVER, NULL); /* what is missing now may come */
    return response;
}

enum MHD_Result http_closure(const struct http_call *call, const struct cap_hash *hash)
{
    struct walk *walk = NULL;
    /* A closure of nothing is not an answer. */
    enum cap_error error = http_cap_find(call->http->context->store, hash, NULL);
    if (error != CAP_OK) {
        return http_caps_unserved(call, hash, error);
    }
    error = begin(call, hash, http_argument_of(call, "have"), &walk);
    if (error == CAP_E_INVALID_ARGUMENT) {
        return http_answer_error(call, error,
                                 "have: hashes of 64 lower-case hex digits, with commas between");
    }
    if (error != CAP_OK) {
        return http_answer_error(call, error, NULL);
    }
    return http_send(call, MHD_HTTP_OK, respond(call, walk), HTTP_BLOCK);
}
