/*
 * The scrub of a store in use, and repair, online and offline: the one finds what the check of a
 * closed store finds, the other makes of a store whose caps are sound one of which nothing is
 * found.
 *
 * Scrubs of a file with a flipped bit run in a child: LMDB may crash over it.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store/real.h"
#include "tests/unit/support.h"

#define FLIPS       300u
#define FLIPS_LONG  5000u
#define CHILD_LIMIT 60u
#define TEXT        8192u

static struct fixture_engine lmdb = {.is_lmdb = true};

/* What a look at the store found. */
struct result {
    enum cap_error error;
    struct cap_check_outcome outcome;
    char text[TEXT];
    uint64_t paces;
    uint64_t pause_at; /* the call of pace that pauses; 0: none */
    bool is_past;      /* progress went past its total */
};

static void on_finding(void *ctx, const struct cap_hash *hash, const char *what)
{
    struct result *result = ctx;
    char hex[CAP_HASH_HEX_SIZE] = "store";
    size_t len = strlen(result->text);
    if (hash != NULL) {
        cap_hash_format(hash, hex);
    }
    (void)snprintf(result->text + len, TEXT - len, "%s %s\n", hex, what);
}

static void on_progress(void *ctx, const struct cap_check_progress *progress)
{
    struct result *result = ctx;
    result->is_past = result->is_past || progress->bytes > progress->bytes_total ||
                      progress->caps > progress->caps_total;
}

static struct cap_store *scrubbed; /* the one that is, for on_writer */

static enum cap_error on_writer(void *ctx, cap_store_work *work, void *work_ctx)
{
    (void)ctx;
    return work(scrubbed, work_ctx);
}

static enum cap_scrub_pace on_pace(void *ctx, uint64_t bytes)
{
    struct result *result = ctx;
    (void)bytes;
    return ++result->paces == result->pause_at ? CAP_SCRUB_PAUSE : CAP_SCRUB_GO;
}

/* Scrubs a store that is open; the same thread writes. */
static void scrub(struct cap_store *store, bool repair, struct result *result)
{
    const struct cap_scrub_watch watch = {.finding = on_finding,
                                          .progress = on_progress,
                                          .on_writer = on_writer,
                                          .pace = on_pace,
                                          .ctx = result};
    scrubbed = store;
    result->text[0] = '\0';
    result->paces = 0;
    result->error = cap_store_scrub(store, repair, &watch, &result->outcome);
}

/* Checks a store that is closed. */
static void check(const struct fixture *fixture, bool repair, struct result *result)
{
    const struct cap_check_watch watch = {
        .finding = on_finding, .progress = on_progress, .ctx = result};
    result->text[0] = '\0';
    result->outcome = (struct cap_check_outcome){0};
    result->error = repair ? cap_store_lmdb_repair(fixture->dir, &watch, &result->outcome)
                           : cap_store_lmdb_check(fixture->dir, &watch, &result->outcome.findings);
}

static void expect_clean(const struct result *result)
{
    assert_string_equal(result->text, "");
    assert_cap_ok(result->error);
    assert_int_equal(result->outcome.findings, 0);
    assert_int_equal(result->outcome.unmended, 0);
    assert_false(result->is_past);
}

/* A store of all kinds of things that has no stage left, closed. */
static struct cap_hash fill(struct fixture *fixture)
{
    struct cap_hash hash = fill_store(fixture);
    struct cap_root root = {.name = "release/1", .hash = hash, .set_us = 1, .uid = 7};
    bool replaced;
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(cap_store_root_set(fixture->store, &root, &replaced));
    fixture_close(fixture);
    return hash;
}

/* --- A sound store ---------------------------------------------------------------------------- */

static void test_sound(void **state)
{
    struct fixture *fixture = *state;
    struct result result = {0};
    struct cap_scrub_state last;
    scrub(fixture->store, true, &result); /* an empty one */
    expect_clean(&result);
    (void)fill(fixture);
    assert_cap_ok(fixture_open(fixture));
    for (int repair = 0; repair < 2; repair++) {
        scrub(fixture->store, repair == 1, &result);
        expect_clean(&result);
        assert_int_equal(result.outcome.mended, 0);
    }
    struct cap_read *read = begin_read(fixture->store);
    assert_cap_ok(cap_store_scrub_state(read, &last));
    cap_store_read_end(read);
    assert_true(last.ended_us > 0);
    assert_int_equal(last.began_us, 0);
    assert_int_equal(last.last_findings, 0);
    fixture_close(fixture);
    check(fixture, true, &result);
    expect_clean(&result);
}

static struct cap_scrub_state state_of(struct cap_store *store)
{
    struct cap_scrub_state state;
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_scrub_state(read, &state));
    cap_store_read_end(read);
    return state;
}

/* A pass that is paused at every turn, and the store closed meanwhile, comes to its end. */
static void test_resumes(void **state)
{
    struct fixture *fixture = *state;
    struct result result = {.pause_at = 3};
    unsigned parts = 0;
    (void)fill(fixture);
    do {
        assert_cap_ok(fixture_open(fixture));
        scrub(fixture->store, false, &result);
        assert_string_equal(result.text, "");
        const struct cap_scrub_state place = state_of(fixture->store);
        assert_true((place.began_us != 0) == (result.error == CAP_E_CANCELLED));
        assert_int_equal(place.paused, result.error == CAP_E_CANCELLED);
        parts++;
        fixture_close(fixture);
        assert_in_range(parts, 1, 100);
    } while (result.error == CAP_E_CANCELLED);
    assert_cap_ok(result.error);
    assert_true(parts > 2);
    assert_cap_ok(fixture_open(fixture));
    assert_int_equal(state_of(fixture->store).last_findings, 0);
}

/* --- Flips ------------------------------------------------------------------------------------ */

struct place {
    const char *table;
    int stream;
};

static void write_file(const struct fixture *fixture, const uint8_t *bytes, size_t len)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static uint8_t *read_store(const struct fixture *fixture, size_t *ret_len)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    return load_file(path, ret_len);
}

/* Opens and scrubs in a child. False: that crashed, or the store could not be opened. */
static bool scrub_in_child(struct fixture *fixture, struct result *ret_result)
{
    struct result *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    assert_true(shared != MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(CHILD_LIMIT);
        if (freopen("/dev/null", "w", stderr) == NULL || fixture_open(fixture) != CAP_OK) {
            _exit(1);
        }
        scrub(fixture->store, false, shared);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    *ret_result = *shared;
    (void)munmap(shared, sizeof(*shared));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Every bit that flips anywhere in keys and values is found by a scrub, too. */
static void test_flips(void **state)
{
    static const struct place places[] = {{"bulk", STORE_STREAM_BODY},
                                          {"bulk", STORE_STREAM_ROOTS},
                                          {"bulk", STORE_STREAM_NODES},
                                          {"caps", REAL_ALL},
                                          {"refs", REAL_ALL},
                                          {"revs", REAL_ALL},
                                          {"contents", REAL_ALL},
                                          {"meta", REAL_ALL},
                                          {"roots", REAL_ALL},
                                          {"rooted", REAL_ALL},
                                          {"due", REAL_ALL},
                                          {"owners", REAL_ALL},
                                          {"bulk", REAL_ALL}};
    enum { PLACES = sizeof(places) / sizeof(places[0]) };
    struct fixture *fixture = *state;
    struct regions regions[PLACES];
    const char *is_long = getenv("CAPSTORE_TEST_LONG");
    unsigned flips = is_long != NULL && strcmp(is_long, "1") == 0 ? FLIPS_LONG : FLIPS;
    unsigned refused = 0;
    size_t len;
    (void)fill(fixture);
    uint8_t *sound = read_store(fixture, &len);
    for (size_t i = 0; i < PLACES; i++) {
        regions[i] = find_regions(fixture, places[i].table, places[i].stream);
        assert_true(regions[i].count > 0);
    }
    for (unsigned n = 0; n < flips; n++) {
        const struct regions *place = &regions[n % PLACES];
        const struct region *region = &place->all[fake_number(3 * n) % place->count];
        off_t at = region->at + (off_t)(fake_number(3 * n + 1) % region->len);
        unsigned bit = (unsigned)fake_number(3 * n + 2) % 8;
        struct result result;
        flip(fixture, at, bit);
        bool ended = scrub_in_child(fixture, &result);
        refused += !ended;
        if (ended && result.outcome.findings == 0) {
            fail_msg("flip %u in %s at %lld, bit %u, was not found (%s)", n,
                     places[n % PLACES].table, (long long)at, bit, cap_error_name(result.error));
        }
        write_file(fixture, sound, len);
    }
    print_message("%u flips found, %u of them by the store that could not be used\n", flips,
                  refused);
    for (size_t i = 0; i < PLACES; i++) {
        free(regions[i].all);
    }
    free(sound);
}

/* --- Repair ----------------------------------------------------------------------------------- */

/* Repairs a closed store in one of two ways; then nothing is found any more. */
static void expect_repaired(struct fixture *fixture, bool online, struct result *result)
{
    struct result after = {0};
    if (online) {
        assert_cap_ok(fixture_open(fixture));
        scrub(fixture->store, true, result);
        fixture_close(fixture);
    } else {
        check(fixture, true, result);
    }
    if (result->error != CAP_OK || result->outcome.findings == 0 || result->outcome.unmended > 0) {
        fail_msg("%s: %s, %s", online ? "online" : "offline", cap_error_name(result->error),
                 result->text);
    }
    check(fixture, false, &after);
    if (after.outcome.findings > 0) {
        fail_msg("%s: found\n%safter the repair of\n%s", online ? "online" : "offline", after.text,
                 result->text);
    }
}

/* Flipped bits in values that are neither a cap's record nor its body are mended. */
static void test_mends_flips(void **state)
{
    static const struct place places[] = {
        {"bulk", STORE_STREAM_ROOTS}, {"bulk", STORE_STREAM_NODES}, {"refs", REAL_VALUES},
        {"revs", REAL_VALUES},        {"contents", REAL_VALUES},    {"roots", REAL_VALUES},
        {"rooted", REAL_VALUES},      {"due", REAL_VALUES},         {"owners", REAL_VALUES}};
    enum { PLACES = sizeof(places) / sizeof(places[0]) };
    struct fixture *fixture = *state;
    size_t len;
    (void)fill(fixture);
    uint8_t *sound = read_store(fixture, &len);
    for (unsigned n = 0; n < 10 * PLACES; n++) {
        struct result result = {0};
        write_file(fixture, sound, len);
        const struct place *place = &places[n % PLACES];
        struct regions regions = find_regions(fixture, place->table, place->stream);
        const struct region *region = &regions.all[fake_number(3 * n) % regions.count];
        flip(fixture, region->at + (off_t)(fake_number(3 * n + 1) % region->len),
             (unsigned)fake_number(3 * n + 2) % 8);
        expect_repaired(fixture, n / PLACES % 2 == 0, &result);
        free(regions.all);
    }
    free(sound);
}

/* The first entry of a table: its key and its value without the seal. */
struct entry {
    uint8_t key[512];
    size_t key_len;
    uint8_t value[4096];
    size_t value_len;
};

static struct entry first_of(const struct fixture *fixture, const char *table)
{
    struct raw raw = raw_begin(fixture, table, 0);
    struct entry entry;
    MDB_cursor *cursor;
    MDB_val k, v;
    assert_int_equal(mdb_cursor_open(raw.txn, raw.table, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &k, &v, MDB_FIRST), 0);
    assert_in_range(v.mv_size, STORE_SEAL_SIZE, sizeof(entry.value));
    entry.key_len = k.mv_size;
    entry.value_len = v.mv_size - STORE_SEAL_SIZE;
    memcpy(entry.key, k.mv_data, k.mv_size);
    memcpy(entry.value, v.mv_data, entry.value_len);
    mdb_cursor_close(cursor);
    raw_end(&raw);
    return entry;
}

/* What is sealed and missing, wrong, or too much. */
static void test_mends_structure(void **state)
{
    static const char *const tables[] = {"refs",  "revs", "contents", "rooted",
                                         "roots", "due",  "owners"};
    struct fixture *fixture = *state;
    size_t len;
    struct cap_hash hash = fill(fixture);
    uint8_t *sound = read_store(fixture, &len);
    for (unsigned n = 0; n < 2 * sizeof(tables) / sizeof(tables[0]); n++) {
        const char *table = tables[n / 2];
        struct result result = {0};
        struct entry entry = first_of(fixture, table);
        bool is_root = strcmp(table, "roots") == 0;
        if (!is_root) { /* a root that is not there has been removed; what it left is dropped */
            raw_set(fixture, table, entry.key, entry.key_len, NULL, 0);
            expect_repaired(fixture, n % 2 == 0, &result);
            write_file(fixture, sound, len);
        }
        if (strcmp(table, "rooted") != 0 && strcmp(table, "contents") != 0) {
            entry.value[0] ^= 3;
            raw_set(fixture, table, entry.key, entry.key_len, entry.value, entry.value_len);
            if (!is_root) { /* which may name what it likes */
                expect_repaired(fixture, n % 2 == 0, &result);
            }
            write_file(fixture, sound, len);
        }
        if (strcmp(table, "due") != 0) {
            entry.value[0] ^= 3;
            entry.key[0] ^= 1; /* of something that is not there */
            raw_set(fixture, table, entry.key, entry.key_len, entry.value, entry.value_len);
            expect_repaired(fixture, n % 2 == 0, &result);
            write_file(fixture, sound, len);
        }
    }
    for (unsigned online = 0; online < 2; online++) {
        struct result result = {0};
        uint8_t name[STORE_CHUNK_KEY];
        uint8_t bytes[200] = {1};
        const struct store_cap before = record_of(fixture, &hash);
        struct store_cap cap = before;
        store_chunk_key(cap.body, STORE_STREAM_BODY, 50, name); /* one too many */
        raw_set(fixture, "bulk", name, sizeof(name), bytes, 10);
        store_chunk_key(1000, STORE_STREAM_BODY, 0, name); /* of nobody's body */
        expect_repaired(fixture, online == 1, &result);
        write_file(fixture, sound, len);

        cap.info.size ^= 0x10000; /* and so another number of page roots */
        cap.info.page_count++;
        set_record(fixture, &hash, &cap, 0);
        expect_repaired(fixture, online == 1, &result);
        write_file(fixture, sound, len);

        size_t state_len = raw_get(fixture, "meta", "state", 5, bytes, sizeof(bytes));
        bytes[8] ^= 1;
        bytes[24 + 8] ^= 1;
        raw_set(fixture, "meta", "state", 5, bytes, state_len);
        expect_repaired(fixture, online == 1, &result);
        write_file(fixture, sound, len);
    }
    free(sound);
}

/* --- Quarantine and healing ------------------------------------------------------------------- */

static enum cap_error find(struct cap_store *store, const struct cap_hash *hash)
{
    struct cap_read *read = begin_read(store);
    struct cap_info info;
    enum cap_error error = cap_store_find(read, hash, &info);
    cap_store_read_end(read);
    return error;
}

/* Reads the whole body, window by window. */
static enum cap_error read_body(struct cap_store *store, const struct cap_hash *hash, uint64_t len)
{
    struct cap_read *read = begin_read(store);
    enum cap_error error = CAP_OK;
    for (uint64_t at = 0; error == CAP_OK && at < len;) {
        struct iovec iov[CAP_STORE_WINDOW_IOV];
        int count;
        size_t got;
        error = cap_store_window(read, hash, at, len - at, iov, &count, &got);
        at += got;
    }
    cap_store_read_end(read);
    return error;
}

/* Flips a bit of a cap's body, or of its record, in a store that is closed. */
static void damage(const struct fixture *fixture, const struct cap_hash *hash, bool record)
{
    uint8_t name[STORE_CHUNK_KEY];
    struct raw raw = raw_begin(fixture, record ? "caps" : "bulk", 0);
    struct cap_hash copy = *hash;
    uint64_t body = 0;
    raw_end(&raw);
    if (!record) {
        body = record_of(fixture, hash).body;
    }
    raw = raw_begin(fixture, record ? "caps" : "bulk", 0);
    store_chunk_key(body, STORE_STREAM_BODY, 0, name);
    MDB_val k = {record ? CAP_HASH_SIZE : sizeof(name), record ? (void *)copy.bytes : name};
    MDB_val v;
    uint8_t *bytes = malloc(70000);
    assert_int_equal(mdb_get(raw.txn, raw.table, &k, &v), 0);
    memcpy(bytes, v.mv_data, v.mv_size);
    bytes[7] ^= 1;
    v.mv_data = bytes;
    assert_int_equal(mdb_put(raw.txn, raw.table, &k, &v, 0), 0);
    raw_end(&raw);
    free(bytes);
}

static void sweep(struct cap_store *store)
{
    bool more = true;
    while (more) {
        assert_cap_ok(cap_store_sweep(store, 1, &more));
    }
}

static void on_damaged(void *ctx, const struct cap_hash *hash)
{
    (void)hash;
    ++*(unsigned *)ctx;
}

/*
 * Publishing again heals whatever way the damage was found, and after it nothing is found. What a
 * reader finds is told once, and to that reader as to later ones.
 */
static void test_heals(void **state)
{
    enum { BY_SCRUB, BY_READ, BY_RECORD, WAYS };
    struct fixture *fixture = *state;
    struct cap_hash hash = fill(fixture);
    struct result result = {0};
    for (int way = 0; way < WAYS; way++) {
        damage(fixture, &hash, way == BY_RECORD);
        assert_cap_ok(fixture_open(fixture));
        unsigned told = 0;
        const struct cap_store_watch watch = {.damaged = on_damaged, .ctx = &told};
        cap_store_watch(fixture->store, &watch);
        const struct cap_counts before = get_counts(fixture->store);
        if (way == BY_SCRUB) {
            scrub(fixture->store, false, &result);
            assert_cap_ok(result.error);
            assert_int_equal(result.outcome.quarantined, 1);
        } else if (way == BY_READ) {
            assert_cap_error(read_body(fixture->store, &hash, 1000), CAP_E_QUARANTINED);
        }
        assert_cap_error(find(fixture->store, &hash), CAP_E_QUARANTINED);
        assert_cap_error(read_body(fixture->store, &hash, 1000), CAP_E_QUARANTINED);
        sweep(fixture->store);
        assert_cap_error(find(fixture->store, &hash), CAP_E_QUARANTINED);
        assert_int_equal(told, way == BY_SCRUB ? 0 : 1);
        fixture_close(fixture);
        assert_cap_ok(fixture_open(fixture)); /* it is written down */
        assert_cap_error(find(fixture->store, &hash), CAP_E_QUARANTINED);
        (void)add_data(fixture->store, REAL_DATA_SEED, REAL_DATA_LEN);
        assert_cap_ok(find(fixture->store, &hash));
        assert_cap_ok(read_body(fixture->store, &hash, 200000));
        const struct cap_counts after = get_counts(fixture->store);
        assert_memory_equal(&before, &after, sizeof(before));
        sweep(fixture->store);
        if (way == BY_RECORD) { /* where its bulk was nothing says any more */
            scrub(fixture->store, true, &result);
            assert_cap_ok(result.error);
            assert_int_equal(result.outcome.unmended, 0);
        }
        fixture_close(fixture);
        check(fixture, false, &result);
        expect_clean(&result);
    }
}

/* What is broken is listed, on both engines, and healed by publishing it again. */
static void test_broken(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_broken broken[2];
    struct cap_counts counts;
    size_t count;
    bool more;
    bool is_new;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        assert_cap_ok(put_data(store, seed, 100));
    }
    counts = get_counts(store);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        const struct cap_hash hash = fake_hash(seed);
        assert_cap_ok(cap_store_quarantine(store, &hash));
        assert_cap_error(check_cap(store, seed, 100), CAP_E_QUARANTINED);
    }
    const struct cap_hash absent = fake_hash(77);
    assert_cap_error(cap_store_quarantine(store, &absent), CAP_E_NOT_FOUND);
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_broken(read, NULL, 2, broken, &count, &more));
    assert_int_equal(count, 2);
    assert_true(more);
    assert_true(memcmp(&broken[0].hash, &broken[1].hash, CAP_HASH_SIZE) < 0);
    assert_int_equal(broken[0].kind, CAP_FACT_DAMAGED);
    assert_true(broken[0].time_us > 0);
    assert_cap_ok(cap_store_broken(read, &broken[1].hash, 2, broken, &count, &more));
    assert_int_equal(count, 1);
    assert_false(more);
    cap_store_read_end(read);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct cap_put put = fake_data(&seed, 100);
        assert_cap_ok(put_one(store, &put, &is_new));
        assert_true(is_new);
        assert_cap_ok(check_cap(store, seed, 100));
        assert_cap_ok(put_one(store, &put, &is_new));
        assert_false(is_new);
    }
    const struct cap_counts after = get_counts(store);
    assert_memory_equal(&counts, &after, sizeof(counts));
    read = begin_read(store);
    assert_cap_ok(cap_store_broken(read, NULL, 2, broken, &count, &more));
    assert_int_equal(count, 0);
    cap_store_read_end(read);
}

/* What is forbidden goes, is not stored again, and says why; until it is allowed. */
static void test_forbidden(void **state)
{
    struct fixture *fixture = *state;
    struct cap_store *store = fixture->store;
    const struct cap_hash there = fake_hash(1);
    const struct cap_hash never = fake_hash(2);
    struct cap_forbidden why;
    struct cap_removed removed;
    char longest[CAP_REASON_MAX + 2];
    memset(longest, 'x', sizeof(longest));
    longest[CAP_REASON_MAX + 1] = '\0';
    assert_cap_ok(put_data(store, 1, 100));
    assert_cap_ok(put_data(store, 3, 100));
    assert_cap_error(cap_store_forbid(store, &there, 7, longest), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(cap_store_forbid(store, &there, 7, "a reason"));
    assert_cap_ok(cap_store_forbid(store, &never, 8, ""));
    assert_cap_error(check_cap(store, 1, 100), CAP_E_FORBIDDEN_CAP);
    assert_cap_error(put_data(store, 1, 100), CAP_E_FORBIDDEN_CAP);
    assert_cap_error(put_data(store, 2, 100), CAP_E_FORBIDDEN_CAP);
    assert_cap_ok(put_data(store, 3, 100));
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 1);
    assert_cap_ok(cap_store_forbid(store, &there, 9, longest + 1)); /* another reason */
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_forbidden(read, &there, &why));
    assert_string_equal(why.reason, longest + 1);
    assert_int_equal(why.uid, 9);
    assert_cap_ok(cap_store_removed(read, &there, &removed));
    assert_int_equal(removed.cause, CAP_GONE_FORBIDDEN);
    const struct cap_hash other = fake_hash(3);
    assert_cap_error(cap_store_forbidden(read, &other, &why), CAP_E_NOT_FOUND);
    cap_store_read_end(read);
    if (fixture->engine.is_lmdb) {
        fixture_close(fixture);
        assert_cap_ok(fixture_open(fixture));
        store = fixture->store;
        assert_cap_error(put_data(store, 1, 100), CAP_E_FORBIDDEN_CAP);
    }
    assert_cap_ok(cap_store_allow(store, &there));
    assert_cap_error(cap_store_allow(store, &there), CAP_E_NOT_FOUND);
    assert_cap_ok(put_data(store, 1, 100));
    assert_cap_ok(check_cap(store, 1, 100));
}

/* What an admission needs and is quarantined is missing. */
static void test_needed(void **state)
{
    struct cap_store *store = store_of(state);
    const struct cap_hash hash = fake_hash(1);
    struct cap_needed needed = {.hash = hash, .kind = CAP_KIND_DATA};
    uint64_t seed = 2;
    struct cap_put put = fake_image(&seed, 10);
    struct cap_admission admission = {
        .needed = &needed, .needed_count = 1, .puts = &put, .put_count = 1};
    assert_cap_ok(put_data(store, 1, 100));
    assert_cap_ok(cap_store_quarantine(store, &hash));
    assert_cap_ok(cap_store_dry_run(store, &admission));
    assert_cap_error(admission.error, CAP_E_UNRESOLVED_SLOT);
    assert_cap_error(admit_one(store, &admission), CAP_E_UNRESOLVED_SLOT);
    assert_true(needed.missing);
    assert_cap_ok(put_data(store, 1, 100));
    assert_cap_ok(admit_one(store, &admission));
}

/* A cap that was quarantined for what lies beside its body is whole again after a repair. */
static void test_releases(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fill(fixture);
    struct result result = {0};
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(cap_store_quarantine(fixture->store, &hash));
    assert_cap_error(find(fixture->store, &hash), CAP_E_QUARANTINED);
    scrub(fixture->store, true, &result);
    assert_cap_ok(result.error);
    assert_int_equal(result.outcome.mended, 1);
    assert_cap_ok(find(fixture->store, &hash));
    scrub(fixture->store, false, &result);
    expect_clean(&result);
}

#define WITH(function)                                                                             \
    {                                                                                              \
#function, function, fixture_setup, fixture_teardown, &lmdb                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_sound),       WITH(test_resumes),         WITH(test_flips),
        WITH(test_mends_flips), WITH(test_mends_structure), WITH(test_heals),
        WITH(test_releases),    BOTH(test_broken),          BOTH(test_needed),
        BOTH(test_forbidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
