/* The registry of jobs: begin, progress, cancel, end, what is remembered, and a daemon that stops.
 */
#include "tests/unit/support.h"

#include <string.h>

#include "daemon/upkeep/jobs.h"

#define LONG_US UINT64_C(60000000) /* longer than any test */

struct fixture {
    struct context context;
    struct upkeep_jobs *jobs;
    struct upkeep_job_info infos[UPKEEP_JOBS_MAX];
    uv_sem_t gate;
    atomic_uint runs;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->context.env = env_system();
    log_init(&fixture->context.log, env_system(), -1, false);
    assert_int_equal(uv_sem_init(&fixture->gate, 0), 0);
    assert_cap_ok(upkeep_jobs_new(&fixture->context, &fixture->jobs));
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    upkeep_jobs_cancel_all(fixture->jobs);
    assert_true(upkeep_jobs_join(fixture->jobs, LONG_US));
    upkeep_jobs_free(fixture->jobs);
    uv_sem_destroy(&fixture->gate);
    free(fixture);
    return 0;
}

/* Waits until no job runs. */
static void settle(struct fixture *fixture)
{
    while (upkeep_jobs_count(fixture->jobs) > 0) {
        uv_sleep(1);
    }
}

static struct upkeep_job_info find(struct fixture *fixture, uint64_t id)
{
    size_t count = upkeep_jobs_list(fixture->jobs, fixture->infos);
    for (size_t i = 0; i < count; i++) {
        if (fixture->infos[i].id == id) {
            return fixture->infos[i];
        }
    }
    fail_msg("job %u is not listed", (unsigned)id);
    return (struct upkeep_job_info){0};
}

static enum cap_error run_quick(struct upkeep_job *job, void *ctx)
{
    struct fixture *fixture = ctx;
    atomic_fetch_add(&fixture->runs, 1);
    job_progress(job, 3, 4, 300, 400, "counting");
    return CAP_OK;
}

static enum cap_error run_failing(struct upkeep_job *job, void *ctx)
{
    (void)job;
    (void)ctx;
    return CAP_E_DISK_FULL;
}

static enum cap_error run_with_message(struct upkeep_job *job, void *ctx)
{
    (void)ctx;
    job_message(job, "%d of %d caps are damaged", 2, 7);
    return CAP_E_CORRUPT;
}

static enum cap_error run_until_cancelled(struct upkeep_job *job, void *ctx)
{
    struct fixture *fixture = ctx;
    job_progress(job, 1, 0, 10, 0, "waiting");
    uv_sem_post(&fixture->gate);
    return job_wait(job, LONG_US) ? CAP_E_INTERNAL : CAP_E_CANCELLED;
}

/* Does not look whether it is cancelled. */
static enum cap_error run_stubborn(struct upkeep_job *job, void *ctx)
{
    struct fixture *fixture = ctx;
    (void)job;
    uv_sem_wait(&fixture->gate);
    return CAP_OK;
}

static void test_a_job_runs_and_is_remembered(void **state)
{
    struct fixture *fixture = *state;
    uint64_t id = 0;
    assert_int_equal(upkeep_jobs_list(fixture->jobs, fixture->infos), 0);
    assert_cap_ok(upkeep_jobs_start(fixture->jobs, UPKEEP_GC, run_quick, fixture, &id));
    assert_int_equal(id, 1);
    settle(fixture);
    const struct upkeep_job_info info = find(fixture, 1);
    assert_int_equal(info.state, UPKEEP_DONE);
    assert_int_equal(info.kind, UPKEEP_GC);
    assert_int_equal(info.done, 4); /* it said 3 of 4, and is done */
    assert_int_equal(info.total, 4);
    assert_int_equal(info.done_bytes, 400);
    assert_int_equal(info.total_bytes, 400);
    assert_string_equal(info.phase, "counting");
    assert_string_equal(info.message, "");
    assert_true(info.started_us > 0 && info.ended_us > 0);
    assert_int_equal(fixture->runs, 1);
    assert_cap_error(upkeep_jobs_cancel(fixture->jobs, 1), CAP_E_NO_JOB);
}

static void test_how_a_job_failed(void **state)
{
    struct fixture *fixture = *state;
    assert_cap_ok(upkeep_jobs_start(fixture->jobs, UPKEEP_BACKUP, run_failing, NULL, NULL));
    assert_cap_ok(upkeep_jobs_start(fixture->jobs, UPKEEP_SCRUB, run_with_message, NULL, NULL));
    settle(fixture);
    assert_int_equal(find(fixture, 1).state, UPKEEP_FAILED);
    assert_cap_error(find(fixture, 1).error, CAP_E_DISK_FULL);
    assert_string_equal(find(fixture, 1).message, cap_error_text(CAP_E_DISK_FULL));
    assert_string_equal(find(fixture, 2).message, "2 of 7 caps are damaged");
}

static void test_one_of_a_kind_runs_and_can_be_cancelled(void **state)
{
    struct fixture *fixture = *state;
    struct upkeep_job_info info;
    assert_cap_ok(
        upkeep_jobs_start(fixture->jobs, UPKEEP_SCRUB, run_until_cancelled, fixture, NULL));
    uv_sem_wait(&fixture->gate);
    assert_cap_error(upkeep_jobs_start(fixture->jobs, UPKEEP_SCRUB, run_quick, fixture, NULL),
                     CAP_E_JOB_RUNNING);
    assert_cap_ok(upkeep_jobs_start(fixture->jobs, UPKEEP_GC, run_quick, fixture, NULL));
    assert_true(upkeep_jobs_running(fixture->jobs, UPKEEP_SCRUB, &info));
    assert_int_equal(info.id, 1);
    assert_int_equal(info.state, UPKEEP_RUNNING);
    assert_string_equal(info.phase, "waiting");
    assert_false(upkeep_jobs_running(fixture->jobs, UPKEEP_COMPACT, &info));
    assert_cap_error(upkeep_jobs_cancel(fixture->jobs, 99), CAP_E_NO_JOB);
    assert_cap_ok(upkeep_jobs_cancel(fixture->jobs, 1));
    settle(fixture);
    info = find(fixture, 1);
    assert_true(info.cancelled);
    assert_int_equal(info.state, UPKEEP_CANCELLED);
    assert_int_equal(fixture->runs, 1);
    assert_cap_ok(upkeep_jobs_start(fixture->jobs, UPKEEP_SCRUB, run_quick, fixture, NULL));
    settle(fixture);
    assert_int_equal(find(fixture, 3).state, UPKEEP_DONE);
    assert_false(find(fixture, 3).cancelled);
}

/* A bounded number is remembered, the last of them first. */
static void test_old_ones_are_forgotten(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < UPKEEP_JOBS_KEPT + 5; i++) {
        assert_cap_ok(upkeep_jobs_start(fixture->jobs, UPKEEP_GC, run_quick, fixture, NULL));
        settle(fixture);
    }
    assert_int_equal(upkeep_jobs_list(fixture->jobs, fixture->infos), UPKEEP_JOBS_KEPT);
    assert_int_equal(fixture->infos[0].id, UPKEEP_JOBS_KEPT + 5);
    assert_int_equal(fixture->infos[UPKEEP_JOBS_KEPT - 1].id, 6);
}

static void test_stopping_cancels_and_lets_no_other_start(void **state)
{
    struct fixture *fixture = *state;
    assert_cap_ok(
        upkeep_jobs_start(fixture->jobs, UPKEEP_SCRUB, run_until_cancelled, fixture, NULL));
    upkeep_jobs_cancel_all(fixture->jobs);
    assert_true(upkeep_jobs_join(fixture->jobs, LONG_US));
    assert_int_equal(find(fixture, 1).state, UPKEEP_CANCELLED);
    assert_cap_error(upkeep_jobs_start(fixture->jobs, UPKEEP_GC, run_quick, fixture, NULL),
                     CAP_E_DRAINING);
    assert_int_equal(fixture->runs, 0);
}

static void test_a_job_that_does_not_end_is_told(void **state)
{
    struct fixture *fixture = *state;
    assert_cap_ok(upkeep_jobs_start(fixture->jobs, UPKEEP_COMPACT, run_stubborn, fixture, NULL));
    upkeep_jobs_cancel_all(fixture->jobs);
    assert_false(upkeep_jobs_join(fixture->jobs, 1000));
    assert_true(find(fixture, 1).cancelled);
    uv_sem_post(&fixture->gate);
    assert_true(upkeep_jobs_join(fixture->jobs, LONG_US));
    assert_int_equal(find(fixture, 1).state, UPKEEP_DONE);
}

static enum cap_error run_sleep(struct upkeep_job *job, void *ctx)
{
    (void)ctx;
    return job_wait(job, 1000) ? CAP_OK : CAP_E_CANCELLED;
}

static void test_a_job_that_waits_goes_on(void **state)
{
    struct fixture *fixture = *state;
    assert_cap_ok(upkeep_jobs_start(fixture->jobs, UPKEEP_GC, run_sleep, NULL, NULL));
    settle(fixture);
    assert_int_equal(find(fixture, 1).state, UPKEEP_DONE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_job_runs_and_is_remembered),
        TEST(test_how_a_job_failed),
        TEST(test_one_of_a_kind_runs_and_can_be_cancelled),
        TEST(test_old_ones_are_forgotten),
        TEST(test_stopping_cancels_and_lets_no_other_start),
        TEST(test_a_job_that_does_not_end_is_told),
        TEST(test_a_job_that_waits_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
