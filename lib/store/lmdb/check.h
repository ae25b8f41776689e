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
    const struct cap_hash *hash; /* of the cap under the glass, or NULL */
};

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

#endif
