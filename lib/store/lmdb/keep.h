/*
 * What keeps caps, and how they go: the part of the LMDB engine's insides for leases, roots,
 * publishers' sums, deletion and collection. Internal to lib/store.
 */
#ifndef LIB_STORE_LMDB_KEEP_H
#define LIB_STORE_LMDB_KEEP_H

#include "lib/store/lmdb/lmdb.h"

/* --- lmdb/due.c ----------------------------------------------------------------------------- */

/*
 * Has collection look at a cap when the store clock is `time_s`, or as soon as it can: 0. Part of
 * the transaction store->write, as the next three.
 */
enum cap_error lmdb_due_add(struct lmdb_store *store, const struct cap_hash *hash, uint64_t time_s);

/* The same for the end of a lease, or for a time that is a little later. */
enum cap_error lmdb_due_add_lease(struct lmdb_store *store, const struct cap_hash *hash,
                                  uint64_t until_s);

/* Writes what was added. */
enum cap_error lmdb_due_flush(struct lmdb_store *store);

/* The hashes of a record that LMDB handed out. CAP_E_CORRUPT. */
enum cap_error lmdb_due_decode(const MDB_val *key, const MDB_val *value, uint32_t *ret_time_s,
                               uint64_t *ret_sequence, struct cap_bytes *ret_prefixes);

/* --- lmdb/owners.c -------------------------------------------------------------------------- */

/* Adds a cap to what its publisher's come to, or, with `sign` -1, takes it away. */
enum cap_error lmdb_owner_add(struct lmdb_store *store, const struct cap_info *info, int sign);

/* Writes what was added. */
enum cap_error lmdb_owners_flush(struct lmdb_store *store);

/* The operation owner of engine.h. */
enum cap_error lmdb_owner(struct cap_read *base, uint32_t uid, struct cap_usage *ret_usage);

/* The operation owners of engine.h. */
enum cap_error lmdb_owners(struct cap_read *base, uint32_t from, size_t max,
                           struct cap_owner *ret_owners, size_t *ret_count);

/* --- lmdb/corpses.c ------------------------------------------------------------------------- */

/*
 * Takes up to `max` references away from a cap that is removed, and its other content hashes;
 * *ret_done when none is left. Its lease, which may be over, is passed on to the targets, and those
 * that lose their last reference are looked at by collection. As all here part of store->write.
 */
enum cap_error lmdb_take_refs(struct lmdb_store *store, const struct cap_hash *hash,
                              uint64_t kept_until_s, size_t max, bool *ret_done);

/* Lists what is left of a removed cap. */
enum cap_error lmdb_corpse_put(struct lmdb_store *store, const struct cap_hash *hash,
                               const struct store_cap *cap);

/* The cap is put again: the references that are left of it are its own. Fine if none are. */
enum cap_error lmdb_corpse_revive(struct lmdb_store *store, const struct cap_hash *hash);

/* Whether a value of the table stages is a corpse's. */
static inline bool lmdb_is_corpse(struct cap_bytes value)
{
    return value.len == STORE_CORPSE_SIZE;
}

/* Goes on with a corpse as lmdb_take_refs does; of one that has none left only bulk stays. */
enum cap_error lmdb_corpse_sweep(struct lmdb_store *store, uint64_t body, struct cap_bytes value);

/* Reads which there are, in `txn`, while the store is opened. */
enum cap_error lmdb_corpses_load(struct lmdb_store *store, MDB_txn *txn);

/* After the transaction's end. */
void lmdb_corpses_settle(struct lmdb_store *store, bool committed);

/* Forgets all. */
void lmdb_corpses_free(struct lmdb_store *store);

/* --- lmdb/remove.c -------------------------------------------------------------------------- */

/*
 * Removes a cap in the transaction store->write: a small one wholly, of a larger one a corpse stays
 * for the sweep. CAP_E_STILL_NEEDED, and nothing happened: it is held.
 */
enum cap_error lmdb_remove_cap(struct lmdb_store *store, const struct cap_hash *hash,
                               const struct store_cap *cap, enum cap_gone_cause cause,
                               uint32_t uid);

/*
 * The same of a cap that has to be found first. CAP_E_NOT_FOUND. CAP_E_STILL_NEEDED also where a
 * root keeps it, or, unless `force`, anything else.
 */
enum cap_error lmdb_remove_in(struct lmdb_store *store, const struct cap_hash *hash,
                              enum cap_gone_cause cause, uint32_t uid, bool force);

/* What lmdb_remove_cap has to do, roughly, in entries of tables. */
size_t lmdb_remove_work(const struct store_cap *cap);

/* The operations of these names of engine.h. */
enum cap_error lmdb_remove(struct cap_store *base, const struct cap_hash *hash, uint32_t uid,
                           bool force);
enum cap_error lmdb_removed(struct cap_read *base, const struct cap_hash *hash,
                            struct cap_removed *ret_removed);

/* --- lmdb/collect.c ------------------------------------------------------------------------- */

/* The operations of these names of engine.h. */
enum cap_error lmdb_collect(struct cap_store *base, size_t max_caps,
                            struct cap_collected *ret_collected);
enum cap_error lmdb_due(struct cap_read *base, struct cap_due_cursor *cursor, uint64_t now_s,
                        size_t max, struct cap_due *ret_due, size_t *ret_count, bool *ret_more);

/* --- lmdb/keep.c ---------------------------------------------------------------------------- */

/* Gives or renews a lease in the transaction store->write. An error is the transaction's. */
enum cap_error lmdb_keep_one(struct lmdb_store *store, struct cap_keep *keep);

/*
 * Whether a table of pairs has one that begins with the hash; see lmdb_find_needed for *slot.
 */
enum cap_error lmdb_has_pair(const struct lmdb_store *store, MDB_txn *txn, MDB_cursor **slot,
                             enum lmdb_table table, const struct cap_hash *hash, bool *ret_has);

/*
 * What keeps a cap that is there, but for holds; `txn` is of any kind. Its cursors are in *slot
 * while they are open, which a guarded read may leave behind.
 */
enum cap_error lmdb_find_needed(const struct lmdb_store *store, MDB_txn *txn, MDB_cursor **slot,
                                const struct cap_hash *hash, const struct store_cap *cap,
                                unsigned *ret_needed);

/* The operations of these names of engine.h. */
enum cap_error lmdb_keep(struct cap_store *base, struct cap_keep *keeps, size_t count);
enum cap_error lmdb_root_set(struct cap_store *base, const struct cap_root *root,
                             bool *ret_replaced);
enum cap_error lmdb_root_remove(struct cap_store *base, const char *name);
enum cap_error lmdb_roots(struct cap_read *base, const char *after, size_t max,
                          struct cap_root *ret_roots, size_t *ret_count, bool *ret_more);
enum cap_error lmdb_roots_of(struct cap_read *base, const struct cap_hash *hash, size_t max,
                             struct cap_root *ret_roots, size_t *ret_count);
enum cap_error lmdb_needed(struct cap_read *base, const struct cap_hash *hash,
                           unsigned *ret_needed);

#endif
