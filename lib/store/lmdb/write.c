/*
 * The one write transaction: resolve, store, commit.
 *
 * A put writes the cap's bulk, its references in both directions, its record and its content hash;
 * the counts are kept in memory and written at the commit. A staged body is linked by taking its id
 * off the list of stages. LMDB's commit is atomic and synced, so a cap is there wholly or not at
 * all; on any error LMDB leaves the last committed state.
 */
#include "lib/store/lmdb/lmdb.h"

#define PUT_OVERHEAD 1024u /* bytes of records and branches that a put takes, roughly */
#define REF_OVERHEAD 256u  /* a reference, in both directions */

static struct lmdb_write *write_of(struct cap_write *base)
{
    return (struct lmdb_write *)base;
}

static struct lmdb_store *store_of(const struct lmdb_write *write)
{
    return lmdb_of(write->base.store);
}

enum cap_error lmdb_write_begin(struct cap_store *base, struct cap_write **ret_write)
{
    struct lmdb_store *store = lmdb_of(base);
    struct lmdb_write *write = &store->write;
    enum cap_error error;

    lmdb_try_sweep(store);
    error = lmdb_begin(store, &write->txn);
    if (error != CAP_OK) {
        return error;
    }
    error = lmdb_state_get(store, write->txn, &write->state);
    if (error != CAP_OK) {
        mdb_txn_abort(write->txn);
        return error;
    }
    write->bytes = 0;
    write->changed = false;
    *ret_write = &write->base;
    return CAP_OK;
}

enum cap_error lmdb_write_find(struct cap_write *base, const struct cap_hash *hash,
                               struct cap_info *ret_info)
{
    struct lmdb_write *write = write_of(base);
    struct store_cap cap;
    enum cap_error error = lmdb_find_cap(store_of(write), write->txn, hash, &cap);

    if (error == CAP_OK) {
        *ret_info = cap.info;
    }
    return error;
}

/* --- A put ------------------------------------------------------------------------------------ */

static enum cap_error put_content(struct lmdb_write *write, const struct cap_put *put)
{
    struct cap_bytes key = {put->info.content_hash.bytes, CAP_HASH_SIZE};
    struct cap_bytes value = {put->hash.bytes, CAP_HASH_SIZE};

    struct cap_bytes known;
    enum cap_error error;

    if (!put->info.has_content_hash) {
        return CAP_OK;
    }
    error = lmdb_get(store_of(write), write->txn, LMDB_CONTENTS, key, &known);
    if (error != CAP_E_NOT_FOUND) {
        return error;
    }
    return lmdb_put(store_of(write), write->txn, LMDB_CONTENTS, key, value);
}

/* Takes the stage off the list; its bulk stays. */
static enum cap_error unlist_stage(struct lmdb_write *write, struct lmdb_stage *stage)
{
    uint8_t key[STORE_BODY_KEY];

    store_body_key(stage->body, key);
    stage->linked = true;
    return lmdb_delete(store_of(write), write->txn, LMDB_STAGES,
                       (struct cap_bytes){key, sizeof(key)});
}

/* Nothing changes but that a stage goes and a content hash comes. */
static enum cap_error put_known(struct lmdb_write *write, const struct cap_put *put,
                                struct lmdb_stage *stage)
{
    bool done;
    enum cap_error error = CAP_OK;

    if (stage) {
        error = lmdb_drop_bulk(store_of(write), write->txn, stage->body, SIZE_MAX, &done);
    }
    if (stage && error == CAP_OK) {
        error = unlist_stage(write, stage);
    }
    return error == CAP_OK ? put_content(write, put) : error;
}

static enum cap_error check_room(struct lmdb_write *write, const struct cap_put *put)
{
    write->bytes += PUT_OVERHEAD + put->info.page_count * CAP_HASH_SIZE;
    write->bytes += (uint64_t)put->ref_count * REF_OVERHEAD;
    if (put->stage == 0) {
        write->bytes += put->info.body_len;
    }
    return lmdb_check_room(store_of(write), write->bytes);
}

static enum cap_error put_bulk(struct lmdb_write *write, const struct cap_put *put, uint64_t body)
{
    struct cap_bytes roots = {(const uint8_t *)put->page_roots,
                              (size_t)put->info.page_count * CAP_HASH_SIZE};
    struct cap_source source = {.memory = roots.data};
    struct lmdb_bulk bulk = {.body = body, .stream = STORE_STREAM_ROOTS, .source = &source};
    enum cap_error error;

    bulk.to = roots.len;
    error = lmdb_put_bulk(store_of(write), write->txn, &bulk);
    if (error != CAP_OK || put->stage != 0) {
        return error;
    }
    bulk.stream = STORE_STREAM_BODY;
    bulk.source = &put->body;
    bulk.to = put->info.body_len;
    return lmdb_put_bulk(store_of(write), write->txn, &bulk);
}

static enum cap_error put_pair(struct lmdb_write *write, enum lmdb_table table,
                               const struct cap_hash *left, const struct cap_hash *right,
                               const uint8_t *tables)
{
    uint8_t key[STORE_PAIR_KEY];

    memcpy(key, left->bytes, CAP_HASH_SIZE);
    memcpy(key + CAP_HASH_SIZE, right->bytes, CAP_HASH_SIZE);
    return lmdb_put(store_of(write), write->txn, table, (struct cap_bytes){key, sizeof(key)},
                    (struct cap_bytes){tables, 1});
}

static enum cap_error put_refs(struct lmdb_write *write, const struct cap_put *put)
{
    for (size_t i = 0; i < put->ref_count; i++) {
        const struct cap_ref *ref = &put->refs[i];
        enum cap_error error = put_pair(write, LMDB_REFS, &put->hash, &ref->hash, &ref->tables);

        if (error == CAP_OK) {
            error = put_pair(write, LMDB_REVS, &ref->hash, &put->hash, &ref->tables);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

static enum cap_error put_record(struct lmdb_write *write, const struct cap_put *put, uint64_t body)
{
    uint8_t bytes[STORE_CAP_SIZE];
    struct store_cap cap = {.info = put->info, .body = body};

    store_cap_encode(&cap, bytes);
    return lmdb_put(store_of(write), write->txn, LMDB_CAPS,
                    (struct cap_bytes){put->hash.bytes, CAP_HASH_SIZE},
                    (struct cap_bytes){bytes, sizeof(bytes)});
}

static enum cap_error put_new(struct lmdb_write *write, const struct cap_put *put,
                              struct lmdb_stage *stage)
{
    struct lmdb_store *store = store_of(write);
    uint64_t body = stage ? stage->body : store->next_body++;
    enum cap_error error = check_room(write, put);

    if (error == CAP_OK && stage) {
        error = unlist_stage(write, stage);
    }
    if (error == CAP_OK) {
        error = put_bulk(write, put, body);
    }
    if (error == CAP_OK) {
        error = put_refs(write, put);
    }
    if (error == CAP_OK) {
        error = put_record(write, put, body);
    }
    if (error == CAP_OK) {
        error = put_content(write, put);
    }
    if (error == CAP_OK) {
        store_counts_add(&write->state.counts, &put->info);
        write->changed = true;
    }
    return error;
}

enum cap_error lmdb_write_put(struct cap_write *base, const struct cap_put *put, bool *ret_new)
{
    struct lmdb_write *write = write_of(base);
    struct lmdb_stage *stage = NULL;
    struct store_cap known;
    enum cap_error error;
    bool is_new;

    if (put->stage != 0) {
        stage = lmdb_stage_of(store_of(write), put->stage);
        if (!stage || stage->linked || stage->body_len != put->info.body_len ||
            stage->written != stage->body_len) {
            return CAP_E_INVALID_ARGUMENT;
        }
    }
    error = lmdb_find_cap(store_of(write), write->txn, &put->hash, &known);
    if (error != CAP_OK && error != CAP_E_NOT_FOUND) {
        return error;
    }
    is_new = error == CAP_E_NOT_FOUND;
    error = is_new ? put_new(write, put, stage) : put_known(write, put, stage);
    if (error == CAP_OK) {
        *ret_new = is_new;
    }
    return error;
}

/* --- The end ---------------------------------------------------------------------------------- */

/* Linked stages are gone after a commit and as before after anything else. */
static void settle_stages(struct lmdb_store *store, bool committed)
{
    struct lmdb_stage *stage = store->stages;

    while (stage) {
        struct lmdb_stage *next = stage->next;

        if (stage->linked && committed) {
            lmdb_stage_forget(store, stage);
        } else {
            stage->linked = false;
        }
        stage = next;
    }
}

enum cap_error lmdb_write_commit(struct cap_write *base)
{
    struct lmdb_write *write = write_of(base);
    struct lmdb_store *store = store_of(write);
    enum cap_error error = CAP_OK;

    write->state.next_body = store->next_body;
    if (write->changed) { /* where all was known LMDB has nothing to sync */
        error = lmdb_state_put(store, write->txn, &write->state);
    }
    if (error == CAP_OK) {
        error = lmdb_commit(store, write->txn);
    } else {
        mdb_txn_abort(write->txn);
    }
    write->txn = NULL;
    settle_stages(store, error == CAP_OK);
    return error;
}

void lmdb_write_abort(struct cap_write *base)
{
    struct lmdb_write *write = write_of(base);

    mdb_txn_abort(write->txn);
    write->txn = NULL;
    settle_stages(store_of(write), false);
}
