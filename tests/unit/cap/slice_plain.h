/*
 * Slices written plainly from SLICES.md, without any of the code under test: every hash is computed
 * from the pages, as often as it is asked for.
 */
#ifndef TESTS_UNIT_CAP_SLICE_PLAIN_H
#define TESTS_UNIT_CAP_SLICE_PLAIN_H

#include "lib/cap/slice.h"
#include "tests/unit/cap/build_cap.h"

/* A cap by its pages; release with plain_cap_free. */
struct plain_cap {
    enum cap_kind kind;
    uint64_t size; /* Data: logical bytes. Image: bytes of code */
    size_t count;  /* pages that are not zero, ascending */
    size_t capacity;
    uint64_t *indexes;
    uint8_t (*pages)[CAP_PAGE_SIZE];
    struct cap_hash *roots;
    struct cap_buf rest; /* Image */
    struct cap_buf body; /* served */
    struct cap_hash hash;
};

/* Data without pages yet. */
struct plain_cap plain_data(uint64_t size);
/* Adds a page of Data; one of zeros is left out. */
void plain_page(struct plain_cap *cap, uint64_t index, const uint8_t *bytes, size_t len);
/* Makes the body and the hash of Data, when all pages are there. */
void plain_data_end(struct plain_cap *cap);
/* An Image with this code and some structure. */
struct plain_cap plain_image(const uint8_t *code, size_t len);
void plain_cap_free(struct plain_cap *cap);

/* The bytes of one page. */
const uint8_t *plain_bytes(const struct plain_cap *cap, uint64_t index);

/* The slice; the caller frees it. */
struct cap_buf plain_slice(const struct plain_cap *cap, const struct cap_range *ranges,
                           size_t count);

/*
 * Verifies a slice that arrives in pieces of at most `most` bytes, each in memory of exactly its
 * length. Whatever is handed out must be the cap's, in order and within the ranges; of a slice that
 * is accepted it must be all.
 */
enum cap_error plain_verify(const struct plain_cap *cap, const struct cap_range *ranges,
                            size_t count, struct cap_bytes slice, size_t most);

#endif
