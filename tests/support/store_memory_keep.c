/* What keeps caps in the memory engine. */
#include <stdlib.h>

#include "lib/store/store.h"
#include "tests/support/memory.h"

/* --- Leases ----------------------------------------------------------------------------------- */

enum cap_error memory_keep_one(struct cap_store *base, struct cap_keep *keep)
{
    struct memory_cap *cap = memory_search(memory_of(base), &keep->hash);
    keep->error = cap == NULL ? CAP_E_NOT_FOUND : CAP_OK;
    if (cap == NULL) {
        return CAP_OK;
    }
    uint64_t until_s = store_lease_end(base, keep->keep_s);
    if (store_lease_gains(base, cap->kept_until_s, until_s)) {
        cap->kept_until_s = until_s;
    }
    keep->kind = cap->info.kind;
    keep->kept_until_s = cap->kept_until_s;
    return CAP_OK;
}

enum cap_error memory_keep(struct cap_store *base, struct cap_keep *keeps, size_t count)
{
    enum cap_error error = memory_try_commit(memory_of(base));
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        error = memory_keep_one(base, &keeps[i]);
    }
    return error;
}

/* --- Roots ------------------------------------------------------------------------------------ */

static struct cap_root *find_root(const struct memory_store *store, const char *name)
{
    for (size_t i = 0; i < store->root_count; i++) {
        if (strcmp(store->roots[i].name, name) == 0) {
            return &store->roots[i];
        }
    }
    return NULL;
}

static int compare_roots(const void *a, const void *b)
{
    const struct cap_root *left = a;
    const struct cap_root *right = b;
    return strcmp(left->name, right->name);
}

enum cap_error memory_root_set(struct cap_store *base, const struct cap_root *root,
                               bool *ret_replaced)
{
    struct memory_store *store = memory_of(base);
    if (memory_search(store, &root->hash) == NULL) {
        return CAP_E_NOT_FOUND;
    }
    enum cap_error error = memory_try_commit(store);
    if (error != CAP_OK) {
        return error;
    }
    pthread_mutex_lock(&store->lock);
    struct cap_root *known = find_root(store, root->name);
    *ret_replaced = known != NULL;
    if (known == NULL) {
        store->roots = realloc(store->roots, (store->root_count + 1) * sizeof(*store->roots));
        if (store->roots == NULL) {
            abort();
        }
        known = &store->roots[store->root_count++];
    }
    *known = *root;
    qsort(store->roots, store->root_count, sizeof(*store->roots), compare_roots);
    pthread_mutex_unlock(&store->lock);
    return CAP_OK;
}

enum cap_error memory_root_remove(struct cap_store *base, const char *name)
{
    struct memory_store *store = memory_of(base);
    struct cap_root *root = find_root(store, name);
    if (root == NULL) {
        return CAP_E_NO_ROOT;
    }
    enum cap_error error = memory_try_commit(store);
    if (error != CAP_OK) {
        return error;
    }
    pthread_mutex_lock(&store->lock);
    size_t after = (size_t)(store->roots + store->root_count - root) - 1;
    memmove(root, root + 1, after * sizeof(*root));
    store->root_count--;
    pthread_mutex_unlock(&store->lock);
    return CAP_OK;
}

enum cap_error memory_roots(struct cap_read *base, const char *after, size_t max,
                            struct cap_root *ret_roots, size_t *ret_count, bool *ret_more)
{
    struct memory_store *store = memory_of(base->store);
    *ret_count = 0;
    *ret_more = false;
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->root_count; i++) {
        if (after != NULL && strcmp(store->roots[i].name, after) <= 0) {
            continue;
        }
        if (*ret_count == max) {
            *ret_more = true;
            break;
        }
        ret_roots[(*ret_count)++] = store->roots[i];
    }
    pthread_mutex_unlock(&store->lock);
    return CAP_OK;
}

enum cap_error memory_roots_of(struct cap_read *base, const struct cap_hash *hash, size_t max,
                               struct cap_root *ret_roots, size_t *ret_count)
{
    struct memory_store *store = memory_of(base->store);
    *ret_count = 0;
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->root_count && *ret_count < max; i++) {
        if (cap_hash_equal(&store->roots[i].hash, hash)) {
            ret_roots[(*ret_count)++] = store->roots[i];
        }
    }
    pthread_mutex_unlock(&store->lock);
    return CAP_OK;
}

/* --- What keeps a cap ------------------------------------------------------------------------- */

enum cap_error memory_needed(struct cap_read *base, const struct cap_hash *hash,
                             unsigned *ret_needed)
{
    const struct memory_cap *cap = memory_find_cap(base, hash);
    struct cap_root root;
    struct cap_ref ref;
    size_t roots, refs;
    bool more;
    if (cap == NULL) {
        return CAP_E_NOT_FOUND;
    }
    (void)memory_roots_of(base, hash, 1, &root, &roots);
    enum cap_error error = cap_store_refs(base, hash, CAP_REFS_IN, NULL, 1, &ref, &refs, &more);
    bool leased = cap->kept_until_s > cap_store_clock(base->store);
    *ret_needed = (roots > 0 ? CAP_NEEDED_ROOT : 0) | (refs > 0 ? CAP_NEEDED_REFERENCE : 0) |
                  (leased ? CAP_NEEDED_LEASE : 0);
    return error;
}

enum cap_error memory_owner(struct cap_read *base, uint32_t uid, struct cap_usage *ret_usage)
{
    const struct memory_read *read = memory_read_of(base);
    *ret_usage = (struct cap_usage){0};
    for (size_t i = 0; i < read->count; i++) {
        const struct memory_cap *cap = read->caps[i];
        if (!cap->is_alias && cap->info.publisher.uid == uid) {
            ret_usage->caps++;
            ret_usage->bytes += cap->info.body_len;
        }
    }
    return CAP_OK;
}
