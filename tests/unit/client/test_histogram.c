#include "client/capctl/histogram.h"

#include <string.h>

#include "tests/unit/support.h"

static void test_exact_below_the_steps(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    for (uint64_t value = 0; value < HISTOGRAM_STEPS; value++) {
        histogram_add(&histogram, value);
    }
    assert_int_equal(histogram_at(&histogram, 0), 0);
    assert_int_equal(histogram_at(&histogram, 0.5), HISTOGRAM_STEPS / 2);
    assert_int_equal(histogram_at(&histogram, 1), HISTOGRAM_STEPS - 1);
}

/* Whatever the value, what comes back is not below it and at most 1/64 above. */
static void test_error_bound(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        for (uint64_t add = 0; add < 5; add++) {
            uint64_t value = (UINT64_C(1) << bit) + (add * ((UINT64_C(1) << bit) / 5));
            struct histogram histogram = {0};
            histogram_add(&histogram, value);
            histogram.longest = UINT64_MAX; /* or it would be the answer */
            uint64_t got = histogram_at(&histogram, 0.5);
            assert_true(got >= value);
            assert_true(got - value <= value / HISTOGRAM_STEPS);
        }
    }
}

static void test_the_longest_is_exact(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    histogram_add(&histogram, 10);
    histogram_add(&histogram, 1000001);
    assert_int_equal(histogram.longest, 1000001);
    assert_int_equal(histogram_at(&histogram, 0.99), 1000001);
    assert_int_equal(histogram_at(&histogram, 0.4), 10);
}

static void test_merge_and_below(void **state)
{
    (void)state;
    struct histogram one = {0}, other = {0};
    histogram_add(&one, 1000);
    histogram_add(&other, 5000);
    histogram_add(&other, 50);
    histogram_merge(&one, &other);
    assert_int_equal(one.count, 3);
    assert_int_equal(one.longest, 5000);
    assert_int_equal(histogram_below(&one, 50), 0);
    assert_int_equal(histogram_below(&one, 64), 1);
    assert_int_equal(histogram_below(&one, 4096), 2);
    assert_int_equal(histogram_below(&one, 8192), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_below_the_steps),
        cmocka_unit_test(test_error_bound),
        cmocka_unit_test(test_the_longest_is_exact),
        cmocka_unit_test(test_merge_and_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
