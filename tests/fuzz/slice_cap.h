/* Caps for the fuzz targets of slices, and a sink that knows what may come out of a slice of one.
 */
#ifndef TESTS_FUZZ_SLICE_CAP_H
#define TESTS_FUZZ_SLICE_CAP_H

#include "lib/cap/data_cap.h"
#include "lib/cap/slice_encode.h"
#include "lib/cap/slice_verify.h"

#define SLICE_RANGES_MAX 8u

/* Aborts unless the condition holds. */
void require(bool condition);

/* Bytes of a fuzz input, taken one after the other; zeros once they have ended. */
uint8_t next8(struct cap_bytes *input);
uint16_t next16(struct cap_bytes *input);
uint32_t next32(struct cap_bytes *input);

/* A served body with what is known of it; release with slice_cap_free. */
struct slice_cap {
    struct cap_buf body;
    struct cap_slice_body parts;
    uint64_t pages; /* of the cap */
    struct cap_data_view data;
    struct cap_image_view image;
};

/* Pages of Data at ascending indexes: page i is page[i] bytes of the value i + 1. */
struct slice_cap slice_cap_data(uint64_t size, const uint32_t *indexes, const uint16_t *lens,
                                size_t count);
/* An Image of this code and nothing else. */
struct slice_cap slice_cap_image(const uint8_t *code, size_t len);
void slice_cap_free(struct slice_cap *cap);

/* Up to `most` ranges from the input, canonical ones of a cap with `pages` pages. */
size_t slice_ranges(struct cap_bytes *input, size_t most, uint64_t pages, struct cap_range *ranges);

/*
 * Appends the slice of what is kept with a cap. Each step of the encoder has a source of its own,
 * and room for `more` bytes than the least.
 */
enum cap_error slice_encode(struct cap_slice_body *parts, const struct cap_range *ranges,
                            size_t count, size_t more, struct cap_buf *out);

/*
 * Gives the whole slice in pieces of at most `piece` bytes to a verifier that expects these ranges,
 * or any. What it hands on must be the cap's and in order, and all of it if it accepts.
 */
enum cap_error slice_take(const struct slice_cap *cap, const struct cap_range *ranges, size_t count,
                          bool any, struct cap_bytes slice, size_t piece);

#endif
