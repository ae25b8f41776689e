/*
 * A set of 32-byte hashes, each with its ordinal, by open addressing.
 *
 * The hashes themselves stay with the user, in an array that is passed to every call and may move
 * between calls; the set holds only ordinals into it, 8 to 16 bytes per hash, and grows as they are
 * inserted. A call takes O(1) expected time even when an attacker chose the hashes: the slot of a
 * hash depends on keys derived from the table's own address. These decide where entries lie, never
 * what a search finds. Pure; a set belongs to one thread at a time.
 */
#ifndef LIB_CAP_HASH_SET_H
#define LIB_CAP_HASH_SET_H

#include "lib/cap/bytes.h"

#define CAP_HASH_ABSENT    SIZE_MAX
#define CAP_HASH_SET_WORDS (CAP_HASH_SIZE / 4)

/* Zero-initialised it is empty; release with cap_hash_set_free. */
struct cap_hash_set {
    uint32_t *slots; /* ordinal + 1, or 0 for a free slot */
    size_t capacity; /* a power of two, or 0 */
    size_t used;
    uint64_t keys[CAP_HASH_SET_WORDS];
};

/* The ordinal that was inserted for this hash, or CAP_HASH_ABSENT. */
size_t cap_hash_set_find(const struct cap_hash_set *set, const struct cap_hash *hashes,
                         const struct cap_hash *hash);

/*
 * Inserts `ordinal` for hashes[ordinal], which must be absent. CAP_E_NO_MEMORY, also for an ordinal
 * that does not fit 32 bits; then the set is as before.
 */
enum cap_error cap_hash_set_insert(struct cap_hash_set *set, const struct cap_hash *hashes,
                                   size_t ordinal);

/* Releases the slots and leaves an empty set. NULL is fine. */
void cap_hash_set_free(struct cap_hash_set *set);

#endif
