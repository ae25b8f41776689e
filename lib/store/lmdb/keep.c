/*
 * What keeps caps: leases, and roots in two tables, by name and by cap.
 *
 * A cap that loses a root is looked at by collection, whatever else may keep it: an entry too many
 * does no harm (due.c).
 */
#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

#define KEEP_BYTES 512u /* that a lease takes, roughly: a record and its entry in the queue */

/* --- Leases ----------------------------------------------------------------------------------- */

enum cap_error lmdb_keep_one(struct lmdb_store *store, struct cap_keep *keep)
{
    struct lmdb_write *write = &store->write;
    struct store_cap cap;
    keep->error = lmdb_find_cap(store, write->txn, &keep->hash, &cap);
    if (keep->error != CAP_OK) {
        return keep->error == CAP_E_NOT_FOUND ? CAP_OK : keep->error;
    }
    keep->kind = cap.info.kind;
    keep->kept_until_s = cap.info.kept_until_s;
    uint64_t until_s = store_lease_end(&store->base, keep->keep_s);
    if (!store_lease_gains(&store->base, cap.info.kept_until_s, until_s)) {
        return CAP_OK;
    }
    /* For the end of the lease before, when collection will see that there is another. */
    bool is_queued = cap.info.kept_until_s > cap_store_clock(&store->base);
    enum cap_error error = lmdb_write_room(store, KEEP_BYTES);
    if (error == CAP_OK) {
        cap.info.kept_until_s = until_s;
        error = lmdb_put_cap(store, write->txn, &keep->hash, &cap);
    }
    if (error == CAP_OK && !is_queued) {
        error = lmdb_due_add_lease(store, &keep->hash, until_s);
    }
    keep->kept_until_s = until_s;
    write->changed = true;
    return error;
}

enum cap_error lmdb_keep(struct cap_store *base, struct cap_keep *keeps, size_t count)
{
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = lmdb_write_begin(store);
    if (error != CAP_OK) {
        return error;
    }
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        error = lmdb_keep_one(store, &keeps[i]);
    }
    return lmdb_write_end(store, error);
}

/* --- Roots ------------------------------------------------------------------------------------ */

static struct cap_bytes name_key(const char *name)
{
    return (struct cap_bytes){(const uint8_t *)name, strnlen(name, CAP_ROOT_NAME_MAX)};
}

/* The key of `rooted`. */
static struct cap_bytes rooted_key(const struct cap_root *root, uint8_t key[STORE_KEY_MAX])
{
    struct cap_bytes name = name_key(root->name);
    memcpy(key, root->hash.bytes, CAP_HASH_SIZE);
    memcpy(key + CAP_HASH_SIZE, name.data, name.len);
    return (struct cap_bytes){key, CAP_HASH_SIZE + name.len};
}

/* The root of a name, which is copied; CAP_E_NOT_FOUND. */
static enum cap_error get_root(const struct lmdb_store *store, MDB_txn *txn, struct cap_bytes name,
                               struct cap_root *ret_root)
{
    struct cap_bytes value;
    if (name.len == 0 || name.len > CAP_ROOT_NAME_MAX) {
        return CAP_E_CORRUPT;
    }
    memcpy(ret_root->name, name.data, name.len);
    ret_root->name[name.len] = '\0';
    enum cap_error error = lmdb_get(store, txn, LMDB_ROOTS, name, &value);
    return error == CAP_OK ? store_root_decode(value, ret_root) : error;
}

/* Takes a root from its cap; its record is the caller's. */
static enum cap_error unroot(struct lmdb_store *store, const struct cap_root *root)
{
    uint8_t key[STORE_KEY_MAX];
    enum cap_error error = lmdb_delete(store, store->write.txn, LMDB_ROOTED, rooted_key(root, key));
    store->write.changed = true;
    return error == CAP_OK ? lmdb_due_add(store, &root->hash, 0) : error;
}

static enum cap_error root_set(struct lmdb_store *store, const struct cap_root *root,
                               bool *ret_replaced)
{
    MDB_txn *txn = store->write.txn;
    uint8_t key[STORE_KEY_MAX];
    uint8_t value[STORE_ROOT_SIZE];
    struct cap_root before;
    struct store_cap cap;
    enum cap_error error = lmdb_write_room(store, KEEP_BYTES);
    if (error == CAP_OK) {
        error = lmdb_find_cap(store, txn, &root->hash, &cap);
    }
    if (error != CAP_OK) {
        return error;
    }
    error = get_root(store, txn, name_key(root->name), &before);
    if (error != CAP_OK && error != CAP_E_NOT_FOUND) {
        return error;
    }
    *ret_replaced = error == CAP_OK;
    if (*ret_replaced && !cap_hash_equal(&before.hash, &root->hash)) {
        error = unroot(store, &before);
        if (error != CAP_OK) {
            return error;
        }
    }
    store_root_encode(root, value);
    error = lmdb_put(store, txn, LMDB_ROOTS, name_key(root->name),
                     (struct cap_bytes){value, sizeof(value)});
    store->write.changed = true;
    return error == CAP_OK ? lmdb_put(store, txn, LMDB_ROOTED, rooted_key(root, key),
                                      (struct cap_bytes){value, 0})
                           : error;
}

enum cap_error lmdb_root_set(struct cap_store *base, const struct cap_root *root,
                             bool *ret_replaced)
{
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = lmdb_write_begin(store);
    return error == CAP_OK ? lmdb_write_end(store, root_set(store, root, ret_replaced)) : error;
}

static enum cap_error root_remove(struct lmdb_store *store, const char *name)
{
    struct cap_root root;
    enum cap_error error = get_root(store, store->write.txn, name_key(name), &root);
    if (error != CAP_OK) {
        return error == CAP_E_NOT_FOUND ? CAP_E_NO_ROOT : error;
    }
    error = unroot(store, &root);
    return error == CAP_OK ? lmdb_delete(store, store->write.txn, LMDB_ROOTS, name_key(name))
                           : error;
}

enum cap_error lmdb_root_remove(struct cap_store *base, const char *name)
{
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = lmdb_write_begin(store);
    return error == CAP_OK ? lmdb_write_end(store, root_remove(store, name)) : error;
}

/* --- Reading ---------------------------------------------------------------------------------- */

static enum cap_error roots(struct lmdb_read *read, const char *after, size_t max,
                            struct cap_root *ret_roots, size_t *ret_count, bool *ret_more)
{
    struct lmdb_store *store = lmdb_of(read->base.store);
    char start[CAP_ROOT_NAME_MAX + 1] = "";
    MDB_val key = {1, start};
    MDB_val value;
    enum cap_error error = lmdb_cursor_open(read, store->tables[LMDB_ROOTS]);
    if (error != CAP_OK) {
        return error;
    }
    if (after != NULL) { /* what comes next after the name: itself and a zero byte */
        struct cap_bytes name = name_key(after);
        memcpy(start, name.data, name.len);
        key.mv_size = name.len + 1;
    }
    *ret_count = 0;
    *ret_more = false;
    int rc;
    for (rc = mdb_cursor_get(read->cursor, &key, &value, MDB_SET_RANGE); rc == 0;
         rc = mdb_cursor_get(read->cursor, &key, &value, MDB_NEXT)) {
        if (*ret_count == max) {
            *ret_more = true;
            return CAP_OK;
        }
        error = get_root(store, read->txn, (struct cap_bytes){key.mv_data, key.mv_size},
                         &ret_roots[*ret_count]);
        if (error != CAP_OK) {
            return error;
        }
        (*ret_count)++;
    }
    return rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_roots(struct cap_read *base, const char *after, size_t max,
                          struct cap_root *ret_roots, size_t *ret_count, bool *ret_more)
{
    struct lmdb_read *read = lmdb_read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&lmdb_of(base->store)->map, error,
                 roots(read, after, max, ret_roots, ret_count, ret_more));
    return lmdb_cursor_close(read, error);
}

static enum cap_error roots_of(struct lmdb_read *read, const struct cap_hash *hash, size_t max,
                               struct cap_root *ret_roots, size_t *ret_count)
{
    struct lmdb_store *store = lmdb_of(read->base.store);
    uint8_t start[CAP_HASH_SIZE];
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    enum cap_error error = lmdb_cursor_open(read, store->tables[LMDB_ROOTED]);
    if (error != CAP_OK) {
        return error;
    }
    memcpy(start, hash->bytes, sizeof(start));
    *ret_count = 0;
    int rc;
    for (rc = mdb_cursor_get(read->cursor, &key, &value, MDB_SET_RANGE);
         rc == 0 && *ret_count < max; rc = mdb_cursor_get(read->cursor, &key, &value, MDB_NEXT)) {
        const uint8_t *bytes = key.mv_data;
        if (key.mv_size <= CAP_HASH_SIZE || memcmp(bytes, hash->bytes, CAP_HASH_SIZE) != 0) {
            return CAP_OK;
        }
        const struct cap_bytes name = {bytes + CAP_HASH_SIZE, key.mv_size - CAP_HASH_SIZE};
        error = get_root(store, read->txn, name, &ret_roots[*ret_count]);
        if (error != CAP_OK) {
            return error == CAP_E_NOT_FOUND ? CAP_E_CORRUPT : error;
        }
        (*ret_count)++;
    }
    return rc == 0 || rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_roots_of(struct cap_read *base, const struct cap_hash *hash, size_t max,
                             struct cap_root *ret_roots, size_t *ret_count)
{
    struct lmdb_read *read = lmdb_read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&lmdb_of(base->store)->map, error,
                 roots_of(read, hash, max, ret_roots, ret_count));
    return lmdb_cursor_close(read, error);
}

/* --- What keeps a cap ------------------------------------------------------------------------- */

enum cap_error lmdb_has_pair(const struct lmdb_store *store, MDB_txn *txn, MDB_cursor **slot,
                             enum lmdb_table table, const struct cap_hash *hash, bool *ret_has)
{
    uint8_t start[CAP_HASH_SIZE];
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    MDB_stat stat;
    int rc = mdb_stat(txn, store->tables[table], &stat); /* as lmdb_cursor_open does */
    if (rc == 0) {
        rc = mdb_cursor_open(txn, store->tables[table], slot);
    }
    if (rc == 0) {
        memcpy(start, hash->bytes, sizeof(start));
        rc = mdb_cursor_get(*slot, &key, &value, MDB_SET_RANGE);
        mdb_cursor_close(*slot);
        *slot = NULL;
    }
    *ret_has = rc == 0 && key.mv_size > CAP_HASH_SIZE &&
               memcmp(key.mv_data, hash->bytes, CAP_HASH_SIZE) == 0;
    return rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_find_needed(const struct lmdb_store *store, MDB_txn *txn, MDB_cursor **slot,
                                const struct cap_hash *hash, const struct store_cap *cap,
                                unsigned *ret_needed)
{
    bool rooted = false;
    bool referred = false;
    enum cap_error error = lmdb_has_pair(store, txn, slot, LMDB_ROOTED, hash, &rooted);
    if (error == CAP_OK) {
        error = lmdb_has_pair(store, txn, slot, LMDB_REVS, hash, &referred);
    }
    bool leased = cap->info.kept_until_s > cap_store_clock(&store->base);
    *ret_needed = (rooted ? CAP_NEEDED_ROOT : 0) | (referred ? CAP_NEEDED_REFERENCE : 0) |
                  (leased ? CAP_NEEDED_LEASE : 0);
    return error;
}

static enum cap_error needed(struct lmdb_read *read, const struct cap_hash *hash,
                             unsigned *ret_needed)
{
    const struct lmdb_store *store = lmdb_of(read->base.store);
    struct store_cap cap;
    enum cap_error error = lmdb_find_cap(store, read->txn, hash, &cap);
    if (error == CAP_E_CORRUPT) { /* of its lease nothing can be said, but of the rest */
        cap = (struct store_cap){0};
        error = CAP_OK;
    }
    return error == CAP_OK
               ? lmdb_find_needed(store, read->txn, &read->cursor, hash, &cap, ret_needed)
               : error;
}

enum cap_error lmdb_needed(struct cap_read *base, const struct cap_hash *hash, unsigned *ret_needed)
{
    struct lmdb_read *read = lmdb_read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&lmdb_of(base->store)->map, error, needed(read, hash, ret_needed));
    return lmdb_cursor_close(read, error);
}
