/*
 * What the offline check and the online scrub share: the look at a whole store. Internal to the
 * engine.
 *
 * check_tables.c walks the tables and looks at each entry by itself, against what the other tables
 * say; check_cap.c looks at a cap's body; mend.c puts right, in a write transaction, what a look
 * found. check.c does that to a store that nobody has open, scrub.c to one in use.
 *
 * A look holds nothing of a snapshot but copies, so a walk may end its snapshot anywhere and begin
 * another (check->pause), and no load from the map happens outside of a guard.
 */
#ifndef LIB_STORE_LMDB_CHECK_H
#define LIB_STORE_LMDB_CHECK_H

#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

#define CHECK_KEY_MAX   511u        /* LMDB's longest */
#define CHECK_VALUE_MAX 2048u       /* the longest record and its seal, which lie in a leaf page */
#define CHECK_CHUNK_MAX (64u << 10) /* a chunk and its seal */
#define CHECK_MENDS     64u         /* entries that are put right in one transaction */
#define CHECK_FOUND     32u         /* findings of one entry that are told in full */
#define CHECK_WHAT      200u
#define CHECK_META_SIZE 152u /* of what is known of a meta page */

/* What the walk stands on, copied. */
struct check_entry {
    uint8_t key[CHECK_KEY_MAX];
    size_t key_len;
    uint8_t value[CHECK_VALUE_MAX]; /* not of a chunk */
    size_t value_len;               /* as it lies there, seal included */
    bool is_found;                  /* by its key, too: the branches above it lead there */
};

/* An entry with a finding. */
struct check_mend {
    enum lmdb_table table; /* LMDB_META: the counts */
    uint64_t body;         /* of a cap, that is damaged; 0: it is not */
    uint8_t key[CHECK_KEY_MAX];
    size_t key_len;
};

/* Body ids, ascending once sorted. */
struct check_bodies {
    uint64_t *all;
    size_t count;
    size_t capacity;
};

/* When collection looks at the caps whose hashes begin so. */
struct check_due_entry {
    uint8_t prefix[STORE_DUE_PREFIX];
    uint32_t time_s;
};

struct check_due {
    bool gathered;
    uint64_t snapshot;               /* of which */
    struct check_due_entry *entries; /* one of each prefix, its latest; ascending */
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
    struct cap_check_outcome outcome;
    struct lmdb_store *store;
    MDB_txn *txn;
    int fd;             /* of the snapshot's file */
    uintptr_t map_from; /* where that is mapped; 0: unknown */

    /*
     * Called where nothing of the snapshot is in use: may end it and begin another, which
     * check->snapshot then counts. NULL: the one there is lasts. An error ends the check.
     */
    enum cap_error (*pause)(struct check *check);
    /*
     * Begins a snapshot that lasts to the next pause, in which no body is on its way into a table:
     * check->state and check->limit are of it. NULL: the one there is lasts.
     */
    enum cap_error (*anchor)(struct check *check);
    enum cap_error (*rest)(struct check *check); /* as pause, and keeps the snapshot. NULL: none */
    bool is_online;                              /* others use the store meanwhile */
    uint64_t cost;                               /* bytes looked at since the last pause */
    uint64_t snapshot;                           /* number of the one that is open */

    size_t walk;                 /* index of the table that is walked */
    uint8_t done[CHECK_KEY_MAX]; /* the last key of it that is done with: where to go on from */
    size_t done_len;             /* 0: none */
    MDB_cursor *cursor;
    MDB_cursor *probe; /* of what one look needs */
    struct check_entry entry;
    const struct cap_hash *hash; /* of the cap under the glass, or NULL */
    uint64_t bad_body;           /* of that cap, if it cannot be served; ids begin with 1 */
    bool is_moved;               /* that cap went while it was looked at */
    uint8_t chunks[STORE_STREAMS][CHECK_CHUNK_MAX]; /* the last one read of each stream */

    char found[CHECK_FOUND][CHECK_WHAT]; /* of the entry, until it is done with */
    uint64_t found_count;

    bool repair;  /* what is found is to be put right */
    bool mending; /* it is being put right: check->txn writes, and nothing is told */
    enum cap_error mend_error;
    struct check_entry mend_entry;
    struct check_entry probed;
    struct check_mend mends[CHECK_MENDS];
    unsigned mend_count;

    struct store_state state; /* as stored */
    uint64_t limit; /* ids of bodies below it were given away when the owners were gathered */
    struct check_bodies owned;  /* by caps */
    struct check_bodies staged; /* by stages */
    struct check_due due;
    struct check_usages usages;
};

/* --- check_tables.c ------------------------------------------------------------------------- */

/* Counts something that is wrong and tells it, of check->hash, once the entry is done with. */
__attribute__((format(printf, 2, 3))) void lmdb_check_find(struct check *check, const char *format,
                                                           ...);

/* Tells what was found and not told yet, of check->hash. */
void lmdb_check_tell(struct check *check);

/* Tells progress: so many more bytes were read. */
void lmdb_check_step(struct check *check, uint64_t bytes);

/* Pauses if there has been enough since the last time. */
enum cap_error lmdb_check_breathe(struct check *check);

/* The sound value under a key, copied to `ret_value`, which has room for `max`; false when there is
 * none, or none that is sound. */
bool lmdb_check_get(struct check *check, enum lmdb_table table, const void *key, size_t key_len,
                    void *ret_value, size_t max, size_t *ret_len);

/* Whether there is a sound value under a key. */
bool lmdb_check_has(struct check *check, enum lmdb_table table, const void *key, size_t key_len);

/* The record of a cap, if it is there and sound. */
bool lmdb_check_record(struct check *check, const struct cap_hash *hash, struct store_cap *ret_cap);

/*
 * Opens *cursor if it is NULL, at the first entry whose key is not less than `from`; else moves it
 * on. Copies the entry to which it comes. CAP_E_NOT_FOUND: none.
 */
enum cap_error lmdb_check_next(struct check *check, MDB_cursor **cursor, enum lmdb_table table,
                               struct cap_bytes from, struct check_entry *ret_entry);

/* Close check->probe, or both cursors. */
void lmdb_check_end_probe(struct check *check);
void lmdb_check_close(struct check *check);

/* error = call, guarded unless it is in a write transaction (guard.h). */
#define CHECK_GUARDED(check, error, call)                                                          \
    do {                                                                                           \
        if ((check)->mending) {                                                                    \
            (error) = (call);                                                                      \
        } else                                                                                     \
            LMDB_GUARDED(&(check)->store->map, error, call);                                       \
    } while (false)

/* Walks all tables, from check->walk and check->entry.key on. */
enum cap_error lmdb_check_tables(struct check *check);

/*
 * In a write transaction, check->txn: looks again at the entries of check->mends and puts right
 * what can be (with check->repair), or only quarantines what is damaged. check->mends is empty
 * then. An error leaves the transaction to be aborted.
 */
enum cap_error lmdb_check_mend(struct check *check);

/* The value of an entry without its seal; false when that is broken. */
bool lmdb_check_unseal(const struct check_entry *entry, struct cap_bytes *ret_value);

/* Whether it is known that a cap is missing (CAP_FACT_LOST). */
bool lmdb_check_is_lost(struct check *check, const struct cap_hash *hash);

/* --- check_keep.c --------------------------------------------------------------------------- */

/* Visitors of the tables of these names. */
enum cap_error lmdb_check_root(struct check *check, const struct check_entry *entry,
                               struct cap_bytes value);
enum cap_error lmdb_check_rooted(struct check *check, const struct check_entry *entry,
                                 struct cap_bytes value);
enum cap_error lmdb_check_due(struct check *check, const struct check_entry *entry,
                              struct cap_bytes value);

/* Whether the index rooted says which cap a root names; for one whose own record is damaged. */
bool lmdb_check_rooted_by(struct check *check, const uint8_t *name, size_t name_len,
                          struct cap_hash *ret_hash);

/* Collection will look at the cap check->hash when nothing keeps it. */
enum cap_error lmdb_check_queued(struct check *check, const struct store_cap *cap);

/* Counts a cap for its publisher; then, all counted, compares what the index owners says. */
enum cap_error lmdb_check_count_usage(struct check *check, const struct cap_info *info);
enum cap_error lmdb_check_usages(struct check *check);

/* --- check_bulk.c --------------------------------------------------------------------------- */

/* Gathers, of one snapshot, who owns which body, and compares what the counts say. */
enum cap_error lmdb_check_owners(struct check *check);

/* The highest id of a body that anything has, or *ret_body if that is higher. */
enum cap_error lmdb_check_last_body(struct check *check, uint64_t *ret_body);

/* Looks at a chunk: it has an owner. The visitor of the bulk; gets no value. */
enum cap_error lmdb_check_chunk(struct check *check, const struct check_entry *entry,
                                struct cap_bytes value);

/* Frees what was gathered. */
void lmdb_check_free(struct check *check);

/* --- check_pages.c -------------------------------------------------------------------------- */

/* The meta page of a commit. */
struct check_meta {
    uint8_t bytes[CHECK_META_SIZE];
    bool is_sound;
};

/* Reads that of the last commit while nobody commits, and looks at the one before it. */
void lmdb_check_meta(struct check *check, int fd, uint32_t page_size, struct check_meta *ret_meta);

/*
 * Looks at the pages of the file, of which `fd` reads `file_pages` of `page_size` bytes, as that
 * commit left them; the caller's snapshot keeps these. CAP_E_NO_MEMORY.
 */
enum cap_error lmdb_check_pages(struct check *check, int fd, uint32_t page_size,
                                uint64_t file_pages, const struct check_meta *meta);

/* --- check_cap.c ---------------------------------------------------------------------------- */

/*
 * Looks at the bulk of the cap check->hash, and compares it with its record and its references.
 * With check->mending puts right what the body proves. CAP_E_CANCELLED: the cap went meanwhile, and
 * what was found of it does not count. What ends the check.
 */
enum cap_error lmdb_check_cap(struct check *check, const struct store_cap *cap);

/* --- mend.c --------------------------------------------------------------------------------- */

/* Does lmdb_check_mend in a transaction of its own. The writer's thread. */
enum cap_error lmdb_check_settle(struct check *check);

/* Counts all anew. */
enum cap_error lmdb_mend_counts(struct check *check);

/* Quarantines a cap whose body is damaged, if it still has that body. */
enum cap_error lmdb_mend_quarantine(struct check *check, const struct check_mend *mend);

/*
 * These do nothing unless check->mending with check->repair, and nothing after one of them has
 * failed: check->mend_error then says how.
 */

void lmdb_mend_put(struct check *check, enum lmdb_table table, const void *key, size_t key_len,
                   const void *value, size_t len);
void lmdb_mend_delete(struct check *check, enum lmdb_table table, const void *key, size_t key_len);

/* Writes a reference in both directions, or takes it away in both. */
void lmdb_mend_ref(struct check *check, const uint8_t pair[STORE_PAIR_KEY], uint8_t tables);
void lmdb_mend_unref(struct check *check, const uint8_t pair[STORE_PAIR_KEY]);

/* Has collection look at a cap when the store clock is `time_s`; 0: now. */
void lmdb_mend_due(struct check *check, const struct cap_hash *hash, uint64_t time_s);

/* Notes that a cap which something refers to is missing. */
void lmdb_mend_lost(struct check *check, const struct cap_hash *hash);

/* Writes a stream of a body anew. */
void lmdb_mend_stream(struct check *check, uint64_t body, enum store_stream stream,
                      const void *bytes, uint64_t len);

/* Releases check->hash from quarantine. */
void lmdb_mend_release(struct check *check);

/* Writes the record of check->hash. */
void lmdb_mend_record(struct check *check, const struct store_cap *cap);

#endif
