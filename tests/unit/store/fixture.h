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

extern struct fixture_engine engine_lmdb;
extern struct fixture_engine engine_memory;
extern struct fixture_engine engine_small_lmdb; /* 8 MiB */
extern struct fixture_engine engine_small_memory;

/* Entries of a CMUnitTest array: the function on both engines. */
#define BOTH_WITH(function, on_lmdb, on_memory)                                                    \
    {#function " [lmdb]", function, fixture_setup, fixture_teardown, &(on_lmdb)},                  \
    {                                                                                              \
#function " [memory]", function, fixture_setup, fixture_teardown, &(on_memory)             \
    }
#define BOTH(function)       BOTH_WITH(function, engine_lmdb, engine_memory)
#define BOTH_SMALL(function) BOTH_WITH(function, engine_small_lmdb, engine_small_memory)

extern const uint8_t fixture_id[CAP_STORE_ID_SIZE];

/* Makes a fixture with an open store, from *state, a fixture_engine. A cmocka setup. */
int fixture_setup(void **state);

/* Closes and removes everything. A cmocka teardown. */
int fixture_teardown(void **state);

/* Opens the store (again); the LMDB one in its directory. */
enum cap_error fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);

/* Makes a fresh directory for the fixture; false when it cannot. */
bool fixture_make_dir(struct fixture *fixture);

/* Removes a directory of plain files. */
void fixture_remove_dir(const char *dir);

/* A scrambled number; different numbers stay different. */
uint64_t fake_number(uint64_t seed);

/* A made-up name; names of different numbers differ. */
struct cap_hash fake_hash(uint64_t seed);

/* Byte-wise content of the body of `seed`. */
uint8_t fake_byte(uint64_t seed, uint64_t at);

/* A source of that body; `seed` is borrowed. */
struct cap_source fake_source(const uint64_t *seed);

/* A Data cap without page roots, of a body of `len` bytes; `seed` is borrowed. */
struct cap_put fake_data(const uint64_t *seed, uint64_t len);

/* The same for an Image cap; references and a content hash can be added. */
struct cap_put fake_image(const uint64_t *seed, uint64_t len);

/* Admits one admission; returns its error. */
enum cap_error admit_one(struct cap_store *store, struct cap_admission *admission);

/* One admission of some puts. */
enum cap_error put_all(struct cap_store *store, struct cap_put *puts, size_t count);

/* One admission of one put. *ret_new may be NULL. */
enum cap_error put_one(struct cap_store *store, const struct cap_put *put, bool *ret_new);

/* A Data cap of `len` bytes, in one admission. */
enum cap_error put_data(struct cap_store *store, uint64_t seed, uint64_t len);

/* One step of one stage. */
enum cap_error stage_step(struct cap_store *store, uint64_t stage, const struct cap_source *body,
                          bool *ret_done);

/* All steps of a stage for the body of `seed`; on an error the stage is dropped. */
enum cap_error stage_all(struct cap_store *store, uint64_t seed, uint64_t len, uint64_t *ret_stage);

/* Drops a stage and sweeps until nothing is left to sweep. */
enum cap_error drop_stage(struct cap_store *store, uint64_t stage);

/*
 * CAP_OK when the cap of `seed` is there in the snapshot and its body has `len` bytes that are all
 * right; CAP_E_HASH_MISMATCH for a wrong byte; or what the store said. Usable from any thread.
 */
enum cap_error check_body(struct cap_read *read, uint64_t seed, uint64_t len);

/* The same in a snapshot of its own. */
enum cap_error check_cap(struct cap_store *store, uint64_t seed, uint64_t len);

/* From here on: a failure fails the test, so only on the test's own thread. */

struct cap_counts get_counts(struct cap_store *store);
struct cap_store *store_of(void **state);
struct cap_read *begin_read(struct cap_store *store);

/* Whether the cap of `seed` is found in a snapshot of its own. */
bool is_there(struct cap_store *store, uint64_t seed);

/* Publishes an Image of 100 bytes that refers to the Data caps [first, first + count). */
void put_image(struct cap_store *store, uint64_t seed, uint64_t first, size_t count);

/* Lets the store clock go on. */
void advance(struct cap_store *store, uint64_t seconds);

/* Collects until there is nothing more to collect and to sweep; adds up what it did. */
struct cap_collected collect_all(struct cap_store *store);

/*
 * Verifies the structure of an LMDB store, which is closed for it, and opens it again. That
 * bodies are made up is passed by; nothing is verified in memory.
 */
void fixture_check(struct fixture *fixture);

/* All references of a cap, `max` per page; checks that they ascend. Returns how many. */
size_t page_refs(struct cap_store *store, const struct cap_hash *hash,
                 enum cap_ref_direction direction, size_t max, struct cap_ref *ret_refs);

/* All bytes of a file; free() releases them. */
uint8_t *load_file(const char *path, size_t *ret_len);

#endif
