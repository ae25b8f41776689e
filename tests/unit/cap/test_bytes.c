#include "tests/unit/support.h"

#define BYTES(literal) ((struct cap_bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static void integers_are_little_endian(void **state)
{
    uint8_t bytes[9] = {0};
    (void)state;
    cap_store64(bytes + 1, UINT64_C(0x8877665544332211));
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(bytes[i + 1], 0x11 * (i + 1));
    }
    assert_int_equal(cap_load16(bytes + 1), 0x2211);
    assert_int_equal(cap_load32(bytes + 1), 0x44332211);
    assert_true(cap_load64(bytes + 1) == UINT64_C(0x8877665544332211));

    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(cap_load16(bytes), UINT16_MAX);
    assert_int_equal(cap_load32(bytes), UINT32_MAX);
    assert_true(cap_load64(bytes) == UINT64_MAX);
}

/* Every pair of this list, which is in order. */
static void keys_compare_as_unsigned_bytes_prefix_first(void **state)
{
    const struct cap_bytes sorted[] = {
        {NULL, 0},     BYTES("\0"),     BYTES("\0\0"), BYTES("\0\1"), BYTES("\1"),
        BYTES("\x7f"), BYTES("\x7f\0"), BYTES("\x80"), BYTES("\xff"), BYTES("\xff\xff"),
    };
    const size_t count = sizeof(sorted) / sizeof(sorted[0]);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            int order = cap_bytes_compare(sorted[i], sorted[j]);
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
    }
}

static void slices_of_nothing_stay_nothing(void **state)
{
    struct cap_bytes nothing = {NULL, 0};
    (void)state;
    assert_null(cap_bytes_slice(nothing, 0, 0).data);
    assert_int_equal(cap_bytes_slice(BYTES("abc"), 1, 2).data[0], 'b');
}

static void hashes_print_and_parse(void **state)
{
    static const char lower[] = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";
    static const char upper[] =
        "0x00112233445566778899AABBCCDDEEFF0123456789ABCDEF0123456789ABCDEF";
    struct cap_hash hash;
    struct cap_hash again;
    (void)state;
    assert_cap_ok(cap_hash_parse(lower, &hash));
    assert_hash_hex(&hash, lower);
    assert_cap_ok(cap_hash_parse(upper, &again));
    assert_hash_equal(&hash, &again);
    assert_true(cap_hash_equal(&hash, &again));
    again.bytes[31] ^= 1;
    assert_false(cap_hash_equal(&hash, &again));
}

static void wrong_hash_texts_change_nothing(void **state)
{
    static const char *const wrong[] = {
        "",
        "0",
        "0x",
        "x",
        "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcde",   /* 63 digits */
        "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef0", /* 65 */
        "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdeg",
        " 0112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef",
        "0x0x112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef",
        "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef ",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct cap_hash hash = {{42}};
        assert_cap_error(cap_hash_parse(wrong[i], &hash), CAP_E_INVALID_ARGUMENT);
        assert_int_equal(hash.bytes[0], 42);
    }
}

static void hex_of_any_length(void **state)
{
    struct cap_buf buf = {0};
    char text[16];
    (void)state;
    cap_hex_format((struct cap_bytes){NULL, 0}, text);
    assert_string_equal(text, "");
    cap_hex_format(BYTES("\x00\x9f\xff"), text);
    assert_string_equal(text, "009fff");

    assert_cap_ok(cap_hex_parse("", 0, &buf));
    assert_int_equal(buf.len, 0);
    assert_cap_ok(cap_hex_parse("009FfF--", 6, &buf));
    assert_int_equal(buf.len, 3);
    assert_memory_equal(buf.data, "\x00\x9f\xff", 3);
    assert_cap_error(cap_hex_parse("0", 1, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_hex_parse("0g", 2, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_hex_parse("g0", 2, &buf), CAP_E_INVALID_ARGUMENT);
    assert_int_equal(buf.len, 3);
    cap_buf_free(&buf);
}

static void a_buffer_grows_and_keeps_what_it_holds(void **state)
{
    struct cap_buf buf = {0};
    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_cap_ok(cap_buf_append32(&buf, i));
    }
    assert_int_equal(buf.len, 4000);
    assert_true(buf.capacity >= buf.len);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(cap_load32(buf.data + 4 * (size_t)i), i);
    }
    cap_buf_free(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.capacity, 0);
    cap_buf_free(&buf);
    cap_buf_free(NULL);
}

static void each_append_writes_its_bytes(void **state)
{
    static const uint8_t wanted[] = {1, 7, 6, 5, 4, 15, 14, 13, 12, 11, 10, 9, 8, 0, 0, 'x'};
    struct cap_buf buf = {0};
    (void)state;
    assert_cap_ok(cap_buf_append8(&buf, 1));
    assert_cap_ok(cap_buf_append32(&buf, 0x04050607));
    assert_cap_ok(cap_buf_append64(&buf, UINT64_C(0x08090a0b0c0d0e0f)));
    assert_cap_ok(cap_buf_append_zeros(&buf, 2));
    assert_cap_ok(cap_buf_append_zeros(&buf, 0));
    assert_cap_ok(cap_buf_append(&buf, "x", 1));
    assert_cap_ok(cap_buf_append(&buf, NULL, 0));
    assert_int_equal(buf.len, sizeof(wanted));
    assert_memory_equal(buf.data, wanted, sizeof(wanted));
    assert_int_equal(cap_buf_bytes(&buf).len, sizeof(wanted));
    cap_buf_free(&buf);
}

static void impossible_sizes_are_no_memory(void **state)
{
    struct cap_buf buf = {0};
    (void)state;
    assert_cap_error(cap_buf_reserve(&buf, SIZE_MAX), CAP_E_NO_MEMORY);
    assert_cap_ok(cap_buf_append8(&buf, 9));
    struct cap_buf before = buf;
    assert_cap_error(cap_buf_reserve(&buf, SIZE_MAX), CAP_E_NO_MEMORY);
    assert_cap_error(cap_buf_reserve(&buf, SIZE_MAX - 1), CAP_E_NO_MEMORY);
    assert_cap_error(cap_buf_reserve(&buf, PTRDIFF_MAX), CAP_E_NO_MEMORY);
    assert_cap_error(cap_buf_append_zeros(&buf, SIZE_MAX), CAP_E_NO_MEMORY);
    assert_memory_equal(&buf, &before, sizeof(buf));
    assert_int_equal(buf.data[0], 9);
    cap_buf_free(&buf);
}

static void memory_as_a_source(void **state)
{
    struct cap_bytes bytes = BYTES("hello");
    struct cap_source source = cap_source_memory(&bytes);
    const uint8_t *data;
    uint8_t copy[5];
    (void)state;
    assert_ptr_equal(source.memory, bytes.data);
    assert_cap_ok(source.read(source.ctx, 1, copy, 4));
    assert_memory_equal(copy, "ello", 4);
    assert_cap_ok(source.read(source.ctx, 5, copy, 0));
    assert_cap_error(source.read(source.ctx, 2, copy, 4), CAP_E_IO);
    assert_cap_error(source.read(source.ctx, 6, copy, 0), CAP_E_IO);
    assert_cap_error(source.read(source.ctx, UINT64_MAX, copy, 2), CAP_E_IO);
    assert_cap_ok(cap_source_get(&source, 2, 3, copy, &data));
    assert_ptr_equal(data, bytes.data + 2);
}

static enum cap_error counting_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    ++*(int *)ctx;
    if (offset == 13) {
        return CAP_E_CORRUPT;
    }
    memset(dst, (int)offset, len);
    return CAP_OK;
}

static void other_sources_are_read_to_scratch(void **state)
{
    int reads = 0;
    struct cap_source source = {.read = counting_read, .ctx = &reads};
    uint8_t scratch[4];
    const uint8_t *data = NULL;
    (void)state;
    assert_cap_error(cap_source_get(&source, 13, 4, scratch, &data), CAP_E_CORRUPT);
    assert_null(data);
    assert_cap_ok(cap_source_get(&source, 7, 4, scratch, &data));
    assert_ptr_equal(data, scratch);
    assert_memory_equal(data, "\7\7\7\7", 4);
    assert_int_equal(reads, 2);
}

static void an_empty_source(void **state)
{
    struct cap_bytes nothing = {NULL, 0};
    struct cap_source source = cap_source_memory(&nothing);
    const uint8_t *data;
    (void)state;
    assert_cap_ok(cap_source_get(&source, 0, 0, NULL, &data));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_little_endian),
        cmocka_unit_test(keys_compare_as_unsigned_bytes_prefix_first),
        cmocka_unit_test(slices_of_nothing_stay_nothing),
        cmocka_unit_test(hashes_print_and_parse),
        cmocka_unit_test(wrong_hash_texts_change_nothing),
        cmocka_unit_test(hex_of_any_length),
        cmocka_unit_test(a_buffer_grows_and_keeps_what_it_holds),
        cmocka_unit_test(each_append_writes_its_bytes),
        cmocka_unit_test(impossible_sizes_are_no_memory),
        cmocka_unit_test(memory_as_a_source),
        cmocka_unit_test(other_sources_are_read_to_scratch),
        cmocka_unit_test(an_empty_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
