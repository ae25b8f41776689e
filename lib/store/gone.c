/* What goes: told to the watch, and to those who remember what they found. */
#include <stdlib.h>

#include "lib/store/engine.h"
#include "lib/store/store.h"

enum cap_error store_gone_add(struct cap_store *store, const struct cap_hash *hash,
                              enum cap_gone_cause cause)
{
    struct store_gone *gone = &store->gone;
    if (gone->count == gone->capacity) {
        size_t capacity = 2 * gone->capacity + 16;
        struct store_gone_cap *caps = realloc(gone->caps, capacity * sizeof(*caps));
        if (caps == NULL) {
            return CAP_E_NO_MEMORY;
        }
        gone->caps = caps;
        gone->capacity = capacity;
    }
    gone->caps[gone->count++] = (struct store_gone_cap){*hash, cause};
    return CAP_OK;
}

enum cap_error store_gone_claim(struct cap_store *store, const struct cap_hash *hash,
                                enum cap_gone_cause cause)
{
    if (!store_holds_claim(&store->holds, hash)) {
        return CAP_E_STILL_NEEDED;
    }
    enum cap_error error = store_gone_add(store, hash, cause);
    if (error != CAP_OK) {
        store_holds_unclaim(&store->holds, hash);
    }
    return error;
}

void store_gone_announce(struct cap_store *store)
{
    if (store->gone.count > 0) {
        atomic_fetch_add(&store->epoch, 1);
        store->gone.announced = true;
    }
}

void store_gone_settle(struct cap_store *store, bool committed)
{
    struct store_gone *gone = &store->gone;
    const struct cap_store_watch *watch = &store->watch;
    for (size_t i = 0; committed && watch->gone != NULL && i < gone->count; i++) {
        watch->gone(watch->ctx, &gone->caps[i].hash, gone->caps[i].cause);
    }
    if (gone->announced) {
        atomic_fetch_add(&store->epoch, 1);
        gone->announced = false;
    }
    for (size_t i = 0; i < gone->count; i++) {
        store_holds_unclaim(&store->holds, &gone->caps[i].hash);
    }
    gone->count = 0;
}

void store_gone_free(struct cap_store *store)
{
    free(store->gone.caps);
    store_holds_free(&store->holds);
}

void cap_store_watch(struct cap_store *store, const struct cap_store_watch *watch)
{
    store->watch = *watch;
}

uint64_t cap_store_epoch(const struct cap_store *store)
{
    return atomic_load(&store->epoch);
}

bool cap_store_hold(struct cap_store *store, const struct cap_hash *hash)
{
    return store_holds_add(&store->holds, hash);
}

void cap_store_release(struct cap_store *store, const struct cap_hash *hash)
{
    store_holds_remove(&store->holds, hash);
}
