/* Whatever a daemon does with its time, a call ends. */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

/* ---- a daemon that dawdles: it always moves something, and never gets anywhere ---- */

#define DAWDLE_MS    20u
#define DAWDLE_TIMES 100 /* twice as long in all as the timeout of a second */

static void dawdle_hello(struct fake *fake)
{
    fake->pause_ms = DAWDLE_MS;
    fake_hello(fake);
    fake->pause_ms = 0;
    (void)fake_take(fake);
}

static void dawdle_body(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    fake->pause_ms = DAWDLE_MS;
    fake_body(fake, (struct cap_bytes){hello_body, sizeof(hello_body)}, 1);
}

/* Frames of a request that is over, then the answer. */
static void dawdle_with_leftovers(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    for (int i = 0; i < DAWDLE_TIMES; i++) {
        (void)poll(NULL, 0, (int)DAWDLE_MS);
        fake_send(fake, PROTO_BODY, fake->frame.id - 1, 0, (struct cap_bytes){hello_body, 34});
    }
    fake_body(fake, (struct cap_bytes){hello_body, sizeof(hello_body)}, 34);
}

static void dawdle_with_empty_frames(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    struct proto_get_reply reply = {2, 34, 0, 34};
    struct cap_buf payload = {0};
    fake_check(fake, proto_get_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_GET_REPLY, fake->frame.id, &payload);
    for (int i = 0; i < DAWDLE_TIMES; i++) {
        (void)poll(NULL, 0, (int)DAWDLE_MS);
        fake_send(fake, PROTO_BODY, fake->frame.id, 0, (struct cap_bytes){NULL, 0});
    }
    fake_send(fake, PROTO_BODY, fake->frame.id, PROTO_FLAG_END, (struct cap_bytes){hello_body, 34});
}

static void test_dawdling_is_bounded(void **state)
{
    static void (*const scripts[])(struct fake *) = {
        dawdle_hello, dawdle_body, dawdle_with_leftovers, dawdle_with_empty_frames};
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    options.timeout_ms = 1000; /* long enough to be scheduled on a busy machine */
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct fake fake;
        struct capstore *store;
        struct capstore_cap *cap = NULL;
        fake_start(&fake, scripts[i], NULL);
        assert_error(capstore_new(&options, &store), "ok");
        enum capstore_error error = capstore_connect_fd(store, fake.client_fd);
        if (error == CAPSTORE_OK) {
            error = capstore_get(store, &hash, &cap);
        }
        assert_error(error, "timed_out");
        assert_non_null(strstr(capstore_message(store), "1.000 s"));
        assert_null(cap);
        assert_false(capstore_connected(store));
        capstore_free(store);
        fake_join(&fake);
    }
}

/* Many caps: a byte of one in each piece, the heads do not count. */
static void dawdle_with_small_pieces(struct fake *fake)
{
    const struct proto_get_many_reply reply = {1};
    const struct proto_piece piece = {
        .kind = CAP_KIND_DATA, .more = 1, .body_len = 10 * DAWDLE_TIMES, .len = 1};
    struct cap_buf payload = {0};
    uint8_t bytes[PROTO_PIECE_SIZE + 1] = {0};
    fake->features = PROTO_FEATURE_GET_MANY;
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET_MANY);
    fake_check(fake, proto_get_many_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_GET_MANY_REPLY, fake->frame.id, &payload);
    proto_piece_encode(&piece, bytes);
    for (int i = 0; i < DAWDLE_TIMES; i++) {
        (void)poll(NULL, 0, (int)DAWDLE_MS);
        fake_send(fake, PROTO_BODY, fake->frame.id, 0, (struct cap_bytes){bytes, sizeof(bytes)});
    }
}

static void test_dawdling_with_many_is_bounded(void **state)
{
    struct fake fake;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    options.timeout_ms = 1000;
    fake_start(&fake, dawdle_with_small_pieces, NULL);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_get_many(store, &hash, 1, fake_got_none, NULL), "timed_out");
    capstore_free(store);
    fake_join(&fake);
}

static void serve_one_piece(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    fake_body(fake, (struct cap_bytes){hello_body, sizeof(hello_body)}, sizeof(hello_body));
    fake_answer_has(fake);
}

/* Time that the caller's own function takes is not the daemon's. */
static enum capstore_error take_long(void *ctx, struct capstore_bytes piece)
{
    (void)ctx;
    (void)piece;
    (void)poll(NULL, 0, 300);
    return CAPSTORE_OK;
}

static void test_a_slow_caller_is_no_timeout(void **state)
{
    struct fake fake;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    options.timeout_ms = 250;
    fake_start(&fake, serve_one_piece, NULL);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_get_range(store, &hash, 0, UINT64_MAX, take_long, NULL), "ok");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

/* ---- a daemon that has much to hash ---- */

#define STRUCTURE ((size_t)1 << 20)

/* Answers after far longer than the timeout. */
static void hash_long(struct fake *fake)
{
    struct proto_put_image_reply reply = {{{1}}, {{2}}, 99, 1, 0, 0, 0};
    struct cap_buf payload = {0};
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_IMAGE);
    uint32_t id = fake->frame.id;
    (void)fake_drain_body(fake);
    (void)poll(NULL, 0, 2000);
    fake_check(fake, proto_put_image_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_PUT_IMAGE_REPLY, id, &payload);
}

/* An Image's structure takes longer to hash than as many bytes of an arena. */
static void test_structure_has_time(void **state)
{
    static const size_t arena_at[] = {40, STRUCTURE};
    static const char *const outcomes[] = {"timed_out", "ok"};
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    uint8_t *wire = calloc(1, STRUCTURE);
    (void)state;
    assert_non_null(wire);
    options.timeout_ms = 500;
    for (size_t i = 0; i < 2; i++) {
        struct fake fake;
        struct capstore_bytes bytes = {wire, STRUCTURE};
        struct capstore_source source = capstore_source_memory(&bytes);
        struct capstore_publish_result result;
        for (size_t field = 8; field < 36; field += 4) {
            cap_store32(wire + field, 40);
        }
        cap_store32(wire + 36, (uint32_t)arena_at[i]);
        fake_start(&fake, hash_long, NULL);
        struct capstore *store = fake_connect(&fake, &options);
        assert_error(capstore_publish(store, &source, 0, &result), outcomes[i]);
        capstore_free(store);
        fake_join(&fake);
    }
    free(wire);
}

/* ---- a listener whose queue is full ---- */

/* Accepts until somebody says hello. */
static void accept_late(struct fake *fake)
{
    const int *listener = (const int *)fake->ctx;
    (void)poll(NULL, 0, 50);
    do {
        close(fake->fd);
        fake->fd = accept(*listener, NULL, NULL);
    } while (recv(fake->fd, &(char){0}, 1, MSG_PEEK) == 0);
    fake_hello(fake);
    fake_answer_has(fake);
}

static void test_full_queue(void **state)
{
    struct fake fake;
    struct capstore *store;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[128];
    char folder[] = "/tmp/capstore-queue.XXXXXX";
    int fillers[64];
    size_t count = 0;
    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_true(snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", folder) > 0);
    assert_true(snprintf(text, sizeof(text), "unix:%s", address.sun_path) > 0);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    do {
        assert_true(count < 64);
        fillers[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    } while (connect(fillers[count++], (struct sockaddr *)&address, sizeof(address)) == 0);
    while (count > 0) {
        close(fillers[--count]);
    }

    options.timeout_ms = 200;
    assert_error(capstore_new(&options, &store), "ok");
    assert_error(capstore_connect(store, text), "timed_out");
    capstore_free(store);

    fake_start(&fake, accept_late, &listener);
    assert_error(capstore_new(NULL, &store), "ok");
    assert_error(capstore_connect(store, text), "ok");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
    close(fake.client_fd);
    close(listener);
    unlink(address.sun_path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dawdling_is_bounded),
        cmocka_unit_test(test_dawdling_with_many_is_bounded),
        cmocka_unit_test(test_a_slow_caller_is_no_timeout),
        cmocka_unit_test(test_structure_has_time),
        cmocka_unit_test(test_full_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
