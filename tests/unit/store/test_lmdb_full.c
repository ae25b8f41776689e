/*
 * A store that cannot grow: publications are refused by name, reads go on, deleting and collecting
 * work, and then there is room again. The disk is filled by somebody else, as far as the store can
 * tell: the process may not make its file any longer.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

#define MANY_REFS 64u

static void set_limit(rlim_t bytes)
{
    struct rlimit limit;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* From now on the file cannot grow. */
static void fill_disk(const struct fixture *fixture)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    assert_int_equal(stat(path, &st), 0);
    set_limit((rlim_t)st.st_size);
}

static int end_of_test(void **state)
{
    set_limit(RLIM_INFINITY);
    return fixture_teardown(state);
}

/* Publishes small caps until there is no room. Returns how many are there. */
static uint64_t fill_store(struct cap_store *store, uint64_t from, enum cap_error expected)
{
    uint64_t count = 0;
    enum cap_error error;
    while ((error = put_data(store, from + count, 3000)) == CAP_OK) {
        count++;
    }
    assert_cap_error(error, expected);
    return count;
}

static void sweep(struct cap_store *store)
{
    bool more = true;
    while (more) {
        assert_cap_ok(cap_store_sweep(store, 0, &more));
    }
}

static void delete_cap(struct cap_store *store, uint64_t seed)
{
    struct cap_hash hash = fake_hash(seed);
    assert_cap_ok(cap_store_delete(store, &hash, 0, true));
}

/* An Image cap whose removal touches as many pages as one transaction of it may. */
static void put_wide_image(struct cap_store *store, uint64_t seed)
{
    struct cap_ref refs[MANY_REFS];
    struct cap_put put = fake_image(&seed, 3000);
    for (uint64_t i = 0; i < MANY_REFS; i++) {
        refs[i] = (struct cap_ref){fake_hash(1000 + 1000 * i), CAP_REF_PINNED};
    }
    put.refs = refs;
    put.ref_count = MANY_REFS;
    assert_cap_ok(put_one(store, &put, NULL));
}

/* Whatever was published last, everything can be deleted, and published again. */
static void try_full_disk(struct fixture *fixture, uint64_t last_len)
{
    struct cap_store *store = fixture->store;
    for (uint64_t seed = 1000; seed <= 1000 * MANY_REFS; seed += 500) {
        assert_cap_ok(put_data(store, seed, 100));
    }
    put_wide_image(store, 1);
    put_wide_image(store, 2);
    assert_cap_ok(put_data(store, 3, last_len));
    fill_disk(fixture);
    uint64_t count = fill_store(store, 100000, CAP_E_DISK_FULL);
    assert_cap_ok(check_cap(store, 1000, 100));
    assert_cap_ok(check_cap(store, 3, last_len));
    fixture_close(fixture); /* a restart changes nothing of it */
    assert_cap_ok(fixture_open(fixture));
    store = fixture->store;
    count += fill_store(store, 100000 + count, CAP_E_DISK_FULL);
    delete_cap(store, 1);
    delete_cap(store, 2);
    for (uint64_t seed = 1000; seed <= 1000 * MANY_REFS; seed += 500) {
        delete_cap(store, seed);
    }
    delete_cap(store, 3);
    for (uint64_t i = 0; i < count; i++) {
        delete_cap(store, 100000 + i);
    }
    sweep(store);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 0);
    assert_cap_ok(put_data(store, 5, 100000));
    assert_cap_ok(check_cap(store, 5, 100000));
}

static void test_after_small_ones(void **state)
{
    try_full_disk(*state, 100);
}

static void test_after_a_large_one(void **state)
{
    try_full_disk(*state, 900000);
}

/* A snapshot keeps what is deleted from being used again, and cannot keep it from being deleted. */
static void test_pinned(void **state)
{
    struct fixture *fixture = *state;
    struct cap_store *store = fixture->store;
    struct cap_read *read;
    assert_cap_ok(put_data(store, 1, 900000));
    assert_cap_ok(cap_store_read_begin(store, &read));
    assert_cap_ok(put_data(store, 2, 900000));
    fill_disk(fixture);
    (void)fill_store(store, 100000, CAP_E_DISK_FULL);
    delete_cap(store, 1);
    delete_cap(store, 2);
    assert_cap_ok(check_body(read, 1, 900000));
    (void)fill_store(store, 200000, CAP_E_DISK_FULL);
    cap_store_read_end(read);
    sweep(store);
    assert_cap_ok(put_data(store, 3, 900000));
    assert_cap_ok(check_cap(store, 3, 900000));
}

/* Slices are as short as there is room for them. */
static void test_collect(void **state)
{
    enum { CAPS = 600 };
    struct fixture *fixture = *state;
    struct cap_store *store = fixture->store;
    struct cap_collected collected = {.more = true};
    uint64_t caps = 0;
    for (uint64_t seed = 0; seed < CAPS; seed++) {
        assert_cap_ok(put_data(store, seed, 3000));
    }
    fill_disk(fixture);
    uint64_t count = CAPS + fill_store(store, 100000, CAP_E_DISK_FULL);
    while (collected.more) {
        assert_cap_ok(cap_store_collect(store, 1024, &collected));
        caps += collected.caps;
    }
    assert_int_equal(caps, count);
    sweep(store);
    assert_cap_ok(put_data(store, 5, 900000));
}

/* The same where it is the map that is full. */
static void test_map(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_collected collected = {.more = true};
    put_wide_image(store, 1);
    uint64_t count = fill_store(store, 100000, CAP_E_MAP_FULL);
    assert_cap_ok(check_cap(store, 100000, 3000));
    delete_cap(store, 1);
    for (uint64_t i = 0; i < count / 2; i++) {
        delete_cap(store, 100000 + i);
    }
    while (collected.more) {
        assert_cap_ok(cap_store_collect(store, 1024, &collected));
    }
    sweep(store);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 0);
    assert_cap_ok(put_data(store, 5, 900000));
    assert_cap_ok(check_cap(store, 5, 900000));
}

int main(void)
{
#define ON(function, engine)                                                                       \
    {                                                                                              \
#function, function, fixture_setup, end_of_test, &(engine)                                 \
    }
    const struct CMUnitTest tests[] = {
        ON(test_after_small_ones, engine_lmdb), ON(test_after_a_large_one, engine_lmdb),
        ON(test_pinned, engine_lmdb),           ON(test_collect, engine_lmdb),
        ON(test_map, engine_small_lmdb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
