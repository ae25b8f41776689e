/*
 * Bulk in LMDB, and the stages that bring large bodies in.
 *
 * LMDB holds what a transaction writes on the heap until the commit. So a large body is written in
 * steps, each a durable transaction of its own, under a body id that no cap names yet; `stages`
 * lists such ids. The transaction that admits the cap only takes the id off that list.
 *
 * A stage that nobody will link is *dead*: one from before the store was opened, or one that was
 * dropped, or whose cap was there already. Dead stages are swept in bounded transactions, at open
 * and as the writer calls; what cannot be swept now stays listed for the next time.
 */
#include <stdlib.h>
#include <sys/param.h>

#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"

/* --- Bulk ------------------------------------------------------------------------------------- */

static enum cap_error put_chunk(const struct lmdb_store *store, MDB_txn *txn,
                                const struct lmdb_bulk *bulk, const struct lmdb_chunk *chunk)
{
    uint8_t bytes[STORE_CHUNK_KEY];
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val value = {.mv_size = chunk->len + STORE_SEAL_SIZE};
    store_chunk_key(bulk->body, bulk->stream, chunk->number, bytes);
    /*
     * Ids grow, so a body that was not staged comes after all others. Told so, LMDB begins a new
     * page when the last is full; by itself it would also move the last record there.
     */
    int rc = mdb_put(txn, store->tables[LMDB_BULK], &key, &value, MDB_RESERVE | MDB_APPEND);
    if (rc == MDB_KEYEXIST) {
        rc = mdb_put(txn, store->tables[LMDB_BULK], &key, &value, MDB_RESERVE);
    }
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    enum cap_error error = store_source_read(bulk->source, chunk->from, value.mv_data, chunk->len);
    if (error == CAP_OK) {
        store_seal(store_seed((struct cap_bytes){bytes, sizeof(bytes)}), value.mv_data, chunk->len);
    }
    return error;
}

enum cap_error lmdb_put_bulk(const struct lmdb_store *store, MDB_txn *txn,
                             const struct lmdb_bulk *bulk)
{
    for (uint64_t from = bulk->from; from < bulk->to;) {
        const struct lmdb_chunk chunk = lmdb_chunk_at(bulk->stream, bulk->to, from);
        enum cap_error error = put_chunk(store, txn, bulk, &chunk);
        if (error != CAP_OK) {
            return error;
        }
        from += chunk.len;
    }
    return CAP_OK;
}

/* Deletes the first chunk of a body; MDB_NOTFOUND when there is none. */
static int delete_first(MDB_cursor *cursor, const uint8_t body_key[STORE_BODY_KEY])
{
    uint8_t start[STORE_BODY_KEY];
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    memcpy(start, body_key, sizeof(start));
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc != 0) {
        return rc;
    }
    if (key.mv_size < STORE_BODY_KEY || memcmp(key.mv_data, body_key, STORE_BODY_KEY) != 0) {
        return MDB_NOTFOUND;
    }
    return mdb_cursor_del(cursor, 0);
}

enum cap_error lmdb_drop_bulk(const struct lmdb_store *store, MDB_txn *txn, uint64_t body,
                              size_t max, bool *ret_done)
{
    uint8_t key[STORE_BODY_KEY];
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, store->tables[LMDB_BULK], &cursor);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    store_body_key(body, key);
    for (size_t i = 0; rc == 0 && i < max; i++) {
        rc = delete_first(cursor, key);
    }
    mdb_cursor_close(cursor);
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return lmdb_error(store->fd, rc);
    }
    *ret_done = rc == MDB_NOTFOUND;
    return CAP_OK;
}

/* --- The living ------------------------------------------------------------------------------- */

struct lmdb_stage *lmdb_stage_of(const struct lmdb_store *store, uint64_t body)
{
    struct lmdb_stage *stage = store->stages;
    while (stage != NULL && stage->body != body) {
        stage = stage->next;
    }
    return stage;
}

void lmdb_stage_forget(struct lmdb_store *store, struct lmdb_stage *stage)
{
    struct lmdb_stage **link = &store->stages;
    while (*link != stage) {
        link = &(*link)->next;
    }
    *link = stage->next;
    free(stage);
}

enum cap_error lmdb_stage_begin(struct cap_store *base, uint64_t body_len, uint64_t *ret_stage)
{
    struct lmdb_store *store = lmdb_of(base);
    if (atomic_load(&base->failure) != CAP_OK) {
        return CAP_E_STORE_FAILED;
    }
    enum cap_error error = lmdb_foresee_room(store, body_len);
    if (error != CAP_OK) {
        return error;
    }
    struct lmdb_stage *stage = calloc(1, sizeof(*stage));
    if (stage == NULL) {
        return CAP_E_NO_MEMORY;
    }
    stage->body = store->next_body++;
    stage->body_len = body_len;
    stage->next = store->stages;
    store->stages = stage;
    *ret_stage = stage->body;
    return CAP_OK;
}

/* Writes the state that says that the ids of all stages are taken. */
static enum cap_error note_ids(struct lmdb_store *store, MDB_txn *txn)
{
    struct store_state state;
    enum cap_error error = lmdb_state_get(store, txn, &state);
    if (error == CAP_OK) {
        state.next_body = store->next_body;
        error = lmdb_state_put(store, txn, &state);
    }
    return error;
}

static enum cap_error note_stage(struct lmdb_store *store, MDB_txn *txn,
                                 const struct lmdb_stage *stage)
{
    uint8_t key[STORE_BODY_KEY];
    uint8_t record[STORE_STAGE_SIZE];
    store_body_key(stage->body, key);
    cap_store64(record, stage->body_len);
    cap_store64(record + 8, stage->writing);
    return lmdb_put(store, txn, LMDB_STAGES, (struct cap_bytes){key, sizeof(key)},
                    (struct cap_bytes){record, sizeof(record)});
}

/* How much of each stage the step writes: whole chunks, but for the end of a body. */
static enum cap_error plan_step(const struct lmdb_store *store, const struct cap_staging *stagings,
                                size_t count, uint64_t *ret_len)
{
    uint64_t room = CAP_STAGE_STEP;
    for (size_t i = 0; i < count; i++) {
        struct lmdb_stage *stage = lmdb_stage_of(store, stagings[i].stage);
        if (stage == NULL) {
            return CAP_E_INVALID_ARGUMENT;
        }
        uint64_t ready = stagings[i].ready;
        bool whole = ready == 0 || ready >= stage->body_len;
        uint64_t rest = (whole ? stage->body_len : MAX(ready, stage->written)) - stage->written;
        uint64_t len =
            whole && rest <= room ? rest : MIN(rest, room) / LMDB_BODY_CHUNK * LMDB_BODY_CHUNK;
        stage->writing = stage->written + len;
        room -= len;
    }
    *ret_len = CAP_STAGE_STEP - room;
    return CAP_OK;
}

static enum cap_error write_stagings(struct lmdb_store *store, MDB_txn *txn,
                                     const struct cap_staging *stagings, size_t count)
{
    enum cap_error error = note_ids(store, txn);
    for (size_t i = 0; i < count && error == CAP_OK; i++) {
        const struct lmdb_stage *stage = lmdb_stage_of(store, stagings[i].stage);
        const struct lmdb_bulk bulk = {.body = stage->body,
                                       .stream = STORE_STREAM_BODY,
                                       .source = stagings[i].body,
                                       .from = stage->written,
                                       .to = stage->writing};
        if (bulk.from == bulk.to) {
            continue;
        }
        error = lmdb_put_bulk(store, txn, &bulk);
        if (error == CAP_OK) {
            error = note_stage(store, txn, stage);
        }
    }
    return error;
}

/* The one transaction of a step that writes `len` bytes. */
static enum cap_error write_step(struct lmdb_store *store, const struct cap_staging *stagings,
                                 size_t count, uint64_t len)
{
    struct lmdb_room room;
    MDB_txn *txn;
    enum cap_error error = lmdb_measure_room(store, &room);
    if (error == CAP_OK) {
        error = lmdb_check_room(store, &room, len);
    }
    if (error == CAP_OK) {
        error = lmdb_begin(store, &txn);
    }
    if (error != CAP_OK) {
        return error;
    }
    error = write_stagings(store, txn, stagings, count);
    if (error != CAP_OK) {
        mdb_txn_abort(txn);
        return error;
    }
    return lmdb_commit(store, txn);
}

enum cap_error lmdb_stage_step(struct cap_store *base, struct cap_staging *stagings, size_t count)
{
    struct lmdb_store *store = lmdb_of(base);
    uint64_t len = 0;
    enum cap_error error = plan_step(store, stagings, count, &len);
    if (error == CAP_OK && len > 0) {
        error = write_step(store, stagings, count, len);
    }
    for (size_t i = 0; i < count && error == CAP_OK; i++) {
        struct lmdb_stage *stage = lmdb_stage_of(store, stagings[i].stage);
        stage->written = stage->writing;
        stagings[i].written = stage->written;
        stagings[i].done = stage->written == stage->body_len;
    }
    return error;
}

/* --- The dead --------------------------------------------------------------------------------- */

void lmdb_stage_drop(struct cap_store *base, uint64_t id)
{
    struct lmdb_store *store = lmdb_of(base);
    struct lmdb_stage *stage = lmdb_stage_of(store, id);
    if (stage != NULL) {
        lmdb_stage_forget(store, stage);
        store->sweep = true;
    }
}

enum cap_error lmdb_bury_bulk(struct lmdb_store *store, uint64_t body)
{
    uint8_t key[STORE_BODY_KEY];
    static const uint8_t record[STORE_STAGE_SIZE]; /* of a dead one nothing counts */
    store_body_key(body, key);
    store->sweep = true;
    return lmdb_put(store, store->write.txn, LMDB_STAGES, (struct cap_bytes){key, sizeof(key)},
                    (struct cap_bytes){record, sizeof(record)});
}

/* The first listed stage that is not of the living; MDB_NOTFOUND when there is none. */
static int first_dead(const struct lmdb_store *store, MDB_cursor *cursor, uint64_t *ret_body,
                      struct cap_bytes *ret_value)
{
    MDB_val key, value;
    uint64_t body;
    int rc;
    do {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (rc != 0) {
            return rc;
        }
        if (key.mv_size != STORE_BODY_KEY) {
            return MDB_CORRUPTED;
        }
        if (!lmdb_unseal(&key, &value, ret_value)) {
            *ret_value = (struct cap_bytes){0}; /* its bulk is to go in any case */
        }
        body = store_body_key_load(key.mv_data);
    } while (lmdb_stage_of(store, body) != NULL);
    *ret_body = body;
    return 0;
}

static enum cap_error find_dead(const struct lmdb_store *store, uint64_t *ret_body,
                                struct cap_bytes *ret_value)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(store->write.txn, store->tables[LMDB_STAGES], &cursor);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    rc = first_dead(store, cursor, ret_body, ret_value);
    mdb_cursor_close(cursor);
    return lmdb_error(store->fd, rc);
}

static enum cap_error sweep_in(struct lmdb_store *store)
{
    MDB_txn *txn = store->write.txn;
    uint8_t key[STORE_BODY_KEY];
    struct cap_bytes value;
    uint64_t body = 0;
    bool done = false;
    enum cap_error error = find_dead(store, &body, &value);
    if (error == CAP_OK && lmdb_is_corpse(value)) {
        return lmdb_corpse_sweep(store, body, value);
    }
    if (error == CAP_OK) {
        error = lmdb_drop_bulk(store, txn, body, LMDB_DROP_CHUNKS, &done);
    }
    if (error != CAP_OK || !done) {
        return error;
    }
    store_body_key(body, key);
    return lmdb_delete(store, txn, LMDB_STAGES, (struct cap_bytes){key, sizeof(key)});
}

enum cap_error lmdb_sweep(struct cap_store *base, uint64_t now_us, bool *ret_more)
{
    struct lmdb_store *store = lmdb_of(base);
    *ret_more = false;
    enum cap_error noted = lmdb_quarantine_noted(store, now_us);
    if (noted != CAP_OK) {
        return noted;
    }
    if (!store->sweep) {
        return CAP_OK;
    }
    enum cap_error error = lmdb_write_begin(store);
    if (error != CAP_OK) {
        return error;
    }
    error = lmdb_write_end(store, sweep_in(store));
    if (error == CAP_E_NOT_FOUND) {
        store->sweep = false;
        return CAP_OK;
    }
    *ret_more = error == CAP_OK;
    return error;
}
