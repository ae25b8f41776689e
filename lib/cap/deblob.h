/*
 * The deblob: whether a wire Image is admitted (FORMATS.md section 5).
 *
 * All of the structure is judged, and nothing of what the code means. Rules 0 to 10 are decided
 * here, from the head and the total length; rule 11, resolving slots, takes a store.
 */
#ifndef LIB_CAP_DEBLOB_H
#define LIB_CAP_DEBLOB_H

#include "lib/cap/refusal.h"
#include "lib/cap/wire_image.h"

/*
 * Rules 0 to 10 in their order (FORMATS.md section 5): decodes the bytes before the arena of an
 * upload of `total_len` bytes, then checks what they say; the first rule broken names the error.
 * *ret_image borrows `head` and is set only on CAP_OK; when it fails and `reterr` is not NULL,
 * *reterr says more. O(structure), no allocation.
 */
enum cap_error cap_deblob(struct cap_bytes head, uint64_t total_len,
                          struct cap_wire_image *ret_image, struct cap_refusal *reterr);

#endif
