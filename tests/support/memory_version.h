/*
 * A version of the memory engine: an immutable picture of the store.
 *
 * Internal to lib/store. A version owns its tables but not the caps that they point to. Whoever
 * shares one between threads guards `references`; the functions here leave it alone.
 */
#ifndef TESTS_SUPPORT_MEMORY_VERSION_H
#define TESTS_SUPPORT_MEMORY_VERSION_H

#include "lib/store/store.h"
#include "tests/support/memory_table.h"

/* A cap. Immutable once it is in a version. */
struct memory_cap {
    struct cap_info info;
    struct cap_buf body;
    struct cap_buf roots;
    struct memory_cap *next; /* of the same owner: the store, or the write until it commits */
};

/* Items of the tables. */
struct cap_item {
    struct cap_hash hash;
    const struct memory_cap *cap;
};

struct ref_item {
    struct cap_hash left;
    struct cap_hash right;
    uint8_t tables;
};

struct content_item {
    struct cap_hash content_hash;
    struct cap_hash hash;
};

struct memory_version {
    unsigned references; /* under the store's lock */
    struct memory_table caps;
    struct memory_table refs;
    struct memory_table revs;
    struct memory_table contents;
    struct cap_counts counts;
};

/* An empty version with one reference; NULL when there is no memory. */
struct memory_version *memory_version_new(void);

/* A version of its own with the same content and one reference; NULL when there is no memory. */
struct memory_version *memory_version_copy(const struct memory_version *from);

/* Frees the version, whatever its references. NULL is fine. */
void memory_version_free(struct memory_version *version);

/* The cap of that hash, or NULL. */
const struct memory_cap *memory_version_find(const struct memory_version *version,
                                             const struct cap_hash *hash);

#endif
