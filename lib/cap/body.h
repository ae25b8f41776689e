/*
 * A served body: one byte string per cap, what `get` returns (FORMATS.md section 4).
 *
 * Before a cap is in a store its body is not one run of memory but a sequence: a few bytes that
 * were made here, and long windows of a source (a spool, a mapped file).
 */
#ifndef LIB_CAP_BODY_H
#define LIB_CAP_BODY_H

#include "lib/cap/bytes.h"

/* `len` bytes, from `memory[offset ..)` of the body's own bytes or from the source. */
struct cap_segment {
    uint64_t at; /* where it starts in the body */
    uint64_t len;
    uint64_t offset;
    bool from_source;
};

/* Owns its segments and its own bytes, not the source. Zero-initialised it is the empty body. */
struct cap_body {
    uint64_t len;
    struct cap_segment *segments;
    size_t segment_count;
    size_t segment_capacity;
    struct cap_buf memory;
};

/* Appends a copy of bytes. CAP_E_NO_MEMORY leaves the body as it was. */
enum cap_error cap_body_append(struct cap_body *body, struct cap_bytes bytes);

/* Appends a window of the source; a window that continues the last one extends it. */
enum cap_error cap_body_append_source(struct cap_body *body, uint64_t offset, uint64_t len);

/*
 * Reads [offset, offset + len), which lies inside the body, to `dst`. Fails as the source does.
 * `source` is the one whose windows were appended.
 */
enum cap_error cap_body_read(const struct cap_body *body, const struct cap_source *source,
                             uint64_t offset, void *dst, size_t len);

/* Releases what the body owns and leaves an empty one. NULL is fine. */
void cap_body_free(struct cap_body *body);

#endif
