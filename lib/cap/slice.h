/*
 * Slices: some pages of a cap with what proves them against its CapHash (SLICES.md). slice_encode.h
 * makes them, slice_verify.h checks them while they arrive.
 */
#ifndef LIB_CAP_SLICE_H
#define LIB_CAP_SLICE_H

#include "lib/cap/bytes.h"
#include "lib/cap/constants.h"

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

/*
 * Whether ranges are as a slice states them (SLICES.md section 2), of a cap of `pages` pages. No
 * ranges at all are. CAP_E_RANGE_OUT_OF_BODY: one reaches past the end. CAP_E_INVALID_ARGUMENT: one
 * is empty, or does not begin at least one page after the end of the one before it.
 */
enum cap_error cap_ranges_judge(const struct cap_range *ranges, size_t count, uint64_t pages);

/*
 * Makes ranges such as a person types canonical, in place: in order, empty ones dropped, those that
 * touch or overlap merged. Returns how many are left. One that would reach past 2^64 pages ends
 * there, and so is past the end of every cap. O(n log n).
 */
size_t cap_ranges_merge(struct cap_range *ranges, size_t count);

#endif
