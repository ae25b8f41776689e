/*
 * The check's state, shared by its two files. Internal to the engine; see check.c.
 */
#ifndef LIB_STORE_LMDB_CHECK_H
#define LIB_STORE_LMDB_CHECK_H

#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

/* The chunks that a cap or a stage owns. */
struct owner {
    uint64_t body;
    uint32_t chunks[STORE_STREAMS]; /* by enum store_stream */
    bool is_stage;
};

/* When collection looks at the caps whose hashes begin so. */
struct due_entry {
    uint8_t prefix[STORE_DUE_PREFIX];
    uint32_t time_s;
};

struct check_due {
    struct due_entry *entries; /* once sorted: one of each prefix, its latest */
    size_t count;
    size_t capacity;
};

/* What the caps of a publisher come to, as counted. */
struct check_usage {
    uint32_t uid;
    struct cap_usage usage;
    bool seen; /* in the index */
};

struct check_usages {
    struct check_usage *of; /* by uid */
    size_t count;
    size_t capacity;
};

struct check {
    const struct cap_check_watch *watch;
    struct cap_check_progress progress;
    uint64_t findings;
    struct lmdb_store *store; /* the environment and its tables; nothing else is in use */
    MDB_txn *txn;
    struct store_state state; /* as stored */
    struct cap_counts counts; /* as counted */
    struct owner *owners;     /* one for each cap and stage, by body once sorted */
    size_t owner_count;
    size_t owner_capacity;
    struct check_due due;
    struct check_usages usages;
    const struct cap_hash *hash; /* of the cap under the glass, or NULL */
};

/* Looks at one value without its seal. An error ends the walk. */
typedef enum cap_error lmdb_check_visitor(struct check *check, const MDB_val *key,
                                          struct cap_bytes value);

/*
 * Calls `visit` for every sound value of a table whose keys have `key_size` bytes, or any number of
 * them: 0. With `sealed` false it does not look at the seals, and `visit` gets values whole.
 */
enum cap_error lmdb_check_walk(struct check *check, enum lmdb_table table, size_t key_size,
                               bool sealed, lmdb_check_visitor *visit);

/* Counts something that is wrong and tells it, of check->hash. */
__attribute__((format(printf, 2, 3))) void lmdb_check_find(struct check *check, const char *format,
                                                           ...);

/* Tells progress: so many more bytes were read. */
void lmdb_check_step(struct check *check, uint64_t bytes);

/* The sound value under a key; false when there is none, or none that is sound. */
bool lmdb_check_get(struct check *check, enum lmdb_table table, const void *key, size_t key_len,
                    struct cap_bytes *ret_value);

/*
 * Looks at the pages of the file, of which `fd` reads `file_pages` of `page_size` bytes.
 * CAP_E_NO_MEMORY.
 */
enum cap_error lmdb_check_pages(struct check *check, int fd, uint32_t page_size,
                                uint64_t file_pages);

/* Looks at the bulk of the cap check->hash, and compares it with its record and its references. */
void lmdb_check_cap(struct check *check, const struct store_cap *cap);

/* --- check_keep.c --- */

/* Visitors of the indexes of these names; that of owners comes after all caps. */
lmdb_check_visitor lmdb_check_root;
lmdb_check_visitor lmdb_check_rooted;
lmdb_check_visitor lmdb_check_due;
lmdb_check_visitor lmdb_check_owner;

/* After the index due, before the caps. */
void lmdb_check_due_sort(struct check *check);

/* Looks at the cap check->hash and counts it for its publisher. CAP_E_NO_MEMORY. */
enum cap_error lmdb_check_keep_cap(struct check *check, const struct cap_info *info);

/* What was counted for publishers that are not in the index owners. */
void lmdb_check_keep_end(struct check *check);

/* Releases what these have gathered. */
void lmdb_check_keep_free(struct check *check);

#endif
