/*
 * Reading from LMDB: snapshots, records, windows of bodies.
 *
 * A read transaction is costly to make and cheap to renew, so ended ones are reset and kept, up to
 * a bound. Windows point into the map: no byte is copied. A chunk that is absent, of another length
 * than the cap's record says, or not what its seal says is damage: its cap is quarantined, and the
 * finder told so. CAP_E_CORRUPT is left for what is nobody's body, such as an index.
 *
 * Whatever loads from the map runs under a guard (guard.h), in a function of its own that keeps
 * what has to be released, a cursor, in the read: so a jump out of it loses nothing.
 */
#include <stdlib.h>

#include "lib/store/lmdb/lmdb.h"

static struct lmdb_store *store_of(const struct lmdb_read *read)
{
    return lmdb_of(read->base.store);
}

static struct lmdb_read *read_of(struct cap_read *base)
{
    return STORE_CONTAINER_OF(base, struct lmdb_read, base);
}

/* --- Snapshots -------------------------------------------------------------------------------- */

/* Frees an idle read and its reader slot. */
static void free_read(struct lmdb_read *read)
{
    if (read->txn != NULL) {
        mdb_txn_abort(read->txn);
    }
    free(read);
}

void lmdb_read_free_idle(struct lmdb_store *store)
{
    while (!TAILQ_EMPTY(&store->idle)) {
        struct lmdb_read *read = TAILQ_FIRST(&store->idle);
        TAILQ_REMOVE(&store->idle, read, link);
        free_read(read);
    }
    store->idle_count = 0;
}

/* Among the open reads, as the newest. Under the lock. */
static void list_open(struct lmdb_store *store, struct lmdb_read *read)
{
    read->env = store->env;
    read->map_from = atomic_load(&store->map.from);
    read->since_us = lmdb_now_us();
    TAILQ_INSERT_TAIL(&store->open, read, link);
}

/* Counts one more open read, and lists an idle one as open if there is one. */
static enum cap_error take_slot(struct lmdb_store *store, struct lmdb_read **ret_idle)
{
    enum cap_error error = CAP_E_READERS_FULL;
    pthread_mutex_lock(&store->lock);
    if (store->open_count < store->max_readers) {
        struct lmdb_read *idle = TAILQ_FIRST(&store->idle);
        store->open_count++;
        if (idle != NULL) {
            TAILQ_REMOVE(&store->idle, idle, link);
            store->idle_count--;
            list_open(store, idle);
        }
        *ret_idle = idle;
        error = CAP_OK;
    }
    pthread_mutex_unlock(&store->lock);
    return error;
}

/*
 * The slot of a read that did not begin; NULL: there was no memory for it. Frees it under the lock:
 * when no read of a file is listed, the file may be closed.
 */
static void release_slot(struct lmdb_store *store, struct lmdb_read *read)
{
    pthread_mutex_lock(&store->lock);
    store->open_count--;
    if (read != NULL) {
        TAILQ_REMOVE(&store->open, read, link);
        free_read(read);
    }
    pthread_mutex_unlock(&store->lock);
}

/* A reader of our own beside the idle ones; readers that died in other processes are cleared once.
 */
static int begin_txn(struct lmdb_read *read)
{
    int dead;
    int rc = mdb_txn_begin(read->env, NULL, MDB_RDONLY, &read->txn);
    if (rc != MDB_READERS_FULL) {
        return rc;
    }
    rc = mdb_reader_check(read->env, &dead);
    return rc != 0 ? rc : mdb_txn_begin(read->env, NULL, MDB_RDONLY, &read->txn);
}

/*
 * Starts the snapshot, anew in a read that was kept. A new transaction is LMDB's until it has read
 * a meta page, and would be lost with its slot if that failed: so both are tried first.
 */
static enum cap_error start(struct lmdb_store *store, struct lmdb_read *read)
{
    if (read->txn != NULL) {
        return lmdb_error(store->fd, mdb_txn_renew(read->txn));
    }
    for (uintptr_t page = 0; read->map_from != 0 && page < 2; page++) {
        (void)*(const volatile uint8_t *)(read->map_from + page * (uintptr_t)store->page_size);
    }
    return lmdb_error(store->fd, begin_txn(read));
}

/* On its own, since what LMDB_GUARDED jumps past must not live in registers. */
static enum cap_error guarded_start(struct lmdb_store *store, struct lmdb_read *read)
{
    enum cap_error error;
    LMDB_GUARDED(&store->map, error, start(store, read));
    return error;
}

enum cap_error lmdb_read_begin(struct cap_store *base, struct cap_read **ret_read)
{
    struct lmdb_store *store = lmdb_of(base);
    struct lmdb_read *read;
    enum cap_error error = take_slot(store, &read);
    if (error != CAP_OK) {
        return error;
    }
    if (read == NULL) {
        read = calloc(1, sizeof(*read));
        if (read == NULL) {
            release_slot(store, NULL);
            return CAP_E_NO_MEMORY;
        }
        read->base.store = base;
        pthread_mutex_lock(&store->lock);
        list_open(store, read);
        pthread_mutex_unlock(&store->lock);
    }
    error = guarded_start(store, read);
    if (error != CAP_OK) {
        release_slot(store, read);
        return error;
    }
    *ret_read = &read->base;
    return CAP_OK;
}

void lmdb_read_end(struct cap_read *base)
{
    struct lmdb_read *read = read_of(base);
    struct lmdb_store *store = store_of(read);
    mdb_txn_reset(read->txn);
    pthread_mutex_lock(&store->lock);
    store->open_count--;
    TAILQ_REMOVE(&store->open, read, link);
    if (!read->failed && read->env == store->env && store->idle_count < LMDB_IDLE_READS) {
        TAILQ_INSERT_HEAD(&store->idle, read, link);
        store->idle_count++;
    } else {
        free_read(read);
    }
    pthread_mutex_unlock(&store->lock);
}

/* --- Operations ------------------------------------------------------------------------------- */

enum cap_error lmdb_cursor_open(struct lmdb_read *read, MDB_dbi table)
{
    /* Reads the table's root, which mdb_cursor_open would do with the cursor in its hands. */
    MDB_stat stat;
    int rc = mdb_stat(read->txn, table, &stat);
    if (rc == 0) {
        rc = mdb_cursor_open(read->txn, table, &read->cursor);
    }
    return lmdb_error(store_of(read)->fd, rc);
}

enum cap_error lmdb_cursor_close(struct lmdb_read *read, enum cap_error error)
{
    if (read->cursor != NULL) {
        mdb_cursor_close(read->cursor);
        read->cursor = NULL;
    }
    read->failed = read->failed || error == CAP_E_IO;
    return error;
}

/* --- Records ---------------------------------------------------------------------------------- */

static enum cap_error find(struct lmdb_read *read, const struct cap_hash *hash,
                           struct cap_info *ret_info)
{
    struct store_cap cap;
    enum cap_error error = lmdb_find_served(store_of(read), read->txn, hash, &cap);
    if (error == CAP_OK || error == CAP_E_QUARANTINED) {
        *ret_info = cap.info;
    }
    return error;
}

enum cap_error lmdb_find(struct cap_read *base, const struct cap_hash *hash,
                         struct cap_info *ret_info)
{
    struct lmdb_read *read = read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error, find(read, hash, ret_info));
    return lmdb_cursor_close(read, error);
}

static enum cap_error find_content(struct lmdb_read *read, const struct cap_hash *content_hash,
                                   struct cap_hash *ret_hash)
{
    struct cap_bytes key = {content_hash->bytes, CAP_HASH_SIZE};
    struct cap_bytes value;
    enum cap_error error = lmdb_get(store_of(read), read->txn, LMDB_CONTENTS, key, &value);
    if (error != CAP_OK || value.len != CAP_HASH_SIZE) {
        return error != CAP_OK ? error : CAP_E_CORRUPT;
    }
    struct store_cap cap;
    memcpy(ret_hash->bytes, value.data, CAP_HASH_SIZE);
    return lmdb_find_cap(store_of(read), read->txn, ret_hash, &cap); /* it may be removed by now */
}

enum cap_error lmdb_find_content(struct cap_read *base, const struct cap_hash *content_hash,
                                 struct cap_hash *ret_hash)
{
    struct lmdb_read *read = read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error, find_content(read, content_hash, ret_hash));
    return lmdb_cursor_close(read, error);
}

static enum cap_error counts(struct lmdb_read *read, struct cap_counts *ret_counts)
{
    struct store_state state;
    enum cap_error error = lmdb_state_get(store_of(read), read->txn, &state);
    if (error == CAP_OK) {
        *ret_counts = state.counts;
    }
    return error;
}

enum cap_error lmdb_counts(struct cap_read *base, struct cap_counts *ret_counts)
{
    struct lmdb_read *read = read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error, counts(read, ret_counts));
    return lmdb_cursor_close(read, error);
}

/* --- Bulk ------------------------------------------------------------------------------------- */

/* A walk over the chunks of one stream; `len` is the stream's whole length. */
struct chunks {
    struct lmdb_read *read;
    uint64_t body;
    enum store_stream stream;
    bool peeking; /* touches no byte that the index has not led through: the seals are not looked at
                   */
    uint64_t len;
    bool moving; /* the cursor stands on the chunk before */
};

static enum cap_error chunks_open(struct lmdb_read *read, struct chunks *chunks)
{
    chunks->read = read;
    return lmdb_cursor_open(read, store_of(read)->tables[LMDB_BULK]);
}

/* What the chunk with byte `at` has from there on; the next call is for the chunk after it. */
static enum cap_error chunks_get(struct chunks *chunks, uint64_t at, struct cap_bytes *ret_bytes)
{
    const struct lmdb_chunk chunk = lmdb_chunk_at(chunks->stream, chunks->len, at);
    uint8_t wanted[STORE_CHUNK_KEY];
    MDB_val key = {sizeof(wanted), wanted};
    MDB_val value;
    store_chunk_key(chunks->body, chunks->stream, chunk.number, wanted);
    int rc =
        mdb_cursor_get(chunks->read->cursor, &key, &value, chunks->moving ? MDB_NEXT : MDB_SET);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? CAP_E_CORRUPT : lmdb_error(store_of(chunks->read)->fd, rc);
    }
    if (key.mv_size != sizeof(wanted) || memcmp(key.mv_data, wanted, sizeof(wanted)) != 0 ||
        value.mv_size != chunk.len + STORE_SEAL_SIZE) {
        return CAP_E_CORRUPT;
    }
    chunks->moving = true;
    struct cap_bytes bytes = {value.mv_data, chunk.len};
    struct cap_bytes sealed = {value.mv_data, value.mv_size};
    uint64_t seed = store_seed((struct cap_bytes){wanted, sizeof(wanted)});
    if (!chunks->peeking && !store_unseal(seed, sealed, &bytes)) {
        return CAP_E_CORRUPT;
    }
    size_t skip = (size_t)(at - chunk.from);
    *ret_bytes = (struct cap_bytes){bytes.data + skip, bytes.len - skip};
    return CAP_OK;
}

/* Points the spans at `len` bytes from `offset`, which lie within the body. */
static enum cap_error fill_spans(struct chunks *chunks, uint64_t offset, uint64_t len,
                                 struct iovec *ret_iov, int *ret_count)
{
    int count = 0;
    while (len > 0) {
        struct cap_bytes bytes;
        enum cap_error error = chunks_get(chunks, offset, &bytes);
        if (error != CAP_OK) {
            return error;
        }
        size_t take = bytes.len < len ? bytes.len : (size_t)len;
        memcpy(&ret_iov[count].iov_base, &bytes.data, sizeof(void *));
        ret_iov[count++].iov_len = take;
        offset += take;
        len -= take;
    }
    *ret_count = count;
    return CAP_OK;
}

static enum cap_error window(struct lmdb_read *read, struct chunks *chunks,
                             const struct cap_hash *hash, uint64_t offset, uint64_t len,
                             struct iovec *ret_iov, int *ret_count, size_t *ret_len)
{
    struct store_cap cap;
    enum cap_error error = lmdb_find_served(store_of(read), read->txn, hash, &cap);
    if (error != CAP_OK) {
        return error;
    }
    if (offset > cap.info.body_len) {
        return CAP_E_RANGE_OUT_OF_BODY;
    }
    if (len > cap.info.body_len - offset) {
        len = cap.info.body_len - offset;
    }
    error = chunks_open(read, chunks);
    if (error != CAP_OK) {
        return error;
    }
    chunks->body = cap.body;
    chunks->len = cap.info.body_len;
    error = fill_spans(chunks, offset, len, ret_iov, ret_count);
    if (error == CAP_E_CORRUPT) {
        error = lmdb_damaged(store_of(read), hash);
    }
    *ret_len = (size_t)len;
    return error;
}

enum cap_error lmdb_window(struct cap_read *base, const struct cap_hash *hash, uint64_t offset,
                           uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len)
{
    struct lmdb_read *read = read_of(base);
    struct chunks chunks = {.stream = STORE_STREAM_BODY};
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error,
                 window(read, &chunks, hash, offset, len, ret_iov, ret_count, ret_len));
    return lmdb_cursor_close(read, error);
}

enum cap_error lmdb_peek(struct cap_read *base, const struct cap_hash *hash, uint64_t offset,
                         uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len)
{
    struct lmdb_read *read = read_of(base);
    struct chunks chunks = {.stream = STORE_STREAM_BODY, .peeking = true};
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error,
                 window(read, &chunks, hash, offset, len, ret_iov, ret_count, ret_len));
    return lmdb_cursor_close(read, error);
}

static enum cap_error copy(const struct iovec *iov, int count, void *dst)
{
    store_copy_spans(iov, count, dst);
    return CAP_OK;
}

enum cap_error lmdb_copy(struct cap_read *base, const struct iovec *iov, int count, void *dst)
{
    struct lmdb_read *read = read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error, copy(iov, count, dst));
    return lmdb_cursor_close(read, error);
}

/* --- Entries of streams ----------------------------------------------------------------------- */

static enum cap_error copy_bulk(struct chunks *chunks, uint64_t offset, uint8_t *dst, size_t len)
{
    while (len > 0) {
        struct cap_bytes bytes;
        enum cap_error error = chunks_get(chunks, offset, &bytes);
        if (error != CAP_OK) {
            return error;
        }
        size_t take = bytes.len < len ? bytes.len : len;
        memcpy(dst, bytes.data, take);
        dst += take;
        offset += take;
        len -= take;
    }
    return CAP_OK;
}

/* Copies entries [first, first + count), of `size` bytes each, of a stream. */
static enum cap_error copy_entries(struct lmdb_read *read, const struct cap_hash *hash,
                                   enum store_stream stream, size_t size, uint64_t first,
                                   size_t count, void *ret_entries)
{
    struct chunks chunks = {.stream = stream};
    struct store_cap cap;
    enum cap_error error = lmdb_find_served(store_of(read), read->txn, hash, &cap);
    if (error != CAP_OK) {
        return error;
    }
    uint64_t entries = lmdb_stream_len(&cap.info, stream) / size;
    if (first > entries || count > entries - first) {
        return CAP_E_RANGE_OUT_OF_BODY;
    }
    error = chunks_open(read, &chunks);
    if (error != CAP_OK) {
        return error;
    }
    chunks.body = cap.body;
    chunks.len = entries * size;
    error = copy_bulk(&chunks, first * size, ret_entries, count * size);
    if (error == CAP_E_CORRUPT) {
        error = lmdb_damaged(store_of(read), hash);
    }
    return error;
}

enum cap_error lmdb_page_roots(struct cap_read *base, const struct cap_hash *hash, uint64_t first,
                               size_t count, struct cap_hash *ret_roots)
{
    struct lmdb_read *read = read_of(base);
    enum cap_error error;
    LMDB_GUARDED(
        &store_of(read)->map, error,
        copy_entries(read, hash, STORE_STREAM_ROOTS, sizeof(*ret_roots), first, count, ret_roots));
    return lmdb_cursor_close(read, error);
}

enum cap_error lmdb_nodes(struct cap_read *base, const struct cap_hash *hash, uint64_t first,
                          size_t count, struct cap_node *ret_nodes)
{
    struct lmdb_read *read = read_of(base);
    enum cap_error error;
    LMDB_GUARDED(
        &store_of(read)->map, error,
        copy_entries(read, hash, STORE_STREAM_NODES, sizeof(*ret_nodes), first, count, ret_nodes));
    return lmdb_cursor_close(read, error);
}

/* --- Facts ------------------------------------------------------------------------------------ */

static enum cap_error facts(struct lmdb_read *read, const struct cap_hash *hash, size_t max,
                            struct cap_fact *ret_facts, size_t *ret_count)
{
    struct lmdb_store *store = store_of(read);
    uint8_t start[STORE_FACT_KEY] = {0};
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    memcpy(start, hash->bytes, CAP_HASH_SIZE);
    enum cap_error error = lmdb_cursor_open(read, store->tables[LMDB_FACTS]);
    if (error != CAP_OK) {
        return error;
    }
    int rc;
    *ret_count = 0;
    for (rc = mdb_cursor_get(read->cursor, &key, &value, MDB_SET_RANGE);
         rc == 0 && error == CAP_OK && *ret_count < max;
         rc = mdb_cursor_get(read->cursor, &key, &value, MDB_NEXT)) {
        struct cap_bytes bytes;
        const uint8_t *name = key.mv_data;
        if (key.mv_size < CAP_HASH_SIZE || memcmp(name, hash->bytes, CAP_HASH_SIZE) != 0) {
            break;
        }
        if (key.mv_size != STORE_FACT_KEY || !lmdb_unseal(&key, &value, &bytes)) {
            error = CAP_E_CORRUPT;
        } else if (name[CAP_HASH_SIZE] >= CAP_FACT_DAMAGED &&
                   name[CAP_HASH_SIZE] <= CAP_FACT_LOST && bytes.len >= STORE_FACT_SIZE) {
            ret_facts[(*ret_count)++] =
                (struct cap_fact){(enum cap_fact_kind)name[CAP_HASH_SIZE], cap_load64(bytes.data)};
        }
    }
    return rc == 0 || rc == MDB_NOTFOUND ? error : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_facts(struct cap_read *base, const struct cap_hash *hash, size_t max,
                          struct cap_fact *ret_facts, size_t *ret_count)
{
    struct lmdb_read *read = read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error, facts(read, hash, max, ret_facts, ret_count));
    return lmdb_cursor_close(read, error);
}

/* --- Walks ------------------------------------------------------------------------------------ */

/* Offers caps from the start of the query on until the listing has enough. */
static enum cap_error list(struct lmdb_read *read, struct store_scan *scan)
{
    const struct lmdb_store *store = store_of(read);
    struct cap_hash start = store_scan_start(scan->query);
    MDB_val key = {CAP_HASH_SIZE, start.bytes};
    MDB_val value;
    enum cap_error error = lmdb_cursor_open(read, store->tables[LMDB_CAPS]);
    if (error != CAP_OK) {
        return error;
    }
    int rc;
    for (rc = mdb_cursor_get(read->cursor, &key, &value, MDB_SET_RANGE); rc == 0;
         rc = mdb_cursor_get(read->cursor, &key, &value, MDB_NEXT)) {
        struct cap_hash hash;
        struct store_cap cap;
        if (key.mv_size != CAP_HASH_SIZE) {
            return CAP_E_CORRUPT;
        }
        memcpy(hash.bytes, key.mv_data, CAP_HASH_SIZE);
        struct cap_bytes bytes;
        error = lmdb_unseal(&key, &value, &bytes) ? store_cap_decode(bytes, &cap) : CAP_E_CORRUPT;
        if (error != CAP_OK) {
            return error;
        }
        if (!store_scan_offer(scan, &hash, &cap.info)) {
            return CAP_OK;
        }
    }
    return rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_list(struct cap_read *base, const struct cap_list_query *query,
                         struct cap_listed *ret_items, size_t *ret_count, struct cap_hash *ret_last,
                         bool *ret_more)
{
    struct lmdb_read *read = read_of(base);
    struct store_scan scan = {.query = query, .items = ret_items};
    enum cap_error error;
    scan.last = store_scan_start(query);
    LMDB_GUARDED(&store_of(read)->map, error, list(read, &scan));
    (void)lmdb_cursor_close(read, error);
    if (error != CAP_OK) {
        return error;
    }
    *ret_count = scan.count;
    *ret_last = scan.last;
    *ret_more = scan.more;
    return CAP_OK;
}

/* Up to `max` references of `hash`; pairs begin with the hash and end with the other. */
struct ref_walk {
    const struct cap_hash *hash;
    const struct cap_hash *after;
    bool incoming;
    bool corpses; /* there may be references of caps that are removed */
    size_t max;
    struct cap_ref *refs;
    size_t count;
    bool more;
};

/* Whether the cap that a reference comes from is there. */
static enum cap_error has_source(const struct lmdb_read *read, const struct cap_hash *source,
                                 bool *ret_has)
{
    struct store_cap cap;
    enum cap_error error = lmdb_find_cap(store_of(read), read->txn, source, &cap);
    *ret_has = error == CAP_OK;
    return error == CAP_E_NOT_FOUND ? CAP_OK : error;
}

static enum cap_error take_ref(struct lmdb_read *read, struct ref_walk *walk, const MDB_val *key,
                               const MDB_val *value)
{
    struct cap_ref ref;
    struct cap_bytes tables;
    if (key->mv_size != STORE_PAIR_KEY || !lmdb_unseal(key, value, &tables) || tables.len != 1) {
        return CAP_E_CORRUPT;
    }
    memcpy(ref.hash.bytes, (const uint8_t *)key->mv_data + CAP_HASH_SIZE, CAP_HASH_SIZE);
    ref.tables = tables.data[0];
    if (walk->after != NULL && cap_hash_equal(&ref.hash, walk->after)) {
        return CAP_OK;
    }
    bool counts = true;
    if (walk->corpses) {
        enum cap_error error = has_source(read, walk->incoming ? &ref.hash : walk->hash, &counts);
        if (error != CAP_OK) {
            return error;
        }
    }
    if (!counts) {
        return CAP_OK;
    }
    if (walk->count == walk->max) {
        walk->more = true;
    } else {
        walk->refs[walk->count++] = ref;
    }
    return CAP_OK;
}

static enum cap_error walk_refs(struct lmdb_read *read, MDB_dbi table, struct ref_walk *walk)
{
    uint8_t start[STORE_PAIR_KEY] = {0};
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    MDB_stat stages;
    enum cap_error error = lmdb_cursor_open(read, table);
    if (error != CAP_OK) {
        return error;
    }
    int rc = mdb_stat(read->txn, store_of(read)->tables[LMDB_STAGES], &stages);
    if (rc != 0) {
        return lmdb_error(store_of(read)->fd, rc);
    }
    walk->corpses = stages.ms_entries > 0;
    memcpy(start, walk->hash->bytes, CAP_HASH_SIZE);
    if (walk->after != NULL) {
        memcpy(start + CAP_HASH_SIZE, walk->after->bytes, CAP_HASH_SIZE);
    }
    for (rc = mdb_cursor_get(read->cursor, &key, &value, MDB_SET_RANGE); rc == 0 && !walk->more;
         rc = mdb_cursor_get(read->cursor, &key, &value, MDB_NEXT)) {
        if (key.mv_size < CAP_HASH_SIZE || memcmp(key.mv_data, start, CAP_HASH_SIZE) != 0) {
            return CAP_OK;
        }
        error = take_ref(read, walk, &key, &value);
        if (error != CAP_OK) {
            return error;
        }
    }
    return rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store_of(read)->fd, rc);
}

enum cap_error lmdb_refs(struct cap_read *base, const struct cap_hash *hash,
                         enum cap_ref_direction direction, const struct cap_hash *after, size_t max,
                         struct cap_ref *ret_refs, size_t *ret_count, bool *ret_more)
{
    struct lmdb_read *read = read_of(base);
    struct lmdb_store *store = store_of(read);
    struct ref_walk walk = {.hash = hash,
                            .after = after,
                            .incoming = direction == CAP_REFS_IN,
                            .max = max,
                            .refs = ret_refs};
    MDB_dbi table = store->tables[direction == CAP_REFS_OUT ? LMDB_REFS : LMDB_REVS];
    enum cap_error error;
    LMDB_GUARDED(&store->map, error, walk_refs(read, table, &walk));
    (void)lmdb_cursor_close(read, error);
    if (error != CAP_OK) {
        return error;
    }
    *ret_count = walk.count;
    *ret_more = walk.more;
    return CAP_OK;
}
