#include "lib/store/record.h"

#include "tests/unit/support.h"

static struct store_cap sample(void)
{
    struct store_cap cap = {
        .info = {.kind = CAP_KIND_IMAGE,
                 .body_len = 0x0102030405,
                 .size = 0x605040302,
                 .page_count = 7,
                 .ref_count = 8,
                 .publisher = {9, UINT32_MAX},
                 .published_us = UINT64_C(0x1112131415161718),
                 .has_content_hash = true,
                 .node_counts = {{500, 7, 0, 0, 1}},
                 .kept_until_s = 0x61626364},
        .body = UINT64_C(0x2122232425262728),
    };
    memset(cap.info.content_hash.bytes, 0xab, CAP_HASH_SIZE);
    return cap;
}

static struct cap_bytes encode(const struct store_cap *cap, uint8_t bytes[STORE_CAP_MAX])
{
    return (struct cap_bytes){bytes, store_cap_encode(cap, bytes)};
}

static void test_cap_round_trip(void **state)
{
    struct store_cap cap = sample(), got;
    uint8_t bytes[STORE_CAP_MAX], again[STORE_CAP_MAX];
    (void)state;
    struct cap_bytes record = encode(&cap, bytes);
    assert_cap_ok(store_cap_decode(record, &got));
    assert_int_equal(got.info.kind, CAP_KIND_IMAGE);
    assert_int_equal(got.info.body_len, cap.info.body_len);
    assert_int_equal(got.info.size, cap.info.size);
    assert_int_equal(got.info.page_count, 7);
    assert_int_equal(got.info.ref_count, 8);
    assert_int_equal(got.info.publisher.uid, 9);
    assert_int_equal(got.info.publisher.gid, UINT32_MAX);
    assert_int_equal(got.info.published_us, cap.info.published_us);
    assert_true(got.info.has_content_hash);
    assert_hash_equal(&got.info.content_hash, &cap.info.content_hash);
    assert_memory_equal(&got.info.node_counts, &cap.info.node_counts, sizeof(cap.info.node_counts));
    assert_int_equal(got.info.kept_until_s, 0x61626364);
    assert_int_equal(got.body, cap.body);
    assert_int_equal(encode(&got, again).len, record.len);
    assert_memory_equal(again, bytes, record.len);
}

/* The layout is a promise to stores on disk: a change of it needs a new format version. */
static void test_cap_layout(void **state)
{
    static const uint8_t wanted[] = {
        2,    0,    0,    0,    1,    0x80,    /* kind, zero, flags */
        0xe8, 0x07, 0,                         /* uid 1000, gid 0 */
        0xff, 0x07, 0x80, 0x20,                /* body_len 1023, size 4096 */
        1,    0,                               /* page_count, ref_count */
        0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, /* published_us 1 << 42 */
        0x7f,                                  /* body */
    };
    const struct store_cap small = {
        .info = {.kind = CAP_KIND_DATA,
                 .body_len = 1023,
                 .size = 4096,
                 .page_count = 1,
                 .publisher = {1000, 0},
                 .published_us = UINT64_C(1) << 42},
        .body = 127,
        .ignorable = 0x8001,
    };
    struct store_cap cap = sample();
    uint8_t bytes[STORE_CAP_MAX];
    (void)state;
    assert_int_equal(encode(&small, bytes).len, sizeof(wanted));
    assert_memory_equal(bytes, wanted, sizeof(wanted));
    (void)encode(&cap, bytes);
    assert_int_equal(cap_load16(bytes + 2),
                     STORE_CRITICAL_CONTENT | STORE_CRITICAL_KEPT | STORE_CRITICAL_NODES);
    cap.info.published_us = UINT64_C(1000000) * 0x61626300;
    struct cap_bytes record = encode(&cap, bytes);
    assert_memory_equal(bytes + record.len - CAP_HASH_SIZE - 5, "\x07\0\0\x01\x64", 5);
    assert_memory_equal(bytes + record.len - CAP_HASH_SIZE, cap.info.content_hash.bytes,
                        CAP_HASH_SIZE);
    memset(&cap.info.publisher, 0xff, sizeof(cap.info.publisher));
    memset(&cap.info.body_len, 0xff, sizeof(cap.info.body_len));
    cap.info.size = cap.info.page_count = cap.info.ref_count = UINT64_MAX;
    cap.info.published_us = cap.body = UINT64_MAX;
    cap.info.kept_until_s = (uint32_t)(UINT64_MAX / 1000000 - 1);
    memset(&cap.info.node_counts, 0xff, sizeof(cap.info.node_counts));
    assert_int_equal(encode(&cap, bytes).len, STORE_CAP_MAX);
}

/* A flag that may be ignored is kept; one that may not makes the record useless, and is named. */
static void test_cap_flags(void **state)
{
    struct store_cap cap = sample(), got = {0};
    uint8_t bytes[STORE_CAP_MAX];
    (void)state;
    cap.ignorable = 0x8001;
    struct cap_bytes record = encode(&cap, bytes);
    assert_cap_ok(store_cap_decode(record, &got));
    assert_int_equal(got.ignorable, 0x8001);
    cap_store16(bytes + 2,
                STORE_CRITICAL_CONTENT | STORE_CRITICAL_KEPT | STORE_CRITICAL_NODES | 0x40);
    assert_cap_error(store_cap_decode(record, &got), CAP_E_STORE_VERSION);
    assert_int_equal(got.unknown, 0x40);
}

/* A record that is cut or goes on, and numbers that are longer than they need to be or too large.
 */
static void test_cap_malformed(void **state)
{
    static const char *const uids[] = {
        "\x80\x00",                                 /* zero in two bytes */
        "\xff\xff\xff\xff\x1f",                     /* 33 bits */
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03", /* 65 bits */
        "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    };
    static const size_t lens[] = {2, 5, 10, 11};
    struct store_cap cap = sample(), got;
    uint8_t bytes[2 * STORE_CAP_MAX], bad[2 * STORE_CAP_MAX];
    (void)state;
    memset(bytes, 0, sizeof(bytes));
    struct cap_bytes record = encode(&cap, bytes);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        assert_int_equal(store_cap_decode((struct cap_bytes){bytes, len}, &got),
                         len == record.len ? CAP_OK : CAP_E_CORRUPT);
    }
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        memcpy(bad, bytes, 6);
        memcpy(bad + 6, uids[i], lens[i]);
        memcpy(bad + 6 + lens[i], bytes + 7, record.len - 7);
        assert_cap_error(store_cap_decode((struct cap_bytes){bad, record.len - 1 + lens[i]}, &got),
                         CAP_E_CORRUPT);
    }
}

/* Any damaged bit is found, of the value, of the seal and of the key. */
static void test_seal(void **state)
{
    uint8_t key[20] = "a key", bytes[100 + STORE_SEAL_SIZE];
    struct cap_bytes value;
    (void)state;
    for (size_t i = 0; i < 100; i++) {
        bytes[i] = (uint8_t)(7 * i);
    }
    store_seal(store_seed((struct cap_bytes){key, sizeof(key)}), bytes, 100);
    for (size_t bit = 0; bit <= 8 * sizeof(bytes) + 8 * sizeof(key); bit++) {
        size_t in_key = bit / 8 >= sizeof(bytes) ? bit / 8 - sizeof(bytes) : sizeof(key);
        uint8_t *byte = bit < 8 * sizeof(bytes) ? &bytes[bit / 8] : &key[in_key % sizeof(key)];
        bool sound = in_key == sizeof(key) && bit >= 8 * sizeof(bytes);
        *byte ^= sound ? 0 : (uint8_t)(1u << bit % 8);
        assert_int_equal(store_unseal(store_seed((struct cap_bytes){key, sizeof(key)}),
                                      (struct cap_bytes){bytes, sizeof(bytes)}, &value),
                         sound);
        *byte ^= sound ? 0 : (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(value.len, 100);
    assert_false(store_unseal(1, (struct cap_bytes){bytes, 7}, &value));
}

/* A record that checks but states what cannot be. */
static void test_cap_impossible(void **state)
{
    struct store_cap cap = sample(), got;
    uint8_t bytes[STORE_CAP_MAX];
    (void)state;
    cap.info.body_len = STORE_BODY_MAX + 1;
    assert_cap_error(store_cap_decode(encode(&cap, bytes), &got), CAP_E_CORRUPT);
    cap = sample();
    cap.info.kind = CAP_KIND_DATA;
    cap.info.page_count = STORE_PAGE_MAX + 1;
    assert_cap_error(store_cap_decode(encode(&cap, bytes), &got), CAP_E_CORRUPT);
    cap = sample();
    cap.info.node_counts.of[4] = UINT32_MAX;
    assert_cap_error(store_cap_decode(encode(&cap, bytes), &got), CAP_E_CORRUPT);
    cap = sample();
    cap.info.kind = (enum cap_kind)3;
    assert_cap_error(store_cap_decode(encode(&cap, bytes), &got), CAP_E_CORRUPT);
}

static void test_state(void **state)
{
    struct store_state wanted = {
        .next_body = 77, .clock_s = 88, .counts = {{1, 2, 3}, {4, 5, 6}, 7}};
    struct store_state got;
    uint8_t bytes[STORE_STATE_SIZE];
    (void)state;
    store_state_encode(&wanted, bytes);
    assert_cap_ok(store_state_decode((struct cap_bytes){bytes, sizeof(bytes)}, &got));
    assert_int_equal(got.next_body, 77);
    assert_int_equal(got.clock_s, 88);
    assert_memory_equal(&got.counts, &wanted.counts, sizeof(got.counts));
    assert_cap_error(store_state_decode((struct cap_bytes){bytes, 71}, &got), CAP_E_CORRUPT);
}

static void test_format(void **state)
{
    const uint8_t id[CAP_STORE_ID_SIZE] = "0123456789abcdef";
    const struct cap_bytes key = {(const uint8_t *)"format", 6};
    uint8_t bytes[STORE_FORMAT_SIZE + STORE_SEAL_SIZE], got[CAP_STORE_ID_SIZE];
    (void)state;
    store_format_encode(id, bytes);
    store_seal(store_seed(key), bytes, STORE_FORMAT_SIZE);
    assert_cap_ok(store_format_decode(key, (struct cap_bytes){bytes, sizeof(bytes)}, got));
    assert_memory_equal(got, id, sizeof(id));
    assert_cap_error(store_format_decode(key, (struct cap_bytes){bytes, 3}, got), CAP_E_CORRUPT);
    assert_cap_error(store_format_decode(key, (struct cap_bytes){bytes, 23}, got), CAP_E_CORRUPT);
    bytes[10] ^= 1;
    assert_cap_error(store_format_decode(key, (struct cap_bytes){bytes, sizeof(bytes)}, got),
                     CAP_E_CORRUPT);
    bytes[0] = 1; /* of another version only the version is known */
    assert_cap_error(store_format_decode(key, (struct cap_bytes){bytes, sizeof(bytes)}, got),
                     CAP_E_STORE_VERSION);
    assert_cap_error(store_format_decode(key, (struct cap_bytes){bytes, 4}, got),
                     CAP_E_STORE_VERSION);
}

static void test_root_and_owner(void **state)
{
    const struct cap_root root = {.hash = {{1, 2, 3}}, .set_us = 0x0102030405060708, .uid = 1000};
    const struct cap_usage usage = {3, 4};
    struct cap_root got = {.name = "kept"};
    struct cap_usage got_usage;
    uint8_t bytes[STORE_ROOT_SIZE];
    (void)state;
    store_root_encode(&root, bytes);
    assert_cap_ok(store_root_decode((struct cap_bytes){bytes, sizeof(bytes)}, &got));
    assert_hash_equal(&got.hash, &root.hash);
    assert_int_equal(got.set_us, root.set_us);
    assert_int_equal(got.uid, 1000);
    assert_string_equal(got.name, "kept");
    assert_cap_error(store_root_decode((struct cap_bytes){bytes, 43}, &got), CAP_E_CORRUPT);
    store_owner_encode(&usage, bytes);
    assert_cap_ok(store_owner_decode((struct cap_bytes){bytes, STORE_OWNER_SIZE}, &got_usage));
    assert_memory_equal(&got_usage, &usage, sizeof(usage));
    assert_cap_error(store_owner_decode((struct cap_bytes){bytes, 15}, &got_usage), CAP_E_CORRUPT);
}

/* Entries sort by time, then in the order in which they were written. */
static void test_due_keys_sort(void **state)
{
    static const uint32_t times[] = {0, 255, 256, UINT32_MAX};
    uint8_t before[STORE_DUE_KEY], key[STORE_DUE_KEY];
    uint32_t time_s;
    uint64_t sequence;
    (void)state;
    for (size_t i = 0; i < 12; i++) {
        store_due_key(times[i / 3], i % 3 * 255, key);
        assert_true(i == 0 || memcmp(before, key, sizeof(key)) < 0);
        memcpy(before, key, sizeof(key));
        store_due_key_load(key, &time_s, &sequence);
        assert_int_equal(time_s, times[i / 3]);
        assert_int_equal(sequence, i % 3 * 255);
    }
    store_owner_key(0x01020304, key);
    assert_int_equal(store_owner_key_load(key), 0x01020304);
}

/* Chunks of one stream, then streams, then bodies sort in the order of their numbers. */
static void test_keys_sort(void **state)
{
    uint8_t before[STORE_CHUNK_KEY] = {0}, key[STORE_CHUNK_KEY];
    static const uint64_t bodies[] = {1, 255, 256, UINT64_C(1) << 40};
    static const uint32_t chunks[] = {0, 1, 255, 256, 65536};
    (void)state;
    for (size_t b = 0; b < 4; b++) {
        assert_true(b == 0 || store_body_key_load(before) == bodies[b - 1]);
        for (size_t c = 0; c < 10; c++) {
            store_chunk_key(bodies[b], c < 5 ? STORE_STREAM_BODY : STORE_STREAM_ROOTS,
                            chunks[c % 5], key);
            assert_true(memcmp(before, key, sizeof(key)) < 0);
            memcpy(before, key, sizeof(key));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap_round_trip), cmocka_unit_test(test_cap_layout),
        cmocka_unit_test(test_cap_flags),      cmocka_unit_test(test_cap_malformed),
        cmocka_unit_test(test_seal),           cmocka_unit_test(test_cap_impossible),
        cmocka_unit_test(test_state),          cmocka_unit_test(test_format),
        cmocka_unit_test(test_keys_sort),      cmocka_unit_test(test_root_and_owner),
        cmocka_unit_test(test_due_keys_sort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
