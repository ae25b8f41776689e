/*
 * A batch of windows: those in the memo are done, those named twice count once, and the rest are
 * read and hashed together, unless the source knows their roots.
 */
#include "lib/cap/window_reader.h"

#include <stdlib.h>

#include "lib/cap/merkle.h"

_Static_assert(CAP_WINDOWS_TOGETHER == CAP_BLOCKS_TOGETHER, "a batch of windows is hashed at once");

enum cap_error cap_window_reader_open(struct cap_window_reader *reader)
{
    if (reader->source->memory == NULL) {
        reader->scratch = malloc(CAP_WINDOWS_TOGETHER * CAP_PAGE_SIZE);
    }
    return reader->source->memory != NULL || reader->scratch != NULL ? CAP_OK : CAP_E_NO_MEMORY;
}

void cap_window_reader_close(struct cap_window_reader *reader)
{
    free(reader->scratch);
    reader->scratch = NULL;
}

/* The root of a window that is a whole block of its source, where that is known. */
static const struct cap_hash *known_root(const struct cap_window_reader *reader,
                                         struct cap_page_ref ref)
{
    uint64_t at = reader->base + ref.arena_off;
    const struct cap_source *source = reader->source;
    bool known = ref.len == CAP_PAGE_SIZE && at % CAP_PAGE_SIZE == 0 &&
                 at / CAP_PAGE_SIZE < source->block_count;
    return known ? &source->block_roots[at / CAP_PAGE_SIZE] : NULL;
}

/* Windows of a batch that are not in the memo. */
struct fresh {
    size_t count;
    struct cap_page_ref refs[CAP_WINDOWS_TOGETHER];
    struct cap_window windows[CAP_WINDOWS_TOGETHER];
};

/* Reads the windows and hashes those whose root is not known. */
static enum cap_error hash_windows(const struct cap_window_reader *reader, struct fresh *fresh)
{
    struct cap_bytes pages[CAP_WINDOWS_TOGETHER];
    struct cap_hash roots[CAP_WINDOWS_TOGETHER];
    uint32_t used[CAP_WINDOWS_TOGETHER];
    size_t which[CAP_WINDOWS_TOGETHER];
    size_t count = 0;
    for (size_t i = 0; i < fresh->count; i++) {
        struct cap_page_ref ref = fresh->refs[i];
        uint8_t *scratch = reader->scratch != NULL ? reader->scratch + count * CAP_PAGE_SIZE : NULL;
        struct cap_bytes *page = &pages[count];
        page->len = ref.len;
        enum cap_error error = cap_source_get(reader->source, reader->base + ref.arena_off, ref.len,
                                              scratch, &page->data);
        if (error != CAP_OK) {
            return error;
        }
        const struct cap_hash *known = known_root(reader, ref);
        if (known == NULL) {
            which[count++] = i;
        } else {
            fresh->windows[i].used = (uint32_t)cap_page_used(page->data, page->len);
            fresh->windows[i].root = fresh->windows[i].used > 0 ? *known : *cap_zero_node(0);
        }
    }
    cap_page_roots(pages, count, roots, used);
    for (size_t i = 0; i < count; i++) {
        fresh->windows[which[i]] = (struct cap_window){roots[i], used[i]};
    }
    return CAP_OK;
}

/* The window's place among the fresh ones, or how many these are. */
static size_t find_fresh(const struct fresh *fresh, struct cap_page_ref ref)
{
    size_t i = 0;
    while (i < fresh->count &&
           (fresh->refs[i].arena_off != ref.arena_off || fresh->refs[i].len != ref.len)) {
        i++;
    }
    return i;
}

enum cap_error cap_window_reader_read(const struct cap_window_reader *reader,
                                      const struct cap_page_ref *refs, size_t count,
                                      struct cap_window *ret_windows)
{
    struct fresh fresh = {0};
    size_t from[CAP_WINDOWS_TOGETHER]; /* place among the fresh ones */
    for (size_t i = 0; i < count; i++) {
        from[i] = SIZE_MAX;
        if (cap_window_memo_find(reader->memo, refs[i].arena_off, refs[i].len, &ret_windows[i])) {
            continue;
        }
        from[i] = find_fresh(&fresh, refs[i]);
        fresh.refs[from[i]] = refs[i];
        fresh.count += from[i] == fresh.count;
    }
    enum cap_error error = hash_windows(reader, &fresh);
    if (error != CAP_OK) {
        return error;
    }
    for (size_t i = 0; i < fresh.count; i++) {
        cap_window_memo_keep(reader->memo, fresh.refs[i].arena_off, fresh.refs[i].len,
                             &fresh.windows[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (from[i] != SIZE_MAX) {
            ret_windows[i] = fresh.windows[from[i]];
        }
    }
    return CAP_OK;
}
