/*
 * Caps that are not served: those whose bytes were found damaged, and those that somebody forbids.
 *
 * A quarantined cap stays where it is, with its references and what refers to it, so that an Image
 * that needs it is whole again when it is healed: published again, its new bytes take the place of
 * the old ones in one transaction. Its record says that it is quarantined; the fact says since
 * when. What a read finds is in memory first (`damaged`), where other reads see it at once, until
 * the writer writes it down.
 */
#include <stdlib.h>
#include <sys/param.h>

#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

static void fact_key(const struct cap_hash *hash, enum cap_fact_kind kind,
                     uint8_t ret_key[STORE_FACT_KEY])
{
    memcpy(ret_key, hash->bytes, CAP_HASH_SIZE);
    ret_key[CAP_HASH_SIZE] = (uint8_t)kind;
}

enum cap_error lmdb_fact_get(const struct lmdb_store *store, MDB_txn *txn,
                             const struct cap_hash *hash, enum cap_fact_kind kind,
                             struct cap_bytes *ret_value)
{
    uint8_t key[STORE_FACT_KEY];
    fact_key(hash, kind, key);
    return lmdb_get(store, txn, LMDB_FACTS, (struct cap_bytes){key, sizeof(key)}, ret_value);
}

enum cap_error lmdb_fact_put(const struct lmdb_store *store, MDB_txn *txn,
                             const struct cap_hash *hash, enum cap_fact_kind kind, uint64_t now_us)
{
    uint8_t key[STORE_FACT_KEY];
    uint8_t value[STORE_FACT_SIZE];
    struct cap_bytes known;
    if (lmdb_fact_get(store, txn, hash, kind, &known) == CAP_OK) {
        return CAP_OK; /* the first time counts */
    }
    fact_key(hash, kind, key);
    cap_store64(value, now_us);
    return lmdb_put(store, txn, LMDB_FACTS, (struct cap_bytes){key, sizeof(key)},
                    (struct cap_bytes){value, sizeof(value)});
}

enum cap_error lmdb_fact_delete(const struct lmdb_store *store, MDB_txn *txn,
                                const struct cap_hash *hash, enum cap_fact_kind kind)
{
    uint8_t key[STORE_FACT_KEY];
    fact_key(hash, kind, key);
    return lmdb_delete(store, txn, LMDB_FACTS, (struct cap_bytes){key, sizeof(key)});
}

/* --- What reads found ------------------------------------------------------------------------- */

/* Under the lock. */
static unsigned noted_at(const struct lmdb_store *store, const struct cap_hash *hash)
{
    unsigned at = 0;
    while (at < store->damaged_count && !cap_hash_equal(&store->damaged[at], hash)) {
        at++;
    }
    return at;
}

enum cap_error lmdb_damaged(struct lmdb_store *store, const struct cap_hash *hash)
{
    const struct cap_store_watch *watch = &store->base.watch;
    pthread_mutex_lock(&store->lock);
    bool is_new = noted_at(store, hash) == store->damaged_count;
    if (is_new && store->damaged_count < LMDB_DAMAGED) {
        store->damaged[store->damaged_count++] = *hash;
        atomic_store(&store->has_damaged, true);
    }
    pthread_mutex_unlock(&store->lock);
    if (is_new && watch->damaged != NULL) {
        watch->damaged(watch->ctx, hash);
    }
    return CAP_E_QUARANTINED;
}

static bool is_noted(struct lmdb_store *store, const struct cap_hash *hash)
{
    if (!atomic_load_explicit(&store->has_damaged, memory_order_relaxed)) {
        return false;
    }
    pthread_mutex_lock(&store->lock);
    bool noted = noted_at(store, hash) < store->damaged_count;
    pthread_mutex_unlock(&store->lock);
    return noted;
}

void lmdb_forget_noted(struct lmdb_store *store, const struct cap_hash *hash)
{
    pthread_mutex_lock(&store->lock);
    unsigned at = noted_at(store, hash);
    if (at < store->damaged_count) {
        store->damaged[at] = store->damaged[--store->damaged_count];
        atomic_store(&store->has_damaged, store->damaged_count > 0);
    }
    pthread_mutex_unlock(&store->lock);
}

/* --- Quarantine ------------------------------------------------------------------------------- */

enum cap_error lmdb_find_served(struct lmdb_store *store, MDB_txn *txn, const struct cap_hash *hash,
                                struct store_cap *ret_cap)
{
    struct cap_bytes known;
    enum cap_error error = lmdb_find_cap(store, txn, hash, ret_cap);
    if (error == CAP_OK) {
        return ret_cap->info.quarantined || is_noted(store, hash) ? CAP_E_QUARANTINED : CAP_OK;
    }
    if (error == CAP_E_NOT_FOUND) {
        error = lmdb_fact_get(store, txn, hash, CAP_FACT_FORBIDDEN, &known);
        return error == CAP_OK ? CAP_E_FORBIDDEN_CAP : CAP_E_NOT_FOUND;
    }
    if (error == CAP_E_CORRUPT) { /* of which nothing can be said but that */
        *ret_cap = (struct store_cap){.info.quarantined = true};
        error = lmdb_fact_get(store, txn, hash, CAP_FACT_DAMAGED, &known);
        return error == CAP_OK ? CAP_E_QUARANTINED : lmdb_damaged(store, hash);
    }
    return error;
}

enum cap_error lmdb_quarantine_in(struct lmdb_store *store, const struct cap_hash *hash,
                                  uint64_t now_us)
{
    struct lmdb_write *write = &store->write;
    struct store_cap cap;
    enum cap_error error = lmdb_find_cap(store, write->txn, hash, &cap);
    if (error == CAP_OK && !cap.info.quarantined) {
        cap.info.quarantined = true;
        error = lmdb_put_cap(store, write->txn, hash, &cap);
    } else if (error == CAP_E_CORRUPT) {
        error = CAP_OK; /* a record that cannot be read serves nothing */
    }
    if (error == CAP_OK) {
        error = store_gone_add(&store->base, hash, CAP_GONE_QUARANTINED);
    }
    if (error == CAP_OK) {
        write->changed = true;
        error = lmdb_fact_put(store, write->txn, hash, CAP_FACT_DAMAGED, now_us);
    }
    return error;
}

static enum cap_error note_healed(struct lmdb_write *write, const struct cap_hash *hash)
{
    if (write->healed_count == write->healed_capacity) {
        size_t capacity = 2 * write->healed_capacity + 16;
        struct cap_hash *healed = realloc(write->healed, capacity * sizeof(*healed));
        if (healed == NULL) {
            return CAP_E_NO_MEMORY;
        }
        write->healed = healed;
        write->healed_capacity = capacity;
    }
    write->healed[write->healed_count++] = *hash;
    return CAP_OK;
}

enum cap_error lmdb_release_in(struct lmdb_store *store, const struct cap_hash *hash)
{
    struct lmdb_write *write = &store->write;
    struct store_cap cap;
    enum cap_error error = lmdb_find_cap(store, write->txn, hash, &cap);
    if (error == CAP_OK) {
        cap.info.quarantined = false;
        error = lmdb_put_cap(store, write->txn, hash, &cap);
    }
    if (error == CAP_OK) {
        write->changed = true;
        error = lmdb_fact_delete(store, write->txn, hash, CAP_FACT_DAMAGED);
    }
    return error == CAP_OK ? note_healed(write, hash) : error;
}

static enum cap_error quarantine(struct lmdb_store *store, const struct cap_hash *hash,
                                 uint64_t now_us)
{
    enum cap_error error = lmdb_write_begin(store);
    if (error != CAP_OK) {
        return error;
    }
    error = lmdb_write_end(store, lmdb_quarantine_in(store, hash, now_us));
    if (error == CAP_OK || error == CAP_E_NOT_FOUND) {
        lmdb_forget_noted(store, hash);
    }
    return error;
}

enum cap_error lmdb_quarantine(struct cap_store *base, const struct cap_hash *hash)
{
    return quarantine(lmdb_of(base), hash, store_wall_us());
}

enum cap_error lmdb_quarantine_noted(struct lmdb_store *store, uint64_t now_us)
{
    struct cap_hash noted[LMDB_DAMAGED];
    enum cap_error error = CAP_OK;
    pthread_mutex_lock(&store->lock);
    unsigned count = store->damaged_count;
    memcpy(noted, store->damaged, sizeof(noted));
    pthread_mutex_unlock(&store->lock);
    for (unsigned i = 0; i < count && (error == CAP_OK || error == CAP_E_NOT_FOUND); i++) {
        error = quarantine(store, &noted[i], now_us);
    }
    return error == CAP_E_NOT_FOUND ? CAP_OK : error;
}

/* --- What is broken --------------------------------------------------------------------------- */

static bool take_broken(const MDB_val *key, const MDB_val *value, struct cap_broken *ret_broken)
{
    struct cap_bytes bytes;
    const uint8_t *name = key->mv_data;
    if (key->mv_size != STORE_FACT_KEY || !lmdb_unseal(key, value, &bytes) ||
        bytes.len < STORE_FACT_SIZE ||
        (name[CAP_HASH_SIZE] != CAP_FACT_DAMAGED && name[CAP_HASH_SIZE] != CAP_FACT_LOST)) {
        return false;
    }
    memcpy(ret_broken->hash.bytes, name, CAP_HASH_SIZE);
    ret_broken->kind = (enum cap_fact_kind)name[CAP_HASH_SIZE];
    ret_broken->time_us = cap_load64(bytes.data);
    return true;
}

static enum cap_error broken(struct lmdb_read *read, const struct cap_hash *after, size_t max,
                             struct cap_broken *ret_broken, size_t *ret_count, bool *ret_more)
{
    struct lmdb_store *store = lmdb_of(read->base.store);
    uint8_t start[STORE_FACT_KEY] = {0};
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    struct cap_broken one;
    enum cap_error error = lmdb_cursor_open(read, store->tables[LMDB_FACTS]);
    if (error != CAP_OK) {
        return error;
    }
    if (after != NULL) {
        memcpy(start, after->bytes, CAP_HASH_SIZE);
        start[CAP_HASH_SIZE] = UINT8_MAX; /* past all facts of that cap */
    }
    int rc;
    for (rc = mdb_cursor_get(read->cursor, &key, &value, MDB_SET_RANGE); rc == 0 && !*ret_more;
         rc = mdb_cursor_get(read->cursor, &key, &value, MDB_NEXT)) {
        if (take_broken(&key, &value, &one)) {
            *ret_more = *ret_count == max;
            if (!*ret_more) {
                ret_broken[(*ret_count)++] = one;
            }
        }
    }
    return rc == 0 || rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_broken(struct cap_read *base, const struct cap_hash *after, size_t max,
                           struct cap_broken *ret_broken, size_t *ret_count, bool *ret_more)
{
    struct lmdb_read *read = lmdb_read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&lmdb_of(base->store)->map, error,
                 broken(read, after, max, ret_broken, ret_count, ret_more));
    return lmdb_cursor_close(read, error);
}

/* --- Healing ---------------------------------------------------------------------------------- */

void lmdb_healed(struct lmdb_store *store)
{
    const struct cap_store_watch *watch = &store->base.watch;
    for (size_t i = 0; i < store->write.healed_count; i++) {
        lmdb_forget_noted(store, &store->write.healed[i]);
        if (watch->healed != NULL) {
            watch->healed(watch->ctx, &store->write.healed[i]);
        }
    }
}

enum cap_error lmdb_heal_in(struct lmdb_store *store, const struct cap_put *put, uint64_t body)
{
    struct lmdb_write *write = &store->write;
    struct store_cap cap = {.info = put->info, .body = body};
    struct store_cap known;
    enum cap_error error = lmdb_find_cap(store, write->txn, &put->hash, &known);
    if (error == CAP_OK) {
        cap.info.publisher = known.info.publisher;
        cap.info.published_us = known.info.published_us;
        cap.info.has_content_hash = known.info.has_content_hash;
        cap.info.content_hash = known.info.content_hash;
        cap.info.kept_until_s = MAX(known.info.kept_until_s, cap.info.kept_until_s);
        error = lmdb_bury_bulk(store, known.body);
    } else if (error == CAP_E_CORRUPT) {
        error = CAP_OK; /* what it took is found by the next scrub */
    }
    cap.info.quarantined = false;
    if (error == CAP_OK) {
        error = lmdb_put_cap(store, write->txn, &put->hash, &cap);
    }
    if (error == CAP_OK) {
        error = lmdb_due_add_lease(store, &put->hash, cap.info.kept_until_s);
    }
    if (error == CAP_OK) {
        write->changed = true;
        error = lmdb_fact_delete(store, write->txn, &put->hash, CAP_FACT_DAMAGED);
    }
    return error == CAP_OK ? note_healed(write, &put->hash) : error;
}
