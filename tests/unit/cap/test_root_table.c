#include "tests/unit/support.h"

#include "lib/cap/root_table.h"

#define COUNT 3000u

static struct cap_hash numbered(uint32_t number)
{
    struct cap_hash root = {{0}};
    cap_store32(root.bytes + 28, number);
    return root;
}

static void test_empty(void **state)
{
    (void)state;
    struct cap_root_table table = {0};
    struct cap_hash root = numbered(1);
    assert_true(cap_root_table_find(&table, NULL, &root) == CAP_ROOT_ABSENT);
    cap_root_table_free(&table);
    cap_root_table_free(NULL);
}

/* Roots that share their first 28 bytes all probe from one slot: the worst case is still right. */
static void test_finds_all(void **state)
{
    (void)state;
    struct cap_root_table table = {0};
    struct cap_hash *roots = calloc(COUNT, sizeof *roots);
    assert_non_null(roots);
    for (uint32_t i = 0; i < COUNT; i++) {
        roots[i] = numbered(i);
        assert_true(cap_root_table_find(&table, roots, &roots[i]) == CAP_ROOT_ABSENT);
        assert_cap_ok(cap_root_table_insert(&table, roots, i));
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(cap_root_table_find(&table, roots, &roots[i]), i);
    }
    struct cap_hash other = numbered(COUNT);
    assert_true(cap_root_table_find(&table, roots, &other) == CAP_ROOT_ABSENT);
    assert_true(table.capacity >= 2 * (size_t)COUNT && table.capacity <= 8 * (size_t)COUNT);
    cap_root_table_free(&table);
    free(roots);
}

static void test_ordinal_limit(void **state)
{
    (void)state;
    struct cap_root_table table = {0};
    assert_cap_error(cap_root_table_insert(&table, NULL, UINT32_MAX), CAP_E_BODY_TOO_LARGE);
    assert_int_equal(table.used, 0);
    cap_root_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_finds_all),
        cmocka_unit_test(test_ordinal_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
