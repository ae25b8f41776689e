/*
 * What is left of caps that were removed: references and content hashes, too many for one
 * transaction.
 *
 * A cap's record goes at once, so it is gone. Its bulk is then listed as a dead stage, and the
 * entry says whose the references are that still lead from that hash. The sweep takes them away in
 * slices, and after them the bulk; what a target is kept by does not change before that. If the cap
 * is put again meanwhile the references are its own: they are the same, since a hash names one
 * value.
 */
#include <stdlib.h>

#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

#define SWEEP_REFS 512u /* that a slice takes away */

/* --- References ------------------------------------------------------------------------------- */

/*
 * The lease that keeps an Image would have kept its targets. One whose record cannot be read gets
 * none, or what is left of the Image would stay, and everything that waits to be swept with it.
 */
static enum cap_error pass_lease(struct lmdb_store *store, const struct cap_hash *target,
                                 uint64_t kept_until_s)
{
    struct store_cap cap;
    enum cap_error error = lmdb_find_cap(store, store->write.txn, target, &cap);
    if (error != CAP_OK || cap.info.kept_until_s >= kept_until_s) {
        return error == CAP_E_NOT_FOUND || error == CAP_E_CORRUPT ? CAP_OK : error;
    }
    cap.info.kept_until_s = kept_until_s;
    error = lmdb_put_cap(store, store->write.txn, target, &cap);
    return error == CAP_OK ? lmdb_due_add_lease(store, target, kept_until_s) : error;
}

/* The target of a reference that is taken away; the entry in the other direction is deleted. */
static enum cap_error drop_target(struct lmdb_store *store, const struct cap_hash *source,
                                  const struct cap_hash *target, uint64_t kept_until_s)
{
    uint8_t key[STORE_PAIR_KEY];
    MDB_cursor *cursor = NULL;
    bool referred = false;
    memcpy(key, target->bytes, CAP_HASH_SIZE);
    memcpy(key + CAP_HASH_SIZE, source->bytes, CAP_HASH_SIZE);
    enum cap_error error =
        lmdb_delete(store, store->write.txn, LMDB_REVS, (struct cap_bytes){key, sizeof(key)});
    if (error == CAP_OK && kept_until_s > cap_store_clock(&store->base)) {
        error = pass_lease(store, target, kept_until_s);
    }
    if (error == CAP_OK) {
        error = lmdb_has_pair(store, store->write.txn, &cursor, LMDB_REVS, target, &referred);
    }
    if (error != CAP_OK || referred) {
        return error;
    }
    error = lmdb_fact_delete(store, store->write.txn, target,
                             CAP_FACT_LOST); /* nothing misses it any more */
    return error == CAP_OK ? lmdb_due_add(store, target, 0) : error;
}

/* Deletes the content hash of an alias, which leads to the cap. */
static enum cap_error drop_alias(struct lmdb_store *store, const struct cap_hash *content_hash)
{
    return lmdb_delete(store, store->write.txn, LMDB_CONTENTS,
                       (struct cap_bytes){content_hash->bytes, CAP_HASH_SIZE});
}

/* Deletes the first pair of a table that begins with the hash, and says what its other half is. */
static int take_pair(MDB_cursor *cursor, const struct cap_hash *hash, struct cap_hash *ret_other)
{
    uint8_t start[CAP_HASH_SIZE];
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    memcpy(start, hash->bytes, sizeof(start));
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc != 0) {
        return rc;
    }
    if (key.mv_size != STORE_PAIR_KEY || memcmp(key.mv_data, hash->bytes, CAP_HASH_SIZE) != 0) {
        return MDB_NOTFOUND;
    }
    memcpy(ret_other->bytes, (const uint8_t *)key.mv_data + CAP_HASH_SIZE, CAP_HASH_SIZE);
    return mdb_cursor_del(cursor, 0);
}

/* Takes up to *max pairs away, and lowers it by as many; *ret_done when none is left. */
static enum cap_error take_pairs(struct lmdb_store *store, enum lmdb_table table,
                                 const struct cap_hash *hash, uint64_t kept_until_s, size_t *max,
                                 bool *ret_done)
{
    MDB_cursor *cursor;
    struct cap_hash other;
    enum cap_error error = CAP_OK;
    int rc = mdb_cursor_open(store->write.txn, store->tables[table], &cursor);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    for (; error == CAP_OK && *max > 0; (*max)--) {
        rc = take_pair(cursor, hash, &other);
        if (rc != 0) {
            break;
        }
        error = table == LMDB_REFS ? drop_target(store, hash, &other, kept_until_s)
                                   : drop_alias(store, &other);
    }
    mdb_cursor_close(cursor);
    *ret_done = rc == MDB_NOTFOUND;
    return rc == 0 || rc == MDB_NOTFOUND ? error : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_take_refs(struct lmdb_store *store, const struct cap_hash *hash,
                              uint64_t kept_until_s, size_t max, bool *ret_done)
{
    enum cap_error error = take_pairs(store, LMDB_ALIASES, hash, 0, &max, ret_done);
    store->write.changed = true;
    return error == CAP_OK && *ret_done
               ? take_pairs(store, LMDB_REFS, hash, kept_until_s, &max, ret_done)
               : error;
}

/* --- Corpses ---------------------------------------------------------------------------------- */

static struct lmdb_corpse *find_corpse(const struct lmdb_store *store, const struct cap_hash *hash)
{
    struct lmdb_corpse *corpse;
    LIST_FOREACH(corpse, &store->corpses, link)
    {
        if (corpse->use != LMDB_CORPSE_ENDED && cap_hash_equal(&corpse->hash, hash)) {
            return corpse;
        }
    }
    return NULL;
}

static enum cap_error add_corpse(struct lmdb_store *store, uint64_t body,
                                 const struct cap_hash *hash, enum lmdb_corpse_use use)
{
    struct lmdb_corpse *corpse = calloc(1, sizeof(*corpse));
    if (corpse == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *corpse = (struct lmdb_corpse){.body = body, .hash = *hash, .use = use};
    LIST_INSERT_HEAD(&store->corpses, corpse, link);
    return CAP_OK;
}

enum cap_error lmdb_corpse_put(struct lmdb_store *store, const struct cap_hash *hash,
                               const struct store_cap *cap)
{
    uint8_t key[STORE_BODY_KEY];
    uint8_t record[STORE_CORPSE_SIZE] = {0};
    store_body_key(cap->body, key);
    memcpy(record + STORE_STAGE_SIZE, hash->bytes, CAP_HASH_SIZE);
    cap_store64(record + STORE_STAGE_SIZE + CAP_HASH_SIZE, cap->info.kept_until_s);
    enum cap_error error = add_corpse(store, cap->body, hash, LMDB_CORPSE_MADE);
    store->sweep = true;
    return error == CAP_OK ? lmdb_put(store, store->write.txn, LMDB_STAGES,
                                      (struct cap_bytes){key, sizeof(key)},
                                      (struct cap_bytes){record, sizeof(record)})
                           : error;
}

/* Only its bulk is left. */
static enum cap_error end_corpse(struct lmdb_store *store, struct lmdb_corpse *corpse)
{
    corpse->use = LMDB_CORPSE_ENDED;
    return lmdb_bury_bulk(store, corpse->body);
}

enum cap_error lmdb_corpse_revive(struct lmdb_store *store, const struct cap_hash *hash)
{
    struct lmdb_corpse *corpse = find_corpse(store, hash);
    return corpse == NULL ? CAP_OK : end_corpse(store, corpse);
}

enum cap_error lmdb_corpse_sweep(struct lmdb_store *store, uint64_t body, struct cap_bytes value)
{
    struct cap_hash hash;
    bool done = false;
    memcpy(hash.bytes, value.data + STORE_STAGE_SIZE, CAP_HASH_SIZE);
    uint64_t kept_until_s = cap_load64(value.data + STORE_STAGE_SIZE + CAP_HASH_SIZE);
    struct lmdb_corpse *corpse = find_corpse(store, &hash);
    if (corpse == NULL || corpse->body != body) {
        return lmdb_bury_bulk(store, body); /* it says what cannot be: the bulk at least */
    }
    enum cap_error error = lmdb_take_refs(store, &hash, kept_until_s, SWEEP_REFS, &done);
    return error == CAP_OK && done ? end_corpse(store, corpse) : error;
}

enum cap_error lmdb_corpses_load(struct lmdb_store *store, MDB_txn *txn)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    struct cap_bytes bytes;
    enum cap_error error = CAP_OK;
    int rc = mdb_cursor_open(txn, store->tables[LMDB_STAGES], &cursor);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    while (error == CAP_OK && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        struct cap_hash hash;
        if (key.mv_size == STORE_BODY_KEY && lmdb_unseal(&key, &value, &bytes) &&
            lmdb_is_corpse(bytes)) {
            memcpy(hash.bytes, bytes.data + STORE_STAGE_SIZE, CAP_HASH_SIZE);
            error = add_corpse(store, store_body_key_load(key.mv_data), &hash, LMDB_CORPSE_STAYS);
        }
    }
    mdb_cursor_close(cursor);
    return rc == 0 || rc == MDB_NOTFOUND ? error : lmdb_error(store->fd, rc);
}

void lmdb_corpses_settle(struct lmdb_store *store, bool committed)
{
    struct lmdb_corpse *next = NULL;
    for (struct lmdb_corpse *corpse = LIST_FIRST(&store->corpses); corpse != NULL; corpse = next) {
        next = LIST_NEXT(corpse, link);
        if (corpse->use == (committed ? LMDB_CORPSE_ENDED : LMDB_CORPSE_MADE)) {
            LIST_REMOVE(corpse, link);
            free(corpse);
        } else {
            corpse->use = LMDB_CORPSE_STAYS;
        }
    }
}

void lmdb_corpses_free(struct lmdb_store *store)
{
    while (!LIST_EMPTY(&store->corpses)) {
        struct lmdb_corpse *corpse = LIST_FIRST(&store->corpses);
        LIST_REMOVE(corpse, link);
        free(corpse);
    }
}
