/* Functions that other threads have the writer run: where, in turn with admissions, and at its end.
 */
#include "tests/unit/support.h"

#include "daemon/publish/writer.h"
#include "tests/support/store_memory.h"

struct fixture {
    uv_loop_t loop;
    struct cap_store *store;
    struct stats stats;
    struct writer *writer;
    struct writer_outlet outlet;
    uv_sem_t begun;
    uv_sem_t gate;
};

/* A thread that has the writer run one function. */
struct runner {
    struct fixture *fixture;
    uv_thread_t thread;
    uv_thread_t ran_on;
    bool ran;
    bool waits; /* for the gate, as it runs */
    enum cap_error error;
    enum cap_error returned;
};

static int setup(void **state)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = {1};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    assert_int_equal(uv_sem_init(&fixture->begun, 0), 0);
    assert_int_equal(uv_sem_init(&fixture->gate, 0), 0);
    assert_cap_ok(cap_store_memory_new(id, 1 << 20, &fixture->store));
    const struct writer_config config = {
        .store = fixture->store, .store_dir = "/", .env = env_system()};
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
    uv_sem_destroy(&fixture->begun);
    free(fixture);
    return 0;
}

static enum cap_error note_run(struct cap_store *store, void *ctx)
{
    struct runner *runner = ctx;
    assert_ptr_equal(store, runner->fixture->store);
    runner->ran = true;
    runner->ran_on = uv_thread_self();
    if (runner->waits) {
        uv_sem_post(&runner->fixture->begun);
        uv_sem_wait(&runner->fixture->gate);
    }
    return runner->error;
}

static void run_in_writer(void *arg)
{
    struct runner *runner = arg;
    runner->returned = writer_run(runner->fixture->writer, note_run, runner);
}

static void start(struct runner *runner)
{
    assert_int_equal(uv_thread_create(&runner->thread, run_in_writer, runner), 0);
}

static void test_functions_run_on_the_thread(void **state)
{
    struct runner runners[4];
    for (size_t i = 0; i < 4; i++) {
        runners[i] = (struct runner){.fixture = *state, .error = i < 2 ? CAP_OK : CAP_E_NOT_FOUND};
        start(&runners[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(uv_thread_join(&runners[i].thread), 0);
        assert_true(runners[i].ran);
        assert_false(uv_thread_equal(&runners[i].ran_on, &runners[i].thread));
        assert_true(uv_thread_equal(&runners[i].ran_on, &runners[0].ran_on));
        assert_int_equal(runners[i].returned, runners[i].error);
    }
}

static void on_done(struct writer_job *job)
{
    *(bool *)job->owner = true;
}

/* What is handed over while a function runs is admitted after it. */
static void test_admissions_wait_for_one_function(void **state)
{
    struct fixture *fixture = *state;
    struct runner first = {.fixture = fixture, .waits = true};
    struct runner second = {.fixture = fixture, .waits = true};
    bool done = false;
    struct writer_job job = {.done = on_done, .owner = &done};
    start(&first);
    uv_sem_wait(&fixture->begun);
    writer_submit(&fixture->outlet, &job);
    start(&second);
    uv_run(&fixture->loop, UV_RUN_NOWAIT);
    assert_false(done);
    uv_sem_post(&fixture->gate);
    while (!done) {
        uv_run(&fixture->loop, UV_RUN_ONCE); /* with the second function still to end */
    }
    uv_sem_post(&fixture->gate);
    assert_int_equal(uv_thread_join(&first.thread), 0);
    assert_int_equal(uv_thread_join(&second.thread), 0);
    assert_cap_ok(job.admission.error);
}

static void stop_writer(void *arg)
{
    writer_stop(arg);
}

/* One that runs is finished; those that wait, and those that come later, are told. */
static void test_stop_ends_functions(void **state)
{
    struct fixture *fixture = *state;
    struct runner first = {.fixture = fixture, .waits = true};
    struct runner second = {.fixture = fixture};
    uv_thread_t stopper;
    start(&first);
    uv_sem_wait(&fixture->begun);
    start(&second);
    assert_int_equal(uv_thread_create(&stopper, stop_writer, fixture->writer), 0);
    uv_sem_post(&fixture->gate);
    assert_int_equal(uv_thread_join(&stopper), 0);
    assert_int_equal(uv_thread_join(&first.thread), 0);
    assert_int_equal(uv_thread_join(&second.thread), 0);
    assert_cap_ok(first.returned);
    assert_int_equal(second.returned, second.ran ? CAP_OK : CAP_E_CANCELLED);
    second.ran = false;
    run_in_writer(&second);
    assert_false(second.ran);
    assert_cap_error(second.returned, CAP_E_CANCELLED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_functions_run_on_the_thread),
        TEST(test_admissions_wait_for_one_function),
        TEST(test_stop_ends_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
