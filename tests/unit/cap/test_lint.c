#include <stdio.h>

#include "lib/cap/deblob.h"
#include "lib/cap/lint.h"
#include "tests/unit/cap/build_image.h"
#include "tests/unit/support.h"

#define MAX_WARNINGS 16u

/* What lint reported, each as one line: name, key in hex or -, index, other, value. */
struct report {
    size_t count;
    char lines[MAX_WARNINGS][120];
};

static void collect(void *ctx, const struct cap_warning *warning)
{
    struct report *report = ctx;
    char key[41] = "-";
    char index[32] = "-";
    assert_true(report->count < MAX_WARNINGS);
    if (warning->has_key) {
        cap_hex_format(warning->key, key);
    }
    if (warning->has_index) {
        (void)snprintf(index, sizeof(index), "%zu,%zu", warning->index, warning->other_index);
    }
    (void)snprintf(report->lines[report->count++], sizeof(report->lines[0]), "%s %s %s %llx",
                   cap_warning_name(warning->reason), key, index,
                   (unsigned long long)warning->value);
    assert_true(strlen(cap_warning_text(warning->reason)) > 0);
}

static enum cap_error read_zeros(void *ctx, uint64_t offset, void *dst, size_t len)
{
    (void)ctx;
    (void)offset;
    memset(dst, 0, len);
    return CAP_OK;
}

/* Slot i of the wire Image has resolved to the hash that begins with i + 1. */
struct cap_check {
    struct report report; /* the first member: collect() is handed the whole */
    const struct cap_wire_image *wire;
};

static enum cap_error size_of(void *ctx, const struct cap_hash *hash, bool *ret_known,
                              uint64_t *ret_size)
{
    const struct cap_check *check = ctx;
    struct cap_wire_slot slot;
    cap_wire_slot_at(check->wire, hash->bytes[0] - 1u, &slot);
    *ret_known = slot.kind == CAP_KIND_DATA;
    *ret_size = slot.desc.size == 0 ? 4096 : slot.desc.size;
    return CAP_OK;
}

/* The cap that a wire Image becomes has the same warnings but for the arena's. */
static void lint_cap(const struct cap_wire_image *wire, const struct report *wanted)
{
    struct cap_hash hashes[16] = {{{0}}};
    struct cap_source zeros = {.read = read_zeros};
    struct cap_image image;
    struct cap_image_view view;
    struct cap_buf body = {0};
    struct cap_check check = {.wire = wire};
    assert_true(cap_wire_slot_count(wire) <= 16);
    for (uint8_t i = 0; i < 16; i++) {
        hashes[i].bytes[0] = (uint8_t)(i + 1);
    }
    assert_cap_ok(cap_image_from_wire(wire, hashes, &zeros, &image));
    assert_cap_ok(cap_buf_append_zeros(&body, (size_t)image.body.len));
    assert_cap_ok(cap_body_read(&image.body, &zeros, 0, body.data, body.len));
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&body), &view));
    assert_cap_ok(cap_lint_cap(&view, wire->code_len, size_of, collect, &check));
    size_t count = 0;
    for (size_t i = 0; i < wanted->count; i++) {
        if (strncmp(wanted->lines[i], "arena_unused", strlen("arena_unused")) != 0) {
            assert_string_equal(check.report.lines[count], wanted->lines[i]);
            count++;
        }
    }
    assert_int_equal(check.report.count, count);
    cap_buf_free(&body);
    cap_image_free(&image);
}

/* Encodes and frees the tree; its arena counts as `arena_len` bytes long. */
static struct report lint(struct test_image *image, uint64_t arena_len)
{
    struct cap_buf bytes = node_encode(image->root, NULL);
    struct report report = {0};
    struct cap_wire_image view;
    assert_cap_ok(cap_deblob(cap_buf_bytes(&bytes), bytes.len + arena_len, &view, NULL));
    assert_cap_ok(cap_lint(&view, collect, &report));
    lint_cap(&view, &report);
    cap_buf_free(&bytes);
    test_image_free(image);
    return report;
}

static void assert_lines(const struct report *report, const char *const *wanted, size_t count)
{
    for (size_t i = 0; i < count && i < report->count; i++) {
        assert_string_equal(report->lines[i], wanted[i]);
    }
    assert_int_equal(report->count, count);
}

#define assert_report(image, arena_len, ...)                                                       \
    do {                                                                                           \
        const char *const wanted_[] = {"", __VA_ARGS__};                                           \
        struct report report_ = lint(image, arena_len);                                            \
        assert_lines(&report_, wanted_ + 1, sizeof(wanted_) / sizeof(wanted_[0]) - 1);             \
    } while (0)

static void add_mapping(struct test_image *image, uint64_t start, uint64_t size, const char *slot)
{
    node_add(test_image_mapping(image, start, size), test_key(slot));
}

/* An image with a data slot "d" as large as can be: its mappings are never too large. */
static struct test_image with_slot(void)
{
    struct test_image image = test_image_new();
    test_image_data(&image, CAP_TABLE_INITIAL, "d", UINT64_MAX - 4095);
    return image;
}

static void nothing_to_say(void **state)
{
    struct test_image image = test_image_new();
    (void)state;
    assert_int_equal(lint(&image, 0).count, 0);
    image = test_image_full();
    image.arena->bytes.len = 0;
    assert_int_equal(lint(&image, 5000).count, 0);
}

static void mappings_out_of_range(void **state)
{
    struct test_image image = with_slot();
    (void)state;
    add_mapping(&image, CAP_DATA_BASE - 4096, 4096, "d");
    add_mapping(&image, CAP_DATA_BASE, 4096, "d");
    add_mapping(&image, UINT32_MAX - 4095, 4096, "d");     /* up to 4 GiB */
    add_mapping(&image, UINT32_MAX - 4096 - 4095, 0, "d"); /* empty */
    add_mapping(&image, UINT64_C(1) << 32, 1, "d");        /* after it */
    add_mapping(&image, UINT64_MAX, 2, "d");               /* overflows */
    add_mapping(&image, 0, 0, "d");
    assert_report(&image, 0, "mapping_out_of_range - 0,0 ffff000",
                  "mapping_out_of_range - 4,0 100000000",
                  "mapping_out_of_range - 5,0 ffffffffffffffff", "mapping_out_of_range - 6,0 0");
}

static void mappings_that_overlap(void **state)
{
    struct test_image image = with_slot();
    (void)state;
    add_mapping(&image, 0x10004000, 0x1000, "d"); /* within the next */
    add_mapping(&image, 0x10000000, 0x8000, "d");
    add_mapping(&image, 0x10001000, 0x1000, "d"); /* also inside: its end is not the furthest */
    add_mapping(&image, 0x10008000, 0x1000, "d"); /* touches, no more */
    add_mapping(&image, 0x10004000, 0, "d");      /* empty */
    add_mapping(&image, 0x20000000, 0x1000, "d");
    add_mapping(&image, 0x20000000, 0x1000, "d"); /* the same twice */
    assert_report(&image, 0, "mappings_overlap - 2,1 10001000", "mappings_overlap - 0,1 10004000",
                  "mappings_overlap - 6,5 20000000");
}

static void overlaps_at_the_last_address(void **state)
{
    struct test_image image = with_slot();
    (void)state;
    add_mapping(&image, UINT64_MAX, 9, "d");
    add_mapping(&image, UINT64_MAX, 1, "d");
    assert_report(&image, 0, "mapping_out_of_range - 0,0 ffffffffffffffff",
                  "mapping_out_of_range - 1,0 ffffffffffffffff",
                  "mappings_overlap - 1,0 ffffffffffffffff");
}

static void sources_that_are_no_slots(void **state)
{
    static const char *const slots[] = {"b", "d", "f", "h"};
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "", "bb"};
    struct test_image image = test_image_new();
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        test_image_data(&image, i < 1 ? CAP_TABLE_PINNED : CAP_TABLE_INITIAL, slots[i], 4096);
    }
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        add_mapping(&image, CAP_DATA_BASE + 4096 * i, 4096, keys[i]);
    }
    assert_report(&image, 0, "source_not_a_slot 61 0,0 10000000",
                  "source_not_a_slot 63 2,0 10002000", "source_not_a_slot 65 4,0 10004000",
                  "source_not_a_slot 67 6,0 10006000", "source_not_a_slot 69 8,0 10008000",
                  "source_not_a_slot  9,0 10009000", "source_not_a_slot 6262 10,0 1000a000");
}

static void mappings_larger_than_their_data(void **state)
{
    struct test_image image = test_image_new();
    struct cap_hash hash = {{1}};
    (void)state;
    test_image_data(&image, CAP_TABLE_PINNED, "a", 4096);
    test_image_data(&image, CAP_TABLE_INITIAL, "a", 1 << 20); /* the pinned one counts */
    test_image_data(&image, CAP_TABLE_INITIAL, "z", 0);       /* one page */
    test_image_pinned_image(&image, "i", &hash);
    add_mapping(&image, 0x10000000, 4096, "a");
    add_mapping(&image, 0x20000000, 4097, "a");
    add_mapping(&image, 0x30000000, 4096, "z");
    add_mapping(&image, 0x40000000, 8192, "z");
    add_mapping(&image, 0x50000000, 8192, "i");
    node_add(node_add(test_image_mapping(&image, 0x60000000, 8192), test_key("a")),
             test_key("deeper"));
    node_add(node_add(test_image_mapping(&image, 0x70000000, 8192), test_key("a")),
             test_key("z")); /* the last step names the memory */
    assert_report(&image, 0, "mapping_larger_than_data 61 1,0 20000000",
                  "mapping_larger_than_data 7a 3,0 40000000",
                  "mapping_larger_than_data 7a 6,0 70000000", "slot_in_both_tables 61 - 0");
}

static void slots_in_both_tables(void **state)
{
    static const char *const pinned[] = {"", "a", "c", "e"};
    static const char *const initial[] = {"", "b", "c", "d", "f"};
    struct test_image image = test_image_new();
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        test_image_data(&image, CAP_TABLE_PINNED, pinned[i], 4096);
    }
    for (size_t i = 0; i < 5; i++) {
        test_image_data(&image, CAP_TABLE_INITIAL, initial[i], 4096);
    }
    assert_report(&image, 0, "slot_in_both_tables  - 0", "slot_in_both_tables 63 - 0");
}

static void entries_outside_of_the_code(void **state)
{
    struct test_image image = test_image_new();
    (void)state;
    test_image_set_code(&image, 0, 16);
    test_image_endpoint(&image, "a", 0);
    test_image_endpoint(&image, "b", 15);
    test_image_endpoint(&image, "c", 16);
    test_image_endpoint(&image, "d", CAP_CODE_BASE - 1);
    test_image_endpoint(&image, "e", CAP_CODE_BASE);
    test_image_endpoint(&image, "f", CAP_CODE_BASE + 15);
    test_image_endpoint(&image, "g", CAP_CODE_BASE + 16);
    test_image_endpoint(&image, "h", UINT64_MAX);
    assert_report(&image, 16, "entry_outside_code 63 - 10", "entry_outside_code 64 - 3fffff",
                  "entry_outside_code 67 - 400010", "entry_outside_code 68 - ffffffffffffffff");
    image = test_image_new();
    test_image_endpoint(&image, "a", 0);
    assert_report(&image, 0, "entry_outside_code 61 - 0");
}

static void unused_arena_bytes(void **state)
{
    struct test_image image = test_image_new();
    (void)state;
    assert_report(&image, 9, "arena_unused - - 9");

    image = test_image_new();
    test_image_set_code(&image, 10, 10); /* [10, 20) */
    struct node *pages = test_image_data(&image, CAP_TABLE_PINNED, "p", 1 << 20);
    test_page(pages, 0, 15, 10); /* to 25 */
    test_page(pages, 1, 15, 2);  /* inside */
    test_page(pages, 2, 25, 5);  /* touches: to 30 */
    pages = test_image_data(&image, CAP_TABLE_INITIAL, "i", 1 << 20);
    test_page(pages, 0, 40, 1);
    test_page(pages, 1, 2, 1);
    assert_report(&image, 50, "arena_unused - - 1c"); /* 50 - 20 - 1 - 1 */

    image = test_image_new();
    pages = test_image_data(&image, CAP_TABLE_INITIAL, "i", 1 << 20);
    test_page(pages, 0, UINT32_MAX, 1);
    assert_report(&image, UINT64_C(1) << 32, "arena_unused - - ffffffff");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_say),
        cmocka_unit_test(mappings_out_of_range),
        cmocka_unit_test(mappings_that_overlap),
        cmocka_unit_test(overlaps_at_the_last_address),
        cmocka_unit_test(sources_that_are_no_slots),
        cmocka_unit_test(mappings_larger_than_their_data),
        cmocka_unit_test(slots_in_both_tables),
        cmocka_unit_test(entries_outside_of_the_code),
        cmocka_unit_test(unused_arena_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
