/* A scripted daemon that has caps and makes slices of them, as told: right ones or wrong ones. */
#ifndef TESTS_UNIT_CLIENT_SLICER_H
#define TESTS_UNIT_CLIENT_SLICER_H

#include <stdatomic.h>

#include "tests/unit/client/fake.h"

#define SLICER_CAPS 4u

struct slicer {
    struct fake fake;
    struct cap_buf bodies[SLICER_CAPS];
    struct capstore_hash hashes[SLICER_CAPS];
    size_t count;
    const struct capstore_options *options; /* of the handle; NULL: the defaults */
    atomic_int flip;             /* the byte of each slice in which a bit is wrong; -1: none */
    atomic_uint requests;        /* SLICE and GET */
    atomic_uint_least64_t asked; /* pages, by the last SLICE */
};

/* Adds a cap, whose body belongs to the slicer from here on. Before slicer_start. */
const struct capstore_hash *slicer_add(struct slicer *slicer, struct cap_buf *body);

/* Starts it with these features, and connects. Afterwards: capstore_free, then slicer_stop. */
struct capstore *slicer_start(struct slicer *slicer, uint64_t features);
void slicer_stop(struct slicer *slicer);

/* Content with a pattern, `pages` long, of which those that `is_zero` names are zero. The caller
 * frees it. */
struct cap_buf slicer_content(size_t pages, bool (*is_zero)(size_t page));

#define SLICER_READ_ONLY UINT64_C(0x10000000)
#define SLICER_WRITABLE  UINT64_C(0x20000000)

/* The body of an Image with this code, and if `data` is not NULL two mappings of `mapped` bytes of
 * that cap, one by a pinned slot and one by an initial one. The caller frees it. */
struct cap_buf slicer_image(struct cap_bytes code, const struct capstore_hash *data,
                            uint64_t mapped);

#endif
