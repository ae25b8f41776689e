/*
 * Slices: some pages of a cap with what proves them against its CapHash (SLICES.md). slice_encode.h
 * makes them, slice_verify.h checks them while they arrive.
 */
#ifndef LIB_CAP_SLICE_H
#define LIB_CAP_SLICE_H

#include "lib/cap/bytes.h"
#include "lib/cap/constants.h"
#include "lib/cap/merkle.h"

/* Pages [first, first + pages) of a cap. */
struct cap_range {
    uint64_t first;
    uint64_t pages;
};

/* How many pages a cap of `size` bytes has: logical bytes of Data, bytes of code of an Image. */
static inline uint64_t cap_slice_page_count(uint64_t size)
{
    return size / CAP_PAGE_SIZE + (size % CAP_PAGE_SIZE != 0);
}

/* Pages that come together, if all of them are asked for: those under one node of this level. */
#define CAP_SLICE_GROUP_LEVEL 4u
#define CAP_SLICE_GROUP_PAGES (1u << CAP_SLICE_GROUP_LEVEL)

/* How far above chunks the tree of pages begins: an empty page of Data is a chunk of zeros. */
static inline unsigned cap_slice_height(enum cap_kind kind)
{
    return kind == CAP_KIND_IMAGE ? CAP_BLOCK_DEPTH : 0;
}

/* The depth of the tree of so many pages. */
static inline unsigned cap_slice_depth(enum cap_kind kind, uint64_t pages)
{
    return kind == CAP_KIND_IMAGE ? CAP_BYTE_LIST_DEPTH - CAP_BLOCK_DEPTH : cap_depth_of(pages);
}

/* The hash of a node of that level under which all pages are empty. */
static inline const struct cap_hash *cap_slice_empty(enum cap_kind kind, unsigned level)
{
    return cap_zero_node(level + cap_slice_height(kind));
}

/*
 * The hash of a node of `level` <= CAP_SLICE_GROUP_LEVEL over `count` pages, which lie side by side
 * with zeros past the content's end; the pages after them are empty.
 */
void cap_slice_group_root(enum cap_kind kind, const uint8_t *pages, size_t count, unsigned level,
                          struct cap_hash *ret_root);

/*
 * Where the parts of one cap are read from. Each fills all that is asked for, which lies within
 * what the subject says, or fails with an error of its own.
 */
struct cap_slice_source {
    /* Bytes of the served body. */
    enum cap_error (*body)(void *ctx, uint64_t offset, size_t len, uint8_t *dst);
    /* Page roots as they are kept: of Data those of its pages that are not zero, of an Image those
     * of its code's pages. */
    enum cap_error (*roots)(void *ctx, uint64_t first, size_t count, struct cap_hash *dst);
    /* Nodes that are kept above the page roots, in the order of struct cap_nodes. */
    enum cap_error (*nodes)(void *ctx, uint64_t first, size_t count, struct cap_node *dst);
    void *ctx;
};

/* A cap, as struct cap_info of the store says it. */
struct cap_slice_subject {
    enum cap_kind kind;
    uint64_t body_len;
    uint64_t size;       /* Data: logical bytes. Image: bytes of code */
    uint64_t page_count; /* Data: pages that are not zero. Image: not looked at */
    struct cap_node_counts node_counts;
};

/*
 * Whether ranges are as a slice states them (SLICES.md section 2), of a cap of `pages` pages. No
 * ranges at all are. CAP_E_RANGE_OUT_OF_BODY: one reaches past the end. CAP_E_INVALID_ARGUMENT: one
 * is empty, or does not begin at least one page after the end of the one before it.
 */
enum cap_error cap_ranges_judge(const struct cap_range *ranges, size_t count, uint64_t pages);

/*
 * Whether pages [first, end) meet canonical ranges from *at on, which is then the first that they
 * meet. `first` must not go back from call to call.
 */
bool cap_ranges_meet(const struct cap_range *ranges, size_t count, size_t *at, uint64_t first,
                     uint64_t end);

/*
 * Makes ranges such as a person types canonical, in place: in order, empty ones dropped, those that
 * touch or overlap merged. Returns how many are left. One that would reach past 2^64 pages ends
 * there, and so is past the end of every cap. O(n log n).
 */
size_t cap_ranges_merge(struct cap_range *ranges, size_t count);

#endif
