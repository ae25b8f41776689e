/* What is not served by the memory engine: quarantined, by a test's word only, or forbidden. */
#include <stdlib.h>

#include "tests/support/memory.h"

enum cap_error memory_quarantine(struct cap_store *base, const struct cap_hash *hash)
{
    struct memory_cap *cap = memory_search(memory_of(base), hash);
    if (cap == NULL) {
        return CAP_E_NOT_FOUND;
    }
    enum cap_error error = memory_try_commit(memory_of(base));
    if (error == CAP_OK) {
        atomic_store(&cap->quarantined, true);
    }
    return error;
}

/* Where it is among the forbidden; NULL: it is not. Under the lock. */
static struct memory_forbidden *find_forbidden(struct memory_store *store,
                                               const struct cap_hash *hash)
{
    for (size_t i = 0; i < store->forbidden_count; i++) {
        if (cap_hash_equal(&store->forbidden[i].hash, hash)) {
            return &store->forbidden[i];
        }
    }
    return NULL;
}

bool memory_is_forbidden(struct memory_store *store, const struct cap_hash *hash,
                         struct cap_forbidden *ret_why)
{
    pthread_mutex_lock(&store->lock);
    const struct memory_forbidden *found = find_forbidden(store, hash);
    if (found != NULL && ret_why != NULL) {
        *ret_why = found->why;
    }
    pthread_mutex_unlock(&store->lock);
    return found != NULL;
}

enum cap_error memory_forbidden(struct cap_read *base, const struct cap_hash *hash,
                                struct cap_forbidden *ret_forbidden)
{
    return memory_is_forbidden(memory_of(base->store), hash, ret_forbidden) ? CAP_OK
                                                                            : CAP_E_NOT_FOUND;
}

enum cap_error memory_forbid(struct cap_store *base, const struct cap_hash *hash,
                             const struct cap_forbidden *forbidden)
{
    struct memory_store *store = memory_of(base);
    enum cap_error error = memory_remove_as(base, hash, forbidden->uid, true, CAP_GONE_FORBIDDEN);
    if (error != CAP_OK && error != CAP_E_NOT_FOUND) {
        return error;
    }
    pthread_mutex_lock(&store->lock);
    struct memory_forbidden *found = find_forbidden(store, hash);
    if (found == NULL) {
        store->forbidden =
            realloc(store->forbidden, (store->forbidden_count + 1) * sizeof(*store->forbidden));
        if (store->forbidden == NULL) {
            abort();
        }
        found = &store->forbidden[store->forbidden_count++];
    }
    *found = (struct memory_forbidden){*hash, *forbidden};
    pthread_mutex_unlock(&store->lock);
    return CAP_OK;
}

enum cap_error memory_allow(struct cap_store *base, const struct cap_hash *hash)
{
    struct memory_store *store = memory_of(base);
    pthread_mutex_lock(&store->lock);
    struct memory_forbidden *found = find_forbidden(store, hash);
    if (found != NULL) {
        *found = store->forbidden[--store->forbidden_count];
    }
    pthread_mutex_unlock(&store->lock);
    return found != NULL ? CAP_OK : CAP_E_NOT_FOUND;
}

/* Since when a cap is quarantined is not kept. */
enum cap_error memory_broken(struct cap_read *base, const struct cap_hash *after, size_t max,
                             struct cap_broken *ret_broken, size_t *ret_count, bool *ret_more)
{
    const struct memory_read *read = memory_read_of(base);
    for (size_t i = 0; i < read->count && !*ret_more; i++) {
        const struct memory_cap *cap = read->caps[i];
        if (!atomic_load(&cap->quarantined) ||
            (after != NULL && memcmp(cap->hash.bytes, after->bytes, CAP_HASH_SIZE) <= 0)) {
            continue;
        }
        *ret_more = *ret_count == max;
        if (!*ret_more) {
            ret_broken[(*ret_count)++] = (struct cap_broken){cap->hash, CAP_FACT_DAMAGED, 1};
        }
    }
    return CAP_OK;
}

/* There is nothing to find; but a scrub of many caps takes a while. */
enum cap_error memory_scrub(struct cap_store *base, bool repair,
                            const struct cap_scrub_watch *watch,
                            struct cap_check_outcome *ret_outcome)
{
    struct cap_check_progress progress = {.caps_total = memory_of(base)->visible};
    (void)repair;
    (void)ret_outcome;
    while (progress.caps < progress.caps_total) {
        if (watch->pace(watch->ctx, 1) != CAP_SCRUB_GO) {
            return CAP_E_CANCELLED;
        }
        progress.caps++;
        if (watch->progress != NULL) {
            watch->progress(watch->ctx, &progress);
        }
    }
    return CAP_OK;
}

enum cap_error memory_scrub_state(struct cap_read *base, struct cap_scrub_state *ret_state)
{
    (void)base;
    *ret_state = (struct cap_scrub_state){0};
    return CAP_OK;
}
