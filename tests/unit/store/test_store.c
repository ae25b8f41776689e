/*
 * The conformance suite of the store: every test here runs against every engine.
 */
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

static struct fixture_engine lmdb = {.is_lmdb = true};
static struct fixture_engine memory = {.is_lmdb = false};
static struct fixture_engine small_lmdb = {.is_lmdb = true, .max_bytes = 8 << 20};
static struct fixture_engine small_memory = {.is_lmdb = false, .max_bytes = 8 << 20};

static struct cap_store *store_of(void **state)
{
    return ((struct fixture *)*state)->store;
}

static struct cap_read *begin_read(struct cap_store *store)
{
    struct cap_read *read = NULL;

    assert_cap_ok(cap_store_read_begin(store, &read));
    return read;
}

static struct cap_write *begin_write(struct cap_store *store)
{
    struct cap_write *write = NULL;

    assert_cap_ok(cap_store_write_begin(store, &write));
    return write;
}

static bool is_there(struct cap_store *store, uint64_t seed)
{
    struct cap_hash hash = fake_hash(seed);
    struct cap_read *read = begin_read(store);
    enum cap_error error = cap_store_find(read, &hash, NULL);

    cap_store_read_end(read);
    if (error != CAP_OK)
        assert_cap_error(error, CAP_E_NOT_FOUND);
    return error == CAP_OK;
}

/* --- An empty store --------------------------------------------------------------------------- */

static void test_empty(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_list_query query = {.max = 4, .scan_max = 4};
    struct cap_hash hash = fake_hash(1), other;
    struct cap_listed items[4];
    struct cap_ref refs[4];
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    struct cap_read *read = begin_read(store);
    int spans;
    size_t count = 9, len;
    bool more = true;

    assert_memory_equal(cap_store_id(store), fixture_id, CAP_STORE_ID_SIZE);
    assert_string_equal(cap_store_engine(store),
                        ((struct fixture *)*state)->engine.is_lmdb ? "lmdb" : "memory");
    assert_cap_error(cap_store_find(read, &hash, NULL), CAP_E_NOT_FOUND);
    assert_cap_error(cap_store_window(read, &hash, 0, 1, iov, &spans, &len), CAP_E_NOT_FOUND);
    assert_cap_error(cap_store_page_roots(read, &hash, 0, 1, &other), CAP_E_NOT_FOUND);
    assert_cap_error(cap_store_find_content(read, &hash, &other), CAP_E_NOT_FOUND);
    assert_cap_ok(cap_store_list(read, &query, items, &count, &other, &more));
    assert_int_equal(count, 0);
    assert_false(more);
    count = 9;
    more = true;
    assert_cap_ok(cap_store_refs(read, &hash, CAP_REFS_IN, NULL, 4, refs, &count, &more));
    assert_int_equal(count, 0);
    assert_false(more);
    cap_store_read_end(read);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 0);
    assert_cap_ok(cap_store_tend(store));
    cap_store_read_end(NULL);
    cap_store_write_abort(NULL);
    cap_store_close(NULL);
}

/* --- Put and find ----------------------------------------------------------------------------- */

static void test_put_and_find(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 7;
    struct cap_put put = fake_image(&seed, 300);
    struct cap_info info;
    struct cap_read *read;
    bool is_new = false;

    put.info.size = 123;
    put.info.published_us = UINT64_C(1700000000123456);
    put.info.publisher = (struct cap_publisher){UINT32_MAX, 5};
    put.info.has_content_hash = true;
    put.info.content_hash = fake_hash(70);
    put.info.ref_count = 99; /* ignored */
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    read = begin_read(store);
    assert_cap_ok(cap_store_find(read, &put.hash, &info));
    cap_store_read_end(read);
    assert_int_equal(info.kind, CAP_KIND_IMAGE);
    assert_int_equal(info.body_len, 300);
    assert_int_equal(info.size, 123);
    assert_int_equal(info.page_count, 0);
    assert_int_equal(info.ref_count, 0);
    assert_int_equal(info.publisher.uid, UINT32_MAX);
    assert_int_equal(info.publisher.gid, 5);
    assert_int_equal(info.published_us, UINT64_C(1700000000123456));
    assert_true(info.has_content_hash);
    assert_hash_equal(&info.content_hash, &put.info.content_hash);
}

/* The first publisher stays, counts do not move, and `new` says so. */
static void test_put_again(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 7;
    struct cap_put put = fake_data(&seed, 300);
    struct cap_info info;
    struct cap_read *read;
    bool is_new = true;

    assert_cap_ok(put_one(store, &put, NULL));
    put.info.publisher.uid = 4;
    put.info.published_us = 4;
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_false(is_new);
    read = begin_read(store);
    assert_cap_ok(cap_store_find(read, &put.hash, &info));
    cap_store_read_end(read);
    assert_int_equal(info.publisher.uid, 1000);
    assert_int_equal(info.published_us, 7);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 1);
    assert_int_equal(get_counts(store).body_bytes[CAP_KIND_DATA], 300);
}

static void test_put_twice_in_one_write(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_write *write = begin_write(store);
    uint64_t seed = 8;
    struct cap_put put = fake_data(&seed, 90000);
    struct cap_info info;
    bool is_new = false;

    assert_cap_error(cap_store_write_find(write, &put.hash, &info), CAP_E_NOT_FOUND);
    assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    assert_true(is_new);
    assert_cap_ok(cap_store_write_find(write, &put.hash, &info));
    assert_int_equal(info.body_len, 90000);
    assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    assert_false(is_new);
    assert_cap_ok(cap_store_write_commit(write));
    assert_cap_ok(check_cap(store, seed, 90000));
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 1);
}

static void test_counts(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_write *write = begin_write(store);
    struct cap_counts counts;

    for (uint64_t seed = 0; seed < 10; seed++) {
        struct cap_put data = fake_data(&seed, 100 + seed);
        bool is_new;

        assert_cap_ok(cap_store_write_put(write, &data, &is_new));
    }
    for (uint64_t seed = 10; seed < 13; seed++) {
        struct cap_ref refs[] = {{fake_hash(1), CAP_REF_PINNED}, {fake_hash(2), CAP_REF_INITIAL}};
        struct cap_put image = fake_image(&seed, 50);
        bool is_new;

        image.refs = refs;
        image.ref_count = 2;
        assert_cap_ok(cap_store_write_put(write, &image, &is_new));
    }
    assert_cap_ok(cap_store_write_commit(write));
    counts = get_counts(store);
    assert_int_equal(counts.caps[CAP_KIND_DATA], 10);
    assert_int_equal(counts.body_bytes[CAP_KIND_DATA], 1045);
    assert_int_equal(counts.caps[CAP_KIND_IMAGE], 3);
    assert_int_equal(counts.body_bytes[CAP_KIND_IMAGE], 150);
    assert_int_equal(counts.refs, 6);
}

/* --- Windows ---------------------------------------------------------------------------------- */

/* One window: what it holds, and that it is cut only at its bound or the body's end. */
static void check_window(struct cap_read *read, uint64_t seed, uint64_t body_len, uint64_t at,
                         uint64_t len)
{
    struct cap_hash hash = fake_hash(seed);
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    uint64_t wanted = len < CAP_STORE_WINDOW ? len : CAP_STORE_WINDOW;
    size_t got = 0, sum = 0;
    int count = 0;

    if (wanted > body_len - at)
        wanted = body_len - at;
    assert_cap_ok(cap_store_window(read, &hash, at, len, iov, &count, &got));
    assert_int_equal(got, wanted);
    assert_in_range(count, wanted > 0, CAP_STORE_WINDOW_IOV);
    for (int i = 0; i < count; i++) {
        const uint8_t *bytes = iov[i].iov_base;

        assert_true(iov[i].iov_len > 0);
        for (size_t j = 0; j < iov[i].iov_len; j++)
            assert_true(bytes[j] == fake_byte(seed, at + sum + j));
        sum += iov[i].iov_len;
    }
    assert_int_equal(sum, got);
}

static void test_windows(void **state)
{
    static const uint64_t lens[] = {
        0, 1, 2000, 4096, 65519, 65520, 65521, 131040, 262080, (256 << 10) + 5, 1000003};
    struct cap_store *store = store_of(state);

    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        uint64_t len = lens[i];
        struct cap_read *read;

        assert_cap_ok(put_data(store, i, len));
        read = begin_read(store);
        assert_cap_ok(check_body(read, i, len));
        for (uint64_t at = 0; at <= len; at += len / 7 + 1) {
            check_window(read, i, len, at, 1);
            check_window(read, i, len, at, 70000);
            check_window(read, i, len, at, UINT64_MAX);
        }
        check_window(read, i, len, len, 10);
        check_window(read, i, len, 0, 0);
        cap_store_read_end(read);
    }
}

static void test_window_out_of_body(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_hash hash = fake_hash(1);
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    struct cap_read *read;
    int count = 77;
    size_t len = 77;

    assert_cap_ok(put_data(store, 1, 1000));
    read = begin_read(store);
    assert_cap_error(cap_store_window(read, &hash, 1001, 1, iov, &count, &len),
                     CAP_E_RANGE_OUT_OF_BODY);
    assert_cap_error(cap_store_window(read, &hash, UINT64_MAX, UINT64_MAX, iov, &count, &len),
                     CAP_E_RANGE_OUT_OF_BODY);
    assert_int_equal(count, 77);
    assert_int_equal(len, 77);
    cap_store_read_end(read);
}

/* --- Page roots ------------------------------------------------------------------------------- */

#define ROOTS 5000u

static void test_page_roots(void **state)
{
    static const uint64_t firsts[] = {0, 1, 2046, 2047, 2048, 4093, 4999, 5000};
    struct cap_store *store = store_of(state);
    struct cap_hash *roots = calloc(ROOTS, sizeof(*roots));
    struct cap_hash *got = calloc(ROOTS, sizeof(*got));
    uint64_t seed = 3;
    struct cap_put put = fake_data(&seed, 20);
    struct cap_read *read;

    for (size_t i = 0; i < ROOTS; i++)
        roots[i] = fake_hash(1000 + i);
    put.info.page_count = ROOTS;
    put.page_roots = roots;
    assert_cap_ok(put_one(store, &put, NULL));
    read = begin_read(store);
    for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
        uint64_t first = firsts[i];

        assert_cap_ok(cap_store_page_roots(read, &put.hash, first, ROOTS - first, got));
        assert_memory_equal(got, roots + first, (ROOTS - first) * sizeof(*got));
        assert_cap_error(cap_store_page_roots(read, &put.hash, first, ROOTS - first + 1, got),
                         CAP_E_RANGE_OUT_OF_BODY);
    }
    assert_cap_error(cap_store_page_roots(read, &put.hash, ROOTS + 1, 0, got),
                     CAP_E_RANGE_OUT_OF_BODY);
    assert_cap_error(cap_store_page_roots(read, &put.hash, 1, SIZE_MAX, got),
                     CAP_E_RANGE_OUT_OF_BODY);
    cap_store_read_end(read);
    assert_cap_ok(check_cap(store, seed, 20));
    free(roots);
    free(got);
}

/* --- Listing ---------------------------------------------------------------------------------- */

/* Caps 0 to 59; every third is an Image. */
static void fill_for_list(struct cap_store *store)
{
    struct cap_write *write = begin_write(store);

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct cap_put put = seed % 3 ? fake_data(&seed, seed) : fake_image(&seed, seed);
        bool is_new;

        assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    }
    assert_cap_ok(cap_store_write_commit(write));
}

/* Pages through a listing; returns how many it showed, in ascending order all. */
static size_t count_listed(struct cap_store *store, struct cap_list_query query)
{
    struct cap_read *read = begin_read(store);
    struct cap_listed items[64];
    struct cap_hash last, before = {{0}};
    size_t total = 0, pages = 0;
    bool more = true;

    while (more) {
        size_t count = 0;

        assert_cap_ok(cap_store_list(read, &query, items, &count, &last, &more));
        assert_true(count <= query.max && count <= query.scan_max);
        for (size_t i = 0; i < count; i++) {
            assert_true(memcmp(before.bytes, items[i].hash.bytes, CAP_HASH_SIZE) < 0);
            before = items[i].hash;
            if (query.kind)
                assert_int_equal(items[i].info.kind, query.kind);
        }
        total += count;
        query.after = &last;
        assert_true(++pages < 200);
    }
    cap_store_read_end(read);
    return total;
}

static void test_list(void **state)
{
    struct cap_store *store = store_of(state);

    fill_for_list(store);
    for (size_t max = 1; max < 64; max += 9) {
        struct cap_list_query query = {.max = max, .scan_max = 1000};

        assert_int_equal(count_listed(store, query), 60);
        query.kind = CAP_KIND_IMAGE;
        assert_int_equal(count_listed(store, query), 20);
        query.scan_max = 1;
        assert_int_equal(count_listed(store, query), 20);
        query.kind = CAP_KIND_DATA;
        assert_int_equal(count_listed(store, query), 40);
    }
}

static bool agrees(const struct cap_hash *a, const struct cap_hash *b, unsigned bits)
{
    for (unsigned i = 0; i < bits; i++) {
        unsigned shift = 7 - i % 8;

        if ((a->bytes[i / 8] >> shift & 1) != (b->bytes[i / 8] >> shift & 1))
            return false;
    }
    return true;
}

static void test_list_prefix(void **state)
{
    static const unsigned lengths[] = {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 255, 256};
    struct cap_store *store = store_of(state);

    fill_for_list(store);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct cap_list_query query = {.prefix = fake_hash(5), .max = 3, .scan_max = 2};
        size_t wanted = 0;

        query.prefix_bits = lengths[i];
        for (uint64_t seed = 0; seed < 60; seed++) {
            struct cap_hash hash = fake_hash(seed);

            wanted += agrees(&hash, &query.prefix, query.prefix_bits);
        }
        assert_int_equal(count_listed(store, query), wanted);
    }
}

static void test_list_after_outside_of_prefix(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_hash low = {{0}}, high;
    struct cap_list_query query = {.prefix = fake_hash(5), .prefix_bits = 256, .max = 3};

    memset(high.bytes, 0xff, sizeof(high.bytes));
    query.scan_max = 3;
    fill_for_list(store);
    query.after = &low;
    assert_int_equal(count_listed(store, query), 1);
    query.after = &high;
    assert_int_equal(count_listed(store, query), 0);
}

/* --- References ------------------------------------------------------------------------------- */

static size_t page_refs(struct cap_store *store, const struct cap_hash *hash,
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
        if (total > 0)
            after = &ret_refs[total - 1].hash;
    }
    cap_store_read_end(read);
    for (size_t i = 1; i < total; i++)
        assert_true(memcmp(ret_refs[i - 1].hash.bytes, ret_refs[i].hash.bytes, CAP_HASH_SIZE) < 0);
    return total;
}

/* 40 references to 20 targets, some of them in both tables; three Images share the targets. */
static void test_refs(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_ref refs[40], got[64];
    struct cap_hash target = fake_hash(104);
    size_t both = 0;

    for (size_t i = 0; i < 40; i++) {
        refs[i].hash = fake_hash(100 + i % 20);
        refs[i].tables = i % 3 == 0 ? CAP_REF_INITIAL : CAP_REF_PINNED;
    }
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct cap_put image = fake_image(&seed, 10);
        bool is_new;

        image.refs = refs;
        image.ref_count = 40;
        assert_cap_ok(put_one(store, &image, &is_new));
    }
    for (size_t max = 1; max <= 21; max += 5) {
        struct cap_hash source = fake_hash(2);

        assert_int_equal(page_refs(store, &source, CAP_REFS_OUT, max, got), 20);
        assert_int_equal(page_refs(store, &source, CAP_REFS_IN, max, got), 0);
        assert_int_equal(page_refs(store, &target, CAP_REFS_IN, max, got), 3);
        assert_int_equal(page_refs(store, &target, CAP_REFS_OUT, max, got), 0);
    }
    for (uint64_t i = 0; i < 20; i++) {
        struct cap_hash hash = fake_hash(100 + i);
        bool initial = i % 3 == 0 || (i + 20) % 3 == 0;
        uint8_t wanted = initial ? CAP_REF_INITIAL | CAP_REF_PINNED : CAP_REF_PINNED;

        assert_int_equal(page_refs(store, &hash, CAP_REFS_IN, 8, got), 3);
        assert_int_equal(got[0].tables, wanted);
        both += initial;
    }
    assert_true(both > 0 && both < 20);
    assert_int_equal(get_counts(store).refs, 60);
}

/* --- The content index ------------------------------------------------------------------------ */

static void test_content_index(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 5;
    struct cap_put put = fake_image(&seed, 30);
    struct cap_hash first = fake_hash(500), second = fake_hash(501), hash;
    struct cap_info info;
    struct cap_read *read;
    bool is_new;

    put.info.has_content_hash = true;
    put.info.content_hash = first;
    assert_cap_ok(put_one(store, &put, NULL));
    put.info.content_hash = second; /* the same Image cap from another wire Image */
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_false(is_new);
    assert_cap_ok(put_one(store, &put, &is_new));
    read = begin_read(store);
    assert_cap_ok(cap_store_find_content(read, &first, &hash));
    assert_hash_equal(&hash, &put.hash);
    assert_cap_ok(cap_store_find_content(read, &second, &hash));
    assert_hash_equal(&hash, &put.hash);
    assert_cap_ok(cap_store_find(read, &put.hash, &info));
    assert_hash_equal(&info.content_hash, &first);
    cap_store_read_end(read);
}

/* --- All or nothing --------------------------------------------------------------------------- */

static void test_abort_leaves_nothing(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_write *write = begin_write(store);
    uint64_t seed = 5;
    struct cap_put put = fake_image(&seed, 200000);
    struct cap_ref ref = {fake_hash(6), CAP_REF_PINNED}, got[2];
    struct cap_hash hash;
    struct cap_read *read;
    bool is_new;

    put.refs = &ref;
    put.ref_count = 1;
    put.info.has_content_hash = true;
    put.info.content_hash = fake_hash(50);
    assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    cap_store_write_abort(write);
    assert_false(is_there(store, seed));
    read = begin_read(store);
    assert_cap_error(cap_store_find_content(read, &put.info.content_hash, &hash), CAP_E_NOT_FOUND);
    cap_store_read_end(read);
    assert_int_equal(page_refs(store, &ref.hash, CAP_REFS_IN, 2, got), 0);
    assert_int_equal(get_counts(store).caps[CAP_KIND_IMAGE], 0);
    assert_int_equal(get_counts(store).refs, 0);
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    assert_cap_ok(check_cap(store, seed, 200000));
}

static enum cap_error failing_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    (void)ctx;
    memset(dst, 0, len);
    return offset + len < 300000 ? CAP_OK : CAP_E_CANCELLED;
}

/* A source that fails midway: its error comes back, and nothing of the transaction is left. */
static void test_failed_put(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_write *write = begin_write(store);
    uint64_t good_seed = 1, bad_seed = 2;
    struct cap_put good = fake_data(&good_seed, 100);
    struct cap_put bad = fake_data(&bad_seed, 300000);
    bool is_new = false;

    bad.body = (struct cap_source){.read = failing_read};
    assert_cap_ok(cap_store_write_put(write, &good, &is_new));
    assert_cap_error(cap_store_write_put(write, &bad, &is_new), CAP_E_CANCELLED);
    assert_cap_error(cap_store_write_put(write, &good, &is_new), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_write_commit(write), CAP_E_INVALID_ARGUMENT);
    assert_false(is_there(store, 1));
    assert_false(is_there(store, 2));
    assert_cap_ok(put_data(store, 1, 100));
}

static void test_one_writer(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_write *write = begin_write(store), *second;
    uint64_t seed = 1, stage;
    struct cap_source source = fake_source(&seed);
    bool done;

    assert_cap_error(cap_store_write_begin(store, &second), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_stage_begin(store, 10, &stage), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_stage_step(store, 1, &source, &done), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_stage_drop(store, 1), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(cap_store_write_commit(write));
    write = begin_write(store);
    cap_store_write_abort(write);
}

static void check_refused(struct cap_store *store, const struct cap_put *put)
{
    assert_cap_error(put_one(store, put, NULL), CAP_E_INVALID_ARGUMENT);
}

static void test_invalid_puts(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1;
    struct cap_ref ref = {fake_hash(2), CAP_REF_PINNED};
    struct cap_put put = fake_data(&seed, 10);

    put.info.kind = (enum cap_kind)0;
    check_refused(store, &put);
    put.info.kind = (enum cap_kind)3;
    check_refused(store, &put);
    put = fake_data(&seed, 10);
    put.refs = &ref;
    put.ref_count = 1;
    check_refused(store, &put);
    put = fake_image(&seed, 10);
    put.refs = &ref;
    put.ref_count = 1;
    ref.tables = 0;
    check_refused(store, &put);
    ref.tables = 4;
    check_refused(store, &put);
    put = fake_image(&seed, 10);
    put.info.page_count = 1;
    put.page_roots = &ref.hash;
    check_refused(store, &put);
    put = fake_data(&seed, 10);
    put.info.page_count = 1;
    check_refused(store, &put);
    put = fake_data(&seed, UINT64_MAX);
    check_refused(store, &put);
    put = fake_data(&seed, 10);
    put.stage = 12345;
    check_refused(store, &put);
    assert_false(is_there(store, seed));
}

static void test_invalid_queries(void **state)
{
    struct cap_read *read = begin_read(store_of(state));
    struct cap_list_query query = {.max = 0, .scan_max = 1};
    struct cap_hash hash = fake_hash(1);
    struct cap_listed item;
    struct cap_ref ref;
    size_t count;
    bool more;

    assert_cap_error(cap_store_list(read, &query, &item, &count, &hash, &more),
                     CAP_E_INVALID_ARGUMENT);
    query = (struct cap_list_query){.max = 1, .scan_max = 0};
    assert_cap_error(cap_store_list(read, &query, &item, &count, &hash, &more),
                     CAP_E_INVALID_ARGUMENT);
    query = (struct cap_list_query){.max = 1, .scan_max = 1, .prefix_bits = 257};
    assert_cap_error(cap_store_list(read, &query, &item, &count, &hash, &more),
                     CAP_E_INVALID_ARGUMENT);
    query = (struct cap_list_query){.max = 1, .scan_max = 1, .kind = 3};
    assert_cap_error(cap_store_list(read, &query, &item, &count, &hash, &more),
                     CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_store_refs(read, &hash, CAP_REFS_IN, NULL, 0, &ref, &count, &more),
                     CAP_E_INVALID_ARGUMENT);
    cap_store_read_end(read);
}

/* --- Snapshots -------------------------------------------------------------------------------- */

/* A reader sees the store of its time however often the writer commits, and the writer never waits.
 */
static void test_snapshot(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_counts counts;
    struct cap_read *read, *later;
    struct cap_hash hash = fake_hash(2);

    assert_cap_ok(put_data(store, 1, 100000));
    read = begin_read(store);
    for (uint64_t seed = 2; seed < 30; seed++)
        assert_cap_ok(put_data(store, seed, 100000));
    later = begin_read(store);
    assert_cap_error(cap_store_find(read, &hash, NULL), CAP_E_NOT_FOUND);
    assert_cap_ok(cap_store_find(later, &hash, NULL));
    assert_cap_ok(cap_store_counts(read, &counts));
    assert_int_equal(counts.caps[CAP_KIND_DATA], 1);
    assert_cap_ok(check_body(read, 1, 100000));
    cap_store_read_end(read);
    assert_cap_ok(cap_store_counts(later, &counts));
    assert_int_equal(counts.caps[CAP_KIND_DATA], 29);
    cap_store_read_end(later);
}

/* Bytes handed out by a window stay as they are while the writer goes on. */
static void test_window_outlasts_commits(void **state)
{
    struct cap_store *store = store_of(state);
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    struct cap_hash hash = fake_hash(1);
    struct cap_read *read;
    const uint8_t *bytes;
    size_t len;
    int count;

    assert_cap_ok(put_data(store, 1, 60000));
    read = begin_read(store);
    assert_cap_ok(cap_store_window(read, &hash, 100, 40000, iov, &count, &len));
    for (uint64_t seed = 2; seed < 40; seed++)
        assert_cap_ok(put_data(store, seed, 60000));
    bytes = iov[0].iov_base;
    for (size_t i = 0; i < iov[0].iov_len; i++)
        assert_true(bytes[i] == fake_byte(1, 100 + i));
    cap_store_read_end(read);
}

/* --- Stages ----------------------------------------------------------------------------------- */

#define STAGED (3 * CAP_STAGE_STEP + 12345)

static void test_stage(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, stage = 0;
    struct cap_put put = fake_data(&seed, STAGED);
    struct cap_source source = fake_source(&seed);
    bool done = false, is_new = false;
    unsigned steps = 0;

    assert_cap_ok(cap_store_stage_begin(store, STAGED, &stage));
    assert_true(stage != 0);
    while (!done) {
        assert_cap_ok(cap_store_stage_step(store, stage, &source, &done));
        assert_false(is_there(store, seed));
        steps++;
    }
    assert_int_equal(steps, 4);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 0);
    put.stage = stage;
    put.body = (struct cap_source){0}; /* not looked at */
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    assert_cap_ok(check_cap(store, seed, STAGED));
    assert_int_equal(get_counts(store).body_bytes[CAP_KIND_DATA], STAGED);
    assert_cap_error(cap_store_stage_step(store, stage, &source, &done), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(cap_store_stage_drop(store, stage)); /* nothing to drop: the cap stays */
    assert_cap_ok(check_cap(store, seed, STAGED));
}

static void test_stage_survives_abort(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, stage;
    struct cap_put put = fake_data(&seed, 500000);
    struct cap_write *write;
    bool is_new;

    assert_cap_ok(stage_all(store, seed, 500000, &stage));
    put.stage = stage;
    write = begin_write(store);
    assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    cap_store_write_abort(write);
    assert_false(is_there(store, seed));
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    assert_cap_ok(check_cap(store, seed, 500000));
}

static void test_stage_misuse(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, other = 2, stage;
    struct cap_put put = fake_data(&seed, 500000);
    struct cap_put second = fake_data(&other, 500000);
    struct cap_source source = fake_source(&seed);
    struct cap_write *write;
    bool is_new, done;

    assert_cap_ok(cap_store_stage_begin(store, 500000, &stage));
    put.stage = second.stage = stage;
    check_refused(store, &put); /* nothing written yet */
    assert_cap_ok(cap_store_stage_step(store, stage, &source, &done));
    assert_true(done);
    put.info.body_len = 499999;
    check_refused(store, &put);
    put.info.body_len = 500000;
    write = begin_write(store);
    assert_cap_ok(cap_store_write_put(write, &put, &is_new));
    assert_cap_error(cap_store_write_put(write, &second, &is_new), CAP_E_INVALID_ARGUMENT);
    cap_store_write_abort(write);
    assert_cap_ok(cap_store_stage_drop(store, stage));
    check_refused(store, &put);
    assert_cap_error(cap_store_stage_begin(store, UINT64_MAX, &stage), CAP_E_INVALID_ARGUMENT);
}

/* Two publishers stage the same cap: the first to commit wins, the other's stage goes away. */
static void test_stage_race(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, first, second;
    struct cap_put put = fake_data(&seed, 1000000);
    struct cap_source source = fake_source(&seed);
    bool is_new, done;

    assert_cap_ok(stage_all(store, seed, 1000000, &first));
    assert_cap_ok(stage_all(store, seed, 1000000, &second));
    assert_true(first != second);
    put.stage = second;
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    put.stage = first;
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_false(is_new);
    assert_cap_error(cap_store_stage_step(store, first, &source, &done), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(check_cap(store, seed, 1000000));
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 1);
    assert_int_equal(get_counts(store).body_bytes[CAP_KIND_DATA], 1000000);
}

static void test_empty_stage(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 1, stage;
    struct cap_put put = fake_data(&seed, 0);

    assert_cap_ok(stage_all(store, seed, 0, &stage));
    put.stage = stage;
    assert_cap_ok(put_one(store, &put, NULL));
    assert_cap_ok(check_cap(store, seed, 0));
}

/* --- Full ------------------------------------------------------------------------------------- */

/* Fills the store with caps of `len` bytes from `seed` on; returns how many went in. */
static uint64_t fill(struct cap_store *store, uint64_t seed, uint64_t len)
{
    for (uint64_t i = 0; i < 10000; i++) {
        enum cap_error error = put_data(store, seed + i, len);

        if (error != CAP_OK) {
            assert_cap_error(error, CAP_E_MAP_FULL);
            return i;
        }
    }
    fail_msg("the store never fills");
    return 0;
}

static void check_all(struct cap_store *store, uint64_t seed, uint64_t count, uint64_t len)
{
    for (uint64_t i = 0; i < count; i++)
        assert_cap_ok(check_cap(store, seed + i, len));
}

/* Full: refused by name, all that was there stays readable, and a dropped stage makes room. */
static void test_full(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t stage, huge, big, small;

    assert_cap_ok(stage_all(store, 999, 2000000, &stage));
    assert_cap_error(stage_all(store, 998, 64 << 20, &huge), CAP_E_MAP_FULL);
    big = fill(store, 1000, 300000);
    assert_true(big > 3);
    small = fill(store, 2000, 20000);
    check_all(store, 1000, big, 300000);
    check_all(store, 2000, small, 20000);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], big + small);
    assert_cap_ok(cap_store_stage_drop(store, stage));
    assert_cap_ok(put_data(store, 3000, 300000));
    assert_cap_ok(check_cap(store, 3000, 300000));
    check_all(store, 1000, big, 300000);
}

/* Full in the middle of staging: what was staged can be dropped, again and again. */
static void test_full_while_staging(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t full = 0;

    assert_cap_ok(put_data(store, 1000, 100000));
    for (int i = 0; i < 20; i++) {
        uint64_t stages[2] = {0, 0};
        enum cap_error error = stage_all(store, 1, 3 << 20, &stages[0]);

        assert_cap_ok(error);
        error = stage_all(store, 2, (3 << 20) + 150000 * (uint64_t)i, &stages[1]);
        if (error == CAP_E_MAP_FULL)
            full++;
        else
            assert_cap_ok(error);
        assert_cap_ok(cap_store_stage_drop(store, stages[0]));
        assert_cap_ok(cap_store_stage_drop(store, stages[1]));
    }
    assert_in_range(full, 1, 19);
    assert_cap_ok(check_cap(store, 1000, 100000));
}

/* --- Space ------------------------------------------------------------------------------------ */

static void test_space(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_read *read = begin_read(store);
    struct cap_space space;

    assert_cap_ok(cap_store_space(store, &space));
    assert_int_equal(space.readers, 1);
    assert_int_equal(space.map_bytes, FIXTURE_MAP);
    cap_store_read_end(read);
    assert_cap_ok(cap_store_space(store, &space));
    assert_int_equal(space.readers, 0);
}

#define BOTH(function)                                                                             \
    {#function " [lmdb]", function, fixture_setup, fixture_teardown, &lmdb},                       \
    {                                                                                              \
#function " [memory]", function, fixture_setup, fixture_teardown, &memory                  \
    }
#define BOTH_SMALL(function)                                                                       \
    {#function " [lmdb]", function, fixture_setup, fixture_teardown, &small_lmdb},                 \
    {                                                                                              \
#function " [memory]", function, fixture_setup, fixture_teardown, &small_memory            \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_empty),
        BOTH(test_put_and_find),
        BOTH(test_put_again),
        BOTH(test_put_twice_in_one_write),
        BOTH(test_counts),
        BOTH(test_windows),
        BOTH(test_window_out_of_body),
        BOTH(test_page_roots),
        BOTH(test_list),
        BOTH(test_list_prefix),
        BOTH(test_list_after_outside_of_prefix),
        BOTH(test_refs),
        BOTH(test_content_index),
        BOTH(test_abort_leaves_nothing),
        BOTH(test_failed_put),
        BOTH(test_one_writer),
        BOTH(test_invalid_puts),
        BOTH(test_invalid_queries),
        BOTH(test_snapshot),
        BOTH(test_window_outlasts_commits),
        BOTH(test_stage),
        BOTH(test_stage_survives_abort),
        BOTH(test_stage_misuse),
        BOTH(test_stage_race),
        BOTH(test_empty_stage),
        BOTH_SMALL(test_full),
        BOTH_SMALL(test_full_while_staging),
        BOTH(test_space),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
