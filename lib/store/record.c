/*
 * Records of the store, format version 4.
 *
 *   cap      0 kind u8, 1 zero, 2 critical flags u16, 4 other flags u16, 6 numbers: uid, gid,
 *            body_len, size, page_count, ref_count, published_us, body; if any is not 0,
 *            node_counts[5]; if there is one, kept_until_s less the second of published_us, modulo
 *            2^32; then the content hash, if there is one
 *   state    0 next_body, 8 refs, 16 caps[3], 40 body_bytes[3], 64 clock_s
 *   root     0 hash, 32 set_us, 40 uid u32
 *   owner    0 caps, 8 bytes
 *   removed  0 hash, 32 time_us, 40 uid u32, 44 cause u8
 *   format   0 version u32, 4 zero u32, 8 id
 *
 * Behind each lies its seal. A number takes as few bytes as it can, seven bits in each, the low
 * ones first, and the top bit says that more follow (LEB128): the record of a small cap is a
 * quarter as long as with fields of fixed width, and records are what fills the pages of a store of
 * small caps.
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

bool store_seal_holds(uint64_t seed, const void *bytes, size_t len, uint64_t seal)
{
    return XXH3_64bits_withSeed(bytes, len, seed) == seal;
}

bool store_unseal(uint64_t seed, struct cap_bytes sealed, struct cap_bytes *ret_value)
{
    if (sealed.len < STORE_SEAL_SIZE) {
        return false;
    }
    size_t len = sealed.len - STORE_SEAL_SIZE;
    if (!store_seal_holds(seed, sealed.data, len, cap_load64(sealed.data + len))) {
        return false;
    }
    *ret_value = (struct cap_bytes){sealed.data, len};
    return true;
}

#define CAP_HEAD   6u
#define CAP_COUNTS 8u /* numbers before the node counts */
#define NUMBER_MAX 10u

static uint8_t *put_number(uint8_t *p, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) {
        *p++ = (uint8_t)(value | 0x80);
    }
    *p++ = (uint8_t)value;
    return p;
}

/* Reads a number and returns what follows it; NULL unless it is one in its only form. */
static const uint8_t *take_number(const uint8_t *p, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; p < end && i < NUMBER_MAX; i++) {
        uint8_t byte = *p++;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *ret_value = value;
            return (byte != 0 || i == 0) && (byte <= 1 || i < NUMBER_MAX - 1) ? p : NULL;
        }
    }
    return NULL;
}

/* What a lease is counted from, so that it takes three bytes and not five. */
static uint32_t published_s(const struct cap_info *info)
{
    return (uint32_t)(info->published_us / 1000000);
}

static uint16_t critical_flags(const struct cap_info *info)
{
    return (uint16_t)((info->has_content_hash ? STORE_CRITICAL_CONTENT : 0) |
                      (info->kept_until_s != 0 ? STORE_CRITICAL_KEPT : 0) |
                      (info->quarantined ? STORE_CRITICAL_QUARANTINED : 0) |
                      (cap_node_total(&info->node_counts) != 0 ? STORE_CRITICAL_NODES : 0));
}

size_t store_cap_encode(const struct store_cap *cap, uint8_t ret_bytes[STORE_CAP_MAX])
{
    const struct cap_info *info = &cap->info;
    const uint64_t numbers[CAP_COUNTS] = {
        info->publisher.uid, info->publisher.gid, info->body_len,     info->size,
        info->page_count,    info->ref_count,     info->published_us, cap->body,
    };
    uint8_t *p = ret_bytes + CAP_HEAD;
    uint16_t flags = critical_flags(info);
    ret_bytes[0] = (uint8_t)info->kind;
    ret_bytes[1] = 0;
    cap_store16(ret_bytes + 2, flags);
    cap_store16(ret_bytes + 4, cap->ignorable);
    for (size_t i = 0; i < CAP_COUNTS; i++) {
        p = put_number(p, numbers[i]);
    }
    for (size_t i = 0; i < CAP_NODE_LEVELS && (flags & STORE_CRITICAL_NODES) != 0; i++) {
        p = put_number(p, info->node_counts.of[i]);
    }
    if (info->kept_until_s != 0) {
        p = put_number(p, (uint32_t)info->kept_until_s - published_s(info));
    }
    if (info->has_content_hash) {
        memcpy(p, info->content_hash.bytes, CAP_HASH_SIZE);
        p += CAP_HASH_SIZE;
    }
    return (size_t)(p - ret_bytes);
}

/* Reads the node counts, of which some is not 0. NULL as at take_number. */
static const uint8_t *take_nodes(const uint8_t *p, const uint8_t *end, struct cap_info *info)
{
    for (size_t i = 0; i < CAP_NODE_LEVELS && p != NULL; i++) {
        uint64_t number = 0;
        p = take_number(p, end, &number);
        p = number > UINT32_MAX ? NULL : p;
        info->node_counts.of[i] = (uint32_t)number;
    }
    return cap_node_total(&info->node_counts) != 0 ? p : NULL;
}

/* Reads a lease. NULL as at take_number. */
static const uint8_t *take_lease(const uint8_t *p, const uint8_t *end, struct cap_info *info)
{
    uint64_t number = 0;
    p = take_number(p, end, &number);
    info->kept_until_s = (uint32_t)number + published_s(info);
    info->kept_until_s &= UINT32_MAX;
    return number <= UINT32_MAX && info->kept_until_s != 0 ? p : NULL;
}

/* Reads what follows the head; false for what is not what the flags say exactly. */
static bool take_figures(const uint8_t *p, const uint8_t *end, uint16_t flags,
                         struct store_cap *cap)
{
    struct cap_info *info = &cap->info;
    uint64_t numbers[CAP_COUNTS];
    for (size_t i = 0; i < CAP_COUNTS; i++) {
        p = take_number(p, end, &numbers[i]);
        if (p == NULL) {
            return false;
        }
    }
    if (numbers[0] > UINT32_MAX || numbers[1] > UINT32_MAX) {
        return false;
    }
    info->publisher.uid = (uint32_t)numbers[0];
    info->publisher.gid = (uint32_t)numbers[1];
    info->body_len = numbers[2];
    info->size = numbers[3];
    info->page_count = numbers[4];
    info->ref_count = numbers[5];
    info->published_us = numbers[6];
    cap->body = numbers[7];
    if ((flags & STORE_CRITICAL_NODES) != 0) {
        p = take_nodes(p, end, info);
    }
    if (p != NULL && (flags & STORE_CRITICAL_KEPT) != 0) {
        p = take_lease(p, end, info);
    }
    if (p == NULL || end - p != (info->has_content_hash ? (ptrdiff_t)CAP_HASH_SIZE : 0)) {
        return false;
    }
    if (info->has_content_hash) {
        memcpy(info->content_hash.bytes, p, CAP_HASH_SIZE);
    }
    return true;
}

enum cap_error store_cap_decode(struct cap_bytes bytes, struct store_cap *ret_cap)
{
    const uint8_t *p = bytes.data;
    struct store_cap cap = {0};
    if (bytes.len < CAP_HEAD || bytes.len > STORE_CAP_MAX) {
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
    cap.info.quarantined = (critical & STORE_CRITICAL_QUARANTINED) != 0;
    cap.ignorable = cap_load16(p + 4);
    if (!take_figures(p + CAP_HEAD, p + bytes.len, critical, &cap) ||
        cap.info.body_len > STORE_BODY_MAX || cap_info_root_count(&cap.info) > STORE_PAGE_MAX ||
        !cap_info_nodes_fit(&cap.info)) {
        return CAP_E_CORRUPT;
    }
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
    cap_store64(ret_bytes + 64, state->clock_s);
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
    ret_state->clock_s = cap_load64(bytes.data + 64);
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

void store_root_encode(const struct cap_root *root, uint8_t ret_bytes[STORE_ROOT_SIZE])
{
    memcpy(ret_bytes, root->hash.bytes, CAP_HASH_SIZE);
    cap_store64(ret_bytes + CAP_HASH_SIZE, root->set_us);
    cap_store32(ret_bytes + CAP_HASH_SIZE + 8, root->uid);
}

enum cap_error store_root_decode(struct cap_bytes bytes, struct cap_root *ret_root)
{
    if (bytes.len != STORE_ROOT_SIZE) {
        return CAP_E_CORRUPT;
    }
    memcpy(ret_root->hash.bytes, bytes.data, CAP_HASH_SIZE);
    ret_root->set_us = cap_load64(bytes.data + CAP_HASH_SIZE);
    ret_root->uid = cap_load32(bytes.data + CAP_HASH_SIZE + 8);
    return CAP_OK;
}

void store_owner_encode(const struct cap_usage *usage, uint8_t ret_bytes[STORE_OWNER_SIZE])
{
    cap_store64(ret_bytes, usage->caps);
    cap_store64(ret_bytes + 8, usage->bytes);
}

enum cap_error store_owner_decode(struct cap_bytes bytes, struct cap_usage *ret_usage)
{
    if (bytes.len != STORE_OWNER_SIZE) {
        return CAP_E_CORRUPT;
    }
    *ret_usage = (struct cap_usage){cap_load64(bytes.data), cap_load64(bytes.data + 8)};
    return CAP_OK;
}

void store_removed_encode(const struct cap_hash *hash, const struct cap_removed *removed,
                          uint8_t ret_bytes[STORE_REMOVED_SIZE])
{
    memcpy(ret_bytes, hash->bytes, CAP_HASH_SIZE);
    cap_store64(ret_bytes + CAP_HASH_SIZE, removed->time_us);
    cap_store32(ret_bytes + CAP_HASH_SIZE + 8, removed->uid);
    ret_bytes[CAP_HASH_SIZE + 12] = (uint8_t)removed->cause;
}

enum cap_error store_removed_decode(struct cap_bytes bytes, struct cap_hash *ret_hash,
                                    struct cap_removed *ret_removed)
{
    uint8_t cause = bytes.len == STORE_REMOVED_SIZE ? bytes.data[CAP_HASH_SIZE + 12] : 0;
    if (cause < CAP_GONE_COLLECTED || cause > CAP_GONE_FORBIDDEN) {
        return CAP_E_CORRUPT;
    }
    memcpy(ret_hash->bytes, bytes.data, CAP_HASH_SIZE);
    ret_removed->time_us = cap_load64(bytes.data + CAP_HASH_SIZE);
    ret_removed->uid = cap_load32(bytes.data + CAP_HASH_SIZE + 8);
    ret_removed->cause = (enum cap_gone_cause)cause;
    return CAP_OK;
}

/* The lowest `size` bytes of a number, the highest of them first. */
static void put_big_endian(uint64_t number, uint8_t *ret_bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ret_bytes[i] = (uint8_t)(number >> (8 * (size - 1 - i)));
    }
}

static uint64_t take_big_endian(const uint8_t *bytes, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        number = number << 8 | bytes[i];
    }
    return number;
}

void store_due_key(uint32_t time_s, uint64_t sequence, uint8_t ret_key[STORE_DUE_KEY])
{
    put_big_endian(time_s, ret_key, 4);
    put_big_endian(sequence, ret_key + 4, 8);
}

void store_due_key_load(const uint8_t key[STORE_DUE_KEY], uint32_t *ret_time_s,
                        uint64_t *ret_sequence)
{
    *ret_time_s = (uint32_t)take_big_endian(key, 4);
    *ret_sequence = take_big_endian(key + 4, 8);
}

void store_sequence_key(uint64_t sequence, uint8_t ret_key[STORE_SEQUENCE_KEY])
{
    put_big_endian(sequence, ret_key, STORE_SEQUENCE_KEY);
}

uint64_t store_sequence_key_load(const uint8_t key[STORE_SEQUENCE_KEY])
{
    return take_big_endian(key, STORE_SEQUENCE_KEY);
}

void store_owner_key(uint32_t uid, uint8_t ret_key[STORE_OWNER_KEY])
{
    put_big_endian(uid, ret_key, STORE_OWNER_KEY);
}

uint32_t store_owner_key_load(const uint8_t key[STORE_OWNER_KEY])
{
    return (uint32_t)take_big_endian(key, STORE_OWNER_KEY);
}

void store_body_key(uint64_t body, uint8_t ret_key[STORE_BODY_KEY])
{
    put_big_endian(body, ret_key, STORE_BODY_KEY);
}

uint64_t store_body_key_load(const uint8_t key[STORE_BODY_KEY])
{
    return take_big_endian(key, STORE_BODY_KEY);
}

void store_chunk_key(uint64_t body, enum store_stream stream, uint32_t chunk,
                     uint8_t ret_key[STORE_CHUNK_KEY])
{
    store_body_key(body, ret_key);
    ret_key[8] = (uint8_t)stream;
    put_big_endian(chunk, ret_key + 9, 4);
}
