/* The ring of refusals. */
#include "daemon/core/refusals.h"

#include <stdlib.h>
#include <string.h>

enum cap_error refusals_init(struct refusals *refusals, size_t capacity)
{
    struct refusal *ring = calloc(capacity, sizeof(*ring));
    if (ring == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *refusals =
        (struct refusals){.lock = PTHREAD_MUTEX_INITIALIZER, .ring = ring, .capacity = capacity};
    return CAP_OK;
}

void refusals_free(struct refusals *refusals)
{
    free(refusals->ring);
    *refusals = (struct refusals){0};
}

void refusals_add(struct refusals *refusals, const struct refusal *refusal)
{
    if (refusals->capacity == 0) {
        return;
    }
    pthread_mutex_lock(&refusals->lock);
    uint64_t seq = ++refusals->last_seq;
    struct refusal *entry = &refusals->ring[seq % refusals->capacity];
    *entry = *refusal;
    entry->seq = seq;
    pthread_mutex_unlock(&refusals->lock);
}

bool refusals_before(struct refusals *refusals, uint64_t before, struct refusal *ret_refusal)
{
    pthread_mutex_lock(&refusals->lock);
    uint64_t last = refusals->last_seq;
    uint64_t seq = before > last ? last : before - 1;
    bool found = before != 0 && seq != 0 && last - seq < refusals->capacity;
    if (found) {
        *ret_refusal = refusals->ring[seq % refusals->capacity];
    }
    pthread_mutex_unlock(&refusals->lock);
    return found;
}

bool refusals_naming(struct refusals *refusals, const struct cap_hash *hash,
                     struct refusal *ret_refusal)
{
    char hex[CAP_HASH_HEX_SIZE];
    uint64_t before = UINT64_MAX;
    cap_hash_format(hash, hex);
    while (refusals_before(refusals, before, ret_refusal)) {
        before = ret_refusal->seq;
        if (ret_refusal->error != CAP_E_NOT_FOUND && strstr(ret_refusal->message, hex) != NULL) {
            return true;
        }
    }
    return false;
}

uint64_t refusals_total(struct refusals *refusals)
{
    pthread_mutex_lock(&refusals->lock);
    uint64_t total = refusals->last_seq;
    pthread_mutex_unlock(&refusals->lock);
    return total;
}
