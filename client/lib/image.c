/* Image caps as a runtime reads them: code, the two questions, and the lists. */
#include <capstore/cap.h>

#include <stdlib.h>

#include "client/lib/internal.h"
#include "lib/cap/layout.h"

bool capstore_image_code(const struct capstore_cap *cap, uint64_t *ret_address,
                         struct capstore_bytes *ret_code)
{
    struct cap_bytes code;
    if (cap->kind != CAP_KIND_IMAGE || !cap_image_code_mapping(&cap->image, ret_address, &code)) {
        return false;
    }
    *ret_code = client_bytes(code);
    return true;
}

enum capstore_error capstore_image_mapping_read_only(const struct capstore_cap *cap,
                                                     uint64_t address, bool *ret_read_only)
{
    if (cap->kind != CAP_KIND_IMAGE) {
        return CAPSTORE_E_WRONG_KIND;
    }
    return client_public(cap_image_mapping_read_only(&cap->image, address, ret_read_only));
}

enum capstore_error capstore_code_load(const struct capstore_cap *cap,
                                       struct capstore_code *ret_code)
{
    if (cap->kind != CAP_KIND_IMAGE) {
        return CAPSTORE_E_WRONG_KIND;
    }
    struct cap_code code;
    enum cap_error error = cap_code_load(&cap->image, &code);
    if (error == CAP_OK) {
        *ret_code = (struct capstore_code){code.data, code.len, code.mapped_len};
    }
    return client_public(error);
}

void capstore_code_free(struct capstore_code *code)
{
    struct cap_code inner = {code->data, code->len, code->mapped_len};
    cap_code_free(&inner);
    *code = (struct capstore_code){NULL, 0, 0};
}

struct capstore_counts capstore_image_counts(const struct capstore_cap *cap)
{
    if (cap->kind != CAP_KIND_IMAGE) {
        return (struct capstore_counts){0};
    }
    return (struct capstore_counts){
        .endpoints = cap->image.endpoints.count,
        .mappings = cap->image.mappings.count,
        .slots = {cap->image.pinned.count, cap->image.initial.count},
        .gas_slots = cap->image.gas_slots.count,
        .quota_slots = cap->image.quota_slots.count,
    };
}

struct capstore_endpoint capstore_image_endpoint(const struct capstore_cap *cap, size_t i)
{
    struct cap_endpoint inner;
    cap_image_endpoint_at(&cap->image, i, &inner);
    struct capstore_endpoint endpoint = {
        .key = client_bytes(inner.key),
        .entry_pc = inner.entry_pc,
        .stack_top = inner.stack_top,
        .arg_cnode_slot = client_bytes(inner.arg_cnode_slot),
        .arg_cnode_size = inner.arg_cnode_size,
    };
    _Static_assert(sizeof(endpoint.initial_regs) == sizeof(inner.initial_regs), "same registers");
    memcpy(endpoint.initial_regs, inner.initial_regs, sizeof(endpoint.initial_regs));
    return endpoint;
}

struct capstore_mapping client_mapping_at(const struct cap_ssz_list *mappings, size_t i)
{
    struct cap_mapping mapping;
    cap_mapping_at(mappings, i, &mapping);
    return (struct capstore_mapping){mapping.start, mapping.size, mapping.source.count};
}

struct capstore_bytes client_mapping_step(const struct cap_ssz_list *mappings, size_t i,
                                          size_t step)
{
    struct cap_mapping mapping;
    cap_mapping_at(mappings, i, &mapping);
    return client_bytes(cap_ssz_list_at(&mapping.source, step));
}

struct capstore_mapping capstore_image_mapping(const struct capstore_cap *cap, size_t i)
{
    return client_mapping_at(&cap->image.mappings, i);
}

struct capstore_bytes capstore_image_mapping_step(const struct capstore_cap *cap, size_t i,
                                                  size_t step)
{
    return client_mapping_step(&cap->image.mappings, i, step);
}

struct capstore_slot capstore_image_slot(const struct capstore_cap *cap, enum capstore_table table,
                                         size_t i)
{
    struct cap_slot slot;
    cap_image_slot_at(table == CAPSTORE_TABLE_PINNED ? &cap->image.pinned : &cap->image.initial, i,
                      &slot);
    return (struct capstore_slot){client_bytes(slot.key), client_hash(&slot.cap_hash)};
}

static struct capstore_region region_of(const struct cap_image_view *view,
                                        const struct cap_placed *placed)
{
    struct cap_mapping mapping;
    enum cap_table table;
    struct cap_slot slot;
    struct capstore_region region = {
        .start = placed->start, .end = placed->end, .read_only = placed->read_only};
    cap_mapping_at(&view->mappings, placed->index, &mapping);
    region.has_slot = cap_image_mapping_memory(view, &mapping, &table, &slot);
    if (region.has_slot) {
        region.table = table == CAP_TABLE_PINNED ? CAPSTORE_TABLE_PINNED : CAPSTORE_TABLE_INITIAL;
        region.slot = (struct capstore_slot){client_bytes(slot.key), client_hash(&slot.cap_hash)};
    }
    return region;
}

enum capstore_error capstore_image_regions(const struct capstore_cap *cap,
                                           struct capstore_region **ret_regions)
{
    if (cap->kind != CAP_KIND_IMAGE || cap->image.mappings.count == 0) {
        *ret_regions = NULL;
        return CAPSTORE_OK;
    }
    struct cap_layout layout;
    enum cap_error error = cap_layout_make(&cap->image, &layout);
    if (error != CAP_OK) {
        return client_public(error);
    }
    struct capstore_region *regions = calloc(layout.count, sizeof(*regions));
    for (size_t i = 0; regions != NULL && i < layout.count; i++) {
        regions[layout.mappings[i].index] = region_of(&cap->image, &layout.mappings[i]);
    }
    cap_layout_free(&layout);
    if (regions == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    *ret_regions = regions;
    return CAPSTORE_OK;
}

bool capstore_image_yield_receiver(const struct capstore_cap *cap, struct capstore_bytes *ret_key)
{
    if (cap->kind != CAP_KIND_IMAGE || !cap->image.has_yield_receiver) {
        return false;
    }
    *ret_key = client_bytes(cap->image.yield_receiver_slot);
    return true;
}

struct capstore_bytes capstore_image_gas_slot(const struct capstore_cap *cap, size_t i)
{
    return client_bytes(cap_ssz_list_at(&cap->image.gas_slots, i));
}

struct capstore_bytes capstore_image_quota_slot(const struct capstore_cap *cap, size_t i)
{
    return client_bytes(cap_ssz_list_at(&cap->image.quota_slots, i));
}
