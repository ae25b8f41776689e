/*
 * Records of the store, format version 1.
 *
 * cap     0 version u8, 1 kind u8, 2 flags u8 (1: content hash), 3 zero, 4 check u32, 8 uid u32,
 *         12 gid u32, 16 body_len, 24 size, 32 page_count, 40 ref_count, 48 published_us, 56 body,
 *         64 content hash, 96 zero u64
 * state   0 check u32, 4 zero, 8 next_body, 16 refs, 24 caps[3], 48 body_bytes[3]
 * format  0 version u32, 4 zero u32, 8 id
 *
 * The check is over the record with its own field zero. It catches a damaged record before its
 * figures are believed; it is no defence against somebody who can write the file.
 */
#include "lib/store/record.h"

#define CAP_CHECK_AT   4u
#define STATE_CHECK_AT 0u
#define FLAG_CONTENT   1u

/* FNV-1a, 64 bits folded to 32. Every single damaged byte changes the 64 bits. */
static uint32_t checksum(const uint8_t *bytes, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < len; i++) {
        h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return (uint32_t)(h ^ h >> 32);
}

static void seal(uint8_t *bytes, size_t len, size_t check_at)
{
    cap_store32(bytes + check_at, 0);
    cap_store32(bytes + check_at, checksum(bytes, len));
}

/* `len` is at most the largest record's. */
static bool is_sealed(struct cap_bytes bytes, size_t len, size_t check_at)
{
    uint8_t copy[STORE_CAP_SIZE];

    if (bytes.len != len) {
        return false;
    }
    memcpy(copy, bytes.data, len);
    cap_store32(copy + check_at, 0);
    return checksum(copy, len) == cap_load32(bytes.data + check_at);
}

void store_cap_encode(const struct store_cap *cap, uint8_t ret_bytes[STORE_CAP_SIZE])
{
    const struct cap_info *info = &cap->info;

    memset(ret_bytes, 0, STORE_CAP_SIZE);
    ret_bytes[0] = STORE_FORMAT_VERSION;
    ret_bytes[1] = (uint8_t)info->kind;
    ret_bytes[2] = info->has_content_hash ? FLAG_CONTENT : 0;
    cap_store32(ret_bytes + 8, info->publisher.uid);
    cap_store32(ret_bytes + 12, info->publisher.gid);
    cap_store64(ret_bytes + 16, info->body_len);
    cap_store64(ret_bytes + 24, info->size);
    cap_store64(ret_bytes + 32, info->page_count);
    cap_store64(ret_bytes + 40, info->ref_count);
    cap_store64(ret_bytes + 48, info->published_us);
    cap_store64(ret_bytes + 56, cap->body);
    if (info->has_content_hash) {
        memcpy(ret_bytes + 64, info->content_hash.bytes, CAP_HASH_SIZE);
    }
    seal(ret_bytes, STORE_CAP_SIZE, CAP_CHECK_AT);
}

enum cap_error store_cap_decode(struct cap_bytes bytes, struct store_cap *ret_cap)
{
    const uint8_t *p = bytes.data;
    struct store_cap cap = {0};

    if (!is_sealed(bytes, STORE_CAP_SIZE, CAP_CHECK_AT) || p[0] != STORE_FORMAT_VERSION) {
        return CAP_E_CORRUPT;
    }
    if ((p[1] != CAP_KIND_IMAGE && p[1] != CAP_KIND_DATA) || p[2] > FLAG_CONTENT) {
        return CAP_E_CORRUPT;
    }
    cap.info.kind = (enum cap_kind)p[1];
    cap.info.has_content_hash = p[2] == FLAG_CONTENT;
    cap.info.publisher.uid = cap_load32(p + 8);
    cap.info.publisher.gid = cap_load32(p + 12);
    cap.info.body_len = cap_load64(p + 16);
    cap.info.size = cap_load64(p + 24);
    cap.info.page_count = cap_load64(p + 32);
    cap.info.ref_count = cap_load64(p + 40);
    cap.info.published_us = cap_load64(p + 48);
    cap.body = cap_load64(p + 56);
    if (cap.info.body_len > STORE_BODY_MAX || cap.info.page_count > STORE_PAGE_MAX) {
        return CAP_E_CORRUPT;
    }
    memcpy(cap.info.content_hash.bytes, p + 64, CAP_HASH_SIZE);
    *ret_cap = cap;
    return CAP_OK;
}

void store_state_encode(const struct store_state *state, uint8_t ret_bytes[STORE_STATE_SIZE])
{
    memset(ret_bytes, 0, STORE_STATE_SIZE);
    cap_store64(ret_bytes + 8, state->next_body);
    cap_store64(ret_bytes + 16, state->counts.refs);
    for (size_t i = 0; i < CAP_STORE_KINDS; i++) {
        cap_store64(ret_bytes + 24 + 8 * i, state->counts.caps[i]);
        cap_store64(ret_bytes + 48 + 8 * i, state->counts.body_bytes[i]);
    }
    seal(ret_bytes, STORE_STATE_SIZE, STATE_CHECK_AT);
}

enum cap_error store_state_decode(struct cap_bytes bytes, struct store_state *ret_state)
{
    struct store_state state;

    if (!is_sealed(bytes, STORE_STATE_SIZE, STATE_CHECK_AT)) {
        return CAP_E_CORRUPT;
    }
    state.next_body = cap_load64(bytes.data + 8);
    state.counts.refs = cap_load64(bytes.data + 16);
    for (size_t i = 0; i < CAP_STORE_KINDS; i++) {
        state.counts.caps[i] = cap_load64(bytes.data + 24 + 8 * i);
        state.counts.body_bytes[i] = cap_load64(bytes.data + 48 + 8 * i);
    }
    *ret_state = state;
    return CAP_OK;
}

void store_format_encode(const uint8_t id[CAP_STORE_ID_SIZE], uint8_t ret_bytes[STORE_FORMAT_SIZE])
{
    memset(ret_bytes, 0, STORE_FORMAT_SIZE);
    cap_store32(ret_bytes, STORE_FORMAT_VERSION);
    memcpy(ret_bytes + 8, id, CAP_STORE_ID_SIZE);
}

enum cap_error store_format_decode(struct cap_bytes bytes, uint8_t ret_id[CAP_STORE_ID_SIZE])
{
    if (bytes.len < 4) {
        return CAP_E_CORRUPT;
    }
    if (cap_load32(bytes.data) != STORE_FORMAT_VERSION) {
        return CAP_E_STORE_VERSION;
    }
    if (bytes.len != STORE_FORMAT_SIZE) {
        return CAP_E_CORRUPT;
    }
    memcpy(ret_id, bytes.data + 8, CAP_STORE_ID_SIZE);
    return CAP_OK;
}

void store_body_key(uint64_t body, uint8_t ret_key[STORE_BODY_KEY])
{
    for (size_t i = 0; i < STORE_BODY_KEY; i++) {
        ret_key[i] = (uint8_t)(body >> (56 - 8 * i));
    }
}

uint64_t store_body_key_load(const uint8_t key[STORE_BODY_KEY])
{
    uint64_t body = 0;

    for (size_t i = 0; i < STORE_BODY_KEY; i++) {
        body = body << 8 | key[i];
    }
    return body;
}

void store_chunk_key(uint64_t body, enum store_stream stream, uint32_t chunk,
                     uint8_t ret_key[STORE_CHUNK_KEY])
{
    store_body_key(body, ret_key);
    ret_key[8] = (uint8_t)stream;
    for (size_t i = 0; i < 4; i++) {
        ret_key[9 + i] = (uint8_t)(chunk >> (24 - 8 * i));
    }
}
