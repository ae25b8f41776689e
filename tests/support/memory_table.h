/*
 * A sorted array of fixed-size items that begin with their key; the memory engine's index.
 *
 * Internal to lib/store. A table owns its array; keys compare as bytes. No function is thread-safe.
 */
#ifndef TESTS_SUPPORT_MEMORY_TABLE_H
#define TESTS_SUPPORT_MEMORY_TABLE_H

#include "lib/cap/bytes.h"

struct memory_table {
    uint8_t *items;
    size_t count;
    size_t capacity;
    size_t item_size;
    size_t key_size;
};

/* The index of the first item whose key is not below `key` (key_size bytes). */
size_t memory_table_seek(const struct memory_table *table, const void *key);

/* Item `index`; the caller has checked that it is there. Valid until the table changes. */
const void *memory_table_at(const struct memory_table *table, size_t index);

/* The item of that key, or NULL. */
const void *memory_table_find(const struct memory_table *table, const void *key);

/* Inserts an item (item_size bytes) or replaces the one of its key. CAP_E_NO_MEMORY. */
enum cap_error memory_table_put(struct memory_table *table, const void *item);

/* Makes *ret_table an independent copy. CAP_E_NO_MEMORY. */
enum cap_error memory_table_copy(const struct memory_table *table, struct memory_table *ret_table);

/* Releases the items; the table is then empty and usable. */
void memory_table_free(struct memory_table *table);

#endif
