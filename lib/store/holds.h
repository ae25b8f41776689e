/*
 * Which caps are held by somebody, and which are just going. Internal to lib/store.
 *
 * A cap that is held is not claimed, and one that is claimed, since the open transaction removes
 * it, is not held. Both any thread; claims are the writer's.
 */
#ifndef LIB_STORE_HOLDS_H
#define LIB_STORE_HOLDS_H

#include <pthread.h>
#include <sys/queue.h>

#include "lib/cap/bytes.h"

struct store_hold {
    struct cap_hash hash;
    uint64_t count; /* of holds; 0: it is claimed */
    SLIST_ENTRY(store_hold) link;
};

SLIST_HEAD(store_hold_list, store_hold);

struct store_holds {
    pthread_mutex_t lock; /* of all */
    struct store_hold_list *buckets;
    size_t capacity; /* a power of two, or 0 */
    size_t used;
};

/* Makes it empty, and releases it. */
void store_holds_init(struct store_holds *holds);
void store_holds_free(struct store_holds *holds);

/* Holds once more; false: it is claimed, or there is no memory. */
bool store_holds_add(struct store_holds *holds, const struct cap_hash *hash);

/* Ends one hold. */
void store_holds_remove(struct store_holds *holds, const struct cap_hash *hash);

/* Whether somebody holds it. */
bool store_holds_has(struct store_holds *holds, const struct cap_hash *hash);

/* Claims what nobody holds; false: it is held, or there is no memory. Again is fine. */
bool store_holds_claim(struct store_holds *holds, const struct cap_hash *hash);

/* Ends a claim; fine if there is none. */
void store_holds_unclaim(struct store_holds *holds, const struct cap_hash *hash);

#endif
