#include "lib/cap/deblob.h"
#include "tests/unit/cap/build_image.h"
#include "tests/unit/support.h"

/*
 * Encodes and frees the tree, then judges it by its head, as if the arena were `arena_len` bytes
 * long. Every refusal has a message and leaves the view alone; without `reterr` the verdict is the
 * same.
 */
static enum cap_error judge(struct test_image *image, uint64_t arena_len,
                            struct cap_refusal *reterr)
{
    struct cap_buf bytes = node_encode(image->root, NULL);
    uint8_t *head = test_exact_copy(bytes.data, bytes.len);
    struct cap_wire_image view = {.total_len = 77};
    struct cap_bytes span = {head, bytes.len};
    *reterr = (struct cap_refusal){0};
    enum cap_error error = cap_deblob(span, bytes.len + arena_len, &view, reterr);
    assert_int_equal(reterr->error, error);
    assert_int_equal(view.total_len, error == CAP_OK ? bytes.len + arena_len : 77);
    assert_int_equal(strlen(reterr->message) > 0, error != CAP_OK);
    assert_cap_error(cap_deblob(span, bytes.len + arena_len, &view, NULL), error);
    free(head);
    cap_buf_free(&bytes);
    test_image_free(image);
    return error;
}

#define assert_judged(image, arena_len, wanted)                                                    \
    do {                                                                                           \
        struct cap_refusal refusal_;                                                               \
        assert_cap_error(judge(image, arena_len, &refusal_), wanted);                              \
    } while (0)

static void a_full_image_is_accepted(void **state)
{
    struct test_image image = test_image_full();
    struct cap_refusal refusal;
    (void)state;
    image.arena->bytes.len = 0;
    assert_cap_ok(judge(&image, 5000, &refusal));
    image = test_image_new();
    assert_cap_ok(judge(&image, 0, &refusal));
}

static void rule_0_names_the_field(void **state)
{
    struct test_image image = test_image_new();
    struct cap_refusal refusal;
    (void)state;
    test_image_data(&image, CAP_TABLE_INITIAL, "b", 4096);
    test_image_data(&image, CAP_TABLE_INITIAL, "a", 4095);
    test_image_set_code(&image, 0, UINT32_MAX); /* rule 1 waits */
    assert_cap_error(judge(&image, 0, &refusal), CAP_E_SSZ);
    assert_string_equal(refusal.message,
                        "initial_slots, entry 1: its key is not greater than the one before");
}

static enum cap_error judge_code(uint32_t off, uint32_t len, uint64_t arena_len)
{
    struct test_image image = test_image_new();
    struct cap_refusal refusal;
    test_image_set_code(&image, off, len);
    return judge(&image, arena_len, &refusal);
}

static void rule_1_code_too_large(void **state)
{
    const uint32_t limit = (uint32_t)CAP_MAX_CODE_SIZE;
    (void)state;
    assert_int_equal(limit, 264241152);
    assert_cap_ok(judge_code(0, limit, limit));
    assert_cap_error(judge_code(0, limit + 1, UINT64_C(1) << 32), CAP_E_CODE_TOO_LARGE);
    assert_cap_error(judge_code(0, limit + 1, 0), CAP_E_CODE_TOO_LARGE); /* before rule 2 */
    assert_cap_error(judge_code(UINT32_MAX, UINT32_MAX, 0), CAP_E_CODE_TOO_LARGE);
}

static void rule_2_code_ref_out_of_range(void **state)
{
    const uint64_t longest = UINT64_C(1) << 32;
    (void)state;
    assert_cap_ok(judge_code(0, 0, 0));
    assert_cap_ok(judge_code(10, 0, 10)); /* empty, at the very end */
    assert_cap_error(judge_code(11, 0, 10), CAP_E_CODE_REF_OUT_OF_RANGE);
    assert_cap_error(judge_code(0, 1, 0), CAP_E_CODE_REF_OUT_OF_RANGE);
    assert_cap_ok(judge_code(3, 7, 10));
    assert_cap_error(judge_code(4, 7, 10), CAP_E_CODE_REF_OUT_OF_RANGE);
    assert_cap_ok(judge_code(UINT32_MAX, 1, longest));
    assert_cap_error(judge_code(UINT32_MAX, 2, longest), CAP_E_CODE_REF_OUT_OF_RANGE);
    assert_cap_error(judge_code(UINT32_MAX, 1, 0), CAP_E_CODE_REF_OUT_OF_RANGE); /* no wrap */
}

/* One data slot with one page reference, in either table. */
static void check_page(uint64_t size, struct cap_page_ref ref, uint64_t arena_len,
                       enum cap_error wanted)
{
    for (int table = 0; table < 2; table++) {
        struct test_image image = test_image_new();
        struct node *pages = test_image_data(&image, (enum cap_table)table, "k", size);
        test_page(pages, ref.page_index, ref.arena_off, ref.len);
        assert_judged(&image, arena_len, wanted);
    }
}

static void rule_3_data_size_not_page_multiple(void **state)
{
    static const struct {
        uint64_t size;
        enum cap_error wanted;
    } rows[] = {
        {0, CAP_OK},
        {1, CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE},
        {4095, CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE},
        {4096, CAP_OK},
        {4097, CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE},
        {UINT64_C(1) << 32, CAP_OK},
        {UINT64_C(1) << 63, CAP_OK},
        {UINT64_MAX - 4095, CAP_OK},
        {UINT64_MAX, CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE},
    };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
        struct test_image image = test_image_new();
        test_image_data(&image, (enum cap_table)(i % 2), "k", rows[i / 2].size);
        assert_judged(&image, 0, rows[i / 2].wanted);
    }
}

static void rules_4_to_6_for_a_page(void **state)
{
    const uint64_t longest = UINT64_C(1) << 32;
    const uint64_t largest = UINT64_MAX - 4095;
    (void)state;
    check_page(4096, (struct cap_page_ref){0, 0, 1}, 1, CAP_OK);
    check_page(4096, (struct cap_page_ref){0, 0, 0}, 1, CAP_E_DATA_BAD_LEN);
    check_page(4096, (struct cap_page_ref){0, 0, 4096}, 4096, CAP_OK);
    check_page(4096, (struct cap_page_ref){0, 0, 4097}, 9999, CAP_E_DATA_BAD_LEN);
    check_page(4096, (struct cap_page_ref){0, 0, UINT32_MAX}, longest, CAP_E_DATA_BAD_LEN);
    check_page(4096, (struct cap_page_ref){0, 1, 4}, 5, CAP_OK);
    check_page(4096, (struct cap_page_ref){0, 2, 4}, 5, CAP_E_DATA_OUT_OF_RANGE);
    check_page(4096, (struct cap_page_ref){0, UINT32_MAX, 1}, longest, CAP_OK);
    check_page(4096, (struct cap_page_ref){0, UINT32_MAX, 2}, longest, CAP_E_DATA_OUT_OF_RANGE);
    check_page(4096, (struct cap_page_ref){0, UINT32_MAX, 2}, 4, CAP_E_DATA_OUT_OF_RANGE);
    check_page(0, (struct cap_page_ref){0, 0, 1}, 1, CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE);
    check_page(4096, (struct cap_page_ref){1, 0, 1}, 1, CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE);
    check_page(8192, (struct cap_page_ref){1, 0, 1}, 1, CAP_OK);
    check_page(UINT64_C(4096) * UINT32_MAX, (struct cap_page_ref){UINT32_MAX, 0, 1}, 1,
               CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE);
    check_page(largest, (struct cap_page_ref){UINT32_MAX, 0, 1}, 1, CAP_OK);
}

/* Of several rules broken by one page the first counts. */
static void rules_3_to_7_in_their_order(void **state)
{
    (void)state;
    check_page(4097, (struct cap_page_ref){9, 9, 0}, 0, CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE);
    check_page(4096, (struct cap_page_ref){9, 9, 0}, 0, CAP_E_DATA_BAD_LEN);
    check_page(4096, (struct cap_page_ref){9, 9, 1}, 0, CAP_E_DATA_OUT_OF_RANGE);
    check_page(4096, (struct cap_page_ref){9, 0, 1}, 1, CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE);
}

static void check_pages(uint32_t first, uint32_t second, enum cap_error wanted)
{
    struct test_image image = test_image_new();
    struct node *pages = test_image_data(&image, CAP_TABLE_INITIAL, "k", UINT64_C(1) << 45);
    test_page(pages, first, 0, 1);
    test_page(pages, second, 0, 1);
    assert_judged(&image, 1, wanted);
}

static void rule_7_data_not_canonical(void **state)
{
    (void)state;
    check_pages(0, 1, CAP_OK);
    check_pages(0, UINT32_MAX, CAP_OK);
    check_pages(0, 0, CAP_E_DATA_NOT_CANONICAL);
    check_pages(1, 0, CAP_E_DATA_NOT_CANONICAL);
    check_pages(UINT32_MAX, 0, CAP_E_DATA_NOT_CANONICAL);
    check_pages(UINT32_MAX, UINT32_MAX, CAP_E_DATA_NOT_CANONICAL);
}

/* Pages are judged one after the other, each by all rules; so are slots, pinned ones first. */
static void the_first_faulty_slot_and_page_count(void **state)
{
    struct test_image image = test_image_new();
    struct cap_refusal refusal;
    (void)state;
    struct node *pages = test_image_data(&image, CAP_TABLE_INITIAL, "k", 4096);
    test_page(pages, 5, 0, 1); /* rule 6 */
    test_page(pages, 0, 0, 0); /* rule 4, but on the page after it */
    assert_cap_error(judge(&image, 1, &refusal), CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE);

    image = test_image_new();
    test_image_data(&image, CAP_TABLE_INITIAL, "a", 1);
    pages = test_image_data(&image, CAP_TABLE_PINNED, "\xff\xfe", 4096);
    test_page(pages, 0, 0, 1);
    test_page(pages, 0, 0, 1);
    test_image_set_code(&image, 0, 1);
    assert_cap_error(judge(&image, 1, &refusal), CAP_E_DATA_NOT_CANONICAL);
    assert_string_equal(refusal.message,
                        "pinned slot 0xfffe, page reference 1 (page 0 at 0 + 1 of the arena): it "
                        "follows page 0; pages must ascend");
}

static void rule_8_register_index_out_of_range(void **state)
{
    static const uint8_t indexes[] = {0, 12, 13, 255};
    (void)state;
    for (size_t i = 0; i < sizeof(indexes); i++) {
        struct test_image image = test_image_new();
        struct cap_refusal refusal;
        test_image_mapping(&image, 0, 0); /* rule 9 waits */
        node_add(image.mappings->children[0]->children[2], test_key("k"));
        test_register(test_image_endpoint(&image, "a", UINT64_MAX), indexes[i], 1);
        assert_cap_error(judge(&image, 0, &refusal),
                         indexes[i] < 13 ? CAP_OK : CAP_E_REGISTER_INDEX_OUT_OF_RANGE);
    }
}

static enum cap_error judge_path(size_t steps, struct cap_refusal *ret_refusal)
{
    struct test_image image = test_image_new();
    struct node *source = test_image_mapping(&image, 1, UINT64_MAX); /* never admission's concern */

    for (size_t i = 0; i < steps; i++) {
        node_add(source, test_key(""));
    }
    return judge(&image, 0, ret_refusal);
}

static void rules_9_and_10_source_paths(void **state)
{
    struct cap_refusal refusal;
    (void)state;
    assert_cap_error(judge_path(0, &refusal), CAP_E_SOURCE_PATH_EMPTY);
    assert_string_equal(refusal.message, "memory mapping 0, at 0x1, has an empty source path");
    for (size_t steps = 1; steps <= CAP_MAX_SOURCE_DEPTH; steps++) {
        assert_cap_ok(judge_path(steps, &refusal));
    }
    assert_cap_error(judge_path(CAP_MAX_SOURCE_DEPTH + 1, &refusal), CAP_E_SOURCE_PATH_TOO_DEEP);
    assert_cap_error(judge_path(1000, &refusal), CAP_E_SOURCE_PATH_TOO_DEEP);
}

static void endpoints_come_before_mappings(void **state)
{
    struct test_image image = test_image_new();
    (void)state;
    test_image_mapping(&image, 0, 0);
    test_register(test_image_endpoint(&image, "a", 0), 13, 1);
    assert_judged(&image, 0, CAP_E_REGISTER_INDEX_OUT_OF_RANGE);

    image = test_image_new();
    test_register(test_image_endpoint(&image, "a", 0), 13, 1);
    test_image_data(&image, CAP_TABLE_INITIAL, "a", 1);
    assert_judged(&image, 0, CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE);
}

static void long_keys_are_cut_in_messages(void **state)
{
    struct test_image image = test_image_new();
    struct cap_refusal refusal;
    char key[1000];
    (void)state;
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    test_image_data(&image, CAP_TABLE_PINNED, key, 1);
    assert_cap_error(judge(&image, 0, &refusal), CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE);
    assert_string_equal(refusal.message, "pinned slot 0x6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b...: "
                                         "size 1 is not a multiple of 4096");
    image = test_image_new();
    test_image_data(&image, CAP_TABLE_PINNED, "", 1);
    assert_cap_error(judge(&image, 0, &refusal), CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE);
    assert_string_equal(refusal.message,
                        "pinned slot (empty key): size 1 is not a multiple of 4096");
}

/* The longest message there is still fits its buffer, with every value at its widest. */
static void the_longest_message_fits(void **state)
{
    static const char key[] = "0123456789abcdef0";
    struct test_image image = test_image_new();
    struct node *pages = test_image_data(&image, CAP_TABLE_INITIAL, key, UINT64_MAX - 4095);
    struct cap_refusal refusal;
    (void)state;
    test_page(pages, UINT32_MAX, UINT32_MAX, 4096);
    assert_cap_error(judge(&image, 4294967295, &refusal), CAP_E_DATA_OUT_OF_RANGE);
    assert_string_equal(refusal.message + strlen(refusal.message) - strlen("bytes long"),
                        "bytes long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_image_is_accepted),
        cmocka_unit_test(rule_0_names_the_field),
        cmocka_unit_test(rule_1_code_too_large),
        cmocka_unit_test(rule_2_code_ref_out_of_range),
        cmocka_unit_test(rule_3_data_size_not_page_multiple),
        cmocka_unit_test(rules_4_to_6_for_a_page),
        cmocka_unit_test(rules_3_to_7_in_their_order),
        cmocka_unit_test(rule_7_data_not_canonical),
        cmocka_unit_test(the_first_faulty_slot_and_page_count),
        cmocka_unit_test(rule_8_register_index_out_of_range),
        cmocka_unit_test(rules_9_and_10_source_paths),
        cmocka_unit_test(endpoints_come_before_mappings),
        cmocka_unit_test(long_keys_are_cut_in_messages),
        cmocka_unit_test(the_longest_message_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
