/* Deleting and collecting, on both engines. */
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

/* --- What tests do with it -------------------------------------------------------------------- */

static enum cap_error delete (struct cap_store *store, uint64_t seed, bool force) {
    struct cap_hash hash = fake_hash(seed); return cap_store_delete(store, &hash, 1234, force);
}

static void set_root(struct cap_store *store, const char *name, uint64_t seed)
{
    struct cap_root root = {.hash = fake_hash(seed)};
    bool replaced;
    memcpy(root.name, name, strlen(name) + 1);
    assert_cap_ok(cap_store_root_set(store, &root, &replaced));
}

static void keep(struct cap_store *store, uint64_t seed, uint64_t keep_s)
{
    struct cap_keep one = {.hash = fake_hash(seed), .keep_s = keep_s};
    assert_cap_ok(cap_store_keep(store, &one, 1));
    assert_cap_ok(one.error);
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

static enum cap_error removed(struct cap_store *store, uint64_t seed, struct cap_removed *ret)
{
    struct cap_hash hash = fake_hash(seed);
    struct cap_read *read = begin_read(store);
    enum cap_error error = cap_store_removed(read, &hash, ret);
    cap_store_read_end(read);
    return error;
}

/* --- Deleting --------------------------------------------------------------------------------- */

static void test_delete(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_removed gone;
    assert_cap_ok(put_data(store, 1, 3000));
    assert_cap_ok(put_data(store, 2, 100));
    assert_cap_error(delete (store, 3, false), CAP_E_NOT_FOUND);
    assert_cap_error(removed(store, 1, &gone), CAP_E_NOT_FOUND);
    struct cap_read *before = begin_read(store);
    assert_cap_ok(delete (store, 1, false));
    assert_cap_ok(check_body(before, 1, 3000)); /* a snapshot does not change */
    cap_store_read_end(before);
    assert_false(is_there(store, 1));
    assert_true(is_there(store, 2));
    assert_cap_error(delete (store, 1, false), CAP_E_NOT_FOUND);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 1);
    assert_int_equal(get_counts(store).body_bytes[CAP_KIND_DATA], 100);
    assert_cap_ok(removed(store, 1, &gone));
    assert_int_equal(gone.cause, CAP_GONE_DELETED);
    assert_int_equal(gone.uid, 1234);
    assert_true(gone.time_us > UINT64_C(1600000000000000));

    assert_cap_ok(put_data(store, 1, 3000));
    assert_cap_ok(check_cap(store, 1, 3000));
    fixture_check(*state);
}

static void test_delete_needed(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_hash held = fake_hash(4);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        assert_cap_ok(put_data(store, seed, 10));
    }
    set_root(store, "r", 1);
    put_image(store, 9, 2, 1);
    keep(store, 3, 100);
    assert_true(cap_store_hold(store, &held));
    for (uint64_t seed = 1; seed <= 4; seed++) {
        assert_cap_error(delete (store, seed, false), CAP_E_STILL_NEEDED);
        assert_true(is_there(store, seed));
    }
    assert_cap_error(delete (store, 1, true), CAP_E_STILL_NEEDED);
    assert_cap_error(delete (store, 4, true), CAP_E_STILL_NEEDED);
    assert_cap_ok(delete (store, 3, true));
    assert_cap_ok(cap_store_root_remove(store, "r"));
    assert_cap_ok(delete (store, 1, false));
    cap_store_release(store, &held);
    assert_cap_ok(delete (store, 4, false));
    assert_true(is_there(store, 2));
    fixture_check(*state);
}

/* What an Image needs is deleted by force: the Image stays, and is whole again when it is put. */
static void test_degrade(void **state)
{
    struct fixture *fixture = *state;
    struct cap_ref refs[2];
    assert_cap_ok(put_data(fixture->store, 1, 10));
    put_image(fixture->store, 9, 1, 1);
    assert_cap_ok(delete (fixture->store, 1, true));
    struct cap_hash image = fake_hash(9), data = fake_hash(1);
    assert_int_equal(page_refs(fixture->store, &image, CAP_REFS_OUT, 2, refs), 1);
    assert_int_equal(page_refs(fixture->store, &data, CAP_REFS_IN, 2, refs), 1);
    fixture_check(fixture);
    assert_cap_ok(put_data(fixture->store, 1, 10));
    assert_cap_error(delete (fixture->store, 1, false), CAP_E_STILL_NEEDED);
    fixture_check(fixture);
    assert_cap_ok(delete (fixture->store, 1, true));
    assert_cap_ok(delete (fixture->store, 9, false));
    (void)collect_all(fixture->store);
    assert_int_equal(page_refs(fixture->store, &data, CAP_REFS_IN, 2, refs), 0);
    fixture_check(fixture);
}

/* All content hashes that lead to a cap go with it, and come again with it. */
static void test_contents_go(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t seed = 9;
    struct cap_put put = fake_image(&seed, 100);
    struct cap_hash hash;
    put.info.has_content_hash = true;
    for (uint64_t i = 0; i < 3; i++) {
        put.info.content_hash = fake_hash(50 + i);
        assert_cap_ok(put_one(fixture->store, &put, NULL));
    }
    fixture_check(fixture);
    assert_cap_ok(delete (fixture->store, 9, false));
    struct cap_read *read = begin_read(fixture->store);
    for (uint64_t i = 0; i < 3; i++) {
        struct cap_hash content = fake_hash(50 + i);
        assert_cap_error(cap_store_find_content(read, &content, &hash), CAP_E_NOT_FOUND);
    }
    cap_store_read_end(read);
    fixture_check(fixture);
    assert_cap_ok(put_one(fixture->store, &put, NULL));
    read = begin_read(fixture->store);
    assert_cap_ok(cap_store_find_content(read, &put.info.content_hash, &hash));
    assert_hash_equal(&hash, &put.hash);
    cap_store_read_end(read);
}

/* --- Collecting ------------------------------------------------------------------------------- */

static void test_collect(void **state)
{
    struct fixture *fixture = *state;
    struct cap_store *store = fixture->store;
    struct cap_hash held = fake_hash(5);
    struct cap_removed gone;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        assert_cap_ok(put_data(store, seed, 10 * seed));
    }
    set_root(store, "r", 1);
    put_image(store, 9, 2, 2);
    keep(store, 9, 100);
    keep(store, 4, 200);
    assert_true(cap_store_hold(store, &held));
    struct cap_collected did = collect_all(store);
    assert_int_equal(did.caps, 1);
    assert_int_equal(did.bytes, 60);
    assert_false(is_there(store, 6));
    assert_cap_ok(removed(store, 6, &gone));
    assert_int_equal(gone.cause, CAP_GONE_COLLECTED);
    assert_int_equal(gone.uid, UINT32_MAX);

    cap_store_release(store, &held);
    advance(store, 20); /* what was held is looked at again */
    assert_int_equal(collect_all(store).caps, 1);
    assert_false(is_there(store, 5));

    advance(store, 110); /* the Image, and then what it referred to */
    assert_int_equal(collect_all(store).caps, 3);
    assert_int_equal(collect_all(store).caps, 0);
    assert_true(is_there(store, 1) && is_there(store, 4));
    fixture_check(fixture);
    store = fixture->store;

    assert_cap_ok(cap_store_root_remove(store, "r"));
    assert_int_equal(collect_all(store).caps, 1);
}

/* The queue keeps to the store clock: not a second too early, and not much too late. */
static void test_lease_ends(void **state)
{
    struct cap_store *store = store_of(state);
    assert_cap_ok(put_data(store, 1, 10));
    keep(store, 1, 86400);
    advance(store, 86390);
    assert_int_equal(collect_all(store).caps, 0);
    keep(store, 1, 20000); /* renewed, so what was due is not */
    advance(store, 19000);
    assert_int_equal(collect_all(store).caps, 0);
    advance(store, 2000);
    assert_int_equal(collect_all(store).caps, 1);
}

/* A lease that is renewed again and again makes no queue of entries. */
static void test_renewals(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_due_cursor cursor = {0};
    struct cap_due due[10];
    size_t count;
    bool more;
    assert_cap_ok(put_data(store, 1, 10));
    for (int i = 0; i < 50; i++) {
        keep(store, 1, 1000);
        advance(store, 500);
    }
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_due(read, &cursor, UINT32_MAX, 10, due, &count, &more));
    assert_in_range(count, 1, 2);
    cap_store_read_end(read);
    assert_int_equal(collect_all(store).caps, 0); /* finds that there is a later lease */
    fixture_check(*state);
    store = store_of(state);
    advance(store, 520);
    assert_int_equal(collect_all(store).caps, 1);
}

static void test_small_slices(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_collected slice = {.more = true};
    unsigned slices = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        assert_cap_ok(put_data(store, seed, 10));
    }
    for (; slice.more; slices++) {
        assert_cap_ok(cap_store_collect(store, 7, &slice));
        assert_true(slice.caps <= 7);
    }
    assert_int_equal(slices, 8);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 0);
    assert_cap_error(cap_store_collect(store, 0, &slice), CAP_E_INVALID_ARGUMENT);
    fixture_check(*state);
}

/* An Image that is deleted before its time leaves its lease to what it referred to. */
static void test_lease_passes_on(void **state)
{
    struct cap_store *store = store_of(state);
    assert_cap_ok(put_data(store, 1, 10));
    assert_cap_ok(put_data(store, 2, 10));
    put_image(store, 9, 1, 2);
    keep(store, 9, 1000);
    keep(store, 2, 5000);
    uint64_t image = kept_until(store, 9), data = kept_until(store, 2);
    assert_cap_ok(delete (store, 9, true));
    assert_int_equal(collect_all(store).caps, 0);
    assert_int_equal(kept_until(store, 1), image);
    assert_int_equal(kept_until(store, 2), data);
    advance(store, 1100);
    assert_int_equal(collect_all(store).caps, 1);
    assert_true(is_there(store, 2));
    fixture_check(*state);
}

/* --- What it would do ------------------------------------------------------------------------- */

static void test_due(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_due_cursor cursor = {0};
    struct cap_hash held = fake_hash(3);
    bool seen[500] = {false};
    unsigned pages = 0;
    bool more = true;
    for (uint64_t seed = 0; seed < 500; seed++) {
        assert_cap_ok(put_data(store, seed, 10));
    }
    keep(store, 1, 1000);
    put_image(store, 900, 2, 1);
    keep(store, 900, 100000);
    assert_true(cap_store_hold(store, &held));
    struct cap_read *read = begin_read(store);
    uint64_t now_s = cap_store_clock(store);
    for (; more; pages++) {
        struct cap_due due[33];
        size_t count;
        assert_cap_ok(cap_store_due(read, &cursor, now_s, 33, due, &count, &more));
        for (size_t i = 0; i < count; i++) {
            uint64_t seed = due[i].info.published_us;
            unsigned needed = 0;
            if (seed == 1 || seed == 900) {
                needed = CAP_NEEDED_LEASE;
            } else if (seed == 2 || seed == 3) {
                needed = seed == 2 ? CAP_NEEDED_REFERENCE : CAP_NEEDED_HOLD;
            }
            assert_int_equal(due[i].needed, needed);
            seen[seed % 500] = true;
        }
    }
    assert_true(pages >= 500 / 33);
    for (size_t i = 4; i < 500; i++) {
        assert_true(seen[i]);
    }
    cap_store_read_end(read);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 500);
    cap_store_release(store, &held);
}

/* --- Who is told ------------------------------------------------------------------------------ */

struct told {
    struct cap_store *store;
    uint64_t epoch; /* while it was told */
    unsigned count;
    struct cap_hash hash;
    enum cap_gone_cause cause;
    bool can_hold;
};

static void on_gone(void *ctx, const struct cap_hash *hash, enum cap_gone_cause cause)
{
    struct told *told = ctx;
    told->epoch = cap_store_epoch(told->store);
    told->count++;
    told->hash = *hash;
    told->cause = cause;
    told->can_hold = cap_store_hold(told->store, hash);
    assert_false(is_there(told->store, hash->bytes[0] == fake_hash(1).bytes[0] ? 1 : 2));
}

static void test_watch(void **state)
{
    struct cap_store *store = store_of(state);
    struct told told = {.store = store};
    const struct cap_store_watch watch = {.gone = on_gone, .ctx = &told};
    struct cap_hash hash = fake_hash(1);
    cap_store_watch(store, &watch);
    assert_cap_ok(put_data(store, 1, 10));
    assert_cap_ok(put_data(store, 2, 10));
    uint64_t epoch = cap_store_epoch(store);
    assert_cap_ok(delete (store, 1, false));
    assert_int_equal(told.count, 1);
    assert_hash_equal(&told.hash, &hash);
    assert_int_equal(told.cause, CAP_GONE_DELETED);
    assert_true(told.epoch > epoch && cap_store_epoch(store) > told.epoch);
    assert_false(told.can_hold); /* it is just going; from now on it may be held */
    assert_true(cap_store_hold(store, &hash));
    cap_store_release(store, &hash);
    epoch = cap_store_epoch(store);
    assert_cap_error(delete (store, 1, false), CAP_E_NOT_FOUND);
    assert_int_equal(cap_store_epoch(store), epoch);
    assert_int_equal(collect_all(store).caps, 1);
    assert_int_equal(told.cause, CAP_GONE_COLLECTED);
    assert_int_equal(told.count, 2);
}

/* Holds count, and of many hashes none is lost. */
static void test_holds(void **state)
{
    enum { MANY = 3000 };
    struct cap_store *store = store_of(state);
    struct cap_hash hash = fake_hash(1);
    assert_cap_ok(put_data(store, 1, 10));
    for (uint64_t i = 0; i < MANY; i++) {
        struct cap_hash each = fake_hash(i);
        assert_true(cap_store_hold(store, &each));
    }
    assert_true(cap_store_hold(store, &hash));
    for (uint64_t i = 0; i < MANY; i++) {
        struct cap_hash each = fake_hash(i);
        cap_store_release(store, &each);
    }
    assert_cap_error(delete (store, 1, true), CAP_E_STILL_NEEDED);
    cap_store_release(store, &hash);
    assert_cap_ok(delete (store, 1, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_delete),      BOTH(test_delete_needed), BOTH(test_degrade),
        BOTH(test_contents_go), BOTH(test_collect),       BOTH(test_lease_ends),
        BOTH(test_renewals),    BOTH(test_small_slices),  BOTH(test_lease_passes_on),
        BOTH(test_due),         BOTH(test_watch),         BOTH(test_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
