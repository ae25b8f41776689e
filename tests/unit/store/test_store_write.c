/*
 * The conformance suite of the store, what writes: every test runs against every engine.
 */
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

/* --- All or nothing --------------------------------------------------------------------------- */

static enum cap_error failing_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    (void)ctx;
    memset(dst, 0, len);
    return offset + len < 300000 ? CAP_OK : CAP_E_CANCELLED;
}

/* A put whose body cannot be read. */
static struct cap_put bad_data(const uint64_t *seed)
{
    struct cap_put put = fake_data(seed, 300000);
    put.body = (struct cap_source){.read = failing_read};
    return put;
}

/* A body that fails midway: its error comes back, and nothing of the admission is left. */
static void test_failure_leaves_nothing(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 5, bad_seed = 4;
    struct cap_put puts[] = {fake_image(&seed, 200000), bad_data(&bad_seed)};
    struct cap_put *put = &puts[0];
    struct cap_ref ref = {fake_hash(6), CAP_REF_PINNED}, got[2];
    struct cap_hash hash;
    bool is_new;
    put->refs = &ref;
    put->ref_count = 1;
    put->info.has_content_hash = true;
    put->info.content_hash = fake_hash(50);
    assert_cap_error(put_all(store, puts, 2), CAP_E_CANCELLED);
    assert_false(is_there(store, seed));
    assert_false(is_there(store, bad_seed));
    struct cap_read *read = begin_read(store);
    assert_cap_error(cap_store_find_content(read, &put->info.content_hash, &hash), CAP_E_NOT_FOUND);
    cap_store_read_end(read);
    assert_int_equal(page_refs(store, &ref.hash, CAP_REFS_IN, 2, got), 0);
    assert_int_equal(get_counts(store).caps[CAP_KIND_IMAGE], 0);
    assert_int_equal(get_counts(store).refs, 0);
    assert_cap_ok(put_one(store, put, &is_new));
    assert_true(is_new);
    assert_cap_ok(check_cap(store, seed, 200000));
}

/* --- What is needed --------------------------------------------------------------------------- */

/* What is missing is marked, wrong kinds too; nothing is stored; the same without storing. */
static void test_missing(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 9;
    struct cap_put put = fake_image(&seed, 100);
    struct cap_needed needed[] = {{.hash = fake_hash(1), .kind = CAP_KIND_DATA},
                                  {.hash = fake_hash(1), .kind = CAP_KIND_IMAGE},
                                  {.hash = fake_hash(2), .kind = CAP_KIND_DATA},
                                  {.hash = fake_hash(3), .kind = CAP_KIND_IMAGE}};
    struct cap_admission admission = {
        .needed = needed, .needed_count = 4, .puts = &put, .put_count = 1};
    assert_cap_ok(put_data(store, 1, 10));
    assert_cap_ok(put_data(store, 2, 10));
    for (int round = 0; round < 2; round++) {
        if (round == 0) {
            assert_cap_ok(cap_store_dry_run(store, &admission));
            assert_cap_error(admission.error, CAP_E_UNRESOLVED_SLOT);
        } else {
            assert_cap_error(admit_one(store, &admission), CAP_E_UNRESOLVED_SLOT);
        }
        assert_int_equal(admission.missing_count, 2);
        assert_false(needed[0].missing);
        assert_true(needed[1].missing);
        assert_false(needed[2].missing);
        assert_true(needed[3].missing);
        memset(&admission.missing_count, 0xff, sizeof(admission.missing_count));
    }
    assert_false(is_there(store, seed));
    needed[1].kind = 0; /* of either kind */
    needed[3] = needed[0];
    assert_cap_ok(cap_store_dry_run(store, &admission));
    assert_cap_ok(admission.error);
    assert_true(put.is_new);
    assert_false(is_there(store, seed));
    assert_cap_ok(admit_one(store, &admission));
    assert_int_equal(admission.missing_count, 0);
    assert_true(is_there(store, seed));
    assert_cap_ok(cap_store_dry_run(store, &admission));
    assert_false(put.is_new);
}

struct decisions {
    struct cap_admission *order[8];
    size_t count;
    unsigned commits;
    unsigned failed_commits;
};

static void on_decided(void *ctx, struct cap_admission *admission)
{
    struct decisions *decisions = ctx;
    decisions->order[decisions->count++] = admission;
}

static void on_committed(void *ctx, size_t count, enum cap_error error)
{
    struct decisions *decisions = ctx;
    assert_true(count > 0);
    decisions->commits += error == CAP_OK;
    decisions->failed_commits += error != CAP_OK;
}

/* Together: each by itself all or nothing, in order, and the first provides for the second. */
static void test_admissions_together(void **state)
{
    struct cap_store *store = store_of(state);
    struct decisions decisions = {.count = 0};
    const struct cap_admit_watch watch = {on_decided, NULL, on_committed, &decisions};
    const atomic_bool yes = true;
    uint64_t seeds[] = {0, 1, 2, 3, 4};
    struct cap_put puts[] = {fake_data(&seeds[0], 1000), fake_image(&seeds[1], 1000),
                             bad_data(&seeds[2]), fake_data(&seeds[3], 1000),
                             fake_data(&seeds[4], 1000)};
    struct cap_needed first = {.hash = fake_hash(0), .kind = CAP_KIND_DATA};
    struct cap_needed unknown = {.hash = fake_hash(77), .kind = CAP_KIND_DATA};
    struct cap_admission admissions[5] = {
        {.puts = &puts[0], .put_count = 1},
        {.puts = &puts[1], .put_count = 1, .needed = &first, .needed_count = 1},
        {.puts = &puts[2], .put_count = 1},
        {.puts = &puts[3], .put_count = 1, .cancelled = &yes},
        {.puts = &puts[4], .put_count = 1, .needed = &unknown, .needed_count = 1},
    };
    struct cap_admission *pointers[5];
    for (int i = 0; i < 5; i++) {
        pointers[i] = &admissions[i];
    }
    cap_store_admit(store, pointers, 5, &watch);
    assert_int_equal(decisions.count, 5);
    for (int i = 0; i < 5; i++) {
        assert_ptr_equal(decisions.order[i], pointers[i]);
    }
    assert_cap_ok(admissions[0].error);
    assert_cap_ok(admissions[1].error);
    assert_cap_error(admissions[2].error, CAP_E_CANCELLED); /* what its body said */
    assert_cap_error(admissions[3].error, CAP_E_CANCELLED);
    assert_cap_error(admissions[4].error, CAP_E_UNRESOLVED_SLOT);
    assert_true(unknown.missing);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(is_there(store, i), i < 2);
    }
    assert_int_equal(decisions.commits, 2); /* one by one, after the third spoilt the first try */
    decisions = (struct decisions){.count = 0};
    puts[2] = fake_data(&seeds[2], 1000);
    puts[3].hash = fake_hash(33);
    admissions[3].cancelled = NULL;
    cap_store_admit(store, pointers, 5, &watch);
    assert_int_equal(decisions.count, 5);
    assert_int_equal(decisions.commits, 1);
    assert_false(puts[0].is_new);
    assert_true(puts[2].is_new);
    assert_true(is_there(store, 33));
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
    size_t len;
    int count;
    assert_cap_ok(put_data(store, 1, 60000));
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_window(read, &hash, 100, 40000, iov, &count, &len));
    for (uint64_t seed = 2; seed < 40; seed++) {
        assert_cap_ok(put_data(store, seed, 60000));
    }
    const uint8_t *bytes = iov[0].iov_base;
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
        assert_cap_ok(stage_step(store, stage, &source, &done));
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
    assert_cap_error(stage_step(store, stage, &source, &done), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(drop_stage(store, stage)); /* nothing to drop: the cap stays */
    assert_cap_ok(check_cap(store, seed, STAGED));
}

/* Several bodies in one step, as many as fit; what is not whole goes on in the next. */
static void test_stage_together(void **state)
{
    enum { COUNT = 6 };
    static const uint64_t lens[COUNT] = {100000, 0, 8192, CAP_STAGE_STEP - 200000, 300000, 5000};
    struct cap_store *store = store_of(state);
    uint64_t seeds[COUNT];
    struct cap_source sources[COUNT];
    struct cap_put puts[COUNT];
    struct cap_staging stagings[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        seeds[i] = i + 1;
        sources[i] = fake_source(&seeds[i]);
        puts[i] = fake_data(&seeds[i], lens[i]);
        assert_cap_ok(cap_store_stage_begin(store, lens[i], &puts[i].stage));
        stagings[i] = (struct cap_staging){.stage = puts[i].stage, .body = &sources[i]};
    }
    assert_cap_ok(cap_store_stage_step(store, stagings, COUNT));
    assert_true(stagings[0].done && stagings[1].done && stagings[2].done && stagings[3].done);
    assert_false(stagings[4].done);
    assert_cap_error(put_all(store, puts, COUNT), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(cap_store_stage_step(store, stagings + 4, 2));
    assert_true(stagings[4].done && stagings[5].done);
    assert_cap_ok(put_all(store, puts, COUNT));
    for (size_t i = 0; i < COUNT; i++) {
        assert_cap_ok(check_cap(store, seeds[i], lens[i]));
    }
    stagings[0].stage = 12345;
    assert_cap_error(cap_store_stage_step(store, stagings, 1), CAP_E_INVALID_ARGUMENT);
}

/* A body of which more can be read with every step, and the last bytes at last. */
static void test_stage_that_arrives(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1;
    bool is_new = false;
    struct cap_put put = fake_data(&seed, STAGED);
    struct cap_source source = fake_source(&seed);
    struct cap_staging staging = {.body = &source};
    assert_cap_ok(cap_store_stage_begin(store, STAGED, &staging.stage));
    for (uint64_t ready = 1; ready < STAGED; ready += STAGED / 9) {
        staging.ready = ready;
        assert_cap_ok(cap_store_stage_step(store, &staging, 1));
        assert_true(staging.written <= ready && staging.written + (64 << 10) > ready);
        assert_false(staging.done);
    }
    staging.ready = 0;
    assert_cap_ok(cap_store_stage_step(store, &staging, 1));
    assert_true(staging.done);
    assert_int_equal(staging.written, STAGED);
    put.stage = staging.stage;
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_cap_ok(check_cap(store, seed, STAGED));
}

static void test_stage_survives_failure(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, bad_seed = 2, stage;
    struct cap_put puts[] = {fake_data(&seed, 500000), bad_data(&bad_seed)};
    bool is_new;
    assert_cap_ok(stage_all(store, seed, 500000, &stage));
    puts[0].stage = stage;
    assert_cap_error(put_all(store, puts, 2), CAP_E_CANCELLED);
    assert_false(is_there(store, seed));
    assert_cap_ok(put_one(store, &puts[0], &is_new));
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
    struct cap_put both[2];
    bool done;
    assert_cap_ok(cap_store_stage_begin(store, 500000, &stage));
    put.stage = second.stage = stage;
    check_refused(store, &put); /* nothing written yet */
    assert_cap_ok(stage_step(store, stage, &source, &done));
    assert_true(done);
    put.info.body_len = 499999;
    check_refused(store, &put);
    put.info.body_len = 500000;
    both[0] = put;
    both[1] = second;
    assert_cap_error(put_all(store, both, 2), CAP_E_INVALID_ARGUMENT);
    assert_false(is_there(store, seed));
    assert_cap_ok(drop_stage(store, stage));
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
    assert_cap_error(stage_step(store, first, &source, &done), CAP_E_INVALID_ARGUMENT);
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
    assert_cap_ok(drop_stage(store, stage));
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
        assert_cap_ok(drop_stage(store, stages[0]));
        assert_cap_ok(drop_stage(store, stages[1]));
    }
    assert_in_range(full, 1, 19);
    assert_cap_ok(check_cap(store, 1000, 100000));
}

/* What comes to nothing takes no room: stages of known caps, and puts that fail. */
static void test_nothing_leaks(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, other = 2, bad_seed = 3;
    struct cap_put known = fake_data(&seed, 1000000);
    struct cap_put unwanted[] = {fake_data(&other, 1000000), bad_data(&bad_seed)};
    bool is_new = true;
    assert_cap_ok(put_data(store, seed, 1000000));
    for (int i = 0; i < 20; i++) {
        assert_cap_ok(stage_all(store, seed, 1000000, &known.stage));
        assert_cap_ok(put_one(store, &known, &is_new));
        assert_false(is_new);
        assert_cap_ok(drop_stage(store, known.stage)); /* gone: only sweeps */
        assert_cap_error(put_all(store, unwanted, 2), CAP_E_CANCELLED);
    }
    assert_cap_ok(check_cap(store, seed, 1000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_failure_leaves_nothing),
        BOTH(test_missing),
        BOTH(test_admissions_together),
        BOTH(test_invalid_puts),
        BOTH(test_snapshot),
        BOTH(test_window_outlasts_commits),
        BOTH(test_stage),
        BOTH(test_stage_together),
        BOTH(test_stage_that_arrives),
        BOTH(test_stage_survives_failure),
        BOTH(test_stage_misuse),
        BOTH(test_stage_race),
        BOTH(test_empty_stage),
        BOTH_SMALL(test_full),
        BOTH_SMALL(test_full_while_staging),
        BOTH_SMALL(test_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
