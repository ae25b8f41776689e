/* Caps that may not be stored: a fact of the hash, which outlives the cap. */
#include "lib/store/lmdb/keep.h"

#define HEAD 12u /* time_us u64, uid u32; then the reason */

static enum cap_error decode(struct cap_bytes bytes, struct cap_forbidden *ret_forbidden)
{
    if (bytes.len < HEAD || bytes.len > HEAD + CAP_REASON_MAX) {
        return CAP_E_CORRUPT;
    }
    *ret_forbidden = (struct cap_forbidden){cap_load64(bytes.data), cap_load32(bytes.data + 8), ""};
    memcpy(ret_forbidden->reason, bytes.data + HEAD, bytes.len - HEAD);
    return CAP_OK;
}

static enum cap_error find(const struct lmdb_store *store, MDB_txn *txn,
                           const struct cap_hash *hash, struct cap_forbidden *ret_forbidden)
{
    struct cap_bytes bytes;
    enum cap_error error = lmdb_fact_get(store, txn, hash, CAP_FACT_FORBIDDEN, &bytes);
    return error == CAP_OK ? decode(bytes, ret_forbidden) : error;
}

enum cap_error lmdb_forbidden(struct cap_read *base, const struct cap_hash *hash,
                              struct cap_forbidden *ret_forbidden)
{
    struct lmdb_read *read = lmdb_read_of(base);
    struct lmdb_store *store = lmdb_of(base->store);
    enum cap_error error;
    LMDB_GUARDED(&store->map, error, find(store, read->txn, hash, ret_forbidden));
    return lmdb_cursor_close(read, error);
}

static enum cap_error put_forbidden(const struct lmdb_store *store, const struct cap_hash *hash,
                                    const struct cap_forbidden *forbidden)
{
    uint8_t key[STORE_FACT_KEY];
    uint8_t value[HEAD + CAP_REASON_MAX];
    size_t len = strlen(forbidden->reason);
    memcpy(key, hash->bytes, CAP_HASH_SIZE);
    key[CAP_HASH_SIZE] = CAP_FACT_FORBIDDEN;
    cap_store64(value, forbidden->time_us);
    cap_store32(value + 8, forbidden->uid);
    memcpy(value + HEAD, forbidden->reason, len);
    return lmdb_put(store, store->write.txn, LMDB_FACTS, (struct cap_bytes){key, sizeof(key)},
                    (struct cap_bytes){value, HEAD + len});
}

enum cap_error lmdb_forbid(struct cap_store *base, const struct cap_hash *hash,
                           const struct cap_forbidden *forbidden)
{
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = lmdb_write_begin(store);
    if (error != CAP_OK) {
        return error;
    }
    error = lmdb_remove_in(store, hash, CAP_GONE_FORBIDDEN, forbidden->uid, true);
    if (error == CAP_OK || error == CAP_E_NOT_FOUND) {
        store->write.changed = true;
        error = put_forbidden(store, hash, forbidden);
    }
    return lmdb_write_end(store, error);
}

static enum cap_error allow_in(struct lmdb_store *store, const struct cap_hash *hash)
{
    struct cap_bytes known;
    enum cap_error error = lmdb_fact_get(store, store->write.txn, hash, CAP_FACT_FORBIDDEN, &known);
    if (error == CAP_E_NOT_FOUND) {
        return error;
    }
    store->write.changed = true; /* a fact that cannot be read goes, too */
    return lmdb_fact_delete(store, store->write.txn, hash, CAP_FACT_FORBIDDEN);
}

enum cap_error lmdb_allow(struct cap_store *base, const struct cap_hash *hash)
{
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = lmdb_write_begin(store);
    return error == CAP_OK ? lmdb_write_end(store, allow_in(store, hash)) : error;
}
