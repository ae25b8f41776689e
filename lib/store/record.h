/*
 * The store's records in bytes: fixed sizes, little-endian, a version and a check in front.
 *
 * Keys are big-endian where their order matters. Decoding never trusts a record: one of a wrong
 * length, version or check is CAP_E_CORRUPT. All functions are pure.
 */
#ifndef LIB_STORE_RECORD_H
#define LIB_STORE_RECORD_H

#include "lib/store/store.h"

#define STORE_FORMAT_VERSION 1u

#define STORE_CAP_SIZE    104u
#define STORE_STATE_SIZE  72u
#define STORE_FORMAT_SIZE (8u + CAP_STORE_ID_SIZE)
#define STORE_STAGE_SIZE  16u
#define STORE_CHUNK_KEY   13u
#define STORE_BODY_KEY    8u
#define STORE_PAIR_KEY    (2u * CAP_HASH_SIZE)

/* What chunk numbers of 32 bits can hold: longer bodies and more pages are not stored. */
#define STORE_BODY_MAX (UINT64_C(1) << 47)
#define STORE_PAGE_MAX CAP_LIST_LIMIT

/* A cap as the store keeps it. */
struct store_cap {
    struct cap_info info;
    uint64_t body; /* the id under which its bulk lies */
};

/* Writes a cap record; every cap_info that a put accepts fits. */
void store_cap_encode(const struct store_cap *cap, uint8_t ret_bytes[STORE_CAP_SIZE]);

/* Reads a cap record. CAP_E_CORRUPT leaves *ret_cap untouched. */
enum cap_error store_cap_decode(struct cap_bytes bytes, struct store_cap *ret_cap);

/* What is kept with the caps so that nothing is scanned at start. */
struct store_state {
    uint64_t next_body;
    struct cap_counts counts;
};

/* Writes the state record. */
void store_state_encode(const struct store_state *state, uint8_t ret_bytes[STORE_STATE_SIZE]);

/* Reads the state record. CAP_E_CORRUPT leaves *ret_state untouched. */
enum cap_error store_state_decode(struct cap_bytes bytes, struct store_state *ret_state);

/* The format record: every version of the store begins it with the version. CAP_E_STORE_VERSION. */
void store_format_encode(const uint8_t id[CAP_STORE_ID_SIZE], uint8_t ret_bytes[STORE_FORMAT_SIZE]);
enum cap_error store_format_decode(struct cap_bytes bytes, uint8_t ret_id[CAP_STORE_ID_SIZE]);

/* The two streams of bulk that a cap can have. */
enum store_stream {
    STORE_STREAM_BODY = 0,
    STORE_STREAM_ROOTS = 1,
};

/* The key under which a stage is listed, and with which its chunks begin. */
void store_body_key(uint64_t body, uint8_t ret_key[STORE_BODY_KEY]);

/* The body id of such a key. */
uint64_t store_body_key_load(const uint8_t key[STORE_BODY_KEY]);

/* The key of a chunk; it begins with the body's key. */
void store_chunk_key(uint64_t body, enum store_stream stream, uint32_t chunk,
                     uint8_t ret_key[STORE_CHUNK_KEY]);

#endif
