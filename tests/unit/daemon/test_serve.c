/* Serving from pages that are not in memory: who waits for the device, and what is said of it. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/net/session.h"
#include "daemon/serve/window.h"
#include "lib/store/engine.h"

#define CONTENT_LEN (700u << 10) /* three frames */

/* Publishes content of `len` bytes, none of them zero; the body ends with it. */
static struct cap_hash publish(struct fixture *fixture, int fd, size_t len)
{
    uint8_t *content = malloc(len);
    assert_non_null(content);
    for (size_t i = 0; i < len; i++) {
        content[i] = (uint8_t)(1 + (i * 31 + i / 4096) % 255);
    }
    struct cap_hash hash = client_publish(fixture, fd, 1, (struct cap_bytes){content, len});
    free(content);
    return hash;
}

/* Reads a GET_REPLY and its body to the end; returns how many bytes the body has. */
static uint64_t read_body(struct fixture *fixture, int fd, uint32_t id)
{
    static struct reply reply;
    uint64_t len = 0;
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    do {
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_BODY);
        assert_int_equal(reply.frame.id, id);
        len += reply.frame.len;
    } while ((reply.frame.flags & PROTO_FLAG_END) == 0);
    return len;
}

/* Asks for a body, whose pages a worker begins to read in and is held there. */
static void get_and_hold(struct fixture *fixture, int fd, const struct cap_hash *hash)
{
    fixture->cold = true;
    atomic_store(&fixture->hold, true);
    client_get(fixture, fd, 5, hash, 0, PROTO_TO_END);
    for (int turns = 0; atomic_load(&fixture->held) == 0; turns++) {
        assert_true(turns < 1000);
        fixture_turn(fixture);
    }
}

static void test_cold_body_is_read_in_first(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    fixture->cold = true;
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    uint64_t len = read_body(fixture, fd, 5);
    assert_true(len >= CONTENT_LEN);
    assert_true(atomic_load(&fixture->populated) >= len);
    assert_true(fixture->server.loops[0].shard.stats.cold_windows >= len / CAP_STORE_WINDOW);
    close(fd);
}

/* Leaves a GET of the whole body in the socket; the loop does not turn. */
static void send_get(int fd, uint32_t id, const struct cap_hash *hash)
{
    struct cap_buf payload = {0};
    uint8_t bytes[PROTO_FRAME_HEADER_SIZE + 64];
    const struct proto_get get = {*hash, 0, PROTO_TO_END};
    assert_cap_ok(proto_get_encode(&get, &payload));
    assert_true(payload.len <= 64);
    const struct proto_frame frame = {.len = (uint32_t)payload.len, .id = id, .type = PROTO_GET};
    size_t len = PROTO_FRAME_HEADER_SIZE + payload.len;
    proto_frame_encode(&frame, bytes);
    memcpy(bytes + PROTO_FRAME_HEADER_SIZE, payload.data, payload.len);
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
    cap_buf_free(&payload);
}

/* A turn may send more than the one in which the window was asked for: what was read in is less. */
static void test_no_more_is_sent_than_was_read_in(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    fixture_settle(fixture);
    uint64_t before = fixture->server.loops[0].shard.stats.body_bytes_out;
    fixture->cold = true;
    send_get(fd, 5, &hash);
    fixture->server.loops[0].hub.round.turns =
        1000; /* a crowd: the next turn's share is the least */
    for (int turns = 0; turns < 50; turns++) {
        fixture_turn(fixture);
        assert_true(fixture->server.loops[0].shard.stats.body_bytes_out - before <=
                    atomic_load(&fixture->populated));
    }
    assert_true(read_body(fixture, fd, 5) >= CONTENT_LEN);
    close(fd);
}

/* What the device cannot read ends that GET with an error that names the cap, and is a fault. */
static void test_body_that_cannot_be_read(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    struct proto_error m;
    char hex[CAP_HASH_HEX_SIZE];
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    fixture->cold = true;
    fixture->populate_error = CAP_E_IO;
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_ERROR);
    assert_cap_ok(proto_error_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_cap_error(cap_error_from_code(m.code), CAP_E_IO);
    cap_hash_format(&hash, hex);
    assert_memory_equal(m.message.data, hex, strlen(hex));
    assert_cap_error(fixture->server.context.last_fault.error, CAP_E_IO);
    assert_memory_equal(fixture->server.context.last_fault.message, hex, strlen(hex));
    assert_true(client_is_there(fixture, fd, &hash));
    close(fd);
}

/* While one body waits for the device, other requests of the same client go on. */
static void test_cancelled_while_it_is_read_in(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    get_and_hold(fixture, fd, &hash);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    assert_true(client_is_there(fixture, fd, &hash));
    client_frame(fixture, fd, PROTO_CANCEL, 5, 0, (struct cap_bytes){0});
    client_expect_error(fixture, fd, 5, CAP_E_CANCELLED);
    atomic_store(&fixture->hold, false);
    fixture_settle(fixture);
    fixture->cold = false;
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 5) >= CONTENT_LEN);
    close(fd);
}

static void test_connection_gone_while_it_is_read_in(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    get_and_hold(fixture, fd, &hash);
    close(fd);
    fixture_turn(fixture);
    assert_int_equal(fixture->server.loops[0].hub.session_count, 0);
    atomic_store(&fixture->hold, false);
    fixture_settle(fixture);
    fd = client_open(fixture);
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 5) >= CONTENT_LEN);
    close(fd);
}

/* --- Who walks the store ---------------------------------------------------------------------- */

static struct cap_store_ops watched;
static const struct cap_store_ops *sound;
static pthread_t loop_thread;
static atomic_uint on_the_loop; /* calls that may wait for the device, made by the loop's thread */
static atomic_uint finds;
static atomic_bool hold_finds;
static atomic_uint held_finds;

static void watch(void)
{
    if (pthread_equal(pthread_self(), loop_thread)) {
        atomic_fetch_add(&on_the_loop, 1);
    }
}

static void watch_find(void)
{
    watch();
    atomic_fetch_add(&finds, 1);
    atomic_fetch_add(&held_finds, 1);
    while (atomic_load(&hold_finds)) {
        usleep(100);
    }
    atomic_fetch_sub(&held_finds, 1);
}

static enum cap_error watched_find(struct cap_read *read, const struct cap_hash *hash,
                                   struct cap_info *ret_info)
{
    watch_find();
    return sound->find(read, hash, ret_info);
}

static enum cap_error watched_locate(struct cap_read *read, const struct cap_hash *hash,
                                     struct cap_info *ret_info, struct cap_place *ret_place)
{
    watch_find();
    return sound->locate(read, hash, ret_info, ret_place);
}

static enum cap_error watched_take(struct cap_read *read, const struct cap_hash *hash,
                                   const struct cap_place *place, void *dst)
{
    watch();
    return sound->take(read, hash, place, dst);
}

static enum cap_error watched_window(struct cap_read *read, const struct cap_hash *hash,
                                     uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                     int *ret_count, size_t *ret_len)
{
    watch();
    return sound->window(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

static enum cap_error watched_peek(struct cap_read *read, const struct cap_hash *hash,
                                   uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                   int *ret_count, size_t *ret_len)
{
    watch();
    return sound->peek(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

static void watch_store(struct fixture *fixture)
{
    sound = fixture->server.context.store->ops;
    watched = *sound;
    watched.find = watched_find;
    watched.locate = watched_locate;
    watched.take = watched_take;
    watched.window = watched_window;
    watched.peek = watched_peek;
    fixture->server.context.store->ops = &watched;
    loop_thread = pthread_self();
    atomic_store(&on_the_loop, 0);
    atomic_store(&finds, 0);
}

static void client_stat(struct fixture *fixture, int fd, uint32_t id, const struct cap_hash *hash)
{
    struct cap_buf payload = {0};
    const struct proto_stat stat = {*hash};
    assert_cap_ok(proto_stat_encode(&stat, &payload));
    client_frame(fixture, fd, PROTO_STAT, id, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
}

/* The next frame is an ERROR whose message begins with the hash. */
static void expect_named(struct fixture *fixture, int fd, enum cap_error error,
                         const struct cap_hash *hash)
{
    static struct reply reply;
    struct proto_error m;
    char hex[CAP_HASH_HEX_SIZE];
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_ERROR);
    assert_cap_ok(proto_error_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_cap_error(cap_error_from_code(m.code), error);
    cap_hash_format(hash, hex);
    assert_true(m.message.len > strlen(hex));
    assert_memory_equal(m.message.data, hex, strlen(hex));
}

/* Of no request, known or not, large or small, does the loop walk the store. */
static void test_the_loop_never_walks_the_store(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    static struct cap_hash many[100];
    const struct cap_hash absent = {{0xee}};
    int fd = client_open(fixture);
    struct cap_hash large = publish(fixture, fd, CONTENT_LEN);
    struct cap_hash small = publish(fixture, fd, 1000);
    watch_store(fixture);
    for (int i = 0; i < 3; i++) {
        assert_true(client_is_there(fixture, fd, &small));
        assert_false(client_is_there(fixture, fd, &absent));
        client_stat(fixture, fd, 7, &large);
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_STAT_REPLY);
        client_get(fixture, fd, 8, &small, 0, PROTO_TO_END);
        assert_true(read_body(fixture, fd, 8) >= 1000);
        client_get(fixture, fd, 9, &large, 0, PROTO_TO_END);
        assert_true(read_body(fixture, fd, 9) >= CONTENT_LEN);
        client_get(fixture, fd, 10, &absent, 0, PROTO_TO_END);
        expect_named(fixture, fd, CAP_E_NOT_FOUND, &absent);
        client_stat(fixture, fd, 11, &absent);
        expect_named(fixture, fd, CAP_E_NOT_FOUND, &absent);
        client_has(fixture, fd, 12, many, 100);
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_HAS_REPLY);
    }
    assert_int_equal(atomic_load(&on_the_loop), 0);
    close(fd);
}

/* What was fetched once is answered from memory, as is a HAS of it, and a STAT the second time. */
static void test_known_caps_need_no_store(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    int fd = client_open(fixture);
    struct cap_hash small = publish(fixture, fd, 1000);
    client_get(fixture, fd, 8, &small, 0, PROTO_TO_END);
    uint64_t len = read_body(fixture, fd, 8);
    watch_store(fixture);
    client_get(fixture, fd, 8, &small, 0, PROTO_TO_END);
    assert_int_equal(read_body(fixture, fd, 8), len);
    client_get(fixture, fd, 9, &small, len - 5, 100);
    assert_int_equal(read_body(fixture, fd, 9), 5);
    client_get(fixture, fd, 9, &small, len, 1);
    assert_int_equal(read_body(fixture, fd, 9), 0);
    client_get(fixture, fd, 9, &small, len + 1, 1);
    expect_named(fixture, fd, CAP_E_RANGE_OUT_OF_BODY, &small);
    assert_true(client_is_there(fixture, fd, &small));
    assert_int_equal(atomic_load(&finds), 0);
    for (uint32_t id = 10; id < 12; id++) {
        client_stat(fixture, fd, id, &small);
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_STAT_REPLY);
        assert_int_equal(atomic_load(&finds), 1);
    }
    close(fd);
}

static enum cap_error failure;
static uint64_t failing_from; /* offset from which windows fail */

static enum cap_error failing_find(struct cap_read *read, const struct cap_hash *hash,
                                   struct cap_info *ret_info)
{
    (void)read;
    (void)hash;
    (void)ret_info;
    return failure;
}

static enum cap_error failing_peek(struct cap_read *read, const struct cap_hash *hash,
                                   uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                   int *ret_count, size_t *ret_len)
{
    if (offset >= failing_from) {
        return failure;
    }
    return sound->peek(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

static enum cap_error failing_take(struct cap_read *read, const struct cap_hash *hash,
                                   const struct cap_place *place, void *dst)
{
    (void)read;
    (void)hash;
    (void)place;
    (void)dst;
    return failure;
}

/* A body that is taken away while it goes out: an error that names it, and nobody's fault. */
static void test_body_that_goes_away(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, CONTENT_LEN);
    watch_store(fixture);
    watched.peek = failing_peek;
    failing_from = PROTO_FRAME_MAX;
    failure = CAP_E_NOT_FOUND;
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_BODY);
    assert_int_equal(reply.frame.flags, 0);
    expect_named(fixture, fd, CAP_E_NOT_FOUND, &hash);
    assert_int_equal(fixture->server.context.last_fault.time_us, 0);
    assert_true(client_is_there(fixture, fd, &hash)); /* the connection goes on */
    close(fd);
}

/* Damage in the index or in a small body: named, a fault, and not remembered as anything else. */
static void test_store_that_fails(void **state)
{
    struct fixture *fixture = *state;
    const struct cap_hash other = {{0xee}};
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 1000);
    watch_store(fixture);
    watched.take = failing_take;
    failure = CAP_E_CORRUPT;
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    expect_named(fixture, fd, CAP_E_CORRUPT, &hash);
    assert_cap_error(fixture->server.context.last_fault.error, CAP_E_CORRUPT);
    watched.find = failing_find;
    failure = CAP_E_IO;
    client_stat(fixture, fd, 6, &other);
    expect_named(fixture, fd, CAP_E_IO, &other);
    assert_cap_error(fixture->server.context.last_fault.error, CAP_E_IO);
    client_has(fixture, fd, 7, &other, 1);
    expect_named(fixture, fd, CAP_E_IO, &other);
    watched.find = sound->find;
    watched.take = sound->take;
    client_get(fixture, fd, 8, &hash, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 8) >= 1000);
    close(fd);
}

/* That a cap is not there is not remembered. */
static void test_absence_is_not_remembered(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    fixture_start(&other, NULL);
    int there = client_open(&other);
    struct cap_hash hash = publish(&other, there, 1000); /* what the hash will be */
    close(there);
    fixture_stop(&other);
    int fd = client_open(fixture);
    client_get(fixture, fd, 1, &hash, 0, PROTO_TO_END);
    expect_named(fixture, fd, CAP_E_NOT_FOUND, &hash);
    assert_false(client_is_there(fixture, fd, &hash));
    (void)publish(fixture, fd, 1000);
    assert_true(client_is_there(fixture, fd, &hash));
    client_get(fixture, fd, 1, &hash, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 1) >= 1000);
    close(fd);
}

static void no_records(struct config *config)
{
    config->record_cache = 0;
}

static void test_without_a_cache(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, no_records);
    int fd = client_open(&fixture);
    struct cap_hash small = publish(&fixture, fd, 1000);
    for (int i = 0; i < 3; i++) {
        client_get(&fixture, fd, 8, &small, 0, PROTO_TO_END);
        assert_true(read_body(&fixture, fd, 8) >= 1000);
        assert_true(client_is_there(&fixture, fd, &small));
    }
    assert_int_equal(records_bytes(&fixture.server.loops[0].serve.records), 0);
    assert_int_equal(places_bytes(&fixture.server.loops[0].serve.places), 0);
    close(fd);
    fixture_stop(&fixture);
}

/* A peer whose lookups hang keeps half of the threads: known caps and bodies in memory go on. */
static void test_lookups_that_hang(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = {{0}};
    int fd = client_open(fixture);
    struct cap_hash small = publish(fixture, fd, 1000);
    struct cap_hash large = publish(fixture, fd, CONTENT_LEN);
    client_get(fixture, fd, 1, &small, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 1) >= 1000);
    client_get(fixture, fd, 1, &large, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 1) >= CONTENT_LEN);
    fixture_settle(fixture);
    watch_store(fixture);
    atomic_store(&hold_finds, true);
    for (uint32_t id = 100; id < 140; id++) {
        hash.bytes[0] = (uint8_t)id;
        client_get(fixture, fd, id, &hash, 0, 1);
    }
    for (int turns = 0; atomic_load(&held_finds) < 4; turns++) {
        assert_true(turns < 1000);
        fixture_turn(fixture);
    }
    client_get(fixture, fd, 1, &small, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 1) >= 1000);
    client_get(fixture, fd, 1, &large, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 1) >= CONTENT_LEN);
    assert_int_equal(atomic_load(&held_finds), 4); /* of 8 */
    /* Those that wait are given up at once; nothing of them is left. */
    for (uint32_t id = 110; id < 140; id++) {
        client_frame(fixture, fd, PROTO_CANCEL, id, 0, (struct cap_bytes){0});
        client_expect_error(fixture, fd, id, CAP_E_CANCELLED);
    }
    assert_int_equal(serve_jobs(&fixture->server.loops[0].serve), 10);
    close(fd);
    fixture_turn(fixture);
    assert_int_equal(serve_jobs(&fixture->server.loops[0].serve), 4);
    atomic_store(&hold_finds, false);
}

/* A HAS of many that was begun ends early when its client goes. */
static void test_many_hashes_are_given_up(void **state)
{
    struct fixture *fixture = *state;
    static struct cap_hash many[4000];
    int fd = client_open(fixture);
    for (size_t i = 0; i < 4000; i++) {
        memcpy(many[i].bytes, &i, sizeof(i));
    }
    watch_store(fixture);
    atomic_store(&hold_finds, true);
    client_has(fixture, fd, 1, many, 4000);
    for (int turns = 0; atomic_load(&held_finds) == 0; turns++) {
        assert_true(turns < 1000);
        fixture_turn(fixture);
    }
    client_frame(fixture, fd, PROTO_CANCEL, 1, 0, (struct cap_bytes){0});
    client_expect_error(fixture, fd, 1, CAP_E_CANCELLED);
    atomic_store(&hold_finds, false);
    fixture_settle(fixture);
    assert_in_range(atomic_load(&finds), 1, 10);
    close(fd);
}

/* What waits for a socket that is full is kept for a moment, then asked for again. */
static void test_windows_do_not_wait_for_long(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash large = publish(fixture, fd, 3 * CONTENT_LEN);
    for (uint32_t id = 5; id < 10; id++) {
        client_get(fixture, fd, id, &large, 0, PROTO_TO_END);
    }
    fixture_settle(fixture);
    assert_in_range(fixture->server.loops[0].serve.window_count, 1, WINDOWS_MAX);
    fixture->now_us += 1000 * (WINDOW_KEEP_MS + 1);
    for (int turns = 0; fixture->server.loops[0].serve.window_count > 0; turns++) {
        assert_true(turns < 10000);
        fixture_turn(fixture);
    }
    fixture->now_us += 1000 * (WINDOW_KEEP_MS + 1);
    uint64_t owed = 0;
    for (unsigned ended = 0; ended < 5;) {
        static struct reply reply;
        struct proto_get_reply m;
        struct cap_bytes payload = {reply.payload, 0};
        client_receive(fixture, fd, &reply);
        payload.len = reply.frame.len;
        if (reply.frame.type == PROTO_GET_REPLY) {
            assert_cap_ok(proto_get_reply_decode(payload, &m));
            owed += m.len;
        } else {
            assert_int_equal(reply.frame.type, PROTO_BODY);
            owed -= reply.frame.len;
            ended += reply.frame.flags & PROTO_FLAG_END;
        }
    }
    assert_int_equal(owed, 0);
    close(fd);
}

/* --- The readers ------------------------------------------------------------------------------ */

#define CROWD 200u

struct numbered_job {
    struct read_job job;
    unsigned turns; /* that it still wants */
    unsigned done;  /* when, in the order of all */
};

static unsigned jobs_done;

static bool run_slowly(struct read_job *job)
{
    struct numbered_job *numbered = CONTAINER_OF(job, struct numbered_job, job);
    usleep(200);
    return --numbered->turns == 0;
}

static void count_done(struct read_job *job)
{
    CONTAINER_OF(job, struct numbered_job, job)->done = ++jobs_done;
}

static void submit(struct readers *readers, struct numbered_job *job, const void *account,
                   unsigned turns)
{
    *job = (struct numbered_job){.turns = turns};
    job->job.account = account;
    job->job.run = run_slowly;
    job->job.done = count_done;
    assert_cap_ok(readers_submit(readers, &job->job));
}

/* However much one peer asks for, another's jobs have every other turn. */
static void test_peers_take_turns(void **state)
{
    static struct numbered_job crowd[CROWD];
    struct numbered_job few[3];
    struct numbered_job given_up;
    int accounts[3];
    uv_loop_t loop;
    struct readers readers;
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_cap_ok(readers_open(&readers, &loop, 2)); /* of which one takes what is not hot */
    jobs_done = 0;
    for (size_t i = 0; i < CROWD; i++) {
        submit(&readers, &crowd[i], &accounts[0], 1);
    }
    for (size_t i = 0; i < 3; i++) {
        submit(&readers, &few[i], &accounts[1], 1);
    }
    submit(&readers, &given_up, &accounts[2], 1000000);
    while (few[2].done == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_true(few[2].done < CROWD / 2);
    for (size_t i = 0; i < CROWD; i++) {
        if (readers_withdraw(&readers, &crowd[i].job)) {
            crowd[i].done = UINT_MAX;
        }
    }
    if (readers_withdraw(&readers, &given_up.job)) {
        given_up.done = UINT_MAX;
    }
    readers_close(&readers);
    assert_int_equal(readers.jobs, 0);
    assert_true(given_up.done != 0);
    for (size_t i = 0; i < CROWD; i++) {
        assert_true(crowd[i].done != 0);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_cold_body_is_read_in_first),
        TEST(test_no_more_is_sent_than_was_read_in),
        TEST(test_body_that_cannot_be_read),
        TEST(test_cancelled_while_it_is_read_in),
        TEST(test_connection_gone_while_it_is_read_in),
        TEST(test_the_loop_never_walks_the_store),
        TEST(test_known_caps_need_no_store),
        TEST(test_body_that_goes_away),
        TEST(test_store_that_fails),
        TEST(test_absence_is_not_remembered),
        cmocka_unit_test(test_without_a_cache),
        TEST(test_lookups_that_hang),
        TEST(test_many_hashes_are_given_up),
        TEST(test_windows_do_not_wait_for_long),
        cmocka_unit_test(test_peers_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
