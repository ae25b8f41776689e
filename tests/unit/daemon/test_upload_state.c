/* The table of an upload's states: every legal move, and every other one is illegal. */
#include "tests/unit/support.h"

#include "daemon/publish/upload_state.h"

/* Written out anew, from the picture at the head of upload_state.h. */
static const struct {
    enum upload_state from;
    enum upload_state to;
} legal[] = {
    {UPLOAD_HEAD, UPLOAD_JUDGING},  {UPLOAD_HEAD, UPLOAD_BODY},
    {UPLOAD_HEAD, UPLOAD_OVER},     {UPLOAD_JUDGING, UPLOAD_BODY},
    {UPLOAD_JUDGING, UPLOAD_OVER},  {UPLOAD_BODY, UPLOAD_SETTLING},
    {UPLOAD_BODY, UPLOAD_OVER},     {UPLOAD_SETTLING, UPLOAD_HASHING},
    {UPLOAD_SETTLING, UPLOAD_OVER}, {UPLOAD_HASHING, UPLOAD_WRITING},
    {UPLOAD_HASHING, UPLOAD_OVER},  {UPLOAD_WRITING, UPLOAD_OVER},
};

static bool is_legal(unsigned from, unsigned to)
{
    for (size_t i = 0; i < sizeof(legal) / sizeof(legal[0]); i++) {
        if (legal[i].from == (enum upload_state)from && legal[i].to == (enum upload_state)to) {
            return true;
        }
    }
    return false;
}

static void test_every_move(void **state)
{
    (void)state;
    for (unsigned from = 0; from <= UPLOAD_STATE_COUNT; from++) {
        for (unsigned to = 0; to <= UPLOAD_STATE_COUNT; to++) {
            assert_int_equal(upload_may_move((enum upload_state)from, (enum upload_state)to),
                             is_legal(from, to));
        }
    }
}

/* From every state the end can be reached, and only from the end nothing follows. */
static void test_no_dead_ends(void **state)
{
    (void)state;
    for (unsigned from = 0; from < UPLOAD_STATE_COUNT; from++) {
        assert_int_equal(upload_may_move((enum upload_state)from, UPLOAD_OVER),
                         from != UPLOAD_OVER);
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(upload_state_name(UPLOAD_HEAD), "head");
    assert_string_equal(upload_state_name(UPLOAD_OVER), "over");
    assert_string_equal(upload_state_name(UPLOAD_STATE_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_move),
        cmocka_unit_test(test_no_dead_ends),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
