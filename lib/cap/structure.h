/*
 * The structure of an Image cap: its served body without the code, which is most of it. This much
 * has to be in memory to judge a body, and to find what it refers to.
 */
#ifndef LIB_CAP_STRUCTURE_H
#define LIB_CAP_STRUCTURE_H

#include "lib/cap/image_cap.h"

/* Zero-initialised it is empty; release with cap_structure_free. */
struct cap_structure {
    struct cap_buf bytes;       /* the body of the same Image without code */
    struct cap_image_view view; /* of these bytes; its code is empty */
    uint64_t code_len;          /* of the Image itself */
};

/*
 * Reads the structure of a served Image body of `body_len` bytes, and judges it and the code's
 * length as cap_image_view_judge does. CAP_E_STRUCTURE_TOO_LARGE when it has more than `max_len`
 * bytes, CAP_E_NO_MEMORY, or as the source fails; *reterr, unless NULL, is set for what is wrong
 * with the body.
 */
enum cap_error cap_structure_read(const struct cap_source *body, uint64_t body_len,
                                  uint64_t max_len, struct cap_structure *ret_structure,
                                  struct cap_refusal *reterr);

/* Frees the bytes and leaves an empty one. NULL is fine. */
void cap_structure_free(struct cap_structure *structure);

#endif
