#include "tests/unit/support.h"

#include "lib/cap/data_cap.h"
#include "lib/cap/window_memo.h"

static struct cap_window numbered(uint32_t number)
{
    struct cap_window window = {.used = number};
    cap_store32(window.root.bytes, number);
    return window;
}

static void test_remembers(void **state)
{
    (void)state;
    struct cap_window_memo *memo;
    struct cap_window window = numbered(7);
    struct cap_window got;
    assert_cap_ok(cap_window_memo_new(1, &memo));
    assert_false(cap_window_memo_find(memo, 0, 1, &got));
    cap_window_memo_keep(memo, 0, 1, &window);
    assert_true(cap_window_memo_find(memo, 0, 1, &got));
    assert_int_equal(got.used, 7);
    assert_hash_equal(&got.root, &window.root);
    assert_false(cap_window_memo_find(memo, 0, 2, &got));
    assert_false(cap_window_memo_find(memo, 1, 1, &got));
    cap_window_memo_free(memo);
    cap_window_memo_free(NULL);
}

/* More windows than there is room for: some are forgotten, none is taken for another. */
static void test_forgets_rather_than_grow(void **state)
{
    (void)state;
    struct cap_window_memo *memo;
    struct cap_window got;
    size_t found = 0;
    assert_cap_ok(cap_window_memo_new(64, &memo));
    for (uint32_t i = 1; i <= 1000; i++) {
        struct cap_window window = numbered(i);
        cap_window_memo_keep(memo, i, i, &window);
        assert_true(cap_window_memo_find(memo, i, i, &got));
    }
    for (uint32_t i = 1; i <= 1000; i++) {
        if (cap_window_memo_find(memo, i, i, &got)) {
            found++;
            assert_int_equal(got.used, i);
        }
    }
    assert_true(found >= 1 && found <= 64);
    cap_window_memo_free(memo);
}

/* 100,000 windows that are named 13 times in turn: nearly all of them are remembered. */
static void test_many_windows(void **state)
{
    (void)state;
    struct cap_window_memo *memo;
    struct cap_window got;
    size_t found = 0;
    assert_cap_ok(cap_window_memo_new(1300000, &memo));
    for (uint32_t i = 0; i < 100000; i++) {
        struct cap_window window = numbered(i);
        cap_window_memo_keep(memo, i * 40, 4096, &window);
    }
    for (uint32_t i = 0; i < 100000; i++) {
        found += cap_window_memo_find(memo, i * 40, 4096, &got) ? 1 : 0;
    }
    assert_true(found >= 99000);
    cap_window_memo_free(memo);
}

static void test_size(void **state)
{
    (void)state;
    assert_true(cap_window_memo_size(0) >= sizeof(struct cap_window));
    for (uint64_t refs = 4; refs < 1000; refs++) {
        assert_true(cap_window_memo_size(refs) <= 16 + 48 * refs);
    }
    assert_true(cap_window_memo_size(131072) <= 3u << 20);
    for (uint64_t refs = 131072; refs < UINT64_MAX / 8; refs *= 2) {
        assert_true(cap_window_memo_size(refs) <= 16 + 24 * refs);
    }
    assert_true(cap_window_memo_size(UINT64_MAX) <= 369u << 20);
}

/* --- Where it is used ------------------------------------------------------------------------- */

/* A source that counts its reads. */
struct stream {
    struct cap_bytes bytes;
    unsigned reads;
};

static enum cap_error stream_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct stream *stream = ctx;
    stream->reads++;
    assert_true(offset <= stream->bytes.len && len <= stream->bytes.len - offset);
    memcpy(dst, stream->bytes.data + offset, len);
    return CAP_OK;
}

#define MANY 2000u

/* Page references of MANY pages to two windows in turn, encoded: one has content, one is zero. */
static struct cap_buf refs_to_two_windows(void)
{
    struct cap_buf refs = {0};
    for (uint32_t i = 0; i < MANY; i++) {
        assert_cap_ok(cap_buf_append32(&refs, i));
        assert_cap_ok(cap_buf_append32(&refs, i % 2 == 0 ? 0 : 4096));
        assert_cap_ok(cap_buf_append32(&refs, 4096));
    }
    return refs;
}

/* However often a window is named, it is read once, and what is not read cannot be hashed. */
static void test_windows_are_read_once(void **state)
{
    (void)state;
    uint8_t arena[2 * 4096] = {[5] = 1, [4095] = 2};
    struct stream stream = {.bytes = {arena, sizeof(arena)}};
    struct cap_source source = {.read = stream_read, .ctx = &stream};
    struct cap_buf refs = refs_to_two_windows();
    struct cap_data_desc desc = {.size = MANY * CAP_PAGE_SIZE, cap_buf_bytes(&refs), MANY};
    struct cap_data data;
    assert_cap_ok(cap_data_from_desc(&desc, &source, UINT64_MAX, NULL, &data));
    assert_int_equal(stream.reads, 2);
    assert_int_equal(data.page_count, MANY / 2);

    /* So does a check of the body: its front, its references, one window. */
    struct cap_buf body = {0};
    assert_cap_ok(cap_buf_append_zeros(&body, (size_t)data.body.len));
    assert_cap_ok(cap_body_read(&data.body, &source, 0, body.data, body.len));
    struct stream served = {.bytes = cap_buf_bytes(&body)};
    struct cap_source body_source = {.read = stream_read, .ctx = &served};
    struct cap_data again;
    assert_cap_ok(cap_data_from_body(&body_source, body.len, &again));
    assert_hash_equal(&again.hash, &data.hash);
    assert_int_equal(served.reads, 1 + (MANY / 2 + 255) / 256 + 1);
    cap_data_free(&again);
    cap_data_free(&data);
    cap_buf_free(&body);
    cap_buf_free(&refs);
}

/* Slots of one Image share what they have read. */
static void test_slots_share_a_memo(void **state)
{
    (void)state;
    uint8_t arena[2 * 4096] = {[5] = 1, [4095] = 2};
    struct stream stream = {.bytes = {arena, sizeof(arena)}};
    struct cap_source source = {.read = stream_read, .ctx = &stream};
    struct cap_buf refs = refs_to_two_windows();
    struct cap_data_desc desc = {.size = MANY * CAP_PAGE_SIZE, cap_buf_bytes(&refs), MANY};
    struct cap_window_memo *memo;
    struct cap_data data;
    assert_cap_ok(cap_window_memo_new(MANY, &memo));
    for (size_t i = 0; i < 100; i++) {
        desc.size += CAP_PAGE_SIZE;
        assert_cap_ok(cap_data_from_desc(&desc, &source, UINT64_MAX, memo, &data));
        cap_data_free(&data);
    }
    assert_int_equal(stream.reads, 2);
    cap_window_memo_free(memo);
    cap_buf_free(&refs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remembers),
        cmocka_unit_test(test_forgets_rather_than_grow),
        cmocka_unit_test(test_many_windows),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_windows_are_read_once),
        cmocka_unit_test(test_slots_share_a_memo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
