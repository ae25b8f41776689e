#include "tests/unit/cap/slice_plain.h"

#include "lib/cap/data_cap.h"
#include "lib/cap/merkle.h"
#include "lib/cap/slice_verify.h"
#include "tests/unit/support.h"

#define CHUNKS      (CAP_PAGE_SIZE / CAP_HASH_SIZE)
#define IMAGE_DEPTH 20u

static const uint8_t zeros[CAP_PAGE_SIZE];

static struct cap_hash pair(const struct cap_hash *left, const struct cap_hash *right)
{
    struct cap_hash both[2] = {*left, *right};
    return plain_merkleize(both, 2, 1);
}

static struct cap_hash mix(const struct cap_hash *root, uint64_t value)
{
    struct cap_hash chunk = cap_chunk64(value);
    return pair(root, &chunk);
}

/* --- Caps ------------------------------------------------------------------------------------- */

struct plain_cap plain_data(uint64_t size)
{
    return (struct plain_cap){.kind = CAP_KIND_DATA, .size = size};
}

void plain_page(struct plain_cap *cap, uint64_t index, const uint8_t *bytes, size_t len)
{
    struct cap_hash chunks[CHUNKS];
    if (memcmp(bytes, zeros, len) == 0) {
        return;
    }
    if (cap->count == cap->capacity) {
        cap->capacity = cap->capacity > 0 ? 2 * cap->capacity : 64;
        cap->indexes = realloc(cap->indexes, cap->capacity * sizeof(*cap->indexes));
        cap->pages = realloc(cap->pages, cap->capacity * sizeof(*cap->pages));
        cap->roots = realloc(cap->roots, cap->capacity * sizeof(*cap->roots));
        assert_true(cap->indexes != NULL && cap->pages != NULL && cap->roots != NULL);
    }
    uint8_t *page = cap->pages[cap->count];
    memset(page, 0, CAP_PAGE_SIZE);
    memcpy(page, bytes, len);
    memcpy(chunks, page, sizeof(chunks));
    cap->roots[cap->count] = plain_merkleize(chunks, CHUNKS, 7);
    cap->indexes[cap->count++] = index;
}

static enum cap_error read_page(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct plain_cap *cap = ctx;
    memcpy(dst, (const uint8_t *)cap->pages + offset, len);
    return CAP_OK;
}

void plain_data_end(struct plain_cap *cap)
{
    struct cap_data_builder *builder;
    struct cap_data data;
    struct cap_source source = {.read = read_page, .ctx = cap};
    assert_cap_ok(cap_data_builder_new(cap->size, UINT64_MAX, &builder));
    for (size_t i = 0; i < cap->count; i++) {
        assert_cap_ok(cap_data_builder_add(builder, cap->indexes[i], cap->pages[i], CAP_PAGE_SIZE,
                                           i * CAP_PAGE_SIZE));
    }
    assert_cap_ok(cap_data_builder_finish(builder, &data));
    cap_data_builder_free(builder);
    assert_cap_ok(cap_buf_append_zeros(&cap->body, (size_t)data.body.len));
    assert_cap_ok(cap_body_read(&data.body, &source, 0, cap->body.data, cap->body.len));
    cap->hash = data.hash;
    cap_data_free(&data);
}

static struct node *image_node(const uint8_t *code, size_t len)
{
    static const uint64_t regs[CAP_NUM_REGS] = {1, 2, 3};
    struct node *root = test_cap_node(code, len);
    test_cap_endpoint(root, "main", 4096, regs);
    test_cap_slot(root, INITIAL, "data", 7);
    return root;
}

struct plain_cap plain_image(const uint8_t *code, size_t len)
{
    struct plain_cap cap = {.kind = CAP_KIND_IMAGE, .size = len};
    struct node *root = image_node(code, len);
    struct node *bare = image_node(NULL, 0);
    cap.body = test_cap_body(root, NULL);
    cap.hash = test_cap_hash(root);
    struct cap_buf structure = test_cap_body(bare, NULL);
    assert_cap_ok(cap_buf_append(&cap.rest, structure.data + 1, structure.len - 1));
    cap_buf_free(&structure);
    node_free(root);
    node_free(bare);
    for (size_t at = 0; at < len; at += CAP_PAGE_SIZE) {
        plain_page(&cap, at / CAP_PAGE_SIZE, code + at,
                   len - at < CAP_PAGE_SIZE ? len - at : CAP_PAGE_SIZE);
    }
    return cap;
}

void plain_cap_free(struct plain_cap *cap)
{
    free(cap->indexes);
    free(cap->pages);
    free(cap->roots);
    cap_buf_free(&cap->rest);
    cap_buf_free(&cap->body);
}

/* The first page at or past `index` among those that are not zero. */
static size_t position(const struct plain_cap *cap, uint64_t index)
{
    size_t low = 0;
    size_t high = cap->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (cap->indexes[middle] < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const uint8_t *plain_bytes(const struct plain_cap *cap, uint64_t index)
{
    size_t at = position(cap, index);
    return at < cap->count && cap->indexes[at] == index ? cap->pages[at] : zeros;
}

/* --- Slices ----------------------------------------------------------------------------------- */

struct job {
    const struct plain_cap *cap;
    const struct cap_range *ranges;
    size_t count;
    uint64_t pages;
    struct cap_hash empty[64];
    struct cap_buf out;
};

static struct cap_hash subtree(const struct job *job, unsigned level, uint64_t index)
{
    const struct plain_cap *cap = job->cap;
    size_t from = position(cap, index << level);
    if (from == position(cap, (index + 1) << level)) {
        return job->empty[level];
    }
    if (level == 0) {
        return cap->roots[from];
    }
    struct cap_hash left = subtree(job, level - 1, 2 * index);
    struct cap_hash right = subtree(job, level - 1, 2 * index + 1);
    return pair(&left, &right);
}

static bool in_ranges(const struct job *job, uint64_t page)
{
    for (size_t i = 0; i < job->count; i++) {
        if (page >= job->ranges[i].first && page - job->ranges[i].first < job->ranges[i].pages) {
            return true;
        }
    }
    return false;
}

static void put_pages(struct job *job, uint64_t first, uint64_t end)
{
    for (uint64_t page = first; page < end; page++) {
        const uint8_t *bytes = plain_bytes(job->cap, page);
        uint16_t len = CAP_PAGE_SIZE;
        while (len > 0 && bytes[len - 1] == 0) {
            len--;
        }
        assert_cap_ok(cap_buf_append8(&job->out, (uint8_t)len));
        assert_cap_ok(cap_buf_append8(&job->out, (uint8_t)(len >> 8)));
        assert_cap_ok(cap_buf_append(&job->out, bytes, len));
    }
}

static void put_node(struct job *job, unsigned level, uint64_t index)
{
    uint64_t first = index << level;
    uint64_t end = (index + 1) << level;
    end = end < job->pages ? end : job->pages;
    bool meets = false;
    for (size_t i = 0; i < job->count; i++) {
        meets |= job->ranges[i].first < end && job->ranges[i].first + job->ranges[i].pages > first;
    }
    if (!meets) {
        return;
    }
    struct cap_hash hash = subtree(job, level, index);
    if (cap_hash_equal(&hash, &job->empty[level])) {
        return;
    }
    bool group = level <= 4;
    for (uint64_t page = first; group && page < end; page++) {
        group = in_ranges(job, page);
    }
    if (group) {
        put_pages(job, first, end);
        return;
    }
    struct cap_hash left = subtree(job, level - 1, 2 * index);
    struct cap_hash right = subtree(job, level - 1, 2 * index + 1);
    assert_cap_ok(cap_buf_append(&job->out, &left, sizeof(left)));
    assert_cap_ok(cap_buf_append(&job->out, &right, sizeof(right)));
    put_node(job, level - 1, 2 * index);
    put_node(job, level - 1, 2 * index + 1);
}

struct cap_buf plain_slice(const struct plain_cap *cap, const struct cap_range *ranges,
                           size_t count)
{
    struct job job = {.cap = cap, .ranges = ranges, .count = count};
    bool image = cap->kind == CAP_KIND_IMAGE;
    unsigned depth = 0;
    job.pages = cap->size / CAP_PAGE_SIZE + (cap->size % CAP_PAGE_SIZE != 0);
    if (image) {
        depth = IMAGE_DEPTH;
    }
    while (!image && UINT64_C(1) << depth < job.pages) {
        depth++;
    }
    job.empty[0] = plain_zero(image ? 7 : 0);
    for (unsigned level = 1; level < 64; level++) {
        job.empty[level] = pair(&job.empty[level - 1], &job.empty[level - 1]);
    }
    struct cap_hash root = subtree(&job, depth, 0);
    assert_cap_ok(cap_buf_append8(&job.out, (uint8_t)cap->kind));
    assert_cap_ok(cap_buf_append64(&job.out, cap->size));
    assert_cap_ok(cap_buf_append(&job.out, &root, sizeof(root)));
    if (image) {
        assert_cap_ok(cap_buf_append32(&job.out, (uint32_t)cap->rest.len));
        assert_cap_ok(cap_buf_append(&job.out, cap->rest.data, cap->rest.len));
    } else {
        struct cap_hash size = cap_chunk64(cap->size);
        struct cap_hash hash = pair(&size, &root);
        hash = mix(&hash, CAP_KIND_DATA);
        assert_hash_equal(&hash, &cap->hash);
    }
    assert_cap_ok(cap_buf_append32(&job.out, (uint32_t)count));
    for (size_t i = 0; i < count; i++) {
        assert_cap_ok(cap_buf_append64(&job.out, ranges[i].first));
        assert_cap_ok(cap_buf_append64(&job.out, ranges[i].pages));
    }
    if (job.pages > 0) {
        put_node(&job, depth, 0);
    }
    return job.out;
}

/* --- Verifying -------------------------------------------------------------------------------- */

struct seen {
    const struct plain_cap *cap;
    const struct cap_range *ranges;
    size_t count;
    size_t range; /* where the next page belongs */
    uint64_t page;
    bool head;
    struct cap_hash tree_root;
    unsigned root_level; /* of the first pair; 0: none has come */
};

/* Whether pages [first, first + count) are the next ones of the ranges. */
static void see(struct seen *seen, uint64_t first, uint64_t count)
{
    assert_true(seen->head && count > 0);
    assert_true(seen->range < seen->count);
    const struct cap_range *range = &seen->ranges[seen->range];
    assert_true(first == range->first + seen->page);
    assert_true(count <= range->pages - seen->page);
    seen->page += count;
    if (seen->page == range->pages) {
        seen->range++;
        seen->page = 0;
    }
}

static enum cap_error see_head(void *ctx, const struct cap_slice_head *head)
{
    struct seen *seen = ctx;
    const struct plain_cap *cap = seen->cap;
    assert_false(seen->head);
    seen->head = true;
    seen->tree_root = head->tree_root;
    assert_int_equal(head->kind, cap->kind);
    assert_true(head->size == cap->size);
    assert_true(head->page_count == cap_slice_page_count(cap->size));
    if (cap->kind == CAP_KIND_IMAGE) {
        assert_int_equal(head->structure.len, cap->rest.len + 1);
        assert_int_equal(head->structure.data[0], CAP_KIND_IMAGE);
        assert_memory_equal(head->structure.data + 1, cap->rest.data, cap->rest.len);
        assert_int_equal(head->view->endpoints.count, 1);
    } else {
        assert_null(head->view);
    }
    return CAP_OK;
}

static enum cap_error see_pages(void *ctx, uint64_t first, size_t count, const uint8_t *bytes)
{
    struct seen *seen = ctx;
    see(seen, first, count);
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(bytes + i * CAP_PAGE_SIZE, plain_bytes(seen->cap, first + i),
                            CAP_PAGE_SIZE);
    }
    return CAP_OK;
}

static enum cap_error see_zeros(void *ctx, uint64_t first, uint64_t count)
{
    struct seen *seen = ctx;
    see(seen, first, count);
    assert_int_equal(position(seen->cap, first), position(seen->cap, first + count));
    return CAP_OK;
}

/* A pair comes before what is below it, so the first one is that of the root. */
static enum cap_error see_pair(void *ctx, unsigned level, uint64_t index,
                               const struct cap_hash children[2])
{
    struct seen *seen = ctx;
    struct cap_hash node = pair(&children[0], &children[1]);
    if (seen->root_level == 0) {
        assert_int_equal(index, 0);
        assert_hash_equal(&node, &seen->tree_root);
        seen->root_level = level;
    }
    assert_true(level > 0 && level <= seen->root_level);
    assert_true(index >> (seen->root_level - level) == 0);
    return CAP_OK;
}

enum cap_error plain_verify(const struct plain_cap *cap, const struct cap_range *ranges,
                            size_t count, struct cap_bytes slice, size_t most)
{
    struct seen seen = {.cap = cap, .ranges = ranges, .count = count};
    struct cap_slice_sink sink = {see_head, see_pages, see_zeros, see_pair, &seen};
    struct cap_slice_verifier *verifier;
    assert_cap_ok(
        cap_slice_verifier_new(&cap->hash, ranges, count, CAP_SLICE_STRUCTURE, &sink, &verifier));
    enum cap_error error = CAP_OK;
    for (size_t at = 0; error == CAP_OK && at < slice.len;) {
        size_t len = most < slice.len - at ? most : slice.len - at;
        uint8_t *piece = test_exact_copy(slice.data + at, len);
        error = cap_slice_verifier_take(verifier, (struct cap_bytes){piece, len});
        free(piece);
        at += len;
    }
    if (error == CAP_OK) {
        error = cap_slice_verifier_finish(verifier);
    }
    if (error == CAP_OK) {
        assert_true(seen.head && seen.range == count);
    } else {
        struct cap_slice_where where = cap_slice_verifier_where(verifier);
        assert_true(where.offset <= slice.len);
        assert_true(error == CAP_E_SLICE_MISMATCH || (where.level == 0 && where.index == 0));
    }
    cap_slice_verifier_free(verifier);
    return error;
}
