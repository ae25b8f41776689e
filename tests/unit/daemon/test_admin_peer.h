/*
 * Peers of the admin socket, over real sockets.
 *
 * The loop and the peer share a thread: a test writes what it has to say, turns the loop a bounded
 * number of times, and reads what came.
 */
#ifndef TESTS_UNIT_DAEMON_TEST_ADMIN_PEER_H
#define TESTS_UNIT_DAEMON_TEST_ADMIN_PEER_H

#include "tests/unit/daemon/test_admin_fixture.h"

#include "daemon/admin/admin.h"

/* A peer: its end of the connection and what it has received. */
struct peer_end {
    struct fixture *fixture;
    int fd;
    bool ended;
    struct cap_buf received;
};

/* cmocka's setup and teardown: the fixture, and its admin socket. */
int peer_setup(void **state);
int peer_teardown(void **state);

/* A new peer; and its end. */
struct peer_end connect_peer(struct fixture *fixture);
void close_peer(struct peer_end *peer);

/* Takes what is there without waiting. */
void receive(struct peer_end *peer);

/* How many lines have come. */
size_t line_count(const struct peer_end *peer);

/* Turns the loop until the peer has so many lines, or its end. A hang is the test's time limit. */
void wait_lines(struct peer_end *peer, size_t count);
void wait_end(struct peer_end *peer);

/* Turns the loop until no more than so many connections are open. */
void wait_connections(struct fixture *fixture, uint64_t most);

/* Sends all of it, turning the loop when the socket is full. */
void say(struct peer_end *peer, const char *text, size_t len);
void say_text(struct peer_end *peer, const char *text);

/* Line `index` of what came, decoded. */
json_t *answer_at(const struct peer_end *peer, size_t index);

/* The id of an answer (-1: null) and its reason, "ok" for a result. */
void assert_answer(const struct peer_end *peer, size_t index, json_int_t id, const char *reason);

#endif
