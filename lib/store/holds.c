/* Holds and claims by hash: lists behind a table that grows with them. */
#include "lib/store/holds.h"

#include <stdlib.h>
#include <xxhash.h>

#include "lib/cap/must.h"

#define CAPACITY_FIRST 64u

void store_holds_init(struct store_holds *holds)
{
    *holds = (struct store_holds){0};
    pthread_mutex_init(&holds->lock, NULL);
}

void store_holds_free(struct store_holds *holds)
{
    for (size_t i = 0; i < holds->capacity; i++) {
        while (!SLIST_EMPTY(&holds->buckets[i])) {
            struct store_hold *hold = SLIST_FIRST(&holds->buckets[i]);
            SLIST_REMOVE_HEAD(&holds->buckets[i], link);
            free(hold);
        }
    }
    free(holds->buckets);
    pthread_mutex_destroy(&holds->lock);
}

/* Clients choose the hashes: which meet in a list depends on an address that they do not know. */
static struct store_hold_list *list_of(const struct store_holds *holds, const struct cap_hash *hash)
{
    uint64_t seed = (uint64_t)(uintptr_t)holds;
    uint64_t key = XXH3_64bits_withSeed(hash->bytes, CAP_HASH_SIZE, seed);
    return &holds->buckets[key & (holds->capacity - 1)];
}

static struct store_hold *find(const struct store_holds *holds, const struct cap_hash *hash)
{
    struct store_hold *hold;
    if (holds->capacity == 0) {
        return NULL;
    }
    SLIST_FOREACH(hold, list_of(holds, hash), link)
    {
        if (cap_hash_equal(&hold->hash, hash)) {
            return hold;
        }
    }
    return NULL;
}

/* Makes room for one more; where there is no memory the lists get longer. */
static bool grow(struct store_holds *holds)
{
    struct store_hold_list *before = holds->buckets;
    size_t count = holds->capacity;
    if (holds->used < count) {
        return true;
    }
    size_t capacity = count == 0 ? CAPACITY_FIRST : 2 * count;
    struct store_hold_list *buckets = calloc(capacity, sizeof(*buckets));
    if (buckets == NULL) {
        return count > 0;
    }
    holds->buckets = buckets;
    holds->capacity = capacity;
    for (size_t i = 0; i < count; i++) {
        while (!SLIST_EMPTY(&before[i])) {
            struct store_hold *hold = SLIST_FIRST(&before[i]);
            SLIST_REMOVE_HEAD(&before[i], link);
            SLIST_INSERT_HEAD(list_of(holds, &hold->hash), hold, link);
        }
    }
    free(before);
    return true;
}

static struct store_hold *insert(struct store_holds *holds, const struct cap_hash *hash)
{
    struct store_hold *hold = grow(holds) ? calloc(1, sizeof(*hold)) : NULL;
    if (hold != NULL) {
        hold->hash = *hash;
        SLIST_INSERT_HEAD(list_of(holds, hash), hold, link);
        holds->used++;
    }
    return hold;
}

static void take_out(struct store_holds *holds, struct store_hold *hold)
{
    SLIST_REMOVE(list_of(holds, &hold->hash), hold, store_hold, link);
    holds->used--;
    free(hold);
}

bool store_holds_add(struct store_holds *holds, const struct cap_hash *hash)
{
    pthread_mutex_lock(&holds->lock);
    struct store_hold *hold = find(holds, hash);
    bool claimed = hold != NULL && hold->count == 0;
    if (hold == NULL) {
        hold = insert(holds, hash);
    }
    bool held = hold != NULL && !claimed;
    if (held) {
        hold->count++;
    }
    pthread_mutex_unlock(&holds->lock);
    return held;
}

void store_holds_remove(struct store_holds *holds, const struct cap_hash *hash)
{
    pthread_mutex_lock(&holds->lock);
    struct store_hold *hold = find(holds, hash);
    must(hold != NULL && hold->count > 0);
    if (--hold->count == 0) {
        take_out(holds, hold);
    }
    pthread_mutex_unlock(&holds->lock);
}

bool store_holds_has(struct store_holds *holds, const struct cap_hash *hash)
{
    pthread_mutex_lock(&holds->lock);
    const struct store_hold *hold = find(holds, hash);
    bool has = hold != NULL && hold->count > 0;
    pthread_mutex_unlock(&holds->lock);
    return has;
}

bool store_holds_claim(struct store_holds *holds, const struct cap_hash *hash)
{
    pthread_mutex_lock(&holds->lock);
    const struct store_hold *hold = find(holds, hash);
    bool held = hold != NULL && hold->count > 0;
    if (hold == NULL) {
        hold = insert(holds, hash);
    }
    pthread_mutex_unlock(&holds->lock);
    return hold != NULL && !held;
}

void store_holds_unclaim(struct store_holds *holds, const struct cap_hash *hash)
{
    pthread_mutex_lock(&holds->lock);
    struct store_hold *hold = find(holds, hash);
    if (hold != NULL && hold->count == 0) {
        take_out(holds, hold);
    }
    pthread_mutex_unlock(&holds->lock);
}
