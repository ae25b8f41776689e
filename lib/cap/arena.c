/*
 * Pieces of content are walked page by page. A page that is one run of the source stays where it is
 * and becomes a window; one with a gap in front or several pieces is copied together first.
 */
#include "lib/cap/arena.h"

#include "lib/cap/constants.h"
#include "lib/cap/merkle.h"
#include "lib/cap/must.h"

struct window {
    uint32_t at;
    uint32_t len;
};

/* Content of one page: `bytes` are the source's own at `offset`, or a copy. */
struct page {
    uint32_t index;
    const uint8_t *bytes;
    size_t len;
    bool from_source;
    uint64_t offset;
};

static const struct cap_hash *roots(const struct cap_arena *arena)
{
    const void *items = arena->roots.data;
    return items;
}

static struct window window_at(const struct cap_arena *arena, size_t index)
{
    struct window window;
    expect((index + 1) * sizeof(window) <= arena->windows.len);
    memcpy(&window, arena->windows.data + index * sizeof(window), sizeof(window));
    return window;
}

/* Appends the window of a page whose content is new. */
static enum cap_error append_window(struct cap_arena *arena, const struct page *page,
                                    const struct cap_hash *root, size_t len)
{
    if (arena->body.len > UINT32_MAX) {
        return CAP_E_BODY_TOO_LARGE;
    }
    struct window window = {(uint32_t)arena->body.len, (uint32_t)len};
    size_t ordinal = arena->roots.len / sizeof(*root);
    expect(ordinal == arena->windows.len / sizeof(window));
    enum cap_error error = cap_buf_append(&arena->roots, root, sizeof(*root));
    if (error == CAP_OK) {
        error = cap_buf_append(&arena->windows, &window, sizeof(window));
    }
    if (error == CAP_OK) {
        error = cap_hash_set_insert(&arena->seen, roots(arena), ordinal);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (page->from_source) {
        return cap_body_append_source(&arena->body, page->offset, len);
    }
    return cap_body_append(&arena->body, (struct cap_bytes){page->bytes, len});
}

/* Names a page, unless it is zero. */
static enum cap_error add_page(struct cap_arena *arena, const struct page *page)
{
    struct cap_hash root;
    size_t len = cap_page_root(page->bytes, page->len, &root);
    if (len == 0) {
        return CAP_OK;
    }
    size_t seen = cap_hash_set_find(&arena->seen, roots(arena), &root);
    if (seen == CAP_HASH_ABSENT) {
        seen = arena->windows.len / sizeof(struct window);
        enum cap_error error = append_window(arena, page, &root, len);
        if (error != CAP_OK) {
            return error;
        }
    }
    struct window window = window_at(arena, seen);
    cap_writer_u32(&arena->refs, page->index);
    cap_writer_u32(&arena->refs, window.at);
    cap_writer_u32(&arena->refs, window.len);
    return arena->refs.error;
}

/* The part of a piece that lies in the page at `start`. */
static struct cap_piece clip(const struct cap_piece *piece, uint64_t start)
{
    uint64_t from = piece->at > start ? piece->at : start;
    uint64_t piece_end = piece->at + piece->len;
    uint64_t until = piece_end - start < CAP_PAGE_SIZE ? piece_end : start + CAP_PAGE_SIZE;
    return (struct cap_piece){from, piece->offset + (from - piece->at), until - from};
}

/* Copies the page at `start` together from `count` pieces that have bytes in it. */
static enum cap_error assemble(const struct cap_source *source, const struct cap_piece *pieces,
                               size_t count, uint64_t start, uint8_t *ret_page)
{
    memset(ret_page, 0, CAP_PAGE_SIZE);
    for (size_t i = 0; i < count; i++) {
        struct cap_piece part = clip(&pieces[i], start);
        uint8_t *to = ret_page + (part.at - start);
        const uint8_t *bytes;
        enum cap_error error = cap_source_get(source, part.offset, (size_t)part.len, to, &bytes);
        if (error != CAP_OK) {
            return error;
        }
        if (bytes != to) {
            memcpy(to, bytes, (size_t)part.len);
        }
    }
    return CAP_OK;
}

/* Packs the page at `start`, which pieces[0] and perhaps some of the `left` after it have bytes in.
 */
static enum cap_error pack_page(struct cap_arena *arena, const struct cap_source *source,
                                const struct cap_piece *pieces, size_t left, uint64_t start)
{
    if (start / CAP_PAGE_SIZE > UINT32_MAX) {
        return CAP_E_BODY_TOO_LARGE;
    }
    size_t count = 1;
    while (count < left && pieces[count].at - start < CAP_PAGE_SIZE) {
        count++;
    }
    uint8_t scratch[CAP_PAGE_SIZE];
    struct cap_piece part = clip(&pieces[0], start);
    struct page page = {
        .index = (uint32_t)(start / CAP_PAGE_SIZE),
        .bytes = scratch,
        .len = CAP_PAGE_SIZE,
        .from_source = count == 1 && part.at == start,
        .offset = part.offset,
    };
    enum cap_error error;
    if (page.from_source) {
        page.len = (size_t)part.len;
        error = cap_source_get(source, page.offset, page.len, scratch, &page.bytes);
    } else {
        error = assemble(source, pieces, count, start, scratch);
    }
    return error != CAP_OK ? error : add_page(arena, &page);
}

enum cap_error cap_arena_add(struct cap_arena *arena, const struct cap_source *source,
                             const struct cap_piece *pieces, size_t count)
{
    uint64_t done = 0; /* logical bytes that are packed */
    for (size_t i = 0; i < count;) {
        uint64_t from = pieces[i].at > done ? pieces[i].at : done;
        uint64_t start = from - from % CAP_PAGE_SIZE;
        enum cap_error error = pack_page(arena, source, &pieces[i], count - i, start);
        if (error != CAP_OK) {
            return error;
        }
        done = start + CAP_PAGE_SIZE;
        while (i < count && pieces[i].at + pieces[i].len <= done) {
            i++;
        }
    }
    return CAP_OK;
}

void cap_arena_free(struct cap_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    cap_body_free(&arena->body);
    cap_buf_free(&arena->refs.buf);
    cap_hash_set_free(&arena->seen);
    cap_buf_free(&arena->roots);
    cap_buf_free(&arena->windows);
    *arena = (struct cap_arena){0};
}
