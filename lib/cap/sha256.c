/*
 * SHA-256 from libsodium, whose crypto_hash_sha256 is portable code without run-time dispatch: it
 * needs no sodium_init and keeps no state.
 */
#include "lib/cap/sha256.h"

#include <sodium/crypto_hash_sha256.h>

#define NODE_SIZE 32u
#define PAIR_SIZE 64u

_Static_assert(crypto_hash_sha256_BYTES == NODE_SIZE, "a node is one SHA-256 value");

void cap_sha256_pairs(uint8_t *out, const uint8_t *pairs, size_t count)
{
    /* Each message is read whole before its value is written, so `out` may trail in `pairs`. */
    for (size_t i = 0; i < count; i++) {
        (void)crypto_hash_sha256(out + i * NODE_SIZE, pairs + i * PAIR_SIZE, PAIR_SIZE);
    }
}
