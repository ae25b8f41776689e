/* The served bodies that a wire Image makes: what a daemon would have after it was published. */
#ifndef TESTS_CONFORMANCE_MADE_H
#define TESTS_CONFORMANCE_MADE_H

#include "lib/cap/bytes.h"

/*
 * Calls `take` with the body of each Data cap and then of the Image, both borrowed for the call. An
 * Image that a slot names counts as published. Fails as cap_deblob and the conversions do.
 */
enum cap_error
made_caps(struct cap_bytes upload,
          void (*take)(void *ctx, struct cap_bytes body, const struct cap_hash *hash), void *ctx);

#endif
