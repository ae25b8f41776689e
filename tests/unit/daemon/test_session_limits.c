/* Shares and floors as a session meets them: memory, requests in flight, time before HELLO. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <string.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/net/session.h"

static const struct cap_hash absent = {{0xee}};

static void no_memory(struct config *config)
{
    config->max_memory = config->max_peer_memory =
        5000; /* an upload may need as much for hashing */
    config->max_all_requests = config->max_peer_requests = 1;
    config->max_requests = 1000;
}

/*
 * Requests that a client leaves open are memory too. Where there is none beyond the floor, it is
 * not read any more, and after the progress time told why and let go.
 */
static void test_open_requests_are_memory(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, no_memory);
    fixture.server.context.config.max_all_requests = 1000;
    fixture.server.context.config.max_peer_requests = 1000;
    int fd = client_open(&fixture);
    const struct session *session = fixture_session(&fixture);
    for (uint32_t id = 1; !session->connection.starved; id++) {
        assert_true(id < 200);
        client_put_data(&fixture, fd, id, 100000); /* whose body never comes */
        fixture_turn(&fixture);
    }
    assert_true(session->request_bytes > CONNECTION_FLOOR);
    assert_true(session->request_bytes < CONNECTION_FLOOR + 8000);
    client_put_data(&fixture, fd, 1000, 100000);
    size_t count = session->request_count;
    fixture_turn(&fixture);
    assert_int_equal(session->request_count, count); /* not read */
    fixture_pass(&fixture, fixture.server.context.config.progress_ms + 100);
    client_expect_error(&fixture, fd, 0, CAP_E_MEMORY_LIMIT);
    close(fd);
    fixture_stop(&fixture);
}

/* A session that had to wait for memory goes on when others give it back. */
static void test_memory_comes_back(void **state)
{
    struct fixture *fixture = *state;
    struct ledger *ledger = fixture->server.context.ledger;
    uint64_t others = 0;
    ledger_memory_count(ledger, NULL, &others, UINT64_C(1) << 40);
    int fd = client_open(fixture);
    struct session *session = fixture_session(fixture);
    session->request_bytes += CONNECTION_FLOOR + 1; /* as if requests held it */
    client_has(fixture, fd, 1, &absent, 1);
    fixture_turn(fixture);
    assert_true(session->connection.starved);
    client_has(fixture, fd, 2, &absent, 1);
    ledger_memory_count(ledger, NULL, &others, 0);
    fixture_pass(fixture, 100);
    assert_false(session->connection.starved);
    static struct reply reply;
    client_receive(fixture, fd, &reply);
    uint32_t first = reply.frame.id;
    client_receive(fixture, fd, &reply);
    assert_int_equal(first + reply.frame.id, 1 + 2); /* readers answer in any order */
    session->request_bytes -= CONNECTION_FLOOR + 1;
    close(fd);
}

/* An innocent reader is served whatever others hold. */
static void test_small_needs_do_not_come_from_the_pot(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->server.context;
    static struct reply reply;
    uint64_t others = 0;
    int publisher = client_open(fixture);
    struct cap_hash hash =
        client_publish(fixture, publisher, 1, (struct cap_bytes){(const uint8_t *)"abc", 3});
    ledger_memory_count(context->ledger, NULL, &others, UINT64_C(1) << 40);
    for (int i = 0; i < 8192; i++) {
        ledger_request_begin(context->ledger, NULL);
    }
    int fd = client_open(fixture);
    for (uint32_t id = 1; id <= 20; id++) {
        assert_true(client_is_there(fixture, fd, &hash));
        client_get(fixture, fd, id, &hash, 0, UINT64_MAX);
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_BODY);
    }
    for (int i = 0; i < 8192; i++) {
        ledger_request_end(context->ledger, NULL);
    }
    ledger_memory_count(context->ledger, NULL, &others, 0);
    close(fd);
    close(publisher);
}

/* Past its first few, a session's requests count against the share of its peer. */
static void test_requests_of_a_peer(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, no_memory);
    int fd = client_open(&fixture);
    for (uint32_t id = 1; id <= SESSION_REQUESTS_FLOOR; id++) {
        client_put_data(&fixture, fd, id, 100000);
    }
    client_put_data(&fixture, fd, 100, 100000);
    client_expect_error(&fixture, fd, 100, CAP_E_TOO_MANY_REQUESTS);
    int other = client_open(&fixture);
    assert_false(client_is_there(&fixture, other, &absent));
    close(other);
    close(fd);
    fixture_stop(&fixture);
}

/* Before HELLO a connection has little time. */
static void test_hello_that_does_not_come(void **state)
{
    struct fixture *fixture = *state;
    int silent = client_connect(fixture);
    int late = client_connect(fixture);
    int open = client_open(fixture);
    fixture_pass(fixture, 10000);
    client_write(fixture, late, "\x17\0\0", 3); /* a piece of a HELLO does not help */
    fixture_pass(fixture, 1);
    client_expect_error(fixture, silent, 0, CAP_E_HELLO_TIMEOUT);
    client_expect_error(fixture, late, 0, CAP_E_HELLO_TIMEOUT);
    assert_false(client_is_there(fixture, open, &absent));
    close(silent);
    close(late);
    close(open);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_requests_are_memory),
        cmocka_unit_test(test_requests_of_a_peer),
        TEST(test_memory_comes_back),
        TEST(test_small_needs_do_not_come_from_the_pot),
        TEST(test_hello_that_does_not_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
