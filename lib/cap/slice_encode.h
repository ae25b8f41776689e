/*
 * Makes the slice of a cap from what a store keeps with it: body, page roots and interior nodes.
 *
 * No page outside the ranges is read. What a page costs besides: the hashes of up to 64 nodes or
 * roots at every sixth level above it, and their pairs. For one page of an Image with 252 MiB of
 * code that is about 144 hashes and 145 pairs; in a run of pages, one root and one pair per page.
 *
 * Everything is pure. An encoder belongs to one thread at a time.
 */
#ifndef LIB_CAP_SLICE_ENCODE_H
#define LIB_CAP_SLICE_ENCODE_H

#include "lib/cap/slice.h"

/* Opaque. */
struct cap_slice_encoder;

/* Room for what goes out in one piece, a group: cap_slice_encoder_next needs so much at least. */
#define CAP_SLICE_ROOM (CAP_SLICE_GROUP_PAGES * (2 + CAP_PAGE_SIZE))

/*
 * Hashes that one cap_slice_encoder_next computes before it returns with what there is, if need be
 * with nothing: some milliseconds. Only few pages strewn over a huge cap cost so much.
 */
#define CAP_SLICE_WORK 16384u

/* What an encoder takes beside its ranges: for the most part a group of pages, and 5 KiB for every
 * sixth level of the tree of pages. */
#define CAP_SLICE_ENCODER_SIZE (120u << 10)

/*
 * An encoder of the slice with these pages. Ranges and subject are copied. Fails as
 * cap_ranges_judge does, CAP_E_NO_MEMORY, CAP_E_CORRUPT for a subject that no cap has. Release with
 * cap_slice_encoder_free.
 */
enum cap_error cap_slice_encoder_new(const struct cap_slice_subject *subject,
                                     const struct cap_range *ranges, size_t count,
                                     struct cap_slice_encoder **ret_encoder);

/*
 * Writes the next bytes of the slice to `dst`, at most `room`, which is CAP_SLICE_ROOM or more.
 * *ret_len, which may be 0 before the end; *ret_done: these were the last.
 *
 * `source` may be another one of the same cap at every call: nothing is kept of it. Fails as the
 * source does, or CAP_E_CORRUPT when what it gives is not of one cap; a step that failed may be
 * repeated, then it begins where the one before it ended.
 */
enum cap_error cap_slice_encoder_next(struct cap_slice_encoder *encoder,
                                      const struct cap_slice_source *source, uint8_t *dst,
                                      size_t room, size_t *ret_len, bool *ret_done);

/* NULL is fine. */
void cap_slice_encoder_free(struct cap_slice_encoder *encoder);

/*
 * A source over a whole served body in memory, whose roots and nodes it computes: for who has no
 * store. Zero-initialised it is empty; release with cap_slice_body_free.
 */
struct cap_slice_body {
    struct cap_bytes body; /* borrowed */
    struct cap_hash hash;  /* the CapHash */
    struct cap_slice_subject subject;
    struct cap_hash *roots;
    struct cap_nodes nodes;
};

/* Hashes `body`, which is borrowed until the release. CAP_E_BODY_NOT_CANONICAL, CAP_E_NO_MEMORY. */
enum cap_error cap_slice_body_open(struct cap_bytes body, struct cap_slice_body *ret_parts);

/* The source of its parts; valid as long as `parts` stays where it is. Any thread may use it. */
struct cap_slice_source cap_slice_body_source(struct cap_slice_body *parts);

/* Releases what was computed and leaves an empty one. NULL is fine. */
void cap_slice_body_free(struct cap_slice_body *parts);

/*
 * The whole slice of a body in memory, appended to `out`. Fails as cap_slice_body_open and
 * cap_slice_encoder_new do.
 */
enum cap_error cap_slice_of_body(struct cap_bytes body, const struct cap_range *ranges,
                                 size_t count, struct cap_buf *out);

#endif
