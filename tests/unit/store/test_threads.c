/*
 * Readers in several threads while the writer commits; for ThreadSanitizer as much as for the
 * assertions. cmocka's assertions jump, so threads only note what they saw.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

#define READERS 4
#define COMMITS 120u

static struct fixture_engine lmdb = {.is_lmdb = true, .max_bytes = 64 << 20};
static struct fixture_engine memory = {.is_lmdb = false};

struct reader {
    pthread_t thread;
    struct cap_store *store;
    atomic_bool *stop;
    uint64_t snapshots;
    enum cap_error error;
};

/* Caps 1, 2, 3 … are committed in this order, so a snapshot of n caps holds exactly 1 to n. */
static uint64_t len_of(uint64_t seed)
{
    return seed % 7 == 0 ? 150000 : 100 * seed;
}

static enum cap_error look(struct cap_read *read, uint64_t round)
{
    struct cap_counts counts;
    enum cap_error error = cap_store_counts(read, &counts);
    if (error != CAP_OK) {
        return error;
    }
    uint64_t present = counts.caps[CAP_KIND_DATA];
    struct cap_hash next = fake_hash(present + 1);
    error = cap_store_find(read, &next, NULL);
    if (error != CAP_E_NOT_FOUND) {
        return CAP_E_INTERNAL;
    }
    if (present == 0) {
        return CAP_OK;
    }
    error = check_body(read, present, len_of(present));
    if (error != CAP_OK) {
        return error;
    }
    return check_body(read, 1 + round % present, len_of(1 + round % present));
}

static void *run_reader(void *arg)
{
    struct reader *reader = arg;
    while (!atomic_load(reader->stop) && reader->error == CAP_OK) {
        struct cap_read *read;
        reader->error = cap_store_read_begin(reader->store, &read);
        if (reader->error != CAP_OK) {
            break;
        }
        reader->error = look(read, reader->snapshots);
        cap_store_read_end(read);
        reader->snapshots++;
    }
    return NULL;
}

/* Figures may be asked for on any thread too. */
static void *run_gauge(void *arg)
{
    struct reader *reader = arg;
    struct cap_space space;
    while (!atomic_load(reader->stop) && reader->error == CAP_OK) {
        reader->error = cap_store_space(reader->store, &space);
        if (reader->error == CAP_OK) {
            reader->error = cap_store_clear_stale_readers(reader->store);
        }
        reader->snapshots++;
    }
    return NULL;
}

static enum cap_error write_all(struct cap_store *store)
{
    enum cap_error error = CAP_OK;
    for (uint64_t seed = 1; seed <= COMMITS && error == CAP_OK; seed++) {
        struct cap_put put = fake_data(&seed, len_of(seed));
        if (seed % 7 == 0) {
            error = stage_all(store, seed, len_of(seed), &put.stage);
        }
        if (error == CAP_OK) {
            error = put_one(store, &put, NULL);
        }
    }
    return error;
}

static void test_readers_and_writer(void **state)
{
    struct cap_store *store = ((struct fixture *)*state)->store;
    struct reader readers[READERS + 1] = {0};
    atomic_bool stop = false;
    for (size_t i = 0; i <= READERS; i++) {
        readers[i].store = store;
        readers[i].stop = &stop;
        assert_int_equal(pthread_create(&readers[i].thread, NULL,
                                        i < READERS ? run_reader : run_gauge, &readers[i]),
                         0);
    }
    enum cap_error error = write_all(store);
    atomic_store(&stop, true);
    for (size_t i = 0; i <= READERS; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
    }
    assert_cap_ok(error);
    for (size_t i = 0; i <= READERS; i++) {
        assert_cap_ok(readers[i].error);
    }
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], COMMITS);
}

/* --- What is held ----------------------------------------------------------------------------- */

#define HELD_CAPS   20u
#define HELD_ROUNDS 150u

/* What was found while it is held is there as long as it is held. */
static enum cap_error hold_and_look(struct cap_store *store, uint64_t seed)
{
    struct cap_hash hash = fake_hash(seed);
    enum cap_error error = CAP_OK;
    if (!cap_store_hold(store, &hash)) {
        return CAP_OK; /* it was just going */
    }
    for (unsigned i = 0; i < 5 && (i == 0 || error == CAP_OK); i++) {
        error = check_cap(store, seed, 100);
        if (i == 0 && error == CAP_E_NOT_FOUND) {
            error = CAP_OK;
            break;
        }
    }
    cap_store_release(store, &hash);
    return error;
}

static void *run_holder(void *arg)
{
    struct reader *reader = arg;
    while (!atomic_load(reader->stop) && reader->error == CAP_OK) {
        reader->error =
            hold_and_look(reader->store, 1 + fake_number(reader->snapshots++) % HELD_CAPS);
    }
    return NULL;
}

/* Publishes all that is not there, and collects; what went is told of. */
static enum cap_error come_and_go(struct cap_store *store, uint64_t *ret_collected)
{
    struct cap_collected did = {0};
    enum cap_error error = CAP_OK;
    for (unsigned i = 0; i < HELD_ROUNDS && error == CAP_OK; i++) {
        error = put_data(store, 1 + i % HELD_CAPS, 100);
        if (error == CAP_OK) {
            error = cap_store_collect(store, 10, &did);
            *ret_collected += did.caps;
        }
        advance(store, 11); /* what is held comes up again after ten seconds */
    }
    return error;
}

static void test_holders_and_collector(void **state)
{
    struct cap_store *store = ((struct fixture *)*state)->store;
    struct reader holders[READERS] = {0};
    atomic_bool stop = false;
    uint64_t collected = 0;
    for (size_t i = 0; i < READERS; i++) {
        holders[i] = (struct reader){.store = store, .stop = &stop, .snapshots = 1000 * i};
        assert_int_equal(pthread_create(&holders[i].thread, NULL, run_holder, &holders[i]), 0);
    }
    enum cap_error error = come_and_go(store, &collected);
    atomic_store(&stop, true);
    for (size_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(holders[i].thread, NULL), 0);
        assert_cap_ok(holders[i].error);
    }
    assert_cap_ok(error);
    assert_true(collected > 0);
    collected += collect_all(store).caps;
    advance(store, 11);
    collected += collect_all(store).caps;
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"readers and writer [lmdb]", test_readers_and_writer, fixture_setup, fixture_teardown,
         &lmdb},
        {"readers and writer [memory]", test_readers_and_writer, fixture_setup, fixture_teardown,
         &memory},
        {"holders and collector [lmdb]", test_holders_and_collector, fixture_setup,
         fixture_teardown, &lmdb},
        {"holders and collector [memory]", test_holders_and_collector, fixture_setup,
         fixture_teardown, &memory},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
