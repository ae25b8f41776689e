#include "tests/unit/daemon/test_admin_peer.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char socket_path[sizeof((struct sockaddr_un *)NULL)->sun_path];

static int listen_here(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(socket_path, sizeof(socket_path), "/tmp/capstore-test-admin-%ld", (long)getpid());
    memcpy(address.sun_path, socket_path, sizeof(socket_path));
    unlink(socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

int peer_setup(void **state)
{
    fixture_setup(state);
    struct fixture *fixture = *state;
    fixture->context.config.idle_ms = 0;
    fixture->context.config.progress_ms = 0;
    const struct admin_group nobody = {.exists = false};
    assert_cap_ok(admin_start(&fixture->rooms, listen_here(), &nobody, &fixture->admin));
    return 0;
}

int peer_teardown(void **state)
{
    struct fixture *fixture = *state;
    admin_stop(fixture->admin);
    admin_stop(fixture->admin);
    fixture_run_out(fixture);
    admin_free(fixture->admin);
    unlink(socket_path);
    return fixture_teardown(state);
}

struct peer_end connect_peer(struct fixture *fixture)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, socket_path, sizeof(socket_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return (struct peer_end){.fixture = fixture, .fd = fd};
}

void close_peer(struct peer_end *peer)
{
    close(peer->fd);
    cap_buf_free(&peer->received);
}

void receive(struct peer_end *peer)
{
    char piece[65536];
    ssize_t len;
    while ((len = recv(peer->fd, piece, sizeof(piece), 0)) > 0) {
        assert_cap_ok(cap_buf_append(&peer->received, piece, (size_t)len));
    }
    if (len == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
        peer->ended = true;
    }
}

size_t line_count(const struct peer_end *peer)
{
    size_t count = 0;
    for (size_t i = 0; i < peer->received.len; i++) {
        count += peer->received.data[i] == '\n';
    }
    return count;
}

void wait_lines(struct peer_end *peer, size_t count)
{
    receive(peer);
    while (line_count(peer) < count && !peer->ended) {
        uv_run(&peer->fixture->shard.loop, UV_RUN_NOWAIT);
        receive(peer);
    }
    assert_true(line_count(peer) >= count);
}

void wait_end(struct peer_end *peer)
{
    while (!peer->ended) {
        uv_run(&peer->fixture->shard.loop, UV_RUN_NOWAIT);
        receive(peer);
    }
}

void wait_connections(struct fixture *fixture, uint64_t most)
{
    struct admin_figures figures;
    do {
        uv_run(&fixture->shard.loop, UV_RUN_NOWAIT);
        admin_figures(fixture->admin, &figures);
    } while (figures.connections > most);
}

void say(struct peer_end *peer, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(peer->fd, text, len, MSG_NOSIGNAL);
        if (sent > 0) {
            text += sent;
            len -= (size_t)sent;
            continue;
        }
        assert_true(errno == EAGAIN);
        uv_run(&peer->fixture->shard.loop, UV_RUN_NOWAIT);
        receive(peer);
    }
}

void say_text(struct peer_end *peer, const char *text)
{
    say(peer, text, strlen(text));
}

json_t *answer_at(const struct peer_end *peer, size_t index)
{
    const char *at = (const char *)peer->received.data;
    const char *end = at + peer->received.len;
    for (; index > 0; index--) {
        at = (const char *)memchr(at, '\n', (size_t)(end - at)) + 1;
    }
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    json_t *answer = json_loadb(at, (size_t)(stop - at), JSON_REJECT_DUPLICATES, NULL);
    assert_string_equal(json_string_value(json_object_get(answer, "jsonrpc")), "2.0");
    return answer;
}

void assert_answer(const struct peer_end *peer, size_t index, json_int_t id, const char *reason)
{
    json_t *answer = answer_at(peer, index);
    json_t *error = json_object_get(answer, "error");
    json_t *data = json_object_get(error, "data");
    const char *got = error != NULL ? json_string_value(json_object_get(data, "reason")) : "ok";
    assert_string_equal(got, reason);
    assert_int_equal(json_object_get(answer, "result") != NULL, error == NULL);
    json_t *answered = json_object_get(answer, "id");
    if (id < 0) {
        assert_true(json_is_null(answered));
    } else {
        assert_int_equal(json_integer_value(answered), id);
    }
    json_decref(answer);
}
