/*
 * Data caps against a plain reading of the format: what a body must be is written here by hand, and
 * roots are computed the slow way.
 */
#include "tests/unit/support.h"

#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "tests/unit/cap/build_image.h"

#define PAGE     ((size_t)CAP_PAGE_SIZE)
#define MAX_SIZE (UINT64_MAX - (CAP_PAGE_SIZE - 1))
#define FIXED    ((size_t)CAP_DATA_BODY_FIXED)

/* --- Helpers ---------------------------------------------------------------------------------- */

/* A source that is not memory. It counts its reads, and fails at read `fail_at`. */
struct stream {
    struct cap_bytes bytes;
    unsigned reads;
    unsigned fail_at;
};

static enum cap_error stream_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct stream *stream = ctx;
    if (++stream->reads == stream->fail_at) {
        return CAP_E_IO;
    }
    assert_true(offset <= stream->bytes.len && len <= stream->bytes.len - offset);
    memcpy(dst, stream->bytes.data + offset, len);
    return CAP_OK;
}

static struct cap_buf zeros(size_t len)
{
    struct cap_buf buf = {0};
    assert_cap_ok(cap_buf_append_zeros(&buf, len));
    return buf;
}

static struct cap_buf read_all(const struct cap_body *body, const struct cap_source *source)
{
    struct cap_buf buf = zeros((size_t)body->len);
    assert_cap_ok(cap_body_read(body, source, 0, buf.data, buf.len));
    return buf;
}

static struct cap_data from_bytes(struct cap_bytes bytes, uint64_t size)
{
    struct cap_source source = cap_source_memory(&bytes);
    struct cap_data data;
    assert_cap_ok(cap_data_from_content(&source, bytes.len, size, UINT64_MAX, &data));
    return data;
}

/* A body made by hand: `refs` are triples of index, offset, length. */
static struct cap_buf hand_made(uint64_t size, const uint32_t (*refs)[3], size_t count,
                                struct cap_bytes arena)
{
    struct cap_buf buf = {0};
    assert_cap_ok(cap_buf_append8(&buf, 2));
    assert_cap_ok(cap_buf_append64(&buf, size));
    assert_cap_ok(cap_buf_append32(&buf, 16));
    assert_cap_ok(cap_buf_append32(&buf, (uint32_t)(16 + 12 * count)));
    for (size_t i = 0; i < 3 * count; i++) {
        assert_cap_ok(cap_buf_append32(&buf, refs[i / 3][i % 3]));
    }
    if (arena.len) {
        assert_cap_ok(cap_buf_append(&buf, arena.data, arena.len));
    }
    return buf;
}

static struct cap_bytes bytes_of(const char *text)
{
    return (struct cap_bytes){(const uint8_t *)text, strlen(text)};
}

static void assert_bytes_equal(struct cap_bytes a, struct cap_bytes b)
{
    assert_int_equal(a.len, b.len);
    if (a.len) {
        assert_memory_equal(a.data, b.data, a.len);
    }
}

static enum cap_error rebuild(struct cap_bytes body, struct cap_data *ret_data)
{
    struct cap_source source = cap_source_memory(&body);
    return cap_data_from_body(&source, body.len, ret_data);
}

/* The CapHash of dense content, computed plainly: its pages as chunks of one vector. */
static struct cap_hash plain_hash(struct cap_bytes content, size_t pages)
{
    static const struct cap_hash zero;
    struct cap_hash *roots = calloc(pages, sizeof(*roots));
    assert_non_null(roots);
    for (size_t i = 0; i < pages; i++) {
        struct cap_hash chunks[PAGE / CAP_HASH_SIZE];
        memset(chunks, 0, sizeof(chunks));
        if (i * PAGE < content.len) {
            size_t left = content.len - i * PAGE;
            memcpy(chunks, content.data + i * PAGE, left < PAGE ? left : PAGE);
        }
        bool empty = true;
        for (size_t k = 0; k < PAGE / CAP_HASH_SIZE; k++) {
            empty = empty && cap_hash_equal(&chunks[k], &zero);
        }
        if (!empty) {
            roots[i] = plain_merkleize(chunks, PAGE / CAP_HASH_SIZE, 7);
        }
    }
    unsigned depth = 0;
    while (((size_t)1 << depth) < pages) {
        depth++;
    }
    struct cap_hash fields[2] = {{{0}}};
    cap_store64(fields[0].bytes, pages * PAGE);
    fields[1] = plain_merkleize(roots, pages, depth);
    struct cap_hash mixed[2] = {plain_merkleize(fields, 2, 1)};
    mixed[1] = (struct cap_hash){{2}};
    free(roots);
    return plain_merkleize(mixed, 2, 1);
}

/* --- Sizes ------------------------------------------------------------------------------------ */

static struct cap_data zero_cap(uint64_t size)
{
    struct cap_data_builder *builder;
    struct cap_data data;
    assert_cap_ok(cap_data_builder_new(size, UINT64_MAX, &builder));
    assert_cap_ok(cap_data_builder_finish(builder, &data));
    cap_data_builder_free(builder);
    return data;
}

/* Zero caps of every size: 17 bytes, and the root is two steps above a zero subtree. */
static void test_zero_caps(void **state)
{
    (void)state;
    static const struct {
        uint64_t size;
        uint64_t kept;
        unsigned depth;
    } cases[] = {
        {0, 4096, 0},
        {4096, 4096, 0},
        {8192, 8192, 1},
        {UINT64_C(513) * 4096, UINT64_C(513) * 4096, 10},
        {UINT64_C(1) << 44, UINT64_C(1) << 44, 32},
        {UINT64_C(1) << 63, UINT64_C(1) << 63, 51},
        {MAX_SIZE, MAX_SIZE, 52},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cap_data data = zero_cap(cases[i].size);
        assert_true(data.size == cases[i].kept);
        assert_int_equal(data.page_count, 0);
        struct cap_source none = {0};
        struct cap_buf body = read_all(&data.body, &none);
        struct cap_buf wanted = hand_made(cases[i].kept, NULL, 0, (struct cap_bytes){0});
        assert_bytes_equal(cap_buf_bytes(&body), cap_buf_bytes(&wanted));
        struct cap_hash node = cap_chunk64(cases[i].kept);
        cap_hash_pair(&node, cap_zero_node(cases[i].depth), &node);
        cap_mix_in(&node, 2, &node);
        assert_hash_equal(&node, &data.hash);
        cap_buf_free(&body);
        cap_buf_free(&wanted);
        cap_data_free(&data);
    }
}

static void test_bad_sizes(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 4095, 4097, UINT64_MAX, MAX_SIZE + 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct cap_data_builder *builder = NULL;
        assert_cap_error(cap_data_builder_new(sizes[i], UINT64_MAX, &builder),
                         CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE);
        assert_null(builder);
    }
    cap_data_builder_free(NULL);
}

/* --- The builder ------------------------------------------------------------------------------ */

static void test_page_indexes(void **state)
{
    (void)state;
    struct cap_data_builder *builder;
    assert_cap_ok(cap_data_builder_new(UINT64_C(1) << 50, UINT64_MAX, &builder));
    const uint8_t one = 1;
    assert_cap_ok(cap_data_builder_add(builder, 7, &one, 1, 0));
    assert_cap_error(cap_data_builder_add(builder, 7, &one, 1, 0), CAP_E_DATA_NOT_CANONICAL);
    assert_cap_error(cap_data_builder_add(builder, 6, &one, 1, 0), CAP_E_DATA_NOT_CANONICAL);
    const uint8_t zero = 0;
    assert_cap_ok(cap_data_builder_add(builder, 9, &zero, 1, 0));
    assert_cap_error(cap_data_builder_add(builder, 9, &one, 1, 0), CAP_E_DATA_NOT_CANONICAL);
    assert_cap_error(cap_data_builder_add(builder, UINT64_C(1) << 32, &one, 1, 0),
                     CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE);
    assert_cap_ok(cap_data_builder_add(builder, UINT32_MAX, &one, 1, 0));
    cap_data_builder_free(builder);

    assert_cap_ok(cap_data_builder_new(2 * PAGE, UINT64_MAX, &builder));
    uint8_t page[PAGE + 1] = {1};
    assert_cap_error(cap_data_builder_add(builder, 2, &one, 1, 0),
                     CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE);
    assert_cap_error(cap_data_builder_add(builder, 0, page, PAGE + 1, 0), CAP_E_DATA_BAD_LEN);
    assert_cap_ok(cap_data_builder_add(builder, 0, page, PAGE, 0));
    assert_cap_ok(cap_data_builder_add(builder, 1, NULL, 0, 0));
    cap_data_builder_free(builder);
}

/* The last page that an index can name, in the largest cap there is. */
static void test_last_page(void **state)
{
    (void)state;
    struct cap_data_builder *builder;
    struct cap_data data;
    assert_cap_ok(cap_data_builder_new(MAX_SIZE, UINT64_MAX, &builder));
    assert_cap_ok(cap_data_builder_add(builder, UINT32_MAX, (const uint8_t *)"x", 1, 0));
    assert_cap_ok(cap_data_builder_finish(builder, &data));
    cap_data_builder_free(builder);

    struct cap_hash node;
    assert_int_equal(cap_page_root((const uint8_t *)"x", 1, &node), 1);
    assert_hash_equal(&node, &data.page_roots[0]);
    for (unsigned i = 0; i < 52; i++) {
        if (i < 32) {
            cap_hash_pair(cap_zero_node(i), &node, &node);
        } else {
            cap_hash_pair(&node, cap_zero_node(i), &node);
        }
    }
    struct cap_hash size = cap_chunk64(MAX_SIZE);
    cap_hash_pair(&size, &node, &node);
    cap_mix_in(&node, 2, &node);
    assert_hash_equal(&node, &data.hash);

    struct cap_bytes content = bytes_of("x");
    struct cap_source source = cap_source_memory(&content);
    struct cap_buf body = read_all(&data.body, &source);
    const uint32_t refs[1][3] = {{UINT32_MAX, 0, 1}};
    struct cap_buf wanted = hand_made(MAX_SIZE, refs, 1, content);
    assert_bytes_equal(cap_buf_bytes(&body), cap_buf_bytes(&wanted));

    struct cap_data_view view;
    assert_cap_ok(cap_data_view_decode(cap_buf_bytes(&body), body.len, &view));
    uint8_t around[4];
    uint64_t at = (uint64_t)UINT32_MAX * PAGE;
    cap_data_read(&view, cap_buf_bytes(&body), at - 1, around, sizeof(around));
    assert_memory_equal(around, "\0x\0", 4);
    cap_data_read(&view, cap_buf_bytes(&body), MAX_SIZE - 4, around, sizeof(around));
    assert_memory_equal(around, "\0\0\0", 4);
    cap_buf_free(&wanted);
    cap_buf_free(&body);
    cap_data_free(&data);
}

/* --- Canonical form --------------------------------------------------------------------------- */

/*
 * Page 0 "ab" with a tail of zeros, 1 zero, 2 "ab" again, 3 "abc" (of which "ab" is only a part),
 * 4 "a", 5 "abc".
 */
static struct cap_buf six_pages(void)
{
    struct cap_buf content = zeros(6 * PAGE);
    memcpy(content.data, "ab", 2);
    memcpy(content.data + 2 * PAGE, "ab", 2);
    memcpy(content.data + 3 * PAGE, "abc", 3);
    memcpy(content.data + 4 * PAGE, "a", 1);
    memcpy(content.data + 5 * PAGE, "abc", 3);
    return content;
}

static const uint32_t six_refs[5][3] = {{0, 0, 2}, {2, 0, 2}, {3, 2, 3}, {4, 5, 1}, {5, 2, 3}};

static void test_canonical_form(void **state)
{
    (void)state;
    struct cap_buf content = six_pages();
    struct cap_bytes bytes = cap_buf_bytes(&content);
    struct cap_source source = cap_source_memory(&bytes);
    struct cap_data data = from_bytes(bytes, 0);
    struct cap_buf body = read_all(&data.body, &source);
    struct cap_buf wanted = hand_made(6 * PAGE, six_refs, 5, bytes_of("ababca"));
    assert_bytes_equal(cap_buf_bytes(&body), cap_buf_bytes(&wanted));
    struct cap_hash hash = plain_hash(bytes, 6);
    assert_hash_equal(&hash, &data.hash);
    assert_int_equal(data.page_count, 5);
    assert_hash_equal(&data.page_roots[0], &data.page_roots[1]);
    assert_hash_equal(&data.page_roots[2], &data.page_roots[4]);
    cap_buf_free(&wanted);
    cap_buf_free(&body);
    cap_buf_free(&content);
    cap_data_free(&data);
}

/* A page count that is not a power of two, all pages different: the table grows, the tree is
 * ragged.
 */
static void test_513_pages(void **state)
{
    (void)state;
    struct cap_buf content = zeros(513 * PAGE);
    for (size_t i = 0; i < 513; i++) {
        cap_store32(content.data + i * PAGE + i * 7 % (PAGE - 4), (uint32_t)(i + 1));
    }
    struct cap_bytes bytes = cap_buf_bytes(&content);
    struct cap_data data = from_bytes(bytes, 0);
    struct cap_hash hash = plain_hash(bytes, 513);
    assert_hash_equal(&hash, &data.hash);
    assert_int_equal(data.page_count, 513);
    cap_data_free(&data);
    cap_buf_free(&content);
}

static void test_many_equal_pages(void **state)
{
    (void)state;
    struct cap_data_builder *builder;
    struct cap_data data;
    uint8_t page[PAGE] = {0};
    assert_cap_ok(cap_data_builder_new(4000 * PAGE, UINT64_MAX, &builder));
    for (uint32_t i = 0; i < 4000; i++) {
        cap_store32(page, i % 1000 + 1);
        assert_cap_ok(cap_data_builder_add(builder, i, page, PAGE, i * PAGE));
    }
    assert_cap_ok(cap_data_builder_finish(builder, &data));
    /* 255 numbers take one byte, the other 745 two. */
    assert_true(data.body.len == FIXED + 4000 * 12 + 255 + 745 * 2);
    cap_data_builder_free(builder);
    cap_data_free(&data);
}

/* --- Bounds ----------------------------------------------------------------------------------- */

static void test_body_bound(void **state)
{
    (void)state;
    struct cap_buf content = six_pages();
    struct cap_bytes bytes = cap_buf_bytes(&content);
    struct cap_source source = cap_source_memory(&bytes);
    struct cap_data data = {0};
    uint64_t len = FIXED + 5 * 12 + 6;
    for (uint64_t bound = 0; bound < len; bound++) {
        assert_cap_error(cap_data_from_content(&source, bytes.len, 0, bound, &data),
                         CAP_E_BODY_TOO_LARGE);
        assert_null(data.page_roots);
    }
    assert_cap_ok(cap_data_from_content(&source, bytes.len, 0, len, &data));
    cap_data_free(&data);
    cap_data_free(NULL);
    cap_buf_free(&content);
}

/* --- Raw content ------------------------------------------------------------------------------ */

/* Every length around pages and reading pieces gives the same from memory and from a stream. */
static void test_content_lengths(void **state)
{
    (void)state;
    static const size_t lengths[] = {0,         1,         PAGE - 1,      PAGE,          PAGE + 1,
                                     3 * PAGE,  64 * PAGE, 64 * PAGE + 1, 65 * PAGE - 1, 128 * PAGE,
                                     129 * PAGE};
    struct cap_buf content = zeros(129 * PAGE);
    for (size_t i = 0; i < content.len; i++) {
        if (i / PAGE % 3) {
            content.data[i] = (uint8_t)(i * 31 / 7 + i / PAGE);
        }
    }
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct cap_bytes bytes = {content.data, lengths[i]};
        struct stream stream = {.bytes = bytes};
        struct cap_source source = {.read = stream_read, .ctx = &stream};
        struct cap_data streamed;
        struct cap_data data = from_bytes(bytes, 0);
        assert_cap_ok(cap_data_from_content(&source, bytes.len, 0, UINT64_MAX, &streamed));
        assert_true(stream.reads <= bytes.len / (64 * 1024) + 1);
        size_t pages = bytes.len ? (bytes.len + PAGE - 1) / PAGE : 1;
        struct cap_hash hash = plain_hash(bytes, pages);
        assert_true(data.size == pages * PAGE);
        assert_hash_equal(&hash, &data.hash);
        assert_hash_equal(&hash, &streamed.hash);
        assert_true(data.body.len == streamed.body.len);
        cap_data_free(&data);
        cap_data_free(&streamed);
    }
    cap_buf_free(&content);
}

static void test_content_size(void **state)
{
    (void)state;
    struct cap_bytes content = bytes_of("hello");
    struct cap_source source = cap_source_memory(&content);
    static const uint64_t sizes[][2] = {{0, PAGE},
                                        {5, PAGE},
                                        {PAGE, PAGE},
                                        {PAGE + 1, 2 * PAGE},
                                        {MAX_SIZE, MAX_SIZE},
                                        {MAX_SIZE - 1, MAX_SIZE}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct cap_data data = from_bytes(content, sizes[i][0]);
        assert_true(data.size == sizes[i][1]);
        assert_true(data.body.len == FIXED + 12 + 5);
        cap_data_free(&data);
    }
    struct cap_data none = {0};
    assert_cap_error(cap_data_from_content(&source, 5, MAX_SIZE + 1, UINT64_MAX, &none),
                     CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_data_from_content(&source, 5, UINT64_MAX, UINT64_MAX, &none),
                     CAP_E_INVALID_ARGUMENT);
}

static void test_source_fails(void **state)
{
    (void)state;
    struct cap_buf content = six_pages();
    struct cap_bytes bytes = cap_buf_bytes(&content);
    struct cap_data data = from_bytes(bytes, 0);
    struct cap_source memory = cap_source_memory(&bytes);
    struct cap_buf body = read_all(&data.body, &memory);
    struct cap_data none = {0};
    struct stream stream = {.bytes = bytes, .fail_at = 1};
    struct cap_source source = {.read = stream_read, .ctx = &stream};
    assert_cap_error(cap_data_from_content(&source, bytes.len, 0, UINT64_MAX, &none), CAP_E_IO);

    /* Fail at the fixed part, the references, each of three windows, then nowhere. */
    unsigned fail_at = 0;
    enum cap_error error;
    do {
        stream = (struct stream){.bytes = cap_buf_bytes(&body), .fail_at = ++fail_at};
        error = cap_data_from_body(&source, body.len, &none);
        assert_true(error == CAP_OK || error == CAP_E_IO);
    } while (error != CAP_OK);
    assert_int_equal(fail_at, 2 + 3 + 1);
    cap_data_free(&none);
    cap_data_free(&data);
    cap_buf_free(&body);
    cap_buf_free(&content);
}

/* --- From a DataDesc -------------------------------------------------------------------------- */

/* Windows may overlap, be shared, hold zeros: identity sees only the content. */
static void test_from_desc(void **state)
{
    (void)state;
    static const uint8_t arena[] = {'a', 'b', 'c', 0, 0, 'a', 'b', 0, 'a'};
    const uint32_t refs[6][3] = {{0, 0, 2}, {1, 3, 2}, {2, 5, 3}, {3, 0, 4}, {4, 8, 1}, {5, 0, 3}};
    struct cap_bytes bytes = {arena, sizeof(arena)};
    struct cap_source source = cap_source_memory(&bytes);
    struct cap_buf made = hand_made(0, refs, 6, (struct cap_bytes){0});
    struct cap_data_desc desc = {
        .size = 6 * PAGE,
        .pages = cap_bytes_slice(cap_buf_bytes(&made), FIXED, 6 * 12),
        .page_count = 6,
    };
    struct cap_data data;
    assert_cap_ok(cap_data_from_desc(&desc, &source, UINT64_MAX, NULL, &data));
    struct cap_buf body = read_all(&data.body, &source);
    struct cap_buf wanted = hand_made(6 * PAGE, six_refs, 5, bytes_of("ababca"));
    assert_bytes_equal(cap_buf_bytes(&body), cap_buf_bytes(&wanted));
    cap_data_free(&data);
    uint64_t bound = body.len - 1;
    assert_cap_error(cap_data_from_desc(&desc, &source, bound, NULL, &data), CAP_E_BODY_TOO_LARGE);
    struct stream stream = {bytes, 0, 3};
    source = (struct cap_source){.read = stream_read, .ctx = &stream};
    assert_cap_error(cap_data_from_desc(&desc, &source, UINT64_MAX, NULL, &data), CAP_E_IO);
    cap_buf_free(&wanted);
    cap_buf_free(&body);
    cap_buf_free(&made);
}

/* --- Bodies that are not canonical ------------------------------------------------------------ */

struct deviation {
    const char *what;
    uint64_t size;
    uint32_t refs[4][3];
    size_t count;
    const char *arena;
    bool seen_in_front; /* without the arena's bytes */
};

static const struct deviation deviations[] = {
    {"size 0", 0, {{0}}, 0, "", true},
    {"ragged size", 4097, {{0}}, 0, "", true},
    {"largest ragged size", UINT64_MAX, {{0}}, 0, "", true},
    {"empty window", 8192, {{0, 0, 0}}, 1, "", true},
    {"window longer than a page", 8192, {{0, 0, 4097}}, 1, "a", true},
    {"window past the arena", 8192, {{0, 0, 2}}, 1, "a", true},
    {"window far past the arena", 8192, {{0, UINT32_MAX, 4096}}, 1, "a", true},
    {"index past the end", 8192, {{2, 0, 1}}, 1, "a", true},
    {"index repeated", 8192, {{0, 0, 1}, {0, 1, 1}}, 2, "ab", true},
    {"indexes descend", 8192, {{1, 0, 1}, {0, 1, 1}}, 2, "ab", true},
    {"bytes before the first window", 8192, {{0, 1, 1}}, 1, "ab", true},
    {"bytes after the last window", 8192, {{0, 0, 1}}, 1, "ab", true},
    {"arena without pages", 8192, {{0}}, 0, "a", true},
    {"bytes between windows", 8192, {{0, 0, 1}, {1, 2, 1}}, 2, "abc", true},
    {"order is not that of first use", 8192, {{0, 1, 1}, {1, 0, 1}}, 2, "ab", true},
    {"window of bytes not packed yet", 8192, {{0, 1, 1}, {1, 0, 2}}, 2, "ab", true},
    {"windows overlap", 8192, {{0, 0, 2}, {1, 1, 2}}, 2, "abc", true},
    {"equal pages, two windows", 8192, {{0, 0, 1}, {1, 1, 1}}, 2, "aa", false},
    {"window begins another", 8192, {{0, 0, 2}, {1, 0, 1}}, 2, "ab", false},
    {"window ends another", 8192, {{0, 0, 2}, {1, 1, 1}}, 2, "ab", false},
    {"window spans two", 12288, {{0, 0, 1}, {1, 1, 1}, {2, 0, 2}}, 3, "ab", false},
    {"equal page in the middle", 12288, {{0, 0, 3}, {1, 1, 1}, {2, 3, 1}}, 3, "abcb", false},
};

static void test_deviations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(deviations) / sizeof(deviations[0]); i++) {
        const struct deviation *it = &deviations[i];
        struct cap_buf body = hand_made(it->size, it->refs, it->count, bytes_of(it->arena));
        struct cap_bytes front = {body.data, FIXED + 12 * it->count};
        struct cap_data data = {0};
        struct cap_data_view view;
        print_message("%s\n", it->what);
        assert_cap_error(rebuild(cap_buf_bytes(&body), &data), CAP_E_BODY_NOT_CANONICAL);
        enum cap_error error = cap_data_view_decode(front, body.len, &view);
        assert_cap_error(error, it->seen_in_front ? CAP_E_BODY_NOT_CANONICAL : CAP_OK);
        cap_buf_free(&body);
    }
}

/* Zeros need bytes that a C string cannot hold. */
static void test_zeros_in_windows(void **state)
{
    (void)state;
    static const uint32_t refs[][3] = {{0, 0, 1}};
    static const uint32_t longer[][3] = {{0, 0, 2}};
    static const uint8_t zero[2] = {0, 0};
    static const uint8_t untrimmed[2] = {'a', 0};
    struct cap_data data = {0};
    struct cap_buf body = hand_made(PAGE, refs, 1, (struct cap_bytes){zero, 1});
    assert_cap_error(rebuild(cap_buf_bytes(&body), &data), CAP_E_BODY_NOT_CANONICAL);
    cap_buf_free(&body);
    body = hand_made(PAGE, longer, 1, (struct cap_bytes){untrimmed, 2});
    assert_cap_error(rebuild(cap_buf_bytes(&body), &data), CAP_E_BODY_NOT_CANONICAL);
    cap_buf_free(&body);
}

static void test_bad_offsets(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t value;
    } cases[] = {{9, 0},   {9, 15},  {9, 17},  {9, 28},       {9, UINT32_MAX}, {13, 0},
                 {13, 15}, {13, 17}, {13, 27}, {13, 16 + 24}, {13, 16},        {13, UINT32_MAX}};
    static const uint32_t refs[][3] = {{0, 0, 3}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cap_buf body = hand_made(PAGE, refs, 1, bytes_of("abc"));
        cap_store32(body.data + cases[i].at, cases[i].value);
        struct cap_data data = {0};
        struct cap_data_view view;
        assert_cap_error(rebuild(cap_buf_bytes(&body), &data), CAP_E_BODY_NOT_CANONICAL);
        assert_cap_error(cap_data_view_decode(cap_buf_bytes(&body), body.len, &view),
                         CAP_E_BODY_NOT_CANONICAL);
        cap_buf_free(&body);
    }
}

/* References that end within one: all the rest would be in order. */
static void test_ragged_references(void **state)
{
    (void)state;
    for (uint32_t more = 1; more < 12; more++) {
        struct cap_buf body = hand_made(PAGE, NULL, 0, (struct cap_bytes){0});
        assert_cap_ok(cap_buf_append_zeros(&body, more));
        cap_store32(body.data + 13, 16 + more);
        struct cap_data data = {0};
        struct cap_data_view view;
        assert_cap_error(rebuild(cap_buf_bytes(&body), &data), CAP_E_BODY_NOT_CANONICAL);
        assert_cap_error(cap_data_view_decode(cap_buf_bytes(&body), body.len, &view),
                         CAP_E_BODY_NOT_CANONICAL);
        cap_buf_free(&body);
    }
}

static void test_lengths(void **state)
{
    (void)state;
    struct cap_buf body = hand_made(6 * PAGE, six_refs, 5, bytes_of("ababca"));
    struct cap_data data = {0};
    struct cap_data_view view;
    for (size_t len = 0; len < body.len; len++) {
        uint8_t *copy = test_exact_copy(body.data, len);
        struct cap_bytes cut = {copy, len};
        assert_cap_error(rebuild(cut, &data), CAP_E_BODY_NOT_CANONICAL);
        assert_cap_error(cap_data_view_decode(cut, len, &view), CAP_E_BODY_NOT_CANONICAL);
        uint64_t head_len = 0;
        enum cap_error error = cap_data_body_head_len(cut, body.len, &head_len);
        assert_cap_error(error, len < FIXED ? CAP_E_BODY_NOT_CANONICAL : CAP_OK);
        assert_int_equal(head_len, len < FIXED ? 0 : FIXED + 5 * 12);
        error = cap_data_view_decode(cut, body.len, &view);
        assert_cap_error(error, len < FIXED + 5 * 12 ? CAP_E_BODY_NOT_CANONICAL : CAP_OK);
        free(copy);
    }
    assert_cap_ok(cap_buf_append8(&body, 'x'));
    assert_cap_error(rebuild(cap_buf_bytes(&body), &data), CAP_E_BODY_NOT_CANONICAL);
    assert_cap_error(cap_data_view_decode(cap_buf_bytes(&body), UINT64_MAX, &view),
                     CAP_E_BODY_NOT_CANONICAL);
    cap_buf_free(&body);
}

/* Whatever bit flips: the body is refused, or it is the canonical body of another cap. */
static void test_every_bit(void **state)
{
    (void)state;
    struct cap_buf body = hand_made(6 * PAGE, six_refs, 5, bytes_of("ababca"));
    struct cap_data original;
    assert_cap_ok(rebuild(cap_buf_bytes(&body), &original));
    size_t accepted = 0;
    for (size_t bit = 0; bit < 8 * body.len; bit++) {
        body.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct cap_bytes bytes = cap_buf_bytes(&body);
        struct cap_source source = cap_source_memory(&bytes);
        struct cap_data data;
        enum cap_error error = rebuild(bytes, &data);
        if (error == CAP_OK) {
            accepted++;
            assert_false(cap_hash_equal(&data.hash, &original.hash));
            struct cap_buf again = read_all(&data.body, &source);
            assert_bytes_equal(cap_buf_bytes(&again), bytes);
            cap_buf_free(&again);
            cap_data_free(&data);
        } else {
            assert_cap_error(error, CAP_E_BODY_NOT_CANONICAL);
        }
        body.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(accepted > 0 && accepted < 4 * body.len);
    cap_data_free(&original);
    cap_buf_free(&body);
}

/* --- Reading ---------------------------------------------------------------------------------- */

static void test_reads(void **state)
{
    (void)state;
    struct cap_buf content = six_pages();
    struct cap_buf body = hand_made(6 * PAGE, six_refs, 5, bytes_of("ababca"));
    struct cap_data_view view;
    assert_cap_ok(cap_data_view_decode(cap_buf_bytes(&body), body.len, &view));
    uint8_t *read = malloc(content.len);
    assert_non_null(read);
    cap_data_read(&view, cap_buf_bytes(&body), 0, read, content.len);
    assert_memory_equal(read, content.data, content.len);
    static const size_t edges[] = {0, 1, 2, 3, PAGE - 1};
    for (size_t from = 0; from < 6 * 5; from++) {
        for (size_t len = 0; len < 5 + PAGE + 2; len += len < 5 ? 1 : PAGE - 3) {
            size_t at = from / 5 * PAGE + edges[from % 5];
            if (at + len > content.len) {
                continue;
            }
            memset(read, 0xee, content.len);
            cap_data_read(&view, cap_buf_bytes(&body), at, read, len);
            assert_memory_equal(read, content.data + at, len);
            assert_int_equal(read[len], 0xee);
        }
    }
    free(read);
    cap_buf_free(&body);
    cap_buf_free(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_caps),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_page_indexes),
        cmocka_unit_test(test_last_page),
        cmocka_unit_test(test_canonical_form),
        cmocka_unit_test(test_513_pages),
        cmocka_unit_test(test_many_equal_pages),
        cmocka_unit_test(test_body_bound),
        cmocka_unit_test(test_content_lengths),
        cmocka_unit_test(test_content_size),
        cmocka_unit_test(test_source_fails),
        cmocka_unit_test(test_from_desc),
        cmocka_unit_test(test_deviations),
        cmocka_unit_test(test_zeros_in_windows),
        cmocka_unit_test(test_bad_offsets),
        cmocka_unit_test(test_ragged_references),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
