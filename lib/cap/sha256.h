/*
 * The one place where SHA-256 comes from.
 *
 * Merkle hashing asks for runs of independent 64-byte node pairs, so that a kernel can do many at
 * once.
 */
#ifndef LIB_CAP_SHA256_H
#define LIB_CAP_SHA256_H

#include <stddef.h>
#include <stdint.h>

/*
 * out[i] = SHA-256(pairs[i]) for `count` pairs of 64 bytes, 32 bytes each. `out` may be the same
 * address as `pairs` (each result lands before the pairs still to come) but not overlap it
 * otherwise. Any thread.
 */
void cap_sha256_pairs(uint8_t *out, const uint8_t *pairs, size_t count);

#endif
