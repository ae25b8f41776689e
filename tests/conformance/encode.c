#include "tests/conformance/encode.h"

#include <stdlib.h>

#include "lib/cap/deblob.h"

/* A list being written: its elements begin one after the other. */
struct list {
    size_t base;
    size_t next;
};

static struct list begin_list(struct cap_writer *out, size_t count)
{
    struct list list = {out->buf.len, out->buf.len};
    cap_writer_zeros(out, count * CAP_SSZ_OFFSET_SIZE);
    return list;
}

static void begin_element(struct cap_writer *out, struct list *list)
{
    cap_writer_begin(out, list->base, list->next);
    list->next += CAP_SSZ_OFFSET_SIZE;
}

static void encode_keys(struct cap_writer *out, const struct cap_ssz_list *keys)
{
    struct list list = begin_list(out, keys->count);
    for (size_t i = 0; i < keys->count; i++) {
        begin_element(out, &list);
        cap_writer_bytes(out, cap_ssz_list_at(keys, i));
    }
}

static void encode_option(struct cap_writer *out, bool present, struct cap_bytes key)
{
    cap_writer_u8(out, present);
    if (present) {
        cap_writer_bytes(out, key);
    }
}

static void encode_mappings(struct cap_writer *out, const struct cap_ssz_list *mappings)
{
    struct list list = begin_list(out, mappings->count);
    for (size_t i = 0; i < mappings->count; i++) {
        struct cap_mapping mapping;
        cap_mapping_at(mappings, i, &mapping);
        begin_element(out, &list);
        cap_writer_u64(out, mapping.start);
        cap_writer_u64(out, mapping.size);
        cap_writer_u32(out, 20);
        encode_keys(out, &mapping.source);
    }
}

/* The front of a Container{k: Key, v}; v follows. */
static void begin_entry(struct cap_writer *out, struct cap_bytes key)
{
    struct list fields = begin_list(out, 2);
    begin_element(out, &fields);
    cap_writer_bytes(out, key);
    begin_element(out, &fields);
}

static void encode_wire_endpoints(struct cap_writer *out, const struct cap_wire_image *image)
{
    struct list list = begin_list(out, image->endpoints.count);
    for (size_t i = 0; i < image->endpoints.count; i++) {
        struct cap_wire_endpoint endpoint;
        cap_wire_endpoint_at(image, i, &endpoint);
        begin_element(out, &list);
        begin_entry(out, endpoint.key);
        cap_writer_u64(out, endpoint.entry_pc);
        cap_writer_u8(out, endpoint.arg_registers);
        cap_writer_u8(out, endpoint.arg_cnode_size);
        cap_writer_u32(out, 14);
        for (size_t k = 0; k < endpoint.register_count; k++) {
            struct cap_register reg = cap_wire_register(&endpoint, k);
            cap_writer_u8(out, reg.index);
            cap_writer_u64(out, reg.value);
        }
    }
}

static void encode_desc(struct cap_writer *out, const struct cap_data_desc *desc)
{
    cap_writer_u64(out, desc->size);
    cap_writer_u32(out, 12);
    for (size_t i = 0; i < desc->page_count; i++) {
        struct cap_page_ref ref = cap_page_ref_at(desc->pages, i);
        cap_writer_u32(out, ref.page_index);
        cap_writer_u32(out, ref.arena_off);
        cap_writer_u32(out, ref.len);
    }
}

static void encode_wire_slot(struct cap_writer *out, const struct cap_wire_slot *slot)
{
    begin_entry(out, slot->key);
    if (slot->kind == CAP_KIND_IMAGE) {
        cap_writer_u8(out, 1);
        cap_writer_bytes(out, (struct cap_bytes){slot->content_hash.bytes, CAP_HASH_SIZE});
        return;
    }
    if (slot->table == CAP_TABLE_PINNED) {
        cap_writer_u8(out, 0);
        cap_writer_u32(out, 4);
    }
    encode_desc(out, &slot->desc);
}

static void encode_wire_slots(struct cap_writer *out, const struct cap_wire_image *image,
                              size_t first, size_t count)
{
    struct list list = begin_list(out, count);
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(image, first + i, &slot);
        begin_element(out, &list);
        encode_wire_slot(out, &slot);
    }
}

void encode_wire_image(struct cap_writer *out, const struct cap_wire_image *image,
                       struct cap_bytes arena)
{
    size_t base = out->buf.len;
    cap_writer_u32(out, image->code_off);
    cap_writer_u32(out, image->code_len);
    struct list fields = {base, out->buf.len};
    cap_writer_zeros(out, 8 * CAP_SSZ_OFFSET_SIZE);
    begin_element(out, &fields);
    encode_wire_endpoints(out, image);
    begin_element(out, &fields);
    encode_mappings(out, &image->mappings);
    begin_element(out, &fields);
    encode_wire_slots(out, image, 0, image->pinned.count);
    begin_element(out, &fields);
    encode_wire_slots(out, image, image->pinned.count, image->initial.count);
    begin_element(out, &fields);
    encode_option(out, image->has_yield_receiver, image->yield_receiver_slot);
    begin_element(out, &fields);
    encode_keys(out, &image->gas_slots);
    begin_element(out, &fields);
    encode_keys(out, &image->quota_slots);
    begin_element(out, &fields);
    cap_writer_bytes(out, arena);
}

static void encode_endpoints(struct cap_writer *out, const struct cap_image_view *view)
{
    struct list list = begin_list(out, view->endpoints.count);
    for (size_t i = 0; i < view->endpoints.count; i++) {
        struct cap_endpoint endpoint;
        cap_image_endpoint_at(view, i, &endpoint);
        begin_element(out, &list);
        begin_entry(out, endpoint.key);
        cap_writer_u64(out, endpoint.entry_pc);
        cap_writer_u64(out, endpoint.stack_top);
        cap_writer_u32(out, 125);
        cap_writer_u8(out, endpoint.arg_cnode_size);
        for (size_t k = 0; k < CAP_NUM_REGS; k++) {
            cap_writer_u64(out, endpoint.initial_regs[k]);
        }
        cap_writer_bytes(out, endpoint.arg_cnode_slot);
    }
}

static void encode_slots(struct cap_writer *out, const struct cap_ssz_list *slots)
{
    struct list list = begin_list(out, slots->count);
    for (size_t i = 0; i < slots->count; i++) {
        struct cap_slot slot;
        cap_image_slot_at(slots, i, &slot);
        begin_element(out, &list);
        cap_writer_u32(out, 36);
        cap_writer_bytes(out, (struct cap_bytes){slot.cap_hash.bytes, CAP_HASH_SIZE});
        cap_writer_bytes(out, slot.key);
    }
}

void encode_image_body(struct cap_writer *out, const struct cap_image_view *view)
{
    cap_writer_u8(out, CAP_KIND_IMAGE);
    struct list fields = begin_list(out, 8);
    begin_element(out, &fields);
    cap_writer_bytes(out, view->code);
    begin_element(out, &fields);
    encode_endpoints(out, view);
    begin_element(out, &fields);
    encode_mappings(out, &view->mappings);
    begin_element(out, &fields);
    encode_slots(out, &view->pinned);
    begin_element(out, &fields);
    encode_slots(out, &view->initial);
    begin_element(out, &fields);
    encode_option(out, view->has_yield_receiver, view->yield_receiver_slot);
    begin_element(out, &fields);
    encode_keys(out, &view->gas_slots);
    begin_element(out, &fields);
    encode_keys(out, &view->quota_slots);
}

/* Registers that are not 0, as a wire Image lists them. */
static void encode_source_endpoints(struct cap_writer *out, const struct cap_image_view *view)
{
    struct list list = begin_list(out, view->endpoints.count);
    for (size_t i = 0; i < view->endpoints.count; i++) {
        struct cap_endpoint endpoint;
        cap_image_endpoint_at(view, i, &endpoint);
        begin_element(out, &list);
        begin_entry(out, endpoint.key);
        cap_writer_u64(out, endpoint.entry_pc);
        cap_writer_u8(out, 0);
        cap_writer_u8(out, endpoint.arg_cnode_size);
        cap_writer_u32(out, 14);
        for (uint8_t k = 0; k < CAP_NUM_REGS; k++) {
            if (endpoint.initial_regs[k] != 0) {
                cap_writer_u8(out, k);
                cap_writer_u64(out, endpoint.initial_regs[k]);
            }
        }
    }
}

static void encode_source_slots(struct cap_writer *out, const struct cap_ssz_list *slots,
                                enum cap_table table)
{
    struct list list = begin_list(out, slots->count);
    for (size_t i = 0; i < slots->count; i++) {
        struct cap_slot slot;
        cap_image_slot_at(slots, i, &slot);
        begin_element(out, &list);
        const struct cap_wire_slot wire = {
            .table = table,
            .key = slot.key,
            .kind = table == CAP_TABLE_PINNED ? CAP_KIND_IMAGE : CAP_KIND_DATA,
            .content_hash = slot.cap_hash,
        };
        encode_wire_slot(out, &wire);
    }
}

void encode_source_image(struct cap_writer *out, const struct cap_image_view *view)
{
    size_t base = out->buf.len;
    cap_writer_u32(out, 0);
    cap_writer_u32(out, (uint32_t)view->code.len);
    struct list fields = {base, out->buf.len};
    cap_writer_zeros(out, 8 * CAP_SSZ_OFFSET_SIZE);
    begin_element(out, &fields);
    encode_source_endpoints(out, view);
    begin_element(out, &fields);
    encode_mappings(out, &view->mappings);
    begin_element(out, &fields);
    encode_source_slots(out, &view->pinned, CAP_TABLE_PINNED);
    begin_element(out, &fields);
    encode_source_slots(out, &view->initial, CAP_TABLE_INITIAL);
    begin_element(out, &fields);
    encode_option(out, view->has_yield_receiver, view->yield_receiver_slot);
    begin_element(out, &fields);
    encode_keys(out, &view->gas_slots);
    begin_element(out, &fields);
    encode_keys(out, &view->quota_slots);
    begin_element(out, &fields);
    cap_writer_bytes(out, view->code);
}

/* The hashes that the slots resolve to, pinned then initial. */
static struct cap_hash *slot_hashes(const struct cap_image_view *view)
{
    size_t pinned = view->pinned.count;
    struct cap_hash *hashes = calloc(pinned + view->initial.count + 1, sizeof(*hashes));
    for (size_t i = 0; hashes != NULL && i < pinned + view->initial.count; i++) {
        struct cap_slot slot;
        bool is_pinned = i < pinned;
        cap_image_slot_at(is_pinned ? &view->pinned : &view->initial, is_pinned ? i : i - pinned,
                          &slot);
        hashes[i] = slot.cap_hash;
    }
    return hashes;
}

bool encode_is_reached(struct cap_bytes body, const struct cap_image_view *view)
{
    struct cap_writer wire = {0};
    struct cap_wire_image image;
    struct cap_image cap = {0};
    struct cap_hash *hashes = slot_hashes(view);
    encode_source_image(&wire, view);
    struct cap_bytes upload = cap_buf_bytes(&wire.buf);
    bool reached = hashes != NULL && wire.error == CAP_OK &&
                   cap_deblob(upload, upload.len, &image, NULL) == CAP_OK;
    if (reached) {
        struct cap_bytes arena = cap_bytes_slice(upload, image.head.len, (size_t)image.arena_len);
        struct cap_source source = cap_source_memory(&arena);
        uint8_t *again = malloc(body.len);
        reached = again != NULL && cap_image_from_wire(&image, hashes, &source, &cap) == CAP_OK &&
                  cap.body.len == body.len &&
                  cap_body_read(&cap.body, &source, 0, again, body.len) == CAP_OK &&
                  memcmp(again, body.data, body.len) == 0;
        free(again);
    }
    cap_image_free(&cap);
    cap_buf_free(&wire.buf);
    free(hashes);
    return reached;
}
