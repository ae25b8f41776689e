/*
 * The conformance suite of the store, what reads: every test runs against every engine.
 */
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

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
    assert_cap_ok(cap_store_clear_stale_readers(store));
    cap_store_read_end(NULL);
    cap_store_close(NULL);
}

/* --- Put and find ----------------------------------------------------------------------------- */

static void test_put_and_find(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 7;
    struct cap_put put = fake_image(&seed, 300);
    struct cap_info info;
    bool is_new = false;
    put.info.size = 123;
    put.page_roots = &put.hash;
    put.info.published_us = UINT64_C(1700000000123456);
    put.info.publisher = (struct cap_publisher){UINT32_MAX, 5};
    put.info.has_content_hash = true;
    put.info.content_hash = fake_hash(70);
    put.info.ref_count = 99; /* ignored */
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_true(is_new);
    struct cap_read *read = begin_read(store);
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
    bool is_new = true;
    assert_cap_ok(put_one(store, &put, NULL));
    put.info.publisher.uid = 4;
    put.info.published_us = 4;
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_false(is_new);
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_find(read, &put.hash, &info));
    cap_store_read_end(read);
    assert_int_equal(info.publisher.uid, 1000);
    assert_int_equal(info.published_us, 7);
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 1);
    assert_int_equal(get_counts(store).body_bytes[CAP_KIND_DATA], 300);
}

static void test_put_twice_in_one_admission(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 8;
    struct cap_put puts[] = {fake_data(&seed, 90000), fake_data(&seed, 90000)};
    assert_cap_ok(put_all(store, puts, 2));
    assert_true(puts[0].is_new);
    assert_false(puts[1].is_new);
    assert_cap_ok(check_cap(store, seed, 90000));
    assert_int_equal(get_counts(store).caps[CAP_KIND_DATA], 1);
}

static void test_counts(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_ref refs[] = {{fake_hash(1), CAP_REF_PINNED}, {fake_hash(2), CAP_REF_INITIAL}};
    struct cap_put puts[13];
    uint64_t seeds[13];
    for (uint64_t i = 0; i < 13; i++) {
        seeds[i] = i;
        puts[i] = i < 10 ? fake_data(&seeds[i], 100 + i) : fake_image(&seeds[i], 50);
        if (i >= 10) {
            puts[i].refs = refs;
            puts[i].ref_count = 2;
        }
    }
    assert_cap_ok(put_all(store, puts, 13));
    struct cap_counts counts = get_counts(store);
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
    if (wanted > body_len - at) {
        wanted = body_len - at;
    }
    assert_cap_ok(cap_store_window(read, &hash, at, len, iov, &count, &got));
    assert_int_equal(got, wanted);
    assert_in_range(count, wanted > 0, CAP_STORE_WINDOW_IOV);
    for (int i = 0; i < count; i++) {
        const uint8_t *bytes = iov[i].iov_base;
        assert_true(iov[i].iov_len > 0);
        for (size_t j = 0; j < iov[i].iov_len; j++) {
            assert_true(bytes[j] == fake_byte(seed, at + sum + j));
        }
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

/* Short bodies have a place, from which they come whole. */
static void test_places(void **state)
{
    static const uint64_t lens[] = {0, 1, 2000, 4096, CAP_STORE_PLACE_MAX, CAP_STORE_PLACE_MAX + 1};
    static uint8_t body[CAP_STORE_PLACE_MAX];
    struct cap_store *store = store_of(state);
    struct cap_place places[sizeof(lens) / sizeof(lens[0])];
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct cap_hash hash = fake_hash(i);
        struct cap_info info;
        assert_cap_ok(put_data(store, i, lens[i]));
        struct cap_read *read = begin_read(store);
        assert_cap_ok(cap_store_locate(read, &hash, &info, &places[i]));
        assert_int_equal(info.body_len, lens[i]);
        assert_int_equal(places[i].at != NULL, lens[i] > 0 && lens[i] <= CAP_STORE_PLACE_MAX);
        for (int pass = 0; places[i].at != NULL && pass < 2; pass++) {
            memset(body, 0, sizeof(body));
            assert_cap_ok(pass == 0 ? cap_store_take(read, &hash, &places[i], body)
                                    : cap_store_load(store, &places[i], body));
            for (size_t j = 0; j < lens[i]; j++) {
                assert_true(body[j] == fake_byte(i, j));
            }
        }
        hash = fake_hash(1000);
        assert_cap_error(cap_store_locate(read, &hash, &info, &places[i]), CAP_E_NOT_FOUND);
        cap_store_read_end(read);
    }
}

static void test_window_out_of_body(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_hash hash = fake_hash(1);
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    int count = 77;
    size_t len = 77;
    assert_cap_ok(put_data(store, 1, 1000));
    struct cap_read *read = begin_read(store);
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
    for (size_t i = 0; i < ROOTS; i++) {
        roots[i] = fake_hash(1000 + i);
    }
    put.info.page_count = ROOTS;
    put.page_roots = roots;
    assert_cap_ok(put_one(store, &put, NULL));
    struct cap_read *read = begin_read(store);
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

/* Of an Image there is one for each page of code that is begun. */
static void test_page_roots_of_code(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_hash roots[3] = {fake_hash(11), fake_hash(12), fake_hash(13)}, got[3];
    uint64_t seed = 3;
    struct cap_put put = fake_image(&seed, 9000);
    put.info.size = 2 * CAP_PAGE_SIZE + 1;
    assert_cap_error(put_one(store, &put, NULL), CAP_E_INVALID_ARGUMENT);
    put.page_roots = roots;
    assert_cap_ok(put_one(store, &put, NULL));
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_page_roots(read, &put.hash, 0, 3, got));
    assert_memory_equal(got, roots, sizeof(got));
    assert_cap_ok(cap_store_page_roots(read, &put.hash, 2, 1, got));
    assert_hash_equal(&got[0], &roots[2]);
    assert_cap_error(cap_store_page_roots(read, &put.hash, 3, 1, got), CAP_E_RANGE_OUT_OF_BODY);
    cap_store_read_end(read);
}

/* --- Nodes ------------------------------------------------------------------------------------ */

static void test_nodes(void **state)
{
    enum { NODES = 1850 };
    static const size_t firsts[] = {0, 1, 1487, 1488, 1489, NODES};
    struct cap_store *store = store_of(state);
    struct cap_hash *roots = calloc(ROOTS, sizeof(*roots));
    struct cap_node *nodes = calloc(NODES, sizeof(*nodes));
    struct cap_node *got = calloc(NODES, sizeof(*got));
    struct cap_info info;
    uint64_t seed = 3;
    struct cap_put put = fake_data(&seed, 20);
    for (size_t i = 0; i < NODES; i++) {
        nodes[i].hash = fake_hash(i);
        cap_store32(nodes[i].count, (uint32_t)i);
    }
    put.info.page_count = ROOTS;
    put.info.node_counts = (struct cap_node_counts){{ROOTS / 4 + 1}};
    put.page_roots = roots;
    put.nodes = nodes;
    assert_cap_error(put_one(store, &put, NULL), CAP_E_INVALID_ARGUMENT);
    put.info.node_counts = (struct cap_node_counts){{ROOTS / 4, 500, 100}};
    put.nodes = NULL;
    assert_cap_error(put_one(store, &put, NULL), CAP_E_INVALID_ARGUMENT);
    put.nodes = nodes;
    assert_cap_ok(put_one(store, &put, NULL));
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_find(read, &put.hash, &info));
    assert_memory_equal(&info.node_counts, &put.info.node_counts, sizeof(info.node_counts));
    for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
        size_t first = firsts[i];
        assert_cap_ok(cap_store_nodes(read, &put.hash, first, NODES - first, got));
        assert_memory_equal(got, nodes + first, (NODES - first) * sizeof(*got));
        assert_cap_error(cap_store_nodes(read, &put.hash, first, NODES - first + 1, got),
                         CAP_E_RANGE_OUT_OF_BODY);
    }
    assert_cap_error(cap_store_nodes(read, &nodes[1].hash, 0, 0, got), CAP_E_NOT_FOUND);
    cap_store_read_end(read);
    free(roots);
    free(nodes);
    free(got);
}

/* --- Prefixes --------------------------------------------------------------------------------- */

static void test_find_prefix(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seeds[] = {1, 2, 3};
    struct cap_put puts[] = {fake_data(&seeds[0], 1), fake_data(&seeds[1], 1),
                             fake_data(&seeds[2], 1)};
    struct cap_hash prefix = {{0xab, 0xcd}}, found;
    struct cap_read *read;
    size_t count = 9;
    memset(puts[0].hash.bytes, 0xff, CAP_HASH_SIZE);
    memset(puts[1].hash.bytes, 0xab, CAP_HASH_SIZE);
    memset(puts[2].hash.bytes, 0xab, CAP_HASH_SIZE);
    puts[2].hash.bytes[1] = 0xcd;
    assert_cap_ok(put_all(store, puts, 3));
    read = begin_read(store);
    assert_cap_ok(cap_store_find_prefix(read, &prefix, 12, &found, &count));
    assert_int_equal(count, 1);
    assert_hash_equal(&found, &puts[2].hash);
    assert_cap_ok(cap_store_find_prefix(read, &prefix, 8, &found, &count));
    assert_int_equal(count, 2);
    prefix.bytes[0] = 0xf7;
    assert_cap_ok(cap_store_find_prefix(read, &prefix, 4, &found, &count));
    assert_int_equal(count, 1);
    assert_hash_equal(&found, &puts[0].hash);
    assert_cap_ok(cap_store_find_prefix(read, &prefix, 5, &found, &count));
    assert_int_equal(count, 0);
    assert_cap_ok(cap_store_find_prefix(read, &prefix, 0, &found, &count));
    assert_int_equal(count, 2);
    assert_cap_ok(cap_store_find_prefix(read, &puts[1].hash, 256, &found, &count));
    assert_int_equal(count, 1);
    assert_hash_equal(&found, &puts[1].hash);
    assert_cap_error(cap_store_find_prefix(read, &prefix, 257, &found, &count),
                     CAP_E_INVALID_ARGUMENT);
    cap_store_read_end(read);
}

/* --- Listing ---------------------------------------------------------------------------------- */

/* Caps 0 to 59; every third is an Image. */
static void fill_for_list(struct cap_store *store)
{
    struct cap_put puts[60];
    uint64_t seeds[60];
    for (uint64_t i = 0; i < 60; i++) {
        seeds[i] = i;
        puts[i] = i % 3 ? fake_data(&seeds[i], i) : fake_image(&seeds[i], i);
    }
    assert_cap_ok(put_all(store, puts, 60));
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
            if (query.kind) {
                assert_int_equal(items[i].info.kind, query.kind);
            }
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
        if ((a->bytes[i / 8] >> shift & 1) != (b->bytes[i / 8] >> shift & 1)) {
            return false;
        }
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
    bool is_new;
    put.info.has_content_hash = true;
    put.info.content_hash = first;
    assert_cap_ok(put_one(store, &put, NULL));
    put.info.content_hash = second; /* the same Image cap from another wire Image */
    assert_cap_ok(put_one(store, &put, &is_new));
    assert_false(is_new);
    assert_cap_ok(put_one(store, &put, &is_new));
    struct cap_read *read = begin_read(store);
    assert_cap_ok(cap_store_find_content(read, &first, &hash));
    assert_hash_equal(&hash, &put.hash);
    assert_cap_ok(cap_store_find_content(read, &second, &hash));
    assert_hash_equal(&hash, &put.hash);
    assert_cap_ok(cap_store_find(read, &put.hash, &info));
    assert_hash_equal(&info.content_hash, &first);
    cap_store_read_end(read);
}

/* Of the wire Images that one cap is made from, whose number nothing bounds, the first are known.
 */
static void test_content_index_is_bounded(void **state)
{
    struct cap_store *store = store_of(state);
    uint64_t seed = 5;
    struct cap_put put = fake_image(&seed, 30);
    struct cap_hash hash;
    put.info.has_content_hash = true;
    for (uint64_t i = 0; i < CAP_STORE_CONTENTS + 10; i++) {
        put.info.content_hash = fake_hash(500 + i);
        assert_cap_ok(put_one(store, &put, NULL));
    }
    struct cap_read *read = begin_read(store);
    for (uint64_t i = 0; i < CAP_STORE_CONTENTS + 10; i++) {
        struct cap_hash content = fake_hash(500 + i);
        assert_cap_error(cap_store_find_content(read, &content, &hash),
                         i < CAP_STORE_CONTENTS ? CAP_OK : CAP_E_NOT_FOUND);
    }
    cap_store_read_end(read);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_empty),
        BOTH(test_put_and_find),
        BOTH(test_put_again),
        BOTH(test_put_twice_in_one_admission),
        BOTH(test_counts),
        BOTH(test_windows),
        BOTH(test_places),
        BOTH(test_window_out_of_body),
        BOTH(test_page_roots),
        BOTH(test_page_roots_of_code),
        BOTH(test_nodes),
        BOTH(test_find_prefix),
        BOTH(test_list),
        BOTH(test_list_prefix),
        BOTH(test_list_after_outside_of_prefix),
        BOTH(test_refs),
        BOTH(test_content_index),
        BOTH(test_content_index_is_bounded),
        BOTH(test_invalid_queries),
        BOTH(test_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
