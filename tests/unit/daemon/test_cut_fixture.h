/* Uploads that are cut off, and go on. */
#ifndef TESTS_UNIT_DAEMON_TEST_CUT_FIXTURE_H
#define TESTS_UNIT_DAEMON_TEST_CUT_FIXTURE_H

#include "tests/unit/daemon/test_upload_fixture.h"

#define CUT_FEATURES (PROTO_FEATURE_KEEP | PROTO_FEATURE_PUT_CAP | PROTO_FEATURE_RESUME)
#define CUT_ID       5u /* of these uploads */

struct upload_kind {
    uint8_t type;
    uint8_t flags;
    struct cap_hash hash; /* PUT_CAP of Data */
};

/* A connection with CUT_FEATURES. */
int open_resuming(struct fixture *fixture);

/* Sends the message of an upload. */
void send_upload(struct fixture *fixture, int fd, const struct upload_kind *kind,
                 uint64_t total_len, const uint8_t *name, uint64_t offset);

/* Sends the first `sent` bytes of an upload, whose connection stays open. */
void begin_upload(struct fixture *fixture, int fd, const struct upload_kind *kind,
                  struct cap_bytes body, const uint8_t *name, size_t sent);

/* The same, and the connection is lost. */
void cut_off(struct fixture *fixture, const struct upload_kind *kind, struct cap_bytes body,
             const uint8_t *name, size_t sent);

/* Asks where it goes on. */
uint64_t kept(struct fixture *fixture, int fd, const uint8_t *name, uint64_t total_len);

/* Goes on from `offset`; returns the hash that the daemon says. */
struct cap_hash go_on(struct fixture *fixture, int fd, const struct upload_kind *kind,
                      struct cap_bytes body, const uint8_t *name, uint64_t offset);

/* Nothing is kept, on the disk or in memory. */
void expect_nothing(struct fixture *fixture);

/* How many uploads are kept, and how many bytes of them. */
void expect_figures(struct fixture *fixture, uint64_t count, uint64_t bytes);

/* The same, once no upload is under way. */
void expect_kept(struct fixture *fixture, uint64_t count, uint64_t bytes);

/* Drops what is kept. */
void clear(struct fixture *fixture);

bool hash_is(struct cap_hash one, struct cap_hash other);

#endif
