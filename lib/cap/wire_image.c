/*
 * The wire Image as a view.
 *
 * Decoding walks every nested value of the head once, level by level as the types are nested: no
 * recursion, no allocation. Accessors afterwards repeat the splits without checks that can fail.
 */
#include "lib/cap/wire_image.h"

#include <inttypes.h>
#include <stdio.h>

#define CODE_REF_SIZE 8u

/* Fields of an Image, in order. */
enum image_field {
    FIELD_CODE,
    FIELD_ENDPOINTS,
    FIELD_MAPPINGS,
    FIELD_PINNED,
    FIELD_INITIAL,
    FIELD_YIELD_RECEIVER,
    FIELD_GAS,
    FIELD_QUOTA,
    FIELD_ARENA,
    FIELD_COUNT,
};

static const char *const field_names[FIELD_COUNT] = {
    "code",         "endpoints",     "memory_mappings",
    "pinned_slots", "initial_slots", "yield_receiver_slot",
    "gas_slots",    "quota_slots",   "arena",
};

/* Arms of a PinnedCap. */
enum pinned_arm {
    PINNED_DATA = 0,
    PINNED_IMAGE = 1,
};

static const size_t image_sizes[FIELD_COUNT] = {[FIELD_CODE] = CODE_REF_SIZE};
static const size_t entry_sizes[2] = {CAP_SSZ_VARIABLE, CAP_SSZ_VARIABLE};
static const size_t endpoint_sizes[4] = {8, 1, 1, CAP_SSZ_VARIABLE};
static const size_t mapping_sizes[3] = {8, 8, CAP_SSZ_VARIABLE};
static const size_t data_desc_sizes[2] = {8, CAP_SSZ_VARIABLE};
static const size_t pinned_data_sizes[1] = {CAP_SSZ_VARIABLE};

/* What is wrong with a field: which of its entries, if it has any, and why. */
struct fault {
    bool has_entry;
    size_t entry;
    const char *reason;
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Splits a whole container by its table of sizes. */
#define SPLIT(in, sizes, ret_fields)                                                               \
    cap_ssz_container(in, (in).len, sizes, COUNT(sizes), ret_fields)

const char *cap_table_name(enum cap_table table)
{
    return table == CAP_TABLE_PINNED ? "pinned" : "initial";
}

enum cap_error cap_wire_image_head_len(struct cap_bytes front, uint64_t total_len,
                                       size_t *ret_head_len)
{
    uint32_t last = CAP_WIRE_FIXED_SIZE;
    if (front.len < CAP_WIRE_FIXED_SIZE || cap_load32(front.data + CODE_REF_SIZE) != last) {
        return CAP_E_SSZ;
    }
    for (size_t at = CODE_REF_SIZE; at < CAP_WIRE_FIXED_SIZE; at += CAP_SSZ_OFFSET_SIZE) {
        uint32_t offset = cap_load32(front.data + at);
        if (offset < last || offset > total_len) {
            return CAP_E_SSZ;
        }
        last = offset;
    }
    if (!cap_ssz_within_limit(total_len - last)) {
        return CAP_E_SSZ;
    }
    *ret_head_len = last;
    return CAP_OK;
}

/* Notes what is wrong, unless an entry was noted already. */
static enum cap_error wrong(struct fault *reterr, const char *reason)
{
    if (reterr->reason == NULL) {
        reterr->reason = reason;
    }
    return CAP_E_SSZ;
}

static enum cap_error wrong_entry(struct fault *reterr, size_t entry, const char *reason)
{
    *reterr = (struct fault){true, entry, reason};
    return CAP_E_SSZ;
}

static const char bad_table[] = "its table of offsets is wrong";
static const char bad_value[] = "its length or an offset in it is wrong";

static enum cap_error decode_key_list(struct cap_bytes in, struct cap_ssz_list *ret_keys,
                                      struct fault *reterr)
{
    struct cap_ssz_list keys;
    if (cap_ssz_list(in, &keys) != CAP_OK) {
        return wrong(reterr, bad_table);
    }
    for (size_t i = 0; i < keys.count; i++) {
        if (!cap_ssz_within_limit(cap_ssz_list_at(&keys, i).len)) {
            return wrong_entry(reterr, i, "the key is too long");
        }
    }
    *ret_keys = keys;
    return CAP_OK;
}

enum cap_error cap_key_list_decode(struct cap_bytes in, struct cap_ssz_list *ret_keys)
{
    struct fault fault = {0};
    return decode_key_list(in, ret_keys, &fault);
}

enum cap_error cap_option_key_decode(struct cap_bytes in, bool *ret_present,
                                     struct cap_bytes *ret_key)
{
    struct cap_bytes value;
    uint8_t selector;
    if (cap_ssz_union(in, 1, &selector, &value) != CAP_OK || !cap_ssz_within_limit(value.len) ||
        (selector == 0 && value.len != 0)) {
        return CAP_E_SSZ;
    }
    *ret_present = selector == 1;
    *ret_key = value;
    return CAP_OK;
}

static enum cap_error decode_mapping_list(struct cap_bytes in, struct cap_ssz_list *ret_mappings,
                                          struct fault *reterr)
{
    struct cap_ssz_list mappings;
    if (cap_ssz_list(in, &mappings) != CAP_OK) {
        return wrong(reterr, bad_table);
    }
    for (size_t i = 0; i < mappings.count; i++) {
        struct cap_bytes mapping = cap_ssz_list_at(&mappings, i);
        struct cap_bytes fields[COUNT(mapping_sizes)];
        struct cap_ssz_list source;
        if (SPLIT(mapping, mapping_sizes, fields) != CAP_OK) {
            return wrong_entry(reterr, i, bad_value);
        }
        if (cap_key_list_decode(fields[2], &source) != CAP_OK) {
            return wrong_entry(reterr, i, "its source does not decode");
        }
    }
    *ret_mappings = mappings;
    return CAP_OK;
}

enum cap_error cap_mapping_list_decode(struct cap_bytes in, struct cap_ssz_list *ret_mappings)
{
    struct fault fault = {0};
    return decode_mapping_list(in, ret_mappings, &fault);
}

/* Map[u8, u64]: indexes strictly ascending. */
static enum cap_error check_registers(struct cap_bytes in)
{
    size_t count;
    if (cap_ssz_fixed_list(in, CAP_REGISTER_SIZE, &count) != CAP_OK) {
        return CAP_E_SSZ;
    }
    for (size_t i = 1; i < count; i++) {
        const uint8_t *element = in.data + i * CAP_REGISTER_SIZE;
        if (element[-(ptrdiff_t)CAP_REGISTER_SIZE] >= element[0]) {
            return CAP_E_SSZ;
        }
    }
    return CAP_OK;
}

static enum cap_error check_endpoint(struct cap_bytes in)
{
    struct cap_bytes fields[COUNT(endpoint_sizes)];
    if (SPLIT(in, endpoint_sizes, fields) != CAP_OK) {
        return CAP_E_SSZ;
    }
    return check_registers(fields[3]);
}

static enum cap_error check_data_desc(struct cap_bytes in)
{
    struct cap_bytes fields[COUNT(data_desc_sizes)];
    size_t count;
    if (SPLIT(in, data_desc_sizes, fields) != CAP_OK) {
        return CAP_E_SSZ;
    }
    return cap_ssz_fixed_list(fields[1], CAP_PAGE_REF_SIZE, &count);
}

static enum cap_error check_pinned(struct cap_bytes in)
{
    struct cap_bytes value;
    struct cap_bytes desc;
    uint8_t selector;
    if (cap_ssz_union(in, PINNED_IMAGE, &selector, &value) != CAP_OK) {
        return CAP_E_SSZ;
    }
    if (selector == PINNED_IMAGE) {
        return value.len == CAP_HASH_SIZE ? CAP_OK : CAP_E_SSZ;
    }
    if (SPLIT(value, pinned_data_sizes, &desc) != CAP_OK) {
        return CAP_E_SSZ;
    }
    return check_data_desc(desc);
}

/* A list of Container{k: Key, v}: keys strictly ascending, each value checked by `check_value`. */
static enum cap_error decode_map(struct cap_bytes in,
                                 enum cap_error (*check_value)(struct cap_bytes in),
                                 struct cap_ssz_list *ret_map, struct fault *reterr)
{
    struct cap_bytes previous = {NULL, 0};
    struct cap_ssz_list map;
    if (cap_ssz_list(in, &map) != CAP_OK) {
        return wrong(reterr, bad_table);
    }
    for (size_t i = 0; i < map.count; i++) {
        struct cap_bytes entry = cap_ssz_list_at(&map, i);
        struct cap_bytes fields[COUNT(entry_sizes)];
        if (SPLIT(entry, entry_sizes, fields) != CAP_OK || !cap_ssz_within_limit(fields[0].len)) {
            return wrong_entry(reterr, i, bad_value);
        }
        if (i > 0 && cap_bytes_compare(previous, fields[0]) >= 0) {
            return wrong_entry(reterr, i, "its key is not greater than the one before");
        }
        if (check_value(fields[1]) != CAP_OK) {
            return wrong_entry(reterr, i, "its value does not decode");
        }
        previous = fields[0];
    }
    *ret_map = map;
    return CAP_OK;
}

/* Decodes every field but the arena into *image; the first wrong one is named by the result. */
static enum image_field decode_fields(const struct cap_bytes fields[FIELD_COUNT],
                                      struct cap_wire_image *image, struct fault *reterr)
{
    image->code_off = cap_load32(fields[FIELD_CODE].data);
    image->code_len = cap_load32(fields[FIELD_CODE].data + 4);
    if (decode_map(fields[FIELD_ENDPOINTS], check_endpoint, &image->endpoints, reterr) != CAP_OK) {
        return FIELD_ENDPOINTS;
    }
    if (decode_mapping_list(fields[FIELD_MAPPINGS], &image->mappings, reterr) != CAP_OK) {
        return FIELD_MAPPINGS;
    }
    if (decode_map(fields[FIELD_PINNED], check_pinned, &image->pinned, reterr) != CAP_OK) {
        return FIELD_PINNED;
    }
    if (decode_map(fields[FIELD_INITIAL], check_data_desc, &image->initial, reterr) != CAP_OK) {
        return FIELD_INITIAL;
    }
    if (cap_option_key_decode(fields[FIELD_YIELD_RECEIVER], &image->has_yield_receiver,
                              &image->yield_receiver_slot) != CAP_OK) {
        reterr->reason = "neither None (a single 0) nor Some (1 and a key)";
        return FIELD_YIELD_RECEIVER;
    }
    if (decode_key_list(fields[FIELD_GAS], &image->gas_slots, reterr) != CAP_OK) {
        return FIELD_GAS;
    }
    if (decode_key_list(fields[FIELD_QUOTA], &image->quota_slots, reterr) != CAP_OK) {
        return FIELD_QUOTA;
    }
    return FIELD_COUNT;
}

/* Says what cap_wire_image_head_len found wrong with the code's window and the offsets. */
static void explain_front(struct cap_bytes head, uint64_t total_len, struct cap_ssz_fault *reterr)
{
    uint32_t last = CAP_WIRE_FIXED_SIZE;
    snprintf(reterr->text, sizeof(reterr->text), "%zu bytes; a wire Image has at least %u",
             head.len, CAP_WIRE_FIXED_SIZE);
    for (size_t field = FIELD_ENDPOINTS; field < FIELD_COUNT && head.len >= CAP_WIRE_FIXED_SIZE;
         field++) {
        size_t at = CODE_REF_SIZE + (field - FIELD_ENDPOINTS) * CAP_SSZ_OFFSET_SIZE;
        uint32_t offset = cap_load32(head.data + at);
        const char *name = field_names[field];
        if (field == FIELD_ENDPOINTS && offset != last) {
            snprintf(reterr->text, sizeof(reterr->text),
                     "offset of %s is %" PRIu32 ", expected %" PRIu32, name, offset, last);
            return;
        }
        if (offset < last) {
            snprintf(reterr->text, sizeof(reterr->text),
                     "offset of %s is %" PRIu32 ", below that of %s (%" PRIu32 ")", name, offset,
                     field_names[field - 1], last);
            return;
        }
        if (offset > total_len) {
            snprintf(reterr->text, sizeof(reterr->text),
                     "offset of %s is %" PRIu32 ", past the end (%" PRIu64 " bytes)", name, offset,
                     total_len);
            return;
        }
        last = offset;
    }
    if (head.len >= CAP_WIRE_FIXED_SIZE) {
        snprintf(reterr->text, sizeof(reterr->text), "the arena is longer than 2^32 bytes");
    }
}

enum cap_error cap_wire_image_decode_why(struct cap_bytes head, uint64_t total_len,
                                         struct cap_wire_image *ret_image,
                                         struct cap_ssz_fault *reterr)
{
    struct cap_bytes fields[FIELD_COUNT];
    struct cap_wire_image image;
    struct fault fault = {0};
    size_t head_len;
    if (cap_wire_image_head_len(head, total_len, &head_len) != CAP_OK) {
        explain_front(head, total_len, reterr);
        return CAP_E_SSZ;
    }
    if (head.len < head_len) {
        snprintf(reterr->text, sizeof(reterr->text), "%zu bytes; the arena begins at %zu", head.len,
                 head_len);
        return CAP_E_SSZ;
    }
    image.head = cap_bytes_slice(head, 0, head_len);
    image.total_len = total_len;
    image.arena_len = total_len - head_len;
    if (cap_ssz_container(image.head, total_len, image_sizes, FIELD_COUNT, fields) != CAP_OK) {
        snprintf(reterr->text, sizeof(reterr->text), "the offsets are wrong");
        return CAP_E_SSZ;
    }
    enum image_field field = decode_fields(fields, &image, &fault);
    if (field == FIELD_COUNT) {
        *ret_image = image;
        return CAP_OK;
    }
    if (fault.has_entry) {
        snprintf(reterr->text, sizeof(reterr->text), "%s, entry %zu: %s", field_names[field],
                 fault.entry, fault.reason);
    } else {
        snprintf(reterr->text, sizeof(reterr->text), "%s: %s", field_names[field], fault.reason);
    }
    return CAP_E_SSZ;
}

enum cap_error cap_wire_image_decode(struct cap_bytes head, uint64_t total_len,
                                     struct cap_wire_image *ret_image)
{
    struct cap_ssz_fault fault;
    return cap_wire_image_decode_why(head, total_len, ret_image, &fault);
}

/* Splits a map's entry that decode_map accepted. */
static void entry_at(const struct cap_ssz_list *map, size_t index, struct cap_bytes ret_fields[2])
{
    struct cap_bytes entry = cap_ssz_list_at(map, index);
    (void)SPLIT(entry, entry_sizes, ret_fields);
}

void cap_wire_endpoint_at(const struct cap_wire_image *image, size_t index,
                          struct cap_wire_endpoint *ret_endpoint)
{
    struct cap_bytes entry[2];
    struct cap_bytes fields[COUNT(endpoint_sizes)];
    entry_at(&image->endpoints, index, entry);
    (void)SPLIT(entry[1], endpoint_sizes, fields);
    *ret_endpoint = (struct cap_wire_endpoint){
        .key = entry[0],
        .entry_pc = cap_load64(fields[0].data),
        .arg_registers = fields[1].data[0],
        .arg_cnode_size = fields[2].data[0],
        .initial_regs = fields[3],
        .register_count = fields[3].len / CAP_REGISTER_SIZE,
    };
}

struct cap_register cap_wire_register(const struct cap_wire_endpoint *endpoint, size_t index)
{
    const uint8_t *element = endpoint->initial_regs.data + index * CAP_REGISTER_SIZE;
    return (struct cap_register){element[0], cap_load64(element + 1)};
}

void cap_mapping_at(const struct cap_ssz_list *mappings, size_t index,
                    struct cap_mapping *ret_mapping)
{
    struct cap_bytes mapping = cap_ssz_list_at(mappings, index);
    struct cap_bytes fields[COUNT(mapping_sizes)];
    (void)SPLIT(mapping, mapping_sizes, fields);
    ret_mapping->start = cap_load64(fields[0].data);
    ret_mapping->size = cap_load64(fields[1].data);
    (void)cap_ssz_list(fields[2], &ret_mapping->source);
}

size_t cap_wire_slot_count(const struct cap_wire_image *image)
{
    return image->pinned.count + image->initial.count;
}

static struct cap_data_desc load_desc(struct cap_bytes in)
{
    struct cap_bytes fields[COUNT(data_desc_sizes)];
    (void)SPLIT(in, data_desc_sizes, fields);
    return (struct cap_data_desc){
        .size = cap_load64(fields[0].data),
        .pages = fields[1],
        .page_count = fields[1].len / CAP_PAGE_REF_SIZE,
    };
}

void cap_wire_slot_at(const struct cap_wire_image *image, size_t index,
                      struct cap_wire_slot *ret_slot)
{
    bool pinned = index < image->pinned.count;
    struct cap_bytes entry[2];
    struct cap_wire_slot slot = {.table = pinned ? CAP_TABLE_PINNED : CAP_TABLE_INITIAL,
                                 .kind = CAP_KIND_DATA};

    entry_at(pinned ? &image->pinned : &image->initial,
             pinned ? index : index - image->pinned.count, entry);
    slot.key = entry[0];
    if (!pinned) {
        slot.desc = load_desc(entry[1]);
    } else if (entry[1].data[0] == PINNED_IMAGE) {
        slot.kind = CAP_KIND_IMAGE;
        memcpy(slot.content_hash.bytes, entry[1].data + 1, CAP_HASH_SIZE);
    } else {
        struct cap_bytes value = cap_bytes_slice(entry[1], 1, entry[1].len - 1);
        struct cap_bytes desc;
        (void)SPLIT(value, pinned_data_sizes, &desc);
        slot.desc = load_desc(desc);
    }
    *ret_slot = slot;
}

struct cap_page_ref cap_page_ref_at(struct cap_bytes pages, size_t index)
{
    const uint8_t *ref = pages.data + index * CAP_PAGE_REF_SIZE;
    return (struct cap_page_ref){cap_load32(ref), cap_load32(ref + 4), cap_load32(ref + 8)};
}

uint64_t cap_wire_image_data_len(const struct cap_wire_image *image)
{
    uint64_t sum = 0; /* a head below 4 GiB holds fewer than 2^29 windows below 2^32 each */

    for (size_t i = 0; i < cap_wire_slot_count(image); i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(image, i, &slot);
        for (size_t page = 0; page < slot.desc.page_count; page++) {
            sum += cap_page_ref_at(slot.desc.pages, page).len;
        }
    }
    return sum;
}
