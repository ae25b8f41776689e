/* Reads a Data cap through a view of its served body. */
#include "lib/cap/data_cap.h"

/* The first page reference at or after page `index`. */
static size_t find_page(const struct cap_data_view *view, uint64_t index)
{
    size_t low = 0;
    size_t high = view->page_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (cap_page_ref_at(view->pages, middle).page_index < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void cap_data_read(const struct cap_data_view *view, struct cap_bytes body, uint64_t offset,
                   void *dst, size_t len)
{
    if (len == 0) {
        return;
    }
    uint8_t *to = dst;
    uint64_t end = offset + len;
    memset(to, 0, len);
    for (size_t i = find_page(view, offset / CAP_PAGE_SIZE); i < view->page_count; i++) {
        struct cap_page_ref ref = cap_page_ref_at(view->pages, i);
        uint64_t start = (uint64_t)ref.page_index * CAP_PAGE_SIZE;
        if (start >= end) {
            return;
        }
        uint64_t from = start > offset ? start : offset;
        uint64_t until = start + ref.len < end ? start + ref.len : end;
        if (from < until) {
            memcpy(to + (from - offset),
                   body.data + view->arena_start + ref.arena_off + (from - start),
                   (size_t)(until - from));
        }
    }
}
