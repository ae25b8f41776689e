/*
 * Leases on their way to the writer, against the memory engine: batches, turns, what becomes of
 * orders that fail, are withdrawn, or are left when the daemon ends.
 *
 * A job whose body waits for the test holds the writer's thread, so that what is ordered meanwhile
 * is gathered.
 */
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/core/container.h"
#include "daemon/publish/keeping.h"
#include "tests/support/store_memory.h"

#define CAPS   100u /* in the store */
#define KEEP_S 1000u

struct fixture {
    uv_loop_t loop;
    struct cap_store *store;
    struct stats stats;
    struct writer *writer;
    struct writer_outlet outlet;
    struct keeping keeping;
    uv_sem_t gate;
    struct writer_job held;
    struct cap_put held_put;
    unsigned done; /* orders */
};

/* An order of `count` leases, of caps in turn. */
struct test_order {
    struct keep_order order;
    struct fixture *fixture;
    unsigned rank; /* the how manieth it was to be done; 0: it is not */
};

static void on_done(struct keep_order *order)
{
    struct test_order *test = CONTAINER_OF(order, struct test_order, order);
    assert_int_equal(test->rank, 0);
    test->rank = ++test->fixture->done;
}

static struct cap_hash hash_of(size_t number)
{
    struct cap_hash hash = {{0}};
    cap_store32(hash.bytes, (uint32_t)(1 + number));
    return hash;
}

static void make_order(struct fixture *fixture, struct test_order *test, uint64_t peer,
                       size_t count)
{
    *test = (struct test_order){.fixture = fixture};
    test->order = (struct keep_order){
        .peer = peer,
        .keeps = calloc(count, sizeof(struct cap_keep)),
        .count = count,
        .done = on_done,
    };
    for (size_t i = 0; i < count; i++) {
        test->order.keeps[i] = (struct cap_keep){.hash = hash_of(i % CAPS), .keep_s = KEEP_S};
    }
}

static void give(struct fixture *fixture, struct test_order *test)
{
    assert_cap_ok(fixture->keeping.keeper.give(&fixture->keeping.keeper, &test->order));
}

static void expect_kept(const struct fixture *fixture, const struct test_order *test)
{
    assert_true(test->rank > 0);
    assert_cap_ok(test->order.error);
    for (size_t i = 0; i < test->order.count; i++) {
        const struct cap_keep *keep = &test->order.keeps[i];
        if (keep->keep_s != 0) {
            assert_cap_ok(keep->error);
            assert_int_equal(keep->kind, CAP_KIND_DATA);
            assert_true(cap_store_left(fixture->store, keep->kept_until_s) > KEEP_S / 2);
        }
    }
}

static void finish_all(struct fixture *fixture)
{
    while (writer_queued(fixture->writer) > 0) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
}

/* --- The writer held ------------------------------------------------------------------------ */

static enum cap_error read_held(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct fixture *fixture = ctx;
    (void)offset;
    uv_sem_wait(&fixture->gate);
    memset(dst, 1, len);
    return CAP_OK;
}

static void on_held(struct writer_job *job)
{
    assert_cap_ok(job->admission.error);
}

static void close_gate(struct fixture *fixture)
{
    fixture->held_put = (struct cap_put){
        .hash = {{[31] = 1}},
        .info = {.kind = CAP_KIND_DATA, .body_len = 10, .size = 4096, .published_us = 1},
        .body = {.read = read_held, .ctx = fixture},
        .is_new = true,
    };
    fixture->held = (struct writer_job){
        .admission = {.puts = &fixture->held_put, .put_count = 1},
        .done = on_held,
    };
    writer_submit(&fixture->outlet, &fixture->held);
}

/* --- The fixture ---------------------------------------------------------------------------- */

static void on_failed(void *ctx, enum cap_error error)
{
    (void)ctx;
    assert_true(error != CAP_OK);
}

static enum cap_error fake_disk(void *ctx, const char *path, uint64_t *ret_bytes)
{
    (void)ctx;
    (void)path;
    *ret_bytes = UINT64_MAX;
    return CAP_OK;
}

static void on_filled(struct writer_job *job)
{
    assert_cap_ok(job->admission.error);
    free(job->admission.puts);
}

static void fill_store(struct fixture *fixture)
{
    static uint8_t body[1];
    struct writer_job job = {.admission = {.put_count = CAPS}, .done = on_filled};
    job.admission.puts = calloc(CAPS, sizeof(struct cap_put));
    for (size_t i = 0; i < CAPS; i++) {
        job.admission.puts[i] = (struct cap_put){
            .hash = hash_of(i),
            .info = {.kind = CAP_KIND_DATA, .body_len = 1, .size = 4096, .published_us = 1},
            .body = {.memory = body},
            .is_new = true,
        };
    }
    writer_submit(&fixture->outlet, &job);
    finish_all(fixture);
    fixture->stats.commits = 0;
}

static struct env fake_env;

static int setup(void **state)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = {1};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    assert_int_equal(uv_sem_init(&fixture->gate, 0), 0);
    fake_env = *env_system();
    fake_env.disk_free = fake_disk;
    assert_cap_ok(cap_store_memory_new(id, UINT64_C(1) << 20, &fixture->store));
    const struct writer_config config = {
        .store = fixture->store,
        .env = &fake_env,
        .failed = on_failed,
        .ctx = fixture,
    };
    assert_cap_ok(writer_new(&config, &fixture->writer));
    keeping_init(&fixture->keeping, &fixture->outlet);
    assert_cap_ok(
        writer_outlet_open(&fixture->outlet, fixture->writer, &fixture->loop, &fixture->stats));
    fill_store(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    writer_stop(fixture->writer);
    keeping_close(&fixture->keeping);
    writer_outlet_close(&fixture->outlet);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    writer_free(fixture->writer);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    cap_store_close(fixture->store);
    uv_sem_destroy(&fixture->gate);
    free(fixture);
    return 0;
}

/* --- The tests ------------------------------------------------------------------------------ */

/* The first goes by itself, and all that wait meanwhile together; with the admission of a cap. */
static void test_a_thousand_orders(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 1000 };
    struct test_order *orders = calloc(COUNT, sizeof(*orders));
    close_gate(fixture);
    for (size_t i = 0; i < COUNT; i++) {
        make_order(fixture, &orders[i], 1 + i % 7, 1);
        give(fixture, &orders[i]);
    }
    uv_sem_post(&fixture->gate);
    finish_all(fixture);
    for (size_t i = 0; i < COUNT; i++) {
        expect_kept(fixture, &orders[i]);
        free(orders[i].order.keeps);
    }
    assert_in_range(fixture->stats.commits, 2, 4);
    free(orders);
}

/* A peer that asks for much delays another by the batch that is under way. */
static void test_peers_take_turns(void **state)
{
    struct fixture *fixture = *state;
    struct test_order many[20];
    struct test_order one;
    close_gate(fixture);
    for (size_t i = 0; i < 20; i++) {
        make_order(fixture, &many[i], 1, KEEPING_BATCH);
        give(fixture, &many[i]);
    }
    make_order(fixture, &one, 2, KEEPING_TURN);
    give(fixture, &one);
    uv_sem_post(&fixture->gate);
    finish_all(fixture);
    expect_kept(fixture, &one);
    assert_in_range(one.rank, 1, 2);
    for (size_t i = 0; i < 20; i++) {
        expect_kept(fixture, &many[i]);
        free(many[i].order.keeps);
    }
    free(one.order.keeps);
}

/* Of an order only what asks for something is given; wherever it stands. */
static void test_what_asks_for_nothing_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct test_order test;
    make_order(fixture, &test, 1, 3 * KEEPING_TURN);
    for (size_t i = 0; i < test.order.count; i++) {
        if (i != 0 && i != KEEPING_TURN) {
            test.order.keeps[i].keep_s = 0;
        }
    }
    give(fixture, &test);
    finish_all(fixture);
    expect_kept(fixture, &test);
    assert_int_equal(test.order.keeps[1].kept_until_s, 0);
    assert_int_equal(fixture->stats.commits, 1);
    free(test.order.keeps);
}

static void test_absent_caps(void **state)
{
    struct fixture *fixture = *state;
    struct test_order test;
    make_order(fixture, &test, 1, 2);
    test.order.keeps[0].hash = hash_of(CAPS + 5);
    give(fixture, &test);
    finish_all(fixture);
    assert_int_equal(test.rank, 1);
    assert_cap_ok(test.order.error);
    assert_cap_error(test.order.keeps[0].error, CAP_E_NOT_FOUND);
    assert_cap_ok(test.order.keeps[1].error);
    free(test.order.keeps);
}

/* Withdrawn while the writer has a part of it, and while it waits: `done` is not called. */
static void test_withdrawn(void **state)
{
    struct fixture *fixture = *state;
    struct test_order tests[3];
    struct keeper *keeper = &fixture->keeping.keeper;
    close_gate(fixture);
    for (size_t i = 0; i < 3; i++) {
        make_order(fixture, &tests[i], 1, 2 * KEEPING_BATCH);
        give(fixture, &tests[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        keeper->withdraw(keeper, &tests[i].order);
        free(tests[i].order.keeps);
        memset(&tests[i].order, 0xaa, sizeof(tests[i].order));
    }
    uv_sem_post(&fixture->gate);
    finish_all(fixture);
    assert_int_equal(tests[0].rank, 0);
    assert_int_equal(tests[1].rank, 0);
    expect_kept(fixture, &tests[2]);
    free(tests[2].order.keeps);
}

/* A commit that fails is an error of those that were in it; an order goes no further then. */
static void test_a_full_disk(void **state)
{
    struct fixture *fixture = *state;
    struct test_order failed;
    struct test_order next;
    make_order(fixture, &failed, 1, 4 * KEEPING_BATCH);
    make_order(fixture, &next, 2, 1);
    cap_store_memory_fail_commit(fixture->store, CAP_E_DISK_FULL);
    give(fixture, &failed);
    finish_all(fixture);
    assert_int_equal(failed.rank, 1);
    assert_cap_error(failed.order.error, CAP_E_DISK_FULL);
    assert_int_equal(failed.order.keeps[0].kept_until_s, 0);
    give(fixture, &next);
    finish_all(fixture);
    expect_kept(fixture, &next);
    free(failed.order.keeps);
    free(next.order.keeps);
}

/* What is left when the writer stops is cancelled, each order once. */
static void test_the_end(void **state)
{
    struct fixture *fixture = *state;
    struct test_order tests[3];
    for (size_t i = 0; i < 3; i++) {
        make_order(fixture, &tests[i], i, 10 * KEEPING_BATCH);
        give(fixture, &tests[i]);
    }
    writer_stop(fixture->writer);
    keeping_close(&fixture->keeping);
    writer_outlet_close(&fixture->outlet);
    for (size_t i = 0; i < 3; i++) {
        assert_true(tests[i].rank > 0);
        assert_cap_error(tests[i].order.error, CAP_E_CANCELLED);
        free(tests[i].order.keeps);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_thousand_orders),
        TEST(test_peers_take_turns),
        TEST(test_what_asks_for_nothing_is_left_alone),
        TEST(test_absent_caps),
        TEST(test_withdrawn),
        TEST(test_a_full_disk),
        TEST(test_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
