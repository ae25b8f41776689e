/*
 * The closure of a cap: breadth first, each cap once, without recursion.
 *
 * `found` is the queue and the record of what was seen; a set over it finds repeats.
 */
#include <stdlib.h>

#include "client/lib/conn.h"
#include "lib/cap/hash_set.h"

struct closure {
    struct capstore *store;
    struct cap_hash *found; /* in order of discovery */
    size_t count;
    size_t capacity;
    struct cap_hash_set *seen; /* of those found */
};

static enum cap_error grow(struct closure *closure)
{
    size_t capacity = closure->capacity == 0 ? 64 : 2 * closure->capacity;
    struct cap_hash *found = realloc(closure->found, capacity * sizeof(*found));
    if (found == NULL) {
        return CAP_E_NO_MEMORY;
    }
    closure->found = found;
    closure->capacity = capacity;
    return CAP_OK;
}

static enum cap_error add(struct closure *closure, const struct capstore_hash *hash)
{
    struct cap_hash added = client_cap_hash(hash);
    if (cap_hash_set_find(closure->seen, closure->found, &added) != CAP_HASH_ABSENT) {
        return CAP_OK;
    }
    if (closure->count >= closure->store->max_caps) {
        return CAP_E_MEMORY_LIMIT;
    }
    if (closure->count == closure->capacity) {
        enum cap_error error = grow(closure);
        if (error != CAP_OK) {
            return error;
        }
    }
    closure->found[closure->count] = added;
    enum cap_error error = cap_hash_set_insert(closure->seen, closure->found, closure->count);
    if (error == CAP_OK) {
        closure->count++;
    }
    return error;
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

/* Puts the hash in front of a failed request's message, unless it is in it. */
static enum cap_error name_hash(struct capstore *store, enum cap_error error,
                                const struct capstore_hash *hash)
{
    char hex[CAPSTORE_HASH_HEX_SIZE];
    char said[CAPSTORE_MESSAGE_SIZE - CAPSTORE_HASH_HEX_SIZE - 2];
    capstore_hash_format(hash, hex);
    if (strstr(store->message, hex) != NULL) {
        return error;
    }
    memcpy(said, store->message, sizeof(said));
    said[sizeof(said) - 1] = '\0';
    store->message[0] = '\0';
    return client_say(store, error, "%s: %s", hex, said);
}

/* Looks at one cap, fetches it if its bytes are needed, and visits it. */
static enum cap_error visit_one(struct closure *closure, const struct capstore_hash *hash,
                                unsigned flags, capstore_visit_cb *visit, void *ctx)
{
    struct capstore *store = closure->store;
    struct capstore_stat_result stat;
    enum cap_error error = client_inner(capstore_stat(store, hash, &stat));
    if (error != CAP_OK) {
        return name_hash(store, error, hash);
    }
    struct capstore_closure_entry entry = {*hash, stat.kind, stat.body_len, NULL};
    struct capstore_cap *cap = NULL;
    if (stat.kind == CAPSTORE_KIND_IMAGE || (flags & CAPSTORE_CLOSURE_BODIES) != 0) {
        error = client_inner(capstore_get(store, hash, &cap));
        if (error != CAP_OK) {
            return name_hash(store, error, hash);
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
        struct capstore_hash hash = client_hash(&closure->found[next]); /* the queue may move */
        error = visit_one(closure, &hash, flags, visit, ctx);
    }
    return error;
}

enum capstore_error capstore_closure(struct capstore *store, const struct capstore_hash *root,
                                     unsigned flags, capstore_visit_cb *visit, void *ctx)
{
    struct cap_hash_set seen = {0};
    struct closure closure = {.store = store, .seen = &seen};
    enum cap_error error = add(&closure, root);
    if (error == CAP_OK) {
        error = walk(&closure, flags, visit, ctx);
    }
    free(closure.found);
    cap_hash_set_free(&seen);
    return client_end(store, error);
}
