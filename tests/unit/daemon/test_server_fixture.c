#include "tests/unit/daemon/test_server_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/net/session.h"
#include "daemon/publish/writer.h"
#include "tests/support/store_memory.h"

#define TURNS_MAX 20000 /* of the loop, half a millisecond each, before a test is taken to hang */

static uint64_t fake_monotonic(void *ctx)
{
    struct fixture *fixture = ctx;
    if (fixture->step_us > 0) {
        fixture->now_us += fixture->step_us;
    }
    return fixture->now_us;
}

static enum cap_error fake_disk(void *ctx, const char *path, uint64_t *ret_bytes)
{
    (void)path;
    *ret_bytes = ((struct fixture *)ctx)->disk_free;
    return CAP_OK;
}

static enum cap_error fake_random(void *ctx, void *dst, size_t len)
{
    (void)ctx;
    memset(dst, 0x5a, len);
    return CAP_OK;
}

static bool fake_resident(void *ctx, const void *addr, size_t len)
{
    (void)addr;
    (void)len;
    return !((struct fixture *)ctx)->cold;
}

static enum cap_error fake_populate(void *ctx, const void *addr, size_t len)
{
    struct fixture *fixture = ctx;
    (void)addr;
    atomic_fetch_add(&fixture->held, 1);
    while (atomic_load(&fixture->hold)) {
        usleep(100);
    }
    atomic_fetch_sub(&fixture->held, 1);
    atomic_fetch_add(&fixture->populated, len);
    return fixture->populate_error;
}

/* --- The server ----------------------------------------------------------------------------- */

void fixture_start(struct fixture *fixture, void (*change)(struct config *config))
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = "unit test store";
    struct config config;
    struct cap_store *store = NULL;
    char reason[CONFIG_REASON_SIZE] = "";
    *fixture = (struct fixture){.now_us = 1000000, .disk_free = UINT64_C(1) << 40};
    fixture->env = (struct env){
        .monotonic_us = fake_monotonic,
        .real_us = fake_monotonic,
        .random = fake_random,
        .disk_free = fake_disk,
        .resident = fake_resident,
        .populate = fake_populate,
        .ctx = fixture,
    };
    snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/capstore-unit-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    snprintf(fixture->address, sizeof(fixture->address), "unix:%s/socket", fixture->dir);
    config_init(&config);
    config.state = strdup(fixture->dir);
    config.listen[0] = strdup(fixture->address);
    config.listen_count = 1;
    config.log_level = LOG_LEVEL_ERROR;
    config.threads = 1; /* the test turns its loop */
    if (change != NULL) {
        change(&config);
    }
    assert_cap_ok(cap_store_memory_new(id, FIXTURE_STORE_MAX, &store));
    enum cap_error error = server_start(&fixture->server, &fixture->env, &config, store, reason);
    if (error != CAP_OK) {
        fail_msg("server_start: %s", reason);
    }
}

/* Nothing that peers took may be left when they are gone. */
static void check_ledger(struct fixture *fixture)
{
    struct ledger_figures figures;
    ledger_figures(fixture->server.context.ledger, &figures);
    assert_int_equal(figures.connections, 0);
    assert_int_equal(figures.memory, 0);
    assert_int_equal(figures.buffers, 0);
    assert_int_equal(figures.spool, 0);
    assert_int_equal(figures.uploads, 0);
}

struct session *fixture_session(struct fixture *fixture)
{
    struct member *member = TAILQ_FIRST(&fixture->server.loops[0].hub.members);
    return member == NULL ? NULL : CONTAINER_OF(member, struct session, connection.member);
}

void fixture_stop(struct fixture *fixture)
{
    static const char *const names[] = {"lock", "store", "spool", "socket"};
    char path[128];
    if (!fixture->closed) {
        for (struct session *session; (session = fixture_session(fixture)) != NULL;) {
            connection_close(&session->connection);
        }
        fixture_settle(fixture);
        check_ledger(fixture);
        server_close(&fixture->server);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->dir, names[i]);
        (void)remove(path);
    }
    assert_int_equal(rmdir(fixture->dir), 0);
}

int fixture_setup(void **state)
{
    struct fixture *fixture = malloc(sizeof(*fixture));
    assert_non_null(fixture);
    fixture_start(fixture, NULL);
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_stop(*state);
    free(*state);
    return 0;
}

void fixture_turn(struct fixture *fixture)
{
    uv_run(&fixture->server.loops[0].shard.loop, UV_RUN_NOWAIT);
    usleep(500);
}

void fixture_set_disk(struct fixture *fixture, uint64_t bytes)
{
    fixture->disk_free = bytes;
    publish_tick(&fixture->server.loops[0].publish);
    while (fixture->server.loops[0].publish.refreshing) {
        fixture_turn(fixture);
    }
}

void fixture_pass(struct fixture *fixture, uint64_t ms)
{
    fixture->now_us += ms * 1000;
    hub_tick(&fixture->server.loops[0].hub);
    fixture_turn(fixture);
}

void fixture_settle(struct fixture *fixture)
{
    struct server *server = &fixture->server;
    struct ledger_figures figures;
    int turns = 0;
    do {
        fixture_turn(fixture);
        ledger_figures(server->context.ledger, &figures);
        assert_true(turns++ < TURNS_MAX);
    } while (figures.uploads > 0 || server->loops[0].shard.pool.jobs > 0 ||
             serve_jobs(&server->loops[0].serve) > 0 || writer_queued(server->writer) > 0 ||
             !TAILQ_EMPTY(&server->loops[0].hub.due));
}

/* --- Bytes ---------------------------------------------------------------------------------- */

int client_connect(struct fixture *fixture)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    memcpy(address.sun_path, fixture->address + 5, strlen(fixture->address + 5) + 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    fixture_turn(fixture);
    return fd;
}

void client_write(struct fixture *fixture, int fd, const void *data, size_t len)
{
    const uint8_t *at = data;
    for (int turns = 0; len > 0; turns++) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        assert_true(n > 0 || (errno == EAGAIN && turns < TURNS_MAX));
        if (n > 0) {
            at += n;
            len -= (size_t)n;
            uv_run(&fixture->server.loops[0].shard.loop, UV_RUN_NOWAIT);
        } else {
            fixture_turn(fixture); /* the disk may be slow */
        }
    }
}

/* Reads up to `len` bytes; fewer only at the connection's end. */
static size_t receive(struct fixture *fixture, int fd, uint8_t *data, size_t len)
{
    size_t filled = 0;
    for (int turns = 0; filled < len; turns++) {
        ssize_t n = recv(fd, data + filled, len - filled, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET)) {
            return filled;
        }
        assert_true(n > 0 || (errno == EAGAIN && turns < TURNS_MAX));
        if (n > 0) {
            filled += (size_t)n;
        } else {
            fixture_turn(fixture);
        }
    }
    return filled;
}

void client_frame(struct fixture *fixture, int fd, uint8_t type, uint32_t id, uint8_t flags,
                  struct cap_bytes payload)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    const struct proto_frame frame = {
        .len = (uint32_t)payload.len, .id = id, .type = type, .flags = flags};
    proto_frame_encode(&frame, header);
    client_write(fixture, fd, header, sizeof(header));
    client_write(fixture, fd, payload.data, payload.len);
}

void client_receive(struct fixture *fixture, int fd, struct reply *ret_reply)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    assert_int_equal(receive(fixture, fd, header, sizeof(header)), sizeof(header));
    assert_cap_ok(proto_frame_decode(header, PROTO_FRAME_MAX, &ret_reply->frame));
    assert_int_equal(receive(fixture, fd, ret_reply->payload, ret_reply->frame.len),
                     ret_reply->frame.len);
}

void client_expect_end(struct fixture *fixture, int fd)
{
    uint8_t byte;
    assert_int_equal(receive(fixture, fd, &byte, 1), 0);
}

void client_expect_error(struct fixture *fixture, int fd, uint32_t id, enum cap_error error)
{
    static struct reply reply;
    struct proto_error m;
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_ERROR);
    assert_cap_ok(proto_error_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_cap_error(cap_error_from_code(m.code), error);
    assert_int_equal(reply.frame.id, id);
    assert_int_equal(m.name.len, strlen(cap_error_name(error)));
}

/* --- Messages ------------------------------------------------------------------------------- */

static void send_message(struct fixture *fixture, int fd, uint8_t type, uint32_t id,
                         struct cap_buf *payload)
{
    client_frame(fixture, fd, type, id, 0, cap_buf_bytes(payload));
    cap_buf_free(payload);
}

int client_open_with(struct fixture *fixture, uint64_t features)
{
    static struct reply reply;
    struct cap_buf payload = {0};
    struct proto_hello_reply m;
    const struct proto_hello hello = {.version_min = 1,
                                      .version_max = 1,
                                      .agent = {(const uint8_t *)"unit", 4},
                                      .has_features = features != 0,
                                      .features = features};
    int fd = client_connect(fixture);
    assert_cap_ok(proto_hello_encode(&hello, &payload));
    send_message(fixture, fd, PROTO_HELLO, 0, &payload);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_HELLO_REPLY);
    assert_cap_ok(proto_hello_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_true(m.features == features);
    return fd;
}

int client_open(struct fixture *fixture)
{
    return client_open_with(fixture, 0);
}

void client_has(struct fixture *fixture, int fd, uint32_t id, const struct cap_hash *hashes,
                size_t count)
{
    struct cap_buf payload = {0};
    const struct proto_has has = {{(const uint8_t *)hashes, count * CAP_HASH_SIZE}, count, 0};
    assert_cap_ok(proto_has_encode(&has, &payload));
    send_message(fixture, fd, PROTO_HAS, id, &payload);
}

void client_get(struct fixture *fixture, int fd, uint32_t id, const struct cap_hash *hash,
                uint64_t offset, uint64_t len)
{
    struct cap_buf payload = {0};
    const struct proto_get get = {*hash, offset, len};
    assert_cap_ok(proto_get_encode(&get, &payload));
    send_message(fixture, fd, PROTO_GET, id, &payload);
}

void client_put_data(struct fixture *fixture, int fd, uint32_t id, uint64_t total_len)
{
    struct cap_buf payload = {0};
    const struct proto_put_data put = {.total_len = total_len};
    assert_cap_ok(proto_put_data_encode(&put, &payload));
    send_message(fixture, fd, PROTO_PUT_DATA, id, &payload);
}

void client_put_image(struct fixture *fixture, int fd, uint32_t id, uint8_t flags,
                      uint64_t total_len)
{
    struct cap_buf payload = {0};
    const struct proto_put_image put = {.flags = flags, .total_len = total_len};
    assert_cap_ok(proto_put_image_encode(&put, &payload));
    send_message(fixture, fd, PROTO_PUT_IMAGE, id, &payload);
}

void client_body(struct fixture *fixture, int fd, uint32_t id, struct cap_bytes body, size_t piece)
{
    do {
        size_t len = body.len < piece ? body.len : piece;
        uint8_t flags = len == body.len ? PROTO_FLAG_END : 0;
        client_frame(fixture, fd, PROTO_BODY, id, flags, (struct cap_bytes){body.data, len});
        body = cap_bytes_slice(body, len, body.len - len);
    } while (body.len > 0);
}

struct cap_hash client_publish(struct fixture *fixture, int fd, uint32_t id,
                               struct cap_bytes content)
{
    static struct reply reply;
    struct proto_put_data_reply m;
    client_put_data(fixture, fd, id, content.len);
    client_body(fixture, fd, id, content, 50000);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    assert_int_equal(reply.frame.id, id);
    assert_cap_ok(
        proto_put_data_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    return m.cap_hash;
}

bool client_is_there(struct fixture *fixture, int fd, const struct cap_hash *hash)
{
    static struct reply reply;
    struct proto_has_reply m;
    client_has(fixture, fd, 0x7fffffff, hash, 1);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_HAS_REPLY);
    assert_int_equal(reply.frame.id, 0x7fffffff);
    assert_cap_ok(proto_has_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_int_equal(m.kinds.len, 1);
    return m.kinds.data[0] != 0;
}
