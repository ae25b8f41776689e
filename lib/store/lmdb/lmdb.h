/*
 * The LMDB engine's insides, shared by its files. Internal to lib/store.
 *
 * One environment in one file, `store.lmdb`; its named databases:
 *
 *   meta      "format" -> version and store id; "state" -> next body id, counts, store clock
 *   caps      CapHash -> cap record (record.h)
 *   bulk      body id, stream, chunk number -> bytes of a body, its page roots or its nodes
 *   stages    body id -> length and what is written: bulk that no cap names yet, or any more; then
 *             also whose it was, if that cap's references are still there (corpses.c)
 *   refs      source CapHash, target CapHash -> tables
 *   revs      target CapHash, source CapHash -> tables
 *   contents  image_content_hash -> CapHash
 *   aliases   CapHash, image_content_hash -> nothing: those that its record does not have
 *   facts     CapHash, type -> what was learnt of the cap later
 *   roots     name -> CapHash, when and by whom
 *   rooted    CapHash, name -> nothing
 *   due       time, sequence -> beginnings of hashes that collection looks at then (due.c)
 *   removed   number -> the CapHash of a cap that was removed, when, why and by whom
 *   owners    uid -> what the caps that it was the first to publish come to
 *
 * Every value ends with a seal (record.h). Those of records are checked whenever a record is read.
 * A chunk's is checked whenever its bytes are handed out: nothing tells whether pages that are in
 * memory have been there since the last time, or were read from the device anew.
 *
 * A chunk fills whole pages exactly: LMDB's header takes 16 bytes of the first, the seal the last
 * 8. So that the last chunk of a stream does not take a page for a few bytes, as that of a Data cap
 * of one page would, such a rest is a chunk of its own, which lies among the records. Small chunks
 * also bound what a write holds in memory and keep LMDB's search for runs of free pages short.
 */
#ifndef LIB_STORE_LMDB_LMDB_H
#define LIB_STORE_LMDB_LMDB_H

#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <sys/queue.h>

#include "lib/store/engine.h"
#include "lib/store/lmdb/guard.h"
#include "lib/store/record.h"

#define LMDB_BODY_CHUNK  65512u                  /* 16 pages less header and seal */
#define LMDB_ROOTS_CHUNK (2047u * CAP_HASH_SIZE) /* the same, in whole roots */
#define LMDB_NODES_CHUNK (1488u * sizeof(struct cap_node))
#define LMDB_PAGE        4096u /* what chunks are cut to fill, whatever the file's pages are */
#define LMDB_FRAME       24u   /* header and seal */
#define LMDB_REST        512u  /* longest rest: an eighth of a page */
#define LMDB_INLINE      2000u /* values up to this lie in their leaf page */
#define LMDB_DAMAGED     16u   /* damaged caps not yet written down */
#define LMDB_IDLE_READS  256u  /* reset read transactions kept: busy loops drop as many */
#define LMDB_DROP_CHUNKS 512u  /* chunks deleted per transaction */

enum lmdb_table {
    LMDB_META,
    LMDB_CAPS,
    LMDB_BULK,
    LMDB_STAGES,
    LMDB_REFS,
    LMDB_REVS,
    LMDB_CONTENTS,
    LMDB_FACTS,
    LMDB_ROOTS,
    LMDB_ROOTED,
    LMDB_DUE,
    LMDB_OWNERS,
    LMDB_ALIASES,
    LMDB_REMOVED,
    LMDB_TABLES,
};

struct lmdb_read {
    struct cap_read base;
    MDB_env *env; /* of `txn`, and where its file is mapped; 0: unknown */
    uintptr_t map_from;
    MDB_txn *txn;
    MDB_cursor *cursor;          /* of the operation that runs; NULL: none */
    bool failed;                 /* an operation met CAP_E_IO: not kept for reuse */
    uint64_t since_us;           /* monotonic: when it began */
    TAILQ_ENTRY(lmdb_read) link; /* in the store's list of open or of idle reads */
};

TAILQ_HEAD(lmdb_reads, lmdb_read);

/* What the open write transaction makes of a stage if it commits. */
enum lmdb_stage_use {
    LMDB_STAGE_FREE, /* nothing */
    LMDB_STAGE_LINKED,
    LMDB_STAGE_GIVEN_UP, /* its cap was there */
};

/* A stage of this life; what `stages` lists and this does not is dead and gets swept. */
struct lmdb_stage {
    uint64_t body;
    uint64_t body_len;
    uint64_t written;
    uint64_t writing; /* what `written` will be when the step that runs commits */
    enum lmdb_stage_use use;
    struct lmdb_stage *next;
};

/* What the open write transaction makes of a corpse if it commits. */
enum lmdb_corpse_use {
    LMDB_CORPSE_STAYS,
    LMDB_CORPSE_MADE,
    LMDB_CORPSE_ENDED,
};

/* A cap that was removed and whose references are still there. */
struct lmdb_corpse {
    uint64_t body;
    struct cap_hash hash;
    enum lmdb_corpse_use use;
    LIST_ENTRY(lmdb_corpse) link;
};

/* What there was for a transaction before its first put. */
struct lmdb_room {
    uint64_t map_pages;  /* of the map, after the last one in use */
    uint64_t file_pages; /* of the file, after the last one in use */
    uint64_t disk_pages; /* free on the file system */
    uint64_t end;        /* of the last page in use, bytes into the file */
};

/* A cap that collection is to look at. */
struct lmdb_due {
    uint32_t time_s;
    uint8_t prefix[STORE_DUE_PREFIX]; /* of its hash */
};

#define LMDB_OWNERS_PENDING 16u

/* What the caps of one user have changed by. */
struct lmdb_owner {
    uint32_t uid;
    int64_t caps;
    int64_t bytes;
};

/* The write transaction that is open. */
struct lmdb_write {
    MDB_txn *txn;
    struct lmdb_room room; /* once it is measured */
    bool measured;
    struct store_state state;
    uint64_t bytes;        /* roughly what the puts so far take */
    uint64_t bytes_before; /* those of the transaction before */
    bool changed;          /* `state` is to be written */
    struct lmdb_due *due;  /* to be written with it; the memory stays for the next transaction */
    size_t due_count;
    size_t due_capacity;
    struct lmdb_owner owners[LMDB_OWNERS_PENDING]; /* the same */
    size_t owner_count;
    struct cap_hash *healed; /* caps that the transaction heals; the memory stays */
    size_t healed_count;
    size_t healed_capacity;
    uint64_t next_removed; /* 0: not known */
};

struct lmdb_store {
    struct cap_store base;
    char *dir;
    MDB_env *env; /* the writer's; compaction changes it, under both locks */
    MDB_dbi tables[LMDB_TABLES];
    int fd; /* a duplicate of LMDB's own; compaction has it mean the new file */
    uint64_t page_size;
    uint64_t map_bytes;
    struct lmdb_map map;
    uint32_t max_readers;

    pthread_mutex_t lock; /* of the next seven */
    MDB_env *old_env;     /* of the file before it was compacted; see compact.c */
    struct lmdb_reads idle;
    unsigned idle_count;
    struct lmdb_reads open; /* in the order in which they began */
    uint32_t open_count;
    struct cap_hash damaged[LMDB_DAMAGED]; /* found by reads; the next sweep quarantines them */
    unsigned damaged_count;
    atomic_bool has_damaged; /* any thread: whether there are some */

    pthread_mutex_t gauge_lock;
    struct lmdb_read gauge; /* of our own, reset between uses: figures when readers are full */

    struct lmdb_stage *stages; /* from here on: the writer's thread only */
    uint64_t next_body;
    LIST_HEAD(, lmdb_corpse) corpses;
    bool sweep;          /* there may be dead stages */
    bool knows_free;     /* since the last commit: */
    uint64_t free_pages; /* in LMDB's free list, without what snapshots pin */
    size_t free_until;   /* those that transactions before it freed */
    uint64_t written_to; /* where zeros written ahead end, bytes into the file; see env.c */
    struct lmdb_write write;
};

/* The engine behind a read. */
static inline struct lmdb_read *lmdb_read_of(struct cap_read *base)
{
    return STORE_CONTAINER_OF(base, struct lmdb_read, base);
}

/* The engine behind a store that open.c made. */
static inline struct lmdb_store *lmdb_of(struct cap_store *store)
{
    return STORE_CONTAINER_OF(store, struct lmdb_store, base);
}

/* --- lmdb/env.c ----------------------------------------------------------------------------- */

/*
 * The one translation of foreign codes, LMDB's and errno. `fd` is any on the store's file system,
 * or -1: a full file system may say EIO where it means ENOSPC.
 */
enum cap_error lmdb_error(int fd, int code);

/*
 * One record without its seal; the bytes live as long as the transaction does not change.
 * CAP_E_NOT_FOUND, CAP_E_CORRUPT when the seal is broken.
 */
enum cap_error lmdb_get(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                        struct cap_bytes key, struct cap_bytes *ret_value);

/* Writes one record of at most STORE_VALUE_MAX bytes, and its seal, over what is there. */
enum cap_error lmdb_put(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                        struct cap_bytes key, struct cap_bytes value);

/* The same, and LMDB is told that it may be the last one of its table. */
enum cap_error lmdb_append(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                           struct cap_bytes key, struct cap_bytes value);

/* The record as it lies there, seal included, under a key that LMDB handed out. */
bool lmdb_unseal(const MDB_val *key, const MDB_val *value, struct cap_bytes *ret_value);

/* Deletes one record; fine if it is not there. */
enum cap_error lmdb_delete(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                           struct cap_bytes key);

/* A cap's record. CAP_E_NOT_FOUND. */
enum cap_error lmdb_find_cap(const struct lmdb_store *store, MDB_txn *txn,
                             const struct cap_hash *hash, struct store_cap *ret_cap);

/* Writes a cap's record. */
enum cap_error lmdb_put_cap(const struct lmdb_store *store, MDB_txn *txn,
                            const struct cap_hash *hash, const struct store_cap *cap);

/* The state record; CAP_E_CORRUPT when it is missing, every store has one. */
enum cap_error lmdb_state_get(const struct lmdb_store *store, MDB_txn *txn,
                              struct store_state *ret_state);

/* Writes the state record, with the store clock as it is now. */
enum cap_error lmdb_state_put(const struct lmdb_store *store, MDB_txn *txn,
                              const struct store_state *state);

/* A write transaction; CAP_E_STORE_FAILED after a commit that failed for good. Writer only. */
enum cap_error lmdb_begin(struct lmdb_store *store, MDB_txn **ret_txn);

/*
 * Commits. Every commit of the engine passes here: after CAP_E_IO or CAP_E_STORE_FAILED no write
 * transaction begins any more.
 */
enum cap_error lmdb_commit(struct lmdb_store *store, MDB_txn *txn);

/* Measures the room; two system calls, so once in a transaction, before its first put. */
enum cap_error lmdb_measure_room(struct lmdb_store *store, struct lmdb_room *ret_room);

/*
 * CAP_OK if a transaction can write `bytes` in that room and still leave what LMDB needs to delete
 * (it copies pages to free others): these are in the file by then, so that nobody else can take
 * them. CAP_E_MAP_FULL, CAP_E_DISK_FULL.
 */
enum cap_error lmdb_check_room(struct lmdb_store *store, struct lmdb_room *room, uint64_t bytes);

/* Whether there is that much room now, for several transactions; the file does not grow. */
enum cap_error lmdb_foresee_room(struct lmdb_store *store, uint64_t bytes);

/* Monotonic time, where the system has it some milliseconds coarse and without a system call. */
uint64_t lmdb_now_us(void);

/*
 * Has zeros written behind the store's last page where few are left, and says so in the room: a
 * commit into pages that the file has already needs no write of the file system's own to be
 * synced. Done before anything is put, so that nothing of the transaction lies there yet. Where it
 * cannot be done the pages are written without it.
 */
void lmdb_write_ahead(struct lmdb_store *store, struct lmdb_room *room);

/* The operation space of engine.h. */
enum cap_error lmdb_space(struct cap_store *base, struct cap_space *ret_space);

/* A process other than ours that has a snapshot of the store open; 0: none. Any thread. */
uint64_t lmdb_foreign_reader(struct lmdb_store *store);

/* The operation clear_stale_readers of engine.h. */
enum cap_error lmdb_clear_stale_readers(struct cap_store *base);

/* --- lmdb/read.c ------------------------------------------------------------------------------ */

/* Each operation, and what env.c does with the gauge, loads from the map under a guard (guard.h).
 */

/* Opens read->cursor on a table. */
enum cap_error lmdb_cursor_open(struct lmdb_read *read, MDB_dbi table);

/* Ends an operation, guarded or not, that ended with `error`: closes read->cursor. */
enum cap_error lmdb_cursor_close(struct lmdb_read *read, enum cap_error error);

/* The operation read_begin of engine.h. */
enum cap_error lmdb_read_begin(struct cap_store *base, struct cap_read **ret_read);

/* The operation read_end of engine.h. */
void lmdb_read_end(struct cap_read *base);

/* Frees all idle reads. Under the lock, if anybody else may use the store. */
void lmdb_read_free_idle(struct lmdb_store *store);

/* The operation find of engine.h. */
enum cap_error lmdb_find(struct cap_read *base, const struct cap_hash *hash,
                         struct cap_info *ret_info);

/* The operation window of engine.h. */
enum cap_error lmdb_window(struct cap_read *base, const struct cap_hash *hash, uint64_t offset,
                           uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len);

/* The operation peek of engine.h. */
enum cap_error lmdb_peek(struct cap_read *base, const struct cap_hash *hash, uint64_t offset,
                         uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len);

/* The operation copy of engine.h. */
enum cap_error lmdb_copy(struct cap_read *base, const struct iovec *iov, int count, void *dst);

/* The operation facts of engine.h. */
enum cap_error lmdb_facts(struct cap_read *base, const struct cap_hash *hash, size_t max,
                          struct cap_fact *ret_facts, size_t *ret_count);

/* The operation page_roots of engine.h. */
enum cap_error lmdb_page_roots(struct cap_read *base, const struct cap_hash *hash, uint64_t first,
                               size_t count, struct cap_hash *ret_roots);

/* The operation nodes of engine.h. */
enum cap_error lmdb_nodes(struct cap_read *base, const struct cap_hash *hash, uint64_t first,
                          size_t count, struct cap_node *ret_nodes);

/* The operation list of engine.h. */
enum cap_error lmdb_list(struct cap_read *base, const struct cap_list_query *query,
                         struct cap_listed *ret_items, size_t *ret_count, struct cap_hash *ret_last,
                         bool *ret_more);

/* The operation refs of engine.h. */
enum cap_error lmdb_refs(struct cap_read *base, const struct cap_hash *hash,
                         enum cap_ref_direction direction, const struct cap_hash *after, size_t max,
                         struct cap_ref *ret_refs, size_t *ret_count, bool *ret_more);

/* The operation find_content of engine.h. */
enum cap_error lmdb_find_content(struct cap_read *base, const struct cap_hash *content_hash,
                                 struct cap_hash *ret_hash);

/* The operation counts of engine.h. */
enum cap_error lmdb_counts(struct cap_read *base, struct cap_counts *ret_counts);

/* --- lmdb/place.c -------------------------------------------------------------------------- */

/* The operation locate of engine.h. */
enum cap_error lmdb_locate(struct cap_read *base, const struct cap_hash *hash,
                           struct cap_info *ret_info, struct cap_place *ret_place);

/* The operation take of engine.h. */
enum cap_error lmdb_take(struct cap_read *base, const struct cap_hash *hash,
                         const struct cap_place *place, void *dst);

/* The operation load of engine.h. */
enum cap_error lmdb_load(struct cap_store *base, const struct cap_place *place, void *dst);

/* --- lmdb/stage.c --------------------------------------------------------------------------- */

/* How many bytes each chunk of a stream has, but for the last. */
static inline uint32_t lmdb_chunk_size(enum store_stream stream)
{
    static const uint32_t sizes[STORE_STREAMS] = {LMDB_BODY_CHUNK, LMDB_ROOTS_CHUNK,
                                                  LMDB_NODES_CHUNK};
    return sizes[stream];
}

/* Where a chunk lies in its stream. */
struct lmdb_chunk {
    uint32_t number; /* in its key */
    uint64_t from;
    size_t len;
};

/* How long the first chunk of a stream's last `len` bytes is, which are at most lmdb_chunk_size:
 * all of them, but for a rest. */
static inline size_t lmdb_chunk_head(size_t len)
{
    size_t rest = (len + LMDB_FRAME) % LMDB_PAGE;
    return len + LMDB_FRAME > LMDB_PAGE && rest <= LMDB_REST ? len - rest : len;
}

/* The chunk with byte `at`, which is there, of a stream of `total` bytes. */
static inline struct lmdb_chunk lmdb_chunk_at(enum store_stream stream, uint64_t total, uint64_t at)
{
    uint32_t size = lmdb_chunk_size(stream);
    uint64_t index = at / size;
    struct lmdb_chunk chunk = {(uint32_t)index, index * size, size};
    if (total - chunk.from < size) {
        size_t len = (size_t)(total - chunk.from);
        chunk.len = lmdb_chunk_head(len);
        if (at - chunk.from >= chunk.len) {
            chunk = (struct lmdb_chunk){chunk.number + 1, chunk.from + chunk.len, len - chunk.len};
        }
    }
    return chunk;
}

/* How many bytes a stream of a cap has. */
static inline uint64_t lmdb_stream_len(const struct cap_info *info, enum store_stream stream)
{
    const uint64_t lens[STORE_STREAMS] = {
        info->body_len,
        cap_info_root_count(info) * CAP_HASH_SIZE,
        cap_node_total(&info->node_counts) * sizeof(struct cap_node),
    };
    return lens[stream];
}

/*
 * A run of one stream of bulk: bytes [from, to) of `source`, `from` at the start of a chunk, `to`
 * at a multiple of lmdb_chunk_size or at the stream's end.
 */
struct lmdb_bulk {
    uint64_t body;
    enum store_stream stream;
    const struct cap_source *source;
    uint64_t from;
    uint64_t to;
};

/* Writes it chunk by chunk, straight into LMDB's pages. */
enum cap_error lmdb_put_bulk(const struct lmdb_store *store, MDB_txn *txn,
                             const struct lmdb_bulk *bulk);

/* The stage of this life with that id, or NULL. */
struct lmdb_stage *lmdb_stage_of(const struct lmdb_store *store, uint64_t body);

/* Takes a stage off the list of the living and frees it. */
void lmdb_stage_forget(struct lmdb_store *store, struct lmdb_stage *stage);

/* Deletes at most `max` chunks of a body in a write transaction; *ret_done when none is left. */
enum cap_error lmdb_drop_bulk(const struct lmdb_store *store, MDB_txn *txn, uint64_t body,
                              size_t max, bool *ret_done);

/* Lists bulk that no cap names any more as dead, in the transaction store->write. */
enum cap_error lmdb_bury_bulk(struct lmdb_store *store, uint64_t body);

/* The operation stage_begin of engine.h. */
enum cap_error lmdb_stage_begin(struct cap_store *base, uint64_t body_len, uint64_t *ret_stage);

/* The operation stage_step of engine.h. */
enum cap_error lmdb_stage_step(struct cap_store *base, struct cap_staging *stagings, size_t count);

/* The operation stage_drop of engine.h. */
void lmdb_stage_drop(struct cap_store *base, uint64_t id);

/* The operation sweep of engine.h. */
enum cap_error lmdb_sweep(struct cap_store *base, uint64_t now_us, bool *ret_more);

/* --- lmdb/write.c --------------------------------------------------------------------------- */

/*
 * Begins the transaction store->write. What changes the caps sets write.changed; the commit then
 * writes the state and what due.c and owners.c have gathered.
 */
enum cap_error lmdb_write_begin(struct lmdb_store *store);

/* Commits after CAP_OK, and otherwise aborts and returns the error. It is over in any case. */
enum cap_error lmdb_write_end(struct lmdb_store *store, enum cap_error error);

/* CAP_OK if the transaction has room for `bytes` more; CAP_E_MAP_FULL, CAP_E_DISK_FULL. */
enum cap_error lmdb_write_room(struct lmdb_store *store, uint64_t bytes);

/* The operation admit of engine.h. */
void lmdb_admit(struct cap_store *base, struct cap_admission *const *admissions, size_t count,
                const struct cap_admit_watch *watch);

/* --- lmdb/backup.c -------------------------------------------------------------------------- */

/*
 * Copies a snapshot of the store to DIR/LMDB_TEMP_NAME, synced; LMDB's lock file of it is left too.
 * `dir_fd` is DIR. On an error neither is left.
 */
enum cap_error lmdb_copy_to(struct lmdb_store *store, const char *dir, int dir_fd,
                            struct cap_copy *copy);

/* The operation backup of engine.h. */
enum cap_error lmdb_backup(struct cap_store *base, const char *dir, struct cap_copy *copy);

/* --- lmdb/compact.c ------------------------------------------------------------------------- */

/* The operation compact of engine.h. */
enum cap_error lmdb_compact(struct cap_store *base, struct cap_copy *copy);

/* The operation let_go of engine.h. */
bool lmdb_let_go(struct cap_store *base);

/* --- lmdb/quarantine.c ---------------------------------------------------------------------- */

/* A fact of a cap. lmdb_fact_put keeps the time of one that is there. */
enum cap_error lmdb_fact_get(const struct lmdb_store *store, MDB_txn *txn,
                             const struct cap_hash *hash, enum cap_fact_kind kind,
                             struct cap_bytes *ret_value);
enum cap_error lmdb_fact_put(const struct lmdb_store *store, MDB_txn *txn,
                             const struct cap_hash *hash, enum cap_fact_kind kind, uint64_t now_us);
enum cap_error lmdb_fact_delete(const struct lmdb_store *store, MDB_txn *txn,
                                const struct cap_hash *hash, enum cap_fact_kind kind);

/*
 * A cap was found damaged: remembers it until the writer quarantines it, of a few at a time, and
 * tells the watch. Always CAP_E_QUARANTINED, what the finder is told. Any thread.
 */
enum cap_error lmdb_damaged(struct lmdb_store *store, const struct cap_hash *hash);

/* What was noted is written down, or the cap was healed or removed. */
void lmdb_forget_noted(struct lmdb_store *store, const struct cap_hash *hash);

/*
 * The record of a cap that may be served. CAP_E_NOT_FOUND; CAP_E_FORBIDDEN_CAP: that, and it is
 * forbidden; CAP_E_QUARANTINED: *ret_cap is there, but zero if it cannot be read.
 */
enum cap_error lmdb_find_served(struct lmdb_store *store, MDB_txn *txn, const struct cap_hash *hash,
                                struct store_cap *ret_cap);

/* Quarantine a cap, or release it, in the transaction store->write. CAP_E_NOT_FOUND. */
enum cap_error lmdb_quarantine_in(struct lmdb_store *store, const struct cap_hash *hash,
                                  uint64_t now_us);
enum cap_error lmdb_release_in(struct lmdb_store *store, const struct cap_hash *hash);

/* Quarantines what reads have found damaged. */
enum cap_error lmdb_quarantine_noted(struct lmdb_store *store, uint64_t now_us);

/* Gives a cap that is quarantined the body of `put`, whose bulk is written. */
enum cap_error lmdb_heal_in(struct lmdb_store *store, const struct cap_put *put, uint64_t body);

/* What the transaction store->write healed is healed: it is committed. */
void lmdb_healed(struct lmdb_store *store);

/* The operation broken of engine.h. */
enum cap_error lmdb_broken(struct cap_read *base, const struct cap_hash *after, size_t max,
                           struct cap_broken *ret_broken, size_t *ret_count, bool *ret_more);

/* The operation quarantine of engine.h. */
enum cap_error lmdb_quarantine(struct cap_store *base, const struct cap_hash *hash);

/* --- lmdb/forbid.c -------------------------------------------------------------------------- */

/* The operations of these names of engine.h. */
enum cap_error lmdb_forbidden(struct cap_read *base, const struct cap_hash *hash,
                              struct cap_forbidden *ret_forbidden);
enum cap_error lmdb_forbid(struct cap_store *base, const struct cap_hash *hash,
                           const struct cap_forbidden *forbidden);
enum cap_error lmdb_allow(struct cap_store *base, const struct cap_hash *hash);

/* --- lmdb/scrub.c --------------------------------------------------------------------------- */

/* The operations of these names of engine.h. */
enum cap_error lmdb_scrub(struct cap_store *base, bool repair, const struct cap_scrub_watch *watch,
                          struct cap_check_outcome *ret_outcome);
enum cap_error lmdb_scrub_state(struct cap_read *base, struct cap_scrub_state *ret_state);

/* --- lmdb/open.c ---------------------------------------------------------------------------- */

#define LMDB_FILE_NAME "store.lmdb"
#define LMDB_LOCK_NAME "store.lmdb-lock"
#define LMDB_TEMP_NAME "store.lmdb.new" /* what is made anew: a leftover of it is removed */
#define LMDB_TEMP_LOCK "store.lmdb.new-lock"
#define LMDB_GAP_MAX   4096u /* pages that a sound file may lack at its end; see fill_gap */

/* The name of a table in the file, which messages use, too. Static. */
const char *lmdb_table_name(enum lmdb_table table);

/* Opens the handles of all tables; MDB_CREATE in `flags` makes them. CAP_E_CORRUPT: one is missing.
 */
enum cap_error lmdb_open_tables(struct lmdb_store *store, MDB_txn *txn, unsigned flags);

/* Opens LMDB_META and reads the format record. CAP_E_CORRUPT, CAP_E_STORE_VERSION. */
enum cap_error lmdb_load_format(struct lmdb_store *store, MDB_txn *txn,
                                uint8_t ret_id[CAP_STORE_ID_SIZE]);

/* DIR/NAME. CAP_E_INVALID_ARGUMENT: it is too long. */
enum cap_error lmdb_path(const char *dir, const char *name, char ret_path[PATH_MAX]);

/* Opens an environment as all of ours are opened; mdb_env_close closes it. `dir` is any fd on its
 * file system. CAP_E_NO_MEMORY: the address space is limited. */
enum cap_error lmdb_open_env(int dir, const char *path, uint64_t map_bytes, uint32_t max_readers,
                             MDB_env **ret_env);

/*
 * Reads in a store that has an environment and nothing else: descriptor, page size, tables, id and
 * next body, and where it is mapped. A file that is shorter than it says is CAP_E_CORRUPT. The
 * caller closes `fd` after the environment.
 */
enum cap_error lmdb_load_env(struct lmdb_store *store);

/* A read transaction of our own for figures, in store->gauge. */
enum cap_error lmdb_open_gauge(struct lmdb_store *store);

/* Syncs all of a file, its length included; LMDB's commit syncs its data only. */
enum cap_error lmdb_sync_file(int dir, const char *name);

/* Syncs a directory, or does nothing where the file system cannot: *ret_unsynced (may be NULL) is
 * set. */
enum cap_error lmdb_sync_dir(int dir, bool *ret_unsynced);

/* Removes a file; fine if it is not there. */
enum cap_error lmdb_remove_file(int dir, const char *name);

/* Whether a statfs f_type is of a file system over a network, where LMDB's locks do not hold. */
bool lmdb_is_network(long type);

#endif
