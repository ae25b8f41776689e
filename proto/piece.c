/*
 * The heads within the bodies of a GET_MANY_REPLY and a CLOSURE_REPLY (PROTOCOL.md sections 4.18
 * and 4.24), written for speed.
 */
#include "proto/message.h"

enum {
    AT_INDEX = 0,
    AT_CODE = 4,
    AT_KIND = 6,
    AT_MORE = 7,
    AT_BODY_LEN = 8,
    AT_LEN = 16,
};

_Static_assert(AT_LEN + sizeof(uint32_t) == PROTO_PIECE_SIZE, "as PROTOCOL.md says");

void proto_piece_encode(const struct proto_piece *piece, uint8_t ret_head[PROTO_PIECE_SIZE])
{
    cap_store32(ret_head + AT_INDEX, piece->index);
    cap_store16(ret_head + AT_CODE, piece->code);
    ret_head[AT_KIND] = piece->kind;
    ret_head[AT_MORE] = piece->more;
    cap_store64(ret_head + AT_BODY_LEN, piece->body_len);
    cap_store32(ret_head + AT_LEN, piece->len);
}

static bool is_kind(uint8_t kind)
{
    return kind == CAP_KIND_IMAGE || kind == CAP_KIND_DATA;
}

static bool is_possible(const struct proto_piece *piece)
{
    if (piece->code != 0) {
        return piece->kind == 0 && piece->more == 0 && piece->body_len == 0 && piece->len == 0;
    }
    /* A piece that another follows has bytes, and leaves some. */
    bool is_len = piece->more == 0 ? piece->len <= piece->body_len
                                   : piece->len > 0 && piece->len < piece->body_len;
    return is_kind(piece->kind) && piece->more <= 1 && is_len;
}

enum cap_error proto_piece_decode(const uint8_t head[PROTO_PIECE_SIZE], struct proto_piece *ret)
{
    const struct proto_piece piece = {
        .index = cap_load32(head + AT_INDEX),
        .code = cap_load16(head + AT_CODE),
        .kind = head[AT_KIND],
        .more = head[AT_MORE],
        .body_len = cap_load64(head + AT_BODY_LEN),
        .len = cap_load32(head + AT_LEN),
    };
    if (!is_possible(&piece)) {
        return CAP_E_BAD_MESSAGE;
    }
    *ret = piece;
    return CAP_OK;
}

enum {
    ENTRY_KIND = CAP_HASH_SIZE,
    ENTRY_BODY_LEN = ENTRY_KIND + 1,
};

_Static_assert(ENTRY_BODY_LEN + sizeof(uint64_t) == PROTO_ENTRY_SIZE, "as PROTOCOL.md says");

void proto_entry_encode(const struct proto_entry *entry, uint8_t ret_head[PROTO_ENTRY_SIZE])
{
    memcpy(ret_head, entry->hash.bytes, CAP_HASH_SIZE);
    ret_head[ENTRY_KIND] = entry->kind;
    cap_store64(ret_head + ENTRY_BODY_LEN, entry->body_len);
}

enum cap_error proto_entry_decode(const uint8_t head[PROTO_ENTRY_SIZE], struct proto_entry *ret)
{
    uint8_t kind = head[ENTRY_KIND];
    uint64_t body_len = cap_load64(head + ENTRY_BODY_LEN);
    if (kind == 0 ? body_len != 0 : !is_kind(kind)) {
        return CAP_E_BAD_MESSAGE;
    }
    memcpy(ret->hash.bytes, head, CAP_HASH_SIZE);
    ret->kind = kind;
    ret->body_len = body_len;
    return CAP_OK;
}
