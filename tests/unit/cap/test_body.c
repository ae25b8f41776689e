#include "tests/unit/support.h"

#include "lib/cap/body.h"

static const uint8_t source_bytes[] = "0123456789abcdefghijklmnopqrstuvwxyz";

/* A source that is not memory and counts its reads; at `fail_at` it fails. */
struct counted {
    unsigned reads;
    unsigned fail_at;
};

static enum cap_error counted_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct counted *counted = ctx;
    counted->reads++;
    if (counted->reads == counted->fail_at) {
        return CAP_E_IO;
    }
    assert_true(offset + len <= sizeof(source_bytes) - 1);
    memcpy(dst, source_bytes + offset, len);
    return CAP_OK;
}

static void append(struct cap_body *body, const char *text)
{
    assert_cap_ok(cap_body_append(body, (struct cap_bytes){(const uint8_t *)text, strlen(text)}));
}

/* Every range of the body reads as the same range of `text`, from memory and through reads. */
static void assert_body(const struct cap_body *body, const char *text)
{
    struct cap_bytes bytes = {source_bytes, sizeof(source_bytes) - 1};
    struct cap_source memory = cap_source_memory(&bytes);
    struct counted counted = {0};
    struct cap_source stream = {.read = counted_read, .ctx = &counted};
    size_t len = strlen(text);
    assert_int_equal(body->len, len);
    for (size_t from = 0; from <= len; from++) {
        for (size_t to = from; to <= len; to++) {
            char *read = malloc(to - from + 1);
            assert_non_null(read);
            assert_cap_ok(cap_body_read(body, &memory, from, read, to - from));
            assert_memory_equal(read, text + from, to - from);
            memset(read, 0, to - from);
            assert_cap_ok(cap_body_read(body, &stream, from, read, to - from));
            assert_memory_equal(read, text + from, to - from);
            free(read);
        }
    }
}

static void test_empty(void **state)
{
    (void)state;
    struct cap_body body = {0};
    append(&body, "");
    assert_cap_ok(cap_body_append_source(&body, 7, 0));
    assert_int_equal(body.segment_count, 0);
    assert_body(&body, "");
    cap_body_free(&body);
}

static void test_mixed(void **state)
{
    (void)state;
    struct cap_body body = {0};
    append(&body, "<");
    assert_cap_ok(cap_body_append_source(&body, 10, 3));
    append(&body, "-");
    append(&body, "-");
    assert_cap_ok(cap_body_append_source(&body, 0, 2));
    assert_cap_ok(cap_body_append_source(&body, 0, 2));
    append(&body, ">");
    assert_body(&body, "<abc--0101>");
    cap_body_free(&body);
}

/* Windows that continue one another are one segment, and so are bytes of our own. */
static void test_coalesces(void **state)
{
    (void)state;
    struct cap_body body = {0};
    append(&body, "a");
    append(&body, "b");
    assert_int_equal(body.segment_count, 1);
    for (uint64_t i = 0; i < 10; i++) {
        assert_cap_ok(cap_body_append_source(&body, i, 1));
    }
    assert_int_equal(body.segment_count, 2);
    assert_cap_ok(cap_body_append_source(&body, 11, 1));
    assert_int_equal(body.segment_count, 3);
    append(&body, "c");
    append(&body, "d");
    assert_int_equal(body.segment_count, 4);
    assert_body(&body, "ab0123456789bcd");
    cap_body_free(&body);
}

/* A window at the very offset where the body's own bytes end does not continue them. */
static void test_kinds_stay_apart(void **state)
{
    (void)state;
    struct cap_body body = {0};
    append(&body, "xy");
    assert_cap_ok(cap_body_append_source(&body, 2, 2));
    append(&body, "z");
    assert_int_equal(body.segment_count, 3);
    assert_body(&body, "xy23z");
    cap_body_free(&body);
}

static void test_many_segments(void **state)
{
    (void)state;
    struct cap_body body = {0};
    char text[201] = "";
    for (size_t i = 0; i < 100; i++) {
        assert_cap_ok(cap_body_append_source(&body, i * 7 % 36, 1));
        append(&body, ".");
        text[2 * i] = (char)source_bytes[i * 7 % 36];
        text[2 * i + 1] = '.';
    }
    assert_int_equal(body.segment_count, 200);
    assert_body(&body, text);
    cap_body_free(&body);
}

/* One read for each window that is touched, and the source's error comes through. */
static void test_source_fails(void **state)
{
    (void)state;
    struct cap_body body = {0};
    assert_cap_ok(cap_body_append_source(&body, 0, 4));
    append(&body, "-");
    assert_cap_ok(cap_body_append_source(&body, 20, 4));
    uint8_t read[9];
    struct counted counted = {.fail_at = 2};
    struct cap_source stream = {.read = counted_read, .ctx = &counted};
    assert_cap_error(cap_body_read(&body, &stream, 0, read, sizeof(read)), CAP_E_IO);
    assert_int_equal(counted.reads, 2);
    assert_cap_ok(cap_body_read(&body, &stream, 4, read, 3));
    assert_int_equal(counted.reads, 3);
    assert_cap_ok(cap_body_read(&body, &stream, 4, read, 1));
    assert_int_equal(counted.reads, 3);
    cap_body_free(&body);
}

static void test_far_offsets(void **state)
{
    (void)state;
    struct cap_body body = {0};
    append(&body, "a");
    assert_cap_ok(cap_body_append_source(&body, UINT64_C(1) << 40, UINT64_C(1) << 33));
    append(&body, "b");
    assert_true(body.len == (UINT64_C(1) << 33) + 2);
    uint8_t last;
    struct cap_source none = {0};
    assert_cap_ok(cap_body_read(&body, &none, body.len - 1, &last, 1));
    assert_int_equal(last, 'b');
    cap_body_free(&body);
    assert_int_equal(body.len, 0);
    cap_body_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),         cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_coalesces),     cmocka_unit_test(test_kinds_stay_apart),
        cmocka_unit_test(test_many_segments), cmocka_unit_test(test_source_fails),
        cmocka_unit_test(test_far_offsets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
