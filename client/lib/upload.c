/*
 * Uploads: a request, then its body in frames, those of several uploads in turn.
 *
 * Happy path: every frame is read from the source, queued and sent; the reply comes after the last
 * one. Failure modes: the daemon refuses while bytes are still going out (the frame under way is
 * completed, the body is ended early, the connection stays usable); the source fails or the caller
 * cancels (the daemon is told to drop the request).
 */
#include <stdlib.h>

#include "client/lib/conn.h"
#include "client/lib/link.h"
#include "lib/cap/layout.h"

/* After the last byte the daemon hashes and commits without sending anything. These are what a slow
 * one still manages, reading everything more than once; the structure of an Image takes longer per
 * byte, because each of its many small values is hashed on its own. */
#define HASHED_PER_MS           2048u
#define HASHED_STRUCTURE_PER_MS 256u

/* Queues the next piece of a body, read straight into the outgoing buffer. */
static enum cap_error queue_piece(struct capstore_request *request)
{
    struct capstore *store = request->store;
    const struct capstore_source *source = &request->source;
    uint64_t left = source->len - request->sent;
    size_t most = store->limits.frame < PROTO_FRAME_MAX ? store->limits.frame : PROTO_FRAME_MAX;
    size_t len = left < most ? (size_t)left : most;
    struct proto_frame frame = {
        .len = (uint32_t)len,
        .id = request->id,
        .type = PROTO_BODY,
        .flags = len == left ? PROTO_FLAG_END : 0,
    };
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    proto_frame_encode(&frame, header);
    size_t before = store->out.len;
    enum cap_error error = cap_buf_append(&store->out, header, sizeof(header));
    if (error == CAP_OK) {
        error = cap_buf_reserve(&store->out, len);
    }
    if (error == CAP_OK && len > 0) {
        int64_t began_ns = client_clock_ns();
        uint8_t *dst = store->out.data + store->out.len;
        error = client_inner(source->read(source->ctx, request->sent, dst, len));
        store->caller_ns += client_clock_ns() - began_ns;
    }
    if (error != CAP_OK) {
        store->out.len = before;
        return client_tell(request, error, "reading the upload's content: %s",
                           cap_error_text(error));
    }
    store->out.len += len;
    request->sent += len;
    request->ended = len == left;
    client_moved(store, len);
    return CAP_OK;
}

/* Goes on with one body, or lets it go when all of it is sent. */
static void pump_one(struct capstore_request *request)
{
    struct capstore *store = request->store;
    enum cap_error error = client_report(request, true, request->sent, request->source.len);
    if (error == CAP_OK && request->ended) {
        client_list_remove(&request->upload);
        request->uploading = false;
        store->check_ns = 0;
        return;
    }
    if (error == CAP_OK) {
        error = queue_piece(request);
    }
    if (error != CAP_OK) {
        client_abandon(request, error);
        return;
    }
    client_list_remove(&request->upload);
    client_list_add(&store->uploads, &request->upload);
}

void client_pump(struct capstore *store)
{
    const struct client_link *last = client_list_last(&store->uploads);
    const struct client_link *at = NULL;
    while (at != last && store->out.len < PROTO_FRAME_MAX) {
        at = client_list_first(&store->uploads);
        pump_one(client_uploading(client_list_first(&store->uploads)));
    }
}

/* The bytes of a wire Image before its arena; 0 if the bytes are not one: the daemon will say so.
 */
static uint64_t structure_len(const struct capstore_source *wire)
{
    uint8_t front[CAP_WIRE_FIXED_SIZE];
    size_t len = 0;
    if (wire->len < sizeof(front) ||
        wire->read(wire->ctx, 0, front, sizeof(front)) != CAPSTORE_OK ||
        cap_wire_image_head_len((struct cap_bytes){front, sizeof(front)}, wire->len, &len) !=
            CAP_OK) {
        return 0;
    }
    return len;
}

/* ---- making requests ---- */

/* A flag beside those of the callers: the upload can go on over another connection. */
#define BLOCKING (1u << 31)

/* Whether a publication can ask for what the handle says. */
static enum cap_error check_keep(struct capstore *store)
{
    return store->keep_s == 0 ? CAP_OK : client_check_leases(store);
}

/* Uploads a Data cap as it is: raw bytes, or a served body with `size` 0. */
static enum cap_error make_put(struct capstore *store, const struct capstore_source *content,
                               uint64_t size, unsigned flags, struct capstore_request **ret_request)
{
    bool canonical = (flags & CAPSTORE_PUT_CANONICAL) != 0;
    struct proto_put_data message = {
        .flags = canonical ? PROTO_PUT_CANONICAL : 0,
        .size = canonical ? 0 : size,
        .total_len = content->len,
        .keep_s = store->keep_s,
    };
    struct cap_buf payload = {0};
    if ((flags & BLOCKING) != 0) {
        client_name_upload(store, content->len, message.token);
    }
    enum cap_error error = check_keep(store);
    if (error == CAP_OK) {
        error = client_resumes(store)  ? proto_put_data_resume_encode(&message, &payload)
                : client_leases(store) ? proto_put_data_keep_encode(&message, &payload)
                                       : proto_put_data_encode(&message, &payload);
    }
    error = client_request_new(store, PROTO_PUT_DATA, error, &payload, ret_request);
    if (error == CAP_OK) {
        (*ret_request)->source = *content;
        (*ret_request)->grace_ms = content->len / HASHED_PER_MS;
    }
    return error;
}

static enum capstore_error sparse_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct client_sparse *sparse = (struct client_sparse *)ctx;
    struct cap_source content = client_window_source(&sparse->content);
    return client_public(cap_body_read(&sparse->data.body, &content, offset, dst, len));
}

/* Raw content that is mostly holes is sent as a served body, which leaves them out. */
static enum cap_error make_put_sparse(struct capstore *store, const struct capstore_source *content,
                                      uint64_t size, unsigned flags,
                                      struct capstore_request **ret_request)
{
    struct client_sparse *sparse = calloc(1, sizeof(*sparse));
    if (sparse == NULL) {
        return CAP_E_NO_MEMORY;
    }
    sparse->content = (struct client_window){*content, 0};
    enum cap_error error = client_data_make(content, size, &sparse->data);
    if (error != CAP_OK) {
        free(sparse);
        return error;
    }
    struct capstore_source body = {sparse_read, sparse, sparse->data.body.len, NULL};
    error = make_put(store, &body, 0, flags | CAPSTORE_PUT_CANONICAL, ret_request);
    if (error != CAP_OK) {
        cap_data_free(&sparse->data);
        free(sparse);
        return error;
    }
    (*ret_request)->sparse = sparse;
    return CAP_OK;
}

static enum cap_error make_put_data(struct capstore *store, const struct capstore_source *content,
                                    uint64_t size, unsigned flags,
                                    struct capstore_request **ret_request)
{
    bool canonical = (flags & CAPSTORE_PUT_CANONICAL) != 0;
    return !canonical && client_mostly_holes(content)
               ? make_put_sparse(store, content, size, flags, ret_request)
               : make_put(store, content, size, flags, ret_request);
}

static enum cap_error make_publish(struct capstore *store, const struct capstore_source *wire,
                                   unsigned flags, struct capstore_request **ret_request)
{
    _Static_assert(CAPSTORE_RESOLVE_ONLY == PROTO_IMAGE_RESOLVE_ONLY, "one flag, one value");
    _Static_assert(CAPSTORE_DRY_RUN == PROTO_IMAGE_DRY_RUN, "one flag, one value");
    struct proto_put_image message = {
        .flags = (uint8_t)(flags & (CAPSTORE_RESOLVE_ONLY | CAPSTORE_DRY_RUN)),
        .total_len = wire->len,
        .keep_s = store->keep_s,
    };
    struct cap_buf payload = {0};
    if ((flags & BLOCKING) != 0) {
        client_name_upload(store, wire->len, message.token);
    }
    enum cap_error error = check_keep(store);
    if (error == CAP_OK) {
        error = client_resumes(store)  ? proto_put_image_resume_encode(&message, &payload)
                : client_leases(store) ? proto_put_image_keep_encode(&message, &payload)
                                       : proto_put_image_encode(&message, &payload);
    }
    error = client_request_new(store, PROTO_PUT_IMAGE, error, &payload, ret_request);
    if (error == CAP_OK) {
        (*ret_request)->source = *wire;
        (*ret_request)->grace_ms =
            wire->len / HASHED_PER_MS + structure_len(wire) / HASHED_STRUCTURE_PER_MS;
    }
    return error;
}

/* The bytes of an Image's body beside its code; 0 if these are not one: the daemon will say so. */
static uint64_t rest_len(const struct capstore_source *body)
{
    uint8_t front[CAP_IMAGE_FRONT];
    uint64_t code_len = 0;
    if (body->len < sizeof(front) ||
        body->read(body->ctx, 0, front, sizeof(front)) != CAPSTORE_OK ||
        cap_image_cut_code(front, body->len, &code_len) != CAP_OK) {
        return 0;
    }
    return body->len - code_len;
}

static enum cap_error make_put_cap(struct capstore *store, const struct capstore_hash *hash,
                                   enum capstore_kind kind, const struct capstore_source *body,
                                   unsigned flags, struct capstore_request **ret_request)
{
    struct proto_put_cap message = {
        .kind = (uint8_t)kind, .total_len = body->len, .keep_s = store->keep_s};
    struct cap_buf payload = {0};
    if (store->http != NULL) {
        return client_say_reading(store);
    }
    if ((store->features & PROTO_FEATURE_PUT_CAP) == 0) {
        return client_say(store, CAP_E_UNSUPPORTED_REQUEST,
                          "this daemon does not take caps by their hash; it is older than that");
    }
    memcpy(message.hash.bytes, hash->bytes, CAP_HASH_SIZE);
    if ((flags & BLOCKING) != 0) {
        client_name_upload(store, body->len, message.token);
    }
    enum cap_error error = check_keep(store);
    if (error == CAP_OK) {
        error = client_resumes(store)  ? proto_put_cap_resume_encode(&message, &payload)
                : client_leases(store) ? proto_put_cap_keep_encode(&message, &payload)
                                       : proto_put_cap_encode(&message, &payload);
    }
    error = client_request_new(store, PROTO_PUT_CAP, error, &payload, ret_request);
    if (error == CAP_OK) {
        uint64_t structure = kind == CAPSTORE_KIND_IMAGE ? rest_len(body) : 0;
        (*ret_request)->source = *body;
        (*ret_request)->grace_ms = body->len / HASHED_PER_MS + structure / HASHED_STRUCTURE_PER_MS;
        (*ret_request)->answer.put =
            (struct capstore_put_result){.cap_hash = *hash, .body_len = body->len};
    }
    return error;
}

/* ---- without blocking ---- */

enum capstore_error capstore_async_put_data(struct capstore *store,
                                            const struct capstore_source *content, uint64_t size,
                                            unsigned flags, capstore_done_cb *done, void *ctx,
                                            struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (store->fd < 0 || done == NULL) {
        return store->fd < 0 ? CAPSTORE_E_CONNECTION_LOST : CAPSTORE_E_INVALID_ARGUMENT;
    }
    enum cap_error error = make_put_data(store, content, size, flags & ~BLOCKING, &request);
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

enum capstore_error capstore_async_publish(struct capstore *store,
                                           const struct capstore_source *wire, unsigned flags,
                                           capstore_done_cb *done, void *ctx,
                                           struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (store->fd < 0 || done == NULL) {
        return store->fd < 0 ? CAPSTORE_E_CONNECTION_LOST : CAPSTORE_E_INVALID_ARGUMENT;
    }
    enum cap_error error = make_publish(store, wire, flags & ~BLOCKING, &request);
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

enum capstore_error capstore_async_put_cap(struct capstore *store, const struct capstore_hash *hash,
                                           enum capstore_kind kind,
                                           const struct capstore_source *body,
                                           capstore_done_cb *done, void *ctx,
                                           struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (store->fd < 0 || done == NULL) {
        return store->fd < 0 ? CAPSTORE_E_CONNECTION_LOST : CAPSTORE_E_INVALID_ARGUMENT;
    }
    enum cap_error error = make_put_cap(store, hash, kind, body, 0, &request);
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

/* ---- blocking ---- */

enum capstore_error capstore_put_data(struct capstore *store, const struct capstore_source *content,
                                      uint64_t size, unsigned flags,
                                      struct capstore_put_result *ret_result)
{
    struct capstore_request *request = NULL;
    struct capstore_answer answer;
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = client_prepare_upload(store, content->len);
    }
    if (error == CAP_OK) {
        error = make_put_data(store, content, size, flags | BLOCKING, &request);
        error = client_call_upload(error, request, &answer);
    }
    if (error == CAP_OK) {
        *ret_result = answer.put;
    }
    return client_end(store, error);
}

enum capstore_error capstore_publish(struct capstore *store, const struct capstore_source *wire,
                                     unsigned flags, struct capstore_publish_result *ret_result)
{
    struct capstore_request *request = NULL;
    struct capstore_answer answer;
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = client_prepare_upload(store, wire->len);
    }
    if (error == CAP_OK) {
        error = make_publish(store, wire, flags | BLOCKING, &request);
        error = client_call_upload(error, request, &answer);
    }
    if (error == CAP_OK) {
        *ret_result = answer.publish;
    }
    return client_end(store, error);
}

enum capstore_error capstore_put_cap(struct capstore *store, const struct capstore_hash *hash,
                                     enum capstore_kind kind, const struct capstore_source *body,
                                     struct capstore_put_result *ret_result)
{
    struct capstore_request *request = NULL;
    struct capstore_answer answer;
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = client_prepare_upload(store, body->len);
    }
    if (error == CAP_OK) {
        error = make_put_cap(store, hash, kind, body, BLOCKING, &request);
        error = client_call_upload(error, request, &answer);
    }
    if (error == CAP_OK) {
        *ret_result = answer.put;
    }
    return client_end(store, error);
}

size_t capstore_unresolved_count(const struct capstore *store)
{
    return store->unresolved.count;
}

bool capstore_shortage(const struct capstore *store, struct capstore_shortage_figures *ret_figures)
{
    const struct proto_shortage *shortage = &store->shortage;
    if (shortage->need == 0) {
        return false;
    }
    *ret_figures = (struct capstore_shortage_figures){
        .need = shortage->need,
        .have = shortage->have,
        .limit = client_bytes(shortage->limit),
    };
    return true;
}

struct capstore_unresolved_slot capstore_unresolved(const struct capstore *store, size_t i)
{
    struct proto_unresolved inner;
    proto_unresolved_at(&store->unresolved, i, &inner);
    return (struct capstore_unresolved_slot){
        .table = inner.table == CAP_TABLE_PINNED ? CAPSTORE_TABLE_PINNED : CAPSTORE_TABLE_INITIAL,
        .kind = (enum capstore_kind)inner.kind,
        .cap_hash = client_hash(&inner.cap_hash),
        .slot = client_bytes(inner.slot),
    };
}
