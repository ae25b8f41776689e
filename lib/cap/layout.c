#include "lib/cap/layout.h"

#include <stdlib.h>

#include "lib/cap/ssz.h"

#define IMAGE_FIELDS 8u
#define IMAGE_FIXED  (IMAGE_FIELDS * CAP_SSZ_OFFSET_SIZE)

_Static_assert(CAP_IMAGE_FRONT == 1 + IMAGE_FIXED, "the front is the selector and the fixed part");

/* The code is the first variable field: it begins where the fixed part ends. */
enum cap_error cap_image_cut_code(uint8_t front[CAP_IMAGE_FRONT], uint64_t body_len,
                                  uint64_t *ret_code_len)
{
    uint8_t *offsets = front + 1;
    if (body_len < CAP_IMAGE_FRONT || front[0] != CAP_KIND_IMAGE ||
        cap_load32(offsets) != IMAGE_FIXED) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    uint32_t after_code = cap_load32(offsets + CAP_SSZ_OFFSET_SIZE);
    if (after_code < IMAGE_FIXED || after_code > body_len - 1) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    for (unsigned i = 1; i < IMAGE_FIELDS; i++) {
        uint8_t *at = offsets + i * CAP_SSZ_OFFSET_SIZE;
        if (cap_load32(at) < after_code) {
            return CAP_E_BODY_NOT_CANONICAL;
        }
        cap_store32(at, cap_load32(at) - (after_code - IMAGE_FIXED));
    }
    *ret_code_len = after_code - IMAGE_FIXED;
    return CAP_OK;
}

bool cap_image_mapping_memory(const struct cap_image_view *view, const struct cap_mapping *mapping,
                              enum cap_table *ret_table, struct cap_slot *ret_slot)
{
    struct cap_bytes last = cap_ssz_list_at(&mapping->source, mapping->source.count - 1);
    if (cap_image_slot_find(&view->pinned, last, ret_slot)) {
        *ret_table = CAP_TABLE_PINNED;
        return true;
    }
    *ret_table = CAP_TABLE_INITIAL;
    return cap_image_slot_find(&view->initial, last, ret_slot);
}

/* By the address as a runtime has it, modulo 2^32. */
static int compare_wrapped(const void *left, const void *right)
{
    const struct cap_placed *a = left;
    const struct cap_placed *b = right;
    uint32_t start_a = (uint32_t)a->start;
    uint32_t start_b = (uint32_t)b->start;
    return (start_a > start_b) - (start_a < start_b);
}

static int compare_placed(const void *left, const void *right)
{
    const struct cap_placed *a = left;
    const struct cap_placed *b = right;
    if (a->start != b->start) {
        return a->start < b->start ? -1 : 1;
    }
    return (a->index > b->index) - (a->index < b->index);
}

/* Where any mapping of a start is read-only, all of them are. */
static void share_read_only(struct cap_layout *layout)
{
    qsort(layout->mappings, layout->count, sizeof(*layout->mappings), compare_wrapped);
    for (size_t i = 0, next; i < layout->count; i = next) {
        bool read_only = false;
        uint32_t start = (uint32_t)layout->mappings[i].start;
        for (next = i; next < layout->count && (uint32_t)layout->mappings[next].start == start;
             next++) {
            read_only = read_only || layout->mappings[next].read_only;
        }
        for (size_t k = i; k < next; k++) {
            layout->mappings[k].read_only = read_only;
        }
    }
}

enum cap_error cap_layout_make(const struct cap_image_view *view, struct cap_layout *ret_layout)
{
    struct cap_layout layout = {NULL, view->mappings.count};
    if (layout.count > 0) {
        layout.mappings = calloc(layout.count, sizeof(*layout.mappings));
        if (layout.mappings == NULL) {
            return CAP_E_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < layout.count; i++) {
        struct cap_mapping mapping;
        struct cap_slot slot;
        cap_mapping_at(&view->mappings, i, &mapping);
        uint64_t end = mapping.start + mapping.size;
        struct cap_bytes first = cap_ssz_list_at(&mapping.source, 0);
        layout.mappings[i] = (struct cap_placed){
            .start = mapping.start,
            .end = end < mapping.start ? UINT64_MAX : end,
            .index = i,
            .read_only = cap_image_slot_find(&view->pinned, first, &slot),
        };
    }
    if (layout.count > 0) {
        share_read_only(&layout);
        qsort(layout.mappings, layout.count, sizeof(*layout.mappings), compare_placed);
    }
    *ret_layout = layout;
    return CAP_OK;
}

void cap_layout_free(struct cap_layout *layout)
{
    if (layout == NULL) {
        return;
    }
    free(layout->mappings);
    *layout = (struct cap_layout){0};
}
