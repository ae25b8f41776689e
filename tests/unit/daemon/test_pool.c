/*
 * The pool: small jobs beside long ones, turns between peers. Jobs stop at gates, so that what is
 * asserted is an order and not a time.
 */
#include "tests/unit/support.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/pool.h"

#define PIECE     (UINT64_C(64) << 10)
#define LONG_COST (UINT64_C(1) << 40)
#define TURNS_MAX 20000 /* of the loop, half a millisecond each, before a test is taken to hang */

static const char alice[] = "alice";
static const char bob[] = "bob";
static const char carol[] = "carol";

struct bench {
    uv_loop_t loop;
    struct stats stats;
    struct pool pool;
    struct pool_outlet outlet;
    char order[128]; /* marks of jobs that are done */
};

struct job {
    struct pool_job job;
    struct bench *bench;
    char mark;
    atomic_bool *gate;       /* runs until it is open; NULL: not */
    atomic_uint_fast64_t at; /* bytes hashed */
    uint64_t bytes;          /* to hash, of a job without a gate */
    atomic_int *meeting;     /* runs until two jobs are there */
    struct job *watch;       /* hashes beside it */
    uint64_t watched;        /* what that one hashed while this one ran */
    bool silent;             /* does not say what it hashes */
    atomic_bool *hold;       /* does not begin before it is open; NULL: at once */
    bool done;
};

static void setup(struct bench *bench, uint64_t workers)
{
    *bench = (struct bench){0};
    assert_int_equal(uv_loop_init(&bench->loop), 0);
    assert_cap_ok(pool_open(&bench->pool, env_system(), workers, workers));
    assert_cap_ok(pool_outlet_open(&bench->outlet, &bench->pool, &bench->loop, &bench->stats));
    bench->pool.wait_ns = UINT64_C(3600000000000); /* a test's threads may be held up */
}

static size_t jobs_of(struct bench *bench)
{
    size_t jobs = 0;
    size_t peers = 0;
    pool_figures(&bench->pool, &jobs, &peers);
    return jobs;
}

static size_t peers_of(struct bench *bench)
{
    size_t jobs = 0;
    size_t peers = 0;
    pool_figures(&bench->pool, &jobs, &peers);
    return peers;
}

static void teardown(struct bench *bench)
{
    pool_outlet_close(&bench->outlet);
    assert_int_equal(uv_run(&bench->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(bench->outlet.jobs, 0);
    assert_int_equal(jobs_of(bench), 0);
    assert_int_equal(peers_of(bench), 0);
    assert_int_equal(uv_loop_close(&bench->loop), 0);
    pool_close(&bench->pool);
}

static void run(struct pool_job *pool_job)
{
    struct job *job = CONTAINER_OF(pool_job, struct job, job);
    uint64_t before = job->watch == NULL ? 0 : atomic_load(&job->watch->at);
    while (job->hold != NULL && !atomic_load(job->hold)) {
        uv_sleep(1);
    }
    if (job->meeting != NULL) {
        atomic_fetch_add(job->meeting, 1);
        while (atomic_load(job->meeting) < 2) {
            pool_hashed(pool_job, 1);
            uv_sleep(1);
        }
    }
    while (job->gate != NULL ? !atomic_load(job->gate) : atomic_load(&job->at) < job->bytes) {
        atomic_fetch_add(&job->at, PIECE);
        if (!job->silent) {
            pool_hashed(pool_job, PIECE);
        }
        if (pool_job->cost <= POOL_SMALL || job->silent) {
            uv_sleep(1);
        }
    }
    job->watched = job->watch == NULL ? 0 : atomic_load(&job->watch->at) - before;
}

static void done(struct pool_job *pool_job)
{
    struct job *job = CONTAINER_OF(pool_job, struct job, job);
    job->done = true;
    job->bench->order[strlen(job->bench->order)] = job->mark;
}

static void submit(struct bench *bench, struct job *job, const char *account, uint64_t cost)
{
    job->bench = bench;
    job->job.account = account;
    job->job.cost = cost;
    job->job.run = run;
    job->job.done = done;
    pool_submit(&bench->outlet, &job->job);
}

static void wait_for(struct bench *bench, const struct job *job)
{
    for (int turns = 0; !job->done; turns++) {
        assert_true(turns < TURNS_MAX);
        uv_run(&bench->loop, UV_RUN_NOWAIT);
        usleep(500);
    }
}

static void wait_until_it_runs(struct job *job)
{
    for (int turns = 0; atomic_load(&job->at) == 0; turns++) {
        assert_true(turns < TURNS_MAX);
        usleep(500);
    }
}

/* One peer brings six small jobs, then another two: these do not wait for all six. */
static void test_small_jobs_take_turns(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job first = {.mark = '0', .gate = &gate};
    struct job jobs[8] = {0};
    (void)state;
    setup(&bench, 1);
    submit(&bench, &first, alice, PIECE);
    for (size_t i = 0; i < 8; i++) {
        jobs[i].mark = i < 6 ? 'a' : 'b';
        submit(&bench, &jobs[i], i < 6 ? alice : bob, PIECE);
    }
    assert_int_equal(peers_of(&bench), 2);
    atomic_store(&gate, true);
    wait_for(&bench, &jobs[5]);
    /* Bob comes where Alice stands, who has been charged for the first. */
    assert_string_equal(bench.order, "0ababaaaa");
    teardown(&bench);
}

/* Who brings large jobs has fewer of them done: by bytes, not by jobs. */
static void test_turns_are_by_bytes(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job first = {.mark = '0', .gate = &gate};
    struct job jobs[8] = {0};
    (void)state;
    setup(&bench, 1);
    submit(&bench, &first, carol, PIECE);
    for (size_t i = 0; i < 8; i++) {
        jobs[i].mark = i < 2 ? 'a' : 'b';
        submit(&bench, &jobs[i], i < 2 ? alice : bob, i < 2 ? 3 * PIECE : PIECE);
    }
    atomic_store(&gate, true);
    wait_for(&bench, &jobs[7]);
    assert_string_equal(bench.order, "0abbbabbb");
    teardown(&bench);
}

/* Long jobs without end, more of them than workers, beside a small one. */
static void test_small_jobs_do_not_wait_for_long_ones(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job jobs[10] = {0};
    struct job small = {.mark = 's', .bytes = PIECE};
    (void)state;
    setup(&bench, 2);
    for (size_t i = 0; i < 10; i++) {
        jobs[i].gate = &gate;
        submit(&bench, &jobs[i], alice, LONG_COST);
    }
    submit(&bench, &small, alice, PIECE);
    wait_for(&bench, &small);
    atomic_store(&gate, true);
    for (size_t i = 0; i < 10; i++) {
        wait_for(&bench, &jobs[i]);
    }
    teardown(&bench);
}

/*
 * A long job beside endless ones of another peer, where one long job may run at a time: it ends,
 * and while it ran, the other had no more than its turns.
 */
static void test_long_jobs_take_turns(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job jobs[4] = {0};
    struct job innocent = {.mark = 'i', .bytes = 16 * POOL_TURN, .watch = &jobs[0]};
    (void)state;
    setup(&bench, 2);
    for (size_t i = 0; i < 4; i++) {
        jobs[i].gate = &gate;
        submit(&bench, &jobs[i], alice, LONG_COST);
    }
    wait_until_it_runs(&jobs[0]);
    submit(&bench, &innocent, bob, LONG_COST);
    wait_for(&bench, &innocent);
    assert_true(innocent.watched > 0);
    assert_true(innocent.watched <= 17 * POOL_TURN);
    assert_int_equal(atomic_load(&jobs[1].at), 0); /* one job of a peer at a time */
    atomic_store(&gate, true);
    for (size_t i = 0; i < 4; i++) {
        wait_for(&bench, &jobs[i]);
    }
    assert_int_equal(bench.order[0], 'i');
    teardown(&bench);
}

/* One that hashes for long without a word does not make another peer wait for its end. */
static void test_silent_jobs(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job silent = {.mark = 's', .gate = &gate, .silent = true};
    struct job other = {.mark = 'o', .bytes = 4 * POOL_TURN};
    (void)state;
    setup(&bench, 1);
    bench.pool.wait_ns = 1000000;
    submit(&bench, &silent, alice, LONG_COST);
    wait_until_it_runs(&silent);
    submit(&bench, &other, bob, LONG_COST);
    wait_for(&bench, &other);
    assert_false(silent.done);
    atomic_store(&gate, true);
    wait_for(&bench, &silent);
    assert_string_equal(bench.order, "os");
    teardown(&bench);
}

/* A peer that is alone has as many long jobs at a time as there are workers to spare. */
static void test_alone_it_has_all(void **state)
{
    struct bench bench;
    atomic_int meeting = 0;
    struct job jobs[2] = {{.mark = 'a', .meeting = &meeting}, {.mark = 'b', .meeting = &meeting}};
    (void)state;
    setup(&bench, 3);
    submit(&bench, &jobs[0], alice, LONG_COST);
    submit(&bench, &jobs[1], alice, LONG_COST);
    wait_for(&bench, &jobs[0]);
    wait_for(&bench, &jobs[1]);
    teardown(&bench);
}

/* More peers with long jobs than threads for them: all have their turn. */
static void test_more_peers_than_threads(void **state)
{
    static const char names[2 * POOL_LONG_THREADS];
    struct bench bench;
    atomic_bool hold = false;
    struct job jobs[2 * POOL_LONG_THREADS] = {0};
    (void)state;
    setup(&bench, 2);
    for (size_t i = 0; i < 2 * POOL_LONG_THREADS; i++) {
        jobs[i].bytes = 3 * POOL_TURN;
        jobs[i].mark = 'x';
        jobs[i].hold = &hold;
        submit(&bench, &jobs[i], &names[i], LONG_COST);
    }
    uv_mutex_lock(&bench.pool.lock);
    assert_int_equal(bench.pool.threads, POOL_LONG_THREADS);
    uv_mutex_unlock(&bench.pool.lock);
    atomic_store(&hold, true);
    for (size_t i = 0; i < 2 * POOL_LONG_THREADS; i++) {
        wait_for(&bench, &jobs[i]);
    }
    assert_int_equal(bench.stats.hashed_bytes, 2 * POOL_LONG_THREADS * 3 * POOL_TURN);
    teardown(&bench);
}

/* What only waits for the disk takes no turn. Closing waits for what is under way. */
static void test_disk_and_closing(void **state)
{
    struct bench bench;
    struct job disk = {.mark = 'd'};
    atomic_bool hold = false;
    struct job large = {.mark = 'l', .bytes = 2 * POOL_TURN, .hold = &hold};
    struct job small = {.mark = 's', .bytes = PIECE, .hold = &hold};
    (void)state;
    setup(&bench, 2);
    submit(&bench, &disk, alice, 0);
    assert_int_equal(peers_of(&bench), 0);
    submit(&bench, &large, NULL, LONG_COST);
    submit(&bench, &small, NULL, PIECE);
    assert_int_equal(peers_of(&bench), 1);
    atomic_store(&hold, true);
    teardown(&bench);
    assert_true(disk.done && large.done && small.done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_jobs_take_turns),
        cmocka_unit_test(test_turns_are_by_bytes),
        cmocka_unit_test(test_small_jobs_do_not_wait_for_long_ones),
        cmocka_unit_test(test_long_jobs_take_turns),
        cmocka_unit_test(test_silent_jobs),
        cmocka_unit_test(test_alone_it_has_all),
        cmocka_unit_test(test_more_peers_than_threads),
        cmocka_unit_test(test_disk_and_closing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
