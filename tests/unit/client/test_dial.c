/* Connecting without blocking, in a loop as a caller has one. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/lib/dial.h"
#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#include <capstore/async.h>

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

/* What a callback saw. */
struct seen {
    struct capstore *store;
    size_t calls;
    enum capstore_error error;
    char message[CAPSTORE_MESSAGE_SIZE];
};

static void on_done(void *ctx, const struct capstore_answer *answer)
{
    struct seen *seen = ctx;
    seen->calls++;
    seen->error = answer->error;
    memcpy(seen->message, capstore_message(seen->store), sizeof(seen->message));
}

/* Returns how often there was something to do. */
static size_t loop_until_done(struct capstore *store)
{
    size_t turns = 0;
    while (capstore_pending(store) > 0) {
        struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
        int timeout_ms = capstore_timeout_ms(store);
        assert_true(timeout_ms >= 0); /* there is a limit to everything */
        assert_true(poll(&entry, 1, timeout_ms) >= 0);
        (void)capstore_process(store, entry.revents);
        turns++;
    }
    return turns;
}

/* ---- a listener ---- */

struct listener {
    int fd;
    char folder[32];
    struct sockaddr_un path;
    char address[160];
};

static void listen_unix(struct listener *listener)
{
    *listener =
        (struct listener){.folder = "/tmp/capstore-dial.XXXXXX", .path = {.sun_family = AF_UNIX}};
    assert_non_null(mkdtemp(listener->folder));
    assert_true(snprintf(listener->path.sun_path, sizeof(listener->path.sun_path), "%s/sock",
                         listener->folder) > 0);
    assert_true(snprintf(listener->address, sizeof(listener->address), "unix:%s",
                         listener->path.sun_path) > 0);
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener->fd, (struct sockaddr *)&listener->path, sizeof(listener->path)),
                     0);
    assert_int_equal(listen(listener->fd, 1), 0);
}

/* A listener on 127.0.0.1 alone; `host` is what the address says. */
static void listen_tcp(struct listener *listener, const char *host)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    *listener = (struct listener){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(bind(listener->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener->fd, 1), 0);
    assert_int_equal(getsockname(listener->fd, (struct sockaddr *)&at, &len), 0);
    assert_true(snprintf(listener->address, sizeof(listener->address), "tcp:%s:%u", host,
                         (unsigned)ntohs(at.sin_port)) > 0);
}

static void stop_listening(struct listener *listener)
{
    close(listener->fd);
    if (listener->folder[0] != '\0') {
        unlink(listener->path.sun_path);
        rmdir(listener->folder);
    }
}

/* Accepts until somebody says hello. */
static void accept_one(struct fake *fake)
{
    const struct listener *listener = fake->ctx;
    (void)poll(NULL, 0, 30);
    do {
        close(fake->fd);
        fake->fd = accept(listener->fd, NULL, NULL);
    } while (recv(fake->fd, &(char){0}, 1, MSG_PEEK) == 0);
    fake_hello(fake);
    fake_answer_has(fake);
}

static void connect_and_ask(struct listener *listener)
{
    struct fake fake;
    struct seen seen = {0};
    struct capstore_hash hash = hash_of(HELLO_HASH);
    uint8_t kind;
    fake_start(&fake, accept_one, listener);
    assert_error(capstore_new(NULL, &seen.store), "ok");
    assert_error(capstore_async_connect(seen.store, listener->address, on_done, &seen), "ok");
    assert_false(capstore_connected(seen.store));
    assert_int_equal(capstore_pending(seen.store), 1);
    assert_int_equal(seen.calls, 0); /* never inside the call */
    /* Nothing can be asked yet, in either way. */
    assert_error(capstore_async_get(seen.store, &hash, on_done, &seen, NULL), "connection_lost");
    assert_error(capstore_async_has(seen.store, &hash, 1, on_done, &seen, NULL), "connection_lost");
    assert_error(capstore_has(seen.store, &hash, 1, &kind), "connection_lost");
    (void)loop_until_done(seen.store);
    assert_int_equal(seen.calls, 1);
    assert_error(seen.error, "ok");
    assert_true(capstore_connected(seen.store));
    fake_assert_usable(seen.store);
    capstore_free(seen.store);
    fake_join(&fake);
    close(fake.client_fd);
}

static void test_unix(void **state)
{
    struct listener listener;
    (void)state;
    listen_unix(&listener);
    connect_and_ask(&listener);
    stop_listening(&listener);
}

/* "localhost" may have an address where nobody listens. */
static void test_tcp(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct listener listener;
        listen_tcp(&listener, hosts[i]);
        connect_and_ask(&listener);
        stop_listening(&listener);
    }
}

/* The second address of a name is tried with a socket of another number. */
static void test_second_address(void **state)
{
    struct listener dead;
    struct listener alive;
    struct client_address address;
    struct client_dial dial;
    struct sockaddr_in at;
    socklen_t len = sizeof(at);
    (void)state;
    listen_tcp(&dead, "127.0.0.1");
    stop_listening(&dead);
    listen_tcp(&alive, "127.0.0.1");
    assert_int_equal(getsockname(alive.fd, (struct sockaddr *)&at, &len), 0);
    struct addrinfo second = {
        .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&at, .ai_addrlen = sizeof(at)};
    assert_cap_ok(client_address_parse(dead.address, &address));
    if (client_dial_begin(&dial, &address) == CAP_OK) { /* it is refused later */
        int first = dial.fd;
        int fd = -1;
        dial.list->ai_next = &second;
        while (fd < 0) {
            struct pollfd entry = {dial.fd, POLLOUT, 0};
            assert_int_equal(poll(&entry, 1, 10000), 1);
            assert_cap_ok(client_dial_step(&dial, &fd));
        }
        assert_int_not_equal(fd, first);
        assert_int_equal(getpeername(fd, (struct sockaddr *)&at, &len), 0);
        close(fd);
        dial.list->ai_next = NULL;
    }
    client_dial_end(&dial);
    stop_listening(&alive);
}

/* A listener whose queue is full gives no event when it has room. */
static void test_full_queue(void **state)
{
    struct listener listener;
    int fillers[64];
    size_t count = 0;
    (void)state;
    listen_unix(&listener);
    do {
        assert_true(count < 64);
        fillers[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    } while (connect(fillers[count++], (struct sockaddr *)&listener.path, sizeof(listener.path)) ==
             0);
    assert_int_equal(errno, EAGAIN);
    while (count > 0) {
        close(fillers[--count]);
    }
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct seen seen = {0};
    options.timeout_ms = 50;
    assert_error(capstore_new(&options, &seen.store), "ok");
    assert_error(capstore_async_connect(seen.store, listener.address, on_done, &seen), "ok");
    /* A socket that is not connected hangs up for poll(2): watched, it would keep the loop busy. */
    assert_true(loop_until_done(seen.store) < 100);
    assert_int_equal(seen.calls, 1);
    assert_error(seen.error, "timed_out");
    assert_non_null(strstr(seen.message, listener.address));
    capstore_free(seen.store);
    connect_and_ask(&listener);
    stop_listening(&listener);
}

static void test_refused(void **state)
{
    struct seen seen = {0};
    struct listener listener;
    (void)state;
    assert_error(capstore_new(NULL, &seen.store), "ok");
    assert_error(capstore_async_connect(seen.store, "nonsense", on_done, &seen),
                 "invalid_argument");
    assert_error(capstore_async_connect(seen.store, "unix:/x", NULL, NULL), "invalid_argument");
    assert_error(capstore_async_connect(seen.store, "unix:/nowhere/at/all", on_done, &seen),
                 "connect");
    assert_non_null(strstr(capstore_message(seen.store), "/nowhere/at/all"));
    assert_int_equal(seen.calls, 0);
    assert_int_equal(capstore_pending(seen.store), 0);
    /* A port where nobody listens: known at once, or later. */
    listen_tcp(&listener, "127.0.0.1");
    stop_listening(&listener);
    enum capstore_error error =
        capstore_async_connect(seen.store, listener.address, on_done, &seen);
    if (error == CAPSTORE_OK) {
        (void)loop_until_done(seen.store);
        error = seen.error;
        assert_int_equal(seen.calls, 1);
        assert_non_null(strstr(seen.message, "is the daemon running"));
    }
    assert_error(error, "connect");
    assert_int_equal(capstore_fd(seen.store), -1);
    capstore_free(seen.store);
}

/* The peer takes the connection and hangs up, or never says hello. */
static void test_no_hello(void **state)
{
    const struct capstore_hash hash = {{1}};
    (void)state;
    for (int hang_up = 0; hang_up < 2; hang_up++) {
        struct capstore_options options = CAPSTORE_OPTIONS_INIT;
        struct seen seen = {0};
        struct listener listener;
        options.timeout_ms = 50;
        listen_unix(&listener);
        assert_error(capstore_new(&options, &seen.store), "ok");
        assert_error(capstore_async_connect(seen.store, listener.address, on_done, &seen), "ok");
        /* Connected, as far as the kernel knows, but nothing is known of the daemon yet. */
        assert_error(capstore_process(seen.store, POLLOUT), "ok");
        assert_error(
            capstore_async_get_many(seen.store, &hash, 1, fake_got_none, on_done, &seen, NULL),
            "connection_lost");
        assert_error(capstore_async_get(seen.store, &hash, on_done, &seen, NULL),
                     "connection_lost");
        if (hang_up) {
            close(accept(listener.fd, NULL, NULL));
        }
        (void)loop_until_done(seen.store);
        assert_int_equal(seen.calls, 1);
        assert_error(seen.error, hang_up ? "connection_lost" : "timed_out");
        assert_non_null(strstr(seen.message, "client socket"));
        assert_false(capstore_connected(seen.store));
        capstore_free(seen.store);
        stop_listening(&listener);
    }
}

/* Giving up, connecting again, and freeing: each request has its callback once. */
static void test_given_up(void **state)
{
    struct seen seen = {0};
    struct listener listener;
    (void)state;
    listen_unix(&listener);
    assert_error(capstore_new(NULL, &seen.store), "ok");
    assert_error(capstore_async_connect(seen.store, listener.address, on_done, &seen), "ok");
    capstore_close(seen.store);
    assert_int_equal(seen.calls, 1);
    assert_error(seen.error, "cancelled");
    assert_int_equal(capstore_fd(seen.store), -1);
    assert_error(capstore_process(seen.store, 0), "connection_lost");
    assert_error(capstore_async_connect(seen.store, listener.address, on_done, &seen), "ok");
    assert_error(capstore_async_connect(seen.store, listener.address, on_done, &seen), "ok");
    assert_int_equal(seen.calls, 2);
    capstore_free(seen.store);
    assert_int_equal(seen.calls, 3);
    stop_listening(&listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unix),           cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_second_address), cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_no_hello),
        cmocka_unit_test(test_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
