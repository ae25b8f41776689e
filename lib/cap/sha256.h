/*
 * The one place where SHA-256 comes from.
 *
 * Merkle hashing asks for runs of independent 64-byte node pairs, and a kernel does many at once:
 * the best one of lib/cap/sha256/ that this CPU runs, chosen at the first use. Any thread.
 */
#ifndef LIB_CAP_SHA256_H
#define LIB_CAP_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "lib/cap/error.h"

/*
 * out[i] = SHA-256(pairs[i]) for `count` pairs of 64 bytes, 32 bytes each, at any alignment. `out`
 * may be the same address as `pairs` (each result lands before the pairs still to come) but not
 * overlap it otherwise.
 */
void cap_sha256_pairs(uint8_t *out, const uint8_t *pairs, size_t count);

/* The name of the kernel in use: avx512-shani, avx512, shani, avx2, armv8 or sodium. Static. */
const char *cap_sha256_kernel_name(void);

/*
 * Uses the kernel of that name from now on, in the whole process: for tests and measurements. Every
 * kernel computes the same. CAP_E_INVALID_ARGUMENT for a name that no kernel of this architecture
 * has, CAP_E_NOT_FOUND for one that this CPU cannot run; then the kernel stays.
 */
enum cap_error cap_sha256_use_kernel(const char *name);

#endif
