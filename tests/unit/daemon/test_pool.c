/*
 * The pool: small jobs beside long ones, turns between peers. Jobs stop at gates, so that what is
 * asserted is an order and not a time.
 */
#include "tests/unit/support.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/pool.h"

#define PIECE     (UINT64_C(64) << 10)
#define LONG_COST (UINT64_C(1) << 40)
#define TURNS_MAX 20000 /* of the loop, half a millisecond each, before a test is taken to hang */

enum { ALICE = 1, BOB, CAROL };

static bool no_threads; /* none can be made */

int real_uv_thread_create(uv_thread_t *thread, uv_thread_cb entry,
                          void *arg) __asm__("__real_uv_thread_create");
int wrap_uv_thread_create(uv_thread_t *thread, uv_thread_cb entry,
                          void *arg) __asm__("__wrap_uv_thread_create");

int wrap_uv_thread_create(uv_thread_t *thread, uv_thread_cb entry, void *arg)
{
    return no_threads ? UV_EAGAIN : real_uv_thread_create(thread, entry, arg);
}

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
    bool rests;              /* at its gate, and then hashes its bytes */
    bool silent;             /* does not say what it hashes */
    atomic_bool cancelled;
    atomic_bool *hold; /* does not begin before it is open; NULL: at once */
    int nice;          /* of the thread that ran it */
    bool done;
};

static void setup_share(struct bench *bench, uint64_t workers, uint64_t share)
{
    const struct pool_size size = {workers, workers, share};
    *bench = (struct bench){0};
    assert_int_equal(uv_loop_init(&bench->loop), 0);
    assert_cap_ok(pool_open(&bench->pool, env_system(), &size));
    assert_cap_ok(pool_outlet_open(&bench->outlet, &bench->pool, &bench->loop, &bench->stats));
}

static void setup(struct bench *bench, uint64_t workers)
{
    setup_share(bench, workers, 25);
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
    job->nice = getpriority(PRIO_PROCESS, (id_t)gettid());
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
    if (job->rests) {
        pool_rest(pool_job);
        while (!atomic_load(job->gate)) {
            uv_sleep(1);
        }
    }
    bool until_open = job->gate != NULL && !job->rests;
    while (!atomic_load(&job->cancelled) &&
           (until_open ? !atomic_load(job->gate) : atomic_load(&job->at) < job->bytes)) {
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

static void submit(struct bench *bench, struct job *job, uint64_t peer_id, uint64_t cost)
{
    job->bench = bench;
    job->job.peer_id = peer_id;
    job->job.cancelled = &job->cancelled;
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
    submit(&bench, &first, ALICE, PIECE);
    for (size_t i = 0; i < 8; i++) {
        jobs[i].mark = i < 6 ? 'a' : 'b';
        submit(&bench, &jobs[i], i < 6 ? ALICE : BOB, PIECE);
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
    submit(&bench, &first, CAROL, PIECE);
    for (size_t i = 0; i < 8; i++) {
        jobs[i].mark = i < 2 ? 'a' : 'b';
        submit(&bench, &jobs[i], i < 2 ? ALICE : BOB, i < 2 ? 3 * PIECE : PIECE);
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
        submit(&bench, &jobs[i], ALICE, LONG_COST);
    }
    submit(&bench, &small, ALICE, PIECE);
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
    setup_share(&bench, 2, 100);
    for (size_t i = 0; i < 4; i++) {
        jobs[i].gate = &gate;
        submit(&bench, &jobs[i], ALICE, LONG_COST);
    }
    wait_until_it_runs(&jobs[0]);
    submit(&bench, &innocent, BOB, LONG_COST);
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

/* One that waits for something else does not make another peer wait. */
static void test_rest(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job resting = {.mark = 'r', .gate = &gate, .rests = true, .bytes = 3 * POOL_TURN};
    struct job other = {.mark = 'o', .bytes = 4 * POOL_TURN};
    (void)state;
    setup(&bench, 1);
    submit(&bench, &resting, ALICE, LONG_COST);
    submit(&bench, &other, BOB, LONG_COST);
    wait_for(&bench, &other);
    assert_false(resting.done);
    atomic_store(&gate, true);
    wait_for(&bench, &resting);
    assert_int_equal(resting.job.hashed, 3 * POOL_TURN);
    assert_string_equal(bench.order, "or");
    teardown(&bench);
}

/* What is cancelled ends, whatever it waits for: its turn, or a thread. */
static void test_cancelled(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job silent = {.mark = 's', .gate = &gate, .silent = true};
    struct job queued = {.mark = 'q', .bytes = 4 * POOL_TURN};
    struct job rests = {.mark = 'r', .bytes = 4 * POOL_TURN};
    (void)state;
    setup(&bench, 1);
    submit(&bench, &silent, ALICE, LONG_COST);
    wait_until_it_runs(&silent);
    submit(&bench, &queued, ALICE, LONG_COST);
    submit(&bench, &rests, BOB, LONG_COST);
    atomic_store(&queued.cancelled, true);
    pool_cancelled(&bench.pool);
    wait_for(&bench, &queued);
    atomic_store(&rests.cancelled, true);
    pool_cancelled(&bench.pool);
    wait_for(&bench, &rests);
    assert_int_equal(queued.job.hashed, 0);
    assert_int_equal(rests.job.hashed, 0);
    atomic_store(&gate, true);
    wait_for(&bench, &silent);
    assert_string_equal(bench.order, "qrs");
    teardown(&bench);
}

/* --- Shares ----------------------------------------------------------------------------------- */

/* Alice fills the window, comes again beside Bob, and their small jobs wait for Carol's. */
static void order_of_small_jobs(uint64_t share, const char *wanted)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job filling = {.mark = 'f', .bytes = POOL_WINDOW};
    struct job first = {.mark = '0', .gate = &gate};
    struct job jobs[4] = {0};
    setup_share(&bench, 1, share);
    submit(&bench, &filling, ALICE, LONG_COST);
    wait_for(&bench, &filling);
    submit(&bench, &first, CAROL, PIECE);
    for (size_t i = 0; i < 4; i++) {
        jobs[i].mark = i < 2 ? 'a' : 'b';
        submit(&bench, &jobs[i], i < 2 ? ALICE : BOB, PIECE);
    }
    atomic_store(&gate, true);
    for (size_t i = 0; i < 4; i++) {
        wait_for(&bench, &jobs[i]);
    }
    assert_string_equal(bench.order, wanted);
    teardown(&bench);
}

/* Who has had more than its share comes after who has not, although its jobs were done. */
static void test_share_of_small_jobs(void **state)
{
    (void)state;
    order_of_small_jobs(25, "f0bbaa");
    order_of_small_jobs(100, "f0abab");
}

/*
 * Beside a peer that has filled the window and goes on, another has its share first, and then no
 * more than the other.
 */
static void test_share_of_long_jobs(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job bulk = {.mark = 'a', .gate = &gate};
    struct job within = {.mark = 'b', .bytes = POOL_WINDOW / 4 - 2 * POOL_TURN, .watch = &bulk};
    struct job beyond = {.mark = 'c', .bytes = 2 * POOL_WINDOW, .watch = &bulk};
    (void)state;
    setup(&bench, 1);
    submit(&bench, &bulk, ALICE, LONG_COST);
    while (atomic_load(&bulk.at) < POOL_WINDOW) {
        usleep(500);
    }
    submit(&bench, &within, BOB, LONG_COST);
    wait_for(&bench, &within);
    assert_true(within.watched <= 2 * POOL_TURN);
    submit(&bench, &beyond, BOB, LONG_COST);
    wait_for(&bench, &beyond);
    assert_true(beyond.watched >= POOL_WINDOW);
    assert_true(beyond.watched <= 2 * POOL_WINDOW + 2 * POOL_TURN);
    atomic_store(&gate, true);
    wait_for(&bench, &bulk);
    assert_string_equal(bench.order, "bca");
    teardown(&bench);
}

/* Alice has one of two workers and has been served less than Bob, who has none and waits. */
static void order_of_workers(uint64_t share, const char *wanted)
{
    struct bench bench;
    atomic_bool gate = false;
    atomic_bool first_gate = false;
    struct job held = {.mark = 'A', .gate = &gate};
    struct job first = {.mark = 'B', .gate = &first_gate};
    struct job jobs[2] = {{.mark = 'a'}, {.mark = 'b'}};
    setup_share(&bench, 2, share);
    submit(&bench, &held, ALICE, PIECE);
    submit(&bench, &first, BOB, POOL_SMALL);
    submit(&bench, &jobs[0], ALICE, PIECE);
    submit(&bench, &jobs[1], BOB, PIECE);
    atomic_store(&first_gate, true);
    wait_for(&bench, &jobs[0]);
    wait_for(&bench, &jobs[1]);
    atomic_store(&gate, true);
    wait_for(&bench, &held);
    assert_string_equal(bench.order, wanted);
    teardown(&bench);
}

static void test_share_of_workers(void **state)
{
    (void)state;
    order_of_workers(50, "BbaA");
    order_of_workers(100, "BabA");
}

/* The share is remembered for those that have had much of the window, and for no others. */
static void test_peers_are_forgotten(void **state)
{
    struct bench bench;
    struct job much = {.mark = 'm', .bytes = 8 * POOL_TURN};
    struct job little = {.mark = 'l', .bytes = PIECE};
    (void)state;
    setup(&bench, 1);
    submit(&bench, &much, ALICE, LONG_COST);
    wait_for(&bench, &much);
    for (uint64_t peer = BOB; peer < BOB + 3; peer++) {
        little.done = false;
        submit(&bench, &little, peer, PIECE);
        wait_for(&bench, &little);
    }
    size_t known = 0;
    const struct pool_peer *peer;
    TAILQ_FOREACH(peer, &bench.pool.peers, link)
    {
        known++;
    }
    assert_int_equal(known, 2); /* Alice, and the daemon itself */
    assert_int_equal(peers_of(&bench), 0);
    teardown(&bench);
}

/* --- Threads ---------------------------------------------------------------------------------- */

/* A peer that is alone has as many long jobs at a time as there are workers to spare. */
static void test_alone_it_has_all(void **state)
{
    struct bench bench;
    atomic_int meeting = 0;
    struct job jobs[2] = {{.mark = 'a', .meeting = &meeting}, {.mark = 'b', .meeting = &meeting}};
    (void)state;
    setup(&bench, 3);
    submit(&bench, &jobs[0], ALICE, LONG_COST);
    submit(&bench, &jobs[1], ALICE, LONG_COST);
    wait_for(&bench, &jobs[0]);
    wait_for(&bench, &jobs[1]);
    teardown(&bench);
}

/* More peers with long jobs than threads for them: all have their turn. */
static void test_more_peers_than_threads(void **state)
{
    struct bench bench;
    atomic_bool hold = false;
    struct job jobs[2 * POOL_LONG_THREADS] = {0};
    (void)state;
    setup(&bench, 2);
    for (size_t i = 0; i < 2 * POOL_LONG_THREADS; i++) {
        jobs[i].bytes = 3 * POOL_TURN;
        jobs[i].mark = 'x';
        jobs[i].hold = &hold;
        submit(&bench, &jobs[i], i + 1, LONG_COST);
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

/* Without a thread of its own a long job has a worker, and leaves one to the others. */
static void test_no_threads(void **state)
{
    struct bench bench;
    atomic_bool hold = false;
    struct job jobs[3] = {0};
    struct job small = {.bytes = PIECE, .mark = 's'};
    (void)state;
    setup(&bench, 2);
    no_threads = true;
    for (size_t i = 0; i < 3; i++) {
        jobs[i].bytes = POOL_TURN;
        jobs[i].mark = 'x';
        jobs[i].hold = &hold;
        submit(&bench, &jobs[i], ALICE, LONG_COST);
    }
    submit(&bench, &small, BOB, PIECE);
    wait_for(&bench, &small);
    assert_string_equal(bench.order, "s");
    atomic_store(&hold, true);
    for (size_t i = 0; i < 3; i++) {
        wait_for(&bench, &jobs[i]);
    }
    no_threads = false;
    teardown(&bench);
}

/* Small jobs in the background have workers of their own, which give way to everything else. */
static void test_background(void **state)
{
    struct bench bench;
    atomic_bool gate = false;
    struct job back = {.mark = 'b', .gate = &gate, .job.background = true};
    struct job next = {.mark = 'n', .bytes = PIECE, .job.background = true};
    struct job front = {.mark = 'f', .bytes = PIECE};
    (void)state;
    setup(&bench, 1);
    submit(&bench, &back, ALICE, PIECE);
    submit(&bench, &next, ALICE, PIECE);
    wait_until_it_runs(&back);
    submit(&bench, &front, ALICE, PIECE);
    wait_for(&bench, &front);
    atomic_store(&gate, true);
    wait_for(&bench, &next);
    teardown(&bench);
    assert_string_equal(bench.order, "fbn");
    assert_int_equal(front.nice, getpriority(PRIO_PROCESS, 0));
    assert_true(back.nice > front.nice || front.nice == 19); /* nothing is nicer */
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
    submit(&bench, &disk, ALICE, 0);
    assert_int_equal(peers_of(&bench), 0);
    submit(&bench, &large, 0, LONG_COST);
    submit(&bench, &small, 0, PIECE);
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
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_share_of_small_jobs),
        cmocka_unit_test(test_share_of_long_jobs),
        cmocka_unit_test(test_share_of_workers),
        cmocka_unit_test(test_peers_are_forgotten),
        cmocka_unit_test(test_alone_it_has_all),
        cmocka_unit_test(test_more_peers_than_threads),
        cmocka_unit_test(test_no_threads),
        cmocka_unit_test(test_background),
        cmocka_unit_test(test_disk_and_closing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
