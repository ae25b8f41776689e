/*
 * Removing a cap: of its own accord, or by collection.
 *
 * In one transaction its record goes, what leads to it, and what it counts for; so it is gone. Of a
 * small cap the bulk and the references go with it, of a larger one a corpse stays (corpses.c).
 * What refers to a cap stays: then its absence is a fact of it, until it is put again.
 */
#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

#define SMALL_CHUNKS 16u
#define SMALL_REFS   64u

/* --- What is remembered ----------------------------------------------------------------------- */

/* The number that the next removal gets, from 1 on. */
static enum cap_error load_next(struct lmdb_store *store)
{
    struct lmdb_write *write = &store->write;
    MDB_cursor *cursor;
    MDB_val key, value;
    if (write->next_removed != 0) {
        return CAP_OK;
    }
    int rc = mdb_cursor_open(write->txn, store->tables[LMDB_REMOVED], &cursor);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    mdb_cursor_close(cursor);
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return lmdb_error(store->fd, rc);
    }
    if (rc == 0 && key.mv_size != STORE_SEQUENCE_KEY) {
        return CAP_E_CORRUPT;
    }
    write->next_removed = rc == 0 ? store_sequence_key_load(key.mv_data) + 1 : 1;
    return CAP_OK;
}

/* Remembers a removal, in the place of the oldest one. */
static enum cap_error put_removed(struct lmdb_store *store, const struct cap_hash *hash,
                                  enum cap_gone_cause cause, uint32_t uid)
{
    struct lmdb_write *write = &store->write;
    const struct cap_removed removed = {store_wall_us(), cause, uid};
    uint8_t key[STORE_SEQUENCE_KEY];
    uint8_t value[STORE_REMOVED_SIZE];
    enum cap_error error = load_next(store);
    if (error != CAP_OK) {
        return error;
    }
    uint64_t sequence = write->next_removed++;
    store_removed_encode(hash, &removed, value);
    store_sequence_key(sequence, key);
    error = lmdb_append(store, write->txn, LMDB_REMOVED, (struct cap_bytes){key, sizeof(key)},
                        (struct cap_bytes){value, sizeof(value)});
    if (error != CAP_OK || sequence <= CAP_STORE_REMOVED) {
        return error;
    }
    store_sequence_key(sequence - CAP_STORE_REMOVED, key);
    return lmdb_delete(store, write->txn, LMDB_REMOVED, (struct cap_bytes){key, sizeof(key)});
}

static enum cap_error removed(struct lmdb_read *read, const struct cap_hash *hash,
                              struct cap_removed *ret_removed)
{
    const struct lmdb_store *store = lmdb_of(read->base.store);
    MDB_val key, value;
    enum cap_error error = lmdb_cursor_open(read, store->tables[LMDB_REMOVED]);
    if (error != CAP_OK) {
        return error;
    }
    int rc;
    for (rc = mdb_cursor_get(read->cursor, &key, &value, MDB_LAST); rc == 0;
         rc = mdb_cursor_get(read->cursor, &key, &value, MDB_PREV)) {
        struct cap_bytes bytes;
        struct cap_hash found;
        if (value.mv_size < CAP_HASH_SIZE ||
            memcmp(value.mv_data, hash->bytes, CAP_HASH_SIZE) != 0) {
            continue;
        }
        return lmdb_unseal(&key, &value, &bytes) ? store_removed_decode(bytes, &found, ret_removed)
                                                 : CAP_E_CORRUPT;
    }
    return lmdb_error(store->fd, rc);
}

enum cap_error lmdb_removed(struct cap_read *base, const struct cap_hash *hash,
                            struct cap_removed *ret_removed)
{
    struct lmdb_read *read = lmdb_read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&lmdb_of(base->store)->map, error, removed(read, hash, ret_removed));
    return lmdb_cursor_close(read, error);
}

/* --- Facts ------------------------------------------------------------------------------------ */

/* A cap that is removed is not damaged, and lost if something refers to it. */
static enum cap_error settle_facts(struct lmdb_store *store, const struct cap_hash *hash)
{
    MDB_txn *txn = store->write.txn;
    MDB_cursor *cursor = NULL;
    bool referred = false;
    lmdb_forget_noted(store, hash); /* if it stays after all a read will find it again */
    enum cap_error error = lmdb_fact_delete(store, txn, hash, CAP_FACT_DAMAGED);
    if (error == CAP_OK) {
        error = lmdb_has_pair(store, txn, &cursor, LMDB_REVS, hash, &referred);
    }
    return error == CAP_OK && referred
               ? lmdb_fact_put(store, txn, hash, CAP_FACT_LOST, store_wall_us())
               : error;
}

/* --- Removing --------------------------------------------------------------------------------- */

/* How many chunks a cap has. */
static uint64_t count_chunks(const struct store_cap *cap)
{
    uint64_t chunks = 0;
    for (int i = 0; i < STORE_STREAMS; i++) {
        enum store_stream stream = (enum store_stream)i;
        uint64_t len = lmdb_stream_len(&cap->info, stream);
        chunks += len == 0 ? 0 : lmdb_chunk_at(stream, len, len - 1).number + 1;
    }
    return chunks;
}

size_t lmdb_remove_work(const struct store_cap *cap)
{
    uint64_t chunks = count_chunks(cap);
    uint64_t refs = cap->info.ref_count;
    return 1 + (size_t)(chunks <= SMALL_CHUNKS ? chunks : 0) +
           2 * (size_t)(refs <= SMALL_REFS ? refs : 0);
}

/* Deletes what small caps have besides their records, or leaves it to the sweep. */
static enum cap_error drop_or_bury(struct lmdb_store *store, const struct cap_hash *hash,
                                   const struct store_cap *cap)
{
    bool no_refs = false;
    bool no_bulk = false;
    enum cap_error error = CAP_OK;
    if (cap->info.ref_count <= SMALL_REFS) {
        error = lmdb_take_refs(store, hash, cap->info.kept_until_s, SMALL_REFS + 1, &no_refs);
    }
    if (error == CAP_OK && count_chunks(cap) <= SMALL_CHUNKS) {
        error = lmdb_drop_bulk(store, store->write.txn, cap->body, SMALL_CHUNKS + 1, &no_bulk);
    }
    if (error != CAP_OK || (no_refs && no_bulk)) {
        return error;
    }
    return no_refs ? lmdb_bury_bulk(store, cap->body) : lmdb_corpse_put(store, hash, cap);
}

enum cap_error lmdb_remove_cap(struct lmdb_store *store, const struct cap_hash *hash,
                               const struct store_cap *cap, enum cap_gone_cause cause, uint32_t uid)
{
    struct lmdb_write *write = &store->write;
    enum cap_error error = store_gone_claim(&store->base, hash, cause);
    if (error != CAP_OK) {
        return error;
    }
    write->changed = true;
    error =
        lmdb_delete(store, write->txn, LMDB_CAPS, (struct cap_bytes){hash->bytes, CAP_HASH_SIZE});
    if (error == CAP_OK && cap->info.has_content_hash) {
        error = lmdb_delete(store, write->txn, LMDB_CONTENTS,
                            (struct cap_bytes){cap->info.content_hash.bytes, CAP_HASH_SIZE});
    }
    if (error == CAP_OK) {
        error = settle_facts(store, hash);
    }
    if (error == CAP_OK) {
        error = drop_or_bury(store, hash, cap);
    }
    if (error == CAP_OK) {
        error = lmdb_owner_add(store, &cap->info, -1);
    }
    if (error == CAP_OK) {
        error = put_removed(store, hash, cause, uid);
    }
    store_counts_remove(&write->state.counts, &cap->info);
    return error;
}

enum cap_error lmdb_remove_in(struct lmdb_store *store, const struct cap_hash *hash,
                              enum cap_gone_cause cause, uint32_t uid, bool force)
{
    MDB_txn *txn = store->write.txn;
    struct store_cap cap;
    MDB_cursor *cursor = NULL;
    unsigned needed = 0;
    enum cap_error error = lmdb_find_cap(store, txn, hash, &cap);
    if (error == CAP_OK) {
        error = lmdb_find_needed(store, txn, &cursor, hash, &cap, &needed);
    }
    if (error != CAP_OK) {
        return error;
    }
    if ((needed & (force ? CAP_NEEDED_ROOT : ~0u)) != 0) {
        return CAP_E_STILL_NEEDED;
    }
    return lmdb_remove_cap(store, hash, &cap, cause, uid);
}

enum cap_error lmdb_remove(struct cap_store *base, const struct cap_hash *hash, uint32_t uid,
                           bool force)
{
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = lmdb_write_begin(store);
    return error == CAP_OK
               ? lmdb_write_end(store, lmdb_remove_in(store, hash, CAP_GONE_DELETED, uid, force))
               : error;
}
