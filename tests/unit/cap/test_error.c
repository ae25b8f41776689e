#include "tests/unit/support.h"

static const enum cap_error all_errors[] = {
#define ERROR_VALUE(NAME, code, name, text) CAP_E_##NAME,
    CAP_ERRORS(ERROR_VALUE)
#undef ERROR_VALUE
};

#define ERROR_COUNT (sizeof(all_errors) / sizeof(all_errors[0]))

static void codes_and_names_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < ERROR_COUNT; i++) {
        assert_true(all_errors[i] < 0 && all_errors[i] >= -UINT16_MAX);
        assert_true(strlen(cap_error_text(all_errors[i])) > 0);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(all_errors[i], all_errors[j]);
            assert_string_not_equal(cap_error_name(all_errors[i]), cap_error_name(all_errors[j]));
        }
    }
}

static void codes_survive_the_wire(void **state)
{
    (void)state;
    for (size_t i = 0; i < ERROR_COUNT; i++) {
        assert_int_equal(cap_error_from_code((unsigned)-all_errors[i]), all_errors[i]);
    }
    assert_int_equal(cap_error_from_code(0), CAP_E_INTERNAL);
    assert_int_equal(cap_error_from_code(13), CAP_E_INTERNAL);
    assert_int_equal(cap_error_from_code(65535), CAP_E_INTERNAL);
    assert_int_equal(cap_error_from_code(UINT32_MAX), CAP_E_INTERNAL);
    assert_int_equal(cap_error_from_code((unsigned)CAP_E_SSZ), CAP_E_INTERNAL);
}

/* Published numbers and words: peers of other versions know them. */
static void some_are_pinned(void **state)
{
    (void)state;
    assert_int_equal(CAP_E_SSZ, -1);
    assert_int_equal(CAP_E_UNRESOLVED_SLOT, -12);
    assert_int_equal(CAP_E_HASH_MISMATCH, -21);
    assert_int_equal(CAP_E_NO_MEMORY, -40);
    assert_int_equal(CAP_E_NOT_FOUND, -60);
    assert_int_equal(CAP_E_BAD_FRAME, -80);
    assert_string_equal(cap_error_name(CAP_OK), "ok");
    assert_string_equal(cap_error_name(CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE),
                        "data_page_index_out_of_range");
    assert_string_equal(cap_error_text(CAP_OK), "no error");
}

static void strangers_are_internal(void **state)
{
    (void)state;
    assert_string_equal(cap_error_name((enum cap_error) - 13), "internal");
    assert_string_equal(cap_error_text((enum cap_error) - 13), cap_error_text(CAP_E_INTERNAL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_and_names_are_unique),
        cmocka_unit_test(codes_survive_the_wire),
        cmocka_unit_test(some_are_pinned),
        cmocka_unit_test(strangers_are_internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
