/*
 * The walk through a closure: each cap once and after what it refers to, whatever the shape, with
 * memory that is bounded and counted.
 */
#include "tests/unit/support.h"

#include <string.h>

#include "daemon/core/ledger.h"
#include "daemon/serve/walk.h"
#include "tests/unit/store/fixture.h"

#define CAPS   200u /* of the random programs */
#define LEVELS 500u /* of the chain */

/* What a walk gave, in its order. */
struct course {
    struct walk_cap *caps;
    size_t count;
    enum cap_error error; /* how it ended */
    uint64_t held;        /* most that it counted */
};

static struct config config;

static struct ledger *new_ledger(uint64_t max_memory)
{
    struct ledger *ledger = NULL;
    config_init(&config);
    config.max_memory = max_memory;
    assert_cap_ok(ledger_new(&config, env_system(), &ledger));
    return ledger;
}

static uint64_t memory_held(struct ledger *ledger)
{
    struct ledger_figures figures;
    ledger_figures(ledger, &figures);
    return figures.memory;
}

static struct cap_bytes bytes_of(const struct cap_hash *hashes, size_t count)
{
    return (struct cap_bytes){count > 0 ? hashes->bytes : NULL, count * CAP_HASH_SIZE};
}

/* Walks to the end, `budget` at a time, each step in a snapshot of its own. */
static struct course walk_all(struct cap_store *store, struct ledger *ledger,
                              const struct walk_query *query, size_t budget)
{
    struct course course = {.caps = calloc(query->max, sizeof(*course.caps))};
    struct walk *walk = NULL;
    enum walk_step step = WALK_MORE;
    assert_non_null(course.caps);
    course.error = walk_new(ledger, NULL, query, &walk);
    while (course.error == CAP_OK && step != WALK_END) {
        struct cap_read *read = begin_read(store);
        struct walk_cap cap;
        size_t left = budget;
        course.error = walk_next(walk, read, &left, &step, &cap);
        cap_store_read_end(read);
        assert_true(left <= budget);
        if (course.error == CAP_OK && step == WALK_CAP) {
            assert_true(course.count < query->max);
            course.caps[course.count++] = cap;
        }
        if (walk_memory(walk) > course.held) {
            course.held = walk_memory(walk);
        }
        assert_int_equal(memory_held(ledger), walk_memory(walk));
    }
    walk_free(walk);
    assert_int_equal(memory_held(ledger), 0);
    return course;
}

static struct course walk_from(struct cap_store *store, uint64_t root, size_t max, size_t budget)
{
    struct ledger *ledger = new_ledger(64 << 20);
    const struct cap_hash hash = fake_hash(root);
    const struct walk_query query = {.roots = bytes_of(&hash, 1), .max = max};
    struct course course = walk_all(store, ledger, &query, budget);
    ledger_free(ledger);
    return course;
}

/* Where a cap came; `course->count`: it did not. Twice fails the test. */
static size_t place_of(const struct course *course, const struct cap_hash *hash)
{
    size_t found = course->count;
    for (size_t i = 0; i < course->count; i++) {
        if (cap_hash_equal(&course->caps[i].hash, hash)) {
            assert_int_equal(found, course->count);
            found = i;
        }
    }
    return found;
}

/* Each cap comes after what it refers to, but for what the client has. */
static void expect_order(struct cap_store *store, const struct course *course)
{
    struct cap_ref refs[CAPS + 1];
    for (size_t i = 0; i < course->count; i++) {
        assert_int_equal(place_of(course, &course->caps[i].hash), i);
        size_t count = page_refs(store, &course->caps[i].hash, CAP_REFS_OUT, CAPS, refs);
        for (size_t r = 0; r < count; r++) {
            size_t at = place_of(course, &refs[r].hash);
            assert_true(at < i || at == course->count);
        }
    }
}

static uint64_t seeds[LEVELS + 1];
static struct cap_put all_puts[LEVELS + 1];
static struct cap_ref all_refs[LEVELS + 1];

/* Publishes caps 1 to `count` in one admission: cap i refers to `ref_count` others from `first` on,
 * or is Data. */
static void put_caps(struct cap_store *store, uint64_t count,
                     size_t (*refer)(uint64_t seed, uint64_t i, uint64_t *ret_first), uint64_t seed)
{
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t first = 1;
        size_t ref_count = refer(seed, i, &first);
        seeds[i] = i;
        all_refs[i] = (struct cap_ref){fake_hash(i), CAP_REF_PINNED};
        all_puts[i] = ref_count == 0 ? fake_data(&seeds[i], 100) : fake_image(&seeds[i], 100);
        all_puts[i].refs = all_refs + first;
        all_puts[i].ref_count = ref_count;
    }
    assert_cap_ok(put_all(store, all_puts + 1, count));
}

/* About half are Images that refer to some of those before; the last one to all. */
static size_t refer_anyhow(uint64_t seed, uint64_t i, uint64_t *ret_first)
{
    uint64_t random = fake_number(seed * 1000 + i);
    if (i == CAPS + 1) {
        return CAPS;
    }
    if (i < 4 || random % 2 == 0) {
        return 0;
    }
    *ret_first = 1 + (random >> 8) % (i - 1);
    return (size_t)(1 + (random >> 40) % (i - *ret_first));
}

static void put_program(struct cap_store *store, uint64_t seed)
{
    put_caps(store, CAPS + 1, refer_anyhow, seed);
}

static size_t refer_to_last(uint64_t seed, uint64_t i, uint64_t *ret_first)
{
    (void)seed;
    *ret_first = i - 1;
    return i > 1;
}

static void test_each_comes_once_after_what_it_refers_to(void **state)
{
    struct cap_store *store = store_of(state);
    put_program(store, 7);
    for (size_t budget = 1; budget < 10000; budget *= 17) {
        struct course course = walk_from(store, CAPS + 1, CAPS + 1, budget);
        assert_cap_ok(course.error);
        assert_int_equal(course.count, CAPS + 1);
        expect_order(store, &course);
        for (size_t i = 0; i < course.count; i++) {
            assert_cap_ok(course.caps[i].error);
            assert_int_equal(course.caps[i].info.body_len, 100);
        }
        free(course.caps);
    }
}

static void test_roots_repeat_and_what_is_at_hand_is_left_out(void **state)
{
    struct cap_store *store = store_of(state);
    struct ledger *ledger = new_ledger(64 << 20);
    for (uint64_t i = 1; i <= 6; i++) {
        assert_cap_ok(put_data(store, i, 100));
    }
    put_image(store, 10, 1, 3);  /* 1 to 3 */
    put_image(store, 11, 3, 3);  /* 3 to 5 */
    put_image(store, 12, 10, 2); /* both */
    const struct cap_hash roots[] = {fake_hash(12), fake_hash(6), fake_hash(12), fake_hash(11)};
    const struct cap_hash have[] = {fake_hash(10), fake_hash(99), fake_hash(10)};
    const struct walk_query query = {bytes_of(roots, 4), bytes_of(have, 3), 100};
    struct course course = walk_all(store, ledger, &query, 1000);
    assert_cap_ok(course.error);
    expect_order(store, &course);
    const struct cap_hash come[] = {fake_hash(3),  fake_hash(4),  fake_hash(5),
                                    fake_hash(11), fake_hash(12), fake_hash(6)};
    assert_int_equal(course.count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_true(place_of(&course, &come[i]) < course.count);
    }
    free(course.caps);

    const struct walk_query all_here = {bytes_of(have, 1), bytes_of(have, 3), 100};
    course = walk_all(store, ledger, &all_here, 1000);
    assert_cap_ok(course.error);
    assert_int_equal(course.count, 0);
    free(course.caps);
    const struct walk_query nothing = {.max = 1};
    course = walk_all(store, ledger, &nothing, 1000);
    assert_cap_ok(course.error);
    assert_int_equal(course.count, 0);
    free(course.caps);
    ledger_free(ledger);
}

static void test_what_is_not_there_comes_without_a_body(void **state)
{
    struct cap_store *store = store_of(state);
    for (uint64_t i = 1; i <= 4; i++) {
        assert_cap_ok(put_data(store, i, 100));
    }
    put_image(store, 10, 1, 3);
    put_image(store, 11, 10, 1);
    put_image(store, 12, 11, 1);
    const struct cap_hash deleted = fake_hash(2), forbidden = fake_hash(3), bad = fake_hash(10);
    assert_cap_ok(cap_store_delete(store, &deleted, 0, true));
    assert_cap_ok(cap_store_forbid(store, &forbidden, 0, "it may not be"));
    struct course course = walk_from(store, 12, 100, 1000);
    assert_cap_ok(course.error);
    assert_int_equal(course.count, 6);
    expect_order(store, &course);
    assert_cap_error(course.caps[place_of(&course, &deleted)].error, CAP_E_NOT_FOUND);
    assert_cap_error(course.caps[place_of(&course, &forbidden)].error, CAP_E_FORBIDDEN_CAP);
    assert_cap_ok(course.caps[5].error);
    free(course.caps);

    assert_cap_ok(cap_store_quarantine(store, &bad));
    course = walk_from(store, 12, 100, 1000);
    assert_cap_ok(course.error);
    assert_int_equal(course.count, 3); /* nobody vouches for what it refers to */
    assert_cap_error(course.caps[0].error, CAP_E_QUARANTINED);
    free(course.caps);

    course = walk_from(store, 99, 100, 1000);
    assert_cap_ok(course.error);
    assert_int_equal(course.count, 1);
    assert_cap_error(course.caps[0].error, CAP_E_NOT_FOUND);
    free(course.caps);
}

static void test_what_goes_meanwhile_comes_without_a_body(void **state)
{
    struct cap_store *store = store_of(state);
    struct ledger *ledger = new_ledger(64 << 20);
    put_program(store, 3);
    const struct cap_hash root = fake_hash(CAPS + 1);
    const struct walk_query query = {.roots = bytes_of(&root, 1), .max = CAPS + 1};
    struct walk *walk = NULL;
    enum walk_step step = WALK_MORE;
    size_t count = 0, gone = 0;
    assert_cap_ok(walk_new(ledger, NULL, &query, &walk));
    while (step != WALK_END) {
        struct cap_read *read = begin_read(store);
        struct walk_cap cap;
        size_t budget = 3;
        assert_cap_ok(walk_next(walk, read, &budget, &step, &cap));
        cap_store_read_end(read);
        if (step == WALK_CAP) {
            gone += cap.error == CAP_E_NOT_FOUND;
            const struct cap_hash next = fake_hash(1 + fake_number(count++) % (CAPS + 1));
            (void)cap_store_delete(store, &next, 0, true);
        }
    }
    assert_true(gone > 0);
    assert_true(count <= CAPS + 1);
    walk_free(walk);
    ledger_free(ledger);
}

/* Asks again with what has come, until all has. */
static void test_a_closure_that_is_too_large_comes_in_parts(void **state)
{
    struct cap_store *store = store_of(state);
    struct ledger *ledger = new_ledger(64 << 20);
    put_program(store, 5);
    const struct cap_hash root = fake_hash(CAPS + 1);
    struct cap_hash have[CAPS + 1];
    size_t come = 0;
    enum cap_error error = CAP_E_CLOSURE_TOO_LARGE;
    while (error == CAP_E_CLOSURE_TOO_LARGE) {
        const struct walk_query query = {bytes_of(&root, 1), bytes_of(have, come), 30};
        struct course course = walk_all(store, ledger, &query, 1000);
        error = course.error;
        assert_int_equal(course.count, error == CAP_OK ? (CAPS + 1) % 30 : 30);
        expect_order(store, &course);
        for (size_t i = 0; i < course.count; i++) {
            have[come++] = course.caps[i].hash;
        }
        free(course.caps);
    }
    assert_cap_ok(error);
    assert_int_equal(come, CAPS + 1);
    struct course exact = walk_from(store, CAPS + 1, CAPS + 1, 1000);
    assert_cap_ok(exact.error);
    free(exact.caps);
    struct course short_by_one = walk_from(store, CAPS + 1, CAPS, 1000);
    assert_cap_error(short_by_one.error, CAP_E_CLOSURE_TOO_LARGE);
    free(short_by_one.caps);
    ledger_free(ledger);
}

/* A way down that is longer than an answer: the deepest come first, in bounded memory. */
static void test_a_deep_chain_comes_in_parts(void **state)
{
    struct cap_store *store = store_of(state);
    struct ledger *ledger = new_ledger(64 << 20);
    const size_t max = 70;
    put_caps(store, LEVELS, refer_to_last, 0);
    const struct cap_hash root = fake_hash(LEVELS);
    struct cap_hash have = {0};
    uint64_t come = 0;
    enum cap_error error = CAP_E_CLOSURE_TOO_LARGE;
    while (error == CAP_E_CLOSURE_TOO_LARGE) {
        const struct walk_query query = {bytes_of(&root, 1), bytes_of(&have, come > 0), max};
        struct course course = walk_all(store, ledger, &query, 50);
        error = course.error;
        for (size_t i = 0; i < course.count; i++) {
            have = fake_hash(++come);
            assert_hash_equal(&course.caps[i].hash, &have);
        }
        assert_true(course.count > 0);
        assert_true(course.held < 4096 + 2 * max * 64 + max * 64);
        free(course.caps);
    }
    assert_cap_ok(error);
    assert_int_equal(come, LEVELS);
    ledger_free(ledger);
}

/* No hash can be in what it is the hash of; a damaged store could say so all the same. */
static void test_a_circle_ends(void **state)
{
    struct cap_store *store = store_of(state);
    const uint64_t one = 1, two = 2;
    struct cap_ref refs[] = {{fake_hash(2), CAP_REF_PINNED}, {fake_hash(1), CAP_REF_PINNED}};
    struct cap_put circle[] = {fake_image(&one, 100), fake_image(&two, 100)};
    for (size_t i = 0; i < 2; i++) {
        circle[i].refs = &refs[i];
        circle[i].ref_count = 1;
    }
    assert_cap_ok(put_all(store, circle, 2));
    for (size_t max = 1; max < 5; max++) {
        struct course course = walk_from(store, 1, max, 1000);
        assert_cap_error(course.error, CAP_E_CORRUPT);
        assert_int_equal(course.count, 0);
        free(course.caps);
    }
}

static void test_memory_is_bounded(void **state)
{
    struct cap_store *store = store_of(state);
    put_program(store, 11);
    const struct cap_hash root = fake_hash(CAPS + 1);
    const struct walk_query query = {.roots = bytes_of(&root, 1), .max = CAPS + 1};
    size_t refused = 0;
    for (uint64_t limit = 100; limit < 30000; limit += 700) {
        struct ledger *ledger = new_ledger(limit);
        struct course course = walk_all(store, ledger, &query, 1000);
        assert_true(course.held <= limit);
        if (course.error != CAP_OK) {
            assert_cap_error(course.error, CAP_E_MEMORY_LIMIT);
            refused++;
        }
        expect_order(store, &course);
        free(course.caps);
        ledger_free(ledger);
    }
    assert_true(refused > 3 && refused < 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_each_comes_once_after_what_it_refers_to),
        BOTH(test_roots_repeat_and_what_is_at_hand_is_left_out),
        BOTH(test_what_is_not_there_comes_without_a_body),
        BOTH(test_what_goes_meanwhile_comes_without_a_body),
        BOTH(test_a_closure_that_is_too_large_comes_in_parts),
        BOTH(test_a_deep_chain_comes_in_parts),
        BOTH(test_a_circle_ends),
        BOTH(test_memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
