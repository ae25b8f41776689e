/*
 * Image caps. A conversion writes everything but the code, which stays a window of the arena, and
 * then takes its root from the lists just written: the same function hashes what was converted and
 * what was received.
 */
#include "lib/cap/image_cap.h"

#include <stdlib.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/must.h"
#include "lib/cap/ssz_writer.h"

#define FIELD_COUNT    8u
#define FIXED_PART     (FIELD_COUNT * CAP_SSZ_OFFSET_SIZE)
#define FIELDS_DEPTH   3u
#define REGS_SIZE      (8u * CAP_NUM_REGS)
#define ENDPOINT_FIXED (8u + 8u + CAP_SSZ_OFFSET_SIZE + 1u + REGS_SIZE)
#define SLOT_FIXED     (CAP_SSZ_OFFSET_SIZE + CAP_HASH_SIZE)
#define STACK_REGISTER 1u
#define CODE_PIECE     (256u * 1024) /* bytes of code per read */

#define ENDPOINT_HASHES 10u /* of an endpoint's value */

_Static_assert(1 + FIXED_PART == CAP_IMAGE_CODE_AT, "the code is the first field");
_Static_assert(ENDPOINT_FIXED == 125, "the fixed part of a CapEndpoint");

static const uint8_t arg_slot_key[1] = {0}; /* the slot of every endpoint's argument CNode */

void cap_image_free(struct cap_image *image)
{
    if (image == NULL) {
        return;
    }
    cap_body_free(&image->body);
    free(image->code_roots);
    free(image->nodes.all);
    *image = (struct cap_image){0};
}

/* --- Roots ------------------------------------------------------------------------------------ */

static bool endpoint_roots(const void *list, size_t first, size_t count,
                           const struct cap_work *work, struct cap_hash *ret_roots)
{
    /* A key takes some thirty hashes, and this one is the same in every endpoint. */
    struct cap_hash arg_slot_root;
    cap_byte_list_root((struct cap_bytes){arg_slot_key, sizeof(arg_slot_key)}, &arg_slot_root);
    struct cap_bytes keys[CAP_LISTS_TOGETHER];
    struct cap_hash registers[CAP_LISTS_TOGETHER][4] = {0};
    struct cap_hash fields[CAP_LISTS_TOGETHER][8] = {0};
    for (size_t i = 0; i < count; i++) {
        struct cap_endpoint endpoint = {0};
        cap_image_endpoint_at(list, first + i, &endpoint);
        keys[i] = endpoint.key;
        fields[i][0] = cap_chunk64(endpoint.entry_pc);
        fields[i][1] = cap_chunk64(endpoint.stack_top);
        fields[i][2] = arg_slot_root;
        fields[i][3] = cap_chunk64(endpoint.arg_cnode_size);
        for (size_t r = 0; r < CAP_NUM_REGS; r++) {
            cap_store64(registers[i][r / 4].bytes + r % 4 * 8, endpoint.initial_regs[r]);
        }
    }
    cap_merkleize_many(registers[0], count, 2, ret_roots);
    for (size_t i = 0; i < count; i++) {
        fields[i][4] = ret_roots[i];
    }
    cap_merkleize_many(fields[0], count, 3, ret_roots);
    return cap_work_done(work, count * ENDPOINT_HASHES * CAP_WORK_HASH) &&
           cap_entry_roots(keys, count, work, ret_roots);
}

static bool slot_roots(const void *list, size_t first, size_t count, const struct cap_work *work,
                       struct cap_hash *ret_roots)
{
    struct cap_bytes keys[CAP_LISTS_TOGETHER];
    for (size_t i = 0; i < count; i++) {
        struct cap_slot slot = {0};
        cap_image_slot_at(list, first + i, &slot);
        keys[i] = slot.key;
        ret_roots[i] = slot.cap_hash;
    }
    return cap_entry_roots(keys, count, work, ret_roots);
}

/* The CapHash, given the code's root; view->code itself is not looked at. CAP_E_CANCELLED. */
static enum cap_error hash_view(const struct cap_image_view *view, const struct cap_hash *code_root,
                                const struct cap_work *work, struct cap_hash *ret_hash)
{
    struct cap_hash fields[FIELD_COUNT] = {*code_root};
    if (!cap_list_root(endpoint_roots, view, view->endpoints.count, work, &fields[1]) ||
        !cap_mapping_list_root(&view->mappings, work, &fields[2]) ||
        !cap_list_root(slot_roots, &view->pinned, view->pinned.count, work, &fields[3]) ||
        !cap_list_root(slot_roots, &view->initial, view->initial.count, work, &fields[4]) ||
        !cap_option_key_root(view->has_yield_receiver, view->yield_receiver_slot, work,
                             &fields[5]) ||
        !cap_key_list_root(&view->gas_slots, work, &fields[6]) ||
        !cap_key_list_root(&view->quota_slots, work, &fields[7])) {
        return CAP_E_CANCELLED;
    }
    struct cap_hash root;
    cap_merkleize_few(fields, FIELD_COUNT, FIELDS_DEPTH, &root);
    cap_mix_in(&root, CAP_KIND_IMAGE, ret_hash);
    return CAP_OK;
}

/* --- Conversion ------------------------------------------------------------------------------- */

static void write_endpoint(struct cap_writer *out, const struct cap_wire_endpoint *wire)
{
    uint64_t regs[CAP_NUM_REGS] = {0};
    for (size_t i = 0; i < wire->register_count; i++) {
        struct cap_register reg = cap_wire_register(wire, i);
        if (reg.index < CAP_NUM_REGS) {
            regs[reg.index] = reg.value;
        }
    }
    size_t entry = out->buf.len;
    cap_writer_zeros(out, 2 * CAP_SSZ_OFFSET_SIZE);
    cap_writer_begin(out, entry, entry);
    cap_writer_bytes(out, wire->key);
    cap_writer_begin(out, entry, entry + CAP_SSZ_OFFSET_SIZE);
    cap_writer_u64(out, wire->entry_pc);
    cap_writer_u64(out, regs[STACK_REGISTER]);
    cap_writer_u32(out, ENDPOINT_FIXED);
    cap_writer_u8(out, wire->arg_cnode_size);
    for (size_t i = 0; i < CAP_NUM_REGS; i++) {
        cap_writer_u64(out, regs[i]);
    }
    cap_writer_bytes(out, (struct cap_bytes){arg_slot_key, sizeof(arg_slot_key)});
}

static void write_endpoints(struct cap_writer *out, const struct cap_wire_image *wire)
{
    size_t base = out->buf.len;
    cap_writer_zeros(out, wire->endpoints.count * CAP_SSZ_OFFSET_SIZE);
    for (size_t i = 0; out->error == CAP_OK && i < wire->endpoints.count; i++) {
        struct cap_wire_endpoint endpoint;
        cap_wire_endpoint_at(wire, i, &endpoint);
        cap_writer_begin(out, base, base + i * CAP_SSZ_OFFSET_SIZE);
        write_endpoint(out, &endpoint);
    }
}

/* One table: `count` slots from `first`, as the wire Image counts them. */
static void write_slots(struct cap_writer *out, const struct cap_wire_image *wire,
                        const struct cap_hash *slot_hashes, size_t first, size_t count)
{
    size_t base = out->buf.len;
    cap_writer_zeros(out, count * CAP_SSZ_OFFSET_SIZE);
    for (size_t i = 0; out->error == CAP_OK && i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(wire, first + i, &slot);
        cap_writer_begin(out, base, base + i * CAP_SSZ_OFFSET_SIZE);
        cap_writer_u32(out, SLOT_FIXED);
        cap_writer_bytes(out, (struct cap_bytes){slot_hashes[first + i].bytes, CAP_HASH_SIZE});
        cap_writer_bytes(out, slot.key);
    }
}

/* All fields after the code, one after the other; ret_at[i] is where field i begins. */
static void write_tail(struct cap_writer *out, const struct cap_wire_image *wire,
                       const struct cap_hash *slot_hashes, size_t ret_at[FIELD_COUNT])
{
    ret_at[1] = out->buf.len;
    write_endpoints(out, wire);
    ret_at[2] = out->buf.len;
    cap_writer_bytes(out, wire->mappings.bytes);
    ret_at[3] = out->buf.len;
    write_slots(out, wire, slot_hashes, 0, wire->pinned.count);
    ret_at[4] = out->buf.len;
    write_slots(out, wire, slot_hashes, wire->pinned.count, wire->initial.count);
    ret_at[5] = out->buf.len;
    cap_writer_u8(out, wire->has_yield_receiver);
    if (wire->has_yield_receiver) {
        cap_writer_bytes(out, wire->yield_receiver_slot);
    }
    ret_at[6] = out->buf.len;
    cap_writer_bytes(out, wire->gas_slots.bytes);
    ret_at[7] = out->buf.len;
    cap_writer_bytes(out, wire->quota_slots.bytes);
}

/* Selector, offsets, the code's window, and the tail. */
static enum cap_error assemble(struct cap_body *body, const struct cap_wire_image *wire,
                               const struct cap_writer *tail, const size_t at[FIELD_COUNT])
{
    uint8_t front[1 + FIXED_PART] = {CAP_KIND_IMAGE};
    cap_store32(front + 1, FIXED_PART);
    for (size_t i = 1; i < FIELD_COUNT; i++) {
        uint64_t offset = UINT64_C(0) + FIXED_PART + wire->code_len + at[i];
        if (offset > UINT32_MAX) {
            return CAP_E_BODY_TOO_LARGE;
        }
        cap_store32(front + 1 + i * CAP_SSZ_OFFSET_SIZE, (uint32_t)offset);
    }
    enum cap_error error = cap_body_append(body, (struct cap_bytes){front, sizeof(front)});
    if (error == CAP_OK) {
        error = cap_body_append_source(body, wire->code_off, wire->code_len);
    }
    if (error == CAP_OK) {
        error = cap_body_append(body, cap_buf_bytes(&tail->buf));
    }
    return error;
}

enum cap_error cap_image_body_from_wire(const struct cap_wire_image *wire,
                                        const struct cap_hash *slot_hashes,
                                        struct cap_body *ret_body)
{
    struct cap_body body = {0};
    struct cap_writer tail = {0};
    size_t at[FIELD_COUNT] = {0};
    write_tail(&tail, wire, slot_hashes, at);
    enum cap_error error = tail.error != CAP_OK ? tail.error : assemble(&body, wire, &tail, at);
    if (error == CAP_OK) {
        *ret_body = body;
    } else {
        cap_body_free(&body);
    }
    cap_buf_free(&tail.buf);
    return error;
}

/* Makes room for the roots of the pages of `code_len` bytes of code. */
static enum cap_error reserve_code_roots(struct cap_image *image, size_t code_len)
{
    image->code_page_count = (code_len + CAP_PAGE_SIZE - 1) / CAP_PAGE_SIZE;
    if (code_len == 0) {
        return CAP_OK;
    }
    image->code_roots = malloc(image->code_page_count * sizeof(*image->code_roots));
    return image->code_roots != NULL ? CAP_OK : CAP_E_NO_MEMORY;
}

/* How many pages of the code are whole blocks of the source whose roots are known. */
static size_t known_pages(const struct cap_source *source, uint64_t code_off, size_t code_len)
{
    uint64_t first = code_off / CAP_BLOCK_SIZE;
    if (code_off % CAP_BLOCK_SIZE != 0 || first >= source->block_count) {
        return 0;
    }
    uint64_t known = source->block_count - first;
    return code_len / CAP_BLOCK_SIZE < known ? code_len / CAP_BLOCK_SIZE : (size_t)known;
}

/* The root of the code, which lies in the source, and those of its pages. */
static enum cap_error hash_code(const struct cap_source *source, uint64_t code_off, size_t code_len,
                                struct cap_image *image, struct cap_hash *ret_root)
{
    enum cap_error error = reserve_code_roots(image, code_len);
    if (error != CAP_OK) {
        return error;
    }
    uint8_t *scratch = NULL;
    if (source->memory == NULL && code_len > 0) {
        scratch = malloc(code_len < CODE_PIECE ? code_len : CODE_PIECE);
        if (scratch == NULL) {
            return CAP_E_NO_MEMORY;
        }
    }
    struct cap_node_list nodes = {0};
    struct cap_byte_tree tree;
    cap_byte_tree_init(&tree);
    tree.ret_block_roots = image->code_roots;
    tree.blocks.ret_nodes = &nodes;
    size_t known = known_pages(source, code_off, code_len);
    if (known > 0) {
        cap_byte_tree_add_blocks(&tree, &source->block_roots[code_off / CAP_BLOCK_SIZE], known);
    }
    for (size_t done = known * CAP_BLOCK_SIZE, len; error == CAP_OK && done < code_len;
         done += len) {
        const uint8_t *bytes;
        len = code_len - done < CODE_PIECE ? code_len - done : CODE_PIECE;
        error = cap_source_get(source, code_off + done, len, scratch, &bytes);
        if (error == CAP_OK) {
            cap_byte_tree_update(&tree, bytes, len);
        }
    }
    free(scratch);
    if (error == CAP_OK) {
        must(tree.len == code_len);
        must(tree.blocks.next + (tree.filled > 0) == image->code_page_count);
        cap_byte_tree_list_root(&tree, ret_root);
        error = cap_node_list_finish(&nodes, &image->nodes);
    }
    cap_node_list_free(&nodes);
    return error;
}

/* A view of the tail just written; it has no code. */
static enum cap_error view_tail(const struct cap_wire_image *wire, const struct cap_writer *tail,
                                const size_t at[FIELD_COUNT], struct cap_image_view *ret_view)
{
    struct cap_bytes bytes = cap_buf_bytes(&tail->buf);
    struct cap_image_view view = {
        .mappings = wire->mappings,
        .has_yield_receiver = wire->has_yield_receiver,
        .yield_receiver_slot = wire->yield_receiver_slot,
        .gas_slots = wire->gas_slots,
        .quota_slots = wire->quota_slots,
    };
    if (cap_ssz_list(cap_bytes_slice(bytes, at[1], at[2] - at[1]), &view.endpoints) != CAP_OK ||
        cap_ssz_list(cap_bytes_slice(bytes, at[3], at[4] - at[3]), &view.pinned) != CAP_OK ||
        cap_ssz_list(cap_bytes_slice(bytes, at[4], at[5] - at[4]), &view.initial) != CAP_OK) {
        return CAP_E_INTERNAL;
    }
    *ret_view = view;
    return CAP_OK;
}

enum cap_error cap_image_from_wire(const struct cap_wire_image *wire,
                                   const struct cap_hash *slot_hashes,
                                   const struct cap_source *arena, struct cap_image *ret_image)
{
    struct cap_image image = {0};
    struct cap_writer tail = {0};
    struct cap_image_view view;
    struct cap_hash code_root;
    size_t at[FIELD_COUNT] = {0};
    write_tail(&tail, wire, slot_hashes, at);
    enum cap_error error = tail.error;
    if (error == CAP_OK) {
        error = assemble(&image.body, wire, &tail, at);
    }
    if (error == CAP_OK) {
        error = view_tail(wire, &tail, at, &view);
    }
    if (error == CAP_OK) {
        error = hash_code(arena, wire->code_off, wire->code_len, &image, &code_root);
    }
    if (error == CAP_OK) {
        error = hash_view(&view, &code_root, arena->work, &image.hash);
    }
    if (error == CAP_OK) {
        *ret_image = image;
    } else {
        cap_image_free(&image);
    }
    cap_buf_free(&tail.buf);
    return error;
}

enum cap_error cap_image_from_body(const struct cap_source *body, uint64_t body_len,
                                   const struct cap_image_view *view, uint64_t code_len,
                                   struct cap_image *ret_image)
{
    struct cap_image image = {0};
    struct cap_hash code_root;
    enum cap_error error = hash_code(body, CAP_IMAGE_CODE_AT, (size_t)code_len, &image, &code_root);
    if (error == CAP_OK) {
        error = cap_body_append_source(&image.body, 0, body_len);
    }
    if (error == CAP_OK) {
        error = hash_view(view, &code_root, body->work, &image.hash);
    }
    if (error != CAP_OK) {
        cap_image_free(&image);
        return error;
    }
    *ret_image = image;
    return CAP_OK;
}

void cap_image_parts_hash(const struct cap_image_view *view, const struct cap_hash *code_root,
                          struct cap_hash *ret_hash)
{
    (void)hash_view(view, code_root, NULL, ret_hash); /* without work nothing stops it */
}

static enum cap_error hash_data_body(struct cap_bytes body, struct cap_hash *ret_hash)
{
    struct cap_source source = cap_source_memory(&body);
    struct cap_data data;
    enum cap_error error = cap_data_from_body(&source, body.len, &data);
    if (error != CAP_OK) {
        return error;
    }
    *ret_hash = data.hash;
    cap_data_free(&data);
    return CAP_OK;
}

enum cap_error cap_body_hash(struct cap_bytes body, enum cap_kind *ret_kind,
                             struct cap_hash *ret_hash)
{
    if (body.len > 0 && body.data[0] == CAP_KIND_DATA) {
        enum cap_error error = hash_data_body(body, ret_hash);
        if (error == CAP_OK) {
            *ret_kind = CAP_KIND_DATA;
        }
        return error;
    }
    struct cap_image_view view;
    enum cap_error error = cap_image_view_decode(body, &view);
    if (error != CAP_OK) {
        return error;
    }
    struct cap_hash code_root;
    cap_byte_list_root(view.code, &code_root);
    cap_image_parts_hash(&view, &code_root, ret_hash);
    *ret_kind = CAP_KIND_IMAGE;
    return CAP_OK;
}
