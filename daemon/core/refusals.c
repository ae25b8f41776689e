/* The ring of refusals. */
#include "daemon/core/refusals.h"

#include <stdlib.h>

enum cap_error refusals_init(struct refusals *refusals, size_t capacity)
{
    struct refusal *ring = calloc(capacity, sizeof(*ring));
    if (ring == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *refusals = (struct refusals){.ring = ring, .capacity = capacity};
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
    uint64_t seq = ++refusals->last_seq;
    struct refusal *entry = &refusals->ring[seq % refusals->capacity];
    *entry = *refusal;
    entry->seq = seq;
}

const struct refusal *refusals_before(const struct refusals *refusals, uint64_t before)
{
    uint64_t seq = before > refusals->last_seq ? refusals->last_seq : before - 1;
    if (before == 0 || seq == 0 || refusals->last_seq - seq >= refusals->capacity) {
        return NULL;
    }
    return &refusals->ring[seq % refusals->capacity];
}
