/*
 * kill -9 at random moments of a writer's life: whatever it acknowledged is there and whole, and
 * whatever is there is whole; what it acknowledged as deleted is not there, and what it did not
 * keep may be collected. In a store's first rounds it often dies while it creates the store.
 *
 * CAPSTORE_KILL_ROUNDS says how many times (default 40, some seconds); CAPSTORE_KILL_SEED repeats a
 * run, as far as the machine's timing does.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

#define ROUNDS_DEFAULT 40u
#define NEW_STORE      40u               /* rounds that a store lives: creation dies often too */
#define ROUND_SEEDS    UINT64_C(1000000) /* numbers of caps that one round may use */
#define LIST_PAGE      64u

/* A map that no machine fills in the time: a writer that is refused would end by itself. */
static struct fixture_engine lmdb = {.is_lmdb = true, .max_bytes = UINT64_C(32) << 30};

static unsigned setting(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

/*
 * What becomes of a cap follows from its number, too: most have a lease, some have none, some are
 * deleted soon after they were published. Every so often there is an Image, which leaves a corpse.
 */
static bool has_lease(uint64_t seed)
{
    return seed % 4 != 1;
}

static bool is_deleted(uint64_t seed)
{
    return seed % 4 == 2;
}

#define DELETED    (UINT64_C(1) << 63) /* in an acknowledgement */
#define IMAGES     (UINT64_C(1) << 40) /* from which their numbers go on */
#define IMAGE_REFS 100u

/* The length follows from the number, so that what is found can be checked without a list. */
static uint64_t len_of(uint64_t seed)
{
    switch (seed % 11) {
    case 3:
        return 200000 + seed % 100000;
    case 7:
        return (8 << 20) + 100000 + seed % 1000; /* two steps of a stage */
    default:
        return seed % 3000;
    }
}

/* --- The writer that dies --------------------------------------------------------------------- */

static enum cap_error publish(struct cap_store *store, uint64_t seed)
{
    struct cap_put put = fake_data(&seed, len_of(seed));
    enum cap_error error = CAP_OK;
    if (seed % 11 == 7) {
        error = stage_all(store, seed, len_of(seed), &put.stage);
    }
    if (error == CAP_OK && seed % 22 == 7) {
        return drop_stage(store, put.stage);
    }
    struct cap_admission admission = {
        .puts = &put, .put_count = 1, .keep_s = has_lease(seed) ? 1000000 : 0};
    return error == CAP_OK ? admit_one(store, &admission) : error;
}

/* Publishes an Image with its data, deletes it with all that it leaves, and collects the data. */
static enum cap_error come_and_go(struct cap_store *store, uint64_t seed)
{
    uint64_t seeds[IMAGE_REFS + 1];
    struct cap_put puts[IMAGE_REFS + 1];
    struct cap_ref refs[IMAGE_REFS];
    struct cap_collected did = {.more = true};
    for (uint64_t i = 0; i < IMAGE_REFS; i++) {
        seeds[i] = IMAGES + seed * (IMAGE_REFS + 1) + i;
        puts[i] = fake_data(&seeds[i], 100);
        refs[i] = (struct cap_ref){puts[i].hash, CAP_REF_PINNED};
    }
    seeds[IMAGE_REFS] = seeds[0] + IMAGE_REFS;
    puts[IMAGE_REFS] = fake_image(&seeds[IMAGE_REFS], 100);
    puts[IMAGE_REFS].refs = refs;
    puts[IMAGE_REFS].ref_count = IMAGE_REFS;
    bool more = true;
    enum cap_error error = put_all(store, puts, IMAGE_REFS + 1);
    if (error == CAP_OK) {
        error = cap_store_delete(store, &puts[IMAGE_REFS].hash, 0, false);
    }
    while (error == CAP_OK && more) {
        error = cap_store_sweep(store, 1, &more);
    }
    while (error == CAP_OK && did.more) {
        error = cap_store_collect(store, 50, &did);
    }
    return error;
}

static void tell(int ack, uint64_t number)
{
    if (write(ack, &number, sizeof(number)) != sizeof(number)) {
        _exit(1);
    }
}

/* Deletes and collects between publications. */
static enum cap_error clear_up(struct cap_store *store, uint64_t seed, uint64_t first, int ack)
{
    struct cap_collected did;
    const uint64_t old = seed - 6;
    struct cap_hash hash = fake_hash(old);
    enum cap_error error = CAP_OK;
    if (seed >= first + 6 && is_deleted(old) && old % 22 != 7) {
        error = cap_store_delete(store, &hash, 0, true);
        if (error == CAP_OK) {
            tell(ack, old | DELETED);
        }
    }
    if (error == CAP_OK && seed % 8 == 0) {
        error = cap_store_collect(store, 100, &did);
    }
    return error == CAP_OK && seed % 10 == 3 ? come_and_go(store, seed) : error;
}

static _Noreturn void run_writer(struct fixture *fixture, uint64_t seed, int ack)
{
    const uint64_t first = seed;
    enum cap_error error = fixture_open(fixture);
    for (; error == CAP_OK; seed++) {
        error = publish(fixture->store, seed);
        if (error == CAP_OK && seed % 22 != 7) {
            tell(ack, seed);
        }
        if (error == CAP_OK) {
            error = clear_up(fixture->store, seed, first, ack);
        }
    }
    _exit(-(int)error);
}

/* Lets a writer live for a while; returns the numbers that it acknowledged. */
static size_t live_and_die(struct fixture *fixture, uint64_t first, long delay_us,
                           uint64_t *ret_acks, size_t max)
{
    struct timespec delay = {0, delay_us * 1000};
    size_t count = 0;
    int pipes[2], status;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(pipes[0]);
        run_writer(fixture, first, pipes[1]);
    }
    close(pipes[1]);
    nanosleep(&delay, NULL);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
        fail_msg("the writer ended by itself: %s",
                 cap_error_name(cap_error_from_code((unsigned)WEXITSTATUS(status))));
    }
    while (count < max &&
           read(pipes[0], &ret_acks[count], sizeof(*ret_acks)) == sizeof(*ret_acks)) {
        count++;
    }
    close(pipes[0]);
    return count;
}

/* --- What is left ----------------------------------------------------------------------------- */

/* Checks every cap that the store lists: published_us is its number. Returns how many. */
static uint64_t check_listed(struct cap_store *store)
{
    struct cap_list_query query = {.max = LIST_PAGE, .scan_max = LIST_PAGE};
    struct cap_listed items[LIST_PAGE];
    struct cap_hash last;
    struct cap_read *read;
    uint64_t total = 0;
    bool more = true;
    assert_cap_ok(cap_store_read_begin(store, &read));
    while (more) {
        size_t count;
        assert_cap_ok(cap_store_list(read, &query, items, &count, &last, &more));
        for (size_t i = 0; i < count; i++) {
            uint64_t seed = items[i].info.published_us;
            struct cap_hash hash = fake_hash(seed);
            assert_hash_equal(&items[i].hash, &hash);
            assert_cap_ok(check_body(read, seed, seed < IMAGES ? len_of(seed) : 100));
        }
        total += count;
        query.after = &last;
    }
    cap_store_read_end(read);
    return total;
}

/* Verifies what the writer left, if it came so far as to create the store. */
static void check_left(struct fixture *fixture)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    if (access(path, F_OK) == 0) {
        fixture_check(fixture);
        fixture_close(fixture);
    }
}

/* Whether `number` is among what comes after the first `from` acknowledgements. */
static bool is_told(const uint64_t *acks, size_t from, size_t count, uint64_t number)
{
    while (from < count && acks[from] != number) {
        from++;
    }
    return from < count;
}

/* What was acknowledged is so; of what was under way when the writer died either is. */
static void check_acks(struct cap_store *store, const uint64_t *acks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t seed = acks[i] & ~DELETED;
        if (acks[i] != seed) {
            assert_false(is_there(store, seed));
        } else if (has_lease(seed) && !is_deleted(seed)) {
            assert_cap_ok(check_cap(store, seed, len_of(seed)));
        } else if (is_there(store, seed)) {
            assert_false(is_told(acks, i, count, seed | DELETED));
            assert_cap_ok(check_cap(store, seed, len_of(seed)));
        } else if (has_lease(seed)) { /* deleted: only the last one may be untold */
            assert_true(is_told(acks, i, count, seed | DELETED) || i + 16 > count);
        }
    }
}

static void test_kill(void **state)
{
    static uint64_t acks[8192];
    struct fixture *fixture = *state;
    unsigned rounds = setting("CAPSTORE_KILL_ROUNDS", ROUNDS_DEFAULT);
    unsigned seed = setting("CAPSTORE_KILL_SEED", 1);
    size_t acknowledged = 0;
    print_message("%u rounds, seed %u\n", rounds, seed);
    fixture_close(fixture);
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t longest_us = round % NEW_STORE < NEW_STORE / 4 ? 4000 : 120000;
        long delay_us = (long)(fake_number((uint64_t)seed << 32 | round) % longest_us);
        size_t count;
        if (round % NEW_STORE == 0) {
            fixture_remove_dir(fixture->dir);
            assert_true(fixture_make_dir(fixture));
        }
        count = live_and_die(fixture, (round + 1) * ROUND_SEEDS, delay_us, acks, 8192);
        if (round % 4 == 3) {
            check_left(fixture);
        }
        assert_cap_ok(fixture_open(fixture));
        check_acks(fixture->store, acks, count);
        if (round % 8 == 7 || round + 1 == rounds) {
            struct cap_counts counts = get_counts(fixture->store);
            assert_int_equal(check_listed(fixture->store),
                             counts.caps[CAP_KIND_DATA] + counts.caps[CAP_KIND_IMAGE]);
        }
        acknowledged += count;
        fixture_close(fixture);
    }
    assert_true(acknowledged > 0);
    print_message("%zu acknowledged, all there\n", acknowledged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"kill -9", test_kill, fixture_setup, fixture_teardown, &lmdb},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
