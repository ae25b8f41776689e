/* What the caps of each first publisher come to, kept in the transactions that change it. */
#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"

static enum cap_error get_owner(const struct lmdb_store *store, MDB_txn *txn, uint32_t uid,
                                struct cap_usage *ret_usage)
{
    uint8_t key[STORE_OWNER_KEY];
    struct cap_bytes value;
    store_owner_key(uid, key);
    enum cap_error error =
        lmdb_get(store, txn, LMDB_OWNERS, (struct cap_bytes){key, sizeof(key)}, &value);
    if (error == CAP_E_NOT_FOUND) {
        *ret_usage = (struct cap_usage){0};
        return CAP_OK;
    }
    return error == CAP_OK ? store_owner_decode(value, ret_usage) : error;
}

static enum cap_error put_owner(const struct lmdb_store *store, MDB_txn *txn, uint32_t uid,
                                const struct cap_usage *usage)
{
    uint8_t key[STORE_OWNER_KEY];
    uint8_t value[STORE_OWNER_SIZE];
    store_owner_key(uid, key);
    if (usage->caps == 0) {
        return lmdb_delete(store, txn, LMDB_OWNERS, (struct cap_bytes){key, sizeof(key)});
    }
    store_owner_encode(usage, value);
    return lmdb_put(store, txn, LMDB_OWNERS, (struct cap_bytes){key, sizeof(key)},
                    (struct cap_bytes){value, sizeof(value)});
}

enum cap_error lmdb_owners_flush(struct lmdb_store *store)
{
    struct lmdb_write *write = &store->write;
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < write->owner_count; i++) {
        const struct lmdb_owner *change = &write->owners[i];
        struct cap_usage usage;
        error = get_owner(store, write->txn, change->uid, &usage);
        if (error == CAP_E_CORRUPT) { /* left alone, until a repair counts anew */
            error = CAP_OK;
        } else if (error == CAP_OK) {
            usage.caps += (uint64_t)change->caps; /* modulo 2^64: it may be less than nothing */
            usage.bytes += (uint64_t)change->bytes;
            error = put_owner(store, write->txn, change->uid, &usage);
        }
    }
    write->owner_count = 0;
    return error;
}

enum cap_error lmdb_owner_add(struct lmdb_store *store, const struct cap_info *info, int sign)
{
    struct lmdb_write *write = &store->write;
    size_t i = 0;
    while (i < write->owner_count && write->owners[i].uid != info->publisher.uid) {
        i++;
    }
    if (i == LMDB_OWNERS_PENDING) {
        enum cap_error error = lmdb_owners_flush(store);
        if (error != CAP_OK) {
            return error;
        }
        i = 0;
    }
    if (i == write->owner_count) {
        write->owners[write->owner_count++] = (struct lmdb_owner){.uid = info->publisher.uid};
    }
    write->owners[i].caps += sign;
    write->owners[i].bytes += sign * (int64_t)info->body_len;
    return CAP_OK;
}

enum cap_error lmdb_owner(struct cap_read *base, uint32_t uid, struct cap_usage *ret_usage)
{
    struct lmdb_read *read = lmdb_read_of(base);
    struct lmdb_store *store = lmdb_of(base->store);
    enum cap_error error;
    LMDB_GUARDED(&store->map, error, get_owner(store, read->txn, uid, ret_usage));
    return lmdb_cursor_close(read, error);
}

static enum cap_error list_owners(struct lmdb_read *read, uint32_t from, size_t max,
                                  struct cap_owner *ret_owners, size_t *ret_count)
{
    struct lmdb_store *store = lmdb_of(read->base.store);
    uint8_t start[STORE_OWNER_KEY];
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    enum cap_error error = lmdb_cursor_open(read, store->tables[LMDB_OWNERS]);
    store_owner_key(from, start);
    *ret_count = 0;
    int rc = error == CAP_OK ? mdb_cursor_get(read->cursor, &key, &value, MDB_SET_RANGE) : 0;
    while (error == CAP_OK && rc == 0 && *ret_count < max) {
        struct cap_owner *owner = &ret_owners[*ret_count];
        struct cap_bytes bytes;
        if (key.mv_size != STORE_OWNER_KEY || !lmdb_unseal(&key, &value, &bytes)) {
            return CAP_E_CORRUPT;
        }
        owner->uid = store_owner_key_load(key.mv_data);
        error = store_owner_decode(bytes, &owner->usage);
        (*ret_count)++;
        rc = mdb_cursor_get(read->cursor, &key, &value, MDB_NEXT);
    }
    return error != CAP_OK || rc == MDB_NOTFOUND ? error : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_owners(struct cap_read *base, uint32_t from, size_t max,
                           struct cap_owner *ret_owners, size_t *ret_count)
{
    struct lmdb_read *read = lmdb_read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&lmdb_of(base->store)->map, error,
                 list_owners(read, from, max, ret_owners, ret_count));
    return lmdb_cursor_close(read, error);
}
