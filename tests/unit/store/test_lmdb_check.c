/*
 * The check of a whole store: a sound one is never reported, every damage is.
 *
 * The flips are placed by what LMDB says of its values: the store is opened, each value's place in
 * the map is a place in the file. A check runs in a child, as the daemon's does, since LMDB may
 * crash over a damaged file. CAPSTORE_TEST_LONG=1 tries more flips.
 */
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/pack.h"
#include "lib/store/record.h"
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

#define FLIPS       1000u /* seven to twenty seconds */
#define FLIPS_LONG  10000u
#define NODE_PAGES  300u
#define FINDINGS    4096u /* bytes of text kept */
#define CHILD_LIMIT 60u   /* seconds; LMDB may never end over a damaged file */

static struct fixture_engine lmdb = {.is_lmdb = true};

/* What a check found, filled by the child. */
struct result {
    enum cap_error error;
    uint64_t findings;
    char text[FINDINGS];
};

/* --- A store of real caps --------------------------------------------------------------------- */

static enum cap_error admit(struct cap_store *store, struct cap_put *put,
                            const struct cap_body *body, const struct cap_source *source)
{
    struct cap_buf whole = {0};
    assert_cap_ok(cap_buf_append_zeros(&whole, body->len));
    assert_cap_ok(cap_body_read(body, source, 0, whole.data, body->len));
    struct cap_bytes bytes = cap_buf_bytes(&whole);
    put->info.body_len = body->len;
    put->body = cap_source_memory(&bytes);
    enum cap_error error = put_one(store, put, NULL);
    cap_buf_free(&whole);
    return error;
}

static struct cap_hash add_content(struct cap_store *store, uint64_t seed, const uint8_t *content,
                                   size_t len)
{
    struct cap_data data;
    struct cap_bytes bytes = {content, len};
    struct cap_source source = cap_source_memory(&bytes);
    assert_cap_ok(cap_data_from_content(&source, len, 0, UINT64_MAX, &data));
    struct cap_put put = {.hash = data.hash, .page_roots = data.page_roots};
    put.info.kind = CAP_KIND_DATA;
    put.info.size = data.size;
    put.info.page_count = data.page_count;
    put.info.published_us = seed;
    put.info.node_counts = data.nodes.counts;
    put.nodes = data.nodes.all;
    assert_cap_ok(admit(store, &put, &data.body, &source));
    struct cap_hash hash = data.hash;
    cap_data_free(&data);
    return hash;
}

/* A Data cap of `len` bytes; every third page is zero. */
static struct cap_hash add_data(struct cap_store *store, uint64_t seed, size_t len)
{
    uint8_t *content = calloc(1, len + 1);
    for (size_t i = 0; i < len; i++) {
        content[i] = i / 4096 % 3 == 2 ? 0 : fake_byte(seed, i);
    }
    struct cap_hash hash = add_content(store, seed, content, len);
    free(content);
    return hash;
}

/* A Data cap of so many pages of one byte each. Above 256 it has nodes. */
static struct cap_hash add_pages(struct cap_store *store, size_t count)
{
    uint8_t *content = calloc(count, CAP_PAGE_SIZE);
    for (size_t i = 0; i < count; i++) {
        content[i * CAP_PAGE_SIZE] = (uint8_t)(i % 255 + 1);
    }
    struct cap_hash hash = add_content(store, count, content, count * CAP_PAGE_SIZE);
    free(content);
    return hash;
}

static struct cap_bytes key(const char *text)
{
    return (struct cap_bytes){(const uint8_t *)text, strlen(text)};
}

static struct cap_hash add_slot(struct cap_store *store, const struct cap_wire_slot *slot,
                                const struct cap_source *arena)
{
    struct cap_data data;
    if (slot->kind == CAP_KIND_IMAGE) {
        return slot->content_hash;
    }
    assert_cap_ok(cap_data_from_desc(&slot->desc, arena, UINT64_MAX, NULL, &data));
    struct cap_put put = {.hash = data.hash, .page_roots = data.page_roots};
    put.info.kind = CAP_KIND_DATA;
    put.info.size = data.size;
    put.info.page_count = data.page_count;
    assert_cap_ok(admit(store, &put, &data.body, arena));
    struct cap_hash hash = data.hash;
    cap_data_free(&data);
    return hash;
}

/* The Image of a wire Image, and the Data caps of its slots. */
static struct cap_hash add_wire(struct cap_store *store, const struct cap_wire_image *wire,
                                const struct cap_source *arena)
{
    size_t count = cap_wire_slot_count(wire);
    struct cap_hash *hashes = calloc(count + 1, sizeof(*hashes));
    struct cap_ref *refs = calloc(count + 1, sizeof(*refs));
    struct cap_image image;
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(wire, i, &slot);
        hashes[i] = add_slot(store, &slot, arena);
        refs[i].hash = hashes[i];
        refs[i].tables = slot.table == CAP_TABLE_PINNED ? CAP_REF_PINNED : CAP_REF_INITIAL;
    }
    assert_cap_ok(cap_image_from_wire(wire, hashes, arena, &image));
    struct cap_put put = {
        .hash = image.hash, .page_roots = image.code_roots, .refs = refs, .ref_count = count};
    put.info.kind = CAP_KIND_IMAGE;
    put.info.size = wire->code_len;
    put.info.has_content_hash = true;
    put.info.content_hash = image.hash;
    put.info.content_hash.bytes[0] ^= 0xff;
    assert_cap_ok(admit(store, &put, &image.body, arena));
    struct cap_hash hash = image.hash;
    cap_image_free(&image);
    free(hashes);
    free(refs);
    return hash;
}

/* An Image of so much code, with two Data slots and one that pins `inner` (NULL: none). */
static struct cap_hash add_image(struct cap_store *store, uint64_t seed, size_t code_len,
                                 const struct cap_hash *inner)
{
    uint8_t *content = malloc(code_len);
    struct cap_register stack = {1, 0x1000};
    struct cap_buf upload = {0};
    struct cap_body packed = {0};
    struct cap_wire_image wire;
    struct cap_pack *pack;
    for (size_t i = 0; i < code_len; i++) {
        content[i] = fake_byte(seed, i);
    }
    struct cap_bytes bytes = {content, code_len};
    struct cap_source source = cap_source_memory(&bytes);
    assert_cap_ok(cap_pack_new(&pack));
    cap_pack_code(pack, 0, code_len);
    assert_cap_ok(cap_pack_endpoint(pack, key("main"), 4, 2, 3, &stack, 1));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_PINNED, key("ro"), 8 * CAP_PAGE_SIZE));
    assert_cap_ok(cap_pack_content(pack, 0, 0, code_len < 3000 ? code_len : 3000));
    assert_cap_ok(cap_pack_data(pack, CAP_TABLE_INITIAL, key("rw"), CAP_PAGE_SIZE));
    if (inner != NULL) {
        assert_cap_ok(cap_pack_image(pack, key("sub"), inner));
    }
    assert_cap_ok(cap_pack_finish(pack, &source, &packed));
    assert_cap_ok(cap_buf_append_zeros(&upload, packed.len));
    assert_cap_ok(cap_body_read(&packed, &source, 0, upload.data, packed.len));
    assert_cap_ok(cap_wire_image_decode(cap_buf_bytes(&upload), upload.len, &wire));
    struct cap_bytes arena_bytes = {upload.data + wire.head.len, wire.arena_len};
    struct cap_source arena = cap_source_memory(&arena_bytes);
    struct cap_hash hash = add_wire(store, &wire, &arena);
    cap_body_free(&packed);
    cap_pack_free(pack);
    cap_buf_free(&upload);
    free(content);
    return hash;
}

/* A store of all kinds of things, closed. Returns a Data cap of several chunks. */
static struct cap_hash fill_store(struct fixture *fixture)
{
    struct cap_store *store = fixture->store;
    uint64_t stage;
    for (uint64_t seed = 1; seed < 20; seed++) {
        (void)add_data(store, seed, 300 * seed);
    }
    struct cap_hash data = add_data(store, 100, 300000);
    (void)add_pages(store, NODE_PAGES);
    struct cap_hash inner = add_image(store, 200, 5000, NULL);
    (void)add_image(store, 300, 100000, &inner);
    (void)add_image(store, 400, 2000, &inner);
    (void)add_image(store, 500, 1, NULL);
    assert_cap_ok(stage_all(store, 1, 100000, &stage)); /* of a daemon that died */
    fixture_close(fixture);
    return data;
}

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

/* --- The file by hand ------------------------------------------------------------------------- */

struct raw {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
};

static struct raw raw_begin(const struct fixture *fixture, const char *table, unsigned flags)
{
    struct raw raw;
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    assert_int_equal(mdb_env_create(&raw.env), 0);
    assert_int_equal(mdb_env_set_maxdbs(raw.env, 16), 0);
    assert_int_equal(mdb_env_open(raw.env, path, MDB_NOSUBDIR | flags, 0600), 0);
    assert_int_equal(mdb_txn_begin(raw.env, NULL, flags & MDB_RDONLY, &raw.txn), 0);
    assert_int_equal(mdb_dbi_open(raw.txn, table, 0, &raw.table), 0);
    return raw;
}

static void raw_end(const struct raw *raw)
{
    assert_int_equal(mdb_txn_commit(raw->txn), 0);
    mdb_env_close(raw->env);
}

/* Writes a value whose seal is right, so that only what it says is wrong. NULL: deletes it. */
static void raw_set(const struct fixture *fixture, const char *table, const void *name,
                    size_t name_len, const void *value, size_t len)
{
    struct raw raw = raw_begin(fixture, table, 0);
    static uint8_t sealed[70000];
    uint8_t copy[STORE_PAIR_KEY];
    MDB_val k = {name_len, copy}, v = {len + STORE_SEAL_SIZE, sealed};
    memcpy(copy, name, name_len);
    if (value == NULL) {
        assert_int_equal(mdb_del(raw.txn, raw.table, &k, NULL), 0);
    } else {
        memcpy(sealed, value, len);
        store_seal(store_seed((struct cap_bytes){copy, name_len}), sealed, len);
        assert_int_equal(mdb_put(raw.txn, raw.table, &k, &v, 0), 0);
    }
    raw_end(&raw);
}

/* A value without its seal; returns its length. */
static size_t raw_get(const struct fixture *fixture, const char *table, const void *name,
                      size_t name_len, void *ret_value, size_t max)
{
    struct raw raw = raw_begin(fixture, table, 0);
    uint8_t copy[STORE_PAIR_KEY];
    MDB_val k = {name_len, copy}, v;
    memcpy(copy, name, name_len);
    assert_int_equal(mdb_get(raw.txn, raw.table, &k, &v), 0);
    assert_in_range(v.mv_size, STORE_SEAL_SIZE, max);
    memcpy(ret_value, v.mv_data, v.mv_size - STORE_SEAL_SIZE);
    raw_end(&raw);
    return v.mv_size - STORE_SEAL_SIZE;
}

/* --- What is sealed and wrong ----------------------------------------------------------------- */

static struct store_cap record_of(const struct fixture *fixture, const struct cap_hash *hash)
{
    uint8_t record[STORE_CAP_MAX + STORE_SEAL_SIZE];
    struct store_cap cap;
    size_t len = raw_get(fixture, "caps", hash->bytes, CAP_HASH_SIZE, record, sizeof(record));
    assert_cap_ok(store_cap_decode((struct cap_bytes){record, len}, &cap));
    return cap;
}

static void set_record(const struct fixture *fixture, const struct cap_hash *hash,
                       const struct store_cap *cap, uint16_t more_flags)
{
    uint8_t record[STORE_CAP_MAX];
    size_t len = store_cap_encode(cap, record);
    cap_store16(record + 2, cap_load16(record + 2) | more_flags);
    raw_set(fixture, "caps", hash->bytes, CAP_HASH_SIZE, record, len);
}

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
    struct cap_hash hash = add_pages(fixture->store, NODE_PAGES + 1);
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

struct region {
    off_t at;
    size_t len;
};

struct regions {
    struct region *all;
    size_t count;
};

/* Where LMDB's map of the file begins. */
static const uint8_t *map_base(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long start = 0;
    assert_non_null(maps);
    while (start == 0 && fgets(line, sizeof(line), maps) != NULL) {
        if (strstr(line, "/store.lmdb\n") != NULL) {
            start = strtoul(line, NULL, 16);
        }
    }
    (void)fclose(maps);
    assert_true(start != 0);
    return (const uint8_t *)start;
}

static void add_region(struct regions *regions, const uint8_t *base, const MDB_val *bytes)
{
    regions->all = realloc(regions->all, (regions->count + 1) * sizeof(*regions->all));
    assert_non_null(regions->all);
    regions->all[regions->count++] =
        (struct region){(const uint8_t *)bytes->mv_data - base, bytes->mv_size};
}

/* The places of all keys and values of a table; of bulk, of one stream (-1: all). */
static struct regions find_regions(const struct fixture *fixture, const char *table, int stream)
{
    struct raw raw = raw_begin(fixture, table, MDB_RDONLY);
    struct regions regions = {NULL, 0};
    const uint8_t *base = map_base();
    MDB_cursor *cursor;
    MDB_val k, v;
    assert_int_equal(mdb_cursor_open(raw.txn, raw.table, &cursor), 0);
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        bool is_handle = strcmp(table, "meta") == 0 && k.mv_size == 0;
        if (is_handle || (stream >= 0 && ((const uint8_t *)k.mv_data)[8] != stream)) {
            continue;
        }
        if (stream < 0) {
            add_region(&regions, base, &k);
        }
        add_region(&regions, base, &v);
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(raw.txn);
    mdb_env_close(raw.env);
    return regions;
}

static void flip(const struct fixture *fixture, off_t at, unsigned bit)
{
    char path[256];
    uint8_t byte;
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Every bit that flips in bodies, page roots, nodes, records and their keys is found. */
static void test_flips(void **state)
{
    static const struct {
        const char *table;
        int stream;
    } places[] = {{"bulk", STORE_STREAM_BODY},
                  {"bulk", STORE_STREAM_ROOTS},
                  {"bulk", STORE_STREAM_NODES},
                  {"caps", -1},
                  {"refs", -1},
                  {"revs", -1},
                  {"contents", -1},
                  {"meta", -1},
                  {"stages", -1},
                  {"bulk", -1}};
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
