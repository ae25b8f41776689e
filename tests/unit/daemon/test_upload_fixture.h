/* What tests upload. */
#ifndef TESTS_UNIT_DAEMON_TEST_UPLOAD_FIXTURE_H
#define TESTS_UNIT_DAEMON_TEST_UPLOAD_FIXTURE_H

#include "tests/unit/daemon/test_server_fixture.h"

extern const struct cap_hash absent;

/* The bytes of a text without its NUL. */
struct cap_bytes key(const char *text);

/* `len` bytes without a zero, to be freed. */
uint8_t *make_content(size_t len);

/*
 * A wire Image with `code_len` bytes of code, two equal Data slots and one other, and, if not NULL,
 * a pinned Image.
 */
struct cap_buf make_image(size_t code_len, const struct cap_hash *pinned);

/* The code of make_long_head; what comes before it is its head. */
#define LONG_HEAD_CODE 300000u

/* A wire Image whose head is longer than is judged on the loop: 5,000 endpoints, no slots. */
struct cap_buf make_long_head(void);

/* Breaks that Image in its last endpoint. */
void break_long_head(struct cap_buf *wire);

/* Uploads an Image with id 7 and returns the first frame of the answer, valid until the next call.
 */
const struct reply *upload_image(struct fixture *fixture, int fd, uint8_t flags,
                                 const struct cap_buf *wire);

#endif
