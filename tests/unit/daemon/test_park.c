/* The park: whose what is kept is, how much of it there is, and who gets it. */
#include "tests/unit/support.h"

#include <pthread.h>
#include <string.h>

#include "daemon/core/ledger.h"
#include "daemon/publish/park.h"

#define MIB (UINT64_C(1) << 20)

struct fixture {
    struct config config;
    struct ledger *ledger;
    struct park *park;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    config_init(&fixture->config);
    fixture->config.resume_bytes = 10 * MIB;
    assert_cap_ok(ledger_new(&fixture->config, env_system(), &fixture->ledger));
    assert_cap_ok(park_new(&fixture->config, fixture->ledger, &fixture->park));
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    park_free(fixture->park);
    ledger_free(fixture->ledger);
    config_free(&fixture->config);
    free(fixture);
    return 0;
}

/* An upload's message, as far as the park looks at it: a number, the token, the offset. */
struct message {
    uint8_t bytes[1 + PROTO_TOKEN_SIZE + 8];
};

static struct message message_of(uint32_t number, uint64_t offset)
{
    struct message message = {{0}};
    cap_store32(message.bytes + 1, number);
    cap_store64(message.bytes + 1 + PROTO_TOKEN_SIZE, offset);
    return message;
}

static enum cap_error enter(struct park *park, const char *peer, uint32_t number, uint64_t offset,
                            struct park_place **ret_place, struct park_load *ret_load)
{
    const struct message message = message_of(number, offset);
    const struct park_upload upload = {
        peer, {message.bytes, sizeof(message.bytes)}, 100 * MIB, offset};
    return park_enter(park, &upload, NULL, ret_place, ret_load);
}

/* An upload of `len` bytes that was cut off at `now_us`. */
static void leave(struct park *park, const char *peer, uint32_t number, uint64_t len,
                  uint64_t now_us)
{
    struct park_place *place;
    struct park_load load;
    assert_cap_ok(enter(park, peer, number, 0, &place, &load));
    load = (struct park_load){.received = len};
    park_leave(park, place, &load, now_us, NULL);
}

static uint64_t kept(struct park *park, const char *peer, uint32_t number)
{
    const struct message message = message_of(number, 0);
    const struct park_name name = {peer, message.bytes + 1};
    uint64_t total_len;
    uint64_t offset;
    assert_true(park_find(park, &name, &total_len, &offset));
    assert_int_equal(total_len, offset == 0 ? 0 : 100 * MIB);
    return offset;
}

static void expect(struct park *park, uint64_t count, uint64_t bytes)
{
    struct park_figures figures;
    park_figures(park, &figures);
    assert_int_equal(figures.count, count);
    assert_int_equal(figures.bytes, bytes);
}

/* Who knows a token and is another has nothing of it. */
static void test_other_peers(void **state)
{
    struct fixture *fixture = *state;
    struct park_place *place;
    struct park_load load;
    leave(fixture->park, "uid=1", 5, MIB, 0);
    assert_int_equal(kept(fixture->park, "uid=2", 5), 0);
    assert_cap_error(enter(fixture->park, "uid=2", 5, MIB, &place, &load), CAP_E_RESUME_OFFSET);
    leave(fixture->park, "uid=2", 5, 2 * MIB, 0); /* nor does it drop it */
    assert_int_equal(kept(fixture->park, "uid=1", 5), MIB);
    assert_int_equal(kept(fixture->park, "uid=2", 5), 2 * MIB);
    expect(fixture->park, 2, 3 * MIB);
    assert_cap_ok(enter(fixture->park, "uid=1", 5, MIB, &place, &load));
    assert_int_equal(load.received, MIB);
    expect(fixture->park, 1, 2 * MIB);
    park_leave(fixture->park, place, NULL, 0, NULL);
    expect(fixture->park, 1, 2 * MIB);
}

/* By its number and by its bytes a peer drops what is its own, the oldest first. */
static void test_a_peer_drops_its_own(void **state)
{
    struct fixture *fixture = *state;
    struct park *park = fixture->park;
    leave(park, "uid=1", 1, 4 * MIB, 0);
    for (uint32_t i = 0; i < PARK_PEER_MAX; i++) {
        leave(park, "uid=2", i, MIB / 64, 0);
    }
    expect(park, 1 + PARK_PEER_MAX, 5 * MIB);
    leave(park, "uid=2", 1000, MIB / 64, 0);
    expect(park, 1 + PARK_PEER_MAX, 5 * MIB);
    assert_int_equal(kept(park, "uid=2", 0), 0);
    assert_int_equal(kept(park, "uid=2", 1), MIB / 64);
    leave(park, "uid=2", 1001, 10 * MIB, 0);
    expect(park, 2, 14 * MIB);
    leave(park, "uid=2", 1002, 10 * MIB + 1, 0); /* more than there can be */
    expect(park, 2, 14 * MIB);
    assert_int_equal(kept(park, "uid=1", 1), 4 * MIB);
}

/* When all peers together have left what may be left, one that left nothing leaves nothing. */
static void test_all_peers(void **state)
{
    struct fixture *fixture = *state;
    struct park *park = fixture->park;
    const char *peers[] = {"uid=1", "uid=2", "uid=3", "uid=4"};
    for (uint32_t i = 0; i < 4; i++) {
        leave(park, peers[i], 1, 9 * MIB, 0);
        leave(park, peers[i], 2, MIB, 0);
    }
    expect(park, 8, 40 * MIB);
    leave(park, "uid=5", 1, MIB, 0);
    assert_int_equal(kept(park, "uid=5", 1), 0);
    expect(park, 8, 40 * MIB);
    leave(park, "uid=4", 3, MIB, 0); /* in the place of its own */
    assert_int_equal(kept(park, "uid=4", 1), 0);
    assert_int_equal(kept(park, "uid=4", 3), MIB);
    leave(park, "uid=5", 1, MIB, 0); /* where there is room now */
    assert_int_equal(kept(park, "uid=5", 1), MIB);
}

/* The same by the number of loads. */
static void test_loads_of_all_peers(void **state)
{
    struct fixture *fixture = *state;
    struct park *park = fixture->park;
    const char *peers[] = {"uid=1", "uid=2", "uid=3", "uid=4"};
    for (uint32_t i = 0; i < PARK_MAX; i++) {
        leave(park, peers[i % 4], i, 1, 0);
    }
    leave(park, "uid=5", 1, 1, 0);
    assert_int_equal(kept(park, "uid=5", 1), 0);
    expect(park, PARK_MAX, PARK_MAX);
    leave(park, "uid=4", PARK_MAX, 1, 0); /* in the place of its own */
    assert_int_equal(kept(park, "uid=4", PARK_MAX), 1);
    expect(park, PARK_MAX, PARK_MAX);
}

/* An upload whose fields are so many bytes of one value. */
static enum cap_error enter_fields(struct park *park, size_t len, uint64_t offset,
                                   struct park_place **ret_place, struct park_load *ret_load)
{
    uint8_t bytes[PROTO_UPLOAD_MAX];
    memset(bytes, 7, sizeof(bytes));
    cap_store64(bytes + len, offset);
    const struct park_upload upload = {"uid=1", {bytes, len + 8}, 100 * MIB, offset};
    return park_enter(park, &upload, NULL, ret_place, ret_load);
}

/* An upload of another type has more or fewer fields; as far as they go they may be the same. */
static void test_fields_of_another_length(void **state)
{
    struct fixture *fixture = *state;
    struct park_place *place;
    struct park_load load;
    assert_cap_ok(enter_fields(fixture->park, 36, 0, &place, &load));
    load = (struct park_load){.received = MIB};
    park_leave(fixture->park, place, &load, 0, NULL);
    assert_cap_error(enter_fields(fixture->park, 32, MIB, &place, &load), CAP_E_RESUME_OFFSET);
    assert_cap_error(enter_fields(fixture->park, 40, MIB, &place, &load), CAP_E_RESUME_OFFSET);
    assert_cap_ok(enter_fields(fixture->park, 36, MIB, &place, &load));
    park_leave(fixture->park, place, NULL, 0, NULL);
}

static void test_time(void **state)
{
    struct fixture *fixture = *state;
    struct park *park = fixture->park;
    leave(park, "uid=1", 1, MIB, 0);
    leave(park, "uid=1", 2, MIB, 1000000);
    park_clear(park, UINT64_C(299999999), false, NULL);
    expect(park, 2, 2 * MIB);
    park_clear(park, UINT64_C(300000000), false, NULL);
    expect(park, 1, MIB);
    fixture->config.resume_keep = 0; /* from here on */
    leave(park, "uid=1", 3, MIB, 2000000);
    expect(park, 1, MIB);
    park_clear(park, 0, true, NULL);
    expect(park, 0, 0);
}

/* An upload under way is told that somebody asks for it; one that takes its name over is not. */
static void test_wanted(void **state)
{
    struct fixture *fixture = *state;
    struct park *park = fixture->park;
    const struct message message = message_of(7, 0);
    const struct park_name name = {"uid=1", message.bytes + 1};
    struct park_place *first;
    struct park_place *second;
    struct park_load load;
    uint64_t total_len;
    uint64_t offset;
    assert_cap_ok(enter(park, "uid=1", 7, 0, &first, &load));
    assert_false(park_is_wanted(first));
    assert_false(park_find(park, &name, &total_len, &offset));
    assert_true(park_is_wanted(first));
    assert_cap_ok(enter(park, "uid=1", 7, 0, &second, &load));
    assert_false(park_is_wanted(second));
    load = (struct park_load){.received = MIB};
    park_leave(park, first, &load, 0, NULL); /* its name is gone */
    expect(park, 0, 0);
    assert_false(park_find(park, &name, &total_len, &offset));
    park_leave(park, second, &load, 0, NULL);
    assert_int_equal(kept(park, "uid=1", 7), MIB);
    assert_cap_ok(enter(park, "uid=1", 7, MIB, &second, &load));
    assert_false(park_is_wanted(second)); /* who asked has it */
    park_leave(park, second, NULL, 0, NULL);
}

/* --- Threads ---------------------------------------------------------------------------------- */

#define RACERS 4
#define ROUNDS 500

struct race {
    struct fixture *fixture;
    pthread_barrier_t start;
    pthread_barrier_t end;
    atomic_uint winners;
};

static void *run_racer(void *ctx)
{
    struct race *race = ctx;
    struct park *park = race->fixture->park;
    for (int i = 0; i < ROUNDS; i++) {
        struct park_place *place;
        struct park_load load;
        pthread_barrier_wait(&race->start);
        if (enter(park, "uid=1", 1, MIB, &place, &load) == CAP_OK) {
            atomic_fetch_add(&race->winners, 1);
            assert_int_equal(load.received, MIB);
            park_leave(park, place, NULL, 0, NULL);
        }
        pthread_barrier_wait(&race->end);
    }
    return NULL;
}

/* Of several that go on with one upload, on loops of their own, one does. */
static void test_a_race(void **state)
{
    struct race race = {.fixture = *state};
    pthread_t threads[RACERS];
    pthread_barrier_init(&race.start, NULL, RACERS + 1);
    pthread_barrier_init(&race.end, NULL, RACERS + 1);
    for (int i = 0; i < RACERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_racer, &race), 0);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        leave(race.fixture->park, "uid=1", 1, MIB, 0);
        pthread_barrier_wait(&race.start);
        park_clear(race.fixture->park, 0, false, NULL);
        pthread_barrier_wait(&race.end);
        assert_int_equal(atomic_load(&race.winners), i + 1);
    }
    for (int i = 0; i < RACERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    pthread_barrier_destroy(&race.start);
    pthread_barrier_destroy(&race.end);
}

#define EACH(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_other_peers),
        EACH(test_a_peer_drops_its_own),
        EACH(test_all_peers),
        EACH(test_loads_of_all_peers),
        EACH(test_fields_of_another_length),
        EACH(test_time),
        EACH(test_wanted),
        EACH(test_a_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
