/*
 * A handle over HTTP: its thread, its loop and its end. The servers are of this file's own, on real
 * sockets; tests/system/test_http_client.py has what a real daemon and real caches answer.
 */
#include <capstore/async.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/message.h"
#include "tests/unit/client/bodies.h"
#include "tests/unit/support.h"

#define CONNECTIONS_MAX 256

/* ---- a server ---- */

struct web;

struct connection {
    struct web *web;
    int fd;
    pthread_t thread;
};

struct web {
    /* Answers the request for a path; then the connection is closed. */
    void (*answer)(struct web *web, int fd, const char *path);
    int listener;
    char url[64];
    pthread_t thread;
    pthread_mutex_t lock;
    struct connection connections[CONNECTIONS_MAX];
    size_t count;
    atomic_int open;
    atomic_int most_open;
    atomic_ullong sent; /* bytes of bodies */
    atomic_int held;    /* requests that are not answered */
    atomic_bool wrong;  /* a request was not as it has to be */
};

static void send_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return;
        }
        at += n;
        len -= (size_t)n;
    }
}

static void send_head(int fd, unsigned long long len)
{
    char head[128];
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %llu\r\n\r\n", len);
    send_all(fd, head, (size_t)n);
}

static void answer_hello(int fd)
{
    send_head(fd, sizeof(hello_body));
    send_all(fd, hello_body, sizeof(hello_body));
}

/* Waits until the client, or the end of the test, closes the connection. */
static void hold(struct web *web, int fd)
{
    char rest[64];
    web->held++;
    while (recv(fd, rest, sizeof(rest), 0) > 0) {
    }
    web->held--;
}

static void *serve(void *ctx)
{
    struct connection *connection = ctx;
    struct web *web = connection->web;
    char request[4096];
    char path[1024] = "";
    size_t len = 0;
    int open = ++web->open;
    int most = web->most_open;
    while (open > most && !atomic_compare_exchange_weak(&web->most_open, &most, open)) {
    }
    memset(request, 0, sizeof(request));
    while (strstr(request, "\r\n\r\n") == NULL && len + 1 < sizeof(request)) {
        ssize_t n = recv(connection->fd, request + len, sizeof(request) - 1 - len, 0);
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
    }
    if (sscanf(request, "%*s %1023s", path) == 1) {
        if (strstr(request, "\r\nUser-Agent: a test\r\n") == NULL ||
            strstr(request, "Accept-Encoding") != NULL || strstr(request, "Cookie") != NULL) {
            web->wrong = true;
        }
        if (strcmp(path, "/deep/healthz") == 0 && web->answer == NULL) {
            hold(web, connection->fd);
        } else if (strcmp(path, "/deep/healthz") == 0) {
            send_head(connection->fd, 0);
        } else {
            web->answer(web, connection->fd, path);
        }
    }
    web->open--;
    shutdown(connection->fd, SHUT_RDWR);
    return NULL;
}

static void *accept_all(void *ctx)
{
    struct web *web = ctx;
    int fd;
    while ((fd = accept(web->listener, NULL, NULL)) >= 0) {
        pthread_mutex_lock(&web->lock);
        struct connection *connection = &web->connections[web->count];
        if (web->count == CONNECTIONS_MAX) {
            abort();
        }
        *connection = (struct connection){.web = web, .fd = fd};
        if (pthread_create(&connection->thread, NULL, serve, connection) != 0) {
            abort();
        }
        web->count++;
        pthread_mutex_unlock(&web->lock);
    }
    return NULL;
}

static void web_start(struct web *web, void (*answer)(struct web *web, int fd, const char *path))
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    memset(web, 0, sizeof(*web));
    web->answer = answer;
    pthread_mutex_init(&web->lock, NULL);
    web->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(web->listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(web->listener, 64), 0);
    assert_int_equal(getsockname(web->listener, (struct sockaddr *)&at, &len), 0);
    snprintf(web->url, sizeof(web->url), "http://127.0.0.1:%u/deep/", (unsigned)ntohs(at.sin_port));
    assert_int_equal(pthread_create(&web->thread, NULL, accept_all, web), 0);
}

static void web_stop(struct web *web)
{
    shutdown(web->listener, SHUT_RDWR);
    pthread_join(web->thread, NULL);
    close(web->listener);
    for (size_t i = 0; i < web->count; i++) {
        shutdown(web->connections[i].fd, SHUT_RDWR);
        pthread_join(web->connections[i].thread, NULL);
        close(web->connections[i].fd);
    }
    pthread_mutex_destroy(&web->lock);
    assert_false(web->wrong);
}

static void pause_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

/* ---- a client ---- */

static struct capstore *make_handle(void)
{
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore *store;
    options.agent = "a test";
    assert_int_equal(capstore_new(&options, &store), CAPSTORE_OK);
    return store;
}

static struct capstore *connect_to(const struct web *web)
{
    struct capstore *store = make_handle();
    assert_string_equal(capstore_error_name(capstore_connect(store, web->url)), "ok");
    return store;
}

static void turn(struct capstore *store)
{
    struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
    (void)poll(&entry, 1, capstore_timeout_ms(store));
    (void)capstore_process(store, entry.revents);
}

/* Until so many requests have reached the server, of which the handle hears nothing. */
static void await_held(struct capstore *store, const struct web *web, int count)
{
    while (web->held < count) {
        (void)capstore_process(store, 0);
        pause_ms(1);
    }
}

/* Counts outcomes, and notes the last. */
struct outcomes {
    int count;
    int good;
    enum capstore_error error;
    uint64_t bytes; /* of a part */
};

static void note(void *ctx, const struct capstore_answer *answer)
{
    struct outcomes *outcomes = ctx;
    outcomes->count++;
    outcomes->good += answer->error == CAPSTORE_OK;
    outcomes->error = answer->error;
    capstore_cap_free(answer->cap);
}

static struct capstore_hash other_hash(void)
{
    struct capstore_hash hash = {{0x11}};
    return hash;
}

static void assert_usable(struct capstore *store)
{
    struct capstore_hash hash = hash_of(HELLO_HASH);
    struct capstore_cap *cap;
    assert_string_equal(capstore_error_name(capstore_get(store, &hash, &cap)), "ok");
    capstore_cap_free(cap);
}

/* The hello cap, below the prefix; what is asked by another name is held. */
static void answer_or_hold(struct web *web, int fd, const char *path)
{
    if (strcmp(path, "/deep/caps/" HELLO_HASH) == 0) {
        answer_hello(fd);
    } else {
        hold(web, fd);
    }
}

/* ---- tests ---- */

static void test_many_in_flight(void **state)
{
    struct web web;
    struct outcomes connecting = {0};
    struct outcomes outcomes = {0};
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    web_start(&web, answer_or_hold);
    struct capstore *store = make_handle();
    assert_int_equal(capstore_async_connect(store, web.url, note, &connecting), CAPSTORE_OK);
    assert_false(capstore_connected(store));
    while (connecting.count == 0) {
        turn(store);
    }
    assert_int_equal(connecting.error, CAPSTORE_OK);
    assert_true(capstore_connected(store));
    for (int i = 0; i < 100; i++) {
        assert_int_equal(capstore_async_get(store, &hash, note, &outcomes, NULL), CAPSTORE_OK);
    }
    while (outcomes.count < 100) {
        turn(store);
    }
    assert_int_equal(outcomes.good, 100);
    capstore_free(store);
    assert_in_range(web.most_open, 1, 9); /* one may be ending while the next begins */
    web_stop(&web);
}

static void test_nobody_is_there(void **state)
{
    struct outcomes outcomes = {0};
    (void)state;
    struct capstore *store = make_handle();
    assert_int_equal(capstore_async_connect(store, "http://127.0.0.1:1", note, &outcomes),
                     CAPSTORE_OK);
    while (outcomes.count == 0) {
        turn(store);
    }
    assert_string_equal(capstore_error_name(outcomes.error), "connect");
    assert_false(capstore_connected(store));
    assert_string_equal(capstore_error_name(capstore_connect(store, "http://127.0.0.1:1")),
                        "connect");
    assert_non_null(strstr(capstore_message(store), "http://127.0.0.1:1/healthz"));
    assert_string_equal(capstore_error_name(capstore_connect(store, "http://")),
                        "invalid_argument");
    capstore_free(store);
}

static void test_cancel(void **state)
{
    struct web web;
    struct outcomes held = {0};
    struct outcomes good = {0};
    struct capstore_hash hash = hash_of(HELLO_HASH);
    struct capstore_hash other = other_hash();
    struct capstore_request *request;
    (void)state;
    web_start(&web, answer_or_hold);
    struct capstore *store = connect_to(&web);
    for (int i = 0; i < 20; i++) { /* more than there are connections: they must become free */
        held = (struct outcomes){0};
        assert_int_equal(capstore_async_get(store, &other, note, &held, &request), CAPSTORE_OK);
        await_held(store, &web, 1);
        capstore_cancel(request);
        while (held.count == 0) {
            turn(store);
        }
        assert_string_equal(capstore_error_name(held.error), "cancelled");
        while (web.held != 0) {
            assert_usable(store);
        }
    }
    assert_int_equal(capstore_async_get(store, &hash, note, &good, NULL), CAPSTORE_OK);
    while (good.count == 0) {
        turn(store);
    }
    assert_int_equal(good.good, 1);
    capstore_free(store);
    web_stop(&web);
}

/* Whatever the handle waits for, closing it waits for nothing. */
static void test_close(void **state)
{
    struct web web;
    struct outcomes outcomes = {0};
    struct capstore_hash other = other_hash();
    (void)state;
    web_start(&web, answer_or_hold);
    struct capstore *store = connect_to(&web);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(capstore_async_get(store, &other, note, &outcomes, NULL), CAPSTORE_OK);
    }
    await_held(store, &web, 8);
    capstore_close(store);
    assert_int_equal(outcomes.count, 40);
    assert_string_equal(capstore_error_name(outcomes.error), "cancelled");
    assert_int_equal(capstore_connect(store, web.url), CAPSTORE_OK); /* and again */
    assert_usable(store);
    capstore_free(store);
    web_stop(&web);

    web_start(&web, NULL); /* it does not even answer the hello */
    store = make_handle();
    outcomes = (struct outcomes){0};
    assert_int_equal(capstore_async_connect(store, web.url, note, &outcomes), CAPSTORE_OK);
    await_held(store, &web, 1);
    capstore_free(store);
    assert_string_equal(capstore_error_name(outcomes.error), "cancelled");
    web_stop(&web);
}

struct cutter {
    struct web *web;
    int fd;
};

static void *cut(void *ctx)
{
    const struct cutter *cutter = ctx;
    while (cutter->web->held == 0) {
        pause_ms(1);
    }
    shutdown(cutter->fd, SHUT_RDWR);
    return NULL;
}

/* shutdown(2) of capstore_fd by another thread cuts a call short. */
static void test_shutdown(void **state)
{
    struct web web;
    struct capstore_hash other = other_hash();
    struct capstore_cap *cap;
    pthread_t thread;
    (void)state;
    web_start(&web, answer_or_hold);
    struct capstore *store = connect_to(&web);
    struct cutter cutter = {&web, capstore_fd(store)};
    assert_int_equal(pthread_create(&thread, NULL, cut, &cutter), 0);
    assert_string_equal(capstore_error_name(capstore_get(store, &other, &cap)), "connection_lost");
    assert_false(capstore_connected(store));
    pthread_join(thread, NULL);
    capstore_free(store);
    web_stop(&web);
}

#define LONG_BODY (UINT64_C(128) << 20)

static void answer_long(struct web *web, int fd, const char *path)
{
    static const char zeros[1 << 16];
    (void)path;
    send_head(fd, LONG_BODY);
    for (uint64_t i = 0; i < LONG_BODY / sizeof(zeros); i++) {
        send_all(fd, zeros, sizeof(zeros));
        web->sent += sizeof(zeros);
    }
}

static enum capstore_error count_bytes(void *ctx, struct capstore_bytes bytes)
{
    ((struct outcomes *)ctx)->bytes += bytes.len;
    return CAPSTORE_OK;
}

/* A loop that does not come to read holds the sender up, and nothing grows meanwhile. */
static void test_slow_reader(void **state)
{
    struct web web;
    struct outcomes outcomes = {0};
    struct capstore_hash other = other_hash();
    (void)state;
    web_start(&web, answer_long);
    struct capstore *store = connect_to(&web);
    assert_int_equal(
        capstore_async_get_range(store, &other, 0, UINT64_MAX, count_bytes, note, &outcomes, NULL),
        CAPSTORE_OK);
    while (web.sent == 0) {
        (void)capstore_process(store, 0); /* it writes, and reads nothing */
        pause_ms(1);
    }
    /* It stands still when nothing more was sent for half a second. */
    for (unsigned long long before = 0; before != web.sent;) {
        before = web.sent;
        pause_ms(500);
    }
    assert_in_range(web.sent, 1, LONG_BODY / 2);
    while (outcomes.count == 0) {
        turn(store);
    }
    assert_string_equal(capstore_error_name(outcomes.error), "ok");
    assert_int_equal(outcomes.bytes, LONG_BODY);
    capstore_free(store);
    web_stop(&web);
}

/* A child has no thread: it can let go of the handle, and the parent's goes on. */
static void test_fork(void **state)
{
    struct web web;
    int status;
    (void)state;
    web_start(&web, answer_or_hold);
    struct capstore *store = connect_to(&web);
    pid_t child = fork();
    if (child == 0) {
        capstore_free(store);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_usable(store);
    capstore_free(store);
    web_stop(&web);
}

/* ---- closures ---- */

static struct cap_buf program; /* an Image that pins the hello cap, and its name */
static struct capstore_hash program_hash;

static void send_entry(int fd, const struct capstore_hash *hash, uint8_t kind,
                       struct cap_bytes body)
{
    uint8_t head[PROTO_ENTRY_SIZE];
    struct proto_entry entry = {.kind = kind, .body_len = body.len};
    memcpy(entry.hash.bytes, hash->bytes, sizeof(entry.hash.bytes));
    proto_entry_encode(&entry, head);
    send_all(fd, head, sizeof(head));
    send_all(fd, body.data, body.len);
}

/* The closures of the program and of the hello cap, if what came before is named as at hand. */
static void answer_closure(struct web *web, int fd, const char *path)
{
    static const char absent[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"
                                 "Connection: close\r\n\r\n";
    const struct capstore_hash hello = hash_of(HELLO_HASH);
    const struct cap_bytes body = {hello_body, sizeof(hello_body)};
    char hex[CAPSTORE_HASH_HEX_SIZE];
    char wanted[3][512];
    capstore_hash_format(&program_hash, hex);
    snprintf(wanted[0], sizeof(wanted[0]), "/deep/closures/%s?have=", hex);
    snprintf(wanted[1], sizeof(wanted[1]), "/deep/closures/%s?have=%s", HELLO_HASH, hex);
    snprintf(wanted[2], sizeof(wanted[2]), "?have=%s,%s", hex, HELLO_HASH);
    if (strcmp(path, wanted[0]) == 0) {
        send_head(fd, 2 * PROTO_ENTRY_SIZE + sizeof(hello_body) + program.len);
        send_entry(fd, &hello, CAPSTORE_KIND_DATA, body);
        send_entry(fd, &program_hash, CAPSTORE_KIND_IMAGE, cap_buf_bytes(&program));
    } else if (strcmp(path, wanted[1]) == 0) {
        send_head(fd, PROTO_ENTRY_SIZE + sizeof(hello_body));
        send_entry(fd, &hello, CAPSTORE_KIND_DATA, body);
    } else {
        const char *query = strchr(path, '?');
        if (query == NULL || strcmp(query, wanted[2]) != 0) {
            web->wrong = true;
        }
        send_all(fd, absent, sizeof(absent) - 1);
    }
}

static enum capstore_error take_entry(void *ctx, const struct capstore_closure_entry *entry,
                                      struct capstore_cap *cap)
{
    char *kinds = ctx;
    kinds[strlen(kinds)] = (char)('0' + (int)entry->kind);
    capstore_cap_free(cap);
    return CAPSTORE_OK;
}

/* Several roots are one answer, in which each cap comes once, and what is not there is said. */
static void test_closure_of_several_roots(void **state)
{
    struct web web;
    const struct capstore_hash hello = hash_of(HELLO_HASH);
    char kinds[8] = "";
    (void)state;
    make_image("code", &hello, 1, &program, &program_hash);
    const struct capstore_hash roots[] = {program_hash, hello, other_hash()};
    const struct capstore_closure_query query = {
        .roots = roots,
        .root_count = 3,
        .flags = CAPSTORE_CLOSURE_BODIES | CAPSTORE_CLOSURE_ABSENT,
    };
    web_start(&web, answer_closure);
    struct capstore *store = connect_to(&web);
    assert_string_equal(
        capstore_error_name(capstore_closure_many(store, &query, take_entry, kinds)), "ok");
    assert_string_equal(kinds, "210");
    capstore_free(store);
    web_stop(&web);
    cap_buf_free(&program);
}

struct user {
    const struct web *web;
    pthread_t thread;
    int good;
};

static void *use(void *ctx)
{
    struct user *user = ctx;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore *store;
    options.agent = "a test";
    for (int i = 0; i < 5; i++) {
        struct capstore_cap *cap = NULL;
        if (capstore_new(&options, &store) == CAPSTORE_OK &&
            capstore_connect(store, user->web->url) == CAPSTORE_OK &&
            capstore_get(store, &hash, &cap) == CAPSTORE_OK) {
            user->good++;
        }
        capstore_cap_free(cap);
        capstore_free(store);
    }
    return NULL;
}

/* Handles of several threads share nothing. */
static void test_threads(void **state)
{
    struct web web;
    struct user users[4];
    (void)state;
    web_start(&web, answer_or_hold);
    for (size_t i = 0; i < 4; i++) {
        users[i] = (struct user){.web = &web};
        assert_int_equal(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(users[i].thread, NULL);
        assert_int_equal(users[i].good, 5);
    }
    web_stop(&web);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_many_in_flight),
        cmocka_unit_test(test_nobody_is_there),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_closure_of_several_roots),
    };
    /* A proxy of the environment would be asked instead. */
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
