/*
 * The admin socket over real sockets: what a peer sees, whatever it does to its connection.
 *
 * The loop and the peer share a thread: a test writes what it has to say, turns the loop a bounded
 * number of times, and reads what came.
 */
#include "tests/unit/daemon/test_admin_peer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/admin/admin.h"
#include "daemon/admin/connection.h"
#include "daemon/admin/jsonrpc.h"
#include "daemon/admin/limits.h"
#include "proto/frame.h"
#include "proto/message.h"

#define HELLO "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}\n"

/* --- Ways of asking --------------------------------------------------------------------------- */

static void hello_says_who_one_is(void **state)
{
    struct peer_end peer = connect_peer(*state);
    say_text(&peer, HELLO);
    wait_lines(&peer, 1);
    json_t *answer = answer_at(&peer, 0);
    json_t *result = json_object_get(answer, "result");
    assert_int_equal(json_integer_value(json_object_get(result, "uid")), getuid());
    assert_string_equal(json_string_value(json_object_get(result, "level")), "admin");
    assert_string_equal(json_string_value(json_object_get(result, "store_id")),
                        "abcd0000000000000000000000000000");
    json_decref(answer);
    close_peer(&peer);
}

static void a_byte_at_a_time_is_fine(void **state)
{
    struct peer_end peer = connect_peer(*state);
    static const char text[] = HELLO;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        say(&peer, text + i, 1);
        uv_run(&peer.fixture->shard.loop, UV_RUN_NOWAIT);
    }
    wait_lines(&peer, 1);
    assert_answer(&peer, 0, 1, "ok");
    close_peer(&peer);
}

/* More lines than one turn takes, of methods on the loop and on workers: answered in order. */
static void pipelined_lines_are_answered_in_order(void **state)
{
    struct peer_end peer = connect_peer(*state);
    enum { COUNT = 100 };
    for (int i = 0; i < COUNT; i++) {
        char line[128];
        int len =
            snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\"}\n", i,
                     i % 3 ? "hello" : "cap.list");
        say(&peer, line, (size_t)len);
    }
    wait_lines(&peer, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_answer(&peer, (size_t)i, i, "ok");
    }
    close_peer(&peer);
}

/* What a shell does: write, shut down, read to the end. */
static void a_peer_that_shut_down_is_still_answered(void **state)
{
    struct peer_end peer = connect_peer(*state);
    say_text(&peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n" HELLO);
    shutdown(peer.fd, SHUT_WR);
    wait_end(&peer);
    assert_int_equal(line_count(&peer), 2);
    assert_answer(&peer, 0, 1, "ok");
    assert_answer(&peer, 1, 1, "ok");
    close_peer(&peer);
}

/* printf without a newline, a shell's most likely slip. */
static void a_last_line_may_lack_its_end(void **state)
{
    static const struct {
        const char *text;
        const char *last; /* what it is answered with; NULL: there is nothing to answer */
    } rows[] = {
        {HELLO "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}", "ok"},
        {HELLO "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}", "ok"},
        {HELLO "{\"jsonrpc\":", "parse_error"},
        {HELLO " ", NULL},
        {HELLO, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct peer_end peer = connect_peer(*state);
        say_text(&peer, rows[i].text);
        shutdown(peer.fd, SHUT_WR);
        wait_end(&peer);
        assert_int_equal(line_count(&peer), rows[i].last ? 2 : 1);
        if (rows[i].last != NULL) {
            assert_answer(&peer, 1, strcmp(rows[i].last, "ok") == 0 ? 1 : -1, rows[i].last);
        }
        close_peer(&peer);
    }
}

static void notifications_are_executed_and_not_answered(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    say_text(&peer,
             "{\"jsonrpc\":\"2.0\",\"method\":\"log.set\",\"params\":{\"level\":\"debug\"}}\n"
             "{\"jsonrpc\":\"2.0\",\"method\":\"no.such\"}\n"
             "{\"jsonrpc\":\"2.0\",\"method\":\"cap.list\"}\n" HELLO);
    wait_lines(&peer, 1);
    assert_int_equal(line_count(&peer), 1);
    assert_answer(&peer, 0, 1, "ok");
    assert_int_equal(fixture->context.log.level, LOG_LEVEL_DEBUG);
    close_peer(&peer);
}

static void wrong_lines_leave_the_connection_usable(void **state)
{
    struct peer_end peer = connect_peer(*state);
    say_text(&peer,
             "nonsense\n[]\n{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"help\",\"method\":1}\n"
             "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"cap.stat\",\"params\":{\"x\":1}}\n"
             "[[[[[[[[[[[[[[[[[\n" HELLO);
    wait_lines(&peer, 6);
    assert_answer(&peer, 0, -1, "parse_error");
    assert_answer(&peer, 1, -1, "batch");
    assert_answer(&peer, 2, -1, "duplicate_key");
    assert_answer(&peer, 3, 7, "unknown_param");
    assert_answer(&peer, 4, -1, "too_deep");
    assert_answer(&peer, 5, 1, "ok");
    close_peer(&peer);
}

static void a_line_too_long_is_skipped(void **state)
{
    struct peer_end peer = connect_peer(*state);
    char *line = malloc(3 * JSONRPC_LINE_MAX);
    memset(line, ' ', 3 * JSONRPC_LINE_MAX);
    line[JSONRPC_LINE_MAX + 1] = '\n';
    say(&peer, line, JSONRPC_LINE_MAX + 2);
    say_text(&peer, HELLO);
    wait_lines(&peer, 2);
    assert_answer(&peer, 0, -1, "line_too_long");
    assert_answer(&peer, 1, 1, "ok");
    /* One that never ends is told once, while it goes on. */
    memset(line, 'x', 3 * JSONRPC_LINE_MAX);
    say(&peer, line, 3 * JSONRPC_LINE_MAX);
    wait_lines(&peer, 3);
    say(&peer, line, 3 * JSONRPC_LINE_MAX);
    say_text(&peer, "\n" HELLO);
    wait_lines(&peer, 4);
    assert_answer(&peer, 2, -1, "line_too_long");
    assert_answer(&peer, 3, 1, "ok");
    free(line);
    close_peer(&peer);
}

/* The longest line that is allowed reaches its method. */
static void a_line_of_the_bound_is_taken(void **state)
{
    struct peer_end peer = connect_peer(*state);
    char *line = malloc(JSONRPC_LINE_MAX + 1);
    memset(line, ' ', JSONRPC_LINE_MAX);
    memcpy(line, HELLO, sizeof(HELLO) - 2);
    line[JSONRPC_LINE_MAX] = '\n';
    say(&peer, line, JSONRPC_LINE_MAX + 1);
    wait_lines(&peer, 1);
    assert_answer(&peer, 0, 1, "ok");
    free(line);
    close_peer(&peer);
}

/* --- Threads that are busy ------------------------------------------------------------------- */

static uv_sem_t workers_free;

static void on_hold(struct pool_job *work)
{
    (void)work;
    uv_sem_wait(&workers_free);
}

static void on_held(struct pool_job *work)
{
    free(work);
}

/* Keeps every thread of the admin socket busy until release_workers. */
static void hold_workers(struct fixture *fixture)
{
    assert_int_equal(uv_sem_init(&workers_free, 0), 0);
    for (unsigned i = 0; i < ADMIN_COMMANDS_MAX; i++) {
        struct pool_job *work = calloc(1, sizeof(*work));
        assert_non_null(work);
        *work = (struct pool_job){.run = on_hold, .done = on_held};
        pool_submit(&fixture->admin->commands.outlet, work);
    }
}

static void release_workers(void)
{
    for (unsigned i = 0; i < ADMIN_COMMANDS_MAX; i++) {
        uv_sem_post(&workers_free);
    }
}

/* --- Bounds ----------------------------------------------------------------------------------- */

/* A peer that asks and does not read is not read from either: it can pile up no answers. */
static void a_slow_reader_is_not_read_from(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    static const char ask[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"schema\"}\n";
    size_t asked = 0;
    for (int idle = 0; idle < 50;) {
        ssize_t sent = send(peer.fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL);
        if (sent > 0) {
            assert_int_equal(sent, sizeof(ask) - 1);
            asked++;
            idle = 0;
        }
        idle++;
        assert_true(asked < 1000000);
        uv_run(&fixture->shard.loop, UV_RUN_NOWAIT);
    }
    struct admin_figures figures;
    admin_figures(fixture->admin, &figures);
    assert_true(figures.calls < asked);
    wait_lines(&peer, asked);
    assert_int_equal(line_count(&peer), asked);
    assert_answer(&peer, asked - 1, 1, "ok");
    close_peer(&peer);
}

static void connections_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peers[ADMIN_CONNECTIONS_MAX];
    for (size_t i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        peers[i] = connect_peer(fixture);
        say_text(&peers[i], HELLO);
        wait_lines(&peers[i], 1);
    }
    struct peer_end refused = connect_peer(fixture);
    wait_end(&refused);
    assert_answer(&refused, 0, -1, "too_many_connections");
    assert_non_null(strstr(fixture_log(fixture), "admin_refused error=too_many_connections"));
    close_peer(&refused);
    close_peer(&peers[0]);
    wait_connections(fixture, ADMIN_CONNECTIONS_MAX - 1);
    struct peer_end next = connect_peer(fixture);
    say_text(&next, HELLO);
    wait_lines(&next, 1);
    assert_answer(&next, 0, 1, "ok");
    close_peer(&next);
    for (size_t i = 1; i < ADMIN_CONNECTIONS_MAX; i++) {
        close_peer(&peers[i]);
    }
}

/* Moves the clock and lets the admin socket look at it. */
static void pass_ms(struct fixture *fixture, uint64_t ms)
{
    fixture->passed_us += ms * 1000;
    admin_tick(fixture->admin);
}

static void an_idle_connection_is_told_and_closed(void **state)
{
    struct fixture *fixture = *state;
    fixture->context.config.idle_ms = 1000;
    struct peer_end peer = connect_peer(fixture);
    say_text(&peer, HELLO "{\"half\":");
    wait_lines(&peer, 1);
    assert_answer(&peer, 0, 1, "ok");
    pass_ms(fixture, 999);
    say_text(&peer, "1"); /* not a whole line */
    uv_run(&fixture->shard.loop, UV_RUN_NOWAIT);
    pass_ms(fixture, 1);
    wait_end(&peer);
    assert_answer(&peer, 1, -1, "idle_timeout");
    close_peer(&peer);
}

/* Two commands take all threads there are for commands; a third waits. None of them is idle. */
static void a_command_under_way_is_not_idle(void **state)
{
    struct fixture *fixture = *state;
    fixture->context.config.idle_ms = 1000;
    struct peer_end peers[3];
    struct admin_figures figures;
    for (int i = 0; i < 3; i++) {
        peers[i] = connect_peer(fixture);
        say_text(&peers[i], HELLO);
        wait_lines(&peers[i], 1);
    }
    hold_workers(fixture);
    pass_ms(fixture, 999);
    for (int i = 0; i < 3; i++) {
        say_text(&peers[i], "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"cap.list\"}\n");
    }
    do {
        uv_run(&fixture->shard.loop, UV_RUN_NOWAIT);
        admin_figures(fixture->admin, &figures);
    } while (figures.calls < 6);
    pass_ms(fixture, 1000000);
    release_workers();
    for (int i = 0; i < 3; i++) {
        wait_lines(&peers[i], 2);
        assert_answer(&peers[i], 1, 2, "ok");
    }
    /* Now they are. */
    pass_ms(fixture, 1000);
    for (int i = 0; i < 3; i++) {
        wait_end(&peers[i]);
        assert_answer(&peers[i], 2, -1, "idle_timeout");
        close_peer(&peers[i]);
    }
}

static void a_reader_that_stops_is_closed(void **state)
{
    struct fixture *fixture = *state;
    fixture->context.config.progress_ms = 1000;
    struct peer_end peer = connect_peer(fixture);
    static const char ask[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"schema\"}\n";
    struct admin_figures figures;
    for (int idle = 0; idle < 50; idle++) {
        idle = send(peer.fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) > 0 ? 0 : idle;
        uv_run(&fixture->shard.loop, UV_RUN_NOWAIT);
    }
    pass_ms(fixture, 999);
    admin_figures(fixture->admin, &figures);
    assert_int_equal(figures.connections, 1);
    pass_ms(fixture, 1);
    admin_figures(fixture->admin, &figures);
    assert_int_equal(figures.connections, 0);
    wait_end(&peer);
    close_peer(&peer);
}

/* A client of the other socket: told at once, in its own protocol. */
static void a_client_at_the_wrong_socket_is_told(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    const struct proto_hello hello = {
        .version_min = 1, .version_max = 1, .agent = {(const uint8_t *)"unit", 4}};
    struct cap_buf payload = {0};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    struct proto_frame frame;
    struct proto_error m;
    assert_cap_ok(proto_hello_encode(&hello, &payload));
    proto_frame_encode(&(struct proto_frame){.len = (uint32_t)payload.len, .type = PROTO_HELLO},
                       header);
    say(&peer, (const char *)header, sizeof(header));
    say(&peer, (const char *)payload.data, payload.len);
    wait_end(&peer);
    assert_true(peer.received.len > sizeof(header));
    assert_cap_ok(proto_frame_decode(peer.received.data, PROTO_FRAME_MAX, &frame));
    assert_int_equal(frame.type, PROTO_ERROR);
    assert_int_equal(frame.id, 0);
    assert_cap_ok(
        proto_error_decode((struct cap_bytes){peer.received.data + sizeof(header), frame.len}, &m));
    assert_cap_error(cap_error_from_code(m.code), CAP_E_UNSUPPORTED_VERSION);
    assert_memory_equal(m.message.data, "this is the admin socket", 24);
    assert_non_null(strstr(fixture_log(fixture), "admin_refused"));
    cap_buf_free(&payload);
    close_peer(&peer);
}

/* --- Commands that outlive their connection --------------------------------------------------- */

/* The peer goes away at once; what it asked runs on or is dropped, and nobody else notices. */
static void peers_may_leave_at_any_time(void **state)
{
    struct fixture *fixture = *state;
    for (int turns = 0; turns < 20; turns++) {
        struct peer_end leaving[4];
        for (int i = 0; i < 4; i++) {
            leaving[i] = connect_peer(fixture);
            say_text(&leaving[i], "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n" HELLO
                                  "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"metrics\"}\n");
        }
        for (int i = 0; i < turns; i++) {
            uv_run(&fixture->shard.loop, UV_RUN_NOWAIT);
        }
        for (int i = 0; i < 4; i++) {
            close_peer(&leaving[i]);
        }
        /* A command under way keeps its connection's place until it is done. */
        wait_connections(fixture, 0);
    }
    struct peer_end peer = connect_peer(fixture);
    say_text(&peer, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"cap.list\"}\n");
    wait_lines(&peer, 1);
    assert_answer(&peer, 0, 3, "ok");
    close_peer(&peer);
}

/* Stopping with commands under way and in the queue leaves nothing behind (the teardown says). */
static void stopping_cancels_what_is_under_way(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peers[6];
    for (int i = 0; i < 6; i++) {
        peers[i] = connect_peer(fixture);
        say_text(&peers[i], "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n");
    }
    struct admin_figures figures;
    do {
        uv_run(&fixture->shard.loop, UV_RUN_NOWAIT);
        admin_figures(fixture->admin, &figures);
    } while (figures.calls < 6);
    admin_stop(fixture->admin);
    fixture_run_out(fixture);
    for (int i = 0; i < 6; i++) {
        close_peer(&peers[i]);
    }
}

/* --- Changes ---------------------------------------------------------------------------------- */

static void changes_are_audited_at_any_level_of_the_log(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    fixture->context.log.level = LOG_LEVEL_ERROR;
    say_text(&peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"log.set\",\"params\":{\"level\":"
                    "\"warning\"}}\n"
                    "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"drain\",\"params\":{\"x\":1}}\n"
                    "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"drain\"}\n"
                    "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"help\"}\n");
    wait_lines(&peer, 4);
    const char *log = fixture_log(fixture);
    const char *set = strstr(log, "admin_audit method=log.set");
    assert_non_null(set);
    assert_non_null(strstr(set, "outcome=ok"));
    assert_non_null(strstr(set, "warning"));
    assert_non_null(strstr(log, "outcome=unknown_param"));
    assert_null(strstr(log, "method=help"));
    assert_int_equal(fixture->drains, 1);
    assert_int_equal(fixture->context.log.level, LOG_LEVEL_WARNING);
    close_peer(&peer);
}

static void shutdown_is_answered(void **state)
{
    struct fixture *fixture = *state;
    struct peer_end peer = connect_peer(fixture);
    say_text(&peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"shutdown\"}\n");
    wait_lines(&peer, 1);
    assert_answer(&peer, 0, 1, "ok");
    assert_int_equal(fixture->stops, 1);
    close_peer(&peer);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define WITH_SOCKET(test) cmocka_unit_test_setup_teardown(test, peer_setup, peer_teardown)
    const struct CMUnitTest tests[] = {
        WITH_SOCKET(hello_says_who_one_is),
        WITH_SOCKET(a_byte_at_a_time_is_fine),
        WITH_SOCKET(pipelined_lines_are_answered_in_order),
        WITH_SOCKET(a_peer_that_shut_down_is_still_answered),
        WITH_SOCKET(a_last_line_may_lack_its_end),
        WITH_SOCKET(notifications_are_executed_and_not_answered),
        WITH_SOCKET(wrong_lines_leave_the_connection_usable),
        WITH_SOCKET(a_line_too_long_is_skipped),
        WITH_SOCKET(a_line_of_the_bound_is_taken),
        WITH_SOCKET(a_slow_reader_is_not_read_from),
        WITH_SOCKET(connections_are_bounded),
        WITH_SOCKET(an_idle_connection_is_told_and_closed),
        WITH_SOCKET(a_command_under_way_is_not_idle),
        WITH_SOCKET(a_reader_that_stops_is_closed),
        WITH_SOCKET(a_client_at_the_wrong_socket_is_told),
        WITH_SOCKET(peers_may_leave_at_any_time),
        WITH_SOCKET(stopping_cancels_what_is_under_way),
        WITH_SOCKET(changes_are_audited_at_any_level_of_the_log),
        WITH_SOCKET(shutdown_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
