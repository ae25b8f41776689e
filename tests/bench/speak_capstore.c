/* capstore's own protocol (PROTOCOL.md). The id of a request is its slot plus one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "proto/frame.h"
#include "proto/message.h"
#include "tests/bench/load.h"
#include "tests/bench/net.h"
#include "tests/support/filled.h"

#define HEADER           PROTO_FRAME_HEADER_SIZE
#define FIXED_MAX        64u /* of a GET's or PUT_DATA's payload */
#define HAS_FIXED        4u
#define BODY_FRAME       PROTO_FRAME_MAX
#define BODY_FRAMES(len) ((len) / BODY_FRAME + 1)

static size_t request_max(const struct load_options *options)
{
    switch (options->work) {
    case LOAD_GET:
        return HEADER + FIXED_MAX;
    case LOAD_PUT:
        return HEADER + FIXED_MAX + BODY_FRAMES(options->len) * HEADER + options->len;
    case LOAD_HAS:
    case LOAD_MANY:
        return HEADER + HAS_FIXED + (size_t)options->batch * CAP_HASH_SIZE;
    }
    return 0;
}

static size_t write_header(uint8_t type, unsigned slot, size_t len, uint8_t flags, uint8_t *out)
{
    const struct proto_frame frame = {
        .len = (uint32_t)len,
        .id = slot + 1,
        .type = type,
        .flags = flags,
    };
    proto_frame_encode(&frame, out);
    return HEADER;
}

/* Writes a message that `encoded` tells whether its payload, behind the header, could be encoded.
 */
static size_t finish(enum cap_error encoded, uint8_t type, unsigned slot, const struct cap_buf *buf,
                     uint8_t *out)
{
    if (encoded != CAP_OK || buf->data != out + HEADER) {
        net_die("a request cannot be encoded", NULL, 0);
    }
    return write_header(type, slot, buf->len, 0, out) + buf->len;
}

static size_t write_put(const struct conn *conn, unsigned slot, uint8_t *out)
{
    uint64_t len = load_options(conn)->len;
    struct cap_buf buf = {.data = out + HEADER, .capacity = FIXED_MAX};
    const struct proto_put_data put = {.total_len = len};
    size_t at = finish(proto_put_data_encode(&put, &buf), PROTO_PUT_DATA, slot, &buf, out);
    /* The value goes where the frames' headers leave room: from the last frame to the first. */
    uint8_t *value = out + at + BODY_FRAMES(len) * HEADER;
    filled_body(conn->slots[slot].key, value, len);
    uint64_t taken = 0;
    do {
        size_t piece = len - taken < BODY_FRAME ? (size_t)(len - taken) : BODY_FRAME;
        bool ends = taken + piece == len;
        at += write_header(PROTO_BODY, slot, piece, ends ? PROTO_FLAG_END : 0, out + at);
        memmove(out + at, value + taken, piece);
        at += piece;
        taken += piece;
    } while (taken < len);
    return at;
}

/* A HAS or a GET_MANY, whose payloads are the same. */
static size_t write_hashes(const struct conn *conn, uint8_t type, unsigned slot, uint8_t *out)
{
    unsigned batch = load_options(conn)->batch;
    size_t len = HAS_FIXED + (size_t)batch * CAP_HASH_SIZE;
    cap_store32(out + HEADER, HAS_FIXED);
    uint8_t *at = out + HEADER + HAS_FIXED;
    for (unsigned i = 0; i < batch; i++, at += CAP_HASH_SIZE) {
        struct cap_hash hash = filled_hash(load_key(conn, slot, i));
        memcpy(at, hash.bytes, CAP_HASH_SIZE);
    }
    return write_header(type, slot, len, 0, out) + len;
}

static size_t request(struct conn *conn, unsigned slot, uint8_t *out)
{
    enum load_work work = load_options(conn)->work;
    if (work == LOAD_PUT) {
        return write_put(conn, slot, out);
    }
    if (work == LOAD_HAS || work == LOAD_MANY) {
        return write_hashes(conn, work == LOAD_HAS ? PROTO_HAS : PROTO_GET_MANY, slot, out);
    }
    struct cap_buf buf = {.data = out + HEADER, .capacity = FIXED_MAX};
    const struct proto_get get = {.hash = filled_hash(conn->slots[slot].key), .len = PROTO_TO_END};
    return finish(proto_get_encode(&get, &buf), PROTO_GET, slot, &buf, out);
}

static void on_has_reply(const struct conn *conn, struct cap_bytes payload)
{
    struct proto_has_reply reply;
    if (proto_has_reply_decode(payload, &reply) != CAP_OK ||
        reply.kinds.len != load_options(conn)->batch ||
        memchr(reply.kinds.data, 0, reply.kinds.len) != NULL) {
        net_die("a cap is not there, or HAS_REPLY is wrong", payload.data, payload.len);
    }
}

static void on_message(struct conn *conn, const struct proto_frame *frame, struct cap_bytes payload)
{
    struct proto_get_reply got;
    struct proto_get_many_reply many;
    struct proto_put_data_reply put;
    unsigned slot = frame->id - 1;
    switch (frame->type) {
    case PROTO_GET_REPLY:
        if (proto_get_reply_decode(payload, &got) != CAP_OK || got.len != load_options(conn)->len) {
            net_die("a GET_REPLY is wrong", payload.data, payload.len);
        }
        return;
    case PROTO_GET_MANY_REPLY:
        if (proto_get_many_reply_decode(payload, &many) != CAP_OK ||
            many.count != load_options(conn)->batch) {
            net_die("a GET_MANY_REPLY is wrong", payload.data, payload.len);
        }
        return;
    case PROTO_PUT_DATA_REPLY:
        if (proto_put_data_reply_decode(payload, &put) != CAP_OK || put.is_new != 1) {
            net_die("a PUT_DATA_REPLY is wrong, or the cap was there", payload.data, payload.len);
        }
        break;
    case PROTO_HAS_REPLY:
        on_has_reply(conn, payload);
        break;
    default:
        net_die("the daemon refused", payload.data, payload.len);
    }
    load_done(conn, slot);
}

/* A head or bytes of a piece: the daemon lays no head across frames. */
static size_t parse_piece(struct conn *conn, const uint8_t *bytes, size_t len)
{
    struct proto_piece piece;
    if (conn->piece_left > 0) {
        size_t part = conn->piece_left < len ? (size_t)conn->piece_left : len;
        load_value(conn, conn->body_slot, bytes, part);
        conn->piece_left -= part;
        if (conn->piece_left == 0) {
            (void)load_value_done(conn, conn->body_slot);
        }
        return part;
    }
    if (len < PROTO_PIECE_SIZE) {
        return 0;
    }
    if (conn->body_left < PROTO_PIECE_SIZE || proto_piece_decode(bytes, &piece) != CAP_OK ||
        piece.code != 0 || piece.more != 0 || piece.len != load_options(conn)->len) {
        net_die("a piece is wrong, or its cap is not there", bytes, PROTO_PIECE_SIZE);
    }
    load_expect(conn, conn->body_slot, piece.index);
    conn->piece_left = piece.len;
    return PROTO_PIECE_SIZE;
}

static size_t parse_body(struct conn *conn, const uint8_t *bytes, size_t len)
{
    size_t piece = conn->body_left < len ? (size_t)conn->body_left : len;
    if (load_options(conn)->work == LOAD_MANY) {
        piece = parse_piece(conn, bytes, piece);
    } else {
        load_value(conn, conn->body_slot, bytes, piece);
    }
    conn->body_left -= piece;
    if (conn->body_left == 0 && conn->body_ends) {
        if (load_options(conn)->work == LOAD_GET) {
            (void)load_value_done(conn, conn->body_slot);
        }
        load_done(conn, conn->body_slot);
    }
    return piece;
}

static size_t parse(struct conn *conn, const uint8_t *bytes, size_t len)
{
    if (conn->body_left > 0) {
        return parse_body(conn, bytes, len);
    }
    struct proto_frame frame;
    if (len < HEADER) {
        return 0;
    }
    if (proto_frame_decode(bytes, PROTO_FRAME_MAX, &frame) != CAP_OK || frame.id == 0 ||
        frame.id > load_options(conn)->depth) {
        net_die("a frame is wrong", bytes, len);
    }
    if (frame.type == PROTO_BODY) {
        conn->body_left = frame.len;
        conn->body_slot = frame.id - 1;
        conn->body_ends = (frame.flags & PROTO_FLAG_END) != 0;
        if (frame.len == 0 && conn->body_ends) {
            net_die("a body ends with an empty frame", bytes, len);
        }
        return HEADER;
    }
    if (len - HEADER < frame.len) {
        return 0;
    }
    on_message(conn, &frame, (struct cap_bytes){bytes + HEADER, frame.len});
    return HEADER + frame.len;
}

const struct speaker speaker_capstore = {
    .name = "capstore",
    .request_max = request_max,
    .greet = net_hello,
    .request = request,
    .parse = parse,
};
