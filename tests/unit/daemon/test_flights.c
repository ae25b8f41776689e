/*
 * The table of what is to be brought from above: one flight for all who want the same, whose turn
 * it is, what a peer may cost, and what is remembered. The clock is a fake; the test itself is the
 * thread that takes.
 */
#include "tests/unit/support.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/upstream/flights.h"

#define SECOND    UINT64_C(1000000)
#define TURNS_MAX 20000 /* half a millisecond each, before a test is taken to hang */

enum { ALICE = 1, BOB, CAROL, DAVE, EVE };

static size_t allocations_left = SIZE_MAX; /* until one fails */

void *real_calloc(size_t count, size_t size) __asm__("__real_calloc");
void *wrap_calloc(size_t count, size_t size) __asm__("__wrap_calloc");

void *wrap_calloc(size_t count, size_t size)
{
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left -= allocations_left == SIZE_MAX ? 0 : 1;
    return real_calloc(count, size);
}

static atomic_size_t timed_waits; /* begun */

int real_timedwait(uv_cond_t *cond, uv_mutex_t *mutex,
                   uint64_t timeout) __asm__("__real_uv_cond_timedwait");
int wrap_timedwait(uv_cond_t *cond, uv_mutex_t *mutex,
                   uint64_t timeout) __asm__("__wrap_uv_cond_timedwait");

int wrap_timedwait(uv_cond_t *cond, uv_mutex_t *mutex, uint64_t timeout)
{
    timed_waits++;
    return real_timedwait(cond, mutex, timeout);
}

struct fixture {
    atomic_uint_fast64_t now_us;
    struct env env;
    config_number rate;
    struct flights *flights;
    struct flight *batch[FLIGHTS_BATCH]; /* taken last */
};

/* An order as a room makes it, and how often it was told that it is done. */
struct wanted {
    struct fetch_order order;
    size_t done;
    struct cap_hash hashes[];
};

static uint64_t fake_monotonic(void *ctx)
{
    const struct fixture *fixture = ctx;
    return fixture->now_us;
}

static enum cap_error fake_random(void *ctx, void *dst, size_t len)
{
    uint8_t *bytes = dst;
    (void)ctx;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(167 * i + 13);
    }
    return CAP_OK;
}

static void setup(struct fixture *fixture, size_t threads, uint64_t rate)
{
    const struct env env = {.monotonic_us = fake_monotonic, .random = fake_random, .ctx = fixture};
    *fixture = (struct fixture){.now_us = 1000 * SECOND, .rate = rate, .env = env};
    assert_cap_ok(flights_new(&fixture->env, &fixture->rate, threads, &fixture->flights));
}

static void on_done(struct fetch_order *order)
{
    ((struct wanted *)order)->done++;
}

/* The hash of a number: those of one peer's block of numbers are not those of another. */
static struct cap_hash hash_of(uint64_t number)
{
    struct cap_hash hash = {{0}};
    memcpy(hash.bytes + CAP_HASH_SIZE - sizeof(number), &number, sizeof(number));
    return hash;
}

static struct wanted *make(uint64_t peer, uint64_t first, size_t count)
{
    struct wanted *wanted = calloc(1, sizeof(*wanted) + count * sizeof(struct cap_hash));
    assert_non_null(wanted);
    for (size_t i = 0; i < count; i++) {
        wanted->hashes[i] = hash_of(first + i);
    }
    wanted->order = (struct fetch_order){
        .peer = peer, .hashes = wanted->hashes, .count = count, .done = on_done};
    return wanted;
}

/* Has a peer want the caps of some numbers. */
static struct wanted *want(struct fixture *fixture, uint64_t peer, uint64_t first, size_t count)
{
    struct wanted *wanted = make(peer, first, count);
    assert_cap_ok(flights_want(fixture->flights, &wanted->order));
    return wanted;
}

static void refuse(struct fixture *fixture, uint64_t peer, uint64_t first, size_t count,
                   enum cap_error error)
{
    struct wanted *wanted = make(peer, first, count);
    assert_cap_error(flights_want(fixture->flights, &wanted->order), error);
    assert_int_equal(wanted->done, 0);
    free(wanted);
}

static void assert_waits(struct wanted *wanted)
{
    assert_int_equal(wanted->done, 0);
}

/* That an order has ended, once; and frees it. */
static void assert_done(struct wanted *wanted, enum cap_error error)
{
    assert_int_equal(wanted->done, 1);
    assert_cap_error(wanted->order.error, error);
    free(wanted);
}

static void withdraw(struct fixture *fixture, struct wanted *wanted)
{
    assert_true(flights_withdraw(fixture->flights, &wanted->order));
    assert_int_equal(wanted->done, 0);
    free(wanted);
}

static struct flights_figures figures(struct fixture *fixture)
{
    struct flights_figures now;
    flights_figures(fixture->flights, &now);
    return now;
}

static size_t take(struct fixture *fixture)
{
    return flights_take(fixture->flights, fixture->batch);
}

/* Takes, and says which peer's caps these are: numbers are PEER * 100000 + something. */
static uint64_t take_of(struct fixture *fixture)
{
    uint64_t number;
    assert_true(take(fixture) > 0);
    memcpy(&number, fixture->batch[0]->hash.bytes + CAP_HASH_SIZE - sizeof(number), sizeof(number));
    return number / 100000;
}

/* Lands what was taken last. */
static void land(struct fixture *fixture, size_t count, enum cap_error error)
{
    struct flight_lane *lane = fixture->batch[0]->lane;
    for (size_t i = 0; i < count; i++) {
        flights_land(fixture->flights, fixture->batch[i], error);
    }
    flights_return(fixture->flights, lane);
}

static void take_and_land(struct fixture *fixture, size_t count, enum cap_error error)
{
    assert_int_equal(take(fixture), count);
    land(fixture, count, error);
}

/* --- One flight for all ----------------------------------------------------------------------- */

static void test_one_flight_for_many_orders(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    struct wanted *first = want(&fixture, ALICE, 1, 1);
    struct wanted *second = want(&fixture, BOB, 1, 1);
    assert_int_equal(figures(&fixture).flights, 1);
    assert_int_equal(take(&fixture), 1);
    struct wanted *third = want(&fixture, CAROL, 1, 1); /* it is under way */
    assert_int_equal(figures(&fixture).flights, 1);
    assert_waits(first);
    land(&fixture, 1, CAP_OK);
    assert_done(first, CAP_OK);
    assert_done(second, CAP_OK);
    assert_done(third, CAP_OK);
    assert_int_equal(figures(&fixture).landed, 1);
    flights_free(fixture.flights);
}

/* An order is done when all that it is about has an outcome; one hash may be in it twice. */
static void test_order_of_several(void **state)
{
    struct fixture fixture;
    struct flight *batch[2];
    (void)state;
    setup(&fixture, 4, 1);
    struct wanted *order = make(ALICE, 1, 3);
    order->hashes[2] = order->hashes[0];
    assert_cap_ok(flights_want(fixture.flights, &order->order));
    assert_int_equal(take(&fixture), 2);
    memcpy(batch, fixture.batch, sizeof(batch));
    flights_land(fixture.flights, batch[0], CAP_OK);
    assert_waits(order);
    flights_land(fixture.flights, batch[1], CAP_OK);
    assert_done(order, CAP_OK);
    flights_free(fixture.flights);
}

/* What is wrong with one comes before what is only absent, in whichever order they land. */
static void test_outcome_of_several(void **state)
{
    static const enum cap_error outcomes[][3] = {
        {CAP_OK, CAP_E_NOT_FOUND, CAP_E_UPSTREAM_BROKEN},
        {CAP_E_UPSTREAM_BROKEN, CAP_E_NOT_FOUND, CAP_OK},
        {CAP_E_NOT_FOUND, CAP_E_UPSTREAM_BROKEN, CAP_OK},
    };
    struct fixture fixture;
    (void)state;
    setup(&fixture, 8, 1);
    for (size_t i = 0; i < 3; i++) {
        struct wanted *order = want(&fixture, ALICE, 10 * i, 3);
        assert_int_equal(take(&fixture), 3);
        for (size_t j = 0; j < 3; j++) {
            flights_land(fixture.flights, fixture.batch[j], outcomes[i][j]);
        }
        assert_done(order, CAP_E_UPSTREAM_BROKEN);
    }
    flights_free(fixture.flights);
}

static void test_withdraw(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    withdraw(&fixture, want(&fixture, ALICE, 1, 3)); /* what nobody waits for is not brought */
    assert_int_equal(figures(&fixture).flights, 0);
    struct wanted *first = want(&fixture, ALICE, 1, 1);
    struct wanted *second = want(&fixture, BOB, 1, 1);
    withdraw(&fixture, first); /* and the other goes on waiting */
    assert_int_equal(take(&fixture), 1);
    withdraw(&fixture, second); /* what is under way goes on */
    assert_int_equal(figures(&fixture).taken, 1);
    assert_int_equal(figures(&fixture).flights, 1);
    struct wanted *third = want(&fixture, CAROL, 1, 1);
    land(&fixture, 1, CAP_OK);
    assert_int_equal(third->done, 1);
    assert_false(flights_withdraw(fixture.flights, &third->order));
    assert_done(third, CAP_OK);
    assert_int_equal(figures(&fixture).flights, 0);
    flights_free(fixture.flights);
}

/* --- Turns ------------------------------------------------------------------------------------ */

static void test_lanes_take_turns(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 16, 1);
    struct wanted *orders[] = {want(&fixture, ALICE, ALICE * 100000, 4 * FLIGHTS_BATCH),
                               want(&fixture, BOB, BOB * 100000, 2 * FLIGHTS_BATCH),
                               want(&fixture, CAROL, CAROL * 100000, 1)};
    static const uint64_t turns[] = {ALICE, BOB, CAROL, ALICE, BOB, ALICE, ALICE};
    for (size_t i = 0; i < sizeof(turns) / sizeof(turns[0]); i++) {
        assert_int_equal(take_of(&fixture), turns[i]);
        land(&fixture, turns[i] == CAROL ? 1 : FLIGHTS_BATCH, CAP_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_done(orders[i], CAP_OK);
    }
    flights_free(fixture.flights);
}

/* Alice was first, and waits for more than two threads could bring: the third is not hers. */
static void test_half_of_the_threads(void **state)
{
    struct fixture fixture;
    struct flight *batches[2][FLIGHTS_BATCH];
    (void)state;
    setup(&fixture, 4, 1);
    struct wanted *many = want(&fixture, ALICE, ALICE * 100000, 3 * FLIGHTS_BATCH);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(take_of(&fixture), ALICE);
        memcpy(batches[i], fixture.batch, sizeof(batches[i]));
    }
    struct wanted *one = want(&fixture, BOB, BOB * 100000, 1);
    assert_int_equal(take_of(&fixture), BOB);
    land(&fixture, 1, CAP_OK);
    assert_done(one, CAP_OK);
    memcpy(fixture.batch, batches[0], sizeof(batches[0]));
    land(&fixture, FLIGHTS_BATCH, CAP_OK); /* one comes back, and she has her next turn */
    assert_int_equal(take_of(&fixture), ALICE);
    assert_waits(many);
    land(&fixture, FLIGHTS_BATCH, CAP_OK);
    memcpy(fixture.batch, batches[1], sizeof(batches[1]));
    land(&fixture, FLIGHTS_BATCH, CAP_OK);
    assert_done(many, CAP_OK);
    flights_free(fixture.flights);
}

/* One who asks for what waits at the end of a long lane has it moved to his own. */
static void test_joined_flight_is_not_held_up(void **state)
{
    struct fixture fixture;
    const uint64_t first = ALICE * 100000;
    (void)state;
    setup(&fixture, 16, 1);
    struct wanted *many = want(&fixture, ALICE, first, 4 * FLIGHTS_BATCH);
    struct wanted *last = want(&fixture, BOB, first + 4 * FLIGHTS_BATCH - 1, 1);
    assert_int_equal(take(&fixture), FLIGHTS_BATCH);
    land(&fixture, FLIGHTS_BATCH, CAP_OK);
    take_and_land(&fixture, 1, CAP_OK);
    assert_done(last, CAP_OK);
    withdraw(&fixture, many);
    flights_free(fixture.flights);
}

/* --- Tokens ----------------------------------------------------------------------------------- */

/* That the peer's next turn is of so many: another's flight shows where it ends. */
static void assert_tokens(struct fixture *fixture, uint64_t peer, size_t tokens)
{
    static uint64_t number = EVE * 100000;
    static uint64_t other = 1000;
    size_t taken = 0;
    while (taken < tokens) {
        assert_int_equal(take_of(fixture), peer);
        size_t count = 1;
        while (count < FLIGHTS_BATCH && taken + count < tokens) {
            count++;
        }
        land(fixture, count, CAP_E_NOT_FOUND);
        taken += count;
    }
    struct wanted *one = want(fixture, other++, number++, 1);
    assert_int_equal(take_of(fixture), EVE);
    land(fixture, 1, CAP_OK);
    assert_done(one, CAP_OK);
}

/* An absence costs a token; they come back by the clock, at the rate, and no more than a burst. */
static void test_tokens(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 2);
    struct wanted *many = want(&fixture, ALICE, ALICE * 100000, 6 * FLIGHTS_BURST);
    assert_tokens(&fixture, ALICE, FLIGHTS_BURST);
    assert_waits(many);
    fixture.now_us += SECOND / 2 - 1;
    assert_tokens(&fixture, ALICE, 0);
    fixture.now_us += 1;
    assert_tokens(&fixture, ALICE, 1);
    fixture.now_us += 10 * SECOND;
    assert_tokens(&fixture, ALICE, 20);
    fixture.rate = 8; /* changed while it is in use */
    fixture.now_us += SECOND;
    assert_tokens(&fixture, ALICE, 8);
    fixture.now_us += UINT64_C(1) << 62; /* times the rate, past 64 bits */
    assert_tokens(&fixture, ALICE, FLIGHTS_BURST);
    withdraw(&fixture, many);
    flights_free(fixture.flights);
}

/* What was there costs nothing. */
static void test_tokens_come_back_with_caps(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    struct wanted *many = want(&fixture, ALICE, ALICE * 100000, 8 * FLIGHTS_BURST);
    for (size_t i = 0; i < 4 * FLIGHTS_BURST / FLIGHTS_BATCH; i++) {
        take_and_land(&fixture, FLIGHTS_BATCH, CAP_OK);
    }
    fixture.now_us += UINT64_C(1) << 62;
    assert_tokens(&fixture, ALICE, FLIGHTS_BURST); /* and no more than there were */
    withdraw(&fixture, many);
    flights_free(fixture.flights);
}

static void take_alone(void *arg)
{
    struct fixture *fixture = arg;
    if (take(fixture) > 0) {
        land(fixture, 1, CAP_OK);
    }
}

/* A thread that waits for a token has it when the clock says so, without a word from anybody. */
static void test_starved_thread_wakes(void **state)
{
    struct fixture fixture;
    uv_thread_t thread;
    (void)state;
    setup(&fixture, 4, 1);
    struct wanted *many = want(&fixture, ALICE, ALICE * 100000, FLIGHTS_BURST + 1);
    for (size_t i = 0; i < FLIGHTS_BURST / FLIGHTS_BATCH; i++) {
        take_and_land(&fixture, FLIGHTS_BATCH, CAP_E_NOT_FOUND);
    }
    assert_int_equal(uv_thread_create(&thread, take_alone, &fixture), 0);
    for (size_t turns = 0; timed_waits == 0; turns++) {
        assert_true(turns < TURNS_MAX);
        usleep(500);
    }
    fixture.now_us += SECOND;
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_done(many, CAP_E_NOT_FOUND);
    flights_free(fixture.flights);
}

/* --- What is remembered ----------------------------------------------------------------------- */

static void assert_remembered(struct fixture *fixture, uint64_t number, enum cap_error error)
{
    uint64_t recalled = figures(fixture).recalled;
    assert_done(want(fixture, BOB, number, 1), error);
    assert_int_equal(figures(fixture).recalled, recalled + 1);
    struct cap_hash hash = hash_of(number);
    assert_cap_error(flights_recall(fixture->flights, &hash), error);
}

static void assert_forgotten(struct fixture *fixture, uint64_t number)
{
    struct cap_hash hash = hash_of(number);
    assert_cap_error(flights_recall(fixture->flights, &hash), CAP_E_UPSTREAM_AWAY);
    struct wanted *wanted = want(fixture, BOB, number, 1);
    assert_waits(wanted);
    withdraw(fixture, wanted);
}

static void bring(struct fixture *fixture, uint64_t number, enum cap_error error)
{
    struct wanted *wanted = want(fixture, ALICE, number, 1);
    take_and_land(fixture, 1, error);
    assert_done(wanted, error);
}

static void test_outcomes_are_remembered(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    bring(&fixture, 1, CAP_E_NOT_FOUND);
    bring(&fixture, 2, CAP_E_UPSTREAM_AWAY);
    bring(&fixture, 3, CAP_E_UPSTREAM_BROKEN);
    bring(&fixture, 4, CAP_OK);
    bring(&fixture, 5, CAP_E_DRAINING);
    fixture.now_us += FLIGHTS_AWAY_US - 1;
    assert_remembered(&fixture, 2, CAP_E_UPSTREAM_AWAY);
    fixture.now_us += 1;
    assert_forgotten(&fixture, 2);
    fixture.now_us += FLIGHTS_KEEP_US - FLIGHTS_AWAY_US - 1;
    assert_remembered(&fixture, 1, CAP_E_NOT_FOUND);
    assert_remembered(&fixture, 3, CAP_E_UPSTREAM_BROKEN);
    assert_forgotten(&fixture, 4); /* it is here, and who reads finds it */
    assert_forgotten(&fixture, 5);
    fixture.now_us += 1;
    assert_forgotten(&fixture, 1);
    assert_forgotten(&fixture, 3);
    flights_free(fixture.flights);
}

/* Asked for again after it was forgotten, it has the newer outcome. */
static void test_newer_outcome_counts(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    bring(&fixture, 1, CAP_E_UPSTREAM_AWAY);
    fixture.now_us += FLIGHTS_AWAY_US;
    bring(&fixture, 1, CAP_E_NOT_FOUND);
    assert_remembered(&fixture, 1, CAP_E_NOT_FOUND);
    flights_free(fixture.flights);
}

/* Part of an order is remembered, the rest is brought. */
static void test_remembered_in_part(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    bring(&fixture, 1, CAP_E_NOT_FOUND);
    struct wanted *order = want(&fixture, BOB, 1, 2);
    assert_waits(order);
    take_and_land(&fixture, 1, CAP_OK);
    assert_done(order, CAP_E_NOT_FOUND);
    flights_free(fixture.flights);
}

/* More outcomes than there are places: the last are remembered, and the table does not grow. */
static void test_memory_is_bounded(void **state)
{
    struct fixture fixture;
    size_t remembered = 0;
    (void)state;
    setup(&fixture, 4, SECOND);
    for (uint64_t at = 0; at < 2 * FLIGHTS_KEPT; at += FLIGHTS_BATCH) {
        struct wanted *order = want(&fixture, ALICE, at, FLIGHTS_BATCH);
        take_and_land(&fixture, FLIGHTS_BATCH, CAP_E_NOT_FOUND);
        assert_done(order, CAP_E_NOT_FOUND);
        fixture.now_us += 1000;
    }
    for (uint64_t number = 0; number < 2 * FLIGHTS_KEPT; number++) {
        struct cap_hash hash = hash_of(number);
        bool kept = flights_recall(fixture.flights, &hash) == CAP_E_NOT_FOUND;
        remembered += kept ? 1 : 0;
        assert_true(kept || number < 2 * FLIGHTS_KEPT - 512);
    }
    assert_in_range(remembered, FLIGHTS_KEPT / 2, FLIGHTS_KEPT);
    flights_free(fixture.flights);
}

/* Hashes that are alike but for some bytes do not share their places: a peer chooses every bit. */
static void test_chosen_hashes(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    for (size_t byte = 0; byte < CAP_HASH_SIZE; byte++) {
        struct wanted *order = make(ALICE, 0, 8);
        for (size_t i = 0; i < 8; i++) {
            memset(order->hashes[i].bytes, 0x40 + (int)byte, CAP_HASH_SIZE);
            order->hashes[i].bytes[byte] = (uint8_t)i;
        }
        assert_cap_ok(flights_want(fixture.flights, &order->order));
        take_and_land(&fixture, 8, CAP_E_NOT_FOUND);
        for (size_t i = 0; i < 8; i++) {
            assert_cap_error(flights_recall(fixture.flights, &order->hashes[i]), CAP_E_NOT_FOUND);
        }
        assert_done(order, CAP_E_NOT_FOUND);
    }
    flights_free(fixture.flights);
}

/* --- Bounds ----------------------------------------------------------------------------------- */

static void test_too_many_of_a_peer(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    struct wanted *most = want(&fixture, ALICE, ALICE * 100000, FLIGHTS_PEER_MAX);
    refuse(&fixture, ALICE, 7, 1, CAP_E_TOO_MANY_REQUESTS);
    assert_int_equal(take(&fixture), FLIGHTS_BATCH); /* what is under way counts too */
    refuse(&fixture, ALICE, 7, 1, CAP_E_TOO_MANY_REQUESTS);
    land(&fixture, FLIGHTS_BATCH, CAP_OK);
    refuse(&fixture, ALICE, 7, FLIGHTS_BATCH + 1, CAP_E_TOO_MANY_REQUESTS);
    withdraw(&fixture, want(&fixture, ALICE, 7, FLIGHTS_BATCH));
    withdraw(&fixture, want(&fixture, BOB, 7, 1));
    withdraw(&fixture, most);
    assert_int_equal(figures(&fixture).flights, 0);
    flights_free(fixture.flights);
}

static void test_too_many_in_all(void **state)
{
    struct fixture fixture;
    struct wanted *orders[FLIGHTS_MAX / FLIGHTS_PEER_MAX];
    const size_t count = sizeof(orders) / sizeof(orders[0]);
    (void)state;
    setup(&fixture, 4, 1);
    for (size_t i = 0; i < count; i++) {
        orders[i] = want(&fixture, ALICE + i, (ALICE + i) * 100000, FLIGHTS_PEER_MAX);
    }
    refuse(&fixture, ALICE + count, 7, 1, CAP_E_TOO_MANY_REQUESTS);
    withdraw(&fixture, orders[0]);
    orders[0] = want(&fixture, ALICE + count, 7, 1);
    for (size_t i = 0; i < count; i++) {
        withdraw(&fixture, orders[i]);
    }
    flights_free(fixture.flights);
}

/* A lane that is as a new one would be makes room; one that has spent tokens does not yet. */
static void test_too_many_peers(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    for (uint64_t peer = 0; peer < FLIGHTS_LANES; peer++) {
        struct wanted *one = want(&fixture, peer, peer, 1);
        take_and_land(&fixture, 1, CAP_E_NOT_FOUND);
        assert_done(one, CAP_E_NOT_FOUND);
    }
    refuse(&fixture, FLIGHTS_LANES, 100000, 1, CAP_E_TOO_MANY_REQUESTS);
    struct wanted *waiting = want(&fixture, 5, 100001, 1);
    fixture.now_us += SECOND; /* all have their token again */
    withdraw(&fixture, want(&fixture, FLIGHTS_LANES, 100000, 1));
    assert_waits(waiting);
    take_and_land(&fixture, 1, CAP_OK);
    assert_done(waiting, CAP_OK);
    flights_free(fixture.flights);
}

/* Without memory an order is not taken, and nothing of it is left. */
static void test_no_memory(void **state)
{
    struct fixture fixture;
    struct wanted *order = make(ALICE, 1, 5);
    (void)state;
    setup(&fixture, 4, 1);
    size_t allowed = 0;
    enum cap_error error = CAP_E_NO_MEMORY;
    for (; error != CAP_OK && allowed < 20; allowed++) {
        allocations_left = allowed;
        error = flights_want(fixture.flights, &order->order);
        allocations_left = SIZE_MAX;
        assert_true(error == CAP_OK || error == CAP_E_NO_MEMORY ||
                    error == CAP_E_TOO_MANY_REQUESTS); /* a lane is one of many */
        assert_int_equal(figures(&fixture).flights, error == CAP_OK ? 5 : 0);
        assert_waits(order);
    }
    assert_cap_ok(error);
    assert_true(allowed > 5);
    withdraw(&fixture, order);
    flights_free(fixture.flights);
}

/* --- The end ---------------------------------------------------------------------------------- */

static void test_stop(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture, 4, 1);
    struct wanted *taken = want(&fixture, ALICE, 1, 1);
    assert_int_equal(take(&fixture), 1);
    struct wanted *queued = want(&fixture, BOB, 2, 3);
    flights_stop(fixture.flights);
    assert_false(flights_withdraw(fixture.flights, &queued->order));
    assert_done(taken, CAP_E_DRAINING);
    assert_done(queued, CAP_E_DRAINING);
    refuse(&fixture, ALICE, 3, 1, CAP_E_DRAINING);
    assert_int_equal(figures(&fixture).flights, 1); /* its thread still has it */
    land(&fixture, 1, CAP_OK);
    assert_int_equal(take(&fixture), 0);
    flights_free(fixture.flights);
}

static void test_stop_wakes_threads(void **state)
{
    struct fixture fixture;
    uv_thread_t threads[2];
    (void)state;
    setup(&fixture, 4, 1);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(uv_thread_create(&threads[i], take_alone, &fixture), 0);
    }
    flights_stop(fixture.flights);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    }
    flights_free(fixture.flights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_flight_for_many_orders),
        cmocka_unit_test(test_order_of_several),
        cmocka_unit_test(test_outcome_of_several),
        cmocka_unit_test(test_withdraw),
        cmocka_unit_test(test_lanes_take_turns),
        cmocka_unit_test(test_half_of_the_threads),
        cmocka_unit_test(test_joined_flight_is_not_held_up),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_tokens_come_back_with_caps),
        cmocka_unit_test(test_starved_thread_wakes),
        cmocka_unit_test(test_outcomes_are_remembered),
        cmocka_unit_test(test_newer_outcome_counts),
        cmocka_unit_test(test_remembered_in_part),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_chosen_hashes),
        cmocka_unit_test(test_too_many_of_a_peer),
        cmocka_unit_test(test_too_many_in_all),
        cmocka_unit_test(test_too_many_peers),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_wakes_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
