#include "tests/unit/support.h"

#include "lib/cap/ssz_writer.h"

static void test_writes(void **state)
{
    (void)state;
    static const uint8_t wanted[] = {9, 8, 7, 6,    5,    4,   3,   2,  14,
                                     0, 0, 0, 0xab, 0x01, 'k', 'e', 'y'};
    struct cap_writer out = {0};
    cap_writer_u64(&out, UINT64_C(0x0203040506070809));
    cap_writer_zeros(&out, 4);
    cap_writer_u8(&out, 0xab);
    cap_writer_u8(&out, 0x01);
    cap_writer_begin(&out, 0, 8);
    cap_writer_bytes(&out, (struct cap_bytes){(const uint8_t *)"key", 3});
    cap_writer_bytes(&out, (struct cap_bytes){NULL, 0});
    assert_cap_ok(out.error);
    assert_int_equal(out.buf.len, sizeof(wanted));
    assert_memory_equal(out.buf.data, wanted, sizeof(wanted));
    cap_buf_free(&out.buf);
}

/* Offsets count from the base of their own container, not from the buffer's start. */
static void test_relative(void **state)
{
    (void)state;
    struct cap_writer out = {0};
    cap_writer_u32(&out, 1);
    size_t base = out.buf.len;
    cap_writer_zeros(&out, 4);
    cap_writer_begin(&out, base, base);
    assert_int_equal(cap_load32(out.buf.data + base), 4);
    cap_buf_free(&out.buf);
}

static void test_offset_past_32_bits(void **state)
{
    (void)state;
#if SIZE_MAX > UINT32_MAX
    uint8_t bytes[4] = {0};
    struct cap_writer out = {{bytes, (size_t)UINT32_MAX + 1, (size_t)UINT32_MAX + 1}, CAP_OK};
    cap_writer_begin(&out, 1, 0);
    assert_cap_ok(out.error);
    assert_int_equal(cap_load32(bytes), UINT32_MAX);
    cap_writer_begin(&out, 0, 0);
    assert_cap_error(out.error, CAP_E_BODY_TOO_LARGE);
    assert_int_equal(cap_load32(bytes), UINT32_MAX);
#else
    skip();
#endif
}

static void test_error_sticks(void **state)
{
    (void)state;
    struct cap_writer out = {.error = CAP_E_BODY_TOO_LARGE};
    cap_writer_u8(&out, 1);
    cap_writer_u32(&out, 1);
    cap_writer_u64(&out, 1);
    cap_writer_zeros(&out, 1);
    cap_writer_bytes(&out, (struct cap_bytes){(const uint8_t *)"x", 1});
    cap_writer_begin(&out, 0, 0);
    assert_int_equal(out.buf.len, 0);
    assert_cap_error(out.error, CAP_E_BODY_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_relative),
        cmocka_unit_test(test_offset_past_32_bits),
        cmocka_unit_test(test_error_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
