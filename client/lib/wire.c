/* The fields of a wire Image, over a copy of the structure before its arena. */
#include <capstore/wire.h>

#include <stdlib.h>

#include "client/lib/internal.h"

#define STEP                                                                                       \
    ((size_t)1                                                                                     \
     << 20) /* read at a time: memory grows with what is there, not with what is claimed */

struct capstore_wire {
    struct cap_buf head;
    struct cap_wire_image image;
};

/* Appends [buf->len, end) of the source. */
static enum cap_error read_up_to(const struct capstore_source *source, uint64_t end,
                                 struct cap_buf *buf)
{
    while (buf->len < end) {
        size_t step = end - buf->len < STEP ? (size_t)(end - buf->len) : STEP;
        enum cap_error error = cap_buf_reserve(buf, step);
        if (error == CAP_OK) {
            error = client_inner(source->read(source->ctx, buf->len, buf->data + buf->len, step));
        }
        if (error != CAP_OK) {
            return error;
        }
        buf->len += step;
    }
    return CAP_OK;
}

enum cap_error client_read_head(const struct capstore_source *wire, struct cap_buf *head)
{
    size_t len;
    uint64_t front = wire->len < CAP_WIRE_FIXED_SIZE ? wire->len : CAP_WIRE_FIXED_SIZE;
    enum cap_error error = read_up_to(wire, front, head);
    if (error == CAP_OK) {
        error = cap_wire_image_head_len(cap_buf_bytes(head), wire->len, &len);
    }
    if (error == CAP_OK) {
        error = read_up_to(wire, len, head);
    }
    return error;
}

enum capstore_error capstore_wire_open(const struct capstore_source *source,
                                       struct capstore_wire **ret_wire)
{
    struct capstore_wire *wire = calloc(1, sizeof(*wire));
    if (wire == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    enum cap_error error = client_read_head(source, &wire->head);
    if (error == CAP_OK) {
        error = cap_wire_image_decode(cap_buf_bytes(&wire->head), source->len, &wire->image);
    }
    if (error != CAP_OK) {
        capstore_wire_free(wire);
        return client_public(error);
    }
    *ret_wire = wire;
    return CAPSTORE_OK;
}

void capstore_wire_free(struct capstore_wire *wire)
{
    if (wire == NULL) {
        return;
    }
    cap_buf_free(&wire->head);
    free(wire);
}

struct capstore_wire_info capstore_wire_info_of(const struct capstore_wire *wire)
{
    const struct cap_wire_image *image = &wire->image;
    return (struct capstore_wire_info){
        .len = image->total_len,
        .arena_len = image->arena_len,
        .code_off = image->code_off,
        .code_len = image->code_len,
        .endpoints = image->endpoints.count,
        .mappings = image->mappings.count,
        .slots = cap_wire_slot_count(image),
        .gas_slots = image->gas_slots.count,
        .quota_slots = image->quota_slots.count,
        .has_yield_receiver = image->has_yield_receiver,
        .yield_receiver = client_bytes(image->yield_receiver_slot),
    };
}

struct capstore_wire_endpoint capstore_wire_endpoint_at(const struct capstore_wire *wire, size_t i)
{
    struct cap_wire_endpoint endpoint;
    cap_wire_endpoint_at(&wire->image, i, &endpoint);
    return (struct capstore_wire_endpoint){
        .key = client_bytes(endpoint.key),
        .entry_pc = endpoint.entry_pc,
        .arg_registers = endpoint.arg_registers,
        .arg_cnode_size = endpoint.arg_cnode_size,
        .registers = endpoint.register_count,
    };
}

struct capstore_register capstore_wire_register_at(const struct capstore_wire *wire, size_t i,
                                                   size_t r)
{
    struct cap_wire_endpoint endpoint;
    cap_wire_endpoint_at(&wire->image, i, &endpoint);
    struct cap_register value = cap_wire_register(&endpoint, r);
    return (struct capstore_register){value.index, value.value};
}

struct capstore_mapping capstore_wire_mapping_at(const struct capstore_wire *wire, size_t i)
{
    return client_mapping_at(&wire->image.mappings, i);
}

struct capstore_bytes capstore_wire_mapping_step(const struct capstore_wire *wire, size_t i,
                                                 size_t step)
{
    return client_mapping_step(&wire->image.mappings, i, step);
}

struct capstore_wire_slot capstore_wire_slot_at(const struct capstore_wire *wire, size_t i)
{
    struct cap_wire_slot slot;
    cap_wire_slot_at(&wire->image, i, &slot);
    struct capstore_wire_slot result = {
        .table = client_table(slot.table),
        .kind = client_kind(slot.kind),
        .key = client_bytes(slot.key),
    };
    if (slot.kind == CAP_KIND_IMAGE) {
        result.image = client_hash(&slot.content_hash);
    } else {
        result.size = slot.desc.size;
        result.pages = slot.desc.page_count;
    }
    return result;
}

struct capstore_wire_page capstore_wire_page_at(const struct capstore_wire *wire, size_t i,
                                                size_t p)
{
    struct cap_wire_slot slot;
    cap_wire_slot_at(&wire->image, i, &slot);
    struct cap_page_ref page = cap_page_ref_at(slot.desc.pages, p);
    return (struct capstore_wire_page){page.page_index, page.arena_off, page.len};
}

struct capstore_bytes capstore_wire_gas_slot(const struct capstore_wire *wire, size_t i)
{
    return client_bytes(cap_ssz_list_at(&wire->image.gas_slots, i));
}

struct capstore_bytes capstore_wire_quota_slot(const struct capstore_wire *wire, size_t i)
{
    return client_bytes(cap_ssz_list_at(&wire->image.quota_slots, i));
}
