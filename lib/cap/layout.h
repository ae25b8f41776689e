/*
 * An Image cap laid out: where its mappings lie, what is behind each (FORMATS.md section 5), and
 * its body without the code, which is most of it.
 *
 * Everything is pure. A layout belongs to one thread at a time.
 */
#ifndef LIB_CAP_LAYOUT_H
#define LIB_CAP_LAYOUT_H

#include "lib/cap/image_cap.h"

#define CAP_IMAGE_FRONT 33u /* of a served Image body: the selector and eight offsets */

/*
 * Cuts the code out of a served Image body of `body_len` bytes, of which `front` is the first
 * CAP_IMAGE_FRONT: changes them so that they and the bytes after the code (from CAP_IMAGE_FRONT +
 * *ret_code_len on) are the body of the same Image without code. CAP_E_BODY_NOT_CANONICAL when the
 * offsets cannot be those of an Image; then the content of `front` is undefined. Whether the rest
 * is that of an Image is for cap_image_view_decode to check.
 */
enum cap_error cap_image_cut_code(uint8_t front[CAP_IMAGE_FRONT], uint64_t body_len,
                                  uint64_t *ret_code_len);

/*
 * The Data cap behind a mapping: the slot that the last step of its path names, pinned before
 * initial. False when the Image has no such slot: then only a runtime knows.
 */
bool cap_image_mapping_memory(const struct cap_image_view *view, const struct cap_mapping *mapping,
                              enum cap_table *ret_table, struct cap_slot *ret_slot);

/* Where a mapping lies. */
struct cap_placed {
    uint64_t start;
    uint64_t end;   /* the last address there is where start + size overflows */
    size_t index;   /* of the mapping in the Image's list */
    bool read_only; /* as cap_image_mapping_read_only says of its start */
};

/* All mappings of an Image. Release with cap_layout_free. */
struct cap_layout {
    struct cap_placed *mappings; /* in the order of their starts, then of the list */
    size_t count;
};

/* Lays out the mappings of a view. CAP_E_NO_MEMORY. Cost: O(n log n), 32 bytes per mapping. */
enum cap_error cap_layout_make(const struct cap_image_view *view, struct cap_layout *ret_layout);

/* Releases the list and leaves an empty layout. NULL is fine. */
void cap_layout_free(struct cap_layout *layout);

#endif
