/*
 * Two loops in two threads over one context: what is per loop is, what is shared may be used by
 * both. ThreadSanitizer is the judge; without it this shows that they serve and that sums are
 * right.
 */
#include "tests/unit/daemon/test_server_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/admin/ask.h"
#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/net/session.h"
#include "daemon/net/speaker.h"
#include "proto/message.h"
#include "tests/support/store_memory.h"

#define LOOPS    2
#define CLIENTS  4   /* per loop */
#define REQUESTS 200 /* of each client; every other one is refused */

struct bench_loop {
    struct shard shard;
    struct hub hub;
    int fds[CLIENTS]; /* the daemon's ends */
    pthread_t thread;
};

static struct context context;
static struct bench_loop loops[LOOPS];

static uint64_t fixed_us(void *ctx)
{
    (void)ctx;
    return 1000000;
}

static enum cap_error fixed_random(void *ctx, void *dst, size_t len)
{
    (void)ctx;
    memset(dst, 0x5a, len);
    return CAP_OK;
}

static const struct env env = {
    .monotonic_us = fixed_us,
    .real_us = fixed_us,
    .random = fixed_random,
};

/* A room that answers at once: refuses every other message, replies to the rest. */
static const struct verdict *begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                   struct cap_bytes payload)
{
    struct cap_buf reply = {0};
    (void)room;
    (void)payload;
    if (id % 2 == 0) {
        return session_refuse(session, id, type, CAP_E_TOO_MANY_HASHES, NULL);
    }
    const struct proto_has_reply m = {0};
    enum cap_error encoded = proto_has_reply_encode(&m, &reply);
    return session_reply(session, PROTO_HAS_REPLY, id, encoded, &reply, NULL);
}

static const struct route routes[] = {{.type = PROTO_HAS, .begin = begin}, {.begin = NULL}};

/* One loop's thread: takes its clients in and serves them until they have gone. */
static void *run_loop(void *ctx)
{
    struct bench_loop *loop = ctx;
    for (size_t i = 0; i < CLIENTS; i++) {
        struct peer peer;
        struct ledger_peer *account = NULL;
        assert_cap_ok(peer_of(loop->fds[i], 64, &peer));
        assert_cap_ok(ledger_connect(context.ledger, peer.key, &account));
        assert_cap_ok(session_door.open(&loop->hub, loop->fds[i], &peer, account));
    }
    while (loop->hub.session_count > 0) {
        uv_run(&loop->shard.loop, UV_RUN_ONCE);
        hub_tick(&loop->hub);
        shard_publish_stats(&loop->shard);
    }
    hub_close(&loop->hub);
    while (uv_run(&loop->shard.loop, UV_RUN_DEFAULT) != 0) {
    }
    shard_publish_stats(&loop->shard);
    return NULL;
}

static void send_all(int fd, uint8_t type, uint32_t id, struct cap_buf *payload)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    const struct proto_frame frame = {.len = (uint32_t)payload->len, .id = id, .type = type};
    proto_frame_encode(&frame, header);
    assert_int_equal(send(fd, header, sizeof(header), 0), sizeof(header));
    assert_int_equal(send(fd, payload->data, payload->len, 0), payload->len);
    cap_buf_free(payload);
}

static uint8_t receive_type(int fd)
{
    uint8_t bytes[PROTO_MESSAGE_MAX];
    struct proto_frame frame;
    assert_int_equal(recv(fd, bytes, PROTO_FRAME_HEADER_SIZE, MSG_WAITALL),
                     PROTO_FRAME_HEADER_SIZE);
    assert_cap_ok(proto_frame_decode(bytes, PROTO_FRAME_MAX, &frame));
    assert_int_equal(recv(fd, bytes, frame.len, MSG_WAITALL), frame.len);
    return frame.type;
}

/* Both loops at the same time, from the test's thread. */
static void talk(int (*clients)[CLIENTS])
{
    for (uint32_t id = 0; id <= REQUESTS; id++) {
        for (size_t i = 0; i < LOOPS * CLIENTS; i++) {
            int fd = clients[i / CLIENTS][i % CLIENTS];
            struct cap_buf payload = {0};
            const struct proto_hello hello = {.version_min = 1, .version_max = 1};
            const struct proto_has has = {0};
            assert_cap_ok(id == 0 ? proto_hello_encode(&hello, &payload)
                                  : proto_has_encode(&has, &payload));
            send_all(fd, id == 0 ? PROTO_HELLO : PROTO_HAS, id, &payload);
        }
        for (size_t i = 0; i < LOOPS * CLIENTS; i++) {
            uint8_t type = receive_type(clients[i / CLIENTS][i % CLIENTS]);
            assert_int_equal(type, id == 0       ? PROTO_HELLO_REPLY
                                   : id % 2 == 0 ? PROTO_ERROR
                                                 : PROTO_HAS_REPLY);
        }
    }
}

static void open_context(void)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = "two loops";
    config_init(&context.config);
    context.env = &env;
    context.phase = PHASE_RUNNING;
    context.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    log_init(&context.log, &env, open("/dev/null", O_WRONLY | O_CLOEXEC), false);
    context.log.level = LOG_LEVEL_DEBUG;
    assert_cap_ok(refusals_init(&context.refusals, 16));
    assert_cap_ok(ledger_new(&context.config, &env, &context.ledger));
    assert_cap_ok(cap_store_memory_new(id, 1 << 20, &context.store));
    for (size_t i = 0; i < LOOPS; i++) {
        loops[i].shard.context = &context;
        assert_int_equal(uv_loop_init(&loops[i].shard.loop), 0);
        assert_cap_ok(hub_open(&loops[i].hub, &loops[i].shard, routes));
        context.shards[context.shard_count++] = &loops[i].shard;
    }
}

static void test_two_loops(void **state)
{
    int clients[LOOPS][CLIENTS];
    struct stats sum;
    struct ledger_figures figures;
    (void)state;
    open_context();
    for (size_t i = 0; i < LOOPS * CLIENTS; i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
        clients[i / CLIENTS][i % CLIENTS] = fds[0];
        loops[i / CLIENTS].fds[i % CLIENTS] = fds[1];
    }
    for (size_t i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_create(&loops[i].thread, NULL, run_loop, &loops[i]), 0);
    }
    talk(clients);
    for (size_t i = 0; i < LOOPS * CLIENTS; i++) {
        close(clients[i / CLIENTS][i % CLIENTS]);
    }
    for (size_t i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_join(loops[i].thread, NULL), 0);
    }
    context_stats(&context, &sum);
    assert_int_equal(sum.connections, LOOPS * CLIENTS);
    assert_int_equal(sum.requests[PROTO_HAS], LOOPS * CLIENTS * REQUESTS);
    assert_int_equal(sum.refusals, LOOPS * CLIENTS * REQUESTS / 2);
    assert_int_equal(refusals_total(&context.refusals), sum.refusals);
    ledger_figures(context.ledger, &figures);
    assert_int_equal(figures.connections, 0);
    assert_int_equal(figures.peers, 0);
    for (size_t i = 0; i < LOOPS; i++) {
        assert_int_equal(uv_loop_close(&loops[i].shard.loop), 0);
        hub_free(&loops[i].hub);
    }
    cap_store_close(context.store);
    ledger_free(context.ledger);
    refusals_free(&context.refusals);
    config_free(&context.config);
}

/* --- Letters ---------------------------------------------------------------------------------- */

struct note {
    struct letter letter;
    char mark;
    char *read; /* marks of those that were read */
};

static void on_note(struct letter *letter)
{
    const struct note *note = CONTAINER_OF(letter, struct note, letter);
    note->read[strlen(note->read)] = note->mark;
}

/* In order, by the loop's thread; closing reads those that are there, and no more are taken. */
static void test_letters(void **state)
{
    uv_loop_t loop;
    struct mailbox mailbox;
    char read[8] = "";
    struct note notes[4];
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_cap_ok(mailbox_open(&mailbox, &loop));
    for (size_t i = 0; i < 4; i++) {
        notes[i] = (struct note){.letter = {.run = on_note}, .mark = (char)('a' + i), .read = read};
    }
    assert_true(mailbox_post(&mailbox, &notes[0].letter));
    assert_true(mailbox_post(&mailbox, &notes[1].letter));
    assert_string_equal(read, "");
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_string_equal(read, "ab");
    assert_true(mailbox_post(&mailbox, &notes[2].letter));
    mailbox_close(&mailbox);
    assert_string_equal(read, "abc");
    assert_false(mailbox_post(&mailbox, &notes[3].letter));
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    mailbox_free(&mailbox);
}

/* --- A server of two -------------------------------------------------------------------------- */

/* Keeps a loop's thread in one place. */
struct hold {
    struct letter letter;
    uv_sem_t reached;
    uv_sem_t release;
};

static void on_hold(struct letter *letter)
{
    struct hold *hold = CONTAINER_OF(letter, struct hold, letter);
    uv_sem_post(&hold->reached);
    uv_sem_wait(&hold->release);
}

static void two_threads(struct config *config)
{
    config->threads = 2;
}

static void wait_for_beat(struct loop *loop)
{
    for (int turns = 0; !loop_beats(loop); turns++) {
        assert_true(turns < 2000);
        uv_sleep(10);
    }
}

/* The watchdog and an operator notice a loop that is stuck, and neither waits for it for long. */
static void test_a_stuck_loop(void **state)
{
    static struct fixture fixture;
    struct hold hold = {.letter = {.run = on_hold}};
    struct server *server = &fixture.server;
    (void)state;
    fixture_start(&fixture, two_threads);
    assert_int_equal(server->loop_count, 2);
    const struct admin_rooms rooms = {.context = &server->context,
                                      .hubs = &server->hubs,
                                      .writer = server->writer,
                                      .copies = server->serves.copies};
    wait_for_beat(&server->loops[1]);
    struct admin_ask *ask = admin_ask(&rooms, 0, 4);
    assert_non_null(ask);
    assert_true(admin_ask_answered(ask, 0));
    assert_true(admin_ask_answered(ask, 1));
    assert_int_equal(admin_ask_clients(ask, 1)->count, 0);
    admin_ask_free(ask);

    assert_int_equal(uv_sem_init(&hold.reached, 0), 0);
    assert_int_equal(uv_sem_init(&hold.release, 0), 0);
    assert_true(mailbox_post(&server->loops[1].shard.mailbox, &hold.letter));
    uv_sem_wait(&hold.reached);
    (void)loop_beats(&server->loops[1]);
    uv_sleep(300);
    assert_false(loop_beats(&server->loops[1]));
    ask = admin_ask(&rooms, 0, 4);
    assert_non_null(ask);
    assert_false(admin_ask_answered(ask, 1));
    admin_ask_free(ask); /* the letter is still there */
    uv_sem_post(&hold.release);
    wait_for_beat(&server->loops[1]);
    fixture_stop(&fixture);
    uv_sem_destroy(&hold.reached);
    uv_sem_destroy(&hold.release);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_loops),
        cmocka_unit_test(test_letters),
        cmocka_unit_test(test_a_stuck_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
