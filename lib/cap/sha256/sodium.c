/*
 * libsodium's crypto_hash_sha256: portable code without run-time dispatch, which needs no
 * sodium_init and keeps no state.
 */
#include <sodium/crypto_hash_sha256.h>

#include "lib/cap/sha256/kernel.h"

_Static_assert(crypto_hash_sha256_BYTES == CAP_SHA256_NODE_SIZE, "a node is one SHA-256 value");

void cap_sha256_run_sodium(uint8_t *out, const uint8_t *pairs, size_t count)
{
    /* Each message is read whole before its value is written. */
    for (size_t i = 0; i < count; i++) {
        (void)crypto_hash_sha256(out + i * CAP_SHA256_NODE_SIZE, pairs + i * CAP_SHA256_PAIR_SIZE,
                                 CAP_SHA256_PAIR_SIZE);
    }
}
