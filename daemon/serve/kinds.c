/* Sets of a few entries, whose first cache line says which of them to compare. */
#include "daemon/serve/kinds.h"

#include <stdlib.h>

#define SET_SIZE 8u

struct kinds_set {
    uint16_t tags[SET_SIZE]; /* of the hashes: most others differ here already */
    uint8_t kinds[SET_SIZE]; /* 0: a free entry */
    uint8_t next;            /* entry that is written next: the oldest, once the set is full */
    struct cap_hash hashes[SET_SIZE];
};

enum cap_error kinds_open(struct kinds *kinds, const struct env *env, uint64_t bytes)
{
    uint64_t count = bytes / sizeof(struct kinds_set);
    *kinds = (struct kinds){.count = count < UINT32_MAX ? (size_t)count : UINT32_MAX};
    if (kinds->count == 0) {
        return CAP_OK;
    }
    kinds->sets = calloc(kinds->count, sizeof(*kinds->sets));
    if (kinds->sets == NULL) {
        kinds->count = 0;
        return CAP_E_NO_MEMORY;
    }
    return env->random(env->ctx, kinds->keys, sizeof(kinds->keys));
}

void kinds_close(struct kinds *kinds)
{
    free(kinds->sets);
    *kinds = (struct kinds){0};
}

/* The set of a hash in a table that has sets. */
static struct kinds_set *set_of(const struct kinds *kinds, const struct cap_hash *hash)
{
    /* The top bits of a product choose evenly, whatever the number of sets. */
    return &kinds->sets[(uint64_t)keyed_hash(kinds->keys, hash) * kinds->count >> 32];
}

static uint16_t tag_of(const struct cap_hash *hash)
{
    uint16_t tag;
    memcpy(&tag, hash->bytes, sizeof(tag));
    return tag;
}

void kinds_expect(const struct kinds *kinds, const struct cap_hash *hash)
{
    if (kinds->count > 0) {
        __builtin_prefetch(set_of(kinds, hash));
    }
}

/* Where a hash is in its set; SET_SIZE: nowhere. */
static size_t find_in(const struct kinds_set *set, const struct cap_hash *hash)
{
    uint16_t tag = tag_of(hash);
    for (size_t i = 0; i < SET_SIZE; i++) {
        if (set->tags[i] == tag && set->kinds[i] != 0 && cap_hash_equal(&set->hashes[i], hash)) {
            return i;
        }
    }
    return SET_SIZE;
}

uint8_t kinds_find(const struct kinds *kinds, const struct cap_hash *hash)
{
    if (kinds->count == 0) {
        return 0;
    }
    const struct kinds_set *set = set_of(kinds, hash);
    size_t at = find_in(set, hash);
    return at < SET_SIZE ? set->kinds[at] : 0;
}

void kinds_drop(struct kinds *kinds, const struct cap_hash *hash)
{
    if (kinds->count > 0) {
        struct kinds_set *set = set_of(kinds, hash);
        size_t at = find_in(set, hash);
        if (at < SET_SIZE) {
            set->kinds[at] = 0;
        }
    }
}

void kinds_clear(struct kinds *kinds)
{
    for (size_t i = 0; i < kinds->count; i++) {
        memset(kinds->sets[i].kinds, 0, sizeof(kinds->sets[i].kinds));
    }
}

void kinds_add(struct kinds *kinds, const struct cap_hash *hash, uint8_t kind)
{
    if (kinds->count == 0 || kind == 0 || kinds_find(kinds, hash) != 0) {
        return;
    }
    struct kinds_set *set = set_of(kinds, hash);
    size_t at = set->next;
    set->next = (uint8_t)((at + 1) % SET_SIZE);
    set->tags[at] = tag_of(hash);
    set->kinds[at] = kind;
    set->hashes[at] = *hash;
}
