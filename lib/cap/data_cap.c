/*
 * Data caps are built page by page: each page is hashed, looked up among the roots seen before, and
 * either shares that window or gets the next one. Pages are hashed many at a time.
 *
 * A served body is checked the same way: it is rebuilt from what it names, and every reference that
 * the builder makes must be the one that was read.
 */
#include "lib/cap/data_cap.h"

#include <stdlib.h>

#include "lib/cap/hash_set.h"
#include "lib/cap/must.h"
#include "lib/cap/ssz_writer.h"
#include "lib/cap/window_reader.h"
#include "lib/cap/work.h"

#define FIXED_PART    16u           /* size and two offsets, without the selector */
#define CONTENT_PIECE (256u * 1024) /* bytes of raw content per read */
#define REFS_PIECE    256u          /* references of a body per read */

struct cap_data_builder {
    uint64_t size;
    uint64_t max_body_len;
    uint64_t next_index; /* the least index that may come */
    uint64_t arena_len;
    struct cap_tree tree; /* of the first `tree_count` pages */
    size_t tree_count;
    struct cap_node_list nodes; /* of `tree` */
    struct cap_writer refs;     /* encoded page references, one per page */
    struct cap_hash *roots;     /* one per page */
    size_t page_count;
    size_t root_capacity;
    struct cap_hash_set seen; /* pages that got a window of their own */
    struct cap_body windows;  /* the arena, as windows of the source */
};

void cap_data_free(struct cap_data *data)
{
    if (data == NULL) {
        return;
    }
    free(data->page_roots);
    free(data->nodes.all);
    cap_body_free(&data->body);
    *data = (struct cap_data){0};
}

enum cap_error cap_data_builder_new(uint64_t size, uint64_t max_body_len,
                                    struct cap_data_builder **ret_builder)
{
    if (size % CAP_PAGE_SIZE != 0) {
        return CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE;
    }
    struct cap_data_builder *builder = calloc(1, sizeof(*builder));
    if (builder == NULL) {
        return CAP_E_NO_MEMORY;
    }
    builder->size = size > 0 ? size : CAP_PAGE_SIZE;
    builder->max_body_len = max_body_len;
    cap_tree_init(&builder->tree, 0);
    builder->tree.ret_nodes = &builder->nodes;
    *ret_builder = builder;
    return CAP_OK;
}

void cap_data_builder_free(struct cap_data_builder *builder)
{
    if (builder == NULL) {
        return;
    }
    cap_buf_free(&builder->refs.buf);
    free(builder->roots);
    cap_node_list_free(&builder->nodes);
    cap_hash_set_free(&builder->seen);
    cap_body_free(&builder->windows);
    free(builder);
}

/* Whether a body with that many pages and arena bytes fits the format and the bound. */
static bool body_fits(const struct cap_data_builder *builder, uint64_t pages, uint64_t arena_len)
{
    uint64_t head_len = FIXED_PART + pages * CAP_PAGE_REF_SIZE;
    return head_len <= UINT32_MAX && arena_len <= CAP_LIST_LIMIT &&
           1 + head_len + arena_len <= builder->max_body_len;
}

static enum cap_error reserve_root(struct cap_data_builder *builder)
{
    if (builder->page_count < builder->root_capacity) {
        return CAP_OK;
    }
    size_t capacity = builder->root_capacity > 0 ? 2 * builder->root_capacity : 16;
    if (capacity > SIZE_MAX / sizeof(struct cap_hash)) {
        return CAP_E_NO_MEMORY;
    }
    struct cap_hash *roots = realloc(builder->roots, capacity * sizeof(*roots));
    if (roots == NULL) {
        return CAP_E_NO_MEMORY;
    }
    builder->roots = roots;
    builder->root_capacity = capacity;
    return CAP_OK;
}

/* Adds the next window, for the page whose root is last in `roots`. */
static enum cap_error add_window(struct cap_data_builder *builder, uint32_t len,
                                 uint64_t source_offset)
{
    enum cap_error error = cap_hash_set_insert(&builder->seen, builder->roots, builder->page_count);
    if (error != CAP_OK) {
        return error;
    }
    error = cap_body_append_source(&builder->windows, source_offset, len);
    if (error != CAP_OK) {
        return error;
    }
    builder->arena_len += len;
    return CAP_OK;
}

/* Adds a page that is not zero: its root, and `len` bytes up to its last non-zero byte. */
static enum cap_error add_page(struct cap_data_builder *builder, uint64_t index,
                               const struct cap_hash *root, uint32_t len, uint64_t source_offset)
{
    size_t seen = cap_hash_set_find(&builder->seen, builder->roots, root);
    bool is_new = seen == CAP_HASH_ABSENT;
    if (!body_fits(builder, builder->page_count + 1, builder->arena_len + (is_new ? len : 0))) {
        return CAP_E_BODY_TOO_LARGE;
    }
    struct cap_page_ref ref = {(uint32_t)index, (uint32_t)builder->arena_len, len};
    if (!is_new) {
        ref.arena_off = cap_page_ref_at(cap_buf_bytes(&builder->refs.buf), seen).arena_off;
    }
    enum cap_error error = reserve_root(builder);
    if (error != CAP_OK) {
        return error;
    }
    builder->roots[builder->page_count] = *root;
    error = is_new ? add_window(builder, len, source_offset) : CAP_OK;
    if (error != CAP_OK) {
        return error;
    }
    cap_writer_u32(&builder->refs, ref.page_index);
    cap_writer_u32(&builder->refs, ref.arena_off);
    cap_writer_u32(&builder->refs, ref.len);
    if (builder->refs.error != CAP_OK) {
        return builder->refs.error;
    }
    expect(builder->windows.len == builder->arena_len);
    builder->page_count++;
    return CAP_OK;
}

/*
 * Adds to the tree the pages that are not in it yet, neighbours together. Returns about how many
 * hashes it took: a gap costs no more than two a level, however wide.
 */
static uint64_t grow_tree(struct cap_data_builder *builder)
{
    struct cap_bytes refs = cap_buf_bytes(&builder->refs.buf);
    uint64_t hashes = 0;
    for (size_t i = builder->tree_count, n; i < builder->page_count; i += n) {
        uint32_t first = cap_page_ref_at(refs, i).page_index;
        for (n = 1; i + n < builder->page_count; n++) {
            if (cap_page_ref_at(refs, i + n).page_index - first != n) {
                break;
            }
        }
        hashes += n + (builder->tree.next == first ? 0 : CAP_MAX_DEPTH);
        cap_tree_add_many(&builder->tree, first, &builder->roots[i], n);
    }
    builder->tree_count = builder->page_count;
    return hashes;
}

/* Adds page `index`, whose content is known. */
static enum cap_error add_window_page(struct cap_data_builder *builder, uint64_t index,
                                      const struct cap_window *window, uint64_t source_offset)
{
    if (index > UINT32_MAX || index >= builder->size / CAP_PAGE_SIZE) {
        return CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE;
    }
    if (index < builder->next_index) {
        return CAP_E_DATA_NOT_CANONICAL;
    }
    if (window->used > 0) {
        enum cap_error error = add_page(builder, index, &window->root, window->used, source_offset);
        if (error != CAP_OK) {
            return error;
        }
    }
    builder->next_index = index + 1;
    return CAP_OK;
}

enum cap_error cap_data_builder_add(struct cap_data_builder *builder, uint64_t index,
                                    const uint8_t *bytes, size_t len, uint64_t source_offset)
{
    if (len > CAP_PAGE_SIZE) {
        return CAP_E_DATA_BAD_LEN;
    }
    struct cap_window window;
    window.used = (uint32_t)cap_page_root(bytes, len, &window.root);
    return add_window_page(builder, index, &window, source_offset);
}

/* The body: selector, fixed part, references, then the windows that make up the arena. */
static enum cap_error write_body(const struct cap_data_builder *builder, struct cap_body *body)
{
    struct cap_writer front = {0};
    cap_writer_u8(&front, CAP_KIND_DATA);
    cap_writer_u64(&front, builder->size);
    cap_writer_u32(&front, FIXED_PART);
    cap_writer_u32(&front, (uint32_t)(FIXED_PART + builder->refs.buf.len));
    enum cap_error error = front.error;
    if (error == CAP_OK) {
        error = cap_body_append(body, cap_buf_bytes(&front.buf));
    }
    if (error == CAP_OK) {
        error = cap_body_append(body, cap_buf_bytes(&builder->refs.buf));
    }
    for (size_t i = 0; error == CAP_OK && i < builder->windows.segment_count; i++) {
        const struct cap_segment *window = &builder->windows.segments[i];
        error = cap_body_append_source(body, window->offset, window->len);
    }
    cap_buf_free(&front.buf);
    return error;
}

static void compute_hash(const struct cap_data_builder *builder, struct cap_hash *ret_hash)
{
    struct cap_hash fields[2] = {cap_chunk64(builder->size)};
    unsigned depth = cap_depth_of(builder->size / CAP_PAGE_SIZE);
    cap_tree_root(&builder->tree, depth, &fields[1]);
    struct cap_hash root;
    cap_hash_pair(&fields[0], &fields[1], &root);
    cap_mix_in(&root, CAP_KIND_DATA, ret_hash);
}

enum cap_error cap_data_builder_finish(struct cap_data_builder *builder, struct cap_data *ret_data)
{
    if (!body_fits(builder, builder->page_count, builder->arena_len)) {
        return CAP_E_BODY_TOO_LARGE;
    }
    (void)grow_tree(builder);
    struct cap_data data = {.size = builder->size, .page_count = builder->page_count};
    enum cap_error error = write_body(builder, &data.body);
    if (error == CAP_OK) {
        cap_tree_end_nodes(&builder->tree);
        error = cap_node_list_finish(&builder->nodes, &data.nodes);
    }
    if (error != CAP_OK) {
        cap_data_free(&data);
        return error;
    }
    must(builder->refs.buf.len == builder->page_count * CAP_PAGE_REF_SIZE);
    must(data.body.len == 1 + FIXED_PART + builder->refs.buf.len + builder->arena_len);
    must(builder->page_count == 0 || builder->roots != NULL); /* finished once */
    compute_hash(builder, &data.hash);
    data.page_roots = builder->roots;
    builder->roots = NULL;
    *ret_data = data;
    return CAP_OK;
}

/* Adds the pages of up to CAP_BLOCKS_TOGETHER references. */
static enum cap_error add_described_pages(struct cap_data_builder *builder,
                                          const struct cap_window_reader *reader,
                                          const struct cap_page_ref *refs, size_t count)
{
    struct cap_window windows[CAP_BLOCKS_TOGETHER];
    for (size_t i = 0; i < count; i++) {
        if (refs[i].len == 0 || refs[i].len > CAP_PAGE_SIZE) {
            return CAP_E_DATA_BAD_LEN;
        }
    }
    enum cap_error error = cap_window_reader_read(reader, refs, count, windows);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        error = add_window_page(builder, refs[i].page_index, &windows[i],
                                reader->base + refs[i].arena_off);
    }
    if (error == CAP_OK &&
        !cap_work_done(reader->source->work, grow_tree(builder) * CAP_WORK_HASH)) {
        error = CAP_E_CANCELLED;
    }
    return error;
}

static enum cap_error add_desc(struct cap_data_builder *builder, const struct cap_data_desc *desc,
                               const struct cap_window_reader *reader)
{
    struct cap_page_ref refs[CAP_BLOCKS_TOGETHER];
    size_t count = 0;
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < desc->page_count; i++) {
        refs[count++] = cap_page_ref_at(desc->pages, i);
        if (count == CAP_BLOCKS_TOGETHER || i + 1 == desc->page_count) {
            error = add_described_pages(builder, reader, refs, count);
            count = 0;
        }
    }
    return error;
}

enum cap_error cap_data_from_desc(const struct cap_data_desc *desc, const struct cap_source *arena,
                                  uint64_t max_body_len, struct cap_window_memo *memo,
                                  struct cap_data *ret_data)
{
    struct cap_window_memo *own = NULL;
    struct cap_data_builder *builder = NULL;
    struct cap_window_reader reader = {.source = arena, .memo = memo};
    enum cap_error error = cap_data_builder_new(desc->size, max_body_len, &builder);
    if (error == CAP_OK && memo == NULL) {
        error = cap_window_memo_new(desc->page_count, &own);
        reader.memo = own;
    }
    if (error == CAP_OK) {
        error = cap_window_reader_open(&reader);
    }
    if (error == CAP_OK) {
        error = add_desc(builder, desc, &reader);
    }
    if (error == CAP_OK) {
        error = cap_data_builder_finish(builder, ret_data);
    }
    cap_data_builder_free(builder);
    cap_window_memo_free(own);
    cap_window_reader_close(&reader);
    return error;
}

/* Whether a page is zero, at the speed of memcmp: raw content may be mostly holes. */
static bool is_zero(const uint8_t *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Adds up to CAP_BLOCKS_TOGETHER pages; page i begins at offsets[i]. */
static enum cap_error add_pages(struct cap_data_builder *builder, const struct cap_bytes *pages,
                                const uint64_t *offsets, size_t count)
{
    struct cap_hash roots[CAP_BLOCKS_TOGETHER];
    uint32_t used[CAP_BLOCKS_TOGETHER];
    enum cap_error error = CAP_OK;
    cap_page_roots(pages, count, roots, used);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        struct cap_window window = {roots[i], used[i]};
        error = add_window_page(builder, offsets[i] / CAP_PAGE_SIZE, &window, offsets[i]);
    }
    (void)grow_tree(builder);
    return error;
}

/* Adds the pages of one piece of raw content, which begins at a page. */
static enum cap_error add_piece(struct cap_data_builder *builder, const uint8_t *bytes, size_t len,
                                uint64_t at)
{
    struct cap_bytes pages[CAP_BLOCKS_TOGETHER];
    uint64_t offsets[CAP_BLOCKS_TOGETHER];
    size_t count = 0;
    for (size_t done = 0; done < len; done += CAP_PAGE_SIZE) {
        size_t page_len = len - done < CAP_PAGE_SIZE ? len - done : CAP_PAGE_SIZE;
        if (is_zero(bytes + done, page_len)) {
            continue;
        }
        pages[count] = (struct cap_bytes){bytes + done, page_len};
        offsets[count++] = at + done;
        if (count == CAP_BLOCKS_TOGETHER) {
            enum cap_error error = add_pages(builder, pages, offsets, count);
            if (error != CAP_OK) {
                return error;
            }
            count = 0;
        }
    }
    return add_pages(builder, pages, offsets, count);
}

/* The first page at or after the one that begins at `at` that may not be a hole. */
static uint64_t skip_holes(const struct cap_source *content, uint64_t content_len, uint64_t at)
{
    bool told = content->next_data != NULL && at < content_len;
    uint64_t next = told ? content->next_data(content->ctx, at) : at;
    return next > at ? next / CAP_PAGE_SIZE * CAP_PAGE_SIZE : at;
}

static enum cap_error add_content(struct cap_data_builder *builder,
                                  const struct cap_source *content, uint64_t content_len)
{
    uint8_t *scratch = NULL;
    if (content->memory == NULL && content_len > 0) {
        scratch = malloc(content_len < CONTENT_PIECE ? (size_t)content_len : CONTENT_PIECE);
        if (scratch == NULL) {
            return CAP_E_NO_MEMORY;
        }
    }
    enum cap_error error = CAP_OK;
    size_t len;
    for (uint64_t at = skip_holes(content, content_len, 0); error == CAP_OK && at < content_len;
         at = skip_holes(content, content_len, at + len)) {
        uint64_t left = content_len - at;
        len = left < CONTENT_PIECE ? (size_t)left : CONTENT_PIECE;
        const uint8_t *bytes;
        error = cap_source_get(content, at, len, scratch, &bytes);
        if (error == CAP_OK) {
            error = add_piece(builder, bytes, len, at);
        }
    }
    free(scratch);
    return error;
}

enum cap_error cap_data_from_content(const struct cap_source *content, uint64_t content_len,
                                     uint64_t size, uint64_t max_body_len,
                                     struct cap_data *ret_data)
{
    uint64_t wanted = size > content_len ? size : content_len;
    if (wanted > UINT64_MAX - (CAP_PAGE_SIZE - 1)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    uint64_t rounded = (wanted + CAP_PAGE_SIZE - 1) / CAP_PAGE_SIZE * CAP_PAGE_SIZE;
    struct cap_data_builder *builder;
    enum cap_error error = cap_data_builder_new(rounded, max_body_len, &builder);
    if (error != CAP_OK) {
        return error;
    }
    error = add_content(builder, content, content_len);
    if (error == CAP_OK) {
        error = cap_data_builder_finish(builder, ret_data);
    }
    cap_data_builder_free(builder);
    return error;
}

enum cap_error cap_data_body_head_len(struct cap_bytes front, uint64_t body_len,
                                      uint64_t *ret_head_len)
{
    if (front.len < CAP_DATA_BODY_FIXED || body_len < CAP_DATA_BODY_FIXED ||
        front.data[0] != CAP_KIND_DATA) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    uint32_t pages_at = cap_load32(front.data + 9);
    uint32_t arena_at = cap_load32(front.data + 13);
    if (pages_at != FIXED_PART || arena_at < FIXED_PART || arena_at > body_len - 1 ||
        (arena_at - FIXED_PART) % CAP_PAGE_REF_SIZE != 0) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    if (body_len - 1 - arena_at > CAP_LIST_LIMIT) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    *ret_head_len = UINT64_C(1) + arena_at;
    return CAP_OK;
}

/* The fixed part as a view, its pages still unread. */
static enum cap_error decode_fixed(struct cap_bytes front, uint64_t body_len,
                                   struct cap_data_view *ret_view)
{
    uint64_t head_len;
    enum cap_error error = cap_data_body_head_len(front, body_len, &head_len);
    if (error != CAP_OK) {
        return error;
    }
    uint64_t size = cap_load64(front.data + 1);
    if (size == 0 || size % CAP_PAGE_SIZE != 0) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    *ret_view = (struct cap_data_view){
        .size = size,
        .page_count = (size_t)((head_len - CAP_DATA_BODY_FIXED) / CAP_PAGE_REF_SIZE),
        .arena_start = head_len,
        .arena_len = body_len - head_len,
    };
    return CAP_OK;
}

/* How far the references of a body were checked. */
struct ref_check {
    uint64_t next_index;
    uint64_t packed; /* arena bytes in windows seen so far */
};

/* Checks what one reference shows without the arena's bytes. */
static bool check_ref(const struct cap_data_view *view, struct ref_check *check,
                      struct cap_page_ref ref)
{
    uint64_t end = (uint64_t)ref.arena_off + ref.len;
    if (ref.len == 0 || ref.len > CAP_PAGE_SIZE || end > view->arena_len) {
        return false;
    }
    if (ref.page_index < check->next_index || ref.page_index >= view->size / CAP_PAGE_SIZE) {
        return false;
    }
    bool is_new = ref.arena_off == check->packed;
    if (!is_new && end > check->packed) {
        return false;
    }
    check->next_index = UINT64_C(1) + ref.page_index;
    if (is_new) {
        check->packed = end;
    }
    return true;
}

enum cap_error cap_data_view_decode(struct cap_bytes front, uint64_t body_len,
                                    struct cap_data_view *ret_view)
{
    struct cap_data_view view;
    enum cap_error error = decode_fixed(front, body_len, &view);
    if (error != CAP_OK) {
        return error;
    }
    if (view.arena_start > front.len) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    view.pages = cap_bytes_slice(front, CAP_DATA_BODY_FIXED, view.page_count * CAP_PAGE_REF_SIZE);
    struct ref_check check = {0};
    for (size_t i = 0; i < view.page_count; i++) {
        if (!check_ref(&view, &check, cap_page_ref_at(view.pages, i))) {
            return CAP_E_BODY_NOT_CANONICAL;
        }
    }
    if (check.packed != view.arena_len) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    *ret_view = view;
    return CAP_OK;
}

/* A body that is rebuilt: the builder must make the very same bytes. */
struct cap_data_rebuild {
    uint64_t body_len;
    struct cap_data_view view;
    struct ref_check check;
    struct cap_window_reader reader;
    struct cap_data_builder *builder; /* its page_count is how far it got */
};

enum cap_error cap_data_rebuild_new(const struct cap_source *source, uint64_t body_len,
                                    struct cap_data_rebuild **ret_rebuild)
{
    uint8_t scratch[CAP_DATA_BODY_FIXED];
    struct cap_bytes front = {.len = CAP_DATA_BODY_FIXED};
    struct cap_data_view view;
    if (body_len < CAP_DATA_BODY_FIXED) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    enum cap_error error = cap_source_get(source, 0, front.len, scratch, &front.data);
    if (error == CAP_OK) {
        error = decode_fixed(front, body_len, &view);
    }
    if (error != CAP_OK) {
        return error;
    }
    struct cap_data_rebuild *rebuild = calloc(1, sizeof(*rebuild));
    if (rebuild == NULL) {
        return CAP_E_NO_MEMORY;
    }
    rebuild->body_len = body_len;
    rebuild->view = view;
    rebuild->reader.source = source;
    rebuild->reader.base = view.arena_start;
    error = cap_window_memo_new(view.page_count, &rebuild->reader.memo);
    if (error == CAP_OK) {
        error = cap_window_reader_open(&rebuild->reader);
    }
    if (error == CAP_OK) {
        error = cap_data_builder_new(view.size, UINT64_MAX, &rebuild->builder);
    }
    if (error != CAP_OK) {
        cap_data_rebuild_free(rebuild);
        return error;
    }
    *ret_rebuild = rebuild;
    return CAP_OK;
}

void cap_data_rebuild_free(struct cap_data_rebuild *rebuild)
{
    if (rebuild == NULL) {
        return;
    }
    cap_data_builder_free(rebuild->builder);
    cap_window_memo_free(rebuild->reader.memo);
    cap_window_reader_close(&rebuild->reader);
    free(rebuild);
}

/* Whether the windows of all these references lie within the first `there` bytes, or never will. */
static bool windows_there(const struct cap_data_rebuild *rebuild, const struct cap_page_ref *refs,
                          size_t count, uint64_t there)
{
    bool all = true;
    for (size_t i = 0; i < count && there < rebuild->body_len; i++) {
        all = all && rebuild->view.arena_start + refs[i].arena_off + refs[i].len <= there;
    }
    return all;
}

/*
 * Adds the pages of up to CAP_BLOCKS_TOGETHER references; the builder must answer with the same
 * references. *ret_there false: not yet.
 */
static enum cap_error rebuild_pages(struct cap_data_rebuild *rebuild, const uint8_t *encoded,
                                    size_t count, uint64_t there, bool *ret_there)
{
    struct cap_page_ref refs[CAP_BLOCKS_TOGETHER];
    for (size_t i = 0; i < count; i++) {
        refs[i] = cap_page_ref_at((struct cap_bytes){encoded, count * CAP_PAGE_REF_SIZE}, i);
    }
    *ret_there = windows_there(rebuild, refs, count, there);
    if (!*ret_there) {
        return CAP_OK;
    }
    for (size_t i = 0; i < count; i++) {
        if (!check_ref(&rebuild->view, &rebuild->check, refs[i])) {
            return CAP_E_BODY_NOT_CANONICAL;
        }
    }
    const struct cap_buf *made = &rebuild->builder->refs.buf;
    size_t before = made->len;
    enum cap_error error = add_described_pages(rebuild->builder, &rebuild->reader, refs, count);
    if (error != CAP_OK) {
        return error;
    }
    size_t len = count * CAP_PAGE_REF_SIZE;
    bool same = made->len - before == len && memcmp(made->data + before, encoded, len) == 0;
    return same ? CAP_OK : CAP_E_BODY_NOT_CANONICAL;
}

enum cap_error cap_data_rebuild_some(struct cap_data_rebuild *rebuild, uint64_t there)
{
    uint8_t scratch[REFS_PIECE * CAP_PAGE_REF_SIZE];
    enum cap_error error = CAP_OK;
    bool more = true;
    for (size_t done; error == CAP_OK && more &&
                      (done = rebuild->builder->page_count) < rebuild->view.page_count;) {
        size_t left = rebuild->view.page_count - done;
        size_t count = left < REFS_PIECE ? left : REFS_PIECE;
        const uint8_t *refs;
        uint64_t at = CAP_DATA_BODY_FIXED + (uint64_t)done * CAP_PAGE_REF_SIZE;
        error =
            cap_source_get(rebuild->reader.source, at, count * CAP_PAGE_REF_SIZE, scratch, &refs);
        for (size_t i = 0, n; error == CAP_OK && more && i < count; i += n) {
            n = count - i < CAP_BLOCKS_TOGETHER ? count - i : CAP_BLOCKS_TOGETHER;
            error = rebuild_pages(rebuild, refs + i * CAP_PAGE_REF_SIZE, n, there, &more);
        }
    }
    /* What the format cannot hold is not what a builder made. */
    return error == CAP_E_BODY_TOO_LARGE ? CAP_E_BODY_NOT_CANONICAL : error;
}

enum cap_error cap_data_rebuild_finish(struct cap_data_rebuild *rebuild, struct cap_data *ret_data)
{
    enum cap_error error = cap_data_rebuild_some(rebuild, rebuild->body_len);
    if (error != CAP_OK) {
        return error;
    }
    if (rebuild->check.packed != rebuild->view.arena_len) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    error = cap_data_builder_finish(rebuild->builder, ret_data);
    return error == CAP_E_BODY_TOO_LARGE ? CAP_E_BODY_NOT_CANONICAL : error;
}

enum cap_error cap_data_from_body(const struct cap_source *source, uint64_t body_len,
                                  struct cap_data *ret_data)
{
    struct cap_data_rebuild *rebuild = NULL;
    enum cap_error error = cap_data_rebuild_new(source, body_len, &rebuild);
    if (error == CAP_OK) {
        error = cap_data_rebuild_finish(rebuild, ret_data);
    }
    cap_data_rebuild_free(rebuild);
    return error;
}
