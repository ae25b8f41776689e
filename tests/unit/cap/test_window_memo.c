#include "tests/unit/support.h"

#include "lib/cap/window_memo.h"

static struct cap_window numbered(uint32_t number)
{
    struct cap_window window = {.used = number};
    cap_store32(window.root.bytes, number);
    return window;
}

static void test_remembers(void **state)
{
    (void)state;
    struct cap_window_memo *memo;
    struct cap_window window = numbered(7);
    struct cap_window got;
    assert_cap_ok(cap_window_memo_new(1, &memo));
    assert_false(cap_window_memo_find(memo, 0, 1, &got));
    cap_window_memo_keep(memo, 0, 1, &window);
    assert_true(cap_window_memo_find(memo, 0, 1, &got));
    assert_int_equal(got.used, 7);
    assert_hash_equal(&got.root, &window.root);
    assert_false(cap_window_memo_find(memo, 0, 2, &got));
    assert_false(cap_window_memo_find(memo, 1, 1, &got));
    cap_window_memo_free(memo);
    cap_window_memo_free(NULL);
}

/* More windows than there is room for: some are forgotten, none is taken for another. */
static void test_forgets_rather_than_grow(void **state)
{
    (void)state;
    struct cap_window_memo *memo;
    struct cap_window got;
    size_t found = 0;
    assert_cap_ok(cap_window_memo_new(64, &memo));
    for (uint32_t i = 1; i <= 1000; i++) {
        struct cap_window window = numbered(i);
        cap_window_memo_keep(memo, i, i, &window);
        assert_true(cap_window_memo_find(memo, i, i, &got));
    }
    for (uint32_t i = 1; i <= 1000; i++) {
        if (cap_window_memo_find(memo, i, i, &got)) {
            found++;
            assert_int_equal(got.used, i);
        }
    }
    assert_true(found >= 1 && found <= 64);
    cap_window_memo_free(memo);
}

static void test_size(void **state)
{
    (void)state;
    assert_true(cap_window_memo_size(0) >= sizeof(struct cap_window));
    for (uint64_t refs = 4; refs < 1000; refs++) {
        assert_true(cap_window_memo_size(refs) <= 16 + 48 * refs);
    }
    assert_true(cap_window_memo_size(UINT64_MAX) <= 3u << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remembers),
        cmocka_unit_test(test_forgets_rather_than_grow),
        cmocka_unit_test(test_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
