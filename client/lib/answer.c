/*
 * Answers: each frame from the daemon goes to the request of its id.
 *
 * Failure modes: the daemon refuses (the request ends, the stream stays usable), ends the whole
 * connection (an ERROR with id 0, or one that does so whatever its id), or breaks the protocol: an
 * error is returned then, and the stream is closed. Frames of a request that ended early are
 * skipped up to its answer, and so are those of ids that were answered.
 */
#include "client/lib/conn.h"
#include "client/lib/entries.h"
#include "client/lib/link.h"
#include "lib/cap/must.h"

enum cap_error client_report(struct capstore_request *request, bool upload, uint64_t done,
                             uint64_t total)
{
    struct capstore *store = request->store;
    struct capstore_progress progress = {upload, done, total, request->resumed};
    if (!request->report || store->progress == NULL) {
        return CAP_OK;
    }
    int64_t began_ns = client_clock_ns();
    bool go_on = store->progress(store->progress_ctx, &progress);
    store->caller_ns += client_clock_ns() - began_ns;
    return go_on ? CAP_OK : CAP_E_CANCELLED;
}

static enum cap_error unexpected(struct capstore *store, uint8_t type)
{
    return client_say(store, CAP_E_BAD_REPLY, "the daemon sent a %s frame out of place",
                      proto_type_name(type));
}

static bool kind_valid(uint8_t kind)
{
    return kind == CAP_KIND_IMAGE || kind == CAP_KIND_DATA;
}

/* ---- errors ---- */

static enum cap_error bad_error(struct capstore *store)
{
    return client_say(store, CAP_E_BAD_REPLY, "the daemon's error does not decode");
}

/* The daemon's message, made safe to print. */
static void take_message(struct cap_bytes text, char message[CAPSTORE_MESSAGE_SIZE])
{
    size_t room = CAPSTORE_MESSAGE_SIZE - 1;
    size_t len = text.len < room ? text.len : room;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = text.data[i];
        message[i] = (char)(c >= ' ' && c <= '~' ? c : '?');
    }
    message[len] = '\0';
}

/* Errors that end the connection, whatever id they carry (PROTOCOL.md section 3.6). */
static bool ends_connection(enum cap_error code)
{
    return code == CAP_E_BAD_FRAME || code == CAP_E_UNSUPPORTED_VERSION ||
           code == CAP_E_FRAME_TOO_LARGE || code == CAP_E_MESSAGE_TOO_LARGE ||
           code == CAP_E_ID_IN_USE;
}

/* Reads the detail of an error; what belongs to no error that is known is let be. */
static enum cap_error read_detail(struct capstore_request *request)
{
    struct cap_bytes detail = cap_buf_bytes(&request->detail);
    if (detail.len == 0) {
        return CAP_OK;
    }
    if (proto_is_shortage(request->error)) {
        return proto_shortage_decode(detail, &request->shortage);
    }
    return request->error == CAP_E_UNRESOLVED_SLOT
               ? proto_unresolved_decode(detail, &request->unresolved)
               : CAP_OK;
}

/* Ends a request with its error, which was announced. */
static enum cap_error refused(struct capstore *store, struct client_lane *lane)
{
    struct capstore_request *request = lane->request;
    client_lane_close(store, lane);
    if (request == NULL) {
        return CAP_OK;
    }
    if (read_detail(request) != CAP_OK) {
        return bad_error(store);
    }
    client_finish(request, request->error);
    return CAP_OK;
}

/* Takes an ERROR; `lane` is NULL for one with id 0. */
static enum cap_error take_error(struct capstore *store, struct client_lane *lane,
                                 struct cap_bytes payload)
{
    struct proto_error message;
    enum cap_error code = CAP_OK;
    if (proto_error_decode(payload, &message) == CAP_OK) {
        code = cap_error_from_code(message.code);
    }
    if (code == CAP_OK) {
        return bad_error(store);
    }
    if (lane == NULL || ends_connection(code)) {
        take_message(message.message, store->message);
        return code;
    }
    lane->expects = CLIENT_DETAIL;
    lane->left = message.detail_len;
    struct capstore_request *request = lane->request;
    if (request != NULL) {
        request->error = code;
        take_message(message.message, request->message);
        if (request->uploading) {
            client_list_remove(&request->upload);
            request->uploading = false;
        }
        if (request->source.read != NULL && !request->ended) {
            request->ended = true; /* the daemon waits for it */
            enum cap_error error = client_send(store, PROTO_BODY, PROTO_FLAG_END, request->id,
                                               (struct cap_bytes){NULL, 0});
            if (error != CAP_OK) {
                return error;
            }
        }
    }
    if (message.detail_len == 0) {
        return refused(store, lane);
    }
    if (request != NULL && message.detail_len > store->max_body) {
        client_abandon(request, code);
    }
    return CAP_OK;
}

/* ---- bodies ---- */

/* Appends to what a request holds, within what the handle may hold. */
static enum cap_error hold(struct capstore_request *request, struct cap_buf *buf,
                           struct cap_bytes piece)
{
    struct capstore *store = request->store;
    if (piece.len > store->max_bodies - store->held) {
        return client_tell(request, CAP_E_MEMORY_LIMIT,
                           "the bodies that are arriving are longer than %llu bytes together",
                           (unsigned long long)store->max_bodies);
    }
    if (piece.len > buf->capacity - buf->len) {
        client_verify_pause(request->verify); /* the buffer will move */
    }
    enum cap_error error = cap_buf_append(buf, piece.data, piece.len);
    if (error == CAP_OK) {
        store->held += piece.len;
        request->held += piece.len;
    }
    return error;
}

/* Hashes what has come of a body that does not come at once. */
static enum cap_error verify_some(struct capstore_request *request)
{
    const struct capstore *store = request->store;
    enum cap_error error = CAP_OK;
    if (store->no_verify || request->len <= CLIENT_IN_SIZE) {
        return CAP_OK;
    }
    if (request->verify == NULL) {
        error = client_verify_new(request->len, store->hash_thread && request->done == NULL,
                                  &request->verify);
    }
    return error == CAP_OK ? client_verify_take(request->verify, cap_buf_bytes(&request->body))
                           : error;
}

static enum cap_error take_bytes(struct capstore_request *request, struct cap_bytes piece)
{
    struct capstore *store = request->store;
    if (piece.len == 0) {
        return CAP_OK;
    }
    if (request->write == NULL) {
        enum cap_error error = hold(request, &request->body, piece);
        return error == CAP_OK ? verify_some(request) : error;
    }
    int64_t began_ns = client_clock_ns();
    enum capstore_error error = request->write(request->write_ctx, client_bytes(piece));
    store->caller_ns += client_clock_ns() - began_ns;
    return client_inner(error);
}

/* Ends a GET whose body is complete. */
static void fetched(struct capstore_request *request)
{
    enum cap_error error = CAP_OK;
    if (request->write == NULL) {
        struct cap_hash hash = client_cap_hash(&request->hash);
        error = client_cap_make(&request->body, &hash, !request->store->no_verify, request->verify,
                                &request->answer.cap);
    }
    client_finish(request, error);
}

/* Gives the bytes of a body to those who take it apart. As client_many_take. */
static enum cap_error take_apart(struct capstore_request *request, const struct proto_event *event,
                                 enum cap_error *ret_given_up)
{
    struct client_entries *entries = request->entries;
    if (entries == NULL) {
        return client_many_take(request, event->bytes, event->end, ret_given_up);
    }
    enum cap_error error = client_entries_take(entries, event->bytes, event->end, ret_given_up);
    if (*ret_given_up != CAP_OK && entries->message[0] != '\0') {
        (void)client_tell(request, *ret_given_up, "%s", entries->message);
    }
    if (error == CAP_OK && *ret_given_up == CAP_OK && entries->inside) {
        *ret_given_up = client_report(request, false, entries->body.len, entries->entry.body_len);
    }
    return error;
}

/* Takes a CLOSURE_REPLY. */
static enum cap_error take_closure(struct cap_bytes payload)
{
    struct proto_closure_reply reply;
    return proto_closure_reply_decode(payload, &reply) == CAP_OK ? CAP_OK : CAP_E_BAD_REPLY;
}

/* A part of a body has been taken: END finishes its request, `given_up` ends it before that. */
static void took(struct capstore *store, struct client_lane *lane, bool end,
                 enum cap_error given_up)
{
    struct capstore_request *request = lane->request;
    if (end) {
        client_lane_close(store, lane);
    }
    if (request != NULL && end) {
        client_finish(request, given_up);
    } else if (given_up != CAP_OK) {
        client_abandon(request, given_up);
    }
}

/* Takes a BODY frame, or a part of one, of pieces or entries; END tells where they end. */
static enum cap_error take_pieces(struct capstore *store, struct client_lane *lane,
                                  const struct proto_event *event)
{
    struct capstore_request *request = lane->request;
    enum cap_error given_up = CAP_OK;
    if (request != NULL && take_apart(request, event, &given_up) != CAP_OK) {
        return client_say(store, CAP_E_BAD_REPLY, "the daemon's %s do not make sense",
                          request->entries != NULL ? "entries" : "pieces");
    }
    took(store, lane, event->end, given_up);
    return CAP_OK;
}

/* Takes a BODY frame, or a part of one, of a body whose length END tells. */
static enum cap_error take_stream(struct capstore *store, struct client_lane *lane,
                                  const struct proto_event *event)
{
    struct capstore_request *request = lane->request;
    enum cap_error error = request != NULL ? take_bytes(request, event->bytes) : CAP_OK;
    if (request != NULL && error == CAP_OK) {
        /* What takes the bytes refuses more of them than there can be. */
        client_moved(store, event->bytes.len);
        request->offset += event->bytes.len;
        uint64_t total = request->offset > request->len ? request->offset : request->len;
        error = client_report(request, false, request->offset, total);
    }
    took(store, lane, event->end, error);
    return CAP_OK;
}

static enum cap_error take_body(struct capstore *store, struct client_lane *lane,
                                const struct proto_event *event)
{
    struct capstore_request *request = lane->request;
    struct cap_bytes piece = event->bytes;
    if (event->frame.type != PROTO_BODY) {
        return unexpected(store, event->frame.type);
    }
    if (lane->expects == CLIENT_PIECES) {
        return take_pieces(store, lane, event);
    }
    if (lane->expects == CLIENT_STREAM) {
        return take_stream(store, lane, event);
    }
    if (piece.len > lane->left || (event->end && piece.len != lane->left)) {
        return CAP_E_LENGTH_MISMATCH;
    }
    lane->left -= piece.len;
    client_moved(store, piece.len);
    if (lane->expects == CLIENT_DETAIL) {
        enum cap_error code = request != NULL ? request->error : CAP_OK;
        if (request != NULL && hold(request, &request->detail, piece) != CAP_OK) {
            client_abandon(request, code);
        }
        return event->end ? refused(store, lane) : CAP_OK;
    }
    if (request == NULL) {
        if (event->end) {
            client_lane_close(store, lane);
        }
        return CAP_OK;
    }
    uint64_t total = request->len;
    enum cap_error error = take_bytes(request, piece);
    if (error == CAP_OK) {
        error = client_report(request, false, total - lane->left, total);
    }
    if (event->end) {
        client_lane_close(store, lane);
    }
    if (error != CAP_OK && event->end) {
        client_finish(request, error);
    } else if (error != CAP_OK) {
        client_abandon(request, error);
    } else if (event->end) {
        fetched(request);
    }
    return CAP_OK;
}

/* ---- replies ---- */

/* Takes a GET_REPLY, whose arithmetic must be right also when nobody waits for it. */
static enum cap_error take_get(struct client_lane *lane, struct cap_bytes payload)
{
    struct capstore_request *request = lane->request;
    struct proto_get_reply reply;
    if (proto_get_reply_decode(payload, &reply) != CAP_OK || !kind_valid(reply.kind) ||
        reply.offset > reply.body_len) {
        return CAP_E_BAD_REPLY;
    }
    lane->expects = CLIENT_BODY;
    lane->left = reply.len;
    if (request == NULL) {
        return CAP_OK;
    }
    uint64_t left = reply.body_len - reply.offset;
    if (reply.offset != request->offset ||
        reply.len != (request->len < left ? request->len : left)) {
        return CAP_E_BAD_REPLY;
    }
    request->len = reply.len;
    if (request->write == NULL && reply.len > request->most) {
        enum cap_error error = client_tell(
            request, CAP_E_BODY_TOO_LARGE, "the body is %llu bytes long; at most %llu are accepted",
            (unsigned long long)reply.len, (unsigned long long)request->most);
        client_abandon(request, error);
    }
    return CAP_OK;
}

static enum cap_error take_kinds(struct capstore_request *request,
                                 const struct proto_has_reply *reply)
{
    if (cap_buf_append(&request->body, reply->kinds.data, reply->kinds.len) != CAP_OK) {
        return CAP_E_NO_MEMORY;
    }
    request->answer.kinds = request->body.data;
    request->answer.kind_count = request->body.len;
    return CAP_OK;
}

static enum cap_error take_kept(struct capstore_request *request,
                                const struct proto_has_reply *reply)
{
    for (size_t i = 0; i < reply->kinds.len; i++) {
        const struct capstore_kept kept = {reply->kinds.data[i], proto_kept_s(reply, i)};
        if (cap_buf_append(&request->body, &kept, sizeof(kept)) != CAP_OK) {
            return CAP_E_NO_MEMORY;
        }
    }
    request->answer.kept = (const struct capstore_kept *)(const void *)request->body.data;
    request->answer.kept_count = reply->kinds.len;
    return CAP_OK;
}

static enum cap_error take_has(struct capstore_request *request, struct cap_bytes payload)
{
    struct proto_has_reply reply;
    enum cap_error error = client_leases(request->store)
                               ? proto_has_reply_keep_decode(payload, &reply)
                               : proto_has_reply_decode(payload, &reply);
    if (error != CAP_OK || reply.kinds.len != request->count) {
        return CAP_E_BAD_REPLY;
    }
    for (size_t i = 0; i < reply.kinds.len; i++) {
        if (reply.kinds.data[i] != 0 && !kind_valid(reply.kinds.data[i])) {
            return CAP_E_BAD_REPLY;
        }
    }
    return request->keeps ? take_kept(request, &reply) : take_kinds(request, &reply);
}

static enum cap_error take_stat(struct capstore_request *request, struct cap_bytes payload)
{
    struct proto_stat_reply reply;
    if (proto_stat_reply_decode(payload, &reply) != CAP_OK || !kind_valid(reply.kind)) {
        return CAP_E_BAD_REPLY;
    }
    request->answer.stat = (struct capstore_stat_result){
        .kind = (enum capstore_kind)reply.kind,
        .body_len = reply.body_len,
        .size = reply.size,
        .page_count = reply.page_count,
        .ref_count = reply.ref_count,
        .published_us = reply.published_us,
        .content_hash = client_hash(&reply.content_hash),
    };
    return CAP_OK;
}

static enum cap_error take_put_data(struct capstore_request *request, struct cap_bytes payload)
{
    struct proto_put_data_reply reply;
    enum cap_error error = client_leases(request->store)
                               ? proto_put_data_reply_keep_decode(payload, &reply)
                               : proto_put_data_reply_decode(payload, &reply);
    if (error != CAP_OK) {
        return CAP_E_BAD_REPLY;
    }
    request->answer.put = (struct capstore_put_result){
        client_hash(&reply.cap_hash), reply.size, reply.body_len, reply.is_new != 0, reply.kept_s};
    return CAP_OK;
}

static enum cap_error take_put_image(struct capstore_request *request, struct cap_bytes payload)
{
    struct proto_put_image_reply reply;
    enum cap_error error = client_leases(request->store)
                               ? proto_put_image_reply_keep_decode(payload, &reply)
                               : proto_put_image_reply_decode(payload, &reply);
    if (error != CAP_OK) {
        return CAP_E_BAD_REPLY;
    }
    request->answer.publish = (struct capstore_publish_result){
        .cap_hash = client_hash(&reply.cap_hash),
        .content_hash = client_hash(&reply.content_hash),
        .body_len = reply.body_len,
        .is_new = reply.is_new != 0,
        .data_new = reply.data_new,
        .data_present = reply.data_present,
        .kept_s = reply.kept_s,
    };
    return CAP_OK;
}

static enum cap_error take_put_cap(struct capstore_request *request, struct cap_bytes payload)
{
    struct proto_put_cap_reply reply;
    enum cap_error error = client_leases(request->store)
                               ? proto_put_cap_reply_keep_decode(payload, &reply)
                               : proto_put_cap_reply_decode(payload, &reply);
    if (error != CAP_OK) {
        return CAP_E_BAD_REPLY;
    }
    request->answer.put.is_new = reply.is_new != 0; /* the rest was known before */
    request->answer.put.kept_s = reply.kept_s;
    return CAP_OK;
}

/* Reads a reply that ends its request. */
static enum cap_error read_reply(struct capstore_request *request, struct cap_bytes payload)
{
    switch ((uint8_t)request->type) {
    case PROTO_HELLO:
        return client_take_hello(request->store, payload);
    case PROTO_HAS:
        return take_has(request, payload);
    case PROTO_STAT:
        return take_stat(request, payload);
    case PROTO_PUT_DATA:
        return take_put_data(request, payload);
    case PROTO_PUT_IMAGE:
        return take_put_image(request, payload);
    case PROTO_PUT_CAP:
        return take_put_cap(request, payload);
    default: /* one that its maker reads */
        return cap_buf_append(&request->body, payload.data, payload.len);
    }
}

static enum cap_error take_reply(struct capstore *store, struct client_lane *lane,
                                 const struct proto_event *event)
{
    struct capstore_request *request = lane->request;
    if (event->frame.type != (lane->type | PROTO_REPLY_BIT)) {
        return unexpected(store, event->frame.type);
    }
    if (lane->type == PROTO_GET) {
        return take_get(lane, event->bytes);
    }
    if (lane->type == PROTO_GET_MANY) {
        lane->expects = CLIENT_PIECES;
        return client_many_reply(request, event->bytes);
    }
    if (lane->type == PROTO_CLOSURE) {
        lane->expects = CLIENT_PIECES;
        return take_closure(event->bytes);
    }
    if (lane->type == PROTO_SLICE) {
        struct proto_slice_reply reply; /* the slice proves what it says */
        lane->expects = CLIENT_STREAM;
        return proto_slice_reply_decode(event->bytes, &reply) == CAP_OK ? CAP_OK : CAP_E_BAD_REPLY;
    }
    if (request != NULL && request->source.read != NULL && !request->ended) {
        return client_say(store, CAP_E_BAD_REPLY,
                          "the daemon answered before the upload was complete");
    }
    enum cap_error error = request != NULL ? read_reply(request, event->bytes) : CAP_OK;
    if (error != CAP_OK) {
        return error;
    }
    if (lane == &store->hello) {
        store->hello = (struct client_lane){0};
    } else {
        client_lane_close(store, lane);
    }
    if (request != NULL) {
        client_finish(request, CAP_OK);
    }
    return CAP_OK;
}

enum cap_error client_take(struct capstore *store, const struct proto_event *event)
{
    uint32_t id = event->frame.id;
    struct client_lane *lane = client_lane_find(store, id);
    if (id == 0 && event->frame.type == PROTO_ERROR) {
        return take_error(store, NULL, event->bytes);
    }
    if (id == 0 && store->hello.request != NULL) {
        lane = &store->hello;
    }
    if (lane == NULL) {
        return (int32_t)(id - store->id) <= 0
                   ? CAP_OK
                   : client_say(store, CAP_E_BAD_REPLY,
                                "the daemon answered a request that was not made");
    }
    if (event->frame.type == PROTO_ERROR && lane->expects != CLIENT_DETAIL) {
        return take_error(store, lane, event->bytes);
    }
    return lane->expects == CLIENT_AWAIT ? take_reply(store, lane, event)
                                         : take_body(store, lane, event);
}
