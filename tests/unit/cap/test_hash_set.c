#include "tests/unit/support.h"

#include "lib/cap/hash_set.h"

#define COUNT 3000u

static struct cap_hash numbered(uint32_t number)
{
    struct cap_hash hash = {{0}};
    cap_store32(hash.bytes + 28, number);
    return hash;
}

static void test_empty(void **state)
{
    (void)state;
    struct cap_hash_set set = {0};
    struct cap_hash hash = numbered(1);
    assert_true(cap_hash_set_find(&set, NULL, &hash) == CAP_HASH_ABSENT);
    cap_hash_set_free(&set);
    cap_hash_set_free(NULL);
}

/* Hashes that share their first 28 bytes. */
static void test_finds_all(void **state)
{
    (void)state;
    struct cap_hash_set set = {0};
    struct cap_hash *hashes = calloc(COUNT, sizeof(*hashes));
    assert_non_null(hashes);
    for (uint32_t i = 0; i < COUNT; i++) {
        hashes[i] = numbered(i);
        assert_true(cap_hash_set_find(&set, hashes, &hashes[i]) == CAP_HASH_ABSENT);
        assert_cap_ok(cap_hash_set_insert(&set, hashes, i));
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(cap_hash_set_find(&set, hashes, &hashes[i]), i);
    }
    struct cap_hash other = numbered(COUNT);
    assert_true(cap_hash_set_find(&set, hashes, &other) == CAP_HASH_ABSENT);
    assert_true(set.capacity >= 2 * (size_t)COUNT && set.capacity <= 8 * (size_t)COUNT);
    cap_hash_set_free(&set);
    free(hashes);
}

/* How many slots a search for each hash looks at in the worst case: its run of taken slots. */
static size_t longest_run(const struct cap_hash_set *set)
{
    size_t longest = 0;
    size_t run = 0;
    for (size_t i = 0; i < 2 * set->capacity; i++) {
        run = set->slots[i % set->capacity] != 0 ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

/*
 * A peer that names hashes may choose every bit of them. None of these patterns may pile up: by
 * chance alone a run of 256 slots of a table that is half full happens once in 10^19 tables.
 */
static void test_chosen_hashes_do_not_pile_up(void **state)
{
    (void)state;
    struct cap_hash *hashes = calloc(COUNT, sizeof(*hashes));
    assert_non_null(hashes);
    for (size_t word = 0; word < 7; word++) {
        struct cap_hash_set set = {0};
        for (uint32_t i = 0; i < COUNT; i++) {
            hashes[i] = (struct cap_hash){{0}};
            cap_store32(hashes[i].bytes + 4 * word, i << 20);
            cap_store32(hashes[i].bytes + 4 * word + 4, i);
            assert_cap_ok(cap_hash_set_insert(&set, hashes, i));
        }
        assert_true(longest_run(&set) < 256);
        cap_hash_set_free(&set);
    }
    free(hashes);
}

static void test_ordinal_limit(void **state)
{
    (void)state;
    struct cap_hash_set set = {0};
    assert_cap_error(cap_hash_set_insert(&set, NULL, UINT32_MAX), CAP_E_NO_MEMORY);
    assert_int_equal(set.used, 0);
    cap_hash_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_finds_all),
        cmocka_unit_test(test_chosen_hashes_do_not_pile_up),
        cmocka_unit_test(test_ordinal_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
