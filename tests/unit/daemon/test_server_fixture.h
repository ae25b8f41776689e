/*
 * A whole daemon on the memory engine, in the test's own thread: its loop turns only while a client
 * call waits, its clock stands still unless a test moves it or lets it step.
 */
#ifndef TESTS_UNIT_DAEMON_TEST_SERVER_FIXTURE_H
#define TESTS_UNIT_DAEMON_TEST_SERVER_FIXTURE_H

#include "tests/unit/support.h"

#include <stdatomic.h>

#include "daemon/server.h"
#include "proto/message.h"

#define FIXTURE_STORE_MAX (UINT64_C(64) << 20)

struct fixture {
    struct server server;
    struct env env;
    atomic_uint_fast64_t now_us; /* monotonic; workers ask, too */
    uint64_t step_us;   /* by which the clock moves whenever it is asked; while no thread works */
    uint64_t disk_free; /* what the environment says */
    bool cold;          /* nothing is resident, whatever has been populated */
    enum cap_error populate_error;
    atomic_uint_fast64_t populated; /* bytes that workers read in */
    atomic_bool hold;               /* workers wait in populate while it is set */
    atomic_uint held;               /* how many do */
    char dir[64];
    char address[128];
    bool closed; /* the test has closed the server itself */
};

/* A frame that came from the daemon. */
struct reply {
    struct proto_frame frame;
    uint8_t payload[PROTO_FRAME_MAX];
};

/* Starts with the default configuration, changed by `change` if not NULL. */
void fixture_start(struct fixture *fixture, void (*change)(struct config *config));
void fixture_stop(struct fixture *fixture);

/* The session that was opened last; NULL: there is none. */
struct session *fixture_session(struct fixture *fixture);

/* cmocka's setup and teardown with the defaults. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Turns the loop once without waiting, and a moment later again. */
void fixture_turn(struct fixture *fixture);

/* Moves the clock and has the server look at it. */
void fixture_pass(struct fixture *fixture, uint64_t ms);

/* Sets what is free on the disk, and has the server look at it. */
void fixture_set_disk(struct fixture *fixture, uint64_t bytes);

/* Turns the loop until nothing is in flight but idle sessions. */
void fixture_settle(struct fixture *fixture);

/* Connects without a HELLO, or with one that was answered: without features, or with `features`. */
int client_connect(struct fixture *fixture);
int client_open(struct fixture *fixture);
int client_open_with(struct fixture *fixture, uint64_t features);

void client_write(struct fixture *fixture, int fd, const void *data, size_t len);
void client_frame(struct fixture *fixture, int fd, uint8_t type, uint32_t id, uint8_t flags,
                  struct cap_bytes payload);

/* The next frame; the test fails when the connection ends first. */
void client_receive(struct fixture *fixture, int fd, struct reply *ret_reply);

/* The test fails unless the daemon closes, with nothing more to read. */
void client_expect_end(struct fixture *fixture, int fd);

/* The next frame is an ERROR of that id. */
void client_expect_error(struct fixture *fixture, int fd, uint32_t id, enum cap_error error);

/* Requests, sent only. */
void client_has(struct fixture *fixture, int fd, uint32_t id, const struct cap_hash *hashes,
                size_t count);
void client_get(struct fixture *fixture, int fd, uint32_t id, const struct cap_hash *hash,
                uint64_t offset, uint64_t len);
void client_put_data(struct fixture *fixture, int fd, uint32_t id, uint64_t total_len);
void client_put_image(struct fixture *fixture, int fd, uint32_t id, uint8_t flags,
                      uint64_t total_len);

/* A body in frames of `piece` bytes, the last one with END. */
void client_body(struct fixture *fixture, int fd, uint32_t id, struct cap_bytes body, size_t piece);

/* Publishes raw content and returns the cap's hash. */
struct cap_hash client_publish(struct fixture *fixture, int fd, uint32_t id,
                               struct cap_bytes content);

/* Whether a HAS says that the cap is there: also a proof that the connection is usable. */
bool client_is_there(struct fixture *fixture, int fd, const struct cap_hash *hash);

#endif
