/*
 * Stores of real caps, whose names are those of their bodies, for tests of what proves that; and
 * the file of such a store by hand. A failure fails the test.
 */
#ifndef TESTS_UNIT_STORE_REAL_H
#define TESTS_UNIT_STORE_REAL_H

#include <lmdb.h>
#include <sys/types.h>

#include "lib/store/record.h"
#include "tests/unit/store/fixture.h"

#define REAL_NODE_PAGES 300u

/* --- Caps ------------------------------------------------------------------------------------- */

/* A Data cap of `len` bytes; every third page is zero. Again: publishes it again. */
struct cap_hash add_data(struct cap_store *store, uint64_t seed, size_t len);

/* A Data cap of so many pages of one byte each. Above 256 it has nodes. */
struct cap_hash add_pages(struct cap_store *store, size_t count);

/* An Image of so much code, with two Data slots and one that pins `inner` (NULL: none). */
struct cap_hash add_image(struct cap_store *store, uint64_t seed, size_t code_len,
                          const struct cap_hash *inner);

#define REAL_DATA_SEED 100u
#define REAL_DATA_LEN  300000u

/* A store of all kinds of things, closed. Returns a Data cap of several chunks: that of
 * add_data(REAL_DATA_SEED, REAL_DATA_LEN). */
struct cap_hash fill_store(struct fixture *fixture);

/* --- The file of a closed store --------------------------------------------------------------- */

struct raw {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
};

/* A transaction on one table; raw_end commits it. */
struct raw raw_begin(const struct fixture *fixture, const char *table, unsigned flags);
void raw_end(const struct raw *raw);

/* Writes a value whose seal is right, so that only what it says is wrong. NULL: deletes it. */
void raw_set(const struct fixture *fixture, const char *table, const void *name, size_t name_len,
             const void *value, size_t len);

/* A value without its seal; returns its length. */
size_t raw_get(const struct fixture *fixture, const char *table, const void *name, size_t name_len,
               void *ret_value, size_t max);

/* The record of a cap, read and written. */
struct store_cap record_of(const struct fixture *fixture, const struct cap_hash *hash);
void set_record(const struct fixture *fixture, const struct cap_hash *hash,
                const struct store_cap *cap, uint16_t more_flags);

struct region {
    off_t at;
    size_t len;
};

struct regions {
    struct region *all; /* free() releases them */
    size_t count;
};

#define REAL_ALL    (-1)
#define REAL_VALUES (-2)

/* The places in the file of all keys and values of a table, or of its values only; of bulk also
 * those of the values of one stream. */
struct regions find_regions(const struct fixture *fixture, const char *table, int stream);

/* Flips one bit of the file. */
void flip(const struct fixture *fixture, off_t at, unsigned bit);

#endif
