/*
 * Strict SSZ over borrowed bytes (FORMATS.md section 2): only the one canonical encoding is
 * accepted.
 *
 * Nothing is copied and nothing allocated: a container is split into the spans of its fields, a
 * list of variable-size elements becomes a checked offset table. Every function is pure; every
 * failure is CAP_E_SSZ and leaves ret_ arguments untouched.
 */
#ifndef LIB_CAP_SSZ_H
#define LIB_CAP_SSZ_H

#include "lib/cap/bytes.h"
#include "lib/cap/constants.h"

#define CAP_SSZ_OFFSET_SIZE 4u
#define CAP_SSZ_VARIABLE    0u /* in a field table: the field is variable-size */

/*
 * Splits a container. `sizes[i]` is the length of a fixed-size field i, or CAP_SSZ_VARIABLE;
 * ret_fields gets one span per field. Checks the first offset, that offsets do not decrease or
 * leave `in`, and that a container without variable fields has no bytes left over. `total` is the
 * length of the whole encoding, of which `in` may be only the front: the last variable field's span
 * is then cut to what is in `in`, and the caller derives its true length from `total`. Pass in.len
 * when all of it is there.
 */
enum cap_error cap_ssz_container(struct cap_bytes in, uint64_t total, const size_t *sizes,
                                 size_t count, struct cap_bytes *ret_fields);

/* Whether a list may have that many elements, or a byte string that many bytes. */
static inline bool cap_ssz_within_limit(uint64_t count)
{
    return count <= CAP_LIST_LIMIT;
}

/* A checked list of variable-size elements; borrows the bytes. */
struct cap_ssz_list {
    struct cap_bytes bytes;
    size_t count;
};

/*
 * Checks the offset table of a list of variable-size elements: the first offset is a non-zero
 * multiple of 4 within the bytes, offsets do not decrease, none is past the end. No bytes make an
 * empty list.
 */
enum cap_error cap_ssz_list(struct cap_bytes in, struct cap_ssz_list *ret_list);

/* Element `index` < count, without a further check. */
struct cap_bytes cap_ssz_list_at(const struct cap_ssz_list *list, size_t index);

/* Checks that `in` is a whole number of fixed-size elements and counts them. */
enum cap_error cap_ssz_fixed_list(struct cap_bytes in, size_t element_size, size_t *ret_count);

/* Splits a union: the selector, at most `max_selector`, and its variant's bytes. */
enum cap_error cap_ssz_union(struct cap_bytes in, uint8_t max_selector, uint8_t *ret_selector,
                             struct cap_bytes *ret_value);

#endif
