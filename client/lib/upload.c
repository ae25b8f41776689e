/*
 * Uploads: a request, then its body in frames, while listening for a refusal.
 *
 * Happy path: every frame is read from the source, queued and sent; the reply comes after the last
 * one. Failure modes: the daemon refuses while bytes are still going out (the frame under way is
 * completed, the body is ended early, the connection stays usable); the source fails or the caller
 * cancels (the daemon is told to drop the request).
 */
#include "client/lib/conn.h"
#include "lib/cap/must.h"
#include "lib/cap/wire_image.h"

/* After the last byte the daemon hashes and commits without sending anything. These are what a slow
 * one still manages, reading everything more than once; the structure of an Image takes longer per
 * byte, because each of its many small values is hashed on its own. */
#define HASHED_PER_MS           2048u
#define HASHED_STRUCTURE_PER_MS 256u

/* Queues the next piece of the body, read straight into the outgoing buffer. */
static enum cap_error queue_piece(struct capstore *store, const struct capstore_source *source,
                                  uint64_t at, size_t len)
{
    must(at <= source->len && len <= source->len - at && len <= PROTO_FRAME_MAX);
    struct proto_frame frame = {
        .len = (uint32_t)len,
        .id = store->id,
        .type = PROTO_BODY,
        .flags = at + len == source->len ? PROTO_FLAG_END : 0,
    };
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    proto_frame_encode(&frame, header);
    size_t before = store->out.len;
    enum cap_error error = cap_buf_append(&store->out, header, sizeof(header));
    if (error == CAP_OK) {
        error = cap_buf_reserve(&store->out, len);
    }
    if (error == CAP_OK && len > 0) {
        error = client_inner(source->read(source->ctx, at, store->out.data + store->out.len, len));
    }
    store->out.len = error == CAP_OK ? store->out.len + len : before;
    if (error == CAP_OK) {
        client_moved(store, len);
    } else {
        (void)client_say(store, error, "reading the upload's content: %s", cap_error_text(error));
    }
    return error;
}

/*
 * Sends the body. *ret_early: a frame of this request, *ret_event, came before all was sent;
 * *ret_ended: the frame that ends the body is sent or queued.
 */
static enum cap_error send_body(struct capstore *store, const struct capstore_source *source,
                                struct proto_event *ret_event, bool *ret_early, bool *ret_ended)
{
    size_t most = store->limits.frame < PROTO_FRAME_MAX ? store->limits.frame : PROTO_FRAME_MAX;
    uint64_t done = 0;
    *ret_early = false;
    do {
        size_t len = source->len - done < most ? (size_t)(source->len - done) : most;
        enum cap_error error = queue_piece(store, source, done, len);
        if (error == CAP_OK) {
            error = client_report(store, true, done, source->len);
        }
        if (error != CAP_OK) {
            client_cancel(store);
            return error;
        }
        done += len;
        *ret_ended = done == source->len;
        error = client_step(store, true, ret_event, ret_early);
        if (error != CAP_OK || *ret_early) {
            return error;
        }
    } while (done < source->len);
    return client_report(store, true, done, source->len);
}

/* Ends the body of a refused upload, as the daemon expects. Best effort: the call has failed. */
static void end_refused(struct capstore *store)
{
    struct proto_event event;
    bool have = true;
    if (store->broken ||
        client_send(store, PROTO_BODY, PROTO_FLAG_END, (struct cap_bytes){NULL, 0}) != CAP_OK) {
        return;
    }
    while (have && client_step(store, true, &event, &have) == CAP_OK) {
        ;
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

/*
 * Sends the body and waits for the reply; the request is queued already. The answer may take
 * `grace_ms` longer than the timeout. On CAP_OK *ret_payload is the reply's.
 */
static enum cap_error upload(struct capstore *store, const struct capstore_source *source,
                             uint64_t grace_ms, enum proto_type reply,
                             struct cap_bytes *ret_payload)
{
    struct proto_event event;
    bool early = false;
    bool ended = false;
    enum cap_error error = send_body(store, source, &event, &early, &ended);
    if (error != CAP_OK) {
        return error;
    }
    if (!early) {
        store->grace_ms = grace_ms;
        return client_await(store, reply, ret_payload);
    }
    if (event.frame.type == PROTO_ERROR) {
        error = client_take_error(store, event.bytes);
        if (!ended) {
            end_refused(store);
        }
        return error;
    }
    if (ended && event.frame.type == reply) {
        *ret_payload = event.bytes;
        return CAP_OK;
    }
    store->broken = true;
    return client_say(store, CAP_E_BAD_REPLY, "the daemon answered before the upload was complete");
}

static enum cap_error bad_reply(struct capstore *store)
{
    store->broken = true;
    return CAP_E_BAD_REPLY;
}

/* Uploads a Data cap as it is: raw bytes, or a served body with `size` 0. */
static enum cap_error put(struct capstore *store, const struct capstore_source *content,
                          uint64_t size, bool canonical, struct capstore_put_result *ret_result)
{
    struct proto_put_data message = {canonical ? PROTO_PUT_CANONICAL : 0, canonical ? 0 : size,
                                     content->len};
    struct cap_buf payload = {0};
    struct cap_bytes in;
    struct proto_put_data_reply reply;
    enum cap_error error = proto_put_data_encode(&message, &payload);
    if (error == CAP_OK) {
        error = client_send(store, PROTO_PUT_DATA, 0, cap_buf_bytes(&payload));
    }
    cap_buf_free(&payload);
    if (error == CAP_OK) {
        uint64_t grace_ms = content->len / HASHED_PER_MS;
        error = upload(store, content, grace_ms, PROTO_PUT_DATA_REPLY, &in);
    }
    if (error == CAP_OK && proto_put_data_reply_decode(in, &reply) != CAP_OK) {
        error = bad_reply(store);
    }
    if (error == CAP_OK) {
        *ret_result = (struct capstore_put_result){client_hash(&reply.cap_hash), reply.size,
                                                   reply.body_len, reply.is_new != 0};
    }
    return error;
}

/* The served body of a Data cap whose windows lie in raw content. */
struct body_view {
    const struct cap_body *body;
    struct client_window content;
};

static enum capstore_error body_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct body_view *view = ctx;
    struct cap_source content = client_window_source(&view->content);
    return client_public(cap_body_read(view->body, &content, offset, dst, len));
}

/* Raw content that is mostly holes is sent as a served body, which leaves them out. */
static enum cap_error put_sparse(struct capstore *store, const struct capstore_source *content,
                                 uint64_t size, struct capstore_put_result *ret_result)
{
    struct cap_data data;
    enum cap_error error = client_data_make(content, size, &data);
    if (error != CAP_OK) {
        return error;
    }
    struct body_view view = {&data.body, {*content, 0}};
    struct capstore_source body = {body_read, &view, data.body.len, NULL};
    error = put(store, &body, 0, true, ret_result);
    cap_data_free(&data);
    return error;
}

enum capstore_error capstore_put_data(struct capstore *store, const struct capstore_source *content,
                                      uint64_t size, unsigned flags,
                                      struct capstore_put_result *ret_result)
{
    bool canonical = (flags & CAPSTORE_PUT_CANONICAL) != 0;
    enum cap_error error = client_begin(store);
    if (error == CAP_OK && !canonical && client_mostly_holes(content)) {
        error = put_sparse(store, content, size, ret_result);
    } else if (error == CAP_OK) {
        error = put(store, content, canonical ? 0 : size, canonical, ret_result);
    }
    return client_end(store, error);
}

enum capstore_error capstore_publish(struct capstore *store, const struct capstore_source *wire,
                                     unsigned flags, struct capstore_publish_result *ret_result)
{
    _Static_assert(CAPSTORE_RESOLVE_ONLY == PROTO_IMAGE_RESOLVE_ONLY, "one flag, one value");
    _Static_assert(CAPSTORE_DRY_RUN == PROTO_IMAGE_DRY_RUN, "one flag, one value");
    struct proto_put_image message = {(uint8_t)(flags & (CAPSTORE_RESOLVE_ONLY | CAPSTORE_DRY_RUN)),
                                      wire->len};
    struct cap_buf payload = {0};
    struct cap_bytes in;
    struct proto_put_image_reply reply;
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = proto_put_image_encode(&message, &payload);
    }
    if (error == CAP_OK) {
        error = client_send(store, PROTO_PUT_IMAGE, 0, cap_buf_bytes(&payload));
    }
    cap_buf_free(&payload);
    if (error == CAP_OK) {
        uint64_t grace_ms =
            wire->len / HASHED_PER_MS + structure_len(wire) / HASHED_STRUCTURE_PER_MS;
        error = upload(store, wire, grace_ms, PROTO_PUT_IMAGE_REPLY, &in);
    }
    if (error == CAP_OK && proto_put_image_reply_decode(in, &reply) != CAP_OK) {
        error = bad_reply(store);
    }
    if (error == CAP_OK) {
        *ret_result = (struct capstore_publish_result){
            .cap_hash = client_hash(&reply.cap_hash),
            .content_hash = client_hash(&reply.content_hash),
            .body_len = reply.body_len,
            .is_new = reply.is_new != 0,
            .data_new = reply.data_new,
            .data_present = reply.data_present,
        };
    }
    return client_end(store, error);
}

size_t capstore_unresolved_count(const struct capstore *store)
{
    return store->unresolved.count;
}

struct capstore_unresolved_slot capstore_unresolved(const struct capstore *store, size_t i)
{
    struct proto_unresolved inner;
    proto_unresolved_at(&store->unresolved, i, &inner);
    return (struct capstore_unresolved_slot){
        .table = inner.table == CAP_TABLE_PINNED ? CAPSTORE_TABLE_PINNED : CAPSTORE_TABLE_INITIAL,
        .kind = inner.kind == CAP_KIND_IMAGE ? CAPSTORE_KIND_IMAGE : CAPSTORE_KIND_DATA,
        .cap_hash = client_hash(&inner.cap_hash),
        .slot = client_bytes(inner.slot),
    };
}
