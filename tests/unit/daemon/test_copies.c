/* Copies to be mapped: made once for all who wait, bounded, and what happens when making fails. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/net/session.h"
#include "daemon/serve/copies.h"
#include "daemon/serve/serve.h"
#include "lib/store/engine.h"

#define ASKERS    20u
#define LARGE_LEN (3u << 20) /* several steps */
#define TURNS_MAX 5000

struct asker {
    struct copy_wait wait;
    unsigned answers;
};

static void on_answer(struct copy_wait *wait)
{
    CONTAINER_OF(wait, struct asker, wait)->answers++;
}

static struct copies *copies_of(struct fixture *fixture)
{
    return fixture->server.serves.copies;
}

static struct serve *serve_of(struct fixture *fixture)
{
    return &fixture->server.loops[0].serve;
}

static struct copies_figures figures_of(struct fixture *fixture)
{
    struct copies_figures figures;
    copies_figures(copies_of(fixture), &figures);
    return figures;
}

/* Asks; an answer that is there at once counts as any other. */
static void ask(struct fixture *fixture, struct asker *asker, const struct cap_hash *hash)
{
    *asker = (struct asker){
        .wait = {.serve = serve_of(fixture),
                 .account = fixture_session(fixture)->account,
                 .hash = *hash,
                 .done = on_answer},
    };
    if (copies_get(copies_of(fixture), &asker->wait)) {
        asker->answers++;
    }
}

static void wait_for(struct fixture *fixture, const struct asker *asker)
{
    for (int turns = 0; asker->answers == 0; turns++) {
        assert_true(turns < TURNS_MAX);
        fixture_turn(fixture);
    }
    assert_int_equal(asker->answers, 1);
}

/* Asks and waits; returns the descriptor, or -1 after that error. */
static int get(struct fixture *fixture, const struct cap_hash *hash, enum cap_error error)
{
    struct asker asker;
    ask(fixture, &asker, hash);
    wait_for(fixture, &asker);
    assert_cap_error(asker.wait.error, error);
    assert_int_equal(asker.wait.fd >= 0, error == CAP_OK);
    return asker.wait.fd;
}

static struct cap_hash publish(struct fixture *fixture, int fd, size_t len, uint8_t seed)
{
    uint8_t *content = malloc(len);
    assert_non_null(content);
    for (size_t i = 0; i < len; i++) {
        content[i] = (uint8_t)(1 + (i * 31 + i / 4096 + seed) % 255);
    }
    struct cap_hash hash = client_publish(fixture, fd, 1, (struct cap_bytes){content, len});
    free(content);
    return hash;
}

static void test_made_once(void **state)
{
    struct fixture *fixture = *state;
    struct asker askers[ASKERS];
    struct stat first;
    struct stat other;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, LARGE_LEN, 0);
    for (size_t i = 0; i < ASKERS; i++) {
        ask(fixture, &askers[i], &hash);
        assert_int_equal(askers[i].answers, 0);
    }
    for (size_t i = 0; i < ASKERS; i++) {
        wait_for(fixture, &askers[i]);
        assert_cap_ok(askers[i].wait.error);
        assert_int_equal(fstat(askers[i].wait.fd, &other), 0);
        first = i == 0 ? other : first;
        assert_int_equal(other.st_ino, first.st_ino);
        close(askers[i].wait.fd);
    }
    assert_int_equal(other.st_size, LARGE_LEN);
    assert_int_equal(fixture->server.loops[0].shard.stats.maps_made, 1);
    assert_int_equal(figures_of(fixture).count, 1);
    assert_int_equal(figures_of(fixture).bytes, LARGE_LEN);
    close(get(fixture, &hash, CAP_OK));
    assert_int_equal(fixture->server.loops[0].shard.stats.maps_made, 1);
    close(fd);
}

/* --- A store that fails --- */

static atomic_int windows_left; /* before the store fails */
static const struct cap_store_ops *sound;

static enum cap_error window(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                             uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len)
{
    if (atomic_fetch_sub(&windows_left, 1) <= 0) {
        return CAP_E_IO;
    }
    return sound->window(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

/* The store fails after `windows` windows: everybody who asked learns it, and nothing is left. */
static void all_are_told(struct fixture *fixture, const struct cap_hash *hash, int windows)
{
    struct asker askers[3];
    atomic_store(&windows_left, windows);
    for (size_t i = 0; i < 3; i++) {
        ask(fixture, &askers[i], hash);
    }
    for (size_t i = 0; i < 3; i++) {
        wait_for(fixture, &askers[i]);
        if (askers[i].wait.error == CAP_OK) {
            fail_msg("the store failed at window %d, and nobody was told", windows);
        }
        assert_int_equal(askers[i].wait.fd, -1);
    }
    assert_int_equal(figures_of(fixture).bytes, 0);
    assert_int_equal(figures_of(fixture).count, 0);
}

static void test_store_that_fails(void **state)
{
    struct fixture *fixture = *state;
    static struct cap_store_ops failing;
    struct cap_store *store = fixture->server.context.store;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, LARGE_LEN, 0);
    fixture_settle(fixture);
    sound = store->ops;
    failing = *sound;
    failing.window = window;
    store->ops = &failing;
    for (int at = 0; at < 16; at += at < 4 ? 1 : 4) { /* in each of the steps */
        all_are_told(fixture, &hash, at);
    }
    store->ops = sound;
    close(get(fixture, &hash, CAP_OK));
    close(fd);
}

static void test_absent(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash absent = {{1}};
    int fd = client_open(fixture);
    (void)get(fixture, &absent, CAP_E_NOT_FOUND);
    assert_int_equal(figures_of(fixture).count, 0);
    close(fd);
}

/* --- Those who leave --- */

static void test_all_leave(void **state)
{
    struct fixture *fixture = *state;
    struct asker askers[3];
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, LARGE_LEN, 0);
    for (size_t i = 0; i < 3; i++) {
        ask(fixture, &askers[i], &hash);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true(copies_leave(copies_of(fixture), &askers[i].wait));
    }
    fixture_settle(fixture);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(askers[i].answers, 0);
    }
    assert_true(figures_of(fixture).count <= 1); /* it may have been made before they left */
    close(get(fixture, &hash, CAP_OK));
    close(fd);
}

static void test_one_leaves(void **state)
{
    struct fixture *fixture = *state;
    struct asker askers[2];
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, LARGE_LEN, 0);
    ask(fixture, &askers[0], &hash);
    ask(fixture, &askers[1], &hash);
    assert_true(copies_leave(copies_of(fixture), &askers[0].wait));
    wait_for(fixture, &askers[1]);
    assert_cap_ok(askers[1].wait.error);
    assert_false(copies_leave(copies_of(fixture), &askers[1].wait));
    close(askers[1].wait.fd);
    assert_int_equal(askers[0].answers, 0);
    close(fd);
}

static void test_stop(void **state)
{
    struct fixture *fixture = *state;
    struct asker askers[2];
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, LARGE_LEN, 0);
    ask(fixture, &askers[0], &hash);
    ask(fixture, &askers[1], &hash);
    copies_stop(copies_of(fixture), serve_of(fixture));
    for (size_t i = 0; i < 2; i++) {
        wait_for(fixture, &askers[i]);
        assert_cap_error(askers[i].wait.error, CAP_E_DRAINING);
    }
    fixture_settle(fixture);
    assert_true(figures_of(fixture).count <= 1); /* a reader may have made it before */
    close(fd);
}

/* --- Bounds --- */

#define ROOM 4u /* small copies that there is room for */

static void small_cache(struct config *config)
{
    config->map_cache = ROOM * COPY_LEAST;
    config->max_peer_maps = (ROOM - 1) * COPY_LEAST;
}

static int setup_small(void **state)
{
    struct fixture *fixture = malloc(sizeof(*fixture));
    assert_non_null(fixture);
    fixture_start(fixture, small_cache);
    *state = fixture;
    return 0;
}

static void test_least_recently_used(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hashes[ROOM];
    int fd = client_open(fixture);
    uint64_t *made = &fixture->server.loops[0].shard.stats.maps_made;
    for (uint8_t i = 0; i < ROOM; i++) {
        hashes[i] = publish(fixture, fd, 5000, i);
    }
    for (size_t i = 0; i < ROOM - 1; i++) { /* all that one peer may have */
        close(get(fixture, &hashes[i], CAP_OK));
    }
    close(get(fixture, &hashes[0], CAP_OK));
    assert_int_equal(*made, ROOM - 1);
    close(get(fixture, &hashes[ROOM - 1], CAP_OK)); /* 1 goes */
    assert_int_equal(*made, ROOM);
    assert_int_equal(figures_of(fixture).count, ROOM - 1);
    close(get(fixture, &hashes[0], CAP_OK));
    assert_int_equal(*made, ROOM);
    close(get(fixture, &hashes[1], CAP_OK));
    assert_int_equal(*made, ROOM + 1);
    close(fd);
}

static void test_held_by_a_peer(void **state)
{
    struct fixture *fixture = *state;
    int held[ROOM - 1];
    struct asker asker;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 5000, 100);
    for (uint8_t i = 0; i < ROOM - 1; i++) {
        struct cap_hash other = publish(fixture, fd, 5000, i);
        held[i] = get(fixture, &other, CAP_OK);
    }
    ask(fixture, &asker, &hash);
    wait_for(fixture, &asker);
    assert_cap_error(asker.wait.error, CAP_E_MEMORY_LIMIT);
    assert_string_equal(
        asker.wait.why,
        "limit of 196608 bytes of mapped copies of one peer reached (max-peer-maps)");
    assert_int_equal(figures_of(fixture).count, ROOM - 1);
    close(held[0]);
    assert_int_equal(figures_of(fixture).count, ROOM - 2);
    held[0] = get(fixture, &hash, CAP_OK);
    for (size_t i = 0; i < ROOM - 1; i++) {
        close(held[i]);
    }
    close(fd);
}

/*
 * A copy is there that another peer had made, and the peer's share is full of copies that it does
 * not hold: a reader lets go of one first.
 */
static void test_given_past_the_share(void **state)
{
    struct fixture *fixture = *state;
    struct ledger *ledger = fixture->server.context.ledger;
    struct ledger_peer *other;
    struct asker asker;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 5000, 100);
    assert_cap_ok(ledger_connect(ledger, "uid=1", &other));
    asker = (struct asker){
        .wait = {.serve = serve_of(fixture), .account = other, .hash = hash, .done = on_answer}};
    assert_false(copies_get(copies_of(fixture), &asker.wait));
    wait_for(fixture, &asker);
    assert_cap_ok(asker.wait.error);
    close(asker.wait.fd);
    for (uint8_t i = 0; i < ROOM - 1; i++) {
        struct cap_hash own = publish(fixture, fd, 5000, i);
        close(get(fixture, &own, CAP_OK));
    }
    assert_int_equal(figures_of(fixture).count, ROOM);
    ask(fixture, &asker, &hash);
    assert_int_equal(asker.answers, 0);
    wait_for(fixture, &asker);
    assert_cap_ok(asker.wait.error);
    close(asker.wait.fd);
    assert_int_equal(figures_of(fixture).count, ROOM - 1);
    assert_int_equal(fixture->server.loops[0].shard.stats.maps_made, ROOM);
    ledger_disconnect(ledger, other);
    close(fd);
}

static void test_too_large(void **state)
{
    struct fixture *fixture = *state;
    struct asker asker;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 300000, 0);
    ask(fixture, &asker, &hash);
    wait_for(fixture, &asker);
    assert_cap_error(asker.wait.error, CAP_E_MEMORY_LIMIT);
    assert_string_equal(
        asker.wait.why,
        "mapping it takes 303104 bytes, and all copies may take 262144 (map-cache)");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_made_once, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_store_that_fails, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_absent, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_all_leave, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_one_leaves, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_stop, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_least_recently_used, setup_small, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_held_by_a_peer, setup_small, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_given_past_the_share, setup_small, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_too_large, setup_small, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
