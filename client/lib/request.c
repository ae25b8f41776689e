/* Questions and fetches: has, stat, get. */
#include <stdlib.h>

#include "client/lib/conn.h"

/* Sends a message whose payload an encoder just made, or fails as the encoder did. Frees it. */
static enum cap_error send_payload(struct capstore *store, enum proto_type type,
                                   enum cap_error encoded, struct cap_buf *payload)
{
    if (encoded == CAP_OK) {
        encoded = client_send(store, type, 0, cap_buf_bytes(payload));
    }
    cap_buf_free(payload);
    return encoded;
}

static enum cap_error bad_reply(struct capstore *store)
{
    store->broken = true;
    return client_say(store, CAP_E_BAD_REPLY, "%s", cap_error_text(CAP_E_BAD_REPLY));
}

static bool kind_valid(uint8_t kind)
{
    return kind == CAP_KIND_IMAGE || kind == CAP_KIND_DATA;
}

/* ---- has ---- */

/* One question of at most the daemon's limit. */
static enum cap_error has_some(struct capstore *store, const struct capstore_hash *hashes,
                               size_t count, uint8_t *ret_kinds)
{
    _Static_assert(sizeof(*hashes) == CAP_HASH_SIZE, "hashes lie without gaps");
    struct proto_has message = {{hashes->bytes, count * CAP_HASH_SIZE}, count};
    struct cap_buf payload = {0};
    enum cap_error encoded = proto_has_encode(&message, &payload);
    struct cap_bytes in;
    struct proto_has_reply reply;
    enum cap_error error = send_payload(store, PROTO_HAS, encoded, &payload);
    if (error == CAP_OK) {
        error = client_await(store, PROTO_HAS_REPLY, &in);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (proto_has_reply_decode(in, &reply) != CAP_OK || reply.kinds.len != count) {
        return bad_reply(store);
    }
    for (size_t i = 0; i < count; i++) {
        if (reply.kinds.data[i] != 0 && !kind_valid(reply.kinds.data[i])) {
            return bad_reply(store);
        }
    }
    memcpy(ret_kinds, reply.kinds.data, count);
    return CAP_OK;
}

enum capstore_error capstore_has(struct capstore *store, const struct capstore_hash *hashes,
                                 size_t count, uint8_t *ret_kinds)
{
    enum cap_error error = client_begin(store);
    uint8_t *kinds = calloc(count + 1, 1);
    if (error == CAP_OK && kinds == NULL) {
        error = CAP_E_NO_MEMORY;
    }
    size_t in_frame = (store->limits.frame - 64u) / CAP_HASH_SIZE;
    size_t most = store->limits.hashes < in_frame ? store->limits.hashes : in_frame;
    for (size_t done = 0; error == CAP_OK && done < count;) {
        size_t some = count - done < most ? count - done : most;
        if (done > 0) {
            error = client_begin(store);
        }
        if (error == CAP_OK) {
            error = has_some(store, hashes + done, some, kinds + done);
        }
        done += some;
    }
    if (error == CAP_OK && count > 0) {
        memcpy(ret_kinds, kinds, count);
    }
    free(kinds);
    return client_end(store, error);
}

/* ---- stat ---- */

static enum cap_error stat_one(struct capstore *store, const struct capstore_hash *hash,
                               struct capstore_stat_result *ret_stat)
{
    struct proto_stat message = {client_cap_hash(hash)};
    struct cap_buf payload = {0};
    enum cap_error encoded = proto_stat_encode(&message, &payload);
    struct cap_bytes in;
    struct proto_stat_reply reply;
    enum cap_error error = send_payload(store, PROTO_STAT, encoded, &payload);
    if (error == CAP_OK) {
        error = client_await(store, PROTO_STAT_REPLY, &in);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (proto_stat_reply_decode(in, &reply) != CAP_OK || !kind_valid(reply.kind)) {
        return bad_reply(store);
    }
    *ret_stat = (struct capstore_stat_result){
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

enum capstore_error capstore_stat(struct capstore *store, const struct capstore_hash *hash,
                                  struct capstore_stat_result *ret_stat)
{
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = stat_one(store, hash, ret_stat);
    }
    return client_end(store, error);
}

/* ---- get ---- */

/* Asks for a range and checks the answer's arithmetic. */
static enum cap_error ask(struct capstore *store, const struct proto_get *message,
                          struct proto_get_reply *ret_reply)
{
    struct cap_buf payload = {0};
    enum cap_error encoded = proto_get_encode(message, &payload);
    struct cap_bytes in;
    struct proto_get_reply reply;
    enum cap_error error = send_payload(store, PROTO_GET, encoded, &payload);
    if (error == CAP_OK) {
        error = client_await(store, PROTO_GET_REPLY, &in);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (proto_get_reply_decode(in, &reply) != CAP_OK || !kind_valid(reply.kind) ||
        reply.offset != message->offset || reply.offset > reply.body_len) {
        return bad_reply(store);
    }
    uint64_t left = reply.body_len - reply.offset;
    if (reply.len != (message->len < left ? message->len : left)) {
        return bad_reply(store);
    }
    *ret_reply = reply;
    return CAP_OK;
}

static enum cap_error append_piece(void *ctx, struct cap_bytes piece)
{
    struct cap_buf *body = (struct cap_buf *)ctx;
    return cap_buf_append(body, piece.data, piece.len);
}

static enum cap_error fetch(struct capstore *store, const struct cap_hash *hash,
                            struct cap_buf *body)
{
    struct proto_get message = {*hash, 0, PROTO_TO_END};
    struct proto_get_reply reply;
    enum cap_error error = ask(store, &message, &reply);
    if (error != CAP_OK) {
        return error;
    }
    if (reply.len > store->max_body) {
        client_cancel(store);
        return client_say(store, CAP_E_BODY_TOO_LARGE,
                          "the body is %llu bytes long; at most %llu are accepted",
                          (unsigned long long)reply.len, (unsigned long long)store->max_body);
    }
    return client_receive(store, reply.len, true, append_piece, body);
}

enum capstore_error capstore_get(struct capstore *store, const struct capstore_hash *hash,
                                 struct capstore_cap **ret_cap)
{
    struct cap_hash wanted = client_cap_hash(hash);
    struct cap_buf body = {0};
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = fetch(store, &wanted, &body);
    }
    if (error == CAP_OK) {
        error = client_cap_make(&body, &wanted, !store->no_verify, ret_cap);
    }
    cap_buf_free(&body);
    return client_end(store, error);
}

struct forward {
    capstore_write_cb *write;
    void *ctx;
};

static enum cap_error forward(void *ctx, struct cap_bytes piece)
{
    const struct forward *to = (const struct forward *)ctx;
    return client_inner(to->write(to->ctx, client_bytes(piece)));
}

enum capstore_error capstore_get_range(struct capstore *store, const struct capstore_hash *hash,
                                       uint64_t offset, uint64_t len, capstore_write_cb *write,
                                       void *ctx)
{
    struct proto_get message = {client_cap_hash(hash), offset, len};
    struct proto_get_reply reply;
    struct forward to = {write, ctx};
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = ask(store, &message, &reply);
    }
    if (error == CAP_OK) {
        error = client_receive(store, reply.len, true, forward, &to);
    }
    return client_end(store, error);
}
