/*
 * The check of a whole store: a sound one is never reported, every damage is.
 *
 * The flips are placed by what LMDB says of its values: the store is opened, each value's place in
 * the map is a place in the file. A check runs in a child, as the daemon's does, since LMDB may
 * crash over a damaged file. CAPSTORE_TEST_LONG=1 tries more flips.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store/fixture.h"
#include "tests/unit/store/real.h"
#include "tests/unit/support.h"

#define FLIPS       1000u /* seven to twenty seconds */
#define FLIPS_LONG  10000u
#define FINDINGS    4096u /* bytes of text kept */
#define CHILD_LIMIT 60u   /* seconds; LMDB may never end over a damaged file */

static struct fixture_engine lmdb = {.is_lmdb = true};

/* What a check found, filled by the child. */
struct result {
    enum cap_error error;
    uint64_t findings;
    char text[FINDINGS];
};

/* --- A check in a child ----------------------------------------------------------------------- */

static void on_finding(void *ctx, const struct cap_hash *hash, const char *what)
{
    struct result *result = ctx;
    char hex[CAP_HASH_HEX_SIZE] = "store";
    size_t len = strlen(result->text);
    if (hash != NULL) {
        cap_hash_format(hash, hex);
    }
    (void)snprintf(result->text + len, FINDINGS - len, "%s %s\n", hex, what);
}

/* False: the child was killed by a signal. */
static bool check(const struct fixture *fixture, struct result *ret_result)
{
    struct result *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    assert_true(shared != MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct cap_check_watch watch = {.finding = on_finding, .ctx = shared};
        (void)alarm(CHILD_LIMIT);
        if (freopen("/dev/null", "w", stderr) == NULL) { /* LMDB's last words */
            _exit(1);
        }
        shared->error = cap_store_lmdb_check(fixture->dir, &watch, &shared->findings);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    *ret_result = *shared;
    (void)munmap(shared, sizeof(*shared));
    return WIFEXITED(status);
}

static void expect_sound(const struct fixture *fixture)
{
    struct result result;
    assert_true(check(fixture, &result));
    assert_string_equal(result.text, "");
    assert_cap_ok(result.error);
    assert_int_equal(result.findings, 0);
}

/* Something is found, and among it a line with `hash` (NULL: any) and `what`. */
static void expect_finding(const struct fixture *fixture, const struct cap_hash *hash,
                           const char *what)
{
    struct result result;
    char hex[CAP_HASH_HEX_SIZE] = "";
    assert_true(check(fixture, &result));
    assert_cap_ok(result.error);
    assert_true(result.findings > 0);
    if (hash != NULL) {
        cap_hash_format(hash, hex);
    }
    for (char *line = result.text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (strstr(line, hex) != NULL && strstr(line, what) != NULL) {
            return;
        }
    }
    fail_msg("not found: %s %s", hex, what);
}

static void test_sound(void **state)
{
    struct fixture *fixture = *state;
    struct result result;
    fixture_close(fixture);
    expect_sound(fixture); /* an empty one */
    assert_cap_ok(fixture_open(fixture));
    (void)fill_store(fixture);
    expect_sound(fixture);
    (void)snprintf(fixture->dir + strlen(fixture->dir), 10, "/no");
    assert_true(check(fixture, &result));
    assert_cap_error(result.error, CAP_E_IO);
    fixture->dir[strlen(fixture->dir) - 3] = '\0';
}

/* --- What is sealed and wrong ----------------------------------------------------------------- */

static void test_wrong_body_and_roots(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fill_store(fixture);
    static uint8_t chunk[70000];
    uint8_t name[STORE_CHUNK_KEY];
    uint64_t body = record_of(fixture, &hash).body;
    for (int stream = STORE_STREAM_BODY; stream <= STORE_STREAM_ROOTS; stream++) {
        store_chunk_key(body, (enum store_stream)stream, 0, name);
        size_t len = raw_get(fixture, "bulk", name, sizeof(name), chunk, sizeof(chunk));
        chunk[len - 1] ^= 1;
        raw_set(fixture, "bulk", name, sizeof(name), chunk, len);
        expect_finding(fixture, &hash,
                       stream == STORE_STREAM_BODY ? "another CapHash" : "the root of page");
        chunk[len - 1] ^= 1;
        raw_set(fixture, "bulk", name, sizeof(name), chunk, len);
        expect_sound(fixture);
        raw_set(fixture, "bulk", name, sizeof(name), NULL, 0);
        expect_finding(fixture, &hash, "it is missing");
        raw_set(fixture, "bulk", name, sizeof(name), chunk, len);
    }
    store_chunk_key(body, STORE_STREAM_BODY, 50, name);
    raw_set(fixture, "bulk", name, sizeof(name), chunk, 10);
    expect_finding(fixture, NULL, "belongs to nothing");
}

static void test_wrong_nodes(void **state)
{
    struct fixture *fixture = *state;
    (void)fill_store(fixture);
    assert_cap_ok(fixture_open(fixture));
    struct cap_hash hash = add_pages(fixture->store, REAL_NODE_PAGES + 1);
    fixture_close(fixture);
    expect_sound(fixture);
    uint8_t chunk[1000];
    uint8_t name[STORE_CHUNK_KEY];
    struct store_cap cap = record_of(fixture, &hash);
    store_chunk_key(cap.body, STORE_STREAM_NODES, 0, name);
    size_t len = raw_get(fixture, "bulk", name, sizeof(name), chunk, sizeof(chunk));
    assert_int_equal(len, 5 * sizeof(struct cap_node));
    for (size_t at = 0; at < sizeof(struct cap_node); at += CAP_HASH_SIZE) { /* hash and index */
        chunk[3 * sizeof(struct cap_node) + at] ^= 1;
        raw_set(fixture, "bulk", name, sizeof(name), chunk, len);
        expect_finding(fixture, &hash, "node 3 is not that of the pages below it");
        chunk[3 * sizeof(struct cap_node) + at] ^= 1;
    }
    raw_set(fixture, "bulk", name, sizeof(name), NULL, 0);
    expect_finding(fixture, &hash, "nodes: chunk 0 cannot be read: it is missing");
    cap.info.node_counts.of[0] = 0; /* a record of a cap without nodes */
    set_record(fixture, &hash, &cap, 0);
    expect_finding(fixture, &hash, "the record says 0 nodes above its pages, there are 5");
    cap.info.node_counts.of[0] = 5;
    set_record(fixture, &hash, &cap, 0);
    raw_set(fixture, "bulk", name, sizeof(name), chunk, len);
    expect_sound(fixture);
}

static void test_wrong_record(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fill_store(fixture);
    const struct store_cap sound = record_of(fixture, &hash);
    struct store_cap cap = sound;
    cap.info.size ^= 0x1000; /* another number of bytes */
    set_record(fixture, &hash, &cap, 0);
    expect_finding(fixture, &hash, "the record says");
    set_record(fixture, &hash, &sound, 0x4000);
    expect_finding(fixture, &hash, "flags that this version does not know: 0x4000");
    cap = sound;
    cap.info.body_len |= UINT64_C(1) << 62; /* nothing is taken for it */
    set_record(fixture, &hash, &cap, 0);
    expect_finding(fixture, &hash, "says what cannot be");
    cap = sound;
    cap.info.body_len |= UINT64_C(1) << 44; /* can be, and is not there */
    set_record(fixture, &hash, &cap, 0);
    expect_finding(fixture, &hash, "are not looked at");
    raw_set(fixture, "caps", hash.bytes, CAP_HASH_SIZE, NULL, 0);
    expect_finding(fixture, NULL, "belongs to nothing");
    expect_finding(fixture, NULL, "the counts say");
}

/* The first pair of an index. */
static void first_pair(const struct fixture *fixture, const char *table,
                       uint8_t ret_pair[STORE_PAIR_KEY], uint8_t *ret_tables)
{
    struct raw raw = raw_begin(fixture, table, 0);
    MDB_cursor *cursor;
    MDB_val k, v;
    assert_int_equal(mdb_cursor_open(raw.txn, raw.table, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &k, &v, MDB_FIRST), 0);
    assert_int_equal(k.mv_size, STORE_PAIR_KEY);
    memcpy(ret_pair, k.mv_data, STORE_PAIR_KEY);
    *ret_tables = *(const uint8_t *)v.mv_data;
    mdb_cursor_close(cursor);
    raw_end(&raw);
}

static void test_wrong_references(void **state)
{
    static const char *const tables[] = {"refs", "revs"};
    struct fixture *fixture = *state;
    uint8_t pair[STORE_PAIR_KEY], value, other = 3;
    struct cap_hash hash;
    (void)fill_store(fixture);
    for (int i = 0; i < 2; i++) {
        first_pair(fixture, tables[i], pair, &value);
        memcpy(hash.bytes, pair + (i == 0 ? 0 : CAP_HASH_SIZE), CAP_HASH_SIZE);
        raw_set(fixture, tables[i], pair, sizeof(pair), NULL, 0);
        expect_finding(fixture, NULL, ""); /* one direction is gone */
        raw_set(fixture, tables[i], pair, sizeof(pair), &other, 1);
        expect_finding(fixture, i == 0 ? &hash : NULL, "");
        raw_set(fixture, tables[i], pair, sizeof(pair), &value, 1);
        expect_sound(fixture);
    }
}

static void test_wrong_counts_and_contents(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fill_store(fixture);
    uint8_t record[200];
    size_t len = raw_get(fixture, "meta", "state", 5, record, sizeof(record));
    record[8] ^= 1; /* references */
    raw_set(fixture, "meta", "state", 5, record, len);
    expect_finding(fixture, NULL, "references");
    record[8] ^= 1;
    record[24 + 8] ^= 1; /* Data caps */
    raw_set(fixture, "meta", "state", 5, record, len);
    expect_finding(fixture, NULL, "Data caps");
    record[24 + 8] ^= 1;
    raw_set(fixture, "meta", "state", 5, record, len);
    expect_sound(fixture);
    struct cap_hash nobody = fake_hash(99);
    raw_set(fixture, "contents", nobody.bytes, CAP_HASH_SIZE, nobody.bytes, CAP_HASH_SIZE);
    expect_finding(fixture, &nobody, "leads to no cap");
    raw_set(fixture, "contents", nobody.bytes, CAP_HASH_SIZE, hash.bytes, CAP_HASH_SIZE);
    expect_sound(fixture); /* another wire Image may become the same cap */
}

/* --- Flips ------------------------------------------------------------------------------------ */

/* Every bit that flips in bodies, page roots, nodes, records and their keys is found. */
static void test_flips(void **state)
{
    static const struct {
        const char *table;
        int stream;
    } places[] = {
        {"bulk", STORE_STREAM_BODY}, {"bulk", STORE_STREAM_ROOTS}, {"bulk", STORE_STREAM_NODES},
        {"caps", REAL_ALL},          {"refs", REAL_ALL},           {"revs", REAL_ALL},
        {"contents", REAL_ALL},      {"meta", REAL_ALL},           {"stages", REAL_ALL},
        {"due", REAL_ALL},           {"owners", REAL_ALL},         {"bulk", REAL_ALL}};
    enum { PLACES = sizeof(places) / sizeof(places[0]) };
    struct fixture *fixture = *state;
    struct regions regions[PLACES];
    const char *is_long = getenv("CAPSTORE_TEST_LONG");
    unsigned flips = is_long != NULL && strcmp(is_long, "1") == 0 ? FLIPS_LONG : FLIPS;
    unsigned crashes = 0;

    (void)fill_store(fixture);
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
        bool ended = check(fixture, &result);
        crashes += !ended;
        if (ended && result.findings == 0 && result.error != CAP_E_STORE_VERSION) {
            fail_msg("flip %u in %s at %lld, bit %u, was not found (%s)", n,
                     places[n % PLACES].table, (long long)at, bit, cap_error_name(result.error));
        }
        flip(fixture, at, bit);
    }
    print_message("%u flips found, %u of them by a crash of LMDB\n", flips, crashes);
    expect_sound(fixture);
    for (size_t i = 0; i < PLACES; i++) {
        free(regions[i].all);
    }
}

/* Pages of the indexes, whose headers LMDB trusts: each that lies about its number is found. */
static void test_page_headers(void **state)
{
    static const char *const tables[] = {"caps", "bulk", "refs", "revs", "contents", "stages"};
    struct fixture *fixture = *state;
    size_t index_pages = 0, found = 0;
    struct result result;
    MDB_envinfo info;
    MDB_stat stat;

    (void)fill_store(fixture);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        struct raw raw = raw_begin(fixture, tables[i], MDB_RDONLY);
        assert_int_equal(mdb_stat(raw.txn, raw.table, &stat), 0);
        assert_int_equal(mdb_env_info(raw.env, &info), 0);
        index_pages += stat.ms_branch_pages + stat.ms_leaf_pages;
        mdb_txn_abort(raw.txn);
        mdb_env_close(raw.env);
    }
    for (off_t page = 2; page <= (off_t)info.me_last_pgno; page++) {
        flip(fixture, page * (off_t)stat.ms_psize, 1);
        found += !check(fixture, &result) || result.findings > 0;
        flip(fixture, page * (off_t)stat.ms_psize, 1);
    }
    assert_true(index_pages > 8);
    assert_true(found >= index_pages);
    expect_sound(fixture);
}

#define WITH(function)                                                                             \
    {                                                                                              \
#function, function, fixture_setup, fixture_teardown, &lmdb                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_sound),
        WITH(test_wrong_body_and_roots),
        WITH(test_wrong_nodes),
        WITH(test_wrong_record),
        WITH(test_wrong_references),
        WITH(test_wrong_counts_and_contents),
        WITH(test_flips),
        WITH(test_page_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
