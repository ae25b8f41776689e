/*
 * Stores of real caps, whose names are those of their bodies; and the file of one by hand.
 */
#include "tests/unit/store/real.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/pack.h"
#include "tests/unit/support.h"

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

struct cap_hash add_data(struct cap_store *store, uint64_t seed, size_t len)
{
    uint8_t *content = calloc(1, len + 1);
    for (size_t i = 0; i < len; i++) {
        content[i] = i / 4096 % 3 == 2 ? 0 : fake_byte(seed, i);
    }
    struct cap_hash hash = add_content(store, seed, content, len);
    free(content);
    return hash;
}

struct cap_hash add_pages(struct cap_store *store, size_t count)
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

struct cap_hash add_image(struct cap_store *store, uint64_t seed, size_t code_len,
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

struct cap_hash fill_store(struct fixture *fixture)
{
    struct cap_store *store = fixture->store;
    uint64_t stage;
    for (uint64_t seed = 1; seed < 20; seed++) {
        (void)add_data(store, seed, 300 * seed);
    }
    struct cap_hash data = add_data(store, REAL_DATA_SEED, REAL_DATA_LEN);
    (void)add_pages(store, REAL_NODE_PAGES);
    struct cap_hash inner = add_image(store, 200, 5000, NULL);
    (void)add_image(store, 300, 100000, &inner);
    (void)add_image(store, 400, 2000, &inner);
    (void)add_image(store, 500, 1, NULL);
    assert_cap_ok(stage_all(store, 1, 100000, &stage)); /* of a daemon that died */
    fixture_close(fixture);
    return data;
}

/* --- The file by hand ------------------------------------------------------------------------- */

struct raw raw_begin(const struct fixture *fixture, const char *table, unsigned flags)
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

void raw_end(const struct raw *raw)
{
    assert_int_equal(mdb_txn_commit(raw->txn), 0);
    mdb_env_close(raw->env);
}

void raw_set(const struct fixture *fixture, const char *table, const void *name, size_t name_len,
             const void *value, size_t len)
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

size_t raw_get(const struct fixture *fixture, const char *table, const void *name, size_t name_len,
               void *ret_value, size_t max)
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

struct store_cap record_of(const struct fixture *fixture, const struct cap_hash *hash)
{
    uint8_t record[STORE_CAP_MAX + STORE_SEAL_SIZE];
    struct store_cap cap;
    size_t len = raw_get(fixture, "caps", hash->bytes, CAP_HASH_SIZE, record, sizeof(record));
    assert_cap_ok(store_cap_decode((struct cap_bytes){record, len}, &cap));
    return cap;
}

void set_record(const struct fixture *fixture, const struct cap_hash *hash,
                const struct store_cap *cap, uint16_t more_flags)
{
    uint8_t record[STORE_CAP_MAX];
    size_t len = store_cap_encode(cap, record);
    cap_store16(record + 2, cap_load16(record + 2) | more_flags);
    raw_set(fixture, "caps", hash->bytes, CAP_HASH_SIZE, record, len);
}

/* --- Flips ------------------------------------------------------------------------------------ */

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

struct regions find_regions(const struct fixture *fixture, const char *table, int stream)
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
        if (stream == REAL_ALL) {
            add_region(&regions, base, &k);
        }
        add_region(&regions, base, &v);
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(raw.txn);
    mdb_env_close(raw.env);
    return regions;
}

void flip(const struct fixture *fixture, off_t at, unsigned bit)
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
