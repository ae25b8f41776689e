/* Ranges of pages, and groups of them. */
#include "lib/cap/slice.h"

#include <stdlib.h>

#include "lib/cap/sha256.h"

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

bool cap_ranges_meet(const struct cap_range *ranges, size_t count, size_t *at, uint64_t first,
                     uint64_t end)
{
    while (*at < count && ranges[*at].first + ranges[*at].pages <= first) {
        ++*at;
    }
    return *at < count && ranges[*at].first < end;
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

void cap_slice_group_root(enum cap_kind kind, const uint8_t *pages, size_t count, unsigned level,
                          struct cap_hash *ret_root)
{
    struct cap_hash nodes[CAP_SLICE_GROUP_PAGES];
    size_t width = (size_t)1 << level;
    if (kind == CAP_KIND_IMAGE) {
        cap_block_roots(pages, count * CAP_PAGE_SIZE, nodes);
    } else {
        struct cap_bytes each[CAP_SLICE_GROUP_PAGES] = {{0}};
        uint32_t used[CAP_SLICE_GROUP_PAGES];
        for (size_t i = 0; i < count; i++) {
            each[i] = (struct cap_bytes){pages + i * CAP_PAGE_SIZE, CAP_PAGE_SIZE};
        }
        cap_page_roots(each, count, nodes, used);
    }
    for (size_t i = count; i < width; i++) {
        nodes[i] = *cap_slice_empty(kind, 0);
    }
    for (; width > 1; width /= 2) {
        cap_sha256_pairs(nodes[0].bytes, nodes[0].bytes, width / 2);
    }
    *ret_root = nodes[0];
}
