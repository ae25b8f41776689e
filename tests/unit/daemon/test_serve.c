/* Serving from pages that are not in memory: who waits for the device, and what is said of it. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/net/session.h"

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
    assert_true(fixture->server.shard.stats.cold_windows >= len / CAP_STORE_WINDOW);
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
    uint64_t before = fixture->server.shard.stats.body_bytes_out;
    fixture->cold = true;
    send_get(fd, 5, &hash);
    fixture->server.hub.round.turns = 1000; /* a crowd: the next turn's share is the least */
    for (int turns = 0; turns < 50; turns++) {
        fixture_turn(fixture);
        assert_true(fixture->server.shard.stats.body_bytes_out - before <=
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
    assert_int_equal(fixture->server.hub.session_count, 0);
    atomic_store(&fixture->hold, false);
    fixture_settle(fixture);
    fd = client_open(fixture);
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    assert_true(read_body(fixture, fd, 5) >= CONTENT_LEN);
    close(fd);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
