/* Ranges of pages: what a slice may state, and what a person may type. */
#include "lib/cap/slice.h"

#include "tests/unit/support.h"

#define HUGE_CAP (UINT64_MAX / CAP_PAGE_SIZE)

static void judges(void **state)
{
    (void)state;
    struct {
        struct cap_range ranges[3];
        size_t count;
        uint64_t pages;
        enum cap_error error;
    } cases[] = {
        {{{0, 0}}, 0, 0, CAP_OK},
        {{{0, 1}}, 1, 1, CAP_OK},
        {{{0, 1}}, 1, 0, CAP_E_RANGE_OUT_OF_BODY},
        {{{0, 2}}, 1, 1, CAP_E_RANGE_OUT_OF_BODY},
        {{{1, 1}}, 1, 1, CAP_E_RANGE_OUT_OF_BODY},
        {{{2, UINT64_MAX}}, 1, 10, CAP_E_RANGE_OUT_OF_BODY},
        {{{UINT64_MAX, 1}}, 1, HUGE_CAP, CAP_E_RANGE_OUT_OF_BODY},
        {{{0, HUGE_CAP}}, 1, HUGE_CAP, CAP_OK},
        {{{3, 0}}, 1, 10, CAP_E_INVALID_ARGUMENT},
        {{{0, 1}, {2, 1}}, 2, 3, CAP_OK},
        {{{0, 1}, {1, 1}}, 2, 3, CAP_E_INVALID_ARGUMENT},
        {{{0, 2}, {1, 1}}, 2, 3, CAP_E_INVALID_ARGUMENT},
        {{{2, 1}, {0, 1}}, 2, 3, CAP_E_INVALID_ARGUMENT},
        {{{0, 1}, {2, 3}, {6, 4}}, 3, 10, CAP_OK},
        {{{0, 1}, {2, 3}, {6, 4}}, 3, 9, CAP_E_RANGE_OUT_OF_BODY},
        {{{0, 1}, {2, 3}, {5, 1}}, 3, 10, CAP_E_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_cap_error(cap_ranges_judge(cases[i].ranges, cases[i].count, cases[i].pages),
                         cases[i].error);
    }
}

static void counts_pages(void **state)
{
    (void)state;
    assert_int_equal(cap_slice_page_count(0), 0);
    assert_int_equal(cap_slice_page_count(1), 1);
    assert_int_equal(cap_slice_page_count(4096), 1);
    assert_int_equal(cap_slice_page_count(4097), 2);
    assert_true(cap_slice_page_count(UINT64_MAX) == UINT64_C(1) << 52);
}

static void merges(void **state)
{
    (void)state;
    struct cap_range ranges[] = {{9, 1}, {3, 0}, {0, 2}, {2, 2}, {6, 1}, {6, 2}, {100, UINT64_MAX}};
    assert_int_equal(cap_ranges_merge(ranges, 7), 4);
    static const struct cap_range wanted[] = {{0, 4}, {6, 2}, {9, 1}, {100, UINT64_MAX - 100}};
    assert_memory_equal(ranges, wanted, sizeof(wanted));
    assert_int_equal(cap_ranges_merge(NULL, 0), 0);
}

/* Whatever is typed, what is left is canonical and has the same pages. */
static void merges_any(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        struct cap_range ranges[8];
        bool wanted[48] = {false};
        bool got[48] = {false};
        for (size_t i = 0; i < 8; i++) {
            seed = seed * 1664525 + 1013904223;
            ranges[i] = (struct cap_range){seed >> 16 & 31, seed >> 24 & 7};
            for (uint64_t k = 0; k < ranges[i].pages; k++) {
                wanted[ranges[i].first + k] = true;
            }
        }
        size_t count = cap_ranges_merge(ranges, 8);
        assert_cap_ok(cap_ranges_judge(ranges, count, 48));
        for (size_t i = 0; i < count; i++) {
            for (uint64_t k = 0; k < ranges[i].pages; k++) {
                got[ranges[i].first + k] = true;
            }
        }
        assert_memory_equal(got, wanted, sizeof(wanted));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges),
        cmocka_unit_test(counts_pages),
        cmocka_unit_test(merges),
        cmocka_unit_test(merges_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
