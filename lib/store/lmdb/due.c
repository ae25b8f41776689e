/*
 * The queue of what collection looks at, in the order of time.
 *
 * An entry is a hint: "look at the caps whose hashes begin so, then". The records decide, so an
 * entry of a cap that is gone, or more than one of a cap, does no harm. What must hold is that a
 * cap that nothing keeps but a lease has one, for the lease's end at the latest: every new cap gets
 * one for that, one that loses a root or its last reference gets one for now, and collection puts
 * what it finds with a lease back for the end of that. So a lease that is renewed while it runs
 * needs no entry, and the queue does not grow where nobody collects.
 *
 * A record holds the beginnings of many hashes, 8 bytes each, and a transaction goes on with the
 * last record of a time, so that a small cap costs little more than these. For that the ends of
 * leases are rounded up, by less than a 32nd of what is left of them.
 */
#include <stdlib.h>

#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

#define DUE_FIRST 64u /* entries that memory is taken for at first */

enum cap_error lmdb_due_add(struct lmdb_store *store, const struct cap_hash *hash, uint64_t time_s)
{
    struct lmdb_write *write = &store->write;
    if (write->due_count == write->due_capacity) {
        size_t capacity = write->due_capacity == 0 ? DUE_FIRST : 2 * write->due_capacity;
        struct lmdb_due *due = realloc(write->due, capacity * sizeof(*due));
        if (due == NULL) {
            return CAP_E_NO_MEMORY;
        }
        write->due = due;
        write->due_capacity = capacity;
    }
    struct lmdb_due *due = &write->due[write->due_count++];
    due->time_s = time_s < STORE_CLOCK_MAX ? (uint32_t)time_s : STORE_CLOCK_MAX;
    memcpy(due->prefix, hash->bytes, STORE_DUE_PREFIX);
    return CAP_OK;
}

enum cap_error lmdb_due_add_lease(struct lmdb_store *store, const struct cap_hash *hash,
                                  uint64_t until_s)
{
    uint64_t now_s = cap_store_clock(&store->base);
    uint64_t step = 1;
    if (until_s <= now_s) {
        return lmdb_due_add(store, hash, 0);
    }
    while (step <= (until_s - now_s) / 128) {
        step *= 2;
    }
    return lmdb_due_add(store, hash, (until_s + step - 1) / step * step);
}

static int compare_due(const void *a, const void *b)
{
    const struct lmdb_due *left = a;
    const struct lmdb_due *right = b;
    if (left->time_s != right->time_s) {
        return left->time_s < right->time_s ? -1 : 1;
    }
    return memcmp(left->prefix, right->prefix, STORE_DUE_PREFIX);
}

/* The record that is written to. */
struct record {
    uint32_t time_s;
    uint64_t sequence;
    size_t count; /* of its hashes; 0: there is no such record yet */
    uint8_t prefixes[STORE_VALUE_MAX];
};

enum cap_error lmdb_due_decode(const MDB_val *key, const MDB_val *value, uint32_t *ret_time_s,
                               uint64_t *ret_sequence, struct cap_bytes *ret_prefixes)
{
    if (key->mv_size != STORE_DUE_KEY || !lmdb_unseal(key, value, ret_prefixes) ||
        ret_prefixes->len == 0 || ret_prefixes->len > STORE_VALUE_MAX ||
        ret_prefixes->len % STORE_DUE_PREFIX != 0) {
        return CAP_E_CORRUPT;
    }
    store_due_key_load(key->mv_data, ret_time_s, ret_sequence);
    return CAP_OK;
}

/* Reads the last record of record->time_s, or makes it the first of that time. */
static enum cap_error load_last(const struct lmdb_store *store, MDB_cursor *cursor,
                                struct record *record)
{
    uint8_t after[STORE_DUE_KEY];
    MDB_val key = {sizeof(after), after};
    MDB_val value;
    uint32_t time_s;
    struct cap_bytes prefixes;
    store_due_key(record->time_s, UINT64_MAX, after);
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    rc = mdb_cursor_get(cursor, &key, &value, rc == 0 ? MDB_PREV : MDB_LAST);
    record->sequence = 0;
    record->count = 0;
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store->fd, rc);
    }
    uint64_t sequence;
    enum cap_error error = lmdb_due_decode(&key, &value, &time_s, &sequence, &prefixes);
    if (error != CAP_OK && key.mv_size == STORE_DUE_KEY) { /* left alone: collection deletes it */
        store_due_key_load(key.mv_data, &time_s, &sequence);
        record->sequence = time_s == record->time_s ? sequence + 1 : 0;
        return CAP_OK;
    }
    if (error != CAP_OK || time_s != record->time_s) {
        return error;
    }
    record->sequence = sequence;
    if (prefixes.len == sizeof(record->prefixes)) {
        record->sequence++;
        return CAP_OK;
    }
    record->count = prefixes.len / STORE_DUE_PREFIX;
    memcpy(record->prefixes, prefixes.data, prefixes.len);
    return CAP_OK;
}

static enum cap_error put_record(const struct lmdb_store *store, const struct record *record)
{
    uint8_t key[STORE_DUE_KEY];
    store_due_key(record->time_s, record->sequence, key);
    /* Most are the last of all: told so, LMDB fills its pages, as at a chunk of bulk. */
    return lmdb_append(store, store->write.txn, LMDB_DUE, (struct cap_bytes){key, sizeof(key)},
                       (struct cap_bytes){record->prefixes, record->count * STORE_DUE_PREFIX});
}

/* Writes `count` entries of one time. */
static enum cap_error flush_time(const struct lmdb_store *store, MDB_cursor *cursor,
                                 const struct lmdb_due *due, size_t count)
{
    struct record record = {.time_s = due->time_s};
    enum cap_error error = load_last(store, cursor, &record);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        if (record.count == STORE_DUE_HASHES) {
            error = put_record(store, &record);
            record.sequence++;
            record.count = 0;
        }
        memcpy(record.prefixes + record.count * STORE_DUE_PREFIX, due[i].prefix, STORE_DUE_PREFIX);
        record.count++;
    }
    return error == CAP_OK ? put_record(store, &record) : error;
}

enum cap_error lmdb_due_flush(struct lmdb_store *store)
{
    struct lmdb_write *write = &store->write;
    MDB_cursor *cursor;
    if (write->due_count == 0) {
        return CAP_OK;
    }
    int rc = mdb_cursor_open(write->txn, store->tables[LMDB_DUE], &cursor);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    enum cap_error error = CAP_OK;
    qsort(write->due, write->due_count, sizeof(*write->due), compare_due);
    for (size_t from = 0, to = 0; error == CAP_OK && from < write->due_count; from = to) {
        while (to < write->due_count && write->due[to].time_s == write->due[from].time_s) {
            to++;
        }
        error = flush_time(store, cursor, &write->due[from], to - from);
    }
    mdb_cursor_close(cursor);
    write->due_count = 0;
    return error;
}
