/* A keyed hash of cap hashes, for tables in which nobody can choose caps that meet. Pure. */
#ifndef DAEMON_CORE_KEYED_H
#define DAEMON_CORE_KEYED_H

#include <stdint.h>
#include <string.h>

#include "lib/cap/bytes.h"

#define KEYED_WORDS 8u /* of a key, random and 32 bits each */

/* NH: the sum of products of keyed words, which is universal. */
static inline uint32_t keyed_hash(const uint32_t keys[KEYED_WORDS], const struct cap_hash *hash)
{
    uint32_t words[KEYED_WORDS];
    uint64_t sum = 0;
    memcpy(words, hash->bytes, sizeof(words));
    for (size_t i = 0; i < KEYED_WORDS; i += 2) {
        sum += (uint64_t)(uint32_t)(words[i] + keys[i]) * (uint32_t)(words[i + 1] + keys[i + 1]);
    }
    return (uint32_t)(sum >> 32 ^ sum);
}

#endif
