/*
 * The writer against the memory engine: shared commits, the culprit alone fails, cancelling,
 * stages, jobs of more than one transaction.
 *
 * A first job whose body waits for the test holds the thread, so that what is handed over meanwhile
 * is taken together.
 */
#include "tests/unit/support.h"

#include <string.h>

#include "daemon/publish/writer.h"
#include "lib/store/engine.h"
#include "tests/support/store_memory.h"

#define BODY_MAX (UINT64_C(32) << 20)

struct fixture {
    uv_loop_t loop;
    struct config config;
    struct ledger *ledger;
    struct cap_store *store;
    struct stats stats;
    struct writer *writer;
    uv_sem_t gate;
    unsigned failures;                /* calls of `failed` */
    struct cap_store_ops ops;         /* the engine's, with the commit below */
    const struct cap_store_ops *real; /* the engine's */
    enum cap_error commit_error;      /* of the next `commits_to_fail` commits */
    unsigned commits_to_fail;
};

/* A job with one cap, whose body is `len` bytes of one value. */
struct test_job {
    struct writer_job job;
    struct writer_cap cap;
    struct fixture *fixture;
    uint8_t fill;
    enum cap_error read_error;
    bool waits; /* for the gate, at its first read */
    bool finished;
};

static enum cap_error read_fill(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct test_job *test = ctx;
    (void)offset;
    if (test->waits) {
        test->waits = false;
        uv_sem_wait(&test->fixture->gate);
    }
    memset(dst, test->fill, len);
    return test->read_error;
}

static void on_done(struct writer_job *job)
{
    struct test_job *test = job->owner;
    assert_false(test->finished);
    test->finished = true;
}

static void fill_cap(struct writer_cap *cap, uint16_t name, struct test_job *source, uint64_t len)
{
    *cap = (struct writer_cap){
        .put = {.info = {.kind = CAP_KIND_DATA, .body_len = len, .size = 4096, .published_us = 1},
                .body = {.read = read_fill, .ctx = source}}};
    cap_store16(cap->put.hash.bytes, name);
}

static void make_job(struct fixture *fixture, struct test_job *test, uint8_t name, uint64_t len)
{
    *test = (struct test_job){.fixture = fixture, .fill = name};
    fill_cap(&test->cap, name, test, len);
    test->job.caps = &test->cap;
    test->job.cap_count = 1;
    test->job.done = on_done;
    test->job.owner = test;
}

static bool is_stored(struct fixture *fixture, uint16_t name)
{
    struct cap_read *read = NULL;
    struct cap_hash hash = {{0}};
    cap_store16(hash.bytes, name);
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    enum cap_error error = cap_store_find(read, &hash, NULL);
    cap_store_read_end(read);
    assert_true(error == CAP_OK || error == CAP_E_NOT_FOUND);
    return error == CAP_OK;
}

static void finish_all(struct fixture *fixture)
{
    while (writer_queued(fixture->writer) > 0) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
}

static void on_failed(void *ctx, enum cap_error error)
{
    struct fixture *fixture = ctx;
    assert_true(error != CAP_OK);
    fixture->failures++;
}

static int setup(void **state)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = {1};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    config_init(&fixture->config);
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    assert_int_equal(uv_sem_init(&fixture->gate, 0), 0);
    assert_cap_ok(ledger_new(&fixture->config, &fixture->ledger));
    assert_cap_ok(cap_store_memory_new(id, BODY_MAX, &fixture->store));
    const struct writer_config config = {
        .store = fixture->store,
        .ledger = fixture->ledger,
        .env = env_system(),
        .stats = &fixture->stats,
        .failed = on_failed,
        .ctx = fixture,
    };
    assert_cap_ok(writer_new(&fixture->loop, &config, &fixture->writer));
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    writer_stop(fixture->writer);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_true(writer_closed(fixture->writer));
    writer_free(fixture->writer);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    cap_store_close(fixture->store);
    ledger_free(fixture->ledger);
    uv_sem_destroy(&fixture->gate);
    free(fixture);
    return 0;
}

/* Holds the thread in a job of its own until open_gate. */
static void close_gate(struct fixture *fixture, struct test_job *blocker)
{
    make_job(fixture, blocker, 200, 10);
    blocker->waits = true;
    writer_submit(fixture->writer, &blocker->job);
}

static void open_gate(struct fixture *fixture)
{
    uv_sem_post(&fixture->gate);
    finish_all(fixture);
}

/* --- Admissions
 * ----------------------------------------------------------------------------------- */

static void test_one_job(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    for (int round = 0; round < 2; round++) {
        make_job(fixture, &test, 1, 100);
        writer_submit(fixture->writer, &test.job);
        finish_all(fixture);
        assert_true(test.finished);
        assert_cap_ok(test.job.error);
        assert_int_equal(test.cap.is_new, round == 0);
    }
    assert_true(is_stored(fixture, 1));
    assert_int_equal(fixture->stats.commits, 2);
}

static void test_waiting_jobs_share_a_commit(void **state)
{
    struct fixture *fixture = *state;
    struct test_job blocker;
    struct test_job tests[20];
    close_gate(fixture, &blocker);
    for (uint8_t i = 0; i < 20; i++) {
        make_job(fixture, &tests[i], i, 100);
        writer_submit(fixture->writer, &tests[i].job);
    }
    assert_int_equal(writer_queued(fixture->writer), 21);
    open_gate(fixture);
    for (uint8_t i = 0; i < 20; i++) {
        assert_cap_ok(tests[i].job.error);
        assert_true(is_stored(fixture, i));
    }
    /* The blocker's own commit may have taken some along; never one commit each. */
    assert_in_range(fixture->stats.commits, 1, 2);
    assert_int_equal(fixture->stats.commit_admissions.sum, 21);
}

/* One job of a shared transaction cannot be stored: it alone fails, the others are stored. */
static void fail_the_culprit(struct fixture *fixture, struct test_job *culprit,
                             enum cap_error wanted)
{
    struct test_job blocker;
    struct test_job before;
    struct test_job after;
    close_gate(fixture, &blocker);
    make_job(fixture, &before, 1, 100);
    make_job(fixture, &after, 3, 100);
    writer_submit(fixture->writer, &before.job);
    writer_submit(fixture->writer, &culprit->job);
    writer_submit(fixture->writer, &after.job);
    open_gate(fixture);
    assert_cap_ok(before.job.error);
    assert_cap_ok(after.job.error);
    assert_cap_error(culprit->job.error, wanted);
    assert_true(is_stored(fixture, 1));
    assert_false(is_stored(fixture, 2));
    assert_true(is_stored(fixture, 3));
    assert_int_equal(fixture->failures, 0);
}

static void test_unreadable_body_fails_alone(void **state)
{
    struct test_job culprit;
    make_job(*state, &culprit, 2, 100);
    culprit.read_error = CAP_E_IO;
    fail_the_culprit(*state, &culprit, CAP_E_IO);
}

static void test_full_map_fails_alone(void **state)
{
    struct test_job culprit;
    make_job(*state, &culprit, 2, BODY_MAX + 1);
    fail_the_culprit(*state, &culprit, CAP_E_MAP_FULL);
}

/* As many caps as a job can have, and together more bytes than a transaction takes: still one. */
static void test_many_caps(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    enum { COUNT = WRITER_BATCH_PUTS, LONG = 5 };
    struct writer_cap *caps = calloc(COUNT, sizeof(*caps));
    make_job(fixture, &test, 0, 1);
    for (uint16_t i = 0; i < COUNT; i++) {
        bool is_long = i % (COUNT / LONG) == 0;
        fill_cap(&caps[i], (uint16_t)(1000 + i), &test,
                 is_long ? WRITER_STAGE_MIN : WRITER_BATCH_LEN / COUNT);
    }
    test.job.caps = caps;
    test.job.cap_count = COUNT;
    writer_submit(fixture->writer, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.error);
    assert_int_equal(fixture->stats.commits, 1);
    assert_in_range(fixture->stats.stage_steps, LONG, LONG + 1);
    for (uint16_t i = 0; i < COUNT; i++) {
        assert_true(caps[i].is_new);
        assert_true(is_stored(fixture, (uint16_t)(1000 + i)));
    }
    free(caps);
}

/* Jobs that do not fit into one transaction together take turns. */
static void test_batches_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct test_job blocker;
    enum { COUNT = WRITER_BATCH_LEN / WRITER_STAGE_MIN + 4 };
    struct test_job tests[COUNT];
    close_gate(fixture, &blocker);
    for (uint8_t i = 0; i < COUNT; i++) {
        make_job(fixture, &tests[i], i, WRITER_STAGE_MIN);
        writer_submit(fixture->writer, &tests[i].job);
    }
    open_gate(fixture);
    for (uint8_t i = 0; i < COUNT; i++) {
        assert_cap_ok(tests[i].job.error);
    }
    assert_in_range(fixture->stats.commits, 2, 3);
    assert_int_equal(fixture->stats.stage_steps, 0);
}

/* --- Stages
 * --------------------------------------------------------------------------------------- */

static void test_large_body_is_staged(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    struct cap_read *read = NULL;
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    int count = 0;
    size_t len = 0;
    uint64_t body_len = CAP_STAGE_STEP + 12345;
    make_job(fixture, &test, 7, body_len);
    writer_submit(fixture->writer, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.error);
    assert_true(test.cap.is_new);
    assert_in_range(fixture->stats.stage_steps, 2, 3);
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_ok(cap_store_window(read, &test.cap.put.hash, body_len - 5, 100, iov, &count, &len));
    assert_int_equal(len, 5);
    assert_int_equal(*(const uint8_t *)iov[0].iov_base, 7);
    cap_store_read_end(read);
    /* Again: it is there, nothing is staged. */
    uint64_t steps = fixture->stats.stage_steps;
    make_job(fixture, &test, 7, body_len);
    writer_submit(fixture->writer, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.error);
    assert_false(test.cap.is_new);
    assert_int_equal(fixture->stats.stage_steps, steps);
}

static void test_two_stage_the_same_body(void **state)
{
    struct fixture *fixture = *state;
    struct test_job blocker;
    struct test_job a;
    struct test_job b;
    close_gate(fixture, &blocker);
    make_job(fixture, &a, 7, UINT64_C(3) << 20);
    make_job(fixture, &b, 7, UINT64_C(3) << 20);
    writer_submit(fixture->writer, &a.job);
    writer_submit(fixture->writer, &b.job);
    open_gate(fixture);
    assert_cap_ok(a.job.error);
    assert_cap_ok(b.job.error);
    assert_true(a.cap.is_new != b.cap.is_new);
}

static void test_failed_stage_leaves_room(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    make_job(fixture, &test, 1, UINT64_C(10) << 20);
    test.read_error = CAP_E_IO;
    writer_submit(fixture->writer, &test.job);
    finish_all(fixture);
    assert_cap_error(test.job.error, CAP_E_IO);
    /* The stage was dropped: a body that would not fit beside it does. */
    make_job(fixture, &test, 2, UINT64_C(15) << 20);
    writer_submit(fixture->writer, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.error);
}

/* --- Commits that fail
 * ----------------------------------------------------------------------------- */

/* A cap_store knows nothing of the fixture: one test at a time fails commits. */
static struct fixture *failing;

static enum cap_error failing_commit(struct cap_write *write)
{
    if (failing->commits_to_fail == 0) {
        return failing->real->write_commit(write);
    }
    failing->commits_to_fail--;
    failing->real->write_abort(write);
    return failing->commit_error;
}

static void fail_commits(struct fixture *fixture, unsigned count, enum cap_error error)
{
    failing = fixture;
    fixture->real = fixture->store->ops;
    fixture->ops = *fixture->real;
    fixture->ops.write_commit = failing_commit;
    fixture->store->ops = &fixture->ops;
    fixture->commits_to_fail = count;
    fixture->commit_error = error;
}

/* Hands three jobs over. */
static void three_jobs(struct fixture *fixture, struct test_job tests[3])
{
    for (uint8_t i = 0; i < 3; i++) {
        make_job(fixture, &tests[i], (uint8_t)(i + 1), 100);
        writer_submit(fixture->writer, &tests[i].job);
    }
    finish_all(fixture);
}

/* A shared commit that the disk is too full for is tried again job by job. */
static void test_full_disk_at_commit(void **state)
{
    struct fixture *fixture = *state;
    struct test_job tests[3];
    fail_commits(fixture, 1, CAP_E_DISK_FULL);
    three_jobs(fixture, tests);
    unsigned stored = 0;
    for (uint8_t i = 0; i < 3; i++) {
        assert_int_equal(is_stored(fixture, (uint16_t)(i + 1)), tests[i].job.error == CAP_OK);
        stored += tests[i].job.error == CAP_OK;
    }
    assert_true(stored >= 2); /* one that was alone in its transaction has failed */
    assert_int_equal(fixture->failures, 0);
    assert_int_equal(fixture->stats.commits_failed, 1);
    make_job(fixture, &tests[0], 9, 100);
    writer_submit(fixture->writer, &tests[0].job);
    finish_all(fixture);
    assert_cap_ok(tests[0].job.error);
}

/* After these nobody knows what is on the disk: nothing is acknowledged any more. */
static void fail_for_good(struct fixture *fixture, enum cap_error error)
{
    struct test_job tests[3];
    fail_commits(fixture, 1, error);
    three_jobs(fixture, tests);
    for (uint8_t i = 0; i < 3; i++) {
        assert_true(tests[i].job.error == error || tests[i].job.error == CAP_E_STORE_FAILED);
        assert_false(is_stored(fixture, (uint16_t)(i + 1)));
    }
    assert_int_equal(fixture->failures, 1);
    make_job(fixture, &tests[0], 9, 100);
    writer_submit(fixture->writer, &tests[0].job);
    finish_all(fixture);
    assert_cap_error(tests[0].job.error, CAP_E_STORE_FAILED);
    assert_int_equal(fixture->failures, 1); /* told once */
}

static void test_io_error_at_commit(void **state)
{
    fail_for_good(*state, CAP_E_IO);
}

static void test_store_failed_at_commit(void **state)
{
    fail_for_good(*state, CAP_E_STORE_FAILED);
}

/* --- Cancelling, dry runs, the end
 * ---------------------------------------------------------------- */

static void test_cancelled_job_is_not_stored(void **state)
{
    struct fixture *fixture = *state;
    struct test_job blocker;
    struct test_job small;
    struct test_job large;
    close_gate(fixture, &blocker);
    make_job(fixture, &small, 1, 100);
    make_job(fixture, &large, 2, UINT64_C(3) << 20);
    writer_submit(fixture->writer, &small.job);
    writer_submit(fixture->writer, &large.job);
    atomic_store(&small.job.cancelled, true);
    atomic_store(&large.job.cancelled, true);
    open_gate(fixture);
    assert_cap_error(small.job.error, CAP_E_CANCELLED);
    assert_cap_error(large.job.error, CAP_E_CANCELLED);
    assert_false(is_stored(fixture, 1));
    assert_false(is_stored(fixture, 2));
}

static void test_dry_run_stores_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    make_job(fixture, &test, 1, 100);
    test.job.dry_run = true;
    writer_submit(fixture->writer, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.error);
    assert_true(test.cap.is_new);
    assert_false(is_stored(fixture, 1));
    assert_int_equal(fixture->stats.commits, 0);
}

static void test_stop_gives_every_job_back(void **state)
{
    struct fixture *fixture = *state;
    struct test_job blocker;
    struct test_job tests[5];
    close_gate(fixture, &blocker);
    for (uint8_t i = 0; i < 5; i++) {
        make_job(fixture, &tests[i], i, 100);
        writer_submit(fixture->writer, &tests[i].job);
    }
    uv_sem_post(&fixture->gate);
    writer_stop(fixture->writer);
    assert_int_equal(writer_queued(fixture->writer), 0);
    for (uint8_t i = 0; i < 5; i++) {
        assert_true(tests[i].finished);
        assert_int_equal(is_stored(fixture, i), tests[i].job.error == CAP_OK);
    }
}

static void test_heartbeat_rises(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    uint64_t before = writer_heartbeat(fixture->writer);
    make_job(fixture, &test, 1, 1);
    writer_submit(fixture->writer, &test.job);
    finish_all(fixture);
    writer_stop(fixture->writer);
    assert_true(writer_heartbeat(fixture->writer) > before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_one_job),
        TEST(test_waiting_jobs_share_a_commit),
        TEST(test_unreadable_body_fails_alone),
        TEST(test_full_map_fails_alone),
        TEST(test_many_caps),
        TEST(test_batches_are_bounded),
        TEST(test_large_body_is_staged),
        TEST(test_two_stage_the_same_body),
        TEST(test_failed_stage_leaves_room),
        TEST(test_full_disk_at_commit),
        TEST(test_io_error_at_commit),
        TEST(test_store_failed_at_commit),
        TEST(test_cancelled_job_is_not_stored),
        TEST(test_dry_run_stores_nothing),
        TEST(test_stop_gives_every_job_back),
        TEST(test_heartbeat_rises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
