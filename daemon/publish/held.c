/* An array of what is held. */
#include "daemon/publish/held.h"

#include <stdlib.h>

static void hold(struct held *held, const struct cap_hash *hash)
{
    if (cap_store_hold(held->store, hash)) {
        held->hashes[held->count++] = *hash;
    }
}

enum cap_error held_add(struct held *held, struct cap_store *store,
                        const struct cap_admission *admission)
{
    size_t count = held->count + admission->needed_count + admission->put_count;
    struct cap_hash *hashes = realloc(held->hashes, (count + 1) * sizeof(*hashes));
    if (hashes == NULL) {
        return CAP_E_NO_MEMORY;
    }
    held->hashes = hashes;
    held->store = store;
    for (size_t i = 0; i < admission->needed_count; i++) {
        hold(held, &admission->needed[i].hash);
    }
    for (size_t i = 0; i < admission->put_count; i++) {
        hold(held, &admission->puts[i].hash);
    }
    return CAP_OK;
}

void held_release(struct held *held)
{
    for (size_t i = 0; i < held->count; i++) {
        cap_store_release(held->store, &held->hashes[i]);
    }
    free(held->hashes);
    *held = (struct held){0};
}
