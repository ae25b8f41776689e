/* Lines, requests and replies as bytes. */
#include "tests/unit/support.h"

#include <stdio.h>

#include "daemon/admin/jsonrpc.h"

#define EVENTS_SIZE 256

/* --- Lines ------------------------------------------------------------------------------------ */

/* Feeds a text in pieces of `step` bytes and notes each event: the line itself, or "<too long>". */
static void feed(const char *text, size_t len, size_t max, size_t step, char *ret_events)
{
    struct jsonrpc_reader *reader = jsonrpc_reader_new(max);
    ret_events[0] = '\0';
    for (size_t at = 0; at < len; at += step) {
        size_t take = len - at < step ? len - at : step;
        struct cap_bytes input = {(const uint8_t *)text + at, take};
        struct cap_bytes line;
        enum jsonrpc_event event;
        while ((event = jsonrpc_reader_feed(reader, &input, &line)) != JSONRPC_MORE) {
            assert_int_not_equal(event, JSONRPC_NO_MEMORY);
            size_t end = strlen(ret_events);
            if (event == JSONRPC_LINE) {
                snprintf(ret_events + end, EVENTS_SIZE - end, "%.*s|", (int)line.len,
                         (const char *)line.data);
            } else {
                snprintf(ret_events + end, EVENTS_SIZE - end, "<too long>|");
            }
        }
        assert_int_equal(input.len, 0);
    }
    jsonrpc_reader_free(reader);
}

static void every_way_of_cutting_gives_the_same_lines(void **state)
{
    (void)state;
    static const char text[] = "one\n\n  \t\r\ntwo\r\n12345678\n123456789\nthree\nunfinished";
    for (size_t step = 1; step < sizeof(text); step++) {
        char events[EVENTS_SIZE];
        feed(text, sizeof(text) - 1, 8, step, events);
        assert_string_equal(events, "one|two\r|12345678|<too long>|three|<too long>|");
    }
}

static void a_line_that_never_ends_is_told_once(void **state)
{
    (void)state;
    struct jsonrpc_reader *reader = jsonrpc_reader_new(JSONRPC_LINE_MAX);
    uint8_t block[4096];
    memset(block, 'x', sizeof(block));
    unsigned told = 0;
    for (int i = 0; i < 1000; i++) {
        struct cap_bytes input = {block, sizeof(block)};
        struct cap_bytes line;
        enum jsonrpc_event event;
        while ((event = jsonrpc_reader_feed(reader, &input, &line)) != JSONRPC_MORE) {
            assert_int_equal(event, JSONRPC_TOO_LONG);
            told++;
        }
    }
    assert_int_equal(told, 1);
    struct cap_bytes input = {(const uint8_t *)"\nok\n", 4};
    struct cap_bytes line;
    assert_int_equal(jsonrpc_reader_feed(reader, &input, &line), JSONRPC_LINE);
    assert_int_equal(line.len, 2);
    assert_memory_equal(line.data, "ok", 2);
    jsonrpc_reader_free(reader);
    jsonrpc_reader_free(NULL);
}

static void the_bound_is_exact(void **state)
{
    (void)state;
    for (size_t over = 0; over <= 1; over++) {
        struct jsonrpc_reader *reader = jsonrpc_reader_new(JSONRPC_LINE_MAX);
        size_t len = JSONRPC_LINE_MAX + over;
        uint8_t *text = malloc(len + 1);
        memset(text, 'x', len);
        text[len] = '\n';
        struct cap_bytes input = {text, len + 1};
        struct cap_bytes line;
        assert_int_equal(jsonrpc_reader_feed(reader, &input, &line),
                         over ? JSONRPC_TOO_LONG : JSONRPC_LINE);
        assert_int_equal(input.len, 0);
        free(text);
        jsonrpc_reader_free(reader);
    }
}

/* --- Requests --------------------------------------------------------------------------------- */

/* Parses and returns the reason, "ok" if it is right; the id as JSON in ret_id, "none" without. */
static const char *parse(const char *text, char *ret_id, size_t size)
{
    struct jsonrpc_request request;
    struct admin_error error = {0};
    bool ok = jsonrpc_request_parse((struct cap_bytes){(const uint8_t *)text, strlen(text)},
                                    &request, &error);
    char *id = request.id != NULL ? json_dumps(request.id, JSON_ENCODE_ANY) : NULL;
    snprintf(ret_id, size, "%s", id != NULL ? id : "none");
    free(id);
    if (ok) {
        assert_non_null(request.method);
    }
    jsonrpc_request_free(&request);
    return ok ? "ok" : error.reason;
}

static void requests_are_judged(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *reason;
        const char *id;
    } rows[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}", "ok", "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"x\",\"params\":{}}\r", "ok", "\"a\""},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"x\"}", "ok", "null"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"x\"}", "ok", "none"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"more\":[]}", "ok", "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":[]}", "params_not_by_name",
         "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":7}", "params_not_by_name", "1"},
        {"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"x\"}", "invalid_request", "1"},
        {"{\"id\":1,\"method\":\"x\"}", "invalid_request", "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1}", "invalid_request", "1"},
        {"{\"jsonrpc\":\"2.0\"}", "invalid_request", "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", "invalid_request", "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"x\"}", "invalid_request", "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"x\"}", "invalid_request", "null"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}]", "batch", "null"},
        {"[]", "batch", "null"},
        {"7", "parse_error", "null"},
        {"{\"jsonrpc\":", "parse_error", "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"} {}", "parse_error", "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"x\"}", "duplicate_key", "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"a\":1,\"a\":1}}",
         "duplicate_key", "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", "parse_error", "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\\u0000b\"}", "parse_error", "null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":99999999999999999999,\"method\":\"x\"}", "parse_error",
         "null"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char id[64];
        assert_string_equal(parse(rows[i].line, id, sizeof(id)), rows[i].reason);
        assert_string_equal(id, rows[i].id);
    }
}

static void an_invalid_request_is_told_why(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *message;
    } rows[] = {
        {"{\"id\":1,\"method\":\"x\"}", "jsonrpc must be \"2.0\""},
        {"\xef\xbb\xbf{}",
         "the line is not one JSON object: wrong at byte 3, an invisible character "
         "or one outside ASCII"},
        {"{x}", "the line is not one JSON object: wrong at byte 2"},
        {"{\"jsonrpc\":\"1.0\",\"method\":\"x\"}", "jsonrpc must be \"2.0\""},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"x\"}",
         "id must be a string, an integer or null"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", "method must be a string"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct jsonrpc_request request;
        struct admin_error error = {0};
        struct cap_bytes line = {(const uint8_t *)rows[i].line, strlen(rows[i].line)};
        assert_false(jsonrpc_request_parse(line, &request, &error));
        assert_string_equal(error.message, rows[i].message);
        jsonrpc_request_free(&request);
    }
}

/* A request whose params nest so that the whole is `depth` deep. */
static const char *nested(unsigned depth, char *ret_line, size_t size)
{
    char open[64] = "";
    char close[64] = "";
    assert_in_range(depth, 2, sizeof(open));
    memset(open, '[', depth - 2);
    memset(close, ']', depth - 2);
    snprintf(ret_line, size,
             "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"a\":%s%s}}",
             depth > 2 ? open : "1", close);
    return ret_line;
}

static void depth_is_judged_before_jansson(void **state)
{
    (void)state;
    char line[256];
    char id[64];
    assert_string_equal(parse(nested(JSONRPC_DEPTH_MAX, line, sizeof(line)), id, sizeof(id)), "ok");
    assert_string_equal(parse(nested(JSONRPC_DEPTH_MAX + 1, line, sizeof(line)), id, sizeof(id)),
                        "too_deep");
    /* Even where jansson would stop earlier for another reason. */
    assert_string_equal(parse("!!!!{{{{{{{{[[[[[[[[{", id, sizeof(id)), "too_deep");
}

static void brackets_in_strings_are_no_depth(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool too_deep;
    } rows[] = {
        {"[[", false},         {"[[[", true},
        {"\"[[[[\"[[", false}, {"\"\\\"[[[[\"[[", false},
        {"\"\\\\\"[[[", true}, {"[][][][]", false},
        {"]]]][[", false},     {"\"[[[", false},
        {"", false},           {"\"\\", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cap_bytes line = {(const uint8_t *)rows[i].line, strlen(rows[i].line)};
        assert_int_equal(jsonrpc_too_deep(line, 2), rows[i].too_deep);
    }
}

/* --- Replies ---------------------------------------------------------------------------------- */

static void replies_are_one_line_each(void **state)
{
    (void)state;
    struct cap_buf out = {0};
    json_t *id = json_string("a\nb");
    json_t *result = json_pack("{s:s}", "text", "x\ny");
    assert_cap_ok(jsonrpc_reply(id, result, NULL, &out));
    struct admin_error error;
    admin_error_cap(&error, CAP_E_NOT_FOUND);
    assert_cap_ok(jsonrpc_reply(NULL, NULL, &error, &out));
    assert_cap_ok(cap_buf_append8(&out, 0));
    assert_string_equal(
        (const char *)out.data,
        "{\"jsonrpc\":\"2.0\",\"id\":\"a\\nb\",\"result\":{\"text\":\"x\\ny\"}}\n"
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":60,\"message\":\"no cap with that "
        "hash "
        "is published here\",\"data\":{\"reason\":\"not_found\",\"retry\":false}}}\n");
    cap_buf_free(&out);
    json_decref(id);
    json_decref(result);
}

/* A result of exactly the bound passes, one byte more is the error reply_too_large. */
static void the_reply_bound_is_exact(void **state)
{
    (void)state;
    size_t envelope = strlen("{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":\"\"}\n");
    for (size_t over = 0; over <= 1; over++) {
        size_t len = JSONRPC_REPLY_MAX - envelope + over;
        char *text = malloc(len);
        memset(text, 'x', len);
        json_t *result = json_stringn(text, len);
        struct cap_buf out = {0};
        assert_cap_ok(cap_buf_append(&out, "before", 6));
        assert_cap_ok(jsonrpc_reply(NULL, result, NULL, &out));
        if (over) {
            assert_true(out.len < 1000);
            assert_cap_ok(cap_buf_append8(&out, 0));
            assert_non_null(strstr((const char *)out.data, "reply_too_large"));
        } else {
            assert_int_equal(out.len, 6 + JSONRPC_REPLY_MAX);
        }
        assert_memory_equal(out.data, "before{\"jsonrpc\"", 16);
        cap_buf_free(&out);
        json_decref(result);
        free(text);
    }
}

static void errors_are_objects_whatever_their_words(void **state)
{
    (void)state;
    struct admin_error error;
    admin_error_param(&error, ADMIN_UNKNOWN_PARAM, "bad\xff", "words \xc3");
    json_t *object = admin_error_json(&error);
    assert_non_null(object);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(object, "data"), "reason")),
        "unknown_param");
    json_decref(object);
    admin_error_cap(&error, CAP_E_READERS_FULL);
    assert_true(error.retry);
    assert_int_equal(error.code, 64);
    admin_error_cap(&error, CAP_E_CORRUPT);
    assert_non_null(strstr(error.hint, "scrub.start with repair=true"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_of_cutting_gives_the_same_lines),
        cmocka_unit_test(a_line_that_never_ends_is_told_once),
        cmocka_unit_test(the_bound_is_exact),
        cmocka_unit_test(requests_are_judged),
        cmocka_unit_test(an_invalid_request_is_told_why),
        cmocka_unit_test(depth_is_judged_before_jansson),
        cmocka_unit_test(brackets_in_strings_are_no_depth),
        cmocka_unit_test(replies_are_one_line_each),
        cmocka_unit_test(the_reply_bound_is_exact),
        cmocka_unit_test(errors_are_objects_whatever_their_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
