#include "lib/cap/ssz.h"
#include "lib/cap/ssz_writer.h"
#include "tests/unit/support.h"

/* Container{u16, List[byte], u8, List[byte]}: a fixed part of 11 bytes. */
static const size_t mixed[] = {2, CAP_SSZ_VARIABLE, 1, CAP_SSZ_VARIABLE};
static const size_t fixed_only[] = {2, 1};

#define MIXED_FIXED 11u

static void put_mixed(uint8_t *bytes, uint32_t first, uint32_t second)
{
    memset(bytes, 0xaa, MIXED_FIXED);
    cap_store32(bytes + 2, first);
    cap_store32(bytes + 7, second);
}

static enum cap_error split(const uint8_t *bytes, size_t len, uint64_t total,
                            struct cap_bytes ret_fields[4])
{
    return cap_ssz_container((struct cap_bytes){bytes, len}, total, mixed, 4, ret_fields);
}

static void a_container_is_split(void **state)
{
    uint8_t bytes[20] = {0};
    struct cap_bytes fields[4];
    (void)state;
    put_mixed(bytes, 11, 14);
    assert_cap_ok(split(bytes, 20, 20, fields));
    assert_ptr_equal(fields[0].data, bytes);
    assert_int_equal(fields[0].len, 2);
    assert_ptr_equal(fields[1].data, bytes + 11);
    assert_int_equal(fields[1].len, 3);
    assert_ptr_equal(fields[2].data, bytes + 6);
    assert_int_equal(fields[2].len, 1);
    assert_ptr_equal(fields[3].data, bytes + 14);
    assert_int_equal(fields[3].len, 6);

    put_mixed(bytes, 11, 20); /* at the end: empty */
    assert_cap_ok(split(bytes, 20, 20, fields));
    assert_int_equal(fields[1].len, 9);
    assert_int_equal(fields[3].len, 0);
    put_mixed(bytes, 11, 11);
    assert_cap_ok(split(bytes, 11, 11, fields));
    assert_int_equal(fields[1].len, 0);
    assert_int_equal(fields[3].len, 0);
}

static void a_container_refuses_wrong_offsets(void **state)
{
    static const uint32_t first[] = {0, 1, 7, 10, 12, 15, 20, 21, UINT32_C(1) << 31, UINT32_MAX};
    static const uint32_t second[] = {0, 10, 21, 22, UINT32_C(1) << 31, UINT32_MAX};
    uint8_t bytes[20] = {0};
    struct cap_bytes fields[4] = {{NULL, 77}};
    (void)state;
    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
        put_mixed(bytes, first[i], 20);
        assert_cap_error(split(bytes, 20, 20, fields), CAP_E_SSZ);
    }
    for (size_t i = 0; i < sizeof(second) / sizeof(second[0]); i++) {
        put_mixed(bytes, 11, second[i]);
        assert_cap_error(split(bytes, 20, 20, fields), CAP_E_SSZ);
    }
    assert_int_equal(fields[0].len, 77);
}

static void a_container_needs_its_fixed_part(void **state)
{
    uint8_t bytes[MIXED_FIXED];
    struct cap_bytes fields[4];
    (void)state;
    put_mixed(bytes, 11, 11);
    for (size_t len = 0; len < MIXED_FIXED; len++) {
        assert_cap_error(split(bytes, len, len, fields), CAP_E_SSZ);
        assert_cap_error(split(bytes, len, 100, fields), CAP_E_SSZ);
    }
    assert_cap_error(split(NULL, 0, 0, fields), CAP_E_SSZ);
}

/* Only the front is there; the last field goes on to `total`. */
static void a_container_by_its_front(void **state)
{
    uint8_t bytes[16] = {0};
    struct cap_bytes fields[4];
    (void)state;
    put_mixed(bytes, 11, 14);
    assert_cap_ok(split(bytes, 14, UINT64_MAX, fields));
    assert_int_equal(fields[1].len, 3);
    assert_int_equal(fields[3].len, 0);
    assert_cap_ok(split(bytes, 16, UINT64_C(1) << 40, fields));
    assert_int_equal(fields[3].len, 2);
    assert_cap_error(split(bytes, 13, 14, fields), CAP_E_SSZ); /* field 1 is not all there */
    assert_cap_error(split(bytes, 16, 15, fields), CAP_E_SSZ); /* more than the whole */
}

static void a_fixed_container_has_nothing_over(void **state)
{
    static const uint8_t bytes[5];
    struct cap_bytes fields[2];
    (void)state;
    for (size_t len = 0; len <= 5; len++) {
        assert_cap_error(
            cap_ssz_container((struct cap_bytes){bytes, len}, len, fixed_only, 2, fields),
            len == 3 ? CAP_OK : CAP_E_SSZ);
    }
    assert_cap_error(cap_ssz_container((struct cap_bytes){bytes, 3}, 4, fixed_only, 2, fields),
                     CAP_E_SSZ);
}

static enum cap_error list_of(const uint8_t *bytes, size_t len, struct cap_ssz_list *ret_list)
{
    return cap_ssz_list((struct cap_bytes){bytes, len}, ret_list);
}

static void a_list_is_indexed(void **state)
{
    uint8_t bytes[17] = {0};
    struct cap_ssz_list list;
    (void)state;
    assert_cap_ok(list_of(NULL, 0, &list));
    assert_int_equal(list.count, 0);
    cap_store32(bytes, 12);
    cap_store32(bytes + 4, 14);
    cap_store32(bytes + 8, 14);
    assert_cap_ok(list_of(bytes, 17, &list));
    assert_int_equal(list.count, 3);
    assert_ptr_equal(cap_ssz_list_at(&list, 0).data, bytes + 12);
    assert_int_equal(cap_ssz_list_at(&list, 0).len, 2);
    assert_int_equal(cap_ssz_list_at(&list, 1).len, 0);
    assert_ptr_equal(cap_ssz_list_at(&list, 2).data, bytes + 14);
    assert_int_equal(cap_ssz_list_at(&list, 2).len, 3);
    cap_store32(bytes, 4); /* one element: the rest */
    assert_cap_ok(list_of(bytes, 4, &list));
    assert_int_equal(list.count, 1);
    assert_int_equal(cap_ssz_list_at(&list, 0).len, 0);
}

static void a_list_refuses_wrong_first_offsets(void **state)
{
    static const uint32_t wrong[] = {
        0, 1, 2, 3, 5, 6, 7, 16, 20, 21, UINT32_C(1) << 31, UINT32_MAX - 3, UINT32_MAX};
    uint8_t bytes[13] = {0};
    struct cap_ssz_list list = {{NULL, 0}, 77};
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        cap_store32(bytes, wrong[i]);
        assert_cap_error(list_of(bytes, sizeof(bytes), &list), CAP_E_SSZ);
    }
    for (size_t len = 1; len < 4; len++) {
        cap_store32(bytes, 4);
        assert_cap_error(list_of(bytes, len, &list), CAP_E_SSZ);
    }
    assert_int_equal(list.count, 77);
}

static void a_list_refuses_wrong_later_offsets(void **state)
{
    static const uint32_t wrong[] = {0, 4, 7, 14, 15, UINT32_C(1) << 31, UINT32_MAX};
    uint8_t bytes[13] = {0};
    struct cap_ssz_list list;
    (void)state;
    cap_store32(bytes, 8);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        cap_store32(bytes + 4, wrong[i]);
        assert_cap_error(list_of(bytes, sizeof(bytes), &list), CAP_E_SSZ);
    }
    for (uint32_t good = 8; good <= 13; good++) {
        cap_store32(bytes + 4, good);
        assert_cap_ok(list_of(bytes, sizeof(bytes), &list));
    }
    cap_store32(bytes, 12); /* three elements, of which the middle one starts after the last */
    cap_store32(bytes + 4, 13);
    cap_store32(bytes + 8, 12);
    assert_cap_error(list_of(bytes, sizeof(bytes), &list), CAP_E_SSZ);
}

static void fixed_lists_are_whole(void **state)
{
    static const uint8_t bytes[40];
    (void)state;
    for (size_t len = 0; len <= 40; len++) {
        size_t count = 77;
        assert_cap_error(cap_ssz_fixed_list((struct cap_bytes){bytes, len}, 9, &count),
                         len % 9 == 0 ? CAP_OK : CAP_E_SSZ);
        assert_int_equal(count, len % 9 == 0 ? len / 9 : 77);
    }
}

/* The function looks at the length only, so a claimed one will do. */
static void fixed_lists_keep_the_limit(void **state)
{
    (void)state;
#if SIZE_MAX > UINT32_MAX
    static const uint8_t byte;
    size_t count = 0;

    assert_cap_ok(
        cap_ssz_fixed_list((struct cap_bytes){&byte, 12 * ((size_t)1 << 32)}, 12, &count));
    assert_true(count == (size_t)1 << 32);
    assert_cap_error(
        cap_ssz_fixed_list((struct cap_bytes){&byte, 12 * (((size_t)1 << 32) + 1)}, 12, &count),
        CAP_E_SSZ);
#else
    skip();
#endif
}

static void unions(void **state)
{
    static const uint8_t wrong[] = {2, 127, 128, 255};
    uint8_t bytes[3] = {1, 5, 6};
    struct cap_bytes value;
    uint8_t selector = 77;
    (void)state;
    assert_cap_error(cap_ssz_union((struct cap_bytes){NULL, 0}, 1, &selector, &value), CAP_E_SSZ);
    for (size_t i = 0; i < sizeof(wrong); i++) {
        bytes[0] = wrong[i];
        assert_cap_error(cap_ssz_union((struct cap_bytes){bytes, 3}, 1, &selector, &value),
                         CAP_E_SSZ);
    }
    assert_int_equal(selector, 77);
    bytes[0] = 1;
    assert_cap_ok(cap_ssz_union((struct cap_bytes){bytes, 3}, 1, &selector, &value));
    assert_int_equal(selector, 1);
    assert_ptr_equal(value.data, bytes + 1);
    assert_int_equal(value.len, 2);
    bytes[0] = 0;
    assert_cap_ok(cap_ssz_union((struct cap_bytes){bytes, 1}, 1, &selector, &value));
    assert_int_equal(selector, 0);
    assert_int_equal(value.len, 0);
}

static void what_is_written_splits_again(void **state)
{
    struct cap_writer out = {0};
    struct cap_bytes fields[4];
    (void)state;
    cap_writer_bytes(&out, (struct cap_bytes){(const uint8_t *)"before", 6});
    size_t base = out.buf.len;
    cap_writer_u8(&out, 7);
    cap_writer_u8(&out, 0);
    cap_writer_u32(&out, 0);
    cap_writer_u8(&out, 8);
    cap_writer_u32(&out, 0);
    cap_writer_begin(&out, base, base + 2);
    cap_writer_bytes(&out, (struct cap_bytes){(const uint8_t *)"abc", 3});
    cap_writer_begin(&out, base, base + 7);
    cap_writer_bytes(&out, (struct cap_bytes){(const uint8_t *)"de", 2});
    assert_cap_ok(out.error);
    size_t len = out.buf.len - base;
    assert_cap_ok(split(out.buf.data + base, len, len, fields));
    assert_memory_equal(fields[1].data, "abc", 3);
    assert_int_equal(fields[1].len, 3);
    assert_memory_equal(fields[3].data, "de", 2);
    assert_int_equal(fields[3].len, 2);
    cap_buf_free(&out.buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_container_is_split),
        cmocka_unit_test(a_container_refuses_wrong_offsets),
        cmocka_unit_test(a_container_needs_its_fixed_part),
        cmocka_unit_test(a_container_by_its_front),
        cmocka_unit_test(a_fixed_container_has_nothing_over),
        cmocka_unit_test(a_list_is_indexed),
        cmocka_unit_test(a_list_refuses_wrong_first_offsets),
        cmocka_unit_test(a_list_refuses_wrong_later_offsets),
        cmocka_unit_test(fixed_lists_are_whole),
        cmocka_unit_test(fixed_lists_keep_the_limit),
        cmocka_unit_test(unions),
        cmocka_unit_test(what_is_written_splits_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
