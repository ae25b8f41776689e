#include "tests/unit/client/fake.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static void *run(void *ctx)
{
    struct fake *fake = (struct fake *)ctx;
    fake->script(fake);
    close(fake->fd);
    return NULL;
}

void fake_start(struct fake *fake, void (*script)(struct fake *fake), const void *ctx)
{
    int ends[2];
    *fake = (struct fake){.script = script, .ctx = ctx};
    fake->limits = (struct proto_limits){
        .frame = PROTO_FRAME_MAX,
        .requests = 64,
        .hashes = 4096,
        .upload = UINT64_C(1) << 30,
        .structure = 1u << 24,
        .data = UINT64_C(1) << 30,
    };
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fake->fd = ends[0];
    fake->client_fd = ends[1];
    assert_int_equal(pthread_create(&fake->thread, NULL, run, fake), 0);
}

void fake_join(struct fake *fake)
{
    pthread_join(fake->thread, NULL);
    cap_buf_free(&fake->payload);
    if (fake->failed != NULL) {
        fail_msg("the daemon's side: %s", fake->failed);
    }
}

static bool read_all(int fd, void *data, size_t len)
{
    uint8_t *at = (uint8_t *)data;
    while (len > 0) {
        ssize_t n = read(fd, at, len);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool fake_take(struct fake *fake)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    if (!read_all(fake->fd, header, sizeof(header))) {
        return false;
    }
    enum cap_error error = proto_frame_decode(header, PROTO_FRAME_MAX, &fake->frame);
    fake_check(fake, error == CAP_OK);
    if (error != CAP_OK) {
        return false;
    }
    cap_buf_free(&fake->payload);
    return cap_buf_append_zeros(&fake->payload, fake->frame.len) == CAP_OK &&
           read_all(fake->fd, fake->payload.data, fake->frame.len);
}

bool fake_expect(struct fake *fake, uint8_t type)
{
    bool taken = fake_take(fake);
    fake_check(fake, taken);
    fake_check(fake, fake->frame.type == type);
    return taken && fake->frame.type == type;
}

uint64_t fake_drain_body(struct fake *fake)
{
    uint64_t total = 0;
    while (fake_expect(fake, PROTO_BODY)) {
        total += fake->frame.len;
        if ((fake->frame.flags & PROTO_FLAG_END) != 0) {
            break;
        }
    }
    return total;
}

void fake_raw(struct fake *fake, const void *data, size_t len)
{
    const uint8_t *at = (const uint8_t *)data;
    while (len > 0) {
        if (fake->pause_ms != 0) {
            (void)poll(NULL, 0, (int)fake->pause_ms);
        }
        ssize_t n = send(fake->fd, at, fake->pause_ms != 0 ? 1 : len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* the client closed: its own test says whether that is right */
        }
        at += n;
        len -= (size_t)n;
    }
}

void fake_send(struct fake *fake, uint8_t type, uint32_t id, uint8_t flags, struct cap_bytes bytes)
{
    struct proto_frame frame = {(uint32_t)bytes.len, id, type, flags};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    proto_frame_encode(&frame, header);
    fake_raw(fake, header, sizeof(header));
    fake_raw(fake, bytes.data, bytes.len);
}

void fake_send_buf(struct fake *fake, uint8_t type, uint32_t id, struct cap_buf *payload)
{
    fake_send(fake, type, id, 0, cap_buf_bytes(payload));
    cap_buf_free(payload);
}

void fake_hello(struct fake *fake)
{
    static const uint8_t agent[] = "fake";
    struct proto_hello_reply reply = {
        .version = PROTO_VERSION, .limits = fake->limits, .agent = {agent, 4}};
    struct cap_buf payload = {0};
    struct proto_hello hello;
    if (!fake_expect(fake, PROTO_HELLO)) {
        return;
    }
    fake_check(fake, proto_hello_decode(cap_buf_bytes(&fake->payload), &hello) == CAP_OK);
    reply.has_features = hello.has_features;
    reply.features = hello.features & fake->features;
    memset(reply.store_id, 7, sizeof(reply.store_id));
    fake_check(fake, proto_hello_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_HELLO_REPLY, 0, &payload);
}

void fake_error(struct fake *fake, uint32_t id, enum cap_error error, const char *message,
                uint64_t detail_len)
{
    const char *name = cap_error_name(error);
    struct proto_error reply = {(uint16_t)-error,
                                {(const uint8_t *)name, strlen(name)},
                                {(const uint8_t *)message, strlen(message)},
                                detail_len};
    struct cap_buf payload = {0};
    fake_check(fake, proto_error_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_ERROR, id, &payload);
}

void fake_body(struct fake *fake, struct cap_bytes body, size_t step)
{
    struct proto_get_reply reply = {body.len > 0 ? body.data[0] : 2, body.len, 0, body.len};
    struct cap_buf payload = {0};
    uint32_t id = fake->frame.id;
    fake_check(fake, proto_get_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_GET_REPLY, id, &payload);
    for (size_t at = 0; at < body.len; at += step) {
        size_t len = body.len - at < step ? body.len - at : step;
        fake_send(fake, PROTO_BODY, id, at + len == body.len ? PROTO_FLAG_END : 0,
                  cap_bytes_slice(body, at, len));
    }
}

void fake_reply_has(struct fake *fake)
{
    static const uint8_t kind = CAP_KIND_DATA;
    struct proto_has_reply reply = {.kinds = {&kind, 1}};
    struct cap_buf payload = {0};
    fake_check(fake, proto_has_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_HAS_REPLY, fake->frame.id, &payload);
}

void fake_answer_has(struct fake *fake)
{
    if (fake_expect(fake, PROTO_HAS)) {
        fake_reply_has(fake);
    }
}

struct capstore *fake_connect(struct fake *fake, const struct capstore_options *options)
{
    struct capstore *store;
    assert_int_equal(capstore_new(options, &store), CAPSTORE_OK);
    assert_string_equal(capstore_error_name(capstore_connect_fd(store, fake->client_fd)), "ok");
    assert_string_equal(capstore_message(store), "");
    return store;
}

void fake_assert_usable(struct capstore *store)
{
    struct capstore_hash hash = {{1}};
    uint8_t kind = 0;
    assert_true(capstore_connected(store));
    assert_string_equal(capstore_error_name(capstore_has(store, &hash, 1, &kind)), "ok");
    assert_int_equal(kind, CAPSTORE_KIND_DATA);
}

enum capstore_error fake_got_none(void *ctx, size_t index, enum capstore_error error,
                                  struct capstore_cap *cap)
{
    (void)ctx;
    (void)index;
    (void)error;
    capstore_cap_free(cap);
    fail();
    return CAPSTORE_OK;
}
