/*
 * The closure of a cap: breadth first, each cap once, without recursion.
 *
 * `found` is the queue and the record of what was seen; a hash table over it finds repeats. The
 * table is keyed with a random seed, because whoever wrote the caps chose the hashes that they
 * name.
 */
#include <stdlib.h>
#include <sys/random.h>

#include "client/lib/conn.h"

struct closure {
    struct capstore *store;
    struct capstore_hash *found; /* in order of discovery */
    size_t count;
    size_t capacity;
    size_t *table; /* index + 1 into found, 0 free; a power of two, at most half full */
    size_t table_size;
    uint64_t seed[4];
};

static size_t place_of(const struct closure *closure, const struct capstore_hash *hash)
{
    uint64_t mixed = 0;
    for (size_t i = 0; i < 4; i++) {
        mixed ^= cap_load64(hash->bytes + 8 * i) ^ closure->seed[i];
        mixed *= UINT64_C(0x9e3779b97f4a7c15);
        mixed ^= mixed >> 29;
    }
    return (size_t)(mixed & (closure->table_size - 1));
}

/* The place of a hash, or the free one where it belongs. */
static size_t find(const struct closure *closure, const struct capstore_hash *hash)
{
    size_t place = place_of(closure, hash);
    while (closure->table[place] != 0 &&
           !capstore_hash_equal(&closure->found[closure->table[place] - 1], hash)) {
        place = (place + 1) & (closure->table_size - 1);
    }
    return place;
}

static enum cap_error grow(struct closure *closure)
{
    size_t capacity = closure->capacity == 0 ? 64 : 2 * closure->capacity;
    struct capstore_hash *found = realloc(closure->found, capacity * sizeof *found);
    if (found == NULL) {
        return CAP_E_NO_MEMORY;
    }
    closure->found = found;
    size_t *table = calloc(2 * capacity, sizeof *table);
    if (table == NULL) {
        return CAP_E_NO_MEMORY;
    }
    free(closure->table);
    closure->table = table;
    closure->table_size = 2 * capacity;
    closure->capacity = capacity;
    for (size_t i = 0; i < closure->count; i++) {
        closure->table[find(closure, &found[i])] = i + 1;
    }
    return CAP_OK;
}

static enum cap_error add(struct closure *closure, const struct capstore_hash *hash)
{
    if (closure->count == closure->capacity) {
        enum cap_error error = grow(closure);
        if (error != CAP_OK) {
            return error;
        }
    }
    size_t place = find(closure, hash);
    if (closure->table[place] != 0) {
        return CAP_OK;
    }
    if (closure->count >= closure->store->max_caps) {
        return CAP_E_MEMORY_LIMIT;
    }
    closure->found[closure->count++] = *hash;
    closure->table[place] = closure->count;
    return CAP_OK;
}

static enum cap_error add_references(struct closure *closure, const struct capstore_cap *cap)
{
    struct capstore_counts counts = capstore_image_counts(cap);
    for (int table = CAPSTORE_TABLE_PINNED; table <= CAPSTORE_TABLE_INITIAL; table++) {
        for (size_t i = 0; i < counts.slots[table]; i++) {
            struct capstore_slot slot = capstore_image_slot(cap, (enum capstore_table)table, i);
            enum cap_error error = add(closure, &slot.cap_hash);
            if (error != CAP_OK) {
                return error;
            }
        }
    }
    return CAP_OK;
}

/* What a failed request inside of a walk is about. The message of the request is replaced. */
static enum cap_error blame(struct capstore *store, enum cap_error error,
                            const struct capstore_hash *hash)
{
    char hex[CAPSTORE_HASH_HEX_SIZE];
    char said[CAPSTORE_MESSAGE_SIZE - CAPSTORE_HASH_HEX_SIZE - 2];
    capstore_hash_format(hash, hex);
    memcpy(said, store->message, sizeof said);
    said[sizeof said - 1] = '\0';
    store->message[0] = '\0';
    return client_say(store, error, "%s: %s", hex, said);
}

/* Looks at one cap, fetches it when its bytes are wanted, and visits it. */
static enum cap_error visit_one(struct closure *closure, const struct capstore_hash *hash,
                                unsigned flags, capstore_visit_cb *visit, void *ctx)
{
    struct capstore *store = closure->store;
    struct capstore_stat_result stat;
    enum cap_error error = client_inner(capstore_stat(store, hash, &stat));
    if (error != CAP_OK) {
        return blame(store, error, hash);
    }
    struct capstore_closure_entry entry = {*hash, stat.kind, stat.body_len, NULL};
    struct capstore_cap *cap = NULL;
    if (stat.kind == CAPSTORE_KIND_IMAGE || (flags & CAPSTORE_CLOSURE_BODIES) != 0) {
        error = client_inner(capstore_get(store, hash, &cap));
        if (error != CAP_OK) {
            return blame(store, error, hash);
        }
        entry.kind = capstore_cap_kind(cap);
        entry.body_len = capstore_cap_body(cap).len;
        entry.cap = cap;
        error = add_references(closure, cap);
    }
    if (error == CAP_OK) {
        error = client_inner(visit(ctx, &entry));
    }
    capstore_cap_free(cap);
    return error;
}

static enum cap_error walk(struct closure *closure, unsigned flags, capstore_visit_cb *visit,
                           void *ctx)
{
    enum cap_error error = CAP_OK;
    for (size_t next = 0; error == CAP_OK && next < closure->count; next++) {
        struct capstore_hash hash = closure->found[next]; /* a copy: the queue may move */
        error = visit_one(closure, &hash, flags, visit, ctx);
    }
    return error;
}

enum capstore_error capstore_closure(struct capstore *store, const struct capstore_hash *root,
                                     unsigned flags, capstore_visit_cb *visit, void *ctx)
{
    struct closure closure = {.store = store};
    if (getrandom(closure.seed, sizeof closure.seed, 0) != (ssize_t)sizeof closure.seed) {
        return client_end(store, CAP_E_IO);
    }
    enum cap_error error = add(&closure, root);
    if (error == CAP_OK) {
        error = walk(&closure, flags, visit, ctx);
    }
    free(closure.found);
    free(closure.table);
    return client_end(store, error);
}
