/* What every unit test includes: cmocka with what it needs before it, and checks of our own types.
 */
#ifndef TESTS_UNIT_SUPPORT_H
#define TESTS_UNIT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/cap/bytes.h"

/* Both print names, so that a failure reads by itself. */
#define assert_cap_ok(expression) assert_string_equal(cap_error_name(expression), "ok")
#define assert_cap_error(expression, wanted)                                                       \
    assert_string_equal(cap_error_name(expression), cap_error_name(wanted))

#define assert_hash_equal(a, b) assert_memory_equal((a)->bytes, (b)->bytes, CAP_HASH_SIZE)

/* Compares a hash with 64 hex digits. */
#define assert_hash_hex(hash, hex)                                                                 \
    do {                                                                                           \
        char text_[CAP_HASH_HEX_SIZE];                                                             \
        cap_hash_format(hash, text_);                                                              \
        assert_string_equal(text_, hex);                                                           \
    } while (0)

#endif
