/*
 * Deleting and collecting in the LMDB engine: what is too large for one transaction, how much a
 * slice writes, and that the room is used again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

#define REFS  100000u
#define FIRST 1000000u /* number of the first target */

static struct fixture_engine large_lmdb = {.is_lmdb = true, .max_bytes = UINT64_C(1) << 30};

static enum cap_error delete (struct cap_store *store, uint64_t seed, bool force) {
    struct cap_hash hash = fake_hash(seed); return cap_store_delete(store, &hash, 0, force);
}

/* Bytes that this process has handed to write calls: LMDB writes pages with them. */
static uint64_t written_bytes(void)
{
    char line[64];
    unsigned long long bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL && sscanf(line, "wchar: %llu", &bytes) != 1) {
    }
    (void)fclose(file);
    return bytes;
}

static void put_targets(struct cap_store *store, uint64_t first, size_t count)
{
    enum { BATCH = 2000 };
    uint64_t seeds[BATCH];
    struct cap_put puts[BATCH];
    for (size_t at = 0; at < count; at += BATCH) {
        size_t n = count - at < BATCH ? count - at : BATCH;
        for (size_t i = 0; i < n; i++) {
            seeds[i] = first + at + i;
            puts[i] = fake_data(&seeds[i], 8);
        }
        assert_cap_ok(put_all(store, puts, n));
    }
}

/* --- In slices -------------------------------------------------------------------------------- */

/*
 * An Image of 100,000 references is gone at once, and then goes in slices, none of which writes
 * more than 8 MiB: a page for each reference, and branches. In between it can be put again.
 */
static void test_large_image(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash target = fake_hash(FIRST + REFS - 1);
    struct cap_ref refs[2];
    struct cap_ref *all = calloc(REFS, sizeof(*all));
    unsigned slices = 0;
    uint64_t most = 0;
    bool more = true;
    assert_non_null(all);
    put_targets(fixture->store, FIRST, REFS);
    put_image(fixture->store, 1, FIRST, REFS);
    struct cap_hash image = fake_hash(1);
    for (int again = 0; again < 2; again++) {
        uint64_t before = written_bytes();
        assert_cap_ok(delete (fixture->store, 1, false));
        assert_true(written_bytes() - before < (1 << 20));
        assert_false(is_there(fixture->store, 1));
        assert_int_equal(get_counts(fixture->store).refs, 0);
        assert_int_equal(page_refs(fixture->store, &image, CAP_REFS_OUT, 2, refs), 0);
        assert_int_equal(page_refs(fixture->store, &target, CAP_REFS_IN, 2, refs), 0);
        for (int i = 0; i < 20; i++) {
            assert_cap_ok(cap_store_sweep(fixture->store, 1, &more));
            assert_true(more);
        }
        put_image(fixture->store, 1, FIRST, REFS);
        assert_int_equal(page_refs(fixture->store, &image, CAP_REFS_OUT, REFS, all), REFS);
        assert_int_equal(page_refs(fixture->store, &target, CAP_REFS_IN, 2, refs), 1);
        assert_int_equal(get_counts(fixture->store).refs, REFS);
    }
    assert_int_equal(collect_all(fixture->store).caps, REFS + 1); /* nothing keeps the Image */
    put_targets(fixture->store, FIRST, REFS);
    put_image(fixture->store, 1, FIRST, REFS);
    assert_cap_ok(delete (fixture->store, 1, false));
    for (more = true; more; slices++) {
        uint64_t before = written_bytes();
        assert_cap_ok(cap_store_sweep(fixture->store, 1, &more));
        uint64_t bytes = written_bytes() - before;
        most = bytes > most ? bytes : most;
    }
    print_message("%u slices, the longest of %llu pages\n", slices,
                  (unsigned long long)(most / 4096));
    assert_true(slices > REFS / 512);
    assert_true(most < (8 << 20));
    free(all);
    fixture_check(fixture);
    assert_int_equal(collect_all(fixture->store).caps, REFS);
    assert_int_equal(get_counts(fixture->store).caps[CAP_KIND_DATA], 0);
    fixture_check(fixture);
}

/* What is left of a large Image still keeps its targets, and its lease passes on to all of them. */
static void test_corpse_keeps(void **state)
{
    struct fixture *fixture = *state;
    struct cap_keep keep = {.hash = fake_hash(1), .keep_s = 1000};
    struct cap_collected did;
    bool more = true;
    put_targets(fixture->store, FIRST, 1000);
    put_image(fixture->store, 1, FIRST, 1000);
    assert_cap_ok(cap_store_keep(fixture->store, &keep, 1));
    assert_cap_ok(delete (fixture->store, 1, true));
    fixture_check(fixture); /* opening the store sweeps it */
    for (unsigned i = 0; i < 20; i++) {
        assert_cap_ok(cap_store_collect(fixture->store, 1000, &did));
        assert_int_equal(did.caps, 0);
    }
    advance(fixture->store, 900);
    assert_int_equal(collect_all(fixture->store).caps, 0);
    advance(fixture->store, 200);
    assert_int_equal(collect_all(fixture->store).caps, 1000);
    put_targets(fixture->store, FIRST, 1000);
    put_image(fixture->store, 1, FIRST, 1000);
    assert_cap_ok(delete (fixture->store, 1, true));
    assert_cap_ok(cap_store_sweep(fixture->store, 1, &more));
    (void)cap_store_collect(fixture->store, 1000, &did);
    assert_int_equal(get_counts(fixture->store).caps[CAP_KIND_DATA], 1000 - did.caps);
    assert_in_range(did.caps, 1, 999);
    fixture_check(fixture);
    assert_int_equal(collect_all(fixture->store).caps, 1000 - did.caps);
}

/* A body of many chunks goes with the sweep, and its room with it. */
static void test_large_body(void **state)
{
    struct fixture *fixture = *state;
    struct cap_space before, after;
    uint64_t seed = 1, stage;
    struct cap_put put = fake_data(&seed, 40 << 20);
    bool more = true;
    unsigned slices = 0;
    assert_cap_ok(put_data(fixture->store, 2, 100)); /* the file has what it always has */
    assert_cap_ok(cap_store_space(fixture->store, &before));
    assert_cap_ok(stage_all(fixture->store, 1, 40 << 20, &stage));
    put.stage = stage;
    assert_cap_ok(put_one(fixture->store, &put, NULL));
    assert_cap_ok(delete (fixture->store, 1, false));
    fixture_check(fixture);
    for (; more; slices++) {
        assert_cap_ok(cap_store_sweep(fixture->store, 1, &more));
    }
    assert_cap_ok(cap_store_space(fixture->store, &after));
    uint64_t used_before = before.file_bytes - before.free_bytes;
    uint64_t used_after = after.file_bytes - after.free_bytes;
    assert_true(used_after < used_before + (1 << 20));
}

/* --- While others write ----------------------------------------------------------------------- */

/* A collection between the steps of a stage, and before its admission, which finds what is gone. */
static void test_during_stage(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t len = 5 << 20, seed = 1, image = 2;
    struct cap_source source = fake_source(&seed);
    struct cap_collected did;
    uint64_t stage;
    bool done = false;
    assert_cap_ok(put_data(fixture->store, 7, 100));
    assert_cap_ok(put_data(fixture->store, 8, 100));
    struct cap_hash held = fake_hash(7);
    assert_true(cap_store_hold(fixture->store, &held));
    assert_cap_ok(cap_store_stage_begin(fixture->store, len, &stage));
    while (!done) {
        assert_cap_ok(stage_step(fixture->store, stage, &source, &done));
        assert_cap_ok(cap_store_collect(fixture->store, 10, &did));
    }
    assert_false(is_there(fixture->store, 8));
    struct cap_needed needed[] = {{.hash = held, .kind = CAP_KIND_DATA},
                                  {.hash = fake_hash(8), .kind = CAP_KIND_DATA}};
    const struct cap_ref refs[] = {{held, CAP_REF_PINNED}, {fake_hash(1), CAP_REF_PINNED}};
    struct cap_put puts[] = {fake_data(&seed, len), fake_image(&image, 10)};
    puts[0].stage = stage;
    puts[1].refs = refs;
    puts[1].ref_count = 2;
    struct cap_admission admission = {
        .needed = needed, .needed_count = 2, .puts = puts, .put_count = 2, .keep_s = 100};
    assert_cap_error(admit_one(fixture->store, &admission), CAP_E_UNRESOLVED_SLOT);
    assert_false(needed[0].missing);
    assert_true(needed[1].missing);
    admission.needed_count = 1;
    assert_cap_ok(admit_one(fixture->store, &admission));
    cap_store_release(fixture->store, &held);
    advance(fixture->store, 50);
    assert_int_equal(collect_all(fixture->store).caps, 0);
    assert_cap_ok(check_cap(fixture->store, 1, len));
    fixture_check(fixture);
}

/* --- Room ------------------------------------------------------------------------------------- */

#define CHURN_LIVE 1000u

#define CHURN_BATCH 10u

/* Ten caps of 1 to 40 KB, the last one an Image of some of the others. */
static void churn(struct cap_store *store, uint64_t first)
{
    uint64_t seeds[CHURN_BATCH];
    struct cap_put puts[CHURN_BATCH];
    struct cap_ref refs[5];
    for (uint64_t i = 0; i < CHURN_BATCH; i++) {
        seeds[i] = first + i;
        const uint64_t len = 1000 + fake_number(seeds[i]) % 40000;
        puts[i] = i + 1 < CHURN_BATCH ? fake_data(&seeds[i], len) : fake_image(&seeds[i], len);
        if (i < 5) {
            refs[i] = (struct cap_ref){puts[i].hash, CAP_REF_PINNED};
        }
    }
    puts[CHURN_BATCH - 1].refs = refs;
    puts[CHURN_BATCH - 1].ref_count = 5;
    struct cap_admission admission = {.puts = puts, .put_count = CHURN_BATCH, .keep_s = CHURN_LIVE};
    assert_cap_ok(admit_one(store, &admission));
}

/* What comes and goes at a constant size lets the file grow to 1.25 of that size at most. */
static void test_churn(void **state)
{
    struct fixture *fixture = *state;
    struct cap_space space;
    uint64_t full = 0;
    for (uint64_t seed = 0; seed < 6 * CHURN_LIVE; seed += CHURN_BATCH) {
        churn(fixture->store, seed);
        advance(fixture->store, CHURN_BATCH);
        if (seed % 50 == 0) {
            (void)collect_all(fixture->store);
        }
        if (seed == CHURN_LIVE + CHURN_LIVE / 10) { /* leases end a little late */
            assert_cap_ok(cap_store_space(fixture->store, &space));
            full = space.file_bytes;
        }
    }
    assert_cap_ok(cap_store_space(fixture->store, &space));
    print_message("file %.1f MiB, was %.1f when first full\n", (double)space.file_bytes / (1 << 20),
                  (double)full / (1 << 20));
    assert_true(space.file_bytes <= full + full / 4);
    assert_true(get_counts(fixture->store).caps[CAP_KIND_DATA] < CHURN_LIVE + CHURN_LIVE / 4);
    fixture_check(fixture);
}

/* The last removals are remembered, and no more. */
static void test_removed_ring(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t extra = 500;
    struct cap_removed removed;
    put_targets(fixture->store, FIRST, CAP_STORE_REMOVED);
    assert_int_equal(collect_all(fixture->store).caps, CAP_STORE_REMOVED);
    put_targets(fixture->store, 1, extra);
    assert_int_equal(collect_all(fixture->store).caps, extra);
    unsigned found = 0;
    struct cap_read *read = begin_read(fixture->store);
    for (uint64_t i = 0; i < CAP_STORE_REMOVED; i += CAP_STORE_REMOVED / 64) {
        struct cap_hash hash = fake_hash(FIRST + i);
        found += cap_store_removed(read, &hash, &removed) == CAP_OK;
    }
    struct cap_hash last = fake_hash(1);
    assert_cap_ok(cap_store_removed(read, &last, &removed));
    cap_store_read_end(read);
    assert_in_range(found, 58, 64);
    fixture_check(fixture);
}

#define LMDB_TEST(function)                                                                        \
    {                                                                                              \
#function, function, fixture_setup, fixture_teardown, &large_lmdb                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        LMDB_TEST(test_large_image),  LMDB_TEST(test_corpse_keeps), LMDB_TEST(test_large_body),
        LMDB_TEST(test_during_stage), LMDB_TEST(test_churn),        LMDB_TEST(test_removed_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
