/*
 * Collection: looks at what the queue says is due (due.c), and removes what nothing needs.
 *
 * There is no mark phase: what keeps a cap can be told from its record and two indexes, so the work
 * follows what was published and what lost its keep. Removing an Image puts its targets into the
 * queue, and the next slice looks at them. Each slice is one transaction of a bounded size, and
 * within it everything is looked up anew; so nothing that happened since can be overlooked.
 */
#include <stdlib.h>
#include <sys/param.h>

#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

#define SLICE_CAPS   1024u /* at most, whatever is asked for */
#define SLICE_WORK   4096u /* entries of tables that a slice deletes, roughly */
#define HELD_AGAIN_S 10u   /* when a cap that is held is looked at again */
#define LIST_ENTRIES 4096u /* of the queue, that one listing looks at */

struct prefix {
    uint8_t bytes[STORE_DUE_PREFIX];
};

struct slice {
    struct lmdb_store *store;
    struct prefix prefixes[SLICE_CAPS];
    size_t count;
    size_t max;
    size_t work;
    struct cap_collected *result;
};

/* --- The queue -------------------------------------------------------------------------------- */

/* Takes hashes from the record that the cursor is at, and puts those back that are too many. */
static enum cap_error take_record(struct slice *slice, MDB_cursor *cursor, const MDB_val *key,
                                  struct cap_bytes prefixes)
{
    const struct lmdb_store *store = slice->store;
    size_t count = MIN(prefixes.len / STORE_DUE_PREFIX, slice->max - slice->count);
    size_t taken = count * STORE_DUE_PREFIX;
    memcpy(slice->prefixes + slice->count, prefixes.data, taken);
    slice->count += count;
    if (taken == prefixes.len) {
        return lmdb_error(store->fd, mdb_cursor_del(cursor, 0));
    }
    uint8_t own_key[STORE_DUE_KEY];
    uint8_t rest[STORE_VALUE_MAX];
    memcpy(own_key, key->mv_data, sizeof(own_key));
    memcpy(rest, prefixes.data + taken, prefixes.len - taken);
    return lmdb_put(store, store->write.txn, LMDB_DUE, (struct cap_bytes){own_key, sizeof(own_key)},
                    (struct cap_bytes){rest, prefixes.len - taken});
}

/* Takes what is due by `now_s` until there is enough; then result->more if there is more. */
static enum cap_error take_due(struct slice *slice, MDB_cursor *cursor, uint64_t now_s)
{
    MDB_val key, value;
    int rc = 0;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST)) == 0) {
        struct cap_bytes prefixes;
        uint32_t time_s;
        uint64_t sequence;
        if (lmdb_due_decode(&key, &value, &time_s, &sequence, &prefixes) != CAP_OK) {
            rc = mdb_cursor_del(cursor, 0); /* of a damaged one nothing can be told */
            if (rc != 0) {
                break;
            }
            continue;
        }
        if (time_s > now_s) {
            return CAP_OK;
        }
        if (slice->count == slice->max) {
            slice->result->more = true;
            return CAP_OK;
        }
        enum cap_error error = take_record(slice, cursor, &key, prefixes);
        if (error != CAP_OK) {
            return error;
        }
    }
    return rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(slice->store->fd, rc);
}

/* --- Caps ------------------------------------------------------------------------------------- */

static enum cap_error look_at(struct slice *slice, const struct cap_hash *hash,
                              const struct store_cap *cap)
{
    struct lmdb_store *store = slice->store;
    MDB_cursor *cursor = NULL;
    unsigned needed = 0;
    enum cap_error error = lmdb_find_needed(store, store->write.txn, &cursor, hash, cap, &needed);
    slice->result->looked_at++;
    slice->work++;
    if (error == CAP_OK && (needed & CAP_NEEDED_LEASE) != 0) {
        return lmdb_due_add_lease(store, hash, cap->info.kept_until_s);
    }
    if (error != CAP_OK || needed != 0) {
        return error;
    }
    error = lmdb_remove_cap(store, hash, cap, CAP_GONE_COLLECTED, UINT32_MAX);
    if (error == CAP_E_STILL_NEEDED) {
        return lmdb_due_add(store, hash, cap_store_clock(&store->base) + HELD_AGAIN_S);
    }
    slice->work += lmdb_remove_work(cap);
    slice->result->caps++;
    slice->result->bytes += cap->info.body_len;
    return error;
}

/*
 * Finds the next cap with that prefix after `after`, or the first: NULL. CAP_E_NOT_FOUND, also for
 * one whose record is damaged, which is left alone.
 */
static enum cap_error next_cap(struct lmdb_store *store, MDB_cursor *cursor,
                               const struct prefix *prefix, const struct cap_hash *after,
                               struct cap_hash *ret_hash, struct store_cap *ret_cap)
{
    uint8_t start[CAP_HASH_SIZE] = {0};
    struct cap_bytes bytes;
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    if (after != NULL) {
        memcpy(start, after->bytes, sizeof(start));
    } else {
        memcpy(start, prefix->bytes, STORE_DUE_PREFIX);
    }
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc == 0 && after != NULL && key.mv_size == CAP_HASH_SIZE &&
        memcmp(key.mv_data, after->bytes, CAP_HASH_SIZE) == 0) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    if (key.mv_size != CAP_HASH_SIZE || memcmp(key.mv_data, prefix->bytes, STORE_DUE_PREFIX) != 0) {
        return CAP_E_NOT_FOUND;
    }
    memcpy(ret_hash->bytes, key.mv_data, CAP_HASH_SIZE);
    if (lmdb_unseal(&key, &value, &bytes) && store_cap_decode(bytes, ret_cap) == CAP_OK) {
        return CAP_OK;
    }
    (void)lmdb_damaged(store, ret_hash);
    return CAP_E_NOT_FOUND;
}

/* Looks at all caps with that prefix: there is hardly ever more than one. */
static enum cap_error look_at_prefix(struct slice *slice, MDB_cursor *cursor,
                                     const struct prefix *prefix)
{
    const struct cap_hash *after = NULL;
    struct cap_hash before, hash;
    struct store_cap cap;
    enum cap_error error;
    while ((error = next_cap(slice->store, cursor, prefix, after, &hash, &cap)) == CAP_OK) {
        error = look_at(slice, &hash, &cap);
        if (error != CAP_OK) {
            return error;
        }
        before = hash;
        after = &before;
    }
    return error == CAP_E_NOT_FOUND ? CAP_OK : error;
}

static int compare_prefixes(const void *a, const void *b)
{
    return memcmp(a, b, STORE_DUE_PREFIX);
}

/* In the order of the table, so that caps of one page are removed one after the other. */
static enum cap_error look_at_all(struct slice *slice, MDB_cursor *cursor)
{
    enum cap_error error = CAP_OK;
    qsort(slice->prefixes, slice->count, sizeof(*slice->prefixes), compare_prefixes);
    for (size_t i = 0; error == CAP_OK && i < slice->count; i++) {
        struct cap_hash hint = {{0}};
        if (i > 0 && compare_prefixes(&slice->prefixes[i - 1], &slice->prefixes[i]) == 0) {
            continue;
        }
        if (slice->work < SLICE_WORK) {
            error = look_at_prefix(slice, cursor, &slice->prefixes[i]);
            continue;
        }
        memcpy(hint.bytes, slice->prefixes[i].bytes, STORE_DUE_PREFIX);
        error = lmdb_due_add(slice->store, &hint, 0);
    }
    return error;
}

static enum cap_error with_cursor(struct slice *slice, enum lmdb_table table, MDB_cursor **cursor)
{
    const struct lmdb_store *store = slice->store;
    return lmdb_error(store->fd, mdb_cursor_open(store->write.txn, store->tables[table], cursor));
}

static enum cap_error collect(struct slice *slice)
{
    struct lmdb_store *store = slice->store;
    MDB_cursor *cursor;
    enum cap_error error = with_cursor(slice, LMDB_DUE, &cursor);
    if (error == CAP_OK) {
        error = take_due(slice, cursor, cap_store_clock(&store->base));
        mdb_cursor_close(cursor);
    }
    if (error == CAP_OK && slice->count > 0) {
        store->write.changed = true;
        error = with_cursor(slice, LMDB_CAPS, &cursor);
        if (error == CAP_OK) {
            error = look_at_all(slice, cursor);
            mdb_cursor_close(cursor);
        }
    }
    for (size_t i = 0; i < store->write.due_count; i++) {
        slice->result->more |= store->write.due[i].time_s == 0;
    }
    return error;
}

static enum cap_error collect_slice(struct lmdb_store *store, size_t max_caps,
                                    struct cap_collected *ret_collected)
{
    struct slice slice = {.store = store, .max = max_caps, .result = ret_collected};
    *ret_collected = (struct cap_collected){0};
    enum cap_error error = lmdb_write_begin(store);
    return error == CAP_OK ? lmdb_write_end(store, collect(&slice)) : error;
}

/*
 * To delete takes pages, too: where the map or the disk is full, those that are kept back for it
 * (lmdb_check_room). They may be too few for a long slice, but not for a short one.
 */
enum cap_error lmdb_collect(struct cap_store *base, size_t max_caps,
                            struct cap_collected *ret_collected)
{
    struct lmdb_store *store = lmdb_of(base);
    size_t max = MIN(max_caps, SLICE_CAPS);
    enum cap_error error = collect_slice(store, max, ret_collected);
    while (max > 1 && (error == CAP_E_DISK_FULL || error == CAP_E_MAP_FULL)) {
        max = MAX(max / 8, 1);
        error = collect_slice(store, max, ret_collected);
    }
    if (error != CAP_OK) {
        *ret_collected = (struct cap_collected){0};
    }
    return error;
}

/* --- What it would look at -------------------------------------------------------------------- */

struct listing {
    struct lmdb_read *read;
    struct cap_due_cursor *at;
    uint64_t now_s;
    size_t max;
    struct cap_due *due;
    size_t count;
    size_t entries;
};

/* Lists the caps with a prefix from listing->at on; false in *ret_all: there was no room. */
static enum cap_error list_prefix(struct listing *listing, const struct prefix *prefix,
                                  bool *ret_all)
{
    struct lmdb_store *store = lmdb_of(listing->read->base.store);
    struct cap_due_cursor *at = listing->at;
    struct lmdb_read *read = listing->read;
    *ret_all = false;
    while (listing->count < listing->max) {
        struct cap_due *due = &listing->due[listing->count];
        struct store_cap cap;
        enum cap_error error = lmdb_cursor_open(read, store->tables[LMDB_CAPS]);
        if (error == CAP_OK) {
            error = next_cap(store, read->cursor, prefix, at->in_entry ? &at->after : NULL,
                             &due->hash, &cap);
        }
        (void)lmdb_cursor_close(read, error);
        if (error == CAP_OK) {
            error =
                lmdb_find_needed(store, read->txn, &read->cursor, &due->hash, &cap, &due->needed);
        }
        if (error != CAP_OK) {
            *ret_all = error == CAP_E_NOT_FOUND;
            return *ret_all ? CAP_OK : error;
        }
        due->info = cap.info;
        listing->count++;
        at->after = due->hash;
        at->in_entry = true;
    }
    return CAP_OK;
}

/*
 * The record where the listing is, or the next that is not damaged; its hashes are copied.
 * CAP_E_NOT_FOUND.
 */
static enum cap_error find_record(struct listing *listing, struct prefix *ret_prefixes,
                                  size_t *ret_count)
{
    const struct lmdb_store *store = lmdb_of(listing->read->base.store);
    struct cap_due_cursor *at = listing->at;
    uint8_t start[STORE_DUE_KEY];
    MDB_val key = {sizeof(start), start};
    MDB_val value;
    struct cap_bytes prefixes;
    uint32_t time_s;
    uint64_t sequence;
    store_due_key(at->time_s, at->sequence, start);
    enum cap_error error = lmdb_cursor_open(listing->read, store->tables[LMDB_DUE]);
    for (MDB_cursor_op op = MDB_SET_RANGE; error == CAP_OK; op = MDB_NEXT) {
        error = lmdb_error(store->fd, mdb_cursor_get(listing->read->cursor, &key, &value, op));
        if (error == CAP_OK &&
            lmdb_due_decode(&key, &value, &time_s, &sequence, &prefixes) == CAP_OK) {
            break;
        }
    }
    if (error == CAP_OK && time_s > listing->now_s) {
        error = CAP_E_NOT_FOUND;
    }
    if (error == CAP_OK) {
        memcpy(ret_prefixes, prefixes.data, prefixes.len);
        *ret_count = prefixes.len / STORE_DUE_PREFIX;
        if (time_s != at->time_s || sequence != at->sequence) {
            *at = (struct cap_due_cursor){.time_s = time_s, .sequence = sequence};
        }
    }
    return lmdb_cursor_close(listing->read, error);
}

/* CAP_E_NOT_FOUND when there is no more. */
static enum cap_error list_due(struct listing *listing)
{
    struct cap_due_cursor *at = listing->at;
    struct prefix prefixes[STORE_DUE_HASHES];
    size_t count = 0;
    enum cap_error error = find_record(listing, prefixes, &count);
    while (error == CAP_OK && listing->count < listing->max && listing->entries < LIST_ENTRIES) {
        bool all;
        if (at->index >= count) {
            *at = (struct cap_due_cursor){.time_s = at->time_s, .sequence = at->sequence + 1};
            error = find_record(listing, prefixes, &count);
            continue;
        }
        listing->entries++;
        error = list_prefix(listing, &prefixes[at->index], &all);
        if (error == CAP_OK && all) {
            at->index++;
            at->in_entry = false;
        }
    }
    return error;
}

enum cap_error lmdb_due(struct cap_read *base, struct cap_due_cursor *cursor, uint64_t now_s,
                        size_t max, struct cap_due *ret_due, size_t *ret_count, bool *ret_more)
{
    struct listing listing = {
        .read = lmdb_read_of(base), .at = cursor, .now_s = now_s, .max = max, .due = ret_due};
    enum cap_error error;
    LMDB_GUARDED(&lmdb_of(base->store)->map, error, list_due(&listing));
    (void)lmdb_cursor_close(listing.read, error);
    *ret_count = listing.count;
    *ret_more = error == CAP_OK;
    return error == CAP_E_NOT_FOUND ? CAP_OK : error;
}
