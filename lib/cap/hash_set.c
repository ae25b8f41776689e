/*
 * Linear probing at a load of at most one half.
 *
 * An attacker may choose the hashes, every bit of them, so that all go to one slot: a cap can name
 * any 32 bytes. So the slot comes from a keyed multilinear hash of all eight words (the sum of word
 * times key), under which two inputs collide for very few keys. It is mixed once more, since equal
 * steps in the input are equal steps in a sum, and linear probing would make long runs of them.
 */
#include "lib/cap/hash_set.h"

#include <stdlib.h>

#include "lib/cap/must.h"

#define FIRST_CAPACITY 64u /* 256 bytes: most caps have fewer pages */

/* The finalizer of splitmix64: every bit of the result depends on every bit of `x`. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The slot of this hash, or the free one where it belongs; there is always a free one. */
static size_t probe(const struct cap_hash_set *set, const struct cap_hash *hashes,
                    const struct cap_hash *hash)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < CAP_HASH_SET_WORDS; i++) {
        sum += set->keys[i] * cap_load32(hash->bytes + 4 * i);
    }
    size_t at = (size_t)mix(sum) & (set->capacity - 1);
    while (set->slots[at] != 0 && !cap_hash_equal(&hashes[set->slots[at] - 1], hash)) {
        at = (at + 1) & (set->capacity - 1);
    }
    return at;
}

size_t cap_hash_set_find(const struct cap_hash_set *set, const struct cap_hash *hashes,
                         const struct cap_hash *hash)
{
    if (set->capacity == 0) {
        return CAP_HASH_ABSENT;
    }
    uint32_t slot = set->slots[probe(set, hashes, hash)];
    return slot != 0 ? slot - 1 : CAP_HASH_ABSENT;
}

static enum cap_error grow(struct cap_hash_set *set, const struct cap_hash *hashes)
{
    size_t capacity = set->capacity > 0 ? 2 * set->capacity : FIRST_CAPACITY;
    struct cap_hash_set larger = {calloc(capacity, sizeof(uint32_t)), capacity, set->used, {0}};
    if (larger.slots == NULL) {
        return CAP_E_NO_MEMORY;
    }
    uint64_t seed = (uint64_t)(uintptr_t)larger.slots;
    for (size_t i = 0; i < CAP_HASH_SET_WORDS; i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
        larger.keys[i] = mix(seed);
    }
    for (size_t i = 0; i < set->capacity; i++) {
        uint32_t slot = set->slots[i];
        if (slot != 0) {
            larger.slots[probe(&larger, hashes, &hashes[slot - 1])] = slot;
        }
    }
    free(set->slots);
    *set = larger;
    return CAP_OK;
}

enum cap_error cap_hash_set_insert(struct cap_hash_set *set, const struct cap_hash *hashes,
                                   size_t ordinal)
{
    if (ordinal >= UINT32_MAX) {
        return CAP_E_NO_MEMORY;
    }
    if (2 * (set->used + 1) > set->capacity) {
        enum cap_error error = grow(set, hashes);
        if (error != CAP_OK) {
            return error;
        }
    }
    size_t at = probe(set, hashes, &hashes[ordinal]);
    must(set->slots[at] == 0);
    set->slots[at] = (uint32_t)(ordinal + 1);
    set->used++;
    return CAP_OK;
}

void cap_hash_set_free(struct cap_hash_set *set)
{
    if (set == NULL) {
        return;
    }
    free(set->slots);
    *set = (struct cap_hash_set){0};
}
