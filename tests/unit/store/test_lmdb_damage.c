/*
 * Damaged LMDB stores: every damage is an error with a name, never a wrong byte and never a crash.
 * The tests edit the file with LMDB itself while the store is closed, or cut it.
 */
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/store/record.h"
#include "lib/store/scrub.h"
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

static struct fixture_engine lmdb = {.is_lmdb = true};

/* --- The file by hand ------------------------------------------------------------------------- */

struct raw {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
};

static struct raw raw_begin(const struct fixture *fixture, const char *table)
{
    struct raw raw;
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    assert_int_equal(mdb_env_create(&raw.env), 0);
    assert_int_equal(mdb_env_set_maxdbs(raw.env, 8), 0);
    assert_int_equal(mdb_env_set_mapsize(raw.env, FIXTURE_MAP), 0);
    assert_int_equal(mdb_env_open(raw.env, path, MDB_NOSUBDIR, 0600), 0);
    assert_int_equal(mdb_txn_begin(raw.env, NULL, 0, &raw.txn), 0);
    assert_int_equal(mdb_dbi_open(raw.txn, table, 0, &raw.table), 0);
    return raw;
}

static void raw_end(const struct raw *raw)
{
    assert_int_equal(mdb_txn_commit(raw->txn), 0);
    mdb_env_close(raw->env);
}

/* Copies a record's value to `ret_value` (room for `max`); returns its length. */
static size_t raw_get(const struct raw *raw, void *key, size_t key_len, void *ret_value, size_t max)
{
    MDB_val k = {key_len, key}, v;
    assert_int_equal(mdb_get(raw->txn, raw->table, &k, &v), 0);
    assert_true(v.mv_size <= max);
    memcpy(ret_value, v.mv_data, v.mv_size);
    return v.mv_size;
}

static void raw_put(const struct raw *raw, void *key, size_t key_len, void *value, size_t value_len)
{
    MDB_val k = {key_len, key}, v = {value_len, value};
    assert_int_equal(mdb_put(raw->txn, raw->table, &k, &v, 0), 0);
}

/* As raw_put, with a seal that fits: what only a whole check can find. */
static void raw_put_sealed(const struct raw *raw, void *key, size_t key_len, const void *value,
                           size_t value_len)
{
    static uint8_t sealed[70000];
    memcpy(sealed, value, value_len);
    store_seal(store_seed((struct cap_bytes){key, key_len}), sealed, value_len);
    raw_put(raw, key, key_len, sealed, value_len + STORE_SEAL_SIZE);
}

static void raw_delete(const struct raw *raw, void *key, size_t key_len)
{
    MDB_val k = {key_len, key};
    assert_int_equal(mdb_del(raw->txn, raw->table, &k, NULL), 0);
}

/* Changes a bit of the value of every record of a table; returns how many there are. */
static size_t spoil_all(const struct fixture *fixture, const char *table)
{
    static uint8_t spoiled[70000];
    struct raw raw = raw_begin(fixture, table);
    MDB_cursor *cursor;
    MDB_val key, value;
    size_t count = 0;
    assert_int_equal(mdb_cursor_open(raw.txn, raw.table, &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        MDB_val changed = {value.mv_size, spoiled};
        memcpy(spoiled, value.mv_data, value.mv_size);
        spoiled[value.mv_size / 2] ^= 1;
        assert_int_equal(mdb_cursor_put(cursor, &key, &changed, MDB_CURRENT), 0);
        count++;
    }
    mdb_cursor_close(cursor);
    raw_end(&raw);
    return count;
}

/* --- Records ---------------------------------------------------------------------------------- */

static void test_damaged_cap_record(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fake_hash(1);
    struct cap_list_query query = {.max = 4, .scan_max = 4};
    struct cap_listed items[4];
    struct cap_read *read;
    uint8_t record[STORE_CAP_MAX + STORE_SEAL_SIZE];
    size_t count = 9;
    bool more;
    assert_cap_ok(put_data(fixture->store, 1, 1000));
    assert_cap_ok(put_data(fixture->store, 2, 1000));
    fixture_close(fixture);
    struct raw raw = raw_begin(fixture, "caps");
    size_t len = raw_get(&raw, hash.bytes, CAP_HASH_SIZE, record, sizeof(record));
    record[8] ^= 1; /* body_len */
    raw_put(&raw, hash.bytes, CAP_HASH_SIZE, record, len);
    raw_end(&raw);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_error(check_cap(fixture->store, 1, 1000), CAP_E_QUARANTINED);
    assert_cap_ok(check_cap(fixture->store, 2, 1000));
    assert_cap_ok(put_data(fixture->store, 3, 1000));
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_error(cap_store_list(read, &query, items, &count, &hash, &more), CAP_E_CORRUPT);
    assert_int_equal(count, 9);
    cap_store_read_end(read);
    assert_cap_ok(put_data(fixture->store, 1, 1000));
    assert_cap_ok(check_cap(fixture->store, 1, 1000));
    assert_int_equal(get_counts(fixture->store).caps[CAP_KIND_DATA], 3);
}

static void test_damaged_pairs(void **state)
{
    struct fixture *fixture = *state;
    uint64_t seed = 1;
    struct cap_put put = fake_image(&seed, 10);
    struct cap_ref ref = {fake_hash(2), CAP_REF_PINNED}, got;
    struct cap_hash content = fake_hash(3), hash;
    uint8_t pair[STORE_PAIR_KEY], value[2] = {1, 1};
    struct cap_read *read;
    size_t count;
    bool more;
    put.refs = &ref;
    put.ref_count = 1;
    put.info.has_content_hash = true;
    put.info.content_hash = content;
    assert_cap_ok(put_one(fixture->store, &put, NULL));
    fixture_close(fixture);
    memcpy(pair, put.hash.bytes, CAP_HASH_SIZE);
    memcpy(pair + CAP_HASH_SIZE, ref.hash.bytes, CAP_HASH_SIZE);
    struct raw raw = raw_begin(fixture, "refs");
    raw_put(&raw, pair, sizeof(pair), value, 2);
    raw_end(&raw);
    raw = raw_begin(fixture, "contents");
    raw_put(&raw, content.bytes, CAP_HASH_SIZE, value, 2);
    raw_end(&raw);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_error(cap_store_refs(read, &put.hash, CAP_REFS_OUT, NULL, 1, &got, &count, &more),
                     CAP_E_CORRUPT);
    assert_cap_ok(cap_store_refs(read, &ref.hash, CAP_REFS_IN, NULL, 1, &got, &count, &more));
    assert_cap_error(cap_store_find_content(read, &content, &hash), CAP_E_CORRUPT);
    cap_store_read_end(read);
}

/* --- What keeps caps -------------------------------------------------------------------------- */

static unsigned needed_by(struct cap_store *store, uint64_t seed)
{
    struct cap_hash hash = fake_hash(seed);
    struct cap_read *read;
    unsigned needed = 0;
    assert_cap_ok(cap_store_read_begin(store, &read));
    assert_cap_ok(cap_store_needed(read, &hash, &needed));
    cap_store_read_end(read);
    return needed;
}

static enum cap_error put_kept(struct cap_store *store, uint64_t seed)
{
    struct cap_put put = fake_data(&seed, 10);
    struct cap_admission admission = {.puts = &put, .put_count = 1, .keep_s = 1000};
    return admit_one(store, &admission);
}

/* The queue of collection: what is published goes into records behind the damaged ones. */
static void test_damaged_queue(void **state)
{
    struct fixture *fixture = *state;
    struct cap_due_cursor cursor = {0};
    struct cap_keep keep = {.hash = fake_hash(2), .keep_s = 5000};
    struct cap_due due[8];
    struct cap_read *read;
    size_t count = 0;
    bool more = false;
    assert_cap_ok(put_kept(fixture->store, 1));
    assert_cap_ok(put_data(fixture->store, 2, 10));
    fixture_close(fixture);
    assert_true(spoil_all(fixture, "due") >= 2);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(put_kept(fixture->store, 3));
    assert_cap_ok(put_data(fixture->store, 4, 10));
    assert_cap_ok(cap_store_keep(fixture->store, &keep, 1));
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_ok(
        cap_store_due(read, &cursor, cap_store_clock(fixture->store), 8, due, &count, &more));
    cap_store_read_end(read);
    assert_int_equal(count, 1);
    assert_int_equal(collect_all(fixture->store).caps, 1);
    assert_false(is_there(fixture->store, 4));
    advance(fixture->store, 1100);
    assert_int_equal(collect_all(fixture->store).caps, 1);
    assert_false(is_there(fixture->store, 3));
}

static void on_finding(void *ctx, const struct cap_hash *hash, const char *what)
{
    (void)ctx;
    (void)hash;
    print_message("%s\n", what);
}

/* What a publisher has cannot be read: caps come and go all the same, and a repair counts them. */
static void test_damaged_owner(void **state)
{
    struct fixture *fixture = *state;
    const struct cap_check_watch watch = {.finding = on_finding};
    struct cap_check_outcome outcome;
    struct cap_usage usage = {0};
    struct cap_read *read;
    assert_cap_ok(put_data(fixture->store, 1, 10));
    assert_cap_ok(put_kept(fixture->store, 2));
    fixture_close(fixture);
    assert_int_equal(spoil_all(fixture, "owners"), 1);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(put_kept(fixture->store, 3));
    assert_int_equal(collect_all(fixture->store).caps, 1);
    fixture_close(fixture);
    assert_cap_ok(cap_store_lmdb_repair(fixture->dir, &watch, &outcome));
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_ok(cap_store_owner(read, 1000, &usage));
    cap_store_read_end(read);
    assert_int_equal(usage.caps, 2);
    assert_int_equal(usage.bytes, 20);
    fixture_check(fixture);
}

/* A damaged fact of one cap says nothing about another. */
static void test_damaged_fact(void **state)
{
    struct fixture *fixture = *state;
    struct cap_fact facts[2];
    struct cap_read *read;
    size_t count = 9;
    uint64_t damaged = 1;
    for (uint64_t seed = 1; seed <= 3; seed++) { /* the last in the order of hashes */
        struct cap_hash hash = fake_hash(seed), last = fake_hash(damaged);
        assert_cap_ok(put_data(fixture->store, seed, 10));
        damaged = memcmp(hash.bytes, last.bytes, CAP_HASH_SIZE) > 0 ? seed : damaged;
    }
    struct cap_hash hash = fake_hash(damaged);
    assert_cap_ok(cap_store_quarantine(fixture->store, &hash));
    fixture_close(fixture);
    assert_int_equal(spoil_all(fixture, "facts"), 1);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_error(cap_store_facts(read, &hash, 2, facts, &count), CAP_E_CORRUPT);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct cap_hash other = fake_hash(seed);
        if (seed != damaged) {
            assert_cap_ok(cap_store_facts(read, &other, 2, facts, &count));
            assert_int_equal(count, 0);
        }
    }
    cap_store_read_end(read);
}

/* What is left of an Image goes, also where the lease of one of its targets cannot be renewed. */
static void test_damaged_target(void **state)
{
    enum { FIRST = 100, COUNT = 100 };
    struct fixture *fixture = *state;
    struct cap_hash image = fake_hash(1), target = fake_hash(FIRST + COUNT / 2);
    struct cap_keep keep = {.hash = image, .keep_s = 1000};
    uint8_t record[STORE_CAP_MAX + STORE_SEAL_SIZE];
    bool more = true;
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_cap_ok(put_data(fixture->store, FIRST + i, 10));
    }
    put_image(fixture->store, 1, FIRST, COUNT);
    assert_cap_ok(cap_store_keep(fixture->store, &keep, 1));
    fixture_close(fixture);
    struct raw raw = raw_begin(fixture, "caps");
    size_t len = raw_get(&raw, target.bytes, CAP_HASH_SIZE, record, sizeof(record));
    record[len / 2] ^= 1;
    raw_put(&raw, target.bytes, CAP_HASH_SIZE, record, len);
    raw_end(&raw);
    assert_cap_ok(fixture_open(fixture));
    assert_int_equal(needed_by(fixture->store, FIRST + COUNT / 2), CAP_NEEDED_REFERENCE);
    assert_cap_ok(cap_store_delete(fixture->store, &image, 0, true));
    while (more) {
        assert_cap_ok(cap_store_sweep(fixture->store, 1, &more));
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        unsigned lease = i == COUNT / 2 ? 0 : CAP_NEEDED_LEASE;
        assert_int_equal(needed_by(fixture->store, FIRST + i), lease);
    }
}

/* --- Bulk ------------------------------------------------------------------------------------- */

/* A chunk gone, short, long and changed: that window says that the cap is quarantined. */
static void test_damaged_chunks(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t chunk[70000];
    assert_cap_ok(put_data(fixture->store, 1, 200000)); /* body 1: chunks 0 to 3 */
    for (int damage = 0; damage < 5; damage++) {
        struct cap_hash hash = fake_hash(1);
        struct iovec iov[CAP_STORE_WINDOW_IOV];
        uint8_t key[STORE_CHUNK_KEY];
        struct cap_read *read;
        struct raw raw;
        size_t len;
        int count;
        fixture_close(fixture);
        store_chunk_key(1, STORE_STREAM_BODY, 1, key);
        raw = raw_begin(fixture, "bulk");
        len = raw_get(&raw, key, sizeof(key), chunk, sizeof(chunk));
        assert_int_equal(len, 65520);
        if (damage == 0) {
            raw_delete(&raw, key, sizeof(key));
        } else if (damage > 2) { /* one bit of the bytes, or of their seal */
            size_t at = damage == 3 ? 40000 : 65515;
            chunk[at] ^= 0x10;
            raw_put(&raw, key, sizeof(key), chunk, len);
            chunk[at] ^= 0x10;
        } else {
            raw_put(&raw, key, sizeof(key), chunk, damage == 1 ? len - 1 : len + 1);
        }
        raw_end(&raw);
        assert_cap_ok(fixture_open(fixture));
        assert_cap_ok(cap_store_read_begin(fixture->store, &read));
        assert_cap_ok(cap_store_window(read, &hash, 0, 65512, iov, &count, &len));
        assert_cap_ok(cap_store_window(read, &hash, 131024, 68976, iov, &count, &len));
        assert_cap_error(
            cap_store_window(read, &hash, damage % 2 == 0 ? 0 : 70000, 65513, iov, &count, &len),
            CAP_E_QUARANTINED);
        assert_cap_error(cap_store_window(read, &hash, 0, 1, iov, &count, &len),
                         CAP_E_QUARANTINED); /* from now on, in snapshots of before, too */
        cap_store_read_end(read);
        fixture_close(fixture);
        raw = raw_begin(fixture, "bulk");
        raw_put(&raw, key, sizeof(key), chunk, 65520);
        raw_end(&raw);
        assert_cap_ok(fixture_open(fixture));
        assert_cap_ok(check_cap(fixture->store, 1, 200000));
    }
}

/* A small body that is damaged at its place, or whose bulk is gone: a fact of the cap. */
static void test_damaged_places(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fake_hash(1);
    uint8_t key[STORE_CHUNK_KEY], chunk[5000];
    struct cap_place place;
    struct cap_info info;
    assert_cap_ok(put_data(fixture->store, 1, 1000));
    assert_cap_ok(put_data(fixture->store, 2, 1000));
    assert_cap_ok(put_data(fixture->store, 3, 4125)); /* these have a rest */
    assert_cap_ok(put_data(fixture->store, 4, 4125));
    fixture_close(fixture);
    struct raw raw = raw_begin(fixture, "bulk");
    store_chunk_key(1, STORE_STREAM_BODY, 0, key);
    assert_int_equal(raw_get(&raw, key, sizeof(key), chunk, sizeof(chunk)), 1008);
    chunk[5] ^= 1;
    raw_put(&raw, key, sizeof(key), chunk, 1008);
    store_chunk_key(2, STORE_STREAM_BODY, 0, key);
    raw_put(&raw, key, sizeof(key), chunk, 999);
    store_chunk_key(3, STORE_STREAM_BODY, 1, key);
    assert_int_equal(raw_get(&raw, key, sizeof(key), chunk, sizeof(chunk)), 61);
    chunk[5] ^= 1;
    raw_put(&raw, key, sizeof(key), chunk, 61);
    store_chunk_key(4, STORE_STREAM_BODY, 1, key);
    raw_delete(&raw, key, sizeof(key));
    raw_end(&raw);
    assert_cap_ok(fixture_open(fixture));
    struct cap_read *read = begin_read(fixture->store);
    assert_cap_ok(cap_store_locate(read, &hash, &info, &place));
    assert_cap_error(cap_store_take(read, &hash, &place, chunk), CAP_E_QUARANTINED);
    hash = fake_hash(2);
    assert_cap_error(cap_store_locate(read, &hash, &info, &place), CAP_E_QUARANTINED);
    hash = fake_hash(3);
    assert_cap_ok(cap_store_locate(read, &hash, &info, &place));
    assert_cap_error(cap_store_take(read, &hash, &place, chunk), CAP_E_QUARANTINED);
    hash = fake_hash(4);
    assert_cap_error(cap_store_locate(read, &hash, &info, &place), CAP_E_QUARANTINED);
    cap_store_read_end(read);
    for (uint64_t seed = 1; seed <= 2; seed++) {
        assert_cap_error(check_cap(fixture->store, seed, 1000), CAP_E_QUARANTINED);
        assert_cap_ok(put_data(fixture->store, seed, 1000)); /* heals it */
        assert_cap_ok(check_cap(fixture->store, seed, 1000));
    }
}

/* Peeking looks at no byte and says so; what was checked is remembered, what is damaged is not. */
static void test_peek_and_facts(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fake_hash(1);
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    uint8_t key[STORE_CHUNK_KEY];
    static uint8_t chunk[70000];
    struct cap_fact facts[2];
    struct cap_read *read;
    bool more;
    size_t len, count = 9;
    int spans;
    assert_cap_ok(put_data(fixture->store, 1, 200000));
    assert_cap_ok(put_data(fixture->store, 2, 200000));
    fixture_close(fixture);
    store_chunk_key(1, STORE_STREAM_BODY, 1, key);
    struct raw raw = raw_begin(fixture, "bulk");
    assert_int_equal(raw_get(&raw, key, sizeof(key), chunk, sizeof(chunk)), 65520);
    chunk[5] ^= 1;
    raw_put(&raw, key, sizeof(key), chunk, 65520);
    raw_end(&raw);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_ok(cap_store_window(read, &hash, 10, 10, iov, &spans, &len));
    assert_cap_ok(cap_store_peek(read, &hash, 0, 70000, iov, &spans, &len));
    assert_int_equal(len, 70000);
    assert_cap_error(cap_store_window(read, &hash, 0, 70000, iov, &spans, &len), CAP_E_QUARANTINED);
    assert_cap_ok(cap_store_facts(read, &hash, 2, facts, &count));
    assert_int_equal(count, 0); /* not in this snapshot */
    cap_store_read_end(read);
    assert_cap_error(check_cap(fixture->store, 1, 200000), CAP_E_QUARANTINED);
    assert_cap_ok(check_cap(fixture->store, 2, 200000));
    assert_cap_ok(cap_store_sweep(fixture->store, 1234, &more));
    assert_cap_error(check_cap(fixture->store, 1, 200000), CAP_E_QUARANTINED);
    assert_cap_ok(cap_store_sweep(fixture->store, 5678, &more)); /* the first time counts */
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_ok(cap_store_facts(read, &hash, 2, facts, &count));
    assert_int_equal(count, 1);
    assert_int_equal(facts[0].kind, CAP_FACT_DAMAGED);
    assert_int_equal(facts[0].time_us, 1234);
    hash = fake_hash(2);
    assert_cap_ok(cap_store_facts(read, &hash, 2, facts, &count));
    assert_int_equal(count, 0);
    cap_store_read_end(read);
}

/* A record with a flag that this version must understand and does not: not supported, not damaged.
 */
static void test_unknown_flags(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fake_hash(1);
    uint8_t record[STORE_CAP_MAX + STORE_SEAL_SIZE];
    assert_cap_ok(put_data(fixture->store, 1, 1000));
    fixture_close(fixture);
    struct raw raw = raw_begin(fixture, "caps");
    size_t len = raw_get(&raw, hash.bytes, CAP_HASH_SIZE, record, sizeof(record)) - STORE_SEAL_SIZE;
    cap_store16(record + 4, 0x1000); /* may be ignored */
    raw_put_sealed(&raw, hash.bytes, CAP_HASH_SIZE, record, len);
    raw_end(&raw);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(check_cap(fixture->store, 1, 1000));
    fixture_close(fixture);
    raw = raw_begin(fixture, "caps");
    cap_store16(record + 2, 0x1000); /* may not */
    raw_put_sealed(&raw, hash.bytes, CAP_HASH_SIZE, record, len);
    raw_end(&raw);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_error(check_cap(fixture->store, 1, 1000), CAP_E_STORE_VERSION);
}

/* --- What opening refuses --------------------------------------------------------------------- */

static void set_meta(struct fixture *fixture, const char *name, const void *value, size_t len)
{
    struct raw raw = raw_begin(fixture, "meta");
    uint8_t bytes[128];
    char key[16];
    (void)snprintf(key, sizeof(key), "%s", name);
    if (value != NULL) {
        memcpy(bytes, value, len);
        raw_put(&raw, key, strlen(key), bytes, len);
    } else {
        raw_delete(&raw, key, strlen(key));
    }
    raw_end(&raw);
}

static void test_meta_records(void **state)
{
    struct fixture *fixture = *state;
    struct store_state counts = {.next_body = 1};
    uint8_t format[STORE_FORMAT_SIZE + STORE_SEAL_SIZE], record[STORE_STATE_SIZE + STORE_SEAL_SIZE];
    const struct cap_bytes format_key = {(const uint8_t *)"format", 6};
    const struct cap_bytes state_key = {(const uint8_t *)"state", 5};
    fixture_close(fixture);
    store_format_encode(fixture_id, format);
    store_seal(store_seed(format_key), format, STORE_FORMAT_SIZE);
    store_state_encode(&counts, record);
    store_seal(store_seed(state_key), record, STORE_STATE_SIZE);
    format[0] = 1;
    set_meta(fixture, "format", format, STORE_FORMAT_SIZE); /* the first version had no seal */
    assert_cap_error(fixture_open(fixture), CAP_E_STORE_VERSION);
    assert_non_null(strstr(cap_error_text(CAP_E_STORE_VERSION), "; run the version"));
    set_meta(fixture, "format", NULL, 0);
    assert_cap_error(fixture_open(fixture), CAP_E_CORRUPT);
    format[0] = STORE_FORMAT_VERSION;
    set_meta(fixture, "format", format, sizeof(format));
    record[20] ^= 1;
    set_meta(fixture, "state", record, sizeof(record));
    assert_cap_error(fixture_open(fixture), CAP_E_CORRUPT);
    set_meta(fixture, "state", NULL, 0);
    assert_cap_error(fixture_open(fixture), CAP_E_CORRUPT);
    record[20] ^= 1;
    set_meta(fixture, "state", record, sizeof(record));
    assert_null(fixture->store);
    assert_cap_ok(fixture_open(fixture));
}

static void file_path(const struct fixture *fixture, char ret_path[256])
{
    (void)snprintf(ret_path, 256, "%s/store.lmdb", fixture->dir);
}

static void overwrite(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void test_not_a_store(void **state)
{
    struct fixture *fixture = *state;
    char path[256];
    static uint8_t garbage[20000];
    fixture_close(fixture);
    file_path(fixture, path);
    overwrite(path, garbage, 0);
    assert_cap_error(fixture_open(fixture), CAP_E_CORRUPT);
    memset(garbage, 0x5a, sizeof(garbage));
    overwrite(path, garbage, 100);
    assert_cap_error(fixture_open(fixture), CAP_E_CORRUPT);
    overwrite(path, garbage, sizeof(garbage));
    assert_cap_error(fixture_open(fixture), CAP_E_CORRUPT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_cap_error(fixture_open(fixture), CAP_E_CORRUPT);
    assert_int_equal(rmdir(path), 0);
    assert_cap_ok(fixture_open(fixture)); /* nothing there: a new one */
}

/* Cuts the zeros that were written ahead off the file of a store that is closed. */
static void cut_ahead(const struct fixture *fixture)
{
    struct raw raw = raw_begin(fixture, "caps");
    MDB_envinfo info;
    char path[256];
    assert_int_equal(mdb_env_info(raw.env, &info), 0);
    mdb_txn_abort(raw.txn);
    mdb_env_close(raw.env);
    file_path(fixture, path);
    assert_int_equal(truncate(path, (off_t)(info.me_last_pgno + 1) * 4096), 0);
}

/* Cut at every page and in the middle of some: refused, or all of it still reads. No SIGBUS. */
static void test_truncated(void **state)
{
    struct fixture *fixture = *state;
    struct stat st;
    char path[256];
    size_t len, refused = 0, cuts = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        assert_cap_ok(put_data(fixture->store, seed, 30000 * seed));
    }
    fixture_close(fixture);
    cut_ahead(fixture);
    file_path(fixture, path);
    uint8_t *bytes = load_file(path, &len);
    for (size_t cut = 0; cut < len; cut += cut % 5 ? 4096 : 4095) {
        enum cap_error error;
        overwrite(path, bytes, cut);
        error = fixture_open(fixture);
        cuts++;
        if (error != CAP_OK) {
            assert_cap_error(error, CAP_E_CORRUPT);
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(st.st_size / 4096, cut / 4096); /* left as found */
            refused++;
            continue;
        }
        for (uint64_t seed = 1; seed <= 6; seed++) {
            assert_cap_ok(check_cap(fixture->store, seed, 30000 * seed));
        }
        fixture_close(fixture);
    }
    assert_true(refused > cuts * 9 / 10);
    overwrite(path, bytes, len);
    free(bytes);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(check_cap(fixture->store, 6, 180000));
}

/*
 * LMDB does not write pages that one transaction takes and gives back, so a sound file can be
 * shorter than LMDB's last page says. Such a store opens.
 */
static void test_sound_but_short(void **state)
{
    struct fixture *fixture = *state;
    uint8_t key[CAP_HASH_SIZE] = {0};
    static uint8_t value[65520];
    MDB_envinfo info;
    struct stat st;
    char path[256];
    for (uint64_t seed = 1; seed <= 5;
         seed++) { /* makes some free pages, but no long run of them */
        assert_cap_ok(put_data(fixture->store, seed, 1000));
    }
    fixture_close(fixture);
    cut_ahead(fixture);
    struct raw raw = raw_begin(fixture, "contents");
    raw_put(&raw, key, sizeof(key), value, 100);
    key[0] = 1;
    raw_put(&raw, key, sizeof(key), value, sizeof(value));
    raw_delete(&raw, key, sizeof(key));
    assert_int_equal(mdb_txn_commit(raw.txn), 0);
    assert_int_equal(mdb_env_info(raw.env, &info), 0);
    mdb_env_close(raw.env);
    file_path(fixture, path);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_size < (uint64_t)(info.me_last_pgno + 1) * 4096);
    assert_cap_ok(fixture_open(fixture));
    for (uint64_t seed = 1; seed <= 5; seed++) {
        assert_cap_ok(check_cap(fixture->store, seed, 1000));
    }
    assert_cap_ok(put_data(fixture->store, 6, 300000));
    assert_cap_ok(check_cap(fixture->store, 6, 300000));
}

#define WITH(function)                                                                             \
    {                                                                                              \
#function, function, fixture_setup, fixture_teardown, &lmdb                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_damaged_cap_record), WITH(test_damaged_pairs),   WITH(test_damaged_queue),
        WITH(test_damaged_owner),      WITH(test_damaged_fact),    WITH(test_damaged_target),
        WITH(test_damaged_chunks),     WITH(test_peek_and_facts),  WITH(test_damaged_places),
        WITH(test_unknown_flags),      WITH(test_meta_records),    WITH(test_not_a_store),
        WITH(test_truncated),          WITH(test_sound_but_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
