/*
 * Encoders from views back to bytes, through the public accessors only: what they write must be
 * what was decoded.
 */
#ifndef TESTS_CONFORMANCE_ENCODE_H
#define TESTS_CONFORMANCE_ENCODE_H

#include "lib/cap/image_cap.h"
#include "lib/cap/ssz_writer.h"

/* Appends a wire Image; `arena` are its arena's bytes. */
void encode_wire_image(struct cap_writer *out, const struct cap_wire_image *image,
                       struct cap_bytes arena);

/* Appends a served Image body. */
void encode_image_body(struct cap_writer *out, const struct cap_image_view *view);

/*
 * Appends a wire Image that becomes this cap, given slots that resolve to its hashes: every pinned
 * slot names an Image, every initial slot one page of zeros, and the arena is the code.
 */
void encode_source_image(struct cap_writer *out, const struct cap_image_view *view);

/* Whether that wire Image is accepted and converts to `body`, of which `view` is one. */
bool encode_is_reached(struct cap_bytes body, const struct cap_image_view *view);

#endif
