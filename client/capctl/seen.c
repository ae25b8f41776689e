#include "client/capctl/seen.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 1024u

static const uint8_t zero[CLI_SEEN_BYTES];

/* Where the prefix is, or would be: hashes are spread evenly as they are. */
static size_t slot_of(const struct cli_seen *seen, const uint8_t *prefix)
{
    uint64_t at;
    memcpy(&at, prefix, sizeof(at));
    size_t mask = seen->capacity - 1;
    size_t slot = (size_t)at & mask;
    while (memcmp(seen->slots[slot], zero, CLI_SEEN_BYTES) != 0 &&
           memcmp(seen->slots[slot], prefix, CLI_SEEN_BYTES) != 0) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

bool cli_seen_has(const struct cli_seen *seen, const struct capstore_hash *hash)
{
    if (memcmp(hash->bytes, zero, CLI_SEEN_BYTES) == 0) {
        return seen->has_zero;
    }
    return seen->capacity > 0 &&
           memcmp(seen->slots[slot_of(seen, hash->bytes)], zero, CLI_SEEN_BYTES) != 0;
}

static bool grow(struct cli_seen *seen)
{
    struct cli_seen larger = {.capacity =
                                  seen->capacity == 0 ? FIRST_CAPACITY : 2 * seen->capacity};
    larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
    if (larger.slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < seen->capacity; i++) {
        if (memcmp(seen->slots[i], zero, CLI_SEEN_BYTES) != 0) {
            memcpy(larger.slots[slot_of(&larger, seen->slots[i])], seen->slots[i], CLI_SEEN_BYTES);
        }
    }
    free(seen->slots);
    seen->slots = larger.slots;
    seen->capacity = larger.capacity;
    return true;
}

bool cli_seen_add(struct cli_seen *seen, const struct capstore_hash *hash)
{
    if (memcmp(hash->bytes, zero, CLI_SEEN_BYTES) == 0) {
        seen->has_zero = true;
        return true;
    }
    if (seen->count >= seen->capacity / 4 * 3 && !grow(seen)) {
        return false;
    }
    uint8_t *slot = seen->slots[slot_of(seen, hash->bytes)];
    if (memcmp(slot, zero, CLI_SEEN_BYTES) == 0) {
        memcpy(slot, hash->bytes, CLI_SEEN_BYTES);
        seen->count++;
    }
    return true;
}

void cli_seen_free(struct cli_seen *seen)
{
    free(seen->slots);
    *seen = (struct cli_seen){0};
}
