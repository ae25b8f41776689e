/*
 * The fields of a wire Image, what a publisher uploads, whether the deblob would accept it or not.
 *
 * capstore_check judges a wire Image; this is for tools that show one. No connection is needed. A
 * view never changes, so any number of threads may read it; the owner frees it when no thread uses
 * it any more. Spans returned point into the view and are valid until it is freed. An index must be
 * below its count.
 */
#ifndef CAPSTORE_WIRE_H
#define CAPSTORE_WIRE_H

#include <capstore/cap.h>
#include <capstore/publish.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A decoded wire Image; opaque. */
struct capstore_wire;

/*
 * Decodes the structure before the arena, strictly, and keeps a copy of it; the arena is not read.
 * CAPSTORE_E_SSZ when the bytes are not a wire Image, CAPSTORE_E_NO_MEMORY, or the source's error.
 * The caller owns *ret_wire.
 */
enum capstore_error capstore_wire_open(const struct capstore_source *source,
                                       struct capstore_wire **ret_wire);

/* Releases a view. NULL is fine. */
void capstore_wire_free(struct capstore_wire *wire);

/* The fields of fixed size, and how long the lists are. */
struct capstore_wire_info {
    uint64_t len;       /* of the whole wire Image, in bytes */
    uint64_t arena_len; /* of the arena, which ends it */
    uint32_t code_off;  /* the code's window into the arena */
    uint32_t code_len;
    size_t endpoints;
    size_t mappings;
    size_t slots; /* of both tables */
    size_t gas_slots;
    size_t quota_slots;
    bool has_yield_receiver;
    struct capstore_bytes yield_receiver; /* a key */
};

/* The fields of fixed size, and how long the lists are. */
struct capstore_wire_info capstore_wire_info_of(const struct capstore_wire *wire);

/* An endpoint as it was uploaded. */
struct capstore_wire_endpoint {
    struct capstore_bytes key;
    uint64_t entry_pc;
    uint8_t arg_registers;
    uint8_t arg_cnode_size;
    size_t registers; /* how many it sets */
};

/* Endpoint `i` < info.endpoints, in key order. */
struct capstore_wire_endpoint capstore_wire_endpoint_at(const struct capstore_wire *wire, size_t i);

/* Register `r` < registers of endpoint `i`, in ascending order of registers. */
struct capstore_register capstore_wire_register_at(const struct capstore_wire *wire, size_t i,
                                                   size_t r);

/* Mapping `i` < info.mappings, in list order. */
struct capstore_mapping capstore_wire_mapping_at(const struct capstore_wire *wire, size_t i);

/* Step `step` < steps of mapping `i`'s source path: a key. */
struct capstore_bytes capstore_wire_mapping_step(const struct capstore_wire *wire, size_t i,
                                                 size_t step);

/* A slot of either table: a Data cap that the Image carries, or a published Image that it names. */
struct capstore_wire_slot {
    enum capstore_table table;
    enum capstore_kind kind;
    struct capstore_bytes key;
    struct capstore_hash image; /* Image: its CapHash; zero for Data */
    uint64_t size;              /* Data: logical bytes */
    size_t pages;               /* Data: how many pages are given */
};

/* Slot `i` < info.slots: the pinned table, then the initial one, each in key order. */
struct capstore_wire_slot capstore_wire_slot_at(const struct capstore_wire *wire, size_t i);

/* Where a page of a slot has its bytes; the rest of the page is zero. */
struct capstore_wire_page {
    uint32_t index;     /* its logical address is index * CAPSTORE_PAGE_SIZE */
    uint32_t arena_off; /* of its bytes in the arena */
    uint32_t len;
};

/* Page `p` < pages of slot `i`, in ascending order of index unless the deblob refuses the Image. */
struct capstore_wire_page capstore_wire_page_at(const struct capstore_wire *wire, size_t i,
                                                size_t p);

/* Gas slot `i` < info.gas_slots, in list order. */
struct capstore_bytes capstore_wire_gas_slot(const struct capstore_wire *wire, size_t i);

/* Quota slot `i` < info.quota_slots, in list order. */
struct capstore_bytes capstore_wire_quota_slot(const struct capstore_wire *wire, size_t i);

#ifdef __cplusplus
}
#endif

#endif
