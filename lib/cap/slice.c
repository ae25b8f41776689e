/* Ranges of pages. */
#include "lib/cap/slice.h"

#include <stdlib.h>

enum cap_error cap_ranges_judge(const struct cap_range *ranges, size_t count, uint64_t pages)
{
    uint64_t next = 0; /* the first page that the next range may begin with */
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].first > pages || ranges[i].pages > pages - ranges[i].first) {
            return CAP_E_RANGE_OUT_OF_BODY;
        }
        if (ranges[i].pages == 0 || ranges[i].first < next) {
            return CAP_E_INVALID_ARGUMENT;
        }
        next = ranges[i].first + ranges[i].pages + 1;
    }
    return CAP_OK;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct cap_range *left = a;
    const struct cap_range *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

size_t cap_ranges_merge(struct cap_range *ranges, size_t count)
{
    size_t kept = 0;
    if (count > 0) {
        qsort(ranges, count, sizeof(*ranges), compare_ranges);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t first = ranges[i].first;
        uint64_t most = UINT64_MAX - first;
        uint64_t end = first + (ranges[i].pages < most ? ranges[i].pages : most);
        struct cap_range *last = kept > 0 ? &ranges[kept - 1] : NULL;
        if (first == end) {
            continue;
        }
        if (last == NULL || first > last->first + last->pages) {
            ranges[kept++] = (struct cap_range){first, end - first};
        } else if (end > last->first + last->pages) {
            last->pages = end - last->first;
        }
    }
    return kept;
}
