/*
 * What the tests of the store share: a store of either engine in a fresh directory, and caps that
 * are made from a number, so that any byte of a body can be checked without keeping it.
 *
 * The store does not look into bodies, so these caps have made-up names and bodies.
 */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include "lib/store/store.h"

#define FIXTURE_MAP (UINT64_C(256) << 20)

/* Which engine; the initial state of a test. */
struct fixture_engine {
    bool is_lmdb;
    uint64_t max_bytes; /* the map, or the memory engine's bound; 0: FIXTURE_MAP */
    uint32_t max_readers;
};

struct fixture {
    struct fixture_engine engine;
    char dir[64];
    struct cap_store *store;
};

extern const uint8_t fixture_id[CAP_STORE_ID_SIZE];

/* Makes a fixture with an open store, from *state, a fixture_engine. A cmocka setup. */
int fixture_setup(void **state);

/* Closes and removes everything. A cmocka teardown. */
int fixture_teardown(void **state);

/* Opens the store (again); the LMDB one in its directory. */
enum cap_error fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);

/* Removes a directory of plain files. */
void fixture_remove_dir(const char *dir);

/* A made-up name; names of different numbers differ. */
struct cap_hash fake_hash(uint64_t seed);

/* Byte-wise content of the body of `seed`. */
uint8_t fake_byte(uint64_t seed, uint64_t at);

/* A source of that body; `seed` is borrowed. */
struct cap_source fake_source(const uint64_t *seed);

/* A Data cap without page roots, of a body of `len` bytes; `seed` is borrowed. */
struct cap_put fake_data(const uint64_t *seed, uint64_t len);

/* An Image cap likewise; references and a content hash can be added. */
struct cap_put fake_image(const uint64_t *seed, uint64_t len);

/* One write transaction with one put. *ret_new may be NULL. */
enum cap_error put_one(struct cap_store *store, const struct cap_put *put, bool *ret_new);

/* A Data cap of `len` bytes, in one transaction. */
enum cap_error put_data(struct cap_store *store, uint64_t seed, uint64_t len);

/* All steps of a stage for the body of `seed`; on an error the stage is dropped. */
enum cap_error stage_all(struct cap_store *store, uint64_t seed, uint64_t len, uint64_t *ret_stage);

/*
 * CAP_OK when the cap of `seed` is there in the snapshot and its body has `len` bytes that are all
 * right; CAP_E_HASH_MISMATCH for a wrong byte; or what the store said. Usable from any thread.
 */
enum cap_error check_body(struct cap_read *read, uint64_t seed, uint64_t len);

/* The same in a snapshot of its own. */
enum cap_error check_cap(struct cap_store *store, uint64_t seed, uint64_t len);

struct cap_counts get_counts(struct cap_store *store);

#endif
