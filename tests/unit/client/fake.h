/*
 * A scripted daemon on the other end of a socket pair, in a thread of its own.
 *
 * Scripts run outside of cmocka's thread, where its assertions must not be used: they check with
 * fake_check, and fake_join fails the test when one did not hold.
 */
#ifndef TESTS_UNIT_CLIENT_FAKE_H
#define TESTS_UNIT_CLIENT_FAKE_H

#include <pthread.h>

#include "proto/message.h"
#include "tests/unit/support.h"

#include <capstore/capstore.h>

struct fake {
    int fd;        /* the daemon's end */
    int client_fd; /* for capstore_connect_fd */
    pthread_t thread;
    void (*script)(struct fake *fake);
    const void *ctx;
    unsigned pause_ms;          /* when not 0, bytes go out one by one, so far apart */
    const char *failed;         /* the first check that did not hold */
    struct proto_frame frame;   /* of the last fake_take */
    struct cap_buf payload;     /* of the last fake_take too */
    struct proto_limits limits; /* for fake_hello, as the next */
    uint64_t features;          /* that it grants */
};

#define fake_check(fake, condition)                                                                \
    do {                                                                                           \
        if (!(condition) && (fake)->failed == NULL)                                                \
            (fake)->failed = #condition;                                                           \
    } while (0)

/* Starts a script; the limits are generous until a test changes them before. */
void fake_start(struct fake *fake, void (*script)(struct fake *fake), const void *ctx);
/* Waits for its end and fails the test if a check did not hold. */
void fake_join(struct fake *fake);

/* Reads one frame. False at the end of the stream. */
bool fake_take(struct fake *fake);
/* Reads one frame, which must be of this type. */
bool fake_expect(struct fake *fake, uint8_t type);
/* Reads BODY frames up to END; how many bytes they had. */
uint64_t fake_drain_body(struct fake *fake);

void fake_send(struct fake *fake, uint8_t type, uint32_t id, uint8_t flags, struct cap_bytes bytes);
/* Sends a message that an encoder made, and frees it. */
void fake_send_buf(struct fake *fake, uint8_t type, uint32_t id, struct cap_buf *payload);
void fake_raw(struct fake *fake, const void *data, size_t len);
/* HELLO in, HELLO_REPLY out. */
void fake_hello(struct fake *fake);
void fake_error(struct fake *fake, uint32_t id, enum cap_error error, const char *message,
                uint64_t detail_len);
/* Answers the GET that was taken last with a body in frames of `step` bytes. */
void fake_body(struct fake *fake, struct cap_bytes body, size_t step);
/* Answers the HAS of one hash that was taken last. */
void fake_reply_has(struct fake *fake);
/* Takes and answers one HAS of one hash, so that a test sees that the connection still works. */
void fake_answer_has(struct fake *fake);

/* A connected handle. */
struct capstore *fake_connect(struct fake *fake, const struct capstore_options *options);
/* Whether a HAS is answered on this connection. */
void fake_assert_usable(struct capstore *store);

/* Takes the outcome of one of many caps, where none may come: fails the test. */
enum capstore_error fake_got_none(void *ctx, size_t index, enum capstore_error error,
                                  struct capstore_cap *cap);

#endif
