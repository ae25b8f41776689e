/*
 * Which page was seen before: an open-addressing table from page roots to ordinals.
 *
 * The roots themselves stay with the user, in an array that every call is handed; the table holds
 * only ordinals into it and grows with what is inserted. The work for one root is O(1) expected.
 */
#ifndef LIB_CAP_ROOT_TABLE_H
#define LIB_CAP_ROOT_TABLE_H

#include "lib/cap/bytes.h"

#define CAP_ROOT_ABSENT SIZE_MAX

/* Zero-initialised it is empty; release with cap_root_table_free. */
struct cap_root_table {
    uint32_t *slots; /* ordinal + 1, or 0 for a free slot */
    size_t capacity; /* a power of two, or 0 */
    size_t used;
};

/* The ordinal that was inserted for this root, or CAP_ROOT_ABSENT. */
size_t cap_root_table_find(const struct cap_root_table *table, const struct cap_hash *roots,
                           const struct cap_hash *root);

/*
 * Inserts `ordinal` for roots[ordinal], which is absent so far. CAP_E_NO_MEMORY, or
 * CAP_E_BODY_TOO_LARGE for an ordinal that does not fit; then the table is as before.
 */
enum cap_error cap_root_table_insert(struct cap_root_table *table, const struct cap_hash *roots,
                                     size_t ordinal);

/* Releases the slots and leaves an empty table. NULL is fine. */
void cap_root_table_free(struct cap_root_table *table);

#endif
