/*
 * Linear probing at a load of at most one half. Roots are SHA-256 outputs, but their makers could
 * grind some that share their first bits, and so their slots; the table's own address, which they
 * do not know, is mixed in first. It moves entries about, never what a search finds.
 */
#include "lib/cap/root_table.h"

#include <stdlib.h>

#define FIRST_CAPACITY 64u

static size_t start_slot(const struct cap_root_table *table, const struct cap_hash *root)
{
    uint64_t mixed = cap_load64(root->bytes) ^ (uint64_t)(uintptr_t)table->slots;
    mixed *= UINT64_C(0x9e3779b97f4a7c15);
    mixed ^= mixed >> 32;
    return (size_t)mixed & (table->capacity - 1);
}

/* The slot of this root, or the free one where it belongs; there is always a free one. */
static size_t probe(const struct cap_root_table *table, const struct cap_hash *roots,
                    const struct cap_hash *root)
{
    size_t at = start_slot(table, root);
    while (table->slots[at] && !cap_hash_equal(&roots[table->slots[at] - 1], root)) {
        at = (at + 1) & (table->capacity - 1);
    }
    return at;
}

size_t cap_root_table_find(const struct cap_root_table *table, const struct cap_hash *roots,
                           const struct cap_hash *root)
{
    if (table->capacity == 0) {
        return CAP_ROOT_ABSENT;
    }
    uint32_t slot = table->slots[probe(table, roots, root)];
    return slot ? slot - 1 : CAP_ROOT_ABSENT;
}

static enum cap_error grow(struct cap_root_table *table, const struct cap_hash *roots)
{
    size_t capacity = table->capacity ? 2 * table->capacity : FIRST_CAPACITY;
    struct cap_root_table larger = {calloc(capacity, sizeof(uint32_t)), capacity, table->used};
    if (!larger.slots) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < table->capacity; i++) {
        uint32_t slot = table->slots[i];
        if (slot) {
            larger.slots[probe(&larger, roots, &roots[slot - 1])] = slot;
        }
    }
    free(table->slots);
    *table = larger;
    return CAP_OK;
}

enum cap_error cap_root_table_insert(struct cap_root_table *table, const struct cap_hash *roots,
                                     size_t ordinal)
{
    if (ordinal >= UINT32_MAX) {
        return CAP_E_BODY_TOO_LARGE;
    }
    if (2 * (table->used + 1) > table->capacity) {
        enum cap_error error = grow(table, roots);
        if (error) {
            return error;
        }
    }
    table->slots[probe(table, roots, &roots[ordinal])] = (uint32_t)(ordinal + 1);
    table->used++;
    return CAP_OK;
}

void cap_root_table_free(struct cap_root_table *table)
{
    if (!table) {
        return;
    }
    free(table->slots);
    *table = (struct cap_root_table){0};
}
