/*
 * The conformance suite of the store, what writes: every test runs against every engine.
 */
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

/* --- All or nothing --------------------------------------------------------------------------- */

static void test_abort_leaves_nothing(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_write *write = begin_write(store);
    uint64_t seed = 5;
    struct cap_put put = fake_image(&seed, 200000);
    struct cap_ref ref = {fake_hash(6), CAP_REF_PINNED}, got[2];
    struct cap_hash hash;
    struct cap_read *read;
    bool is_new;

    put.refs = &ref;
    put.ref_count = 1;
    put.info.has_content_hash = true;
    put.info.content_hash = fake_hash(50);
    assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    cap_store_write_abort(write);
    assert_false(is_there(store, seed));
    read = begin_read(store);
    assert_cap_error(cap_store_find_content(read, &put.info.content_hash, &hash), CAP_E_NOT_FOUND);
    cap_store_read_end(read);
    assert_int_equal(page_refs(store, &ref.hash, CAP_REFS_IN, 2, got), 0);
    assert_int_equal(get_counts(store).caps[CAP_KIND_IMAGE], 0);
    assert_int_equal(get_counts(store).refs, 0);
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    assert_cap_ok(check_cap(store, seed, 200000));
}

static enum cap_error failing_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    (void)ctx;
    memset(dst, 0, len);
    return offset + len < 300000 ? CAP_OK : CAP_E_CANCELLED;
}

/* A source that fails midway: its error comes back, and nothing of the transaction is left. */
static void test_failed_put(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_write *write = begin_write(store);
    uint64_t good_seed = 1, bad_seed = 2;
    struct cap_put good = fake_data(&good_seed, 100);
    struct cap_put bad = fake_data(&bad_seed, 300000);
    bool is_new = false;

    bad.body = (struct cap_source){.read = failing_read};
    assert_cap_ok(cap_store_write_put(write, &good, &is_new));
    assert_cap_error(cap_store_write_put(write, &bad, &is_new), CAP_E_CANCELLED);
    assert_cap_error(cap_store_write_put(write, &good, &is_new), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_write_commit(write), CAP_E_INVALID_ARGUMENT);
    assert_false(is_there(store, 1));
    assert_false(is_there(store, 2));
    assert_cap_ok(put_data(store, 1, 100));
}

static void test_one_writer(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_write *write = begin_write(store), *second;
    uint64_t seed = 1, stage;
    struct cap_source source = fake_source(&seed);
    bool done;

    assert_cap_error(cap_store_write_begin(store, &second), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_stage_begin(store, 10, &stage), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_stage_step(store, 1, &source, &done), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_stage_drop(store, 1), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(cap_store_write_commit(write));
    write = begin_write(store);
    cap_store_write_abort(write);
}

static void check_refused(struct cap_store *store, const struct cap_put *put)
{
    assert_cap_error(put_one(store, put, NULL), CAP_E_INVALID_ARGUMENT);
}

static void test_invalid_puts(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1;
    struct cap_ref ref = {fake_hash(2), CAP_REF_PINNED};
    struct cap_put put = fake_data(&seed, 10);

    put.info.kind = (enum cap_kind)0;
    check_refused(store, &put);
    put.info.kind = (enum cap_kind)3;
    check_refused(store, &put);
    put = fake_data(&seed, 10);
    put.refs = &ref;
    put.ref_count = 1;
    check_refused(store, &put);
    put = fake_image(&seed, 10);
    put.refs = &ref;
    put.ref_count = 1;
    ref.tables = 0;
    check_refused(store, &put);
    ref.tables = 4;
    check_refused(store, &put);
    put = fake_image(&seed, 10);
    put.info.page_count = 1;
    put.page_roots = &ref.hash;
    check_refused(store, &put);
    put = fake_data(&seed, 10);
    put.info.page_count = 1;
    check_refused(store, &put);
    put = fake_data(&seed, UINT64_MAX);
    check_refused(store, &put);
    put = fake_data(&seed, 10);
    put.stage = 12345;
    check_refused(store, &put);
    assert_false(is_there(store, seed));
}

/* --- Snapshots -------------------------------------------------------------------------------- */

/* A reader sees the store of its time however often the writer commits, and the writer never waits.
 */
static void test_snapshot(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_counts counts;
    struct cap_read *read, *later;
    struct cap_hash hash = fake_hash(2);

    assert_cap_ok(put_data(store, 1, 100000));
    read = begin_read(store);
    for (uint64_t seed = 2; seed < 30; seed++) {
        assert_cap_ok(put_data(store, seed, 100000));
    }
    later = begin_read(store);
    assert_cap_error(cap_store_find(read, &hash, NULL), CAP_E_NOT_FOUND);
    assert_cap_ok(cap_store_find(later, &hash, NULL));
    assert_cap_ok(cap_store_counts(read, &counts));
    assert_int_equal(counts.caps[CAP_KIND_DATA], 1);
    assert_cap_ok(check_body(read, 1, 100000));
    cap_store_read_end(read);
    assert_cap_ok(cap_store_counts(later, &counts));
    assert_int_equal(counts.caps[CAP_KIND_DATA], 29);
    cap_store_read_end(later);
}

/* Bytes handed out by a window stay as they are while the writer goes on. */
static void test_window_outlasts_commits(void **state)
{
    struct cap_store *store = store_of(state);
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    struct cap_hash hash = fake_hash(1);
    struct cap_read *read;
    const uint8_t *bytes;
    size_t len;
    int count;

    assert_cap_ok(put_data(store, 1, 60000));
    read = begin_read(store);
    assert_cap_ok(cap_store_window(read, &hash, 100, 40000, iov, &count, &len));
    for (uint64_t seed = 2; seed < 40; seed++) {
        assert_cap_ok(put_data(store, seed, 60000));
    }
    bytes = iov[0].iov_base;
    for (size_t i = 0; i < iov[0].iov_len; i++) {
        assert_true(bytes[i] == fake_byte(1, 100 + i));
    }
    cap_store_read_end(read);
}

/* --- Stages ----------------------------------------------------------------------------------- */

#define STAGED (3 * CAP_STAGE_STEP + 12345)

static void test_stage(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, stage = 0;
    struct cap_put put = fake_data(&seed, STAGED);
    struct cap_source source = fake_source(&seed);
    bool done = false, is_new = false;
    unsigned steps = 0;

    assert_cap_ok(cap_store_stage_begin(store, STAGED, &stage));
    assert_true(stage != 0);
    while (!done) {
        assert_cap_ok(cap_store_stage_step(store, stage, &source, &done));
        assert_false(is_there(store, seed));
        steps++;
    }
    assert_int_equal(steps, 4);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 0);
    put.stage = stage;
    put.body = (struct cap_source){0}; /* not looked at */
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    assert_cap_ok(check_cap(store, seed, STAGED));
    assert_int_equal(get_counts(store).body_bytes[CAP_KIND_DATA], STAGED);
    assert_cap_error(cap_store_stage_step(store, stage, &source, &done), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(cap_store_stage_drop(store, stage)); /* nothing to drop: the cap stays */
    assert_cap_ok(check_cap(store, seed, STAGED));
}

static void test_stage_survives_abort(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, stage;
    struct cap_put put = fake_data(&seed, 500000);
    struct cap_write *write;
    bool is_new;

    assert_cap_ok(stage_all(store, seed, 500000, &stage));
    put.stage = stage;
    write = begin_write(store);
    assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    cap_store_write_abort(write);
    assert_false(is_there(store, seed));
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    assert_cap_ok(check_cap(store, seed, 500000));
}

static void test_stage_misuse(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, other = 2, stage;
    struct cap_put put = fake_data(&seed, 500000);
    struct cap_put second = fake_data(&other, 500000);
    struct cap_source source = fake_source(&seed);
    struct cap_write *write;
    bool is_new, done;

    assert_cap_ok(cap_store_stage_begin(store, 500000, &stage));
    put.stage = second.stage = stage;
    check_refused(store, &put); /* nothing written yet */
    assert_cap_ok(cap_store_stage_step(store, stage, &source, &done));
    assert_true(done);
    put.info.body_len = 499999;
    check_refused(store, &put);
    put.info.body_len = 500000;
    write = begin_write(store);
    assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    assert_cap_error(cap_store_write_put(write, &second, &is_new), CAP_E_INVALID_ARGUMENT);
    cap_store_write_abort(write);
    assert_cap_ok(cap_store_stage_drop(store, stage));
    check_refused(store, &put);
    assert_cap_error(cap_store_stage_begin(store, UINT64_MAX, &stage), CAP_E_INVALID_ARGUMENT);
}

/* Two publishers stage the same cap: the first to commit wins, the other's stage goes away. */
static void test_stage_race(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, first, second;
    struct cap_put put = fake_data(&seed, 1000000);
    struct cap_source source = fake_source(&seed);
    bool is_new, done;

    assert_cap_ok(stage_all(store, seed, 1000000, &first));
    assert_cap_ok(stage_all(store, seed, 1000000, &second));
    assert_true(first != second);
    put.stage = second;
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    put.stage = first;
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_false(is_new);
    assert_cap_error(cap_store_stage_step(store, first, &source, &done), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(check_cap(store, seed, 1000000));
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 1);
    assert_int_equal(get_counts(store).body_bytes[CAP_KIND_DATA], 1000000);
}

static void test_empty_stage(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, stage;
    struct cap_put put = fake_data(&seed, 0);

    assert_cap_ok(stage_all(store, seed, 0, &stage));
    put.stage = stage;
    assert_cap_ok(put_one(store, &put, NULL));
    assert_cap_ok(check_cap(store, seed, 0));
}

/* --- Full ------------------------------------------------------------------------------------- */

/* Fills the store with caps of `len` bytes from `seed` on; returns how many went in. */
static uint64_t fill(struct cap_store *store, uint64_t seed, uint64_t len)
{
    for (uint64_t i = 0; i < 10000; i++) {
        enum cap_error error = put_data(store, seed + i, len);

        if (error != CAP_OK) {
            assert_cap_error(error, CAP_E_MAP_FULL);
            return i;
        }
    }
    fail_msg("the store never fills");
    return 0;
}

static void check_all(struct cap_store *store, uint64_t seed, uint64_t count, uint64_t len)
{
    for (uint64_t i = 0; i < count; i++) {
        assert_cap_ok(check_cap(store, seed + i, len));
    }
}

/* Full: refused by name, all that was there stays readable, and a dropped stage makes room. */
static void test_full(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t stage, huge, big, small;

    assert_cap_ok(stage_all(store, 999, 2000000, &stage));
    assert_cap_error(cap_store_stage_begin(store, 64 << 20, &huge), CAP_E_MAP_FULL);
    big = fill(store, 1000, 300000);
    assert_true(big > 3);
    small = fill(store, 2000, 20000);
    check_all(store, 1000, big, 300000);
    check_all(store, 2000, small, 20000);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], big + small);
    assert_cap_ok(cap_store_stage_drop(store, stage));
    assert_cap_ok(put_data(store, 3000, 300000));
    assert_cap_ok(check_cap(store, 3000, 300000));
    check_all(store, 1000, big, 300000);
}

/* Full in the middle of staging: what was staged can be dropped, again and again. */
static void test_full_while_staging(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t full = 0;

    assert_cap_ok(put_data(store, 1000, 100000));
    for (int i = 0; i < 20; i++) {
        uint64_t stages[2] = {0, 0};
        enum cap_error error = stage_all(store, 1, 3 << 20, &stages[0]);

        assert_cap_ok(error);
        error = stage_all(store, 2, (3 << 20) + 150000 * (uint64_t)i, &stages[1]);
        if (error == CAP_E_MAP_FULL) {
            full++;
        } else {
            assert_cap_ok(error);
        }
        assert_cap_ok(cap_store_stage_drop(store, stages[0]));
        assert_cap_ok(cap_store_stage_drop(store, stages[1]));
    }
    assert_in_range(full, 1, 19);
    assert_cap_ok(check_cap(store, 1000, 100000));
}

/* What comes to nothing takes no room: stages of known caps, and aborted puts. */
static void test_nothing_leaks(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, other = 2;
    struct cap_put known = fake_data(&seed, 1000000);
    struct cap_put unwanted = fake_data(&other, 1000000);
    bool is_new = true;

    assert_cap_ok(put_data(store, seed, 1000000));
    for (int i = 0; i < 20; i++) {
        struct cap_write *write;

        assert_cap_ok(stage_all(store, seed, 1000000, &known.stage));
        assert_cap_ok(put_one(store, &known, &is_new));
        assert_false(is_new);
        write = begin_write(store);
        assert_cap_ok(cap_store_write_put(write, &unwanted, &is_new));
        cap_store_write_abort(write);
    }
    assert_cap_ok(check_cap(store, seed, 1000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_abort_leaves_nothing),
        BOTH(test_failed_put),
        BOTH(test_one_writer),
        BOTH(test_invalid_puts),
        BOTH(test_snapshot),
        BOTH(test_window_outlasts_commits),
        BOTH(test_stage),
        BOTH(test_stage_survives_abort),
        BOTH(test_stage_misuse),
        BOTH(test_stage_race),
        BOTH(test_empty_stage),
        BOTH_SMALL(test_full),
        BOTH_SMALL(test_full_while_staging),
        BOTH_SMALL(test_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
