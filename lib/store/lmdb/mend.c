/*
 * Puts right what a look found, in the write transaction of lmdb_check_mend.
 *
 * What a cap's body proves is written as its admission wrote it; what belongs to nothing is
 * deleted. The counts are only right again when they have been counted anew, which each pass does
 * last.
 */
#include "lib/store/lmdb/check.h"
#include "lib/store/lmdb/keep.h"

static bool is_wanted(const struct check *check)
{
    return check->mending && check->repair && check->mend_error == CAP_OK;
}

void lmdb_mend_put(struct check *check, enum lmdb_table table, const void *key, size_t key_len,
                   const void *value, size_t len)
{
    if (is_wanted(check)) {
        check->mend_error =
            lmdb_put(check->store, check->txn, table, (struct cap_bytes){key, key_len},
                     (struct cap_bytes){value, len});
    }
}

void lmdb_mend_delete(struct check *check, enum lmdb_table table, const void *key, size_t key_len)
{
    if (is_wanted(check)) {
        check->mend_error =
            lmdb_delete(check->store, check->txn, table, (struct cap_bytes){key, key_len});
    }
}

static void mirror_of(const uint8_t pair[STORE_PAIR_KEY], uint8_t ret_mirror[STORE_PAIR_KEY])
{
    memcpy(ret_mirror, pair + CAP_HASH_SIZE, CAP_HASH_SIZE);
    memcpy(ret_mirror + CAP_HASH_SIZE, pair, CAP_HASH_SIZE);
}

void lmdb_mend_ref(struct check *check, const uint8_t pair[STORE_PAIR_KEY], uint8_t tables)
{
    uint8_t mirror[STORE_PAIR_KEY];
    mirror_of(pair, mirror);
    lmdb_mend_put(check, LMDB_REFS, pair, STORE_PAIR_KEY, &tables, 1);
    lmdb_mend_put(check, LMDB_REVS, mirror, STORE_PAIR_KEY, &tables, 1);
}

void lmdb_mend_unref(struct check *check, const uint8_t pair[STORE_PAIR_KEY])
{
    uint8_t mirror[STORE_PAIR_KEY];
    struct cap_hash target;
    mirror_of(pair, mirror);
    lmdb_mend_delete(check, LMDB_REFS, pair, STORE_PAIR_KEY);
    lmdb_mend_delete(check, LMDB_REVS, mirror, STORE_PAIR_KEY);
    memcpy(target.bytes, mirror, CAP_HASH_SIZE);
    lmdb_mend_due(check, &target, 0);
}

void lmdb_mend_due(struct check *check, const struct cap_hash *hash, uint64_t time_s)
{
    if (is_wanted(check)) {
        check->mend_error = lmdb_due_add(check->store, hash, time_s);
    }
}

void lmdb_mend_lost(struct check *check, const struct cap_hash *hash)
{
    uint8_t key[STORE_FACT_KEY];
    uint8_t value[STORE_FACT_SIZE];
    memcpy(key, hash->bytes, CAP_HASH_SIZE);
    key[CAP_HASH_SIZE] = CAP_FACT_LOST;
    cap_store64(value, store_wall_us());
    lmdb_mend_put(check, LMDB_FACTS, key, sizeof(key), value, sizeof(value));
}

/* Deletes what there is of a stream, whatever the record says of its length. */
static void drop_stream(struct check *check, uint64_t body, enum store_stream stream)
{
    struct check_entry *entry = &check->probed;
    uint8_t start[STORE_CHUNK_KEY];
    const struct cap_bytes from = {start, STORE_BODY_KEY + 1};
    store_chunk_key(body, stream, 0, start);
    while (is_wanted(check)) {
        enum cap_error error = lmdb_check_next(check, &check->probe, LMDB_BULK, from, entry);
        lmdb_check_end_probe(check);
        if (error == CAP_E_NOT_FOUND ||
            (error == CAP_OK &&
             (entry->key_len < from.len || memcmp(entry->key, from.data, from.len) != 0))) {
            return;
        }
        if (error != CAP_OK) {
            check->mend_error = error;
            return;
        }
        lmdb_mend_delete(check, LMDB_BULK, entry->key, entry->key_len);
    }
}

void lmdb_mend_stream(struct check *check, uint64_t body, enum store_stream stream,
                      const void *bytes, uint64_t len)
{
    const struct cap_source source = {.memory = bytes};
    const struct lmdb_bulk bulk = {.body = body, .stream = stream, .source = &source, .to = len};
    drop_stream(check, body, stream);
    if (is_wanted(check)) {
        check->mend_error = lmdb_put_bulk(check->store, check->txn, &bulk);
    }
}

void lmdb_mend_record(struct check *check, const struct store_cap *cap)
{
    uint8_t bytes[STORE_CAP_MAX];
    size_t len = store_cap_encode(cap, bytes);
    lmdb_mend_put(check, LMDB_CAPS, check->hash->bytes, CAP_HASH_SIZE, bytes, len);
}

void lmdb_mend_release(struct check *check)
{
    if (is_wanted(check)) {
        check->mend_error = lmdb_release_in(check->store, check->hash);
    }
}

enum cap_error lmdb_check_settle(struct check *check)
{
    struct lmdb_store *store = check->store;
    enum cap_error error = lmdb_write_begin(store);
    if (error != CAP_OK) {
        return error;
    }
    check->txn = store->write.txn;
    error = lmdb_check_mend(check);
    check->txn = NULL;
    store->write.changed = true;
    return lmdb_write_end(store, error);
}

enum cap_error lmdb_mend_quarantine(struct check *check, const struct check_mend *mend)
{
    struct cap_hash hash;
    struct store_cap cap;
    memcpy(hash.bytes, mend->key, CAP_HASH_SIZE);
    if (!lmdb_check_record(check, &hash, &cap) || cap.body != mend->body || cap.info.quarantined) {
        return CAP_OK; /* it went, or was healed, or is known */
    }
    check->outcome.quarantined++;
    return lmdb_quarantine_in(check->store, &hash, store_wall_us());
}
