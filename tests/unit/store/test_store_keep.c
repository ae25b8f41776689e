/* Roots, leases and what a publisher's caps come to, on both engines. */
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

/* --- What tests do with it -------------------------------------------------------------------- */

static enum cap_error set_root(struct cap_store *store, const char *name, uint64_t seed,
                               bool *ret_replaced)
{
    struct cap_root root = {.hash = fake_hash(seed), .set_us = 7, .uid = 1000};
    memcpy(root.name, name, strlen(name) + 1);
    return cap_store_root_set(store, &root, ret_replaced);
}

static unsigned needed(struct cap_store *store, uint64_t seed)
{
    struct cap_hash hash = fake_hash(seed);
    struct cap_read *read = begin_read(store);
    unsigned flags = 0;
    assert_cap_ok(cap_store_needed(read, &hash, &flags));
    cap_store_read_end(read);
    return flags;
}

static uint64_t kept_until(struct cap_store *store, uint64_t seed)
{
    struct cap_hash hash = fake_hash(seed);
    struct cap_read *read = begin_read(store);
    struct cap_info info;
    assert_cap_ok(cap_store_find(read, &hash, &info));
    cap_store_read_end(read);
    return info.kept_until_s;
}

static struct cap_usage usage_of(struct cap_store *store, uint32_t uid)
{
    struct cap_usage usage = {0};
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_owner(read, uid, &usage));
    cap_store_read_end(read);
    return usage;
}

static struct cap_keep keep_one(struct cap_store *store, uint64_t seed, uint64_t keep_s)
{
    struct cap_keep keep = {.hash = fake_hash(seed), .keep_s = keep_s};
    assert_cap_ok(cap_store_keep(store, &keep, 1));
    return keep;
}

static size_t list_roots(struct cap_store *store, const char *after, struct cap_root *ret_roots,
                         size_t max, bool *ret_more)
{
    size_t count = 0;
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_roots(read, after, max, ret_roots, &count, ret_more));
    cap_store_read_end(read);
    return count;
}

/* --- Roots ------------------------------------------------------------------------------------ */

static void test_roots(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_root roots[4];
    bool replaced, more;
    assert_cap_ok(put_data(store, 1, 100));
    assert_cap_ok(put_data(store, 2, 100));
    assert_cap_error(set_root(store, "absent", 3, &replaced), CAP_E_NOT_FOUND);
    assert_int_equal(needed(store, 1), 0);
    assert_cap_ok(set_root(store, "b", 1, &replaced));
    assert_false(replaced);
    assert_cap_ok(set_root(store, "a/2", 1, &replaced));
    assert_cap_ok(set_root(store, "a", 2, &replaced));
    assert_int_equal(list_roots(store, NULL, roots, 2, &more), 2);
    assert_true(more);
    assert_string_equal(roots[0].name, "a");
    assert_string_equal(roots[1].name, "a/2");
    assert_int_equal(list_roots(store, "a/2", roots, 2, &more), 1);
    assert_false(more);
    assert_string_equal(roots[0].name, "b");
    assert_int_equal(roots[0].set_us, 7);
    assert_int_equal(roots[0].uid, 1000);
    assert_int_equal(needed(store, 1), CAP_NEEDED_ROOT);

    assert_cap_ok(set_root(store, "b", 2, &replaced));
    assert_true(replaced);
    assert_cap_ok(set_root(store, "b", 2, &replaced)); /* again, to the same cap */
    assert_true(replaced);
    assert_cap_ok(cap_store_root_remove(store, "a/2"));
    assert_cap_error(cap_store_root_remove(store, "a/2"), CAP_E_NO_ROOT);
    assert_int_equal(needed(store, 1), 0);
    assert_int_equal(needed(store, 2), CAP_NEEDED_ROOT);
    assert_int_equal(list_roots(store, NULL, roots, 4, &more), 2);
}

static void test_roots_of(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_hash hash = fake_hash(1);
    struct cap_root roots[4];
    size_t count = 9;
    bool replaced;
    assert_cap_ok(put_data(store, 1, 100));
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_roots_of(read, &hash, 4, roots, &count));
    assert_int_equal(count, 0);
    cap_store_read_end(read);
    assert_cap_ok(set_root(store, "x", 1, &replaced));
    assert_cap_ok(set_root(store, "y", 1, &replaced));
    assert_cap_ok(set_root(store, "z", 1, &replaced));
    read = begin_read(store);
    assert_cap_ok(cap_store_roots_of(read, &hash, 2, roots, &count));
    assert_int_equal(count, 2);
    assert_string_equal(roots[1].name, "y");
    assert_hash_equal(&roots[1].hash, &hash);
    assert_cap_ok(cap_store_roots_of(read, &hash, 4, roots, &count));
    assert_int_equal(count, 3);
    cap_store_read_end(read);
}

static void test_root_names(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_root root = {.hash = fake_hash(1)};
    struct cap_root roots[1];
    bool replaced, more;
    assert_cap_ok(put_data(store, 1, 100));
    assert_cap_error(cap_store_root_set(store, &root, &replaced), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(set_root(store, "a b", 1, &replaced), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(set_root(store, "a\n", 1, &replaced), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(set_root(store, "\xc3\xa4", 1, &replaced), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_root_remove(store, ""), CAP_E_NO_ROOT);
    memset(root.name, '~', CAP_ROOT_NAME_MAX + 1);
    assert_cap_error(cap_store_root_set(store, &root, &replaced), CAP_E_INVALID_ARGUMENT);
    root.name[CAP_ROOT_NAME_MAX] = '\0';
    assert_cap_ok(cap_store_root_set(store, &root, &replaced));
    assert_int_equal(list_roots(store, "~", roots, 1, &more), 1);
    assert_string_equal(roots[0].name, root.name);
    assert_int_equal(list_roots(store, root.name, roots, 1, &more), 0);
    assert_cap_ok(cap_store_root_remove(store, root.name));
}

/* --- Leases ----------------------------------------------------------------------------------- */

static void test_keep(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t before = cap_store_clock(store);
    assert_cap_ok(put_data(store, 1, 100));
    assert_int_equal(kept_until(store, 1), 0);
    struct cap_keep keep = keep_one(store, 1, 0);
    assert_cap_ok(keep.error);
    assert_int_equal(keep.kept_until_s, 0);
    keep = keep_one(store, 1, 1000);
    assert_true(keep.kept_until_s >= before + 1000 &&
                keep.kept_until_s <= cap_store_clock(store) + 1000);
    assert_int_equal(keep.kind, CAP_KIND_DATA);
    assert_int_equal(kept_until(store, 1), keep.kept_until_s);
    assert_int_equal(needed(store, 1), CAP_NEEDED_LEASE);
    uint64_t until = keep.kept_until_s;
    assert_int_equal(keep_one(store, 1, 1100).kept_until_s, until); /* gains too little */
    assert_int_equal(keep_one(store, 1, 10).kept_until_s, until);
    assert_true(keep_one(store, 1, 1200).kept_until_s >= before + 1200);
    assert_cap_error(keep_one(store, 2, 10).error, CAP_E_NOT_FOUND);
    assert_int_equal(keep_one(store, 1, UINT64_MAX).kept_until_s, UINT32_MAX);
}

static void test_lease_ends(void **state)
{
    struct cap_store *store = store_of(state);
    assert_cap_ok(put_data(store, 1, 100));
    (void)keep_one(store, 1, 50);
    assert_int_equal(needed(store, 1), CAP_NEEDED_LEASE);
    advance(store, 51);
    assert_int_equal(needed(store, 1), 0);
}

/* What is put is kept, and so is what was there; the Data caps of an Image have it for that. */
static void test_admission_keeps(void **state)
{
    struct cap_store *store = store_of(state);
    const uint64_t seeds[] = {1, 2, 3};
    struct cap_put puts[2] = {fake_data(&seeds[0], 10), fake_data(&seeds[1], 10)};
    struct cap_admission admission = {.puts = puts, .put_count = 2, .keep_s = 1000};
    uint64_t from = cap_store_clock(store);
    assert_cap_ok(put_data(store, 1, 10));
    assert_cap_ok(admit_one(store, &admission));
    assert_true(kept_until(store, 1) >= from + 1000 && kept_until(store, 2) >= from + 1000);
    assert_true(admission.kept_until_s >= from + 1000);
    assert_true(admission.kept_until_s <= kept_until(store, 1));
    admission.keep_s = 1050;
    uint64_t until = kept_until(store, 2);
    assert_cap_ok(admit_one(store, &admission));
    assert_int_equal(kept_until(store, 2), until);
    assert_int_equal(admission.kept_until_s,
                     until < kept_until(store, 1) ? until : kept_until(store, 1));

    const struct cap_ref ref = {fake_hash(1), CAP_REF_PINNED};
    struct cap_put image[2] = {puts[0], fake_image(&seeds[2], 10)};
    image[1].refs = &ref;
    image[1].ref_count = 1;
    until = kept_until(store, 1);
    admission = (struct cap_admission){.puts = image, .put_count = 2, .keep_s = 5000};
    assert_cap_ok(admit_one(store, &admission));
    assert_int_equal(kept_until(store, 1), until);
    assert_int_equal(needed(store, 1), CAP_NEEDED_REFERENCE | CAP_NEEDED_LEASE);
    assert_true(kept_until(store, 3) >= from + 5000 && admission.kept_until_s >= from + 5000);

    /* Again, for a shorter time: what was promised before stands. */
    admission = (struct cap_admission){.puts = image, .put_count = 2, .keep_s = 10};
    assert_cap_ok(admit_one(store, &admission));
    assert_true(kept_until(store, 3) >= from + 5000);
    assert_int_equal(admission.kept_until_s, kept_until(store, 3));
    admission = (struct cap_admission){.puts = puts, .put_count = 1, .keep_s = 10};
    assert_cap_ok(admit_one(store, &admission));
    assert_int_equal(admission.kept_until_s, kept_until(store, 1));
}

static void test_refused_keeps_nothing(void **state)
{
    struct cap_store *store = store_of(state);
    const uint64_t seed = 1;
    struct cap_put put = fake_data(&seed, 10);
    struct cap_needed absent = {.hash = fake_hash(9), .kind = CAP_KIND_DATA};
    struct cap_admission admission = {
        .needed = &absent, .needed_count = 1, .puts = &put, .put_count = 1, .keep_s = 1000};
    assert_cap_ok(put_data(store, 1, 10));
    assert_cap_error(admit_one(store, &admission), CAP_E_UNRESOLVED_SLOT);
    assert_int_equal(kept_until(store, 1), 0);
}

/* --- Owners ----------------------------------------------------------------------------------- */

static void test_owners(void **state)
{
    enum { USERS = 40 };
    struct cap_store *store = store_of(state);
    uint64_t seeds[2 * USERS];
    struct cap_put puts[2 * USERS];
    for (size_t i = 0; i < 2 * USERS; i++) {
        seeds[i] = i;
        puts[i] = fake_data(&seeds[i], 10 + i);
        puts[i].info.publisher.uid = (uint32_t)(i % USERS);
    }
    assert_cap_ok(put_all(store, puts, 2 * USERS));
    for (uint32_t i = 0; i < USERS; i++) {
        struct cap_usage usage = usage_of(store, i);
        assert_int_equal(usage.caps, 2);
        assert_int_equal(usage.bytes, 20 + 2 * i + USERS);
    }
    struct cap_owner owners[USERS];
    struct cap_read *read;
    size_t count;
    assert_cap_ok(cap_store_read_begin(store, &read));
    assert_cap_ok(cap_store_owners(read, 0, 3, owners, &count));
    assert_int_equal(count, 3);
    assert_int_equal(owners[2].uid, 2);
    assert_cap_ok(cap_store_owners(read, 3, USERS, owners, &count));
    assert_int_equal(count, USERS - 3);
    assert_int_equal(owners[0].uid, 3);
    assert_int_equal(owners[0].usage.bytes, 26 + USERS);
    assert_cap_ok(cap_store_owners(read, USERS, 1, owners, &count));
    assert_int_equal(count, 0);
    assert_cap_error(cap_store_owners(read, 0, 0, owners, &count), CAP_E_INVALID_ARGUMENT);
    cap_store_read_end(read);
    puts[0].info.publisher.uid = 1; /* the first one counts */
    assert_cap_ok(put_one(store, &puts[0], NULL));
    assert_int_equal(usage_of(store, 1).caps, 2);
    assert_int_equal(usage_of(store, USERS).caps, 0);
}

/* --- What lasts ------------------------------------------------------------------------------- */

/* A wall clock that went back, or nothing written for long, does not shorten or end a lease. */
static void test_lasts(void **state)
{
    struct fixture *fixture = *state;
    struct cap_root roots[2];
    bool replaced, more;
    advance(fixture->store, 5000);
    uint64_t ahead = cap_store_clock(fixture->store);
    assert_cap_ok(cap_store_keep(fixture->store, NULL, 0));
    assert_cap_ok(put_data(fixture->store, 1, 100));
    uint64_t until = keep_one(fixture->store, 1, 1000).kept_until_s;
    assert_cap_ok(set_root(fixture->store, "kept", 1, &replaced));
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture));
    assert_true(cap_store_clock(fixture->store) >= ahead);
    assert_true(cap_store_clock(fixture->store) <= ahead + 60);
    assert_int_equal(kept_until(fixture->store, 1), until);
    assert_int_equal(list_roots(fixture->store, NULL, roots, 2, &more), 1);
    assert_int_equal(usage_of(fixture->store, 1000).caps, 1);
    fixture_check(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_roots),
        BOTH(test_roots_of),
        BOTH(test_root_names),
        BOTH(test_keep),
        BOTH(test_lease_ends),
        BOTH(test_admission_keeps),
        BOTH(test_refused_keeps_nothing),
        BOTH(test_owners),
        {"test_lasts", test_lasts, fixture_setup, fixture_teardown, &engine_lmdb},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
