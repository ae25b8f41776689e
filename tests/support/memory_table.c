#include "tests/support/memory_table.h"

#include <stdlib.h>

#define FIRST_CAPACITY 16u

size_t memory_table_seek(const struct memory_table *table, const void *key)
{
    size_t low = 0;
    size_t high = table->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(memory_table_at(table, middle), key, table->key_size) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const void *memory_table_at(const struct memory_table *table, size_t index)
{
    return table->items + index * table->item_size;
}

const void *memory_table_find(const struct memory_table *table, const void *key)
{
    size_t index = memory_table_seek(table, key);

    if (index == table->count || memcmp(memory_table_at(table, index), key, table->key_size) != 0) {
        return NULL;
    }
    return memory_table_at(table, index);
}

static enum cap_error grow(struct memory_table *table)
{
    size_t capacity = table->capacity ? 2 * table->capacity : FIRST_CAPACITY;
    uint8_t *items;

    if (capacity > SIZE_MAX / table->item_size) {
        return CAP_E_NO_MEMORY;
    }
    items = realloc(table->items, capacity * table->item_size);
    if (!items) {
        return CAP_E_NO_MEMORY;
    }
    table->items = items;
    table->capacity = capacity;
    return CAP_OK;
}

enum cap_error memory_table_put(struct memory_table *table, const void *item)
{
    size_t size = table->item_size;
    size_t index = memory_table_seek(table, item);
    uint8_t *at;

    if (index < table->count && memcmp(memory_table_at(table, index), item, table->key_size) == 0) {
        memcpy(table->items + index * size, item, size);
        return CAP_OK;
    }
    if (table->count == table->capacity) {
        enum cap_error error = grow(table);

        if (error != CAP_OK) {
            return error;
        }
    }
    at = table->items + index * size;
    memmove(at + size, at, (table->count - index) * size);
    memcpy(at, item, size);
    table->count++;
    return CAP_OK;
}

enum cap_error memory_table_copy(const struct memory_table *table, struct memory_table *ret_table)
{
    struct memory_table copy = *table;

    copy.items = NULL;
    copy.capacity = table->count;
    if (table->count > 0) {
        copy.items = malloc(table->count * table->item_size);
        if (!copy.items) {
            return CAP_E_NO_MEMORY;
        }
        memcpy(copy.items, table->items, table->count * table->item_size);
    }
    *ret_table = copy;
    return CAP_OK;
}

void memory_table_free(struct memory_table *table)
{
    free(table->items);
    *table = (struct memory_table){.item_size = table->item_size, .key_size = table->key_size};
}
