/*
 * The canonical arena of a packed Image as it grows (FORMATS.md section 6): the pages that are not
 * zero, cut after their last non-zero byte, each content once.
 */
#ifndef LIB_CAP_ARENA_H
#define LIB_CAP_ARENA_H

#include "lib/cap/body.h"
#include "lib/cap/hash_set.h"
#include "lib/cap/ssz_writer.h"

/* `len` bytes of a source at `offset` that belong at logical address `at`; len is not 0. */
struct cap_piece {
    uint64_t at;
    uint64_t offset;
    uint64_t len;
};

/* Zero-initialised it is empty; release with cap_arena_free. */
struct cap_arena {
    struct cap_body body;   /* windows of the source, and copies of pages made of several pieces */
    struct cap_writer refs; /* encoded page references, one per page, in the order of adding */
    struct cap_hash_set seen;
    struct cap_buf roots;   /* struct cap_hash, one per window */
    struct cap_buf windows; /* where each window is */
};

/*
 * Adds the content of one Data slot: `count` pieces, ascending and not overlapping, none past the
 * largest multiple of a page. References to its pages are appended to `refs`. CAP_E_BODY_TOO_LARGE
 * for a page or a window past 2^32, CAP_E_NO_MEMORY, or as the source fails; then the arena can
 * only be freed. Cost: O(pages that have pieces).
 */
enum cap_error cap_arena_add(struct cap_arena *arena, const struct cap_source *source,
                             const struct cap_piece *pieces, size_t count);

/* Releases what the arena owns and leaves an empty one. NULL is fine. */
void cap_arena_free(struct cap_arena *arena);

#endif
