/*
 * The packer keeps what it is told in plain arrays; keys and paths lie in one buffer of bytes,
 * found by position, since it moves as it grows. Finishing resolves and sorts the tables, walks the
 * content of each slot page by page into one arena, and writes the head in front of it.
 */
#include "lib/cap/pack.h"

#include <stdlib.h>

#include "lib/cap/arena.h"
#include "lib/cap/must.h"
#include "lib/cap/ssz_writer.h"

#define MAX_SIZE       (UINT64_MAX - (CAP_PAGE_SIZE - 1)) /* the largest multiple of a page */
#define ENDPOINT_FIXED (8u + 1u + 1u + CAP_SSZ_OFFSET_SIZE)
#define MAPPING_FIXED  (8u + 8u + CAP_SSZ_OFFSET_SIZE)
#define DESC_FIXED     (8u + CAP_SSZ_OFFSET_SIZE)
#define TABLES         2u

/* Bytes in pack->bytes. */
struct place {
    size_t at;
    size_t len;
};

/* Every entry of a table begins with its key, so that one function sorts and checks any of them. */
struct entry {
    struct place place;
    struct cap_bytes key; /* resolved by cap_pack_finish */
};

struct packed_endpoint {
    struct entry entry;
    uint64_t entry_pc;
    uint8_t arg_registers;
    uint8_t arg_cnode_size;
    size_t first_register; /* in pack->registers */
    size_t register_count;
};

struct packed_mapping {
    uint64_t start;
    uint64_t size;
    size_t first_step; /* in pack->steps */
    size_t step_count;
};

struct packed_slot {
    struct entry entry;
    enum cap_kind kind;
    struct cap_hash hash; /* of an Image */
    uint64_t size;        /* of Data, until it is finished: as it was asked for */
    size_t first_piece;   /* in pack->pieces */
    size_t piece_count;
    size_t refs_at; /* encoded page references, in arena.refs */
    size_t refs_len;
};

/* An array that grows; items move when it does. */
struct array {
    void *items;
    size_t count;
    size_t capacity;
};

struct cap_pack {
    struct cap_buf bytes;
    struct array endpoints;      /* struct packed_endpoint */
    struct array registers;      /* struct cap_register */
    struct array mappings;       /* struct packed_mapping */
    struct array steps;          /* struct place */
    struct array tables[TABLES]; /* struct packed_slot */
    struct array pieces;         /* struct cap_piece */
    struct array gas_slots;      /* struct place */
    struct array quota_slots;    /* struct place */
    struct place yield_receiver;
    bool has_yield_receiver;
    bool has_data;             /* a Data slot was begun: */
    enum cap_table last_table; /* where it is */
    size_t last_slot;
    uint64_t code_offset;
    uint64_t code_len;
};

static enum cap_error array_add(struct array *array, const void *item, size_t size)
{
    if (array->count == array->capacity) {
        size_t capacity = array->capacity > 0 ? 2 * array->capacity : 8;
        if (capacity > SIZE_MAX / size) {
            return CAP_E_NO_MEMORY;
        }
        void *items = realloc(array->items, capacity * size);
        if (items == NULL) {
            return CAP_E_NO_MEMORY;
        }
        array->items = items;
        array->capacity = capacity;
    }
    memcpy((uint8_t *)array->items + array->count * size, item, size);
    array->count++;
    return CAP_OK;
}

/* --- Collecting ------------------------------------------------------------------------------- */

enum cap_error cap_pack_new(struct cap_pack **ret_pack)
{
    struct cap_pack *pack = calloc(1, sizeof(*pack));
    if (pack == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *ret_pack = pack;
    return CAP_OK;
}

void cap_pack_free(struct cap_pack *pack)
{
    if (pack == NULL) {
        return;
    }
    cap_buf_free(&pack->bytes);
    free(pack->endpoints.items);
    free(pack->registers.items);
    free(pack->mappings.items);
    free(pack->steps.items);
    free(pack->tables[CAP_TABLE_PINNED].items);
    free(pack->tables[CAP_TABLE_INITIAL].items);
    free(pack->pieces.items);
    free(pack->gas_slots.items);
    free(pack->quota_slots.items);
    free(pack);
}

static enum cap_error keep(struct cap_pack *pack, struct cap_bytes bytes, struct place *ret_place)
{
    struct place place = {pack->bytes.len, bytes.len};
    enum cap_error error =
        bytes.len > 0 ? cap_buf_append(&pack->bytes, bytes.data, bytes.len) : CAP_OK;
    if (error == CAP_OK) {
        *ret_place = place;
    }
    return error;
}

static struct cap_bytes kept(const struct cap_pack *pack, struct place place)
{
    if (place.len == 0) {
        return (struct cap_bytes){0};
    }
    return cap_bytes_slice(cap_buf_bytes(&pack->bytes), place.at, place.len);
}

void cap_pack_code(struct cap_pack *pack, uint64_t offset, uint64_t len)
{
    pack->code_offset = offset;
    pack->code_len = len;
}

enum cap_error cap_pack_endpoint(struct cap_pack *pack, struct cap_bytes key, uint64_t entry_pc,
                                 uint8_t arg_registers, uint8_t arg_cnode_size,
                                 const struct cap_register *registers, size_t register_count)
{
    struct packed_endpoint endpoint = {
        .entry_pc = entry_pc,
        .arg_registers = arg_registers,
        .arg_cnode_size = arg_cnode_size,
        .first_register = pack->registers.count,
        .register_count = register_count,
    };
    enum cap_error error = keep(pack, key, &endpoint.entry.place);
    for (size_t i = 0; error == CAP_OK && i < register_count; i++) {
        error = array_add(&pack->registers, &registers[i], sizeof(registers)[i]);
    }
    if (error == CAP_OK) {
        error = array_add(&pack->endpoints, &endpoint, sizeof(endpoint));
    }
    return error;
}

static enum cap_error add_key(struct cap_pack *pack, struct array *keys, struct cap_bytes key)
{
    struct place place;
    enum cap_error error = keep(pack, key, &place);
    return error != CAP_OK ? error : array_add(keys, &place, sizeof(place));
}

enum cap_error cap_pack_mapping(struct cap_pack *pack, uint64_t start, uint64_t size,
                                const struct cap_bytes *path, size_t steps)
{
    struct packed_mapping mapping = {start, size, pack->steps.count, steps};
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < steps; i++) {
        error = add_key(pack, &pack->steps, path[i]);
    }
    return error != CAP_OK ? error : array_add(&pack->mappings, &mapping, sizeof(mapping));
}

enum cap_error cap_pack_data(struct cap_pack *pack, enum cap_table table, struct cap_bytes key,
                             uint64_t size)
{
    if (size > MAX_SIZE) {
        return CAP_E_INVALID_ARGUMENT;
    }
    struct array *slots = &pack->tables[table];
    struct packed_slot slot = {
        .kind = CAP_KIND_DATA, .size = size, .first_piece = pack->pieces.count};
    enum cap_error error = keep(pack, key, &slot.entry.place);
    if (error == CAP_OK) {
        error = array_add(slots, &slot, sizeof(slot));
    }
    if (error != CAP_OK) {
        return error;
    }
    pack->has_data = true;
    pack->last_table = table;
    pack->last_slot = slots->count - 1;
    return CAP_OK;
}

enum cap_error cap_pack_content(struct cap_pack *pack, uint64_t at, uint64_t offset, uint64_t len)
{
    if (!pack->has_data || len > MAX_SIZE || at > MAX_SIZE - len || offset > UINT64_MAX - len) {
        return CAP_E_INVALID_ARGUMENT;
    }
    if (len == 0) {
        return CAP_OK;
    }
    struct packed_slot *slots = pack->tables[pack->last_table].items;
    struct packed_slot *slot = &slots[pack->last_slot];
    if (slot->piece_count > 0) {
        struct cap_piece *pieces = pack->pieces.items;
        struct cap_piece *last = &pieces[pack->pieces.count - 1];
        if (at < last->at + last->len) {
            return CAP_E_INVALID_ARGUMENT;
        }
        if (at == last->at + last->len && offset == last->offset + last->len) {
            last->len += len;
            return CAP_OK;
        }
    }
    struct cap_piece piece = {at, offset, len};
    enum cap_error error = array_add(&pack->pieces, &piece, sizeof(piece));
    if (error == CAP_OK) {
        slot->piece_count++;
    }
    return error;
}

enum cap_error cap_pack_image(struct cap_pack *pack, struct cap_bytes key,
                              const struct cap_hash *hash)
{
    struct packed_slot slot = {.kind = CAP_KIND_IMAGE, .hash = *hash};
    enum cap_error error = keep(pack, key, &slot.entry.place);
    return error != CAP_OK ? error
                           : array_add(&pack->tables[CAP_TABLE_PINNED], &slot, sizeof(slot));
}

enum cap_error cap_pack_yield_receiver(struct cap_pack *pack, struct cap_bytes key)
{
    enum cap_error error = keep(pack, key, &pack->yield_receiver);
    if (error == CAP_OK) {
        pack->has_yield_receiver = true;
    }
    return error;
}

enum cap_error cap_pack_gas_slot(struct cap_pack *pack, struct cap_bytes key)
{
    return add_key(pack, &pack->gas_slots, key);
}

enum cap_error cap_pack_quota_slot(struct cap_pack *pack, struct cap_bytes key)
{
    return add_key(pack, &pack->quota_slots, key);
}

/* --- Sorting ---------------------------------------------------------------------------------- */

static int compare_entries(const void *a, const void *b)
{
    const struct entry *left = a;
    const struct entry *right = b;
    return cap_bytes_compare(left->key, right->key);
}

static int compare_registers(const void *a, const void *b)
{
    const struct cap_register *left = a;
    const struct cap_register *right = b;
    return left->index - right->index;
}

static struct entry *entry_at(const struct array *table, size_t index, size_t size)
{
    void *item = (uint8_t *)table->items + index * size;
    return item;
}

/* Sorts entries of `size` bytes by key; CAP_E_SSZ for a repeated one. */
static enum cap_error sort_table(const struct cap_pack *pack, struct array *table, size_t size)
{
    if (table->count == 0) {
        return CAP_OK;
    }
    for (size_t i = 0; i < table->count; i++) {
        struct entry *entry = entry_at(table, i, size);
        entry->key = kept(pack, entry->place);
    }
    qsort(table->items, table->count, size, compare_entries);
    for (size_t i = 1; i < table->count; i++) {
        if (compare_entries(entry_at(table, i - 1, size), entry_at(table, i, size)) == 0) {
            return CAP_E_SSZ;
        }
    }
    return CAP_OK;
}

static enum cap_error sort_registers(struct cap_pack *pack)
{
    const struct packed_endpoint *endpoints = pack->endpoints.items;
    for (size_t i = 0; i < pack->endpoints.count; i++) {
        size_t count = endpoints[i].register_count;
        if (count == 0) {
            continue;
        }
        struct cap_register *registers = pack->registers.items;
        registers += endpoints[i].first_register;
        qsort(registers, count, sizeof(*registers), compare_registers);
        for (size_t k = 1; k < count; k++) {
            if (registers[k - 1].index == registers[k].index) {
                return CAP_E_SSZ;
            }
        }
    }
    return CAP_OK;
}

static enum cap_error sort_all(struct cap_pack *pack)
{
    enum cap_error error = sort_table(pack, &pack->endpoints, sizeof(struct packed_endpoint));
    for (size_t i = 0; error == CAP_OK && i < TABLES; i++) {
        error = sort_table(pack, &pack->tables[i], sizeof(struct packed_slot));
    }
    return error != CAP_OK ? error : sort_registers(pack);
}

/* --- The arena -------------------------------------------------------------------------------- */

/* A pack while cap_pack_finish turns it into a wire Image. */
struct packing {
    const struct cap_pack *pack;
    const struct cap_source *source;
    struct cap_arena arena;
};

static enum cap_error pack_slot(struct packing *packing, struct packed_slot *slot)
{
    if (slot->kind != CAP_KIND_DATA) {
        return CAP_OK;
    }
    if (slot->piece_count > 0) {
        const struct cap_piece *pieces = packing->pack->pieces.items;
        const struct cap_piece *last = &pieces[slot->first_piece + slot->piece_count - 1];
        if (slot->size < last->at + last->len) {
            slot->size = last->at + last->len;
        }
    }
    slot->size += (CAP_PAGE_SIZE - slot->size % CAP_PAGE_SIZE) % CAP_PAGE_SIZE;
    if (slot->size == 0) {
        slot->size = CAP_PAGE_SIZE;
    }
    slot->refs_at = packing->arena.refs.buf.len;
    const struct cap_piece *pieces = packing->pack->pieces.items;
    enum cap_error error = slot->piece_count
                               ? cap_arena_add(&packing->arena, packing->source,
                                               pieces + slot->first_piece, slot->piece_count)
                               : CAP_OK;
    slot->refs_len = packing->arena.refs.buf.len - slot->refs_at;
    expect(error != CAP_OK || slot->refs_len % CAP_PAGE_REF_SIZE == 0);
    return error;
}

/* Pages of pinned, then initial slots, in key order. */
static enum cap_error pack_arena(struct packing *packing)
{
    for (size_t table = 0; table < TABLES; table++) {
        struct packed_slot *slots = packing->pack->tables[table].items;
        for (size_t i = 0; i < packing->pack->tables[table].count; i++) {
            enum cap_error error = pack_slot(packing, &slots[i]);
            if (error != CAP_OK) {
                return error;
            }
        }
    }
    return CAP_OK;
}

/* --- The head --------------------------------------------------------------------------------- */

static void write_endpoint(struct cap_writer *out, const struct cap_pack *pack,
                           const struct packed_endpoint *endpoint)
{
    const struct cap_register *registers = pack->registers.items;
    cap_writer_u64(out, endpoint->entry_pc);
    cap_writer_u8(out, endpoint->arg_registers);
    cap_writer_u8(out, endpoint->arg_cnode_size);
    cap_writer_u32(out, ENDPOINT_FIXED);
    for (size_t i = 0; i < endpoint->register_count; i++) {
        const struct cap_register *reg = &registers[endpoint->first_register + i];
        cap_writer_u8(out, reg->index);
        cap_writer_u64(out, reg->value);
    }
}

/* Key and offsets of a Container{k: Key, v}; the value follows. */
static void begin_entry(struct cap_writer *out, const struct entry *entry)
{
    size_t base = out->buf.len;
    cap_writer_zeros(out, 2 * CAP_SSZ_OFFSET_SIZE);
    cap_writer_begin(out, base, base);
    cap_writer_bytes(out, entry->key);
    cap_writer_begin(out, base, base + CAP_SSZ_OFFSET_SIZE);
}

static void write_endpoints(struct cap_writer *out, const struct cap_pack *pack)
{
    const struct packed_endpoint *endpoints = pack->endpoints.items;
    size_t base = out->buf.len;
    cap_writer_zeros(out, pack->endpoints.count * CAP_SSZ_OFFSET_SIZE);
    for (size_t i = 0; i < pack->endpoints.count; i++) {
        cap_writer_begin(out, base, base + i * CAP_SSZ_OFFSET_SIZE);
        begin_entry(out, &endpoints[i].entry);
        write_endpoint(out, pack, &endpoints[i]);
    }
}

/* A List[Key] of `count` places from `first`. */
static void write_keys(struct cap_writer *out, const struct cap_pack *pack,
                       const struct array *keys, size_t first, size_t count)
{
    const struct place *places = keys->items;
    size_t base = out->buf.len;
    cap_writer_zeros(out, count * CAP_SSZ_OFFSET_SIZE);
    for (size_t i = 0; i < count; i++) {
        cap_writer_begin(out, base, base + i * CAP_SSZ_OFFSET_SIZE);
        cap_writer_bytes(out, kept(pack, places[first + i]));
    }
}

static void write_mappings(struct cap_writer *out, const struct cap_pack *pack)
{
    const struct packed_mapping *mappings = pack->mappings.items;
    size_t base = out->buf.len;
    cap_writer_zeros(out, pack->mappings.count * CAP_SSZ_OFFSET_SIZE);
    for (size_t i = 0; i < pack->mappings.count; i++) {
        cap_writer_begin(out, base, base + i * CAP_SSZ_OFFSET_SIZE);
        cap_writer_u64(out, mappings[i].start);
        cap_writer_u64(out, mappings[i].size);
        cap_writer_u32(out, MAPPING_FIXED);
        write_keys(out, pack, &pack->steps, mappings[i].first_step, mappings[i].step_count);
    }
}

static void write_slot(struct cap_writer *out, const struct packing *packing, enum cap_table table,
                       const struct packed_slot *slot)
{
    begin_entry(out, &slot->entry);
    if (slot->kind == CAP_KIND_IMAGE) {
        cap_writer_u8(out, 1);
        cap_writer_bytes(out, (struct cap_bytes){slot->hash.bytes, CAP_HASH_SIZE});
        return;
    }
    if (table == CAP_TABLE_PINNED) {
        cap_writer_u8(out, 0);
        cap_writer_u32(out, CAP_SSZ_OFFSET_SIZE);
    }
    cap_writer_u64(out, slot->size);
    cap_writer_u32(out, DESC_FIXED);
    if (slot->refs_len > 0) {
        cap_writer_bytes(out, cap_bytes_slice(cap_buf_bytes(&packing->arena.refs.buf),
                                              slot->refs_at, slot->refs_len));
    }
}

static void write_table(struct cap_writer *out, const struct packing *packing, enum cap_table table)
{
    const struct array *slots = &packing->pack->tables[table];
    const struct packed_slot *items = slots->items;
    size_t base = out->buf.len;
    cap_writer_zeros(out, slots->count * CAP_SSZ_OFFSET_SIZE);
    for (size_t i = 0; i < slots->count; i++) {
        cap_writer_begin(out, base, base + i * CAP_SSZ_OFFSET_SIZE);
        write_slot(out, packing, table, &items[i]);
    }
}

static void write_yield_receiver(struct cap_writer *out, const struct cap_pack *pack)
{
    cap_writer_u8(out, pack->has_yield_receiver);
    if (pack->has_yield_receiver) {
        cap_writer_bytes(out, kept(pack, pack->yield_receiver));
    }
}

/* Everything before the arena. The code comes last in the arena, after the pages. */
static void write_head(struct cap_writer *out, const struct packing *packing)
{
    const struct cap_pack *pack = packing->pack;
    cap_writer_u32(out, pack->code_len > 0 ? (uint32_t)packing->arena.body.len : 0);
    cap_writer_u32(out, (uint32_t)pack->code_len);
    size_t field = out->buf.len;
    cap_writer_zeros(out, CAP_WIRE_FIXED_SIZE - 8);
    cap_writer_begin(out, 0, field);
    write_endpoints(out, pack);
    cap_writer_begin(out, 0, field += CAP_SSZ_OFFSET_SIZE);
    write_mappings(out, pack);
    cap_writer_begin(out, 0, field += CAP_SSZ_OFFSET_SIZE);
    write_table(out, packing, CAP_TABLE_PINNED);
    cap_writer_begin(out, 0, field += CAP_SSZ_OFFSET_SIZE);
    write_table(out, packing, CAP_TABLE_INITIAL);
    cap_writer_begin(out, 0, field += CAP_SSZ_OFFSET_SIZE);
    write_yield_receiver(out, pack);
    cap_writer_begin(out, 0, field += CAP_SSZ_OFFSET_SIZE);
    write_keys(out, pack, &pack->gas_slots, 0, pack->gas_slots.count);
    cap_writer_begin(out, 0, field += CAP_SSZ_OFFSET_SIZE);
    write_keys(out, pack, &pack->quota_slots, 0, pack->quota_slots.count);
    cap_writer_begin(out, 0, field + CAP_SSZ_OFFSET_SIZE);
}

/* Head, pages, code. */
static enum cap_error write_wire(const struct packing *packing, const struct cap_writer *head,
                                 struct cap_body *wire)
{
    const struct cap_body *arena = &packing->arena.body;
    enum cap_error error = cap_body_append(wire, cap_buf_bytes(&head->buf));
    for (size_t i = 0; error == CAP_OK && i < arena->segment_count; i++) {
        const struct cap_segment *segment = &arena->segments[i];
        struct cap_bytes copy = cap_buf_bytes(&arena->memory);
        if (segment->from_source) {
            error = cap_body_append_source(wire, segment->offset, segment->len);
        } else {
            error = cap_body_append(
                wire, cap_bytes_slice(copy, (size_t)segment->offset, (size_t)segment->len));
        }
    }
    if (error == CAP_OK) {
        error = cap_body_append_source(wire, packing->pack->code_offset, packing->pack->code_len);
    }
    must(error != CAP_OK || wire->len == head->buf.len + arena->len + packing->pack->code_len);
    return error;
}

/* Whether the code's window, at the end of the arena, fits the format. */
static bool code_fits(const struct packing *packing)
{
    uint64_t len = packing->pack->code_len;
    if (len == 0) {
        return packing->arena.body.len <= CAP_LIST_LIMIT;
    }
    return len <= UINT32_MAX && packing->arena.body.len <= UINT32_MAX &&
           packing->arena.body.len + len <= CAP_LIST_LIMIT;
}

enum cap_error cap_pack_finish(struct cap_pack *pack, const struct cap_source *source,
                               struct cap_body *ret_wire)
{
    struct packing packing = {.pack = pack, .source = source};
    struct cap_writer head = {0};
    struct cap_body wire = {0};
    enum cap_error error = sort_all(pack);
    if (error == CAP_OK) {
        error = pack_arena(&packing);
    }
    if (error == CAP_OK && !code_fits(&packing)) {
        error = CAP_E_BODY_TOO_LARGE;
    }
    if (error == CAP_OK) {
        write_head(&head, &packing);
        error = head.error;
    }
    if (error == CAP_OK) {
        error = write_wire(&packing, &head, &wire);
    }
    if (error != CAP_OK) {
        cap_body_free(&wire);
    } else {
        *ret_wire = wire;
    }
    cap_buf_free(&head.buf);
    cap_arena_free(&packing.arena);
    return error;
}
