/*
 * The store's records in bytes: little-endian, each sealed with a checksum.
 *
 * Keys are big-endian where their order matters. Decoding never trusts a record: one of a wrong
 * length or with impossible figures is CAP_E_CORRUPT. All functions are pure.
 */
#ifndef LIB_STORE_RECORD_H
#define LIB_STORE_RECORD_H

#include "lib/store/types.h"

#define STORE_FORMAT_VERSION 4u

/* Without their seals. */
#define STORE_CAP_MAX      138u /* every figure as long as it can be */
#define STORE_STATE_SIZE   72u
#define STORE_FORMAT_SIZE  (8u + CAP_STORE_ID_SIZE)
#define STORE_STAGE_SIZE   16u
#define STORE_CORPSE_SIZE  (STORE_STAGE_SIZE + CAP_HASH_SIZE + 8u)
#define STORE_FACT_SIZE    8u
#define STORE_REMOVED_SIZE (CAP_HASH_SIZE + 13u)
#define STORE_ROOT_SIZE    (CAP_HASH_SIZE + 12u)
#define STORE_OWNER_SIZE   16u
#define STORE_DUE_PREFIX   8u   /* bytes of a hash */
#define STORE_DUE_HASHES   240u /* in one record, which still lies in a leaf page */
#define STORE_VALUE_MAX    (STORE_DUE_HASHES * STORE_DUE_PREFIX)

#define STORE_CHUNK_KEY    13u
#define STORE_BODY_KEY     8u
#define STORE_PAIR_KEY     (2u * CAP_HASH_SIZE)
#define STORE_FACT_KEY     (CAP_HASH_SIZE + 1u)
#define STORE_DUE_KEY      12u
#define STORE_OWNER_KEY    4u
#define STORE_SEQUENCE_KEY 8u
#define STORE_KEY_MAX      (CAP_HASH_SIZE + CAP_ROOT_NAME_MAX) /* of the index "rooted" */

/* What the records can say of the store clock. */
#define STORE_CLOCK_MAX UINT32_MAX

/* What chunk numbers of 32 bits can hold: longer bodies and more pages are not stored. */
#define STORE_BODY_MAX (UINT64_C(1) << 47)
#define STORE_PAGE_MAX CAP_LIST_LIMIT

/* --- Seals ------------------------------------------------------------------------------------ */

/*
 * Every value ends with XXH3-64 over itself, seeded with that of its key: a damaged byte of either
 * shows, and so does a value that lies under another's key. It is no defence against somebody who
 * can write the file.
 */
#define STORE_SEAL_SIZE 8u

/* The seed of what lies under a key. */
uint64_t store_seed(struct cap_bytes key);

/* Writes the seal of `len` bytes behind them. */
void store_seal(uint64_t seed, uint8_t *bytes, size_t len);

/* Whether `seal`, read where a value ends, is that of `len` bytes. */
bool store_seal_holds(uint64_t seed, const void *bytes, size_t len, uint64_t seal);

/* Whether a value ends with its seal; *ret_value is then what it seals. */
bool store_unseal(uint64_t seed, struct cap_bytes sealed, struct cap_bytes *ret_value);

/* --- Records ---------------------------------------------------------------------------------- */

/*
 * Flags of a cap's record. A reader that does not know a critical one cannot use the record
 * (CAP_E_STORE_VERSION); one that is not critical it keeps and ignores.
 */
#define STORE_CRITICAL_CONTENT     1u /* the content hash is there */
#define STORE_CRITICAL_KEPT        2u /* kept_until_s is there */
#define STORE_CRITICAL_QUARANTINED 4u /* the cap is not served */
#define STORE_CRITICAL_NODES       8u /* node_counts are there: else they are 0 */
#define STORE_CRITICAL_KNOWN                                                                       \
    (STORE_CRITICAL_CONTENT | STORE_CRITICAL_KEPT | STORE_CRITICAL_QUARANTINED |                   \
     STORE_CRITICAL_NODES)

/* A cap as the store keeps it. */
struct store_cap {
    struct cap_info info;
    uint64_t body;      /* the id under which its bulk lies */
    uint16_t unknown;   /* of the critical flags; not encoded */
    uint16_t ignorable; /* flags that are not critical */
};

/* Writes a cap record and returns its length; every cap_info that an admission accepts fits. */
size_t store_cap_encode(const struct store_cap *cap, uint8_t ret_bytes[STORE_CAP_MAX]);

/*
 * Reads a cap record. CAP_E_CORRUPT leaves *ret_cap untouched; CAP_E_STORE_VERSION for flags that
 * are critical and not known, which ret_cap->unknown names.
 */
enum cap_error store_cap_decode(struct cap_bytes bytes, struct store_cap *ret_cap);

/* What is kept with the caps so that nothing is scanned at start. */
struct store_state {
    uint64_t next_body;
    uint64_t clock_s; /* the store clock's, when it was written */
    struct cap_counts counts;
};

/* Writes the state record. */
void store_state_encode(const struct store_state *state, uint8_t ret_bytes[STORE_STATE_SIZE]);

/* Reads the state record. CAP_E_CORRUPT leaves *ret_state untouched. */
enum cap_error store_state_decode(struct cap_bytes bytes, struct store_state *ret_state);

/* The format record: every version of the store begins it with the version. */
void store_format_encode(const uint8_t id[CAP_STORE_ID_SIZE], uint8_t ret_bytes[STORE_FORMAT_SIZE]);

/*
 * Reads it as it lies under its key, seal included: what follows the version is another version's
 * own affair. CAP_E_STORE_VERSION, CAP_E_CORRUPT.
 */
enum cap_error store_format_decode(struct cap_bytes key, struct cap_bytes sealed,
                                   uint8_t ret_id[CAP_STORE_ID_SIZE]);

/* A root as it lies under its name. */
void store_root_encode(const struct cap_root *root, uint8_t ret_bytes[STORE_ROOT_SIZE]);

/* Reads all of it but the name. CAP_E_CORRUPT leaves *ret_root untouched. */
enum cap_error store_root_decode(struct cap_bytes bytes, struct cap_root *ret_root);

/* What a user's caps come to. */
void store_owner_encode(const struct cap_usage *usage, uint8_t ret_bytes[STORE_OWNER_SIZE]);

/* Reads it. CAP_E_CORRUPT. */
enum cap_error store_owner_decode(struct cap_bytes bytes, struct cap_usage *ret_usage);

/* A removal: of which cap, and what is told of it. */
void store_removed_encode(const struct cap_hash *hash, const struct cap_removed *removed,
                          uint8_t ret_bytes[STORE_REMOVED_SIZE]);

/* Reads it. CAP_E_CORRUPT. */
enum cap_error store_removed_decode(struct cap_bytes bytes, struct cap_hash *ret_hash,
                                    struct cap_removed *ret_removed);

/* --- Keys ------------------------------------------------------------------------------------- */

/* The streams of bulk that a cap can have. */
enum store_stream {
    STORE_STREAM_BODY = 0,
    STORE_STREAM_ROOTS = 1,
    STORE_STREAM_NODES = 2,
    STORE_STREAMS
};

/* The key under which a stage is listed, and with which its chunks begin. */
void store_body_key(uint64_t body, uint8_t ret_key[STORE_BODY_KEY]);

/* The body id of such a key. */
uint64_t store_body_key_load(const uint8_t key[STORE_BODY_KEY]);

/* The key of a record of the queue. */
void store_due_key(uint32_t time_s, uint64_t sequence, uint8_t ret_key[STORE_DUE_KEY]);

/* What such a key says. */
void store_due_key_load(const uint8_t key[STORE_DUE_KEY], uint32_t *ret_time_s,
                        uint64_t *ret_sequence);

/* The key of a removal, and the number of such a key. */
void store_sequence_key(uint64_t sequence, uint8_t ret_key[STORE_SEQUENCE_KEY]);
uint64_t store_sequence_key_load(const uint8_t key[STORE_SEQUENCE_KEY]);

/* The key of an owner's record, and the uid of such a key. */
void store_owner_key(uint32_t uid, uint8_t ret_key[STORE_OWNER_KEY]);
uint32_t store_owner_key_load(const uint8_t key[STORE_OWNER_KEY]);

/* The key of a chunk; it begins with the body's key. */
void store_chunk_key(uint64_t body, enum store_stream stream, uint32_t chunk,
                     uint8_t ret_key[STORE_CHUNK_KEY]);

#endif
