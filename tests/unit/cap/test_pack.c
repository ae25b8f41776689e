/*
 * The packer: what it packs is taken apart again by the deblob and compared with what went in, and
 * its arena with one written by hand.
 */
#include "tests/unit/support.h"

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/pack.h"
#include "tests/unit/cap/build_image.h"

#define PAGE     ((size_t)CAP_PAGE_SIZE)
#define MAX_SIZE (UINT64_MAX - (CAP_PAGE_SIZE - 1))

/* --- Helpers ---------------------------------------------------------------------------------- */

static struct cap_bytes bytes_of(const char *text)
{
    return (struct cap_bytes){(const uint8_t *)text, strlen(text)};
}

static struct cap_pack *new_pack(void)
{
    struct cap_pack *pack;
    assert_cap_ok(cap_pack_new(&pack));
    return pack;
}

/* A wire Image that was packed, and decoded. */
struct packed {
    struct cap_buf bytes;
    struct cap_wire_image image;
    struct cap_bytes arena;
};

/* Finishes, frees the pack, and opens the result. */
static struct packed finish(struct cap_pack *pack, struct cap_bytes content)
{
    struct packed packed = {0};
    struct cap_body wire;
    struct cap_source source = cap_source_memory(&content);
    assert_cap_ok(cap_pack_finish(pack, &source, &wire));
    cap_pack_free(pack);
    assert_cap_ok(cap_buf_append_zeros(&packed.bytes, (size_t)wire.len));
    assert_cap_ok(cap_body_read(&wire, &source, 0, packed.bytes.data, packed.bytes.len));
    cap_body_free(&wire);
    assert_cap_ok(cap_deblob(cap_buf_bytes(&packed.bytes), packed.bytes.len, &packed.image, NULL));
    packed.arena = cap_bytes_slice(cap_buf_bytes(&packed.bytes), packed.image.head.len,
                                   (size_t)packed.image.arena_len);
    return packed;
}

static enum cap_error finish_error(struct cap_pack *pack, struct cap_bytes content)
{
    struct cap_body wire = {0};
    struct cap_source source = cap_source_memory(&content);
    enum cap_error error = cap_pack_finish(pack, &source, &wire);
    assert_true(error != CAP_OK);
    assert_int_equal(wire.len, 0);
    assert_null(wire.segments);
    cap_pack_free(pack);
    return error;
}

static void assert_arena(const struct packed *packed, const char *wanted)
{
    assert_int_equal(packed->arena.len, strlen(wanted));
    assert_memory_equal(packed->arena.data, wanted, packed->arena.len);
}

/* Slot `index` has this size and exactly these references. */
static void assert_slot(const struct packed *packed, size_t index, uint64_t size,
                        const uint32_t (*refs)[3], size_t count)
{
    struct cap_wire_slot slot;
    cap_wire_slot_at(&packed->image, index, &slot);
    assert_true(slot.desc.size == size);
    assert_int_equal(slot.desc.page_count, count);
    for (size_t i = 0; i < count; i++) {
        struct cap_page_ref ref = cap_page_ref_at(slot.desc.pages, i);
        assert_int_equal(ref.page_index, refs[i][0]);
        assert_int_equal(ref.arena_off, refs[i][1]);
        assert_int_equal(ref.len, refs[i][2]);
    }
}

/* --- Whole Images ----------------------------------------------------------------------------- */

static void test_empty(void **state)
{
    (void)state;
    struct packed packed = finish(new_pack(), (struct cap_bytes){0});
    struct test_image tree = test_image_new();
    struct cap_buf wanted = node_encode(tree.root, NULL);
    assert_int_equal(packed.bytes.len, wanted.len);
    assert_memory_equal(packed.bytes.data, wanted.data, wanted.len);
    cap_buf_free(&wanted);
    cap_buf_free(&packed.bytes);
    test_image_free(&tree);
    cap_pack_free(NULL);
}

/* Everything at once, handed in backwards, against the tree of the same Image. */
static void test_full(void **state)
{
    (void)state;
    struct test_image tree = test_image_full();
    uint8_t content[5000];
    for (size_t i = 0; i < sizeof(content); i++) {
        content[i] = (uint8_t)(i * 7 + 1);
    }
    const struct cap_register registers[] = {{12, 7}, {0, UINT64_MAX}, {1, 0x20000000}};
    const struct cap_hash lib = {{1, 2, 3}};
    const struct cap_bytes code_path[] = {bytes_of("code")};
    const struct cap_bytes heap_path[] = {bytes_of("heap"), bytes_of(""), bytes_of("deeper")};
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("stack"), 0x4000));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("heap"), MAX_SIZE));
    assert_cap_ok(cap_pack_content(pack, UINT32_MAX * (uint64_t)PAGE, 10, 1));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("zero"), 0));
    assert_cap_ok(cap_pack_image(pack, bytes_of("lib"), &lib));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("code"), 0));
    assert_cap_ok(cap_pack_content(pack, 0, 0, 4500));
    assert_cap_ok(cap_pack_mapping(pack, 0x10000000, 0x2000, code_path, 1));
    assert_cap_ok(cap_pack_mapping(pack, 0x20000000, 0x1000, heap_path, 3));
    assert_cap_ok(cap_pack_endpoint(pack, bytes_of("ab"), 499, 1, 2, NULL, 0));
    assert_cap_ok(cap_pack_endpoint(pack, bytes_of("a"), 16, 1, 2, registers, 3));
    assert_cap_ok(cap_pack_endpoint(pack, bytes_of(""), 0, 1, 2, NULL, 0));
    assert_cap_ok(cap_pack_yield_receiver(pack, bytes_of("not this one")));
    assert_cap_ok(cap_pack_yield_receiver(pack, bytes_of("yield")));
    assert_cap_ok(cap_pack_gas_slot(pack, bytes_of("g2")));
    assert_cap_ok(cap_pack_gas_slot(pack, bytes_of("g1")));
    assert_cap_ok(cap_pack_quota_slot(pack, bytes_of("")));
    assert_cap_ok(cap_pack_quota_slot(pack, bytes_of("q")));
    cap_pack_code(pack, 4500, 500);
    struct packed packed = finish(pack, (struct cap_bytes){content, sizeof(content)});

    /* The tree keeps its own arena; the packed one has a page of one byte before the code. */
    uint8_t arena[5001];
    memcpy(arena, content, 4500);
    arena[4500] = content[10];
    memcpy(arena + 4501, content + 4500, 500);
    test_image_set_arena(&tree, arena, sizeof(arena));
    test_image_set_code(&tree, 4501, 500);
    struct node *desc = tree.initial->children[0]->children[1];
    cap_store32(desc->children[1]->children[0]->children[1]->bytes.data, 4500);
    cap_store64(
        tree.pinned->children[2]->children[1]->children[0]->children[0]->children[0]->bytes.data,
        PAGE);
    struct node *code_page = tree.pinned->children[0]->children[1]->children[0]->children[0];
    cap_store64(code_page->children[0]->bytes.data, 0x2000);
    struct cap_buf wanted = node_encode(tree.root, NULL);
    assert_int_equal(packed.bytes.len, wanted.len);
    assert_memory_equal(packed.bytes.data, wanted.data, wanted.len);
    cap_buf_free(&wanted);
    cap_buf_free(&packed.bytes);
    test_image_free(&tree);
}

/* --- The arena -------------------------------------------------------------------------------- */

/* Equal pages share a window across slots and tables; pinned slots come first, by key. */
static void test_shares_across_slots(void **state)
{
    (void)state;
    struct cap_bytes content = bytes_of("xyABCab");
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("a"), 0));
    assert_cap_ok(cap_pack_content(pack, 0, 0, 2));
    assert_cap_ok(cap_pack_content(pack, PAGE, 5, 2));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("b"), 0));
    assert_cap_ok(cap_pack_content(pack, 0, 5, 2));
    assert_cap_ok(cap_pack_content(pack, PAGE, 2, 3));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("a"), 0));
    assert_cap_ok(cap_pack_content(pack, 0, 2, 3));
    assert_cap_ok(cap_pack_content(pack, PAGE, 2, 2));
    cap_pack_code(pack, 2, 3);
    struct packed packed = finish(pack, content);
    assert_arena(&packed, "ABCABabxyABC");
    assert_slot(&packed, 0, 2 * PAGE, (const uint32_t[][3]){{0, 0, 3}, {1, 3, 2}}, 2);
    assert_slot(&packed, 1, 2 * PAGE, (const uint32_t[][3]){{0, 5, 2}, {1, 0, 3}}, 2);
    assert_slot(&packed, 2, 2 * PAGE, (const uint32_t[][3]){{0, 7, 2}, {1, 5, 2}}, 2);
    assert_int_equal(packed.image.code_off, 9);
    assert_int_equal(packed.image.code_len, 3);
    cap_buf_free(&packed.bytes);
}

/* Code keeps its zeros, at both ends. */
static void test_code_exact(void **state)
{
    (void)state;
    static const uint8_t content[] = {0, 0, 7, 0, 0};
    struct cap_pack *pack = new_pack();
    cap_pack_code(pack, 0, sizeof(content));
    struct packed packed = finish(pack, (struct cap_bytes){content, sizeof(content)});
    assert_int_equal(packed.image.code_len, sizeof(content));
    assert_int_equal(packed.arena.len, sizeof(content));
    assert_memory_equal(packed.arena.data, content, sizeof(content));
    cap_buf_free(&packed.bytes);
}

/* A codeless Image says {0, 0} even when there are pages. */
static void test_codeless(void **state)
{
    (void)state;
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("a"), 0));
    assert_cap_ok(cap_pack_content(pack, 0, 0, 1));
    cap_pack_code(pack, 1, 0);
    struct packed packed = finish(pack, bytes_of("x"));
    assert_arena(&packed, "x");
    assert_int_equal(packed.image.code_off, 0);
    assert_int_equal(packed.image.code_len, 0);
    cap_buf_free(&packed.bytes);
}

/* --- Pieces ----------------------------------------------------------------------------------- */

/* Pieces at every kind of place: within a page, over its end, two in one, none in some. */
static const struct {
    size_t at;
    size_t len;
} places[] = {
    {0, 10},           {10, 5},
    {100, 1},          {PAGE - 1, 2},
    {2 * PAGE, PAGE},  {4 * PAGE + 7, 1},
    {5 * PAGE - 3, 3}, {6 * PAGE + 1, 3 * PAGE},
    {12 * PAGE, 1},    {13 * PAGE - 1, 1},
};

#define PLACES (sizeof(places) / sizeof(places[0]))

/* The same logical content from one source in pieces, and from another laid out flat. */
static void test_pieces_equal_flat(void **state)
{
    (void)state;
    size_t flat_len = 13 * PAGE;
    uint8_t *flat = calloc(1, flat_len);
    uint8_t *loose = calloc(PLACES, 4 * PAGE);
    assert_non_null(flat);
    assert_non_null(loose);
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("d"), 0));
    for (size_t i = 0; i < PLACES; i++) {
        size_t offset = (PLACES - 1 - i) * 4 * PAGE + 5;
        for (size_t k = 0; k < places[i].len; k++) {
            flat[places[i].at + k] = loose[offset + k] = (uint8_t)(1 + i + k % 11);
        }
        assert_cap_ok(cap_pack_content(pack, places[i].at, offset, places[i].len));
    }
    struct packed in_pieces = finish(pack, (struct cap_bytes){loose, PLACES * 4 * PAGE});
    pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("d"), 0));
    assert_cap_ok(cap_pack_content(pack, 0, 0, flat_len));
    struct packed whole = finish(pack, (struct cap_bytes){flat, flat_len});
    assert_int_equal(in_pieces.bytes.len, whole.bytes.len);
    assert_memory_equal(in_pieces.bytes.data, whole.bytes.data, whole.bytes.len);
    cap_buf_free(&in_pieces.bytes);
    cap_buf_free(&whole.bytes);
    free(loose);
    free(flat);
}

/* A run of the source stays in the source: pages that need no copy take no memory. */
static void test_runs_are_not_copied(void **state)
{
    (void)state;
    struct cap_buf content = {0};
    assert_cap_ok(cap_buf_append_zeros(&content, 64 * PAGE));
    for (size_t i = 0; i < content.len; i++) {
        content.data[i] = (uint8_t)(i * 2654435761u >> 11 | 1);
    }
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("d"), 0));
    for (size_t i = 0; i < 64 * PAGE; i += 1000) { /* pieces that continue one another are one */
        assert_cap_ok(
            cap_pack_content(pack, i, i, i + 1000 < content.len ? 1000 : content.len - i));
    }
    struct cap_bytes bytes = cap_buf_bytes(&content);
    struct cap_source source = cap_source_memory(&bytes);
    struct cap_body wire;
    assert_cap_ok(cap_pack_finish(pack, &source, &wire));
    assert_int_equal(wire.segment_count, 2);
    assert_true(wire.memory.len < PAGE);
    cap_body_free(&wire);
    cap_pack_free(pack);
    cap_buf_free(&content);
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        uint64_t size;
        uint64_t end; /* of the content, or 0 for none */
        uint64_t wanted;
    } cases[] = {
        {0, 0, 4096},
        {1, 0, 4096},
        {4096, 0, 4096},
        {4097, 0, 8192},
        {0, 1, 4096},
        {0, 4096, 4096},
        {0, 4097, 8192},
        {4096, 4097, 8192},
        {100000, 1, 102400},
        {MAX_SIZE, 1, MAX_SIZE},
        {MAX_SIZE - 1, 0, MAX_SIZE},
        {0, UINT64_C(1) << 44, UINT64_C(1) << 44},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cap_pack *pack = new_pack();
        assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("d"), cases[i].size));
        if (cases[i].end) {
            assert_cap_ok(cap_pack_content(pack, cases[i].end - 1, 0, 1));
        }
        struct packed packed = finish(pack, bytes_of("x"));
        uint32_t page = (uint32_t)((cases[i].end - 1) / PAGE);
        uint32_t len = (uint32_t)((cases[i].end - 1) % PAGE + 1);
        const uint32_t refs[1][3] = {{page, 0, len}};
        assert_slot(&packed, 0, cases[i].wanted, refs, cases[i].end != 0);
        cap_buf_free(&packed.bytes);
    }
}

/* --- Refusals --------------------------------------------------------------------------------- */

static void test_bad_content(void **state)
{
    (void)state;
    struct cap_pack *pack = new_pack();
    assert_cap_error(cap_pack_content(pack, 0, 0, 1), CAP_E_INVALID_ARGUMENT);
    const struct cap_hash hash = {{0}};
    assert_cap_ok(cap_pack_image(pack, bytes_of("i"), &hash));
    assert_cap_error(cap_pack_content(pack, 0, 0, 1), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("d"), MAX_SIZE + 1),
                     CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_pack_content(pack, 0, 0, 1), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("d"), 0));
    assert_cap_ok(cap_pack_content(pack, 10, 0, 0));
    assert_cap_ok(cap_pack_content(pack, 5, 0, 2));
    assert_cap_error(cap_pack_content(pack, 6, 0, 1), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_pack_content(pack, 0, 0, 1), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_pack_content(pack, MAX_SIZE, 0, 1), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_pack_content(pack, 7, 0, UINT64_MAX), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_pack_content(pack, 7, UINT64_MAX, 1), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(cap_pack_content(pack, 7, 2, 1));
    struct packed packed = finish(pack, bytes_of("xyz"));
    assert_slot(&packed, 1, PAGE, (const uint32_t[][3]){{0, 0, 8}}, 1);
    cap_buf_free(&packed.bytes);
}

/* A new slot begins its own content: an address below the last slot's is fine. */
static void test_slots_are_apart(void **state)
{
    (void)state;
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("a"), 0));
    assert_cap_ok(cap_pack_content(pack, 5, 0, 1));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("b"), 0));
    assert_cap_ok(cap_pack_content(pack, 6, 1, 1));
    struct packed packed = finish(pack, bytes_of("xy"));
    assert_slot(&packed, 0, PAGE, (const uint32_t[][3]){{0, 0, 6}}, 1);
    assert_slot(&packed, 1, PAGE, (const uint32_t[][3]){{0, 6, 7}}, 1);
    cap_buf_free(&packed.bytes);
}

static void test_repeated(void **state)
{
    (void)state;
    const struct cap_hash hash = {{0}};
    const struct cap_register twice[] = {{3, 1}, {1, 1}, {3, 2}};
    struct cap_bytes none = {0};
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("k"), 0));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("a"), 0));
    assert_cap_ok(cap_pack_image(pack, bytes_of("k"), &hash));
    assert_cap_error(finish_error(pack, none), CAP_E_SSZ);
    pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of(""), 0));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of(""), 0));
    assert_cap_error(finish_error(pack, none), CAP_E_SSZ);
    pack = new_pack();
    assert_cap_ok(cap_pack_endpoint(pack, bytes_of("e"), 0, 0, 0, NULL, 0));
    assert_cap_ok(cap_pack_endpoint(pack, bytes_of("e"), 1, 0, 0, NULL, 0));
    assert_cap_error(finish_error(pack, none), CAP_E_SSZ);
    pack = new_pack();
    assert_cap_ok(cap_pack_endpoint(pack, bytes_of("e"), 0, 0, 0, twice, 3));
    assert_cap_error(finish_error(pack, none), CAP_E_SSZ);
    /* One key in both tables is not an error. */
    pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("k"), 0));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("k"), 0));
    struct packed packed = finish(pack, none);
    cap_buf_free(&packed.bytes);
}

/* What the deblob refuses is packed all the same: the refusal is the deblob's to word. */
static void test_left_to_the_deblob(void **state)
{
    (void)state;
    const struct cap_register past[] = {{CAP_NUM_REGS, 1}};
    struct cap_source none = {0};
    struct cap_body wire;
    struct cap_wire_image image;
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_endpoint(pack, bytes_of("e"), 0, 0, 0, past, 1));
    assert_cap_ok(cap_pack_mapping(pack, 0, 0, NULL, 0));
    assert_cap_ok(cap_pack_finish(pack, &none, &wire));
    cap_pack_free(pack);
    assert_cap_error(cap_deblob(cap_buf_bytes(&wire.memory), wire.len, &image, NULL),
                     CAP_E_REGISTER_INDEX_OUT_OF_RANGE);
    cap_body_free(&wire);
}

static void test_too_large(void **state)
{
    (void)state;
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("d"), 0));
    assert_cap_ok(cap_pack_content(pack, UINT64_C(1) << 44, 0, 1));
    assert_cap_error(finish_error(pack, bytes_of("x")), CAP_E_BODY_TOO_LARGE);
    pack = new_pack();
    cap_pack_code(pack, 0, UINT64_C(1) << 32);
    assert_cap_error(finish_error(pack, bytes_of("x")), CAP_E_BODY_TOO_LARGE);
    pack = new_pack();
    cap_pack_code(pack, 0, UINT64_MAX);
    assert_cap_error(finish_error(pack, bytes_of("x")), CAP_E_BODY_TOO_LARGE);
}

static enum cap_error failing_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    unsigned *left = ctx;
    (void)offset;
    if (*left == 0) {
        return CAP_E_IO;
    }
    --*left;
    memset(dst, 1 + (int)*left, len);
    return CAP_OK;
}

/* The source fails at its first read, its second …, until all three are done. */
static void test_source_fails(void **state)
{
    (void)state;
    for (unsigned reads = 0; reads <= 3; reads++) {
        unsigned left = reads;
        struct cap_source source = {.read = failing_read, .ctx = &left};
        struct cap_body wire = {0};
        struct cap_pack *pack = new_pack();
        assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, bytes_of("d"), 0));
        assert_cap_ok(cap_pack_content(pack, 0, 0, PAGE));
        assert_cap_ok(cap_pack_content(pack, PAGE, 9 * PAGE, 1));
        assert_cap_ok(cap_pack_content(pack, PAGE + 5, 0, 1));
        enum cap_error error = cap_pack_finish(pack, &source, &wire);
        assert_cap_error(error, reads < 3 ? CAP_E_IO : CAP_OK);
        cap_body_free(&wire);
        cap_pack_free(pack);
    }
}

/* --- All the way ------------------------------------------------------------------------------ */

/* Pack, deblob, Data cap, view: what is read is what was packed. */
static void test_round_trip(void **state)
{
    (void)state;
    struct cap_buf content = {0};
    assert_cap_ok(cap_buf_append_zeros(&content, 20 * PAGE + 123));
    for (size_t i = 0; i < content.len; i++) {
        if (i / PAGE % 4 != 2) {
            content.data[i] = (uint8_t)(i / PAGE % 3 + i % PAGE / 1024);
        }
    }
    struct cap_pack *pack = new_pack();
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, bytes_of("d"), UINT64_C(1) << 40));
    assert_cap_ok(cap_pack_content(pack, 3 * PAGE, 0, content.len));
    struct packed packed = finish(pack, cap_buf_bytes(&content));

    struct cap_source arena = cap_source_memory(&packed.arena);
    struct cap_wire_slot slot;
    struct cap_data data;
    struct cap_data_view view;
    cap_wire_slot_at(&packed.image, 0, &slot);
    assert_cap_ok(cap_data_from_desc(&slot.desc, &arena, UINT64_MAX, NULL, &data));
    struct cap_buf body = {0};
    assert_cap_ok(cap_buf_append_zeros(&body, (size_t)data.body.len));
    assert_cap_ok(cap_body_read(&data.body, &arena, 0, body.data, body.len));
    assert_cap_ok(cap_data_view_decode(cap_buf_bytes(&body), body.len, &view));
    uint8_t *read = test_exact_copy(content.data, content.len);
    memset(read, 0xee, content.len);
    cap_data_read(&view, cap_buf_bytes(&body), 3 * PAGE, read, content.len);
    assert_memory_equal(read, content.data, content.len);
    enum cap_kind kind;
    struct cap_hash hash;
    assert_cap_ok(cap_body_hash(cap_buf_bytes(&body), &kind, &hash));
    assert_hash_equal(&hash, &data.hash);
    free(read);
    cap_buf_free(&body);
    cap_data_free(&data);
    cap_buf_free(&packed.bytes);
    cap_buf_free(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_shares_across_slots),
        cmocka_unit_test(test_code_exact),
        cmocka_unit_test(test_codeless),
        cmocka_unit_test(test_pieces_equal_flat),
        cmocka_unit_test(test_runs_are_not_copied),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bad_content),
        cmocka_unit_test(test_slots_are_apart),
        cmocka_unit_test(test_repeated),
        cmocka_unit_test(test_left_to_the_deblob),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_source_fails),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
