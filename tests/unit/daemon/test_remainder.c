/* Remainders of refused requests: bodies that are skipped, details that go out, in either order. */
#include "tests/unit/support.h"

#include "daemon/net/remainder.h"

static void setup(struct output *output, struct remainders *remainders)
{
    output_init(output, NULL);
    *remainders = (struct remainders){.output = output};
}

static struct cap_buf detail_of(const char *text)
{
    struct cap_buf detail = {0};
    assert_cap_ok(cap_buf_append(&detail, text, strlen(text)));
    return detail;
}

/* Ends the stream of the only detail, as the output does. */
static void finish_detail(struct output *output)
{
    struct stream *stream = TAILQ_FIRST(&output->streams);
    output_drop_streams(output, false);
    stream->class->over(stream, CAP_OK);
}

static void expect_empty(const struct remainders *remainders)
{
    assert_int_equal(remainders->count, 0);
    assert_int_equal(remainders->open, 0);
    assert_int_equal(remainders->sending, 0);
    assert_int_equal(remainders->bytes, 0);
}

static void test_nothing_is_left(void **state)
{
    struct output output;
    struct remainders remainders;
    struct cap_buf none = {0};
    (void)state;
    setup(&output, &remainders);
    assert_cap_ok(remainder_add(&remainders, 1, false, &none));
    assert_null(remainder_find(&remainders, 1));
    expect_empty(&remainders);
}

static void test_body_until_end_or_cancel(void **state)
{
    struct output output;
    struct remainders remainders;
    struct cap_buf none = {0};
    (void)state;
    setup(&output, &remainders);
    assert_cap_ok(remainder_add(&remainders, 1, true, &none));
    assert_cap_ok(remainder_add(&remainders, 2, true, &none));
    assert_int_equal(remainders.open, 2);
    assert_true(remainder_body(remainder_find(&remainders, 1), false));
    assert_true(remainder_body(remainder_find(&remainders, 1), true));
    assert_null(remainder_find(&remainders, 1));
    remainder_cancel(remainder_find(&remainders, 2));
    expect_empty(&remainders);
}

static void test_detail_then_body(void **state)
{
    struct output output;
    struct remainders remainders;
    struct cap_buf detail = detail_of("detail");
    (void)state;
    setup(&output, &remainders);
    assert_cap_ok(remainder_add(&remainders, 1, true, &detail));
    assert_null(detail.data);
    assert_int_equal(remainders.sending, 1);
    finish_detail(&output);
    assert_int_equal(remainders.sending, 0);
    assert_true(remainder_body(remainder_find(&remainders, 1), true));
    expect_empty(&remainders);
}

/* The id stays in use while the detail goes out, but no more of the body may come. */
static void test_body_then_detail(void **state)
{
    struct output output;
    struct remainders remainders;
    struct cap_buf detail = detail_of("detail");
    (void)state;
    setup(&output, &remainders);
    assert_cap_ok(remainder_add(&remainders, 1, true, &detail));
    assert_true(remainder_body(remainder_find(&remainders, 1), true));
    assert_false(remainder_body(remainder_find(&remainders, 1), false));
    remainder_cancel(remainder_find(&remainders, 1));
    finish_detail(&output);
    expect_empty(&remainders);
}

static void test_drop(void **state)
{
    struct output output;
    struct remainders remainders;
    struct cap_buf none = {0};
    struct cap_buf detail = detail_of("detail");
    (void)state;
    setup(&output, &remainders);
    assert_cap_ok(remainder_add(&remainders, 1, true, &none));
    assert_cap_ok(remainder_add(&remainders, 2, true, &detail));
    output.current = TAILQ_FIRST(&output.streams);
    remainders_drop(&remainders, true);
    assert_int_equal(remainders.count, 1);
    assert_non_null(remainder_find(&remainders, 2));
    output_drop_streams(&output, false);
    remainders_drop(&remainders, false);
    expect_empty(&remainders);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_left),
        cmocka_unit_test(test_body_until_end_or_cancel),
        cmocka_unit_test(test_detail_then_body),
        cmocka_unit_test(test_body_then_detail),
        cmocka_unit_test(test_drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
