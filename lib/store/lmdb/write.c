/*
 * The one write transaction: what admit.c does its work in.
 *
 * A put writes the cap's bulk, its references in both directions, its record and its content hash;
 * the counts are kept in memory and written at the commit, and so are what the cap's publisher has
 * and when collection looks at it. A staged body is linked by taking its id off the list of stages.
 * LMDB's commit is atomic and synced, so a cap is there wholly or not at all; on any error LMDB
 * leaves the last committed state.
 */
#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"

#define PUT_OVERHEAD 1024u /* bytes of records and branches that a put takes, roughly */
#define REF_OVERHEAD 256u  /* a reference, in both directions */
/* Longer transactions are better off without zeros in front of them: writing these costs as much as
 * the file system's own write, which many puts share. */
#define AHEAD_MAX (UINT64_C(64) << 10)

enum cap_error lmdb_write_begin(struct lmdb_store *store)
{
    struct lmdb_write *write = &store->write;
    enum cap_error error = lmdb_begin(store, &write->txn);
    if (error != CAP_OK) {
        return error;
    }
    error = lmdb_state_get(store, write->txn, &write->state);
    if (error != CAP_OK) {
        mdb_txn_abort(write->txn);
        return error;
    }
    write->bytes_before = write->bytes;
    write->bytes = 0;
    write->measured = false;
    write->changed = false;
    write->due_count = 0;
    write->owner_count = 0;
    write->healed_count = 0;
    write->next_removed = 0;
    return CAP_OK;
}

static enum cap_error write_begin(struct cap_store *base)
{
    return lmdb_write_begin(lmdb_of(base));
}

static enum cap_error write_find(struct cap_store *base, const struct cap_hash *hash,
                                 enum cap_kind *ret_kind)
{
    struct lmdb_store *store = lmdb_of(base);
    struct store_cap cap;
    enum cap_error error = lmdb_find_served(store, store->write.txn, hash, &cap);
    if (error == CAP_OK) {
        *ret_kind = cap.info.kind;
    }
    return error;
}

/* --- A put ------------------------------------------------------------------------------------ */

/* Whether as many content hashes lead to a cap as may. */
static enum cap_error has_all_contents(const struct lmdb_store *store, const struct cap_hash *hash,
                                       bool *ret_all)
{
    uint8_t start[CAP_HASH_SIZE];
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    MDB_cursor *cursor;
    unsigned count = 1; /* that of the record */
    int rc = mdb_cursor_open(store->write.txn, store->tables[LMDB_ALIASES], &cursor);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    memcpy(start, hash->bytes, sizeof(start));
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && count < CAP_STORE_CONTENTS && key.mv_size > CAP_HASH_SIZE &&
           memcmp(key.mv_data, hash->bytes, CAP_HASH_SIZE) == 0) {
        count++;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    *ret_all = count == CAP_STORE_CONTENTS;
    return rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store->fd, rc);
}

/* Indexes the content hash of a put, which is in the record of a cap that was absent. */
static enum cap_error put_content(struct lmdb_store *store, const struct cap_put *put, bool absent)
{
    struct cap_bytes key = {put->info.content_hash.bytes, CAP_HASH_SIZE};
    struct cap_bytes value = {put->hash.bytes, CAP_HASH_SIZE};
    struct cap_bytes there;
    uint8_t alias[STORE_PAIR_KEY];
    bool all = false;
    if (!put->info.has_content_hash) {
        return CAP_OK;
    }
    enum cap_error error = lmdb_get(store, store->write.txn, LMDB_CONTENTS, key, &there);
    if (error != CAP_E_NOT_FOUND) {
        return error;
    }
    error = absent ? CAP_OK : has_all_contents(store, &put->hash, &all);
    if (error != CAP_OK || all) {
        return error;
    }
    error = lmdb_put(store, store->write.txn, LMDB_CONTENTS, key, value);
    if (error != CAP_OK || absent) {
        return error;
    }
    memcpy(alias, put->hash.bytes, CAP_HASH_SIZE);
    memcpy(alias + CAP_HASH_SIZE, put->info.content_hash.bytes, CAP_HASH_SIZE);
    return lmdb_put(store, store->write.txn, LMDB_ALIASES, (struct cap_bytes){alias, sizeof(alias)},
                    (struct cap_bytes){alias, 0});
}

/* Takes the stage off the list; its bulk stays. */
static enum cap_error unlist_stage(struct lmdb_store *store, const struct lmdb_stage *stage)
{
    uint8_t key[STORE_BODY_KEY];
    store_body_key(stage->body, key);
    return lmdb_delete(store, store->write.txn, LMDB_STAGES, (struct cap_bytes){key, sizeof(key)});
}

enum cap_error lmdb_write_room(struct lmdb_store *store, uint64_t bytes)
{
    struct lmdb_write *write = &store->write;
    write->bytes += bytes;
    if (!write->measured) {
        enum cap_error error = lmdb_measure_room(store, &write->room);
        if (error != CAP_OK) {
            return error;
        }
        if (write->bytes_before < AHEAD_MAX) {
            lmdb_write_ahead(store, &write->room);
        }
        write->measured = true;
    }
    return lmdb_check_room(store, &write->room, write->bytes);
}

static enum cap_error check_room(struct lmdb_store *store, const struct cap_put *put)
{
    uint64_t bytes = PUT_OVERHEAD + lmdb_stream_len(&put->info, STORE_STREAM_ROOTS) +
                     lmdb_stream_len(&put->info, STORE_STREAM_NODES) +
                     (uint64_t)put->ref_count * REF_OVERHEAD;
    if (put->stage == 0) {
        bytes += put->info.body_len;
    }
    return lmdb_write_room(store, bytes);
}

static enum cap_error put_bulk(struct lmdb_store *store, const struct cap_put *put, uint64_t body)
{
    const struct cap_source roots = {.memory = (const uint8_t *)put->page_roots};
    const struct cap_source nodes = {.memory = (const uint8_t *)put->nodes};
    const struct cap_source *sources[STORE_STREAMS] = {&put->body, &roots, &nodes};
    enum cap_error error = CAP_OK;
    int stream = put->stage == 0 ? STORE_STREAM_BODY : STORE_STREAM_ROOTS;
    for (; error == CAP_OK && stream < STORE_STREAMS; stream++) {
        const struct lmdb_bulk bulk = {
            .body = body,
            .stream = (enum store_stream)stream,
            .source = sources[stream],
            .to = lmdb_stream_len(&put->info, (enum store_stream)stream),
        };
        error = lmdb_put_bulk(store, store->write.txn, &bulk);
    }
    return error;
}

static enum cap_error put_pair(struct lmdb_store *store, enum lmdb_table table,
                               const struct cap_hash *left, const struct cap_hash *right,
                               const uint8_t *tables)
{
    uint8_t key[STORE_PAIR_KEY];
    memcpy(key, left->bytes, CAP_HASH_SIZE);
    memcpy(key + CAP_HASH_SIZE, right->bytes, CAP_HASH_SIZE);
    return lmdb_put(store, store->write.txn, table, (struct cap_bytes){key, sizeof(key)},
                    (struct cap_bytes){tables, 1});
}

static enum cap_error put_refs(struct lmdb_store *store, const struct cap_put *put)
{
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < put->ref_count; i++) {
        const struct cap_ref *ref = &put->refs[i];
        error = put_pair(store, LMDB_REFS, &put->hash, &ref->hash, &ref->tables);
        if (error == CAP_OK) {
            error = put_pair(store, LMDB_REVS, &ref->hash, &put->hash, &ref->tables);
        }
    }
    return error;
}

static enum cap_error put_record(struct lmdb_store *store, const struct cap_put *put, uint64_t body)
{
    const struct store_cap cap = {.info = put->info, .body = body};
    enum cap_error error = lmdb_put_cap(store, store->write.txn, &put->hash, &cap);
    if (error == CAP_OK) {
        error = lmdb_owner_add(store, &put->info, 1);
    }
    return error == CAP_OK ? lmdb_due_add_lease(store, &put->hash, put->info.kept_until_s) : error;
}

static enum cap_error put_new(struct lmdb_store *store, const struct cap_put *put,
                              const struct lmdb_stage *stage, bool heals)
{
    uint64_t body = stage != NULL ? stage->body : store->next_body++;
    enum cap_error error = check_room(store, put);
    if (error == CAP_OK && stage != NULL) {
        error = unlist_stage(store, stage);
    }
    if (error == CAP_OK) {
        error = put_bulk(store, put, body);
    }
    if (error == CAP_OK) {
        error = lmdb_corpse_revive(store, &put->hash);
    }
    if (error == CAP_OK) {
        error = lmdb_fact_delete(store, store->write.txn, &put->hash, CAP_FACT_LOST);
    }
    if (error == CAP_OK) {
        error = put_refs(store, put);
    }
    if (error == CAP_OK) {
        error = heals ? lmdb_heal_in(store, put, body) : put_record(store, put, body);
    }
    if (error == CAP_OK && !heals) {
        store_counts_add(&store->write.state.counts, &put->info);
        store->write.changed = true;
    }
    return error;
}

/*
 * Of a cap that is there nothing changes but that a new content hash is indexed. A stage of it is
 * given up with the commit, and swept. One that is quarantined is healed: a hash names one value,
 * so what is counted of it, and its references, are as before.
 */
static enum cap_error write_put(struct cap_store *base, const struct cap_put *put, bool *ret_new)
{
    struct lmdb_store *store = lmdb_of(base);
    struct lmdb_stage *stage = NULL;
    struct store_cap known;
    if (put->stage != 0) {
        stage = lmdb_stage_of(store, put->stage);
        if (stage == NULL || stage->use != LMDB_STAGE_FREE ||
            stage->body_len != put->info.body_len || stage->written != stage->body_len) {
            return CAP_E_INVALID_ARGUMENT;
        }
    }
    enum cap_error error = lmdb_find_served(store, store->write.txn, &put->hash, &known);
    bool heals = error == CAP_E_QUARANTINED;
    bool absent = error == CAP_E_NOT_FOUND;
    bool is_new = absent || heals;
    if (is_new) {
        error = put_new(store, put, stage, heals);
    }
    if (error == CAP_OK) {
        error = put_content(store, put, absent);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (stage != NULL) {
        stage->use = is_new ? LMDB_STAGE_LINKED : LMDB_STAGE_GIVEN_UP;
    }
    *ret_new = is_new;
    return CAP_OK;
}

/* --- The end ---------------------------------------------------------------------------------- */

/* What the transaction took of the stages is gone after a commit, and as before otherwise. */
static void settle_stages(struct lmdb_store *store, bool committed)
{
    struct lmdb_stage *next = NULL;
    for (struct lmdb_stage *stage = store->stages; stage != NULL; stage = next) {
        next = stage->next;
        if (!committed || stage->use == LMDB_STAGE_FREE) {
            stage->use = LMDB_STAGE_FREE;
            continue;
        }
        store->sweep |= stage->use == LMDB_STAGE_GIVEN_UP;
        lmdb_stage_forget(store, stage);
    }
}

static void settle(struct lmdb_store *store, bool committed)
{
    settle_stages(store, committed);
    lmdb_corpses_settle(store, committed);
    store_gone_settle(&store->base, committed);
    if (committed) {
        lmdb_healed(store);
    }
}

/* Where all was known LMDB has nothing to sync. */
static enum cap_error write_state(struct lmdb_store *store)
{
    struct lmdb_write *write = &store->write;
    if (!write->changed) {
        return CAP_OK;
    }
    enum cap_error error = lmdb_due_flush(store);
    if (error == CAP_OK) {
        error = lmdb_owners_flush(store);
    }
    write->state.next_body = store->next_body;
    return error == CAP_OK ? lmdb_state_put(store, write->txn, &write->state) : error;
}

static enum cap_error write_commit(struct cap_store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = write_state(store);
    if (error == CAP_OK) {
        store_gone_announce(&store->base);
        error = lmdb_commit(store, store->write.txn);
    } else {
        mdb_txn_abort(store->write.txn);
    }
    settle(store, error == CAP_OK);
    return error;
}

static void write_abort(struct cap_store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    mdb_txn_abort(store->write.txn);
    settle(store, false);
}

enum cap_error lmdb_write_end(struct lmdb_store *store, enum cap_error error)
{
    if (error == CAP_OK) {
        return write_commit(&store->base);
    }
    write_abort(&store->base);
    return error;
}

static enum cap_error write_keep(struct cap_store *base, struct cap_keep *keep)
{
    return lmdb_keep_one(lmdb_of(base), keep);
}

void lmdb_admit(struct cap_store *base, struct cap_admission *const *admissions, size_t count,
                const struct cap_admit_watch *watch)
{
    static const struct store_transactions transactions = {
        .begin = write_begin,
        .find = write_find,
        .put = write_put,
        .keep = write_keep,
        .commit = write_commit,
        .abort = write_abort,
    };
    store_admit(base, &transactions, admissions, count, watch);
}
