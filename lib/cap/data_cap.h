/*
 * Data caps: a sparse run of pages, its CapHash and its canonical served body (FORMATS.md section
 * 4).
 *
 * A Data cap is built page by page from any source. Only content counts: a zero page is left out, a
 * window is cut after its last non-zero byte, equal pages share one window.
 */
#ifndef LIB_CAP_DATA_CAP_H
#define LIB_CAP_DATA_CAP_H

#include "lib/cap/body.h"
#include "lib/cap/merkle.h"
#include "lib/cap/window_memo.h"
#include "lib/cap/wire_image.h"

#define CAP_DATA_BODY_FIXED 17u /* selector, size, two offsets */

/* A finished Data cap. The caller owns it; release with cap_data_free. */
struct cap_data {
    struct cap_hash hash;        /* the CapHash */
    uint64_t size;               /* logical bytes, a multiple of the page size, at least one page */
    size_t page_count;           /* pages that are not zero */
    struct cap_hash *page_roots; /* one per such page, in page order */
    struct cap_nodes nodes;      /* above them */
    struct cap_body body;        /* windows refer to the source that the pages were read from */
};

/* Releases what a finished cap owns. NULL and a zeroed one are fine. */
void cap_data_free(struct cap_data *data);

/* Builds one Data cap; opaque. Belongs to one thread at a time. */
struct cap_data_builder;

/*
 * A builder for a cap of `size` logical bytes: a multiple of the page size (0 counts as one page).
 * The body may take at most `max_body_len` bytes (UINT64_MAX: only what the format can hold).
 * CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE, CAP_E_NO_MEMORY. Memory grows with the pages added, never with
 * size.
 */
enum cap_error cap_data_builder_new(uint64_t size, uint64_t max_body_len,
                                    struct cap_data_builder **ret_builder);

/*
 * Adds page `index`: `len` <= CAP_PAGE_SIZE bytes (the rest is zero), which lie at `source_offset`
 * of the source. Indexes ascend strictly and lie below 2^32 and size / CAP_PAGE_SIZE. `bytes` is
 * not kept. CAP_E_DATA_BAD_LEN, CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE, CAP_E_DATA_NOT_CANONICAL,
 * CAP_E_BODY_TOO_LARGE, CAP_E_NO_MEMORY. After a failure the builder can only be freed. Cost: one
 * page root and O(1) table steps; about 60 bytes of memory for a page that is not zero, and up to
 * 22 for the nodes above it.
 */
enum cap_error cap_data_builder_add(struct cap_data_builder *builder, uint64_t index,
                                    const uint8_t *bytes, size_t len, uint64_t source_offset);

/* Completes the cap. The builder can only be freed afterwards. CAP_E_NO_MEMORY,
 * CAP_E_BODY_TOO_LARGE. */
enum cap_error cap_data_builder_finish(struct cap_data_builder *builder, struct cap_data *ret_data);

/* NULL is fine. */
void cap_data_builder_free(struct cap_data_builder *builder);

/*
 * The Data cap of a DataDesc that the deblob accepted; `arena` is the source of the arena's bytes.
 * The body's windows are offsets into `arena`. Fails as the source does, as the builder, or with
 * CAP_E_CANCELLED when the source's `work` says stop.
 *
 * A window that is named many times is read and hashed once. `memo` remembers the windows: that of
 * the arena, which the slots of one Image share, or NULL for one of the function's own, which takes
 * cap_window_memo_size(desc->page_count) bytes while it works.
 */
enum cap_error cap_data_from_desc(const struct cap_data_desc *desc, const struct cap_source *arena,
                                  uint64_t max_body_len, struct cap_window_memo *memo,
                                  struct cap_data *ret_data);

/*
 * The Data cap of raw logical bytes: `content_len` bytes of `content`, then zeros up to `size`. A
 * `size` below content_len counts as content_len; it is rounded up to a page, and is at least one
 * page. CAP_E_INVALID_ARGUMENT for a size that cannot be rounded,
 * CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE for a page at 2^32 or later that is not zero. Fails as the
 * source does, or as the builder. Memory grows with the pages that are not zero.
 */
enum cap_error cap_data_from_content(const struct cap_source *content, uint64_t content_len,
                                     uint64_t size, uint64_t max_body_len,
                                     struct cap_data *ret_data);

/* A served Data body decoded as a view; borrows the front of the body. */
struct cap_data_view {
    uint64_t size;
    struct cap_bytes pages; /* of cap_page_ref, their arena_off relative to the body's arena */
    size_t page_count;
    uint64_t arena_start; /* offset of the arena in the body */
    uint64_t arena_len;
};

/*
 * How many bytes of a Data body precede its arena, from its first CAP_DATA_BODY_FIXED bytes;
 * CAP_E_BODY_NOT_CANONICAL when these are wrong or the body is shorter.
 */
enum cap_error cap_data_body_head_len(struct cap_bytes front, uint64_t body_len,
                                      uint64_t *ret_head_len);

/*
 * Decodes the front of a served Data body of `body_len` bytes: strict SSZ, ascending indexes within
 * the size, windows within the arena and packed tightly: each begins where those before it end, or
 * lies within them. `front` holds at least the bytes before the arena. What depends on the arena's
 * bytes (content, hence sharing and trimming) is for cap_data_from_body to check; reads through a
 * view are safe either way. CAP_E_BODY_NOT_CANONICAL.
 */
enum cap_error cap_data_view_decode(struct cap_bytes front, uint64_t body_len,
                                    struct cap_data_view *ret_view);

/*
 * Rebuilds a Data cap from a served body and so verifies it completely: strictly decoded, canonical
 * to the byte, its CapHash computed. `source` reads the whole body. The caller compares
 * ret_data->hash. CAP_E_BODY_NOT_CANONICAL, CAP_E_NO_MEMORY, CAP_E_CANCELLED as above, or as the
 * source fails. The rebuilt
 * body's windows refer to `source`. A window that is named many times is read and hashed once, as
 * in cap_data_from_desc.
 */
enum cap_error cap_data_from_body(const struct cap_source *source, uint64_t body_len,
                                  struct cap_data *ret_data);

/* A served body that is rebuilt while it arrives; opaque. Belongs to one thread at a time. */
struct cap_data_rebuild;

/*
 * Begins to rebuild a body of `body_len` bytes, of which `source`, which outlives the rebuild, can
 * read those before the arena (cap_data_body_head_len). Fails as cap_data_from_body does. Release
 * with cap_data_rebuild_free.
 */
enum cap_error cap_data_rebuild_new(const struct cap_source *source, uint64_t body_len,
                                    struct cap_data_rebuild **ret_rebuild);

/* Rebuilds the pages whose windows lie within the first `there` bytes of the body, which `source`
 * can read. Fails as cap_data_from_body does; then the rebuild can only be freed. */
enum cap_error cap_data_rebuild_some(struct cap_data_rebuild *rebuild, uint64_t there);

/* Rebuilds the rest and completes the cap, as cap_data_from_body does. The rebuild can only be
 * freed afterwards. */
enum cap_error cap_data_rebuild_finish(struct cap_data_rebuild *rebuild, struct cap_data *ret_data);

/* NULL is fine. */
void cap_data_rebuild_free(struct cap_data_rebuild *rebuild);

/*
 * Copies logical bytes [offset, offset + len), which lie within view->size, from a body in memory;
 * bytes of absent pages are zero. O(log pages + len).
 */
void cap_data_read(const struct cap_data_view *view, struct cap_bytes body, uint64_t offset,
                   void *dst, size_t len);

#endif
