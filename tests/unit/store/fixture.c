#include "tests/unit/store/fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/store/engine.h"
#include "tests/support/store_memory.h"
#include "tests/unit/support.h"

const uint8_t fixture_id[CAP_STORE_ID_SIZE] = "fixture-store-id";

struct fixture_engine engine_lmdb = {.is_lmdb = true};
struct fixture_engine engine_memory = {.is_lmdb = false};
struct fixture_engine engine_small_lmdb = {.is_lmdb = true, .max_bytes = 8 << 20};
struct fixture_engine engine_small_memory = {.is_lmdb = false, .max_bytes = 8 << 20};

/* --- A store ---------------------------------------------------------------------------------- */

enum cap_error fixture_open(struct fixture *fixture)
{
    const struct fixture_engine *engine = &fixture->engine;
    uint64_t max = engine->max_bytes ? engine->max_bytes : FIXTURE_MAP;
    struct cap_store_lmdb_config config = {
        .dir = fixture->dir,
        .map_bytes = max,
        .max_readers = engine->max_readers,
    };
    if (engine->is_lmdb) {
        return cap_store_lmdb_open(&config, fixture_id, &fixture->store);
    }
    return cap_store_memory_new(fixture_id, max, &fixture->store);
}

void fixture_close(struct fixture *fixture)
{
    cap_store_close(fixture->store);
    fixture->store = NULL;
}

bool fixture_make_dir(struct fixture *fixture)
{
    static const char template[] = "/tmp/capstore-test-XXXXXX";
    memcpy(fixture->dir, template, sizeof(template));
    return mkdtemp(fixture->dir) != NULL;
}

int fixture_setup(void **state)
{
    const struct fixture_engine *engine = *state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    if (fixture == NULL) {
        return -1;
    }
    fixture->engine = *engine;
    if (!fixture_make_dir(fixture)) {
        return -1;
    }
    *state = fixture;
    return fixture_open(fixture) == CAP_OK ? 0 : -1;
}

void fixture_remove_dir(const char *dir)
{
    char path[512];
    const struct dirent *entry;
    DIR *list = opendir(dir);
    if (list == NULL) {
        return;
    }
    while ((entry = readdir(list)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        (void)unlink(path);
    }
    closedir(list);
    (void)rmdir(dir);
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    fixture_close(fixture);
    fixture_remove_dir(fixture->dir);
    free(fixture);
    return 0;
}

/* --- Caps made from a number ------------------------------------------------------------------ */

/* splitmix64: a bijection, so different numbers stay different. */
uint64_t fake_number(uint64_t seed)
{
    uint64_t x = seed + UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

struct cap_hash fake_hash(uint64_t seed)
{
    struct cap_hash hash;
    for (size_t i = 0; i < 4; i++) {
        cap_store64(hash.bytes + 8 * i, fake_number(seed * 4 + i));
    }
    return hash;
}

uint8_t fake_byte(uint64_t seed, uint64_t at)
{
    return (uint8_t)(fake_number(seed + (at >> 3)) >> (8 * (at & 7)));
}

static enum cap_error fake_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const uint64_t *seed = ctx;
    uint8_t *bytes = dst;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = fake_byte(*seed, offset + i);
    }
    return CAP_OK;
}

struct cap_source fake_source(const uint64_t *seed)
{
    struct cap_source source = {.read = fake_read};
    memcpy(&source.ctx, &seed, sizeof(source.ctx));
    return source;
}

struct cap_put fake_data(const uint64_t *seed, uint64_t len)
{
    struct cap_put put = {
        .hash = fake_hash(*seed),
        .info = {.kind = CAP_KIND_DATA,
                 .body_len = len,
                 .size = CAP_PAGE_SIZE,
                 .publisher = {1000, 1001},
                 .published_us = *seed},
        .body = fake_source(seed),
    };
    return put;
}

struct cap_put fake_image(const uint64_t *seed, uint64_t len)
{
    struct cap_put put = fake_data(seed, len);
    put.info.kind = CAP_KIND_IMAGE;
    put.info.size = 0;
    return put;
}

/* --- Whole operations ------------------------------------------------------------------------- */

static void on_decided(void *ctx, struct cap_admission *admission)
{
    (void)admission;
    (*(unsigned *)ctx)++;
}

enum cap_error admit_one(struct cap_store *store, struct cap_admission *admission)
{
    unsigned decided = 0;
    const struct cap_admit_watch watch = {.decided = on_decided, .ctx = &decided};
    cap_store_admit(store, &(struct cap_admission *const){admission}, 1, &watch);
    return decided == 1 ? admission->error : CAP_E_INTERNAL;
}

enum cap_error put_all(struct cap_store *store, struct cap_put *puts, size_t count)
{
    struct cap_admission admission = {.puts = puts, .put_count = count};
    return admit_one(store, &admission);
}

enum cap_error put_one(struct cap_store *store, const struct cap_put *put, bool *ret_new)
{
    struct cap_put own = *put;
    enum cap_error error = put_all(store, &own, 1);
    if (error == CAP_OK && ret_new != NULL) {
        *ret_new = own.is_new;
    }
    return error;
}

enum cap_error put_data(struct cap_store *store, uint64_t seed, uint64_t len)
{
    struct cap_put put = fake_data(&seed, len);
    return put_one(store, &put, NULL);
}

enum cap_error stage_step(struct cap_store *store, uint64_t stage, const struct cap_source *body,
                          bool *ret_done)
{
    struct cap_staging staging = {.stage = stage, .body = body};
    enum cap_error error = cap_store_stage_step(store, &staging, 1);
    *ret_done = staging.done;
    return error;
}

enum cap_error stage_all(struct cap_store *store, uint64_t seed, uint64_t len, uint64_t *ret_stage)
{
    struct cap_source source = fake_source(&seed);
    uint64_t stage;
    bool done = false;
    enum cap_error error = cap_store_stage_begin(store, len, &stage);
    if (error != CAP_OK) {
        return error;
    }
    while (!done && error == CAP_OK) {
        error = stage_step(store, stage, &source, &done);
    }
    if (error == CAP_OK) {
        *ret_stage = stage;
    } else {
        (void)drop_stage(store, stage); /* what cannot be swept now is swept later */
    }
    return error;
}

enum cap_error drop_stage(struct cap_store *store, uint64_t stage)
{
    enum cap_error error = CAP_OK;
    bool more = true;
    cap_store_stage_drop(store, stage);
    while (more && error == CAP_OK) {
        error = cap_store_sweep(store, 1, &more);
    }
    return error;
}

static enum cap_error check_spans(uint64_t seed, uint64_t at, const struct iovec *iov, int count)
{
    for (int i = 0; i < count; i++) {
        const uint8_t *bytes = iov[i].iov_base;
        for (size_t j = 0; j < iov[i].iov_len; j++) {
            if (bytes[j] != fake_byte(seed, at++)) {
                return CAP_E_HASH_MISMATCH;
            }
        }
    }
    return CAP_OK;
}

enum cap_error check_body(struct cap_read *read, uint64_t seed, uint64_t len)
{
    struct cap_hash hash = fake_hash(seed);
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    struct cap_info info;
    size_t got;
    int count;
    enum cap_error error = cap_store_find(read, &hash, &info);
    if (error == CAP_OK && info.body_len != len) {
        return CAP_E_LENGTH_MISMATCH;
    }
    for (uint64_t at = 0; error == CAP_OK && at < len; at += got) {
        error = cap_store_window(read, &hash, at, len - at, iov, &count, &got);
        if (error == CAP_OK) {
            error = got > 0 ? check_spans(seed, at, iov, count) : CAP_E_LENGTH_MISMATCH;
        }
    }
    return error;
}

enum cap_error check_cap(struct cap_store *store, uint64_t seed, uint64_t len)
{
    struct cap_read *read;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error != CAP_OK) {
        return error;
    }
    error = check_body(read, seed, len);
    cap_store_read_end(read);
    return error;
}

struct cap_counts get_counts(struct cap_store *store)
{
    struct cap_counts counts = {{0}, {0}, 0};
    struct cap_read *read;
    assert_cap_ok(cap_store_read_begin(store, &read));
    assert_cap_ok(cap_store_counts(read, &counts));
    cap_store_read_end(read);
    return counts;
}

/* --- Steps that a test fails by --------------------------------------------------------------- */

struct cap_store *store_of(void **state)
{
    return ((struct fixture *)*state)->store;
}

struct cap_read *begin_read(struct cap_store *store)
{
    struct cap_read *read = NULL;
    assert_cap_ok(cap_store_read_begin(store, &read));
    return read;
}

bool is_there(struct cap_store *store, uint64_t seed)
{
    struct cap_hash hash = fake_hash(seed);
    struct cap_read *read = begin_read(store);
    enum cap_error error = cap_store_find(read, &hash, NULL);
    cap_store_read_end(read);
    if (error != CAP_OK) {
        assert_cap_error(error, CAP_E_NOT_FOUND);
    }
    return error == CAP_OK;
}

void put_image(struct cap_store *store, uint64_t seed, uint64_t first, size_t count)
{
    struct cap_ref *refs = calloc(count + 1, sizeof(*refs));
    assert_non_null(refs);
    for (size_t i = 0; i < count; i++) {
        refs[i] = (struct cap_ref){fake_hash(first + i), CAP_REF_PINNED};
    }
    struct cap_put put = fake_image(&seed, 100);
    put.refs = refs;
    put.ref_count = count;
    assert_cap_ok(put_one(store, &put, NULL));
    free(refs);
}

void advance(struct cap_store *store, uint64_t seconds)
{
    atomic_fetch_add(&store->clock_zero_us, seconds * 1000000);
}

struct cap_collected collect_all(struct cap_store *store)
{
    struct cap_collected sum = {0};
    struct cap_collected slice = {.more = true};
    while (slice.more) {
        bool more = true;
        assert_cap_ok(cap_store_collect(store, 100, &slice));
        sum.caps += slice.caps;
        sum.bytes += slice.bytes;
        sum.looked_at += slice.looked_at;
        while (more) {
            assert_cap_ok(cap_store_sweep(store, 1, &more));
            slice.more |= more;
        }
    }
    return sum;
}

static void tell_finding(void *ctx, const struct cap_hash *hash, const char *what)
{
    (void)hash;
    if (strstr(what, "the body cannot be read as") == NULL) {
        print_error("%s\n", what);
        (*(unsigned *)ctx)++;
    }
}

void fixture_check(struct fixture *fixture)
{
    unsigned told = 0;
    uint64_t findings;
    const struct cap_check_watch watch = {.finding = tell_finding, .ctx = &told};
    if (fixture->engine.is_lmdb) {
        fixture_close(fixture);
        assert_cap_ok(cap_store_lmdb_check(fixture->dir, &watch, &findings));
        assert_int_equal(told, 0);
        assert_cap_ok(fixture_open(fixture));
    }
}

size_t page_refs(struct cap_store *store, const struct cap_hash *hash,
                 enum cap_ref_direction direction, size_t max, struct cap_ref *ret_refs)
{
    struct cap_read *read = begin_read(store);
    const struct cap_hash *after = NULL;
    size_t total = 0;
    bool more = true;
    while (more) {
        size_t count = 0;
        assert_cap_ok(
            cap_store_refs(read, hash, direction, after, max, ret_refs + total, &count, &more));
        assert_true(count <= max && (count > 0 || !more));
        total += count;
        if (total > 0) {
            after = &ret_refs[total - 1].hash;
        }
    }
    cap_store_read_end(read);
    for (size_t i = 1; i < total; i++) {
        assert_true(memcmp(ret_refs[i - 1].hash.bytes, ret_refs[i].hash.bytes, CAP_HASH_SIZE) < 0);
    }
    return total;
}

uint8_t *load_file(const char *path, size_t *ret_len)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_len = (size_t)st.st_size;
    return bytes;
}
