/* Caps for tests: a small Data cap, and Images that name what a test wants. */
#ifndef TESTS_UNIT_CLIENT_BODIES_H
#define TESTS_UNIT_CLIENT_BODIES_H

#include "lib/cap/bytes.h"
#include "tests/unit/support.h"

#include <capstore/capstore.h>

/* The served body of the Data cap of one page that begins with "hello" (PROTOCOL.md section 8). */
extern const uint8_t hello_body[34];
#define HELLO_HASH "ef702648114023b1184b449027cb07fada47158889362b611db19b0b2c0c7688"

struct capstore_hash hash_of(const char *hex);

/*
 * The served body of an Image with this code, a pinned slot 0b for each hash (0b, 0c, ...), and a
 * mapping of the first one at DATA_BASE. The caller frees *ret_body.
 */
void make_image(const char *code, const struct capstore_hash *pinned, size_t count,
                struct cap_buf *ret_body, struct capstore_hash *ret_hash);

#endif
