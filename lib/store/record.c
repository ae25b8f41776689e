/*
 * Records of the store, format version 2.
 *
 *   cap      0 kind u8, 1 zero, 2 critical flags u16, 4 other flags u16, 6 zero, 8 uid u32,
 *            12 gid u32, 16 body_len, 24 size, 32 page_count, 40 ref_count, 48 published_us,
 *            56 body, 64 content hash, 96 node_counts u32[5], 116 zero u32
 *   state    0 next_body, 8 refs, 16 caps[3], 40 body_bytes[3]
 *   format   0 version u32, 4 zero u32, 8 id
 *
 * Behind each lies its seal.
 */
#include "lib/store/record.h"

#include <xxhash.h>

uint64_t store_seed(struct cap_bytes key)
{
    return XXH3_64bits(key.data, key.len);
}

void store_seal(uint64_t seed, uint8_t *bytes, size_t len)
{
    cap_store64(bytes + len, XXH3_64bits_withSeed(bytes, len, seed));
}

bool store_unseal(uint64_t seed, struct cap_bytes sealed, struct cap_bytes *ret_value)
{
    if (sealed.len < STORE_SEAL_SIZE) {
        return false;
    }
    size_t len = sealed.len - STORE_SEAL_SIZE;
    if (XXH3_64bits_withSeed(sealed.data, len, seed) != cap_load64(sealed.data + len)) {
        return false;
    }
    *ret_value = (struct cap_bytes){sealed.data, len};
    return true;
}

void store_cap_encode(const struct store_cap *cap, uint8_t ret_bytes[STORE_CAP_SIZE])
{
    const struct cap_info *info = &cap->info;
    memset(ret_bytes, 0, STORE_CAP_SIZE);
    ret_bytes[0] = (uint8_t)info->kind;
    cap_store16(ret_bytes + 2, info->has_content_hash ? STORE_CRITICAL_CONTENT : 0);
    cap_store16(ret_bytes + 4, cap->ignorable);
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
    for (size_t i = 0; i < CAP_NODE_LEVELS; i++) {
        cap_store32(ret_bytes + 96 + 4 * i, info->node_counts.of[i]);
    }
}

enum cap_error store_cap_decode(struct cap_bytes bytes, struct store_cap *ret_cap)
{
    const uint8_t *p = bytes.data;
    struct store_cap cap = {0};
    if (bytes.len != STORE_CAP_SIZE) {
        return CAP_E_CORRUPT;
    }
    uint16_t critical = cap_load16(p + 2);
    if ((critical & ~STORE_CRITICAL_KNOWN) != 0) {
        ret_cap->unknown = (uint16_t)(critical & ~STORE_CRITICAL_KNOWN);
        return CAP_E_STORE_VERSION;
    }
    if (p[0] != CAP_KIND_IMAGE && p[0] != CAP_KIND_DATA) {
        return CAP_E_CORRUPT;
    }
    cap.info.kind = (enum cap_kind)p[0];
    cap.info.has_content_hash = (critical & STORE_CRITICAL_CONTENT) != 0;
    cap.ignorable = cap_load16(p + 4);
    cap.info.publisher.uid = cap_load32(p + 8);
    cap.info.publisher.gid = cap_load32(p + 12);
    cap.info.body_len = cap_load64(p + 16);
    cap.info.size = cap_load64(p + 24);
    cap.info.page_count = cap_load64(p + 32);
    cap.info.ref_count = cap_load64(p + 40);
    cap.info.published_us = cap_load64(p + 48);
    cap.body = cap_load64(p + 56);
    for (size_t i = 0; i < CAP_NODE_LEVELS; i++) {
        cap.info.node_counts.of[i] = cap_load32(p + 96 + 4 * i);
    }
    if (cap.info.body_len > STORE_BODY_MAX || cap_info_root_count(&cap.info) > STORE_PAGE_MAX ||
        !cap_info_nodes_fit(&cap.info)) {
        return CAP_E_CORRUPT;
    }
    memcpy(cap.info.content_hash.bytes, p + 64, CAP_HASH_SIZE);
    *ret_cap = cap;
    return CAP_OK;
}

void store_state_encode(const struct store_state *state, uint8_t ret_bytes[STORE_STATE_SIZE])
{
    cap_store64(ret_bytes, state->next_body);
    cap_store64(ret_bytes + 8, state->counts.refs);
    for (size_t i = 0; i < CAP_STORE_KINDS; i++) {
        cap_store64(ret_bytes + 16 + 8 * i, state->counts.caps[i]);
        cap_store64(ret_bytes + 40 + 8 * i, state->counts.body_bytes[i]);
    }
}

enum cap_error store_state_decode(struct cap_bytes bytes, struct store_state *ret_state)
{
    if (bytes.len != STORE_STATE_SIZE) {
        return CAP_E_CORRUPT;
    }
    ret_state->next_body = cap_load64(bytes.data);
    ret_state->counts.refs = cap_load64(bytes.data + 8);
    for (size_t i = 0; i < CAP_STORE_KINDS; i++) {
        ret_state->counts.caps[i] = cap_load64(bytes.data + 16 + 8 * i);
        ret_state->counts.body_bytes[i] = cap_load64(bytes.data + 40 + 8 * i);
    }
    return CAP_OK;
}

void store_format_encode(const uint8_t id[CAP_STORE_ID_SIZE], uint8_t ret_bytes[STORE_FORMAT_SIZE])
{
    memset(ret_bytes, 0, STORE_FORMAT_SIZE);
    cap_store32(ret_bytes, STORE_FORMAT_VERSION);
    memcpy(ret_bytes + 8, id, CAP_STORE_ID_SIZE);
}

enum cap_error store_format_decode(struct cap_bytes key, struct cap_bytes sealed,
                                   uint8_t ret_id[CAP_STORE_ID_SIZE])
{
    struct cap_bytes bytes;
    if (sealed.len < 4) {
        return CAP_E_CORRUPT;
    }
    if (cap_load32(sealed.data) != STORE_FORMAT_VERSION) {
        return CAP_E_STORE_VERSION;
    }
    if (!store_unseal(store_seed(key), sealed, &bytes) || bytes.len != STORE_FORMAT_SIZE) {
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
