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

/* --- Removing --------------------------------------------------------------------------------- */

/* What keeps a cap now. */
static enum cap_error find_needed(struct cap_store *base, const struct cap_hash *hash,
                                  unsigned *ret_needed)
{
    struct cap_read *read;
    enum cap_error error = cap_store_read_begin(base, &read);
    if (error == CAP_OK) {
        error = memory_needed(read, hash, ret_needed);
        cap_store_read_end(read);
    }
    return error;
}

/* Takes all that was put of a cap out of the array. */
static void take_out(struct memory_store *store, const struct cap_hash *hash,
                     enum cap_gone_cause cause, uint32_t uid)
{
    size_t kept = 0;
    pthread_mutex_lock(&store->lock);
    store->removed =
        realloc(store->removed, (store->removed_count + store->put) * sizeof(*store->removed));
    if (store->removed == NULL) {
        abort();
    }
    for (size_t i = 0; i < store->put; i++) {
        struct memory_cap *cap = store->caps[i];
        if (cap_hash_equal(&cap->hash, hash)) {
            cap->gone = (struct cap_removed){store_wall_us(), cause, uid};
            store->removed[store->removed_count++] = cap;
        } else {
            store->caps[kept++] = cap;
        }
    }
    store->put = store->visible = kept;
    pthread_mutex_unlock(&store->lock);
}

/* The targets of an Image that goes get what is left of its lease. */
static void pass_lease(struct memory_store *store, const struct memory_cap *cap)
{
    for (uint64_t i = 0; i < cap->info.ref_count; i++) {
        struct memory_cap *target = memory_search(store, &cap->refs[i].hash);
        if (target != NULL && target->kept_until_s < cap->kept_until_s) {
            target->kept_until_s = cap->kept_until_s;
        }
    }
}

/* Removes what nobody holds, in a commit of its own. */
static enum cap_error remove_one(struct memory_store *store, const struct cap_hash *hash,
                                 enum cap_gone_cause cause, uint32_t uid)
{
    enum cap_error error = store_gone_claim(&store->base, hash, cause);
    if (error == CAP_OK) {
        store_gone_announce(&store->base);
        error = memory_try_commit(store);
    }
    if (error == CAP_OK) {
        pass_lease(store, memory_search(store, hash));
        take_out(store, hash, cause, uid);
    }
    store_gone_settle(&store->base, error == CAP_OK);
    return error;
}

enum cap_error memory_remove_as(struct cap_store *base, const struct cap_hash *hash, uint32_t uid,
                                bool force, enum cap_gone_cause cause)
{
    unsigned needed = 0;
    enum cap_error error = find_needed(base, hash, &needed);
    if (error == CAP_OK && (needed & (force ? CAP_NEEDED_ROOT : ~0u)) != 0) {
        error = CAP_E_STILL_NEEDED;
    }
    return error == CAP_OK ? remove_one(memory_of(base), hash, cause, uid) : error;
}

enum cap_error memory_remove(struct cap_store *base, const struct cap_hash *hash, uint32_t uid,
                             bool force)
{
    return memory_remove_as(base, hash, uid, force, CAP_GONE_DELETED);
}

/* There is no queue: it looks at everything, again after each that went. */
enum cap_error memory_collect(struct cap_store *base, size_t max_caps,
                              struct cap_collected *ret_collected)
{
    struct memory_store *store = memory_of(base);
    for (size_t i = 0; i < store->put; i++) {
        const struct cap_hash hash = store->caps[i]->hash;
        uint64_t len = store->caps[i]->info.body_len;
        unsigned needed = 0;
        enum cap_error error = find_needed(base, &hash, &needed);
        if (error == CAP_OK && needed == 0 && !store_holds_has(&base->holds, &hash)) {
            if (ret_collected->caps == max_caps) {
                ret_collected->more = true;
                return CAP_OK;
            }
            error = remove_one(store, &hash, CAP_GONE_COLLECTED, UINT32_MAX);
            ret_collected->caps += error == CAP_OK;
            ret_collected->bytes += error == CAP_OK ? len : 0;
            i = SIZE_MAX; /* from the start */
        }
        ret_collected->looked_at++;
        if (error != CAP_OK && error != CAP_E_STILL_NEEDED) {
            return error;
        }
    }
    return CAP_OK;
}

enum cap_error memory_removed(struct cap_read *base, const struct cap_hash *hash,
                              struct cap_removed *ret_removed)
{
    struct memory_store *store = memory_of(base->store);
    enum cap_error error = CAP_E_NOT_FOUND;
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->removed_count; i++) {
        if (cap_hash_equal(&store->removed[i]->hash, hash)) {
            *ret_removed = store->removed[i]->gone;
            error = CAP_OK;
        }
    }
    pthread_mutex_unlock(&store->lock);
    return error;
}

enum cap_error memory_due(struct cap_read *base, struct cap_due_cursor *cursor, uint64_t now_s,
                          size_t max, struct cap_due *ret_due, size_t *ret_count, bool *ret_more)
{
    const struct memory_read *read = memory_read_of(base);
    *ret_count = 0;
    for (; cursor->sequence < read->count && *ret_count < max; cursor->sequence++) {
        const struct memory_cap *cap = read->caps[cursor->sequence];
        if (cap->is_alias || cap->kept_until_s > now_s) {
            continue;
        }
        struct cap_due *due = &ret_due[(*ret_count)++];
        due->hash = cap->hash;
        enum cap_error error = cap_store_find(base, &cap->hash, &due->info);
        if (error == CAP_OK) {
            error = memory_needed(base, &cap->hash, &due->needed);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    *ret_more = cursor->sequence < read->count;
    return CAP_OK;
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

/* The least uid from `from` on that has caps. */
static bool next_owner(const struct memory_read *read, uint32_t from, uint32_t *ret_uid)
{
    bool found = false;
    for (size_t i = 0; i < read->count; i++) {
        uint32_t uid = read->caps[i]->info.publisher.uid;
        if (!read->caps[i]->is_alias && uid >= from && (!found || uid < *ret_uid)) {
            *ret_uid = uid;
            found = true;
        }
    }
    return found;
}

enum cap_error memory_owners(struct cap_read *base, uint32_t from, size_t max,
                             struct cap_owner *ret_owners, size_t *ret_count)
{
    uint32_t uid = 0;
    *ret_count = 0;
    while (*ret_count < max && next_owner(memory_read_of(base), from, &uid)) {
        struct cap_owner *owner = &ret_owners[(*ret_count)++];
        owner->uid = uid;
        (void)memory_owner(base, uid, &owner->usage);
        if (uid == UINT32_MAX) {
            break;
        }
        from = uid + 1;
    }
    return CAP_OK;
}
