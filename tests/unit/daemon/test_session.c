/*
 * Sessions over a real socket, the daemon in the same thread: hello, lookups, fetches, what breaks
 * the protocol, what time does.
 */
#include "tests/unit/daemon/test_server_fixture.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/net/session.h"
#include "lib/store/engine.h"
#include "tests/support/store_memory.h"

#define CONTENT_LEN (700u << 10) /* three frames */

static const struct cap_hash absent = {{0xee}};

static uint8_t *make_content(size_t len)
{
    uint8_t *content = malloc(len);
    assert_non_null(content);
    for (size_t i = 0; i < len; i++) {
        content[i] = (uint8_t)(1 + (i * 31 + i / 4096) % 255);
    }
    return content;
}

/* Publishes content of CONTENT_LEN; its body ends with the content, since no byte of it is zero. */
static struct cap_hash publish(struct fixture *fixture, int fd)
{
    uint8_t *content = make_content(CONTENT_LEN);
    struct cap_hash hash = client_publish(fixture, fd, 1, (struct cap_bytes){content, CONTENT_LEN});
    free(content);
    return hash;
}

/* Reads the frames of one GET; returns the body, its length in *ret_len. */
static uint8_t *read_get(struct fixture *fixture, int fd, uint32_t id, uint64_t *ret_len)
{
    static struct reply reply;
    struct proto_get_reply m;
    struct cap_buf body = {0};
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    assert_cap_ok(proto_get_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    do {
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_BODY);
        assert_int_equal(reply.frame.id, id);
        assert_cap_ok(cap_buf_append(&body, reply.payload, reply.frame.len));
    } while ((reply.frame.flags & PROTO_FLAG_END) == 0);
    assert_int_equal(body.len, m.len);
    *ret_len = m.len;
    return body.data;
}

/* --- Hello ---------------------------------------------------------------------------------- */

static void test_hello_states_limits(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    struct cap_buf payload = {0};
    struct proto_hello_reply m;
    const struct proto_hello hello = {
        .version_min = 1, .version_max = 9, .has_features = true, .features = UINT64_MAX};
    int fd = client_connect(fixture);
    assert_cap_ok(proto_hello_encode(&hello, &payload));
    client_frame(fixture, fd, PROTO_HELLO, 0, 0, cap_buf_bytes(&payload));
    client_receive(fixture, fd, &reply);
    assert_cap_ok(proto_hello_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_int_equal(m.version, 1);
    assert_true(m.has_features);
    assert_true(m.features == (PROTO_FEATURE_MAP | PROTO_FEATURE_GET_MANY | PROTO_FEATURE_KEEP |
                               PROTO_FEATURE_PUT_CAP | PROTO_FEATURE_SLICE | PROTO_FEATURE_CLOSURE |
                               PROTO_FEATURE_RESUME));
    assert_memory_equal(m.store_id, "unit test store", 15);
    assert_int_equal(m.limits.frame, PROTO_FRAME_MAX);
    assert_int_equal(m.limits.requests, fixture->server.context.config.max_requests);
    assert_int_equal(m.limits.upload, fixture->server.context.config.max_upload);
    assert_int_equal(m.limits.progress_ms, fixture->server.context.config.progress_ms);
    cap_buf_free(&payload);
    close(fd);
}

static void test_first_frame_must_be_hello(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_connect(fixture);
    client_has(fixture, fd, 1, NULL, 0);
    client_expect_error(fixture, fd, 0, CAP_E_BAD_FRAME);
    client_expect_end(fixture, fd);
    close(fd);
}

static void test_unknown_version(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf payload = {0};
    const struct proto_hello hello = {.version_min = 2, .version_max = 3};
    int fd = client_connect(fixture);
    assert_cap_ok(proto_hello_encode(&hello, &payload));
    client_frame(fixture, fd, PROTO_HELLO, 0, 0, cap_buf_bytes(&payload));
    client_expect_error(fixture, fd, 0, CAP_E_UNSUPPORTED_VERSION);
    client_expect_end(fixture, fd);
    cap_buf_free(&payload);
    close(fd);
}

/* --- Lookups and fetches -------------------------------------------------------------------- */

static void test_has_in_any_number(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    static struct cap_hash hashes[4097];
    struct proto_has_reply m;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd);
    static const size_t counts[] = {0, 1, 32, 33, 4096};
    for (size_t i = 0; i < 4097; i++) {
        hashes[i] = i % 3 == 0 ? hash : absent;
    }
    for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
        client_has(fixture, fd, 9, hashes, counts[k]);
        client_receive(fixture, fd, &reply);
        assert_cap_ok(
            proto_has_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
        assert_int_equal(m.kinds.len, counts[k]);
        for (size_t i = 0; i < counts[k]; i++) {
            assert_int_equal(m.kinds.data[i], i % 3 == 0 ? CAP_KIND_DATA : 0);
        }
    }
    client_has(fixture, fd, 9, hashes, 4097);
    client_expect_error(fixture, fd, 9, CAP_E_TOO_MANY_HASHES);
    close(fd);
}

static void test_get_ranges(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd);
    uint64_t whole_len = 0;
    uint64_t len = 0;
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    uint8_t *whole = read_get(fixture, fd, 5, &whole_len);
    const struct {
        uint64_t offset;
        uint64_t len;
        uint64_t wanted;
    } ranges[] = {
        {0, 0, 0},
        {17, 1, 1},
        {100, 300000, 300000},
        {whole_len - 5, 100, 5},
        {whole_len, PROTO_TO_END, 0},
        {0, PROTO_FRAME_MAX, PROTO_FRAME_MAX},
        {1, PROTO_FRAME_MAX + 1, PROTO_FRAME_MAX + 1},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        client_get(fixture, fd, 5, &hash, ranges[i].offset, ranges[i].len);
        uint8_t *part = read_get(fixture, fd, 5, &len);
        assert_int_equal(len, ranges[i].wanted);
        if (len > 0) {
            assert_memory_equal(part, whole + ranges[i].offset, len);
        }
        free(part);
    }
    client_get(fixture, fd, 5, &hash, whole_len + 1, 1);
    client_expect_error(fixture, fd, 5, CAP_E_RANGE_OUT_OF_BODY);
    client_get(fixture, fd, 5, &absent, 0, 1);
    client_expect_error(fixture, fd, 5, CAP_E_NOT_FOUND);
    free(whole);
    close(fd);
}

/* Bodies take turns frame by frame, and a small answer overtakes them. */
static void test_gets_interleave(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd);
    uint64_t got[3] = {0};
    size_t switches = 0;
    uint32_t last = 0;
    bool answered = false;
    for (uint32_t id = 10; id < 13; id++) {
        client_get(fixture, fd, id, &hash, 0, CONTENT_LEN);
    }
    client_has(fixture, fd, 20, &hash, 1);
    while (got[0] + got[1] + got[2] < 3 * CONTENT_LEN) {
        client_receive(fixture, fd, &reply);
        if (reply.frame.type == PROTO_HAS_REPLY) {
            answered = true;
        } else if (reply.frame.type == PROTO_BODY) {
            got[reply.frame.id - 10] += reply.frame.len;
            switches += reply.frame.id != last;
            last = reply.frame.id;
        }
    }
    assert_true(answered);
    assert_true(switches > 3); /* not one after the other */
    close(fd);
}

static void test_cancel_a_get(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd);
    uint64_t got = 0;
    client_get(fixture, fd, 10, &hash, 0, PROTO_TO_END);
    client_frame(fixture, fd, PROTO_CANCEL, 10, 0, (struct cap_bytes){0});
    do {
        client_receive(fixture, fd, &reply);
        got += reply.frame.type == PROTO_BODY ? reply.frame.len : 0;
    } while (reply.frame.type == PROTO_GET_REPLY ||
             (reply.frame.type == PROTO_BODY && reply.frame.flags == 0));
    /* Its end, or the error: exactly one, and the id is free. */
    assert_true(reply.frame.type == PROTO_ERROR || got >= CONTENT_LEN);
    client_frame(fixture, fd, PROTO_CANCEL, 10, 0, (struct cap_bytes){0});
    client_get(fixture, fd, 10, &hash, 0, 5);
    uint64_t len = 0;
    free(read_get(fixture, fd, 10, &len));
    assert_int_equal(len, 5);
    close(fd);
}

/* --- A store that fails --------------------------------------------------------------------- */

static struct cap_store_ops broken;
static const struct cap_store_ops *sound;
static uint64_t damaged_at; /* windows from here on cannot be read */

static enum cap_error broken_peek(struct cap_read *read, const struct cap_hash *hash,
                                  uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                  int *ret_count, size_t *ret_len)
{
    if (offset >= damaged_at) {
        return CAP_E_CORRUPT;
    }
    return sound->peek(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

static void break_store(struct fixture *fixture)
{
    sound = fixture->server.context.store->ops;
    broken = *sound;
    fixture->server.context.store->ops = &broken;
}

/* Damage in the middle of a body ends that GET with an error, not the connection. */
static void test_damaged_body(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd);
    break_store(fixture);
    broken.peek = broken_peek;
    damaged_at = PROTO_FRAME_MAX;
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_BODY);
    assert_int_equal(reply.frame.flags, 0);
    client_expect_error(fixture, fd, 5, CAP_E_CORRUPT);
    assert_true(client_is_there(fixture, fd, &hash));
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(&hash, hex);
    assert_non_null(strstr(fixture->server.context.last_fault.message, hex));
    close(fd);
}

/* A commit of which nobody knows the outcome is not acknowledged, and ends the daemon with 1. */
static void test_failed_commit_ends_the_daemon(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    cap_store_memory_fail_commit(fixture->server.context.store, CAP_E_IO);
    client_put_data(fixture, fd, 5, 5);
    client_body(fixture, fd, 5, (struct cap_bytes){(const uint8_t *)"hello", 5}, 5);
    client_expect_error(fixture, fd, 5, CAP_E_IO);
    assert_int_equal(fixture->server.context.phase, PHASE_STOPPING);
    assert_cap_error(fixture->server.context.last_fault.error, CAP_E_STORE_FAILED);
    assert_int_equal(server_run(&fixture->server), 1);
    close(fd);
}

/* --- Breaking the protocol ------------------------------------------------------------------ */

struct breach {
    struct proto_frame frame;
    enum cap_error error;
};

static void test_breaches_end_the_connection(void **state)
{
    static const struct breach breaches[] = {
        {{.len = 0, .id = 0, .type = PROTO_GET}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 0, .type = PROTO_HELLO}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 5, .type = PROTO_HAS_REPLY}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 5, .type = PROTO_ERROR}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 5, .type = PROTO_BODY, .flags = PROTO_FLAG_END}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 0, .type = PROTO_CANCEL}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 5, .type = PROTO_GET, .flags = PROTO_FLAG_END}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 5, .type = PROTO_GET, .flags = 2}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 5, .type = 0xd5}, CAP_E_BAD_FRAME},
        {{.len = 0, .id = 0, .type = 0x55}, CAP_E_BAD_FRAME},
        {{.len = 5000, .id = 5, .type = 0x55}, CAP_E_MESSAGE_TOO_LARGE},
        {{.len = PROTO_FRAME_MAX + 1, .id = 5, .type = PROTO_BODY}, CAP_E_FRAME_TOO_LARGE},
        {{.len = 5000, .id = 5, .type = PROTO_GET}, CAP_E_MESSAGE_TOO_LARGE},
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof(breaches) / sizeof(breaches[0]); i++) {
        uint8_t header[PROTO_FRAME_HEADER_SIZE];
        int fd = client_open(fixture);
        proto_frame_encode(&breaches[i].frame, header);
        client_write(fixture, fd, header, sizeof(header));
        client_expect_error(fixture, fd, breaches[i].frame.id, breaches[i].error);
        client_expect_end(fixture, fd);
        close(fd);
    }
    assert_int_equal(fixture->server.loops[0].shard.stats.refusals,
                     sizeof(breaches) / sizeof(breaches[0]));
}

static void test_bad_message_leaves_the_connection(void **state)
{
    static const uint8_t junk[3] = {1, 2, 3};
    static const uint8_t types[] = {PROTO_HAS, PROTO_GET, PROTO_STAT};
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    for (size_t i = 0; i < sizeof(types); i++) {
        client_frame(fixture, fd, types[i], 4, 0, (struct cap_bytes){junk, sizeof(junk)});
        client_expect_error(fixture, fd, 4, CAP_E_BAD_MESSAGE);
    }
    assert_false(client_is_there(fixture, fd, &absent));
    close(fd);
}

/* Refused with its id; what follows is served. */
static void test_unknown_request_leaves_the_connection(void **state)
{
    static const uint8_t junk[3] = {1, 2, 3};
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    client_frame(fixture, fd, 0x55, 4, 0, (struct cap_bytes){junk, sizeof(junk)});
    client_expect_error(fixture, fd, 4, CAP_E_UNSUPPORTED_REQUEST);
    client_frame(fixture, fd, 0, 4, 0, (struct cap_bytes){0});
    client_expect_error(fixture, fd, 4, CAP_E_UNSUPPORTED_REQUEST);
    assert_false(client_is_there(fixture, fd, &absent));
    close(fd);
}

static void test_id_in_use(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    client_put_data(fixture, fd, 5, 100);
    client_get(fixture, fd, 5, &absent, 0, 1);
    client_expect_error(fixture, fd, 5, CAP_E_ID_IN_USE);
    client_expect_end(fixture, fd);
    close(fd);
}

static void few_requests(struct config *config)
{
    config->max_requests = 2;
    config->max_connections = config->max_peer_connections = 3;
    config->max_output = 4096;
}

static void test_too_many_requests(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, few_requests);
    int fd = client_open(&fixture);
    client_put_data(&fixture, fd, 1, 100);
    client_put_data(&fixture, fd, 2, 100);
    client_get(&fixture, fd, 3, &absent, 0, 1);
    client_expect_error(&fixture, fd, 3, CAP_E_TOO_MANY_REQUESTS);
    client_put_data(&fixture, fd, 4, 100);
    client_expect_error(&fixture, fd, 4, CAP_E_TOO_MANY_REQUESTS);
    client_put_data(&fixture, fd, 5, 100);
    client_expect_error(&fixture, fd, 5, CAP_E_TOO_MANY_REQUESTS);
    /* More refused uploads than requests are left open. */
    client_put_data(&fixture, fd, 6, 100);
    client_expect_error(&fixture, fd, 0, CAP_E_TOO_MANY_REQUESTS);
    client_expect_end(&fixture, fd);
    close(fd);
    fixture_stop(&fixture);
}

static void test_too_many_connections(void **state)
{
    struct fixture fixture;
    int fds[3];
    (void)state;
    fixture_start(&fixture, few_requests);
    for (size_t i = 0; i < 3; i++) {
        fds[i] = client_open(&fixture);
    }
    int fd = client_connect(&fixture);
    client_expect_error(&fixture, fd, 0, CAP_E_TOO_MANY_CONNECTIONS);
    client_expect_end(&fixture, fd);
    close(fd);
    close(fds[0]);
    fixture_turn(&fixture);
    fd = client_open(&fixture);
    close(fd);
    close(fds[1]);
    close(fds[2]);
    fixture_stop(&fixture);
}

/* A client that only writes is no longer read from, and what waits for it stays bounded. */
static void test_answers_that_nobody_takes_are_bounded(void **state)
{
    struct fixture fixture;
    static struct cap_hash hashes[1000];
    uint8_t frame[PROTO_FRAME_HEADER_SIZE + 4 + sizeof(hashes)];
    struct cap_buf payload = {0};
    const struct proto_has has = {{(const uint8_t *)hashes, sizeof(hashes)}, 1000, 0};
    const struct proto_frame header = {.len = 4 + sizeof(hashes), .id = 1, .type = PROTO_HAS};
    (void)state;
    fixture_start(&fixture, few_requests);
    int fd = client_open(&fixture);
    assert_cap_ok(proto_has_encode(&has, &payload));
    proto_frame_encode(&header, frame);
    memcpy(frame + PROTO_FRAME_HEADER_SIZE, payload.data, payload.len);
    for (int i = 0; i < 5000; i++) {
        if (send(fd, frame, sizeof(frame), MSG_NOSIGNAL) < 0) {
            fixture_turn(&fixture);
        }
        const struct session *session = fixture_session(&fixture);
        assert_true(session == NULL ||
                    output_waiting(&session->connection.output) < 4096 + 3 * 2048);
    }
    cap_buf_free(&payload);
    close(fd);
    fixture_stop(&fixture);
}

/* --- Pieces and resets ---------------------------------------------------------------------- */

static void test_byte_at_a_time(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    struct cap_buf bytes = {0};
    struct cap_buf payload = {0};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    const struct proto_hello hello = {.version_min = 1, .version_max = 1};
    const struct proto_put_data put = {.total_len = 5};
    assert_cap_ok(proto_hello_encode(&hello, &payload));
    proto_frame_encode(&(struct proto_frame){.len = (uint32_t)payload.len, .type = PROTO_HELLO},
                       header);
    assert_cap_ok(cap_buf_append(&bytes, header, sizeof(header)));
    assert_cap_ok(cap_buf_append(&bytes, payload.data, payload.len));
    payload.len = 0;
    assert_cap_ok(proto_put_data_encode(&put, &payload));
    proto_frame_encode(
        &(struct proto_frame){.len = (uint32_t)payload.len, .id = 3, .type = PROTO_PUT_DATA},
        header);
    assert_cap_ok(cap_buf_append(&bytes, header, sizeof(header)));
    assert_cap_ok(cap_buf_append(&bytes, payload.data, payload.len));
    proto_frame_encode(
        &(struct proto_frame){.len = 5, .id = 3, .type = PROTO_BODY, .flags = PROTO_FLAG_END},
        header);
    assert_cap_ok(cap_buf_append(&bytes, header, sizeof(header)));
    assert_cap_ok(cap_buf_append(&bytes, "hello", 5));
    int fd = client_connect(fixture);
    for (size_t i = 0; i < bytes.len; i++) {
        client_write(fixture, fd, bytes.data + i, 1);
    }
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_HELLO_REPLY);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    cap_buf_free(&bytes);
    cap_buf_free(&payload);
    close(fd);
}

/* The connection goes while a GET is in each stage of its way out. */
static void test_reset_while_fetching(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd);
    close(fd);
    for (int turns = 0; turns < 6; turns++) {
        fd = client_open(fixture);
        client_get(fixture, fd, 1, &hash, 0, PROTO_TO_END);
        client_get(fixture, fd, 2, &hash, 0, PROTO_TO_END);
        for (int i = 0; i < turns; i++) {
            fixture_turn(fixture);
        }
        close(fd);
        fixture_turn(fixture);
    }
    fixture_settle(fixture);
    assert_int_equal(fixture->server.loops[0].hub.session_count, 0);
}

/* --- Time ----------------------------------------------------------------------------------- */

static void test_idle_connection_is_closed(void **state)
{
    struct fixture *fixture = *state;
    uint64_t idle = fixture->server.context.config.idle_ms;
    uint64_t refused = fixture->server.loops[0].shard.stats.refusals;
    fixture->server.context.config.hello_ms = 0;
    int fd = client_open(fixture);
    int asks = client_open(fixture);
    int silent = client_connect(fixture);
    fixture_pass(fixture, idle - 1);
    assert_false(client_is_there(fixture, fd, &absent)); /* not idle */
    client_get(fixture, asks, 1, &absent, 0, 1);         /* nor is who asks for what is not there */
    client_expect_error(fixture, asks, 1, CAP_E_NOT_FOUND);
    fixture_pass(fixture, 2);
    client_expect_error(fixture, silent, 0, CAP_E_IDLE_TIMEOUT);
    client_expect_end(fixture, silent);
    assert_false(client_is_there(fixture, asks, &absent));
    fixture_pass(fixture, idle + 1);
    client_expect_error(fixture, fd, 0, CAP_E_IDLE_TIMEOUT);
    client_expect_end(fixture, fd);
    /* A client that is quiet has done nothing wrong. */
    assert_int_equal(fixture->server.loops[0].shard.stats.connections_idle, 3);
    assert_int_equal(fixture->server.loops[0].shard.stats.refusals, refused + 1); /* not_found */
    close(fd);
    close(asks);
    close(silent);
}

/*
 * However many clients ask without end, a round of the loop is short, and none of them is left out.
 * Every look at the clock stands for ten microseconds of work.
 */
static void test_many_busy_clients_share_a_round(void **state)
{
    struct fixture *fixture = *state;
    static int fds[200];
    struct cap_buf asks = {0};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    const struct proto_frame frame = {.type = PROTO_CANCEL, .id = 1};
    proto_frame_encode(&frame, header);
    while (asks.len < 64000) {
        assert_cap_ok(cap_buf_append(&asks, header, sizeof(header)));
    }
    for (size_t i = 0; i < 200; i++) {
        fds[i] = client_open(fixture);
    }
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(send(fds[i], asks.data, asks.len, MSG_DONTWAIT), asks.len);
    }
    fixture->step_us = 10;
    for (unsigned round = 0; round < 4; round++) {
        uint64_t before = fixture->now_us;
        fixture_turn(fixture);
        assert_in_range(fixture->now_us - before, 1, 50000);
    }
    fixture->step_us = 0;
    static struct client clients[200];
    bool more;
    assert_int_equal(hub_clients(&fixture->server.loops[0].hub, 0, clients, 200, &more), 200);
    assert_false(more);
    for (size_t i = 0; i < 200; i++) {
        assert_true(clients[i].bytes_in > 1000);
    }
    for (size_t i = 0; i < 200; i++) {
        close(fds[i]);
    }
    cap_buf_free(&asks);
}

static void test_half_frame_then_silence(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    client_write(fixture, fd, "abc", 3);
    fixture_turn(fixture);
    fixture_pass(fixture, fixture->server.context.config.progress_ms + 1);
    client_expect_error(fixture, fd, 0, CAP_E_PROGRESS_TIMEOUT);
    client_expect_end(fixture, fd);
    close(fd);
}

static void test_reader_that_stops(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd);
    for (uint32_t id = 1; id < 10; id++) {
        client_get(fixture, fd, id, &hash, 0, PROTO_TO_END);
    }
    for (int i = 0; i < 20; i++) {
        fixture_turn(fixture);
    }
    assert_int_equal(fixture->server.loops[0].hub.session_count, 1);
    fixture_pass(fixture, fixture->server.context.config.progress_ms + 1);
    fixture_pass(fixture, 2000); /* it does not read the error either */
    fixture_turn(fixture);
    assert_int_equal(fixture->server.loops[0].hub.session_count, 0);
    close(fd);
}

static void test_drain(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    int idle = client_open(fixture);
    int busy = client_open(fixture);
    client_put_data(fixture, busy, 1, 5);
    fixture_turn(fixture);
    server_drain(&fixture->server);
    client_expect_error(fixture, idle, 0, CAP_E_DRAINING);
    client_expect_end(fixture, idle);
    client_get(fixture, busy, 2, &absent, 0, 1);
    client_expect_error(fixture, busy, 2, CAP_E_DRAINING);
    /* What is in flight finishes. */
    client_body(fixture, busy, 1, (struct cap_bytes){(const uint8_t *)"hello", 5}, 5);
    client_receive(fixture, busy, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    client_expect_error(fixture, busy, 0, CAP_E_DRAINING);
    client_expect_end(fixture, busy);
    close(idle);
    close(busy);
    assert_int_equal(server_run(&fixture->server), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_hello_states_limits),
        TEST(test_first_frame_must_be_hello),
        TEST(test_unknown_version),
        TEST(test_has_in_any_number),
        TEST(test_get_ranges),
        TEST(test_gets_interleave),
        TEST(test_cancel_a_get),
        TEST(test_damaged_body),
        TEST(test_failed_commit_ends_the_daemon),
        TEST(test_breaches_end_the_connection),
        TEST(test_bad_message_leaves_the_connection),
        TEST(test_unknown_request_leaves_the_connection),
        TEST(test_id_in_use),
        cmocka_unit_test(test_too_many_requests),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_answers_that_nobody_takes_are_bounded),
        TEST(test_byte_at_a_time),
        TEST(test_reset_while_fetching),
        TEST(test_idle_connection_is_closed),
        TEST(test_many_busy_clients_share_a_round),
        TEST(test_half_frame_then_silence),
        TEST(test_reader_that_stops),
        TEST(test_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
