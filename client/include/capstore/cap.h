/*
 * Caps as a runtime holds them: a served body in memory, decoded, verified.
 *
 * A capstore_cap never changes after it was made, so any number of threads may read one; the
 * owner frees it when no thread uses it any more. Spans returned point into the cap and are valid
 * until it is freed.
 */
#ifndef CAPSTORE_CAP_H
#define CAPSTORE_CAP_H

#include <capstore/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A cap in memory; opaque. */
struct capstore_cap;

/*
 * Makes a cap of a served body, of which a copy is kept: strictly decoded, its CapHash computed.
 * `expected`, unless NULL, is the hash that it must have. CAPSTORE_E_BODY_NOT_CANONICAL,
 * CAPSTORE_E_HASH_MISMATCH, CAPSTORE_E_NO_MEMORY. The caller owns *ret_cap.
 */
enum capstore_error capstore_cap_from_body(struct capstore_bytes body,
                                           const struct capstore_hash *expected,
                                           struct capstore_cap **ret_cap);

/* Releases a cap. NULL is fine. */
void capstore_cap_free(struct capstore_cap *cap);

/* Whether it is an Image or a Data cap. */
enum capstore_kind capstore_cap_kind(const struct capstore_cap *cap);

/* Its CapHash: computed from the bytes or, when verification was switched off, the hash that was
 * asked for. */
const struct capstore_hash *capstore_cap_hash(const struct capstore_cap *cap);

/* Whether the bytes were hashed and have that hash. */
bool capstore_cap_verified(const struct capstore_cap *cap);

/* The served body, byte for byte. */
struct capstore_bytes capstore_cap_body(const struct capstore_cap *cap);

/* ---- Data caps ---- */

/* Logical size in bytes, a multiple of the page size; 0 for an Image. May be near 2^64. */
uint64_t capstore_data_size(const struct capstore_cap *cap);

/* How many pages are not zero; 0 for an Image. */
uint64_t capstore_data_page_count(const struct capstore_cap *cap);

/* One page that is not zero. */
struct capstore_page {
    uint64_t index;              /* its logical address is index * CAPSTORE_PAGE_SIZE */
    struct capstore_bytes bytes; /* at most a page; the rest of the page is zero */
};

/* Page number `i` < capstore_data_page_count(cap), in ascending order of index. */
struct capstore_page capstore_data_page(const struct capstore_cap *cap, uint64_t i);

/*
 * Copies logical bytes [offset, offset + len) to `dst`; what no page covers is zero.
 * CAPSTORE_E_WRONG_KIND for an Image, CAPSTORE_E_INVALID_ARGUMENT for a range that reaches past the
 * size.
 */
enum capstore_error capstore_data_read(const struct capstore_cap *cap, uint64_t offset, void *dst,
                                       size_t len);

/* ---- Image caps ---- */

/*
 * A runtime's first question: where the code maps. True and the address of the first byte and
 * the exact bytes, to be mapped read-only; false when there is no code, or for a Data cap.
 */
bool capstore_image_code(const struct capstore_cap *cap, uint64_t *ret_address,
                         struct capstore_bytes *ret_code);

/*
 * A runtime's second question: whether memory that is mapped at `address` is read-only, because a
 * mapping that starts there has a pinned slot as the first step of its source. Addresses count
 * modulo 2^32, and of several mappings with one start any pinned one decides. CAPSTORE_E_NOT_FOUND
 * when none starts there, CAPSTORE_E_WRONG_KIND for a Data cap.
 */
enum capstore_error capstore_image_mapping_read_only(const struct capstore_cap *cap,
                                                     uint64_t address, bool *ret_read_only);

/* Code in memory as a runtime maps it: page-aligned, zeroed up to the page's end. */
struct capstore_code {
    uint8_t *data;     /* aligned to CAPSTORE_PAGE_SIZE; NULL when len is 0 */
    size_t len;        /* exact length of the code */
    size_t mapped_len; /* len rounded up to a page */
};

/* Copies an Image's code. CAPSTORE_E_WRONG_KIND, CAPSTORE_E_NO_MEMORY. Release with
 * capstore_code_free. */
enum capstore_error capstore_code_load(const struct capstore_cap *cap,
                                       struct capstore_code *ret_code);

/* Releases the memory and leaves an empty code. */
void capstore_code_free(struct capstore_code *code);

/* Counts of an Image's lists; all 0 for a Data cap. */
struct capstore_counts {
    size_t endpoints;
    size_t mappings;
    size_t slots[2]; /* by enum capstore_table */
    size_t gas_slots;
    size_t quota_slots;
};

/* How long an Image's lists are. */
struct capstore_counts capstore_image_counts(const struct capstore_cap *cap);

/* Where an Image can be entered. */
struct capstore_endpoint {
    struct capstore_bytes key;
    uint64_t entry_pc; /* an address, or an offset into the code: as the publisher put it */
    uint64_t stack_top;
    struct capstore_bytes arg_cnode_slot;
    uint8_t arg_cnode_size;
    uint64_t initial_regs[CAPSTORE_NUM_REGS];
};

/* Endpoint `i` < counts.endpoints, in key order. */
struct capstore_endpoint capstore_image_endpoint(const struct capstore_cap *cap, size_t i);

/* A range of addresses and where its content comes from. */
struct capstore_mapping {
    uint64_t start;
    uint64_t size;
    size_t steps; /* of the source path: 1 to 8 */
};

/* Mapping `i` < counts.mappings, in list order. */
struct capstore_mapping capstore_image_mapping(const struct capstore_cap *cap, size_t i);

/* Step `step` < steps of mapping `i`'s source path: a key; the first is a slot of the Image. */
struct capstore_bytes capstore_image_mapping_step(const struct capstore_cap *cap, size_t i,
                                                  size_t step);

/* A slot and the cap it holds. */
struct capstore_slot {
    struct capstore_bytes key;
    struct capstore_hash cap_hash;
};

/* Slot `i` < counts.slots[table], in key order. */
struct capstore_slot capstore_image_slot(const struct capstore_cap *cap, enum capstore_table table,
                                         size_t i);

/* Where a mapping lies in a runtime's memory, and what is behind it. */
struct capstore_region {
    uint64_t start;
    uint64_t end;              /* the last address there is where start + size overflows */
    bool read_only;            /* as capstore_image_mapping_read_only says of its start */
    bool has_slot;             /* false: only a runtime knows what is behind it */
    enum capstore_table table; /* of the slot whose Data cap is behind it: the one that the last */
    struct capstore_slot slot; /* step of the source path names */
};

/*
 * The regions of all mappings, in the order of the list: region i is that of mapping i. For a Data
 * cap there are none, and *ret_regions is NULL. Release with free(); keys live as long as the cap.
 * CAPSTORE_E_NO_MEMORY. Cost: O(n log n) in the mappings.
 */
enum capstore_error capstore_image_regions(const struct capstore_cap *cap,
                                           struct capstore_region **ret_regions);

/* The slot that receives yields: true and its key, or false when there is none. */
bool capstore_image_yield_receiver(const struct capstore_cap *cap, struct capstore_bytes *ret_key);

/* Gas slot `i` < counts.gas_slots, in list order. */
struct capstore_bytes capstore_image_gas_slot(const struct capstore_cap *cap, size_t i);

/* Quota slot `i` < counts.quota_slots, in list order. */
struct capstore_bytes capstore_image_quota_slot(const struct capstore_cap *cap, size_t i);

#ifdef __cplusplus
}
#endif

#endif
