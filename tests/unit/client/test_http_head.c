/* What is read of an answer's header and of a refusal, and closures made one. */
#include <stdio.h>

#include "client/lib/closure_stream.h"
#include "client/lib/http_head.h"
#include "tests/unit/support.h"

static void take(struct client_http_head *head, const char *line)
{
    client_http_head_take(head, (struct cap_bytes){(const uint8_t *)line, strlen(line)});
}

/* ---- headers ---- */

static void test_ranges(void **state)
{
    struct client_http_head head = {0};
    (void)state;
    take(&head, "HTTP/1.1 206 Partial Content\r\n");
    take(&head, "content-RANGE:  bytes 5-9/100 \r\n");
    assert_true(head.has_range && head.has_total);
    assert_int_equal(head.first, 5);
    assert_int_equal(head.last, 9);
    assert_int_equal(head.total, 100);
    take(&head, "Content-Range: bytes */77\r\n");
    assert_true(!head.has_range && head.has_total);
    assert_int_equal(head.total, 77);
    take(&head, "Content-Range: bytes 0-18446744073709551613/18446744073709551614");
    assert_true(head.has_range);
    assert_int_equal(head.last, UINT64_MAX - 2);
    take(&head, "HTTP/1.1 200 OK\r\n"); /* that was of a redirect */
    assert_true(!head.has_range && !head.has_total);
}

static void test_ranges_that_make_no_sense(void **state)
{
    static const char *const bad[] = {
        "",
        "bytes",
        "bytes ",
        "bytes 1-2",
        "bytes 1-2/",
        "bytes 1-2/*",
        "bytes */*",
        "bytes 2-1/9",
        "bytes 1-9/9",
        "bytes -1-2/9",
        "bytes 1--2/9",
        "bytes 1-2/9x",
        "bytes x",
        "lines 1-2/9",
        "bytes 1-2/99999999999999999999",
        "bytes 1-99999999999999999999/9",
        "bytes */",
        "bytes *",
        "bytes *-1/9",
        "bytes 1/9",
        "bytes 1-/9",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct client_http_head head = {.has_range = true, .has_total = true};
        char line[96];
        snprintf(line, sizeof(line), "Content-Range: %s\r\n", bad[i]);
        take(&head, line);
        if (head.has_range || head.has_total) {
            fail_msg("\"%s\" was taken", bad[i]);
        }
    }
}

static void test_store(void **state)
{
    static const char *const bad[] = {"", "00", "0123456789abcdef0123456789abcdef0",
                                      "0123456789abcdef0123456789abcdeg"};
    struct client_http_head head = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char line[96];
        snprintf(line, sizeof(line), "Capstore-Store: %s\r\n", bad[i]);
        take(&head, line);
        assert_false(head.has_store);
    }
    take(&head, "Capstore-Store:0123456789abcdef0123456789ABCDEF\r\n");
    assert_true(head.has_store);
    assert_int_equal(head.store_id[0], 0x01);
    assert_int_equal(head.store_id[15], 0xef);
}

/* ---- refusals ---- */

static struct client_http_refusal read_refusal(const char *text)
{
    return client_http_refusal_read((struct cap_bytes){(const uint8_t *)text, strlen(text)});
}

static void test_refusals(void **state)
{
    (void)state;
    struct client_http_refusal refusal =
        read_refusal("{\"error\":\"not_found\",\"message\":\"no \\\"such\\\" cap\\nhere\\u00e9\"}");
    assert_cap_error(refusal.error, CAP_E_NOT_FOUND);
    assert_string_equal(refusal.text, "no \"such\" cap here?");
    refusal = read_refusal("{\"error\":\"draining\"}");
    assert_cap_error(refusal.error, CAP_E_DRAINING);
    assert_string_equal(refusal.text, "");
    /* What is cut off is read as far as it goes. */
    refusal = read_refusal("{\"error\":\"draining\",\"message\":\"until \\");
    assert_cap_error(refusal.error, CAP_E_DRAINING);
    refusal = read_refusal("{\"error\":\"draining\",\"message\":\"until \\u00");
    assert_string_equal(refusal.text, "until ?");
}

static void test_what_is_no_refusal(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "<html>",
        "{\"error\":\"",
        "{\"error\":\"not_found",
        "{\"error\":\"\"}",
        "{\"error\":\"ok\"}",
        "{\"error\":\"no such error\"}",
        "{\"error\":\"id_in_use\"}", /* it would end a connection */
        "{\"error\":\"connection_lost\"}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_cap_ok(read_refusal(bad[i]).error);
    }
}

static void test_a_long_message_is_cut(void **state)
{
    char text[4096] = "{\"error\":\"draining\",\"message\":\"";
    (void)state;
    size_t len = strlen(text);
    memset(text + len, 'x', sizeof(text) - len - 1);
    struct client_http_refusal refusal = read_refusal(text);
    assert_int_equal(strlen(refusal.text), CLIENT_REFUSAL_TEXT - 1);
}

/* ---- closures ---- */

static void keep(void *ctx, struct cap_bytes bytes)
{
    assert_cap_ok(cap_buf_append(ctx, bytes.data, bytes.len));
}

static void add_entry(struct cap_buf *buf, uint8_t name, uint64_t body_len, bool body)
{
    uint8_t head[PROTO_ENTRY_SIZE];
    struct proto_entry entry = {.kind = CAP_KIND_DATA, .body_len = body_len};
    memset(entry.hash.bytes, name, sizeof(entry.hash.bytes));
    proto_entry_encode(&entry, head);
    assert_cap_ok(cap_buf_append(buf, head, sizeof(head)));
    for (uint64_t i = 0; body && i < body_len; i++) {
        assert_cap_ok(cap_buf_append8(buf, (uint8_t)(name + i)));
    }
}

/* Gives the stream an answer in pieces. */
static void take_pieces(struct client_closure_stream *stream, const struct cap_buf *answer,
                        size_t piece)
{
    for (size_t at = 0; at < answer->len; at += piece) {
        size_t some = answer->len - at < piece ? answer->len - at : piece;
        assert_cap_ok(
            client_closure_stream_take(stream, cap_bytes_slice(cap_buf_bytes(answer), at, some)));
    }
    assert_true(client_closure_stream_is_whole(stream));
}

/* Two answers, in pieces of every size, with what is in both. */
static void check_two_answers(bool list)
{
    struct cap_buf first = {0};
    struct cap_buf second = {0};
    struct cap_buf wanted = {0};
    add_entry(&first, 1, 50, !list);
    add_entry(&first, 2, 0, !list);
    add_entry(&second, 1, 50, !list);
    add_entry(&second, 3, 7, !list);
    add_entry(&second, 2, 0, !list);
    add_entry(&wanted, 1, 50, !list);
    add_entry(&wanted, 2, 0, !list);
    add_entry(&wanted, 3, 7, !list);
    for (size_t piece = 1; piece < 120; piece++) {
        struct cap_buf got = {0};
        struct client_closure_stream *stream = client_closure_stream_new(list, true, keep, &got);
        take_pieces(stream, &first, piece);
        take_pieces(stream, &second, piece);
        assert_int_equal(got.len, wanted.len);
        assert_memory_equal(got.data, wanted.data, wanted.len);
        client_closure_stream_free(stream);
        cap_buf_free(&got);
    }
    cap_buf_free(&first);
    cap_buf_free(&second);
    cap_buf_free(&wanted);
}

static void test_closures_become_one(void **state)
{
    (void)state;
    check_two_answers(false);
    check_two_answers(true);
}

static void test_closures_of_one_root_pass_as_they_are(void **state)
{
    struct cap_buf bytes = {0};
    struct cap_buf got = {0};
    (void)state;
    add_entry(&bytes, 1, 5, true);
    add_entry(&bytes, 1, 5, true); /* for those who verify to refuse */
    struct client_closure_stream *stream = client_closure_stream_new(false, false, keep, &got);
    assert_cap_ok(client_closure_stream_take(stream, cap_buf_bytes(&bytes)));
    assert_int_equal(got.len, bytes.len);
    assert_memory_equal(got.data, bytes.data, bytes.len);
    assert_cap_ok(client_closure_stream_take(stream, (struct cap_bytes){bytes.data, 40}));
    assert_false(client_closure_stream_is_whole(stream));
    client_closure_stream_free(stream);
    cap_buf_free(&bytes);
    cap_buf_free(&got);
}

static void test_what_is_no_closure(void **state)
{
    uint8_t head[PROTO_ENTRY_SIZE] = {[32] = 9}; /* of no kind */
    struct cap_buf got = {0};
    (void)state;
    struct client_closure_stream *stream = client_closure_stream_new(false, true, keep, &got);
    assert_cap_error(client_closure_stream_take(stream, (struct cap_bytes){head, sizeof(head)}),
                     CAP_E_BAD_REPLY);
    assert_int_equal(got.len, 0);
    client_closure_stream_free(stream);
    client_closure_stream_free(NULL);
}

static void test_an_absent_root_is_said_once(void **state)
{
    struct cap_hash hash = {{7}};
    struct cap_buf got = {0};
    struct proto_entry entry;
    (void)state;
    struct client_closure_stream *stream = client_closure_stream_new(false, true, keep, &got);
    assert_cap_ok(client_closure_stream_absent(stream, &hash));
    assert_cap_ok(client_closure_stream_absent(stream, &hash));
    assert_int_equal(got.len, PROTO_ENTRY_SIZE);
    assert_cap_ok(proto_entry_decode(got.data, &entry));
    assert_int_equal(entry.kind, 0);
    assert_hash_equal(&entry.hash, &hash);
    client_closure_stream_free(stream);
    cap_buf_free(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_ranges_that_make_no_sense),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_what_is_no_refusal),
        cmocka_unit_test(test_a_long_message_is_cut),
        cmocka_unit_test(test_closures_become_one),
        cmocka_unit_test(test_closures_of_one_root_pass_as_they_are),
        cmocka_unit_test(test_what_is_no_closure),
        cmocka_unit_test(test_an_absent_root_is_said_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
