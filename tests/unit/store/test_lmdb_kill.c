/*
 * kill -9 at random moments of a writer's life: whatever it acknowledged is there and whole, and
 * whatever is there is whole. In a store's first rounds it often dies while it creates the store.
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
    return error == CAP_OK ? put_one(store, &put, NULL) : error;
}

static _Noreturn void run_writer(struct fixture *fixture, uint64_t seed, int ack)
{
    enum cap_error error = fixture_open(fixture);
    for (; error == CAP_OK; seed++) {
        error = publish(fixture->store, seed);
        if (error == CAP_OK && seed % 22 != 7 && write(ack, &seed, sizeof(seed)) != sizeof(seed)) {
            _exit(1);
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
            assert_cap_ok(check_body(read, seed, len_of(seed)));
        }
        total += count;
        query.after = &last;
    }
    cap_store_read_end(read);
    return total;
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
        assert_cap_ok(fixture_open(fixture));
        for (size_t i = 0; i < count; i++) {
            assert_cap_ok(check_cap(fixture->store, acks[i], len_of(acks[i])));
        }
        if (round % 8 == 7 || round + 1 == rounds) {
            assert_int_equal(check_listed(fixture->store),
                             get_counts(fixture->store).caps[CAP_KIND_DATA]);
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
