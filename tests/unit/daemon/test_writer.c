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
#include "tests/support/store_memory.h"

#define BODY_MAX     (UINT64_C(32) << 20)
#define DISK_RESERVE 1000u

struct fixture {
    uv_loop_t loop;
    struct cap_store *store;
    struct stats stats;
    struct writer *writer;
    struct writer_outlet outlet;
    uv_sem_t gate;
    struct env env;
    uint64_t disk_free;
    unsigned failures; /* calls of `failed` */
};

/* A job with one cap, whose body is `len` bytes of one value. */
struct test_job {
    struct writer_job job;
    struct cap_put put;
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

static void fill_put(struct cap_put *put, uint16_t name, struct test_job *source, uint64_t len)
{
    *put = (struct cap_put){
        .info = {.kind = CAP_KIND_DATA, .body_len = len, .size = 4096, .published_us = 1},
        .body = {.read = read_fill, .ctx = source},
        .is_new = true,
    };
    cap_store16(put->hash.bytes, name);
}

static void make_job(struct fixture *fixture, struct test_job *test, uint8_t name, uint64_t len)
{
    *test = (struct test_job){.fixture = fixture, .fill = name};
    fill_put(&test->put, name, test, len);
    test->job.admission = (struct cap_admission){.puts = &test->put, .put_count = 1};
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

static enum cap_error fake_disk(void *ctx, const char *path, uint64_t *ret_bytes)
{
    (void)path;
    *ret_bytes = ((struct fixture *)ctx)->disk_free;
    return CAP_OK;
}

static int setup(void **state)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = {1};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    assert_int_equal(uv_sem_init(&fixture->gate, 0), 0);
    fixture->disk_free = UINT64_MAX;
    fixture->env = *env_system();
    fixture->env.ctx = fixture;
    fixture->env.disk_free = fake_disk;
    assert_cap_ok(cap_store_memory_new(id, BODY_MAX, &fixture->store));
    const struct writer_config config = {
        .store = fixture->store,
        .disk_reserve = DISK_RESERVE,
        .env = &fixture->env,
        .failed = on_failed,
        .ctx = fixture,
    };
    assert_cap_ok(writer_new(&config, &fixture->writer));
    assert_cap_ok(
        writer_outlet_open(&fixture->outlet, fixture->writer, &fixture->loop, &fixture->stats));
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    writer_stop(fixture->writer);
    writer_outlet_close(&fixture->outlet);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    writer_free(fixture->writer);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    cap_store_close(fixture->store);
    uv_sem_destroy(&fixture->gate);
    free(fixture);
    return 0;
}

/* Holds the thread in a job of its own until open_gate. */
static void close_gate(struct fixture *fixture, struct test_job *blocker)
{
    make_job(fixture, blocker, 200, 10);
    blocker->waits = true;
    writer_submit(&fixture->outlet, &blocker->job);
}

static void open_gate(struct fixture *fixture)
{
    uv_sem_post(&fixture->gate);
    finish_all(fixture);
}

/* --- Admissions ----------------------------------------------------------------------------- */

static void test_one_job(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    for (int round = 0; round < 2; round++) {
        make_job(fixture, &test, 1, 100);
        writer_submit(&fixture->outlet, &test.job);
        finish_all(fixture);
        assert_true(test.finished);
        assert_cap_ok(test.job.admission.error);
        assert_int_equal(test.put.is_new, round == 0);
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
        writer_submit(&fixture->outlet, &tests[i].job);
    }
    assert_int_equal(writer_queued(fixture->writer), 21);
    open_gate(fixture);
    for (uint8_t i = 0; i < 20; i++) {
        assert_cap_ok(tests[i].job.admission.error);
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
    writer_submit(&fixture->outlet, &before.job);
    writer_submit(&fixture->outlet, &culprit->job);
    writer_submit(&fixture->outlet, &after.job);
    open_gate(fixture);
    assert_cap_ok(before.job.admission.error);
    assert_cap_ok(after.job.admission.error);
    assert_cap_error(culprit->job.admission.error, wanted);
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
    enum { COUNT = CAP_ADMIT_PUTS, LONG = 5 };
    struct cap_put *puts = calloc(COUNT, sizeof(*puts));
    make_job(fixture, &test, 0, 1);
    for (uint16_t i = 0; i < COUNT; i++) {
        bool is_long = i % (COUNT / LONG) == 0;
        fill_put(&puts[i], (uint16_t)(1000 + i), &test,
                 is_long ? WRITER_STAGE_MIN : CAP_ADMIT_LEN / COUNT);
    }
    test.job.admission = (struct cap_admission){.puts = puts, .put_count = COUNT};
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.admission.error);
    assert_int_equal(fixture->stats.commits, 1);
    assert_in_range(fixture->stats.stage_steps, LONG / 2, LONG);
    for (uint16_t i = 0; i < COUNT; i++) {
        assert_true(puts[i].is_new);
        assert_true(is_stored(fixture, (uint16_t)(1000 + i)));
    }
    free(puts);
}

/* Jobs that do not fit into one transaction together take turns. */
static void test_batches_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct test_job blocker;
    enum { COUNT = CAP_ADMIT_LEN / WRITER_STAGE_MIN + 4 };
    struct test_job tests[COUNT];
    close_gate(fixture, &blocker);
    for (uint8_t i = 0; i < COUNT; i++) {
        make_job(fixture, &tests[i], i, WRITER_STAGE_MIN);
        writer_submit(&fixture->outlet, &tests[i].job);
    }
    open_gate(fixture);
    for (uint8_t i = 0; i < COUNT; i++) {
        assert_cap_ok(tests[i].job.admission.error);
    }
    assert_in_range(fixture->stats.commits, 2, 3);
    assert_int_equal(fixture->stats.stage_steps, 0);
}

/* --- Stages --------------------------------------------------------------------------------- */

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
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.admission.error);
    assert_true(test.put.is_new);
    assert_in_range(fixture->stats.stage_steps, 2, 3);
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_ok(cap_store_window(read, &test.put.hash, body_len - 5, 100, iov, &count, &len));
    assert_int_equal(len, 5);
    assert_int_equal(*(const uint8_t *)iov[0].iov_base, 7);
    cap_store_read_end(read);
    /* Again: it is there, nothing is staged. */
    uint64_t steps = fixture->stats.stage_steps;
    make_job(fixture, &test, 7, body_len);
    assert_cap_ok(cap_store_dry_run(fixture->store, &test.job.admission));
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.admission.error);
    assert_false(test.put.is_new);
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
    writer_submit(&fixture->outlet, &a.job);
    writer_submit(&fixture->outlet, &b.job);
    open_gate(fixture);
    assert_cap_ok(a.job.admission.error);
    assert_cap_ok(b.job.admission.error);
    assert_true(a.put.is_new != b.put.is_new);
}

static void test_failed_stage_leaves_room(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    make_job(fixture, &test, 1, UINT64_C(10) << 20);
    test.read_error = CAP_E_IO;
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_error(test.job.admission.error, CAP_E_IO);
    /* The stage was dropped: a body that would not fit beside it does. */
    make_job(fixture, &test, 2, UINT64_C(15) << 20);
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.admission.error);
}

/* --- Commits that fail ---------------------------------------------------------------------- */

/* Hands three jobs over. */
static void three_jobs(struct fixture *fixture, struct test_job tests[3])
{
    for (uint8_t i = 0; i < 3; i++) {
        make_job(fixture, &tests[i], (uint8_t)(i + 1), 100);
        writer_submit(&fixture->outlet, &tests[i].job);
    }
    finish_all(fixture);
}

/* A shared commit that the disk is too full for is tried again job by job. */
static void test_full_disk_at_commit(void **state)
{
    struct fixture *fixture = *state;
    struct test_job tests[3];
    cap_store_memory_fail_commit(fixture->store, CAP_E_DISK_FULL);
    three_jobs(fixture, tests);
    unsigned stored = 0;
    for (uint8_t i = 0; i < 3; i++) {
        assert_int_equal(is_stored(fixture, (uint16_t)(i + 1)),
                         tests[i].job.admission.error == CAP_OK);
        stored += tests[i].job.admission.error == CAP_OK;
    }
    assert_true(stored >= 2); /* one that was alone in its transaction has failed */
    assert_int_equal(fixture->failures, 0);
    assert_int_equal(fixture->stats.commits_failed, 1);
    make_job(fixture, &tests[0], 9, 100);
    writer_submit(&fixture->outlet, &tests[0].job);
    finish_all(fixture);
    assert_cap_ok(tests[0].job.admission.error);
}

/* After these nobody knows what is on the disk: nothing is acknowledged any more. */
static void fail_for_good(struct fixture *fixture, enum cap_error error)
{
    struct test_job tests[3];
    cap_store_memory_fail_commit(fixture->store, error);
    three_jobs(fixture, tests);
    for (uint8_t i = 0; i < 3; i++) {
        assert_true(tests[i].job.admission.error == error ||
                    tests[i].job.admission.error == CAP_E_STORE_FAILED);
        assert_false(is_stored(fixture, (uint16_t)(i + 1)));
    }
    assert_int_equal(fixture->failures, 1);
    make_job(fixture, &tests[0], 9, 100);
    writer_submit(&fixture->outlet, &tests[0].job);
    finish_all(fixture);
    assert_cap_error(tests[0].job.admission.error, CAP_E_STORE_FAILED);
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

/* --- Cancelling, room, the start and the end -------------------------------------------------- */

static unsigned threads_to_fail;

/* In front of libuv's. */
__attribute__((visibility("default"))) int uv_thread_create(uv_thread_t *thread, uv_thread_cb run,
                                                            void *arg)
{
    if (threads_to_fail > 0) {
        threads_to_fail--;
        return UV_EAGAIN;
    }
    return uv_thread_create_ex(thread, &(uv_thread_options_t){.flags = UV_THREAD_NO_FLAGS}, run,
                               arg);
}

static void on_tick(uv_timer_t *timer)
{
    (*(unsigned *)timer->data)++;
}

static void test_cancelled_job_is_not_stored(void **state)
{
    struct fixture *fixture = *state;
    struct test_job blocker;
    struct test_job small;
    struct test_job large;
    close_gate(fixture, &blocker);
    make_job(fixture, &small, 1, 100);
    make_job(fixture, &large, 2, UINT64_C(3) << 20);
    writer_submit(&fixture->outlet, &small.job);
    writer_submit(&fixture->outlet, &large.job);
    atomic_store(&small.job.cancelled, true);
    atomic_store(&large.job.cancelled, true);
    open_gate(fixture);
    assert_cap_error(small.job.admission.error, CAP_E_CANCELLED);
    assert_cap_error(large.job.admission.error, CAP_E_CANCELLED);
    assert_false(is_stored(fixture, 1));
    assert_false(is_stored(fixture, 2));
}

/* What the disk has no room for is refused; what the store has needs none, whether or not its owner
 * has looked. */
static void test_no_room_on_the_disk(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    fixture->disk_free = DISK_RESERVE + 99;
    make_job(fixture, &test, 1, 100);
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_error(test.job.admission.error, CAP_E_DISK_FULL);
    assert_false(room_fits(&test.job.claim));
    assert_int_equal(test.job.claim.needed, 100);
    assert_int_equal(test.job.claim.reserve, DISK_RESERVE);
    assert_false(is_stored(fixture, 1));
    fixture->disk_free = DISK_RESERVE + 100;
    make_job(fixture, &test, 1, 100);
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_ok(test.job.admission.error);
    fixture->disk_free = DISK_RESERVE;
    for (int looked = 0; looked < 2; looked++) {
        make_job(fixture, &test, 1, 100);
        if (looked != 0) {
            assert_cap_ok(cap_store_dry_run(fixture->store, &test.job.admission));
        }
        writer_submit(&fixture->outlet, &test.job);
        finish_all(fixture);
        assert_cap_ok(test.job.admission.error);
        assert_false(test.put.is_new);
    }
}

/* A step of a stage is a commit as any other: after a failure for good nothing is stored. */
static void test_io_error_in_a_stage(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    cap_store_memory_fail_commit(fixture->store, CAP_E_IO);
    make_job(fixture, &test, 1, UINT64_C(3) << 20);
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_error(test.job.admission.error, CAP_E_IO);
    assert_int_equal(fixture->failures, 1);
    make_job(fixture, &test, 2, 100);
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    assert_cap_error(test.job.admission.error, CAP_E_STORE_FAILED);
    assert_false(is_stored(fixture, 2));
    assert_int_equal(fixture->failures, 1);
}

/* A writer that cannot start turns no loop. */
static void test_start_fails(void **state)
{
    struct fixture *fixture = *state;
    struct writer *second = NULL;
    unsigned ticks = 0;
    uv_timer_t timer;
    const struct writer_config config = {.store = fixture->store, .env = &fixture->env};
    assert_int_equal(uv_timer_init(&fixture->loop, &timer), 0);
    timer.data = &ticks;
    assert_int_equal(uv_timer_start(&timer, on_tick, 0, 1), 0);
    threads_to_fail = 1;
    assert_cap_error(writer_new(&config, &second), CAP_E_NO_MEMORY);
    assert_int_equal(threads_to_fail, 0);
    assert_int_equal(ticks, 0);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

static void test_stop_gives_every_job_back(void **state)
{
    struct fixture *fixture = *state;
    struct test_job blocker;
    struct test_job tests[5];
    close_gate(fixture, &blocker);
    for (uint8_t i = 0; i < 5; i++) {
        make_job(fixture, &tests[i], i, 100);
        writer_submit(&fixture->outlet, &tests[i].job);
    }
    uv_sem_post(&fixture->gate);
    writer_stop(fixture->writer);
    writer_outlet_close(&fixture->outlet);
    assert_int_equal(writer_queued(fixture->writer), 0);
    for (uint8_t i = 0; i < 5; i++) {
        assert_true(tests[i].finished);
        assert_int_equal(is_stored(fixture, i), tests[i].job.admission.error == CAP_OK);
    }
}

/* Each job comes back on the loop that it was handed over on. */
static void test_two_loops(void **state)
{
    struct fixture *fixture = *state;
    struct test_job here;
    struct test_job there;
    struct stats stats = {0};
    struct writer_outlet outlet;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_cap_ok(writer_outlet_open(&outlet, fixture->writer, &loop, &stats));
    make_job(fixture, &here, 1, 100);
    make_job(fixture, &there, 2, 100);
    writer_submit(&fixture->outlet, &here.job);
    writer_submit(&outlet, &there.job);
    while (!here.finished) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
    assert_false(there.finished);
    while (!there.finished) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_true(is_stored(fixture, 1) && is_stored(fixture, 2));
    assert_true(fixture->stats.commits + stats.commits > 0);
    writer_stop(fixture->writer);
    writer_outlet_close(&outlet);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_heartbeat_rises(void **state)
{
    struct fixture *fixture = *state;
    struct test_job test;
    uint64_t before = writer_heartbeat(fixture->writer);
    make_job(fixture, &test, 1, 1);
    writer_submit(&fixture->outlet, &test.job);
    finish_all(fixture);
    writer_stop(fixture->writer);
    writer_outlet_close(&fixture->outlet);
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
        TEST(test_no_room_on_the_disk),
        TEST(test_io_error_in_a_stage),
        TEST(test_start_fails),
        TEST(test_stop_gives_every_job_back),
        TEST(test_two_loops),
        TEST(test_heartbeat_rises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
