/*
 * The caps that fill_store writes and that the load generator asks for: cap `index` has the hash
 * whose four 64-bit words are splitmix64 of 4 index, 4 index + 1, ... and a body that begins with
 * the hash and goes on with its bytes.
 */
#ifndef TESTS_SUPPORT_FILLED_H
#define TESTS_SUPPORT_FILLED_H

#include "lib/cap/bytes.h"

static inline uint64_t splitmix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The hash of cap `index`. */
static inline struct cap_hash filled_hash(uint64_t index)
{
    struct cap_hash hash;
    for (size_t i = 0; i < 4; i++) {
        uint64_t word = splitmix64(4 * index + i);
        memcpy(hash.bytes + 8 * i, &word, 8);
    }
    return hash;
}

/* Writes the body of cap `index`, `len` bytes. */
static inline void filled_body(uint64_t index, uint8_t *out, size_t len)
{
    struct cap_hash hash = filled_hash(index);
    size_t written = len < CAP_HASH_SIZE ? len : CAP_HASH_SIZE;
    memcpy(out, hash.bytes, written);
    while (written < len) {
        size_t more = len - written < written ? len - written : written;
        memcpy(out + written, out, more);
        written += more;
    }
}

#endif
