#include "lib/cap/deblob.h"
#include "lib/cap/layout.h"
#include "tests/unit/cap/build_image.h"
#include "tests/unit/support.h"

static uint8_t arena_bytes[8192];

/* The served body of a wire Image, which is freed; slot i resolves to the hash that begins with
 * i + 1. */
static struct cap_buf body_of(struct test_image *tree)
{
    struct cap_buf upload = node_encode(tree->root, NULL);
    struct cap_bytes arena = {arena_bytes, sizeof(arena_bytes)};
    struct cap_source source = cap_source_memory(&arena);
    struct cap_hash hashes[16] = {{{0}}};
    struct cap_wire_image wire;
    struct cap_image image;
    struct cap_buf body = {0};
    for (uint8_t i = 0; i < 16; i++) {
        hashes[i].bytes[0] = (uint8_t)(i + 1);
    }
    assert_cap_ok(cap_deblob(cap_buf_bytes(&upload), upload.len + arena.len, &wire, NULL));
    assert_true(cap_wire_slot_count(&wire) <= 16);
    assert_cap_ok(cap_image_from_wire(&wire, hashes, &source, &image));
    assert_cap_ok(cap_buf_append_zeros(&body, (size_t)image.body.len));
    assert_cap_ok(cap_body_read(&image.body, &source, 0, body.data, body.len));
    cap_image_free(&image);
    cap_buf_free(&upload);
    test_image_free(tree);
    return body;
}

static struct node *path(struct test_image *tree, uint64_t start, uint64_t size, const char *key)
{
    return node_add(test_image_mapping(tree, start, size), test_key(key));
}

static struct test_image with_slots(void)
{
    struct test_image tree = test_image_new();
    test_image_data(&tree, CAP_TABLE_PINNED, "both", 4096);
    test_image_data(&tree, CAP_TABLE_PINNED, "ro", 4096);
    test_image_data(&tree, CAP_TABLE_INITIAL, "both", 4096);
    test_image_data(&tree, CAP_TABLE_INITIAL, "rw", 4096);
    return tree;
}

/* --- Cutting the code out --------------------------------------------------------------------- */

/* What is left is the body of the same Image without code. */
static void cut_of(uint32_t code_len)
{
    struct test_image with = with_slots();
    struct test_image without = with_slots();
    path(&with, CAP_DATA_BASE, 4096, "ro");
    path(&without, CAP_DATA_BASE, 4096, "ro");
    test_image_set_code(&with, 7, code_len);
    struct cap_buf body = body_of(&with);
    struct cap_buf wanted = body_of(&without);
    struct cap_buf cut = {0};
    uint64_t found = UINT64_MAX;
    assert_cap_ok(cap_buf_append(&cut, body.data, CAP_IMAGE_FRONT));
    assert_cap_ok(cap_image_cut_code(cut.data, body.len, &found));
    assert_true(found == code_len);
    size_t after = CAP_IMAGE_FRONT + code_len;
    assert_cap_ok(cap_buf_append(&cut, body.data + after, body.len - after));
    assert_int_equal(cut.len, wanted.len);
    assert_memory_equal(cut.data, wanted.data, wanted.len);
    cap_buf_free(&cut);
    cap_buf_free(&body);
    cap_buf_free(&wanted);
}

static void test_cut(void **state)
{
    (void)state;
    cut_of(0);
    cut_of(1);
    cut_of(5000);
}

static void test_cut_refuses_what_is_not_an_image(void **state)
{
    (void)state;
    struct test_image tree = with_slots();
    test_image_set_code(&tree, 0, 100);
    struct cap_buf body = body_of(&tree);
    uint64_t code_len;
    uint8_t front[CAP_IMAGE_FRONT];
    /* The selector, then each offset: the first too large, the second too small or past the end,
     * the others before the code's end. */
    static const struct {
        size_t at;
        uint32_t value;
    } bad[] = {{1, 33}, {1, 0}, {5, 31}, {5, UINT32_MAX}, {9, 131}, {29, 0}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(front, body.data, sizeof(front));
        cap_store32(front + bad[i].at, bad[i].value);
        assert_cap_error(cap_image_cut_code(front, body.len, &code_len), CAP_E_BODY_NOT_CANONICAL);
    }
    memcpy(front, body.data, sizeof(front));
    assert_cap_error(cap_image_cut_code(front, CAP_IMAGE_FRONT - 1, &code_len),
                     CAP_E_BODY_NOT_CANONICAL);
    front[0] = CAP_KIND_DATA;
    assert_cap_error(cap_image_cut_code(front, body.len, &code_len), CAP_E_BODY_NOT_CANONICAL);
    cap_buf_free(&body);
}

/* --- Mappings --------------------------------------------------------------------------------- */

static void assert_placed(const struct cap_placed *placed, uint64_t start, uint64_t end,
                          size_t index, bool read_only)
{
    assert_true(placed->start == start);
    assert_true(placed->end == end);
    assert_int_equal(placed->index, index);
    assert_int_equal(placed->read_only, read_only);
}

static void test_order_and_read_only(void **state)
{
    (void)state;
    struct test_image tree = with_slots();
    path(&tree, 0x30000000, 8, "rw");
    path(&tree, 0x10000000, 4096, "rw"); /* read-only by the mapping 2^32 above it */
    path(&tree, 0x30000000, 16, "ro");   /* so is the first one, by this one */
    path(&tree, UINT64_C(0x110000000), 4096, "ro");
    path(&tree, 0x20000000, 4096, "rw");
    path(&tree, UINT64_MAX - 4095, 8192, "nowhere");
    struct cap_buf body = body_of(&tree);
    struct cap_image_view view;
    struct cap_layout layout;
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&body), &view));
    assert_cap_ok(cap_layout_make(&view, &layout));
    assert_int_equal(layout.count, 6);
    assert_placed(&layout.mappings[0], 0x10000000, 0x10001000, 1, true);
    assert_placed(&layout.mappings[1], 0x20000000, 0x20001000, 4, false);
    assert_placed(&layout.mappings[2], 0x30000000, 0x30000008, 0, true);
    assert_placed(&layout.mappings[3], 0x30000000, 0x30000010, 2, true);
    assert_placed(&layout.mappings[4], UINT64_C(0x110000000), UINT64_C(0x110001000), 3, true);
    assert_placed(&layout.mappings[5], UINT64_MAX - 4095, UINT64_MAX, 5, false);
    for (size_t i = 0; i < layout.count; i++) {
        bool read_only;
        assert_cap_ok(cap_image_mapping_read_only(&view, layout.mappings[i].start, &read_only));
        assert_int_equal(read_only, layout.mappings[i].read_only);
    }
    cap_layout_free(&layout);
    cap_layout_free(&layout);
    cap_layout_free(NULL);
    cap_buf_free(&body);
}

static void test_no_mappings(void **state)
{
    (void)state;
    struct test_image tree = test_image_new();
    struct cap_buf body = body_of(&tree);
    struct cap_image_view view;
    struct cap_layout layout;
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&body), &view));
    assert_cap_ok(cap_layout_make(&view, &layout));
    assert_int_equal(layout.count, 0);
    cap_layout_free(&layout);
    cap_buf_free(&body);
}

/* Which slot the mapping at `index` shows: its hash's first byte, 0 for none. */
static uint8_t memory_of(const struct cap_image_view *view, size_t index, enum cap_table *ret_table)
{
    struct cap_mapping mapping;
    struct cap_slot slot;
    cap_mapping_at(&view->mappings, index, &mapping);
    return cap_image_mapping_memory(view, &mapping, ret_table, &slot) ? slot.cap_hash.bytes[0] : 0;
}

/* The last step names the memory, among the Image's own slots and pinned before initial. */
static void test_memory(void **state)
{
    (void)state;
    struct test_image tree = with_slots();
    path(&tree, CAP_DATA_BASE, 1, "rw");
    path(&tree, CAP_DATA_BASE, 1, "both");
    node_add(path(&tree, CAP_DATA_BASE, 1, "rw"), test_key("ro"));
    node_add(path(&tree, CAP_DATA_BASE, 1, "ro"), test_key("elsewhere"));
    struct cap_buf body = body_of(&tree);
    struct cap_image_view view;
    enum cap_table table;
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&body), &view));
    assert_int_equal(memory_of(&view, 0, &table), 4);
    assert_int_equal(table, CAP_TABLE_INITIAL);
    assert_int_equal(memory_of(&view, 1, &table), 1);
    assert_int_equal(table, CAP_TABLE_PINNED);
    assert_int_equal(memory_of(&view, 2, &table), 2);
    assert_int_equal(table, CAP_TABLE_PINNED);
    assert_int_equal(memory_of(&view, 3, &table), 0);
    cap_buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_cut_refuses_what_is_not_an_image),
        cmocka_unit_test(test_order_and_read_only),
        cmocka_unit_test(test_no_mappings),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
