/* The driver of uploads: every state with every event, written out anew. */
#include "tests/unit/support.h"

#include "daemon/publish/upload_state.h"

#define FACTS (1u << 5) /* combinations of struct upload_facts */

static struct upload_facts facts_of(unsigned bits)
{
    return (struct upload_facts){
        .failed = (bits & 1) != 0,
        .ended = (bits & 2) != 0,
        .settled = (bits & 4) != 0,
        .dry_run = (bits & 8) != 0,
        .parting = (bits & 16) != 0,
    };
}

/* What must hold: with these facts, from this state, this event leads there and asks for that. */
struct rule {
    enum upload_state from;
    enum upload_event event;
    unsigned mask; /* facts that matter */
    unsigned bits; /* and what they are */
    enum upload_state to;
    enum upload_action action;
};

#define FAILED  1u
#define ENDED   2u
#define SETTLED 4u
#define DRY     8u
#define PARTING 16u

#define ON(from, event, mask, bits, to, action)                                                    \
    {                                                                                              \
        UPLOAD_##from, UPLOAD_EVENT_##event, mask, bits, UPLOAD_##to, UPLOAD_DO_##action           \
    }

static const struct rule rules[] = {
    ON(HEAD, PIECE, 0, 0, HEAD, GATHER),
    ON(HEAD, GATHERED, 0, 0, JUDGING, JUDGE),
    ON(HEAD, TICK, 0, 0, HEAD, MEASURE),
    ON(HEAD, FAILED, 0, 0, OVER, REFUSE),
    ON(HEAD, CANCELLED, 0, 0, OVER, CANCEL),
    ON(HEAD, TAKEN, 0, 0, OVER, YIELD),
    ON(HEAD, DETACHED, 0, 0, OVER, ABANDON),
    ON(JUDGING, PIECE, 0, 0, JUDGING, SPOOL),
    ON(JUDGING, END, 0, 0, JUDGING, NOTHING),
    ON(JUDGING, SPOOLED, 0, 0, JUDGING, NOTHING),
    ON(JUDGING, TICK, 0, 0, JUDGING, NOTHING),
    ON(JUDGING, JUDGED, FAILED, FAILED, OVER, REFUSE),
    ON(JUDGING, JUDGED, FAILED | ENDED, 0, BODY, NOTHING),
    ON(JUDGING, JUDGED, FAILED | ENDED, ENDED, SETTLING, SETTLE),
    ON(JUDGING, FAILED, 0, 0, OVER, REFUSE),
    ON(JUDGING, CANCELLED, 0, 0, OVER, CANCEL),
    ON(JUDGING, TAKEN, 0, 0, OVER, YIELD),
    ON(JUDGING, DETACHED, 0, 0, OVER, ABANDON),
    ON(BODY, PIECE, 0, 0, BODY, SPOOL),
    ON(BODY, END, 0, 0, SETTLING, SETTLE),
    ON(BODY, SPOOLED, 0, 0, BODY, STAGE),
    ON(BODY, TICK, 0, 0, BODY, MEASURE),
    ON(BODY, FAILED, 0, 0, OVER, REFUSE),
    ON(BODY, CANCELLED, 0, 0, OVER, CANCEL),
    ON(BODY, TAKEN, 0, 0, OVER, YIELD),
    ON(BODY, DETACHED, 0, 0, OVER, ABANDON),
    ON(SETTLING, SPOOLED, SETTLED, 0, SETTLING, NOTHING),
    ON(SETTLING, SPOOLED, SETTLED, SETTLED, HASHING, HASH),
    ON(SETTLING, TICK, 0, 0, SETTLING, NOTHING),
    ON(SETTLING, FAILED, 0, 0, OVER, REFUSE),
    ON(SETTLING, CANCELLED, 0, 0, OVER, CANCEL),
    ON(SETTLING, TAKEN, 0, 0, OVER, YIELD),
    ON(SETTLING, DETACHED, 0, 0, OVER, ABANDON),
    ON(HASHING, HASHED, FAILED, FAILED, OVER, REFUSE),
    ON(HASHING, HASHED, FAILED | DRY, DRY, OVER, ANSWER),
    ON(HASHING, HASHED, FAILED | DRY, 0, WRITING, WRITE),
    ON(HASHING, TICK, 0, 0, HASHING, NOTHING),
    ON(HASHING, FAILED, 0, 0, OVER, REFUSE),
    ON(HASHING, CANCELLED, 0, 0, OVER, CANCEL),
    ON(HASHING, TAKEN, 0, 0, OVER, YIELD),
    ON(HASHING, DETACHED, 0, 0, OVER, ABANDON),
    ON(WRITING, WRITTEN, FAILED, FAILED, OVER, REFUSE),
    ON(WRITING, WRITTEN, FAILED, 0, OVER, ANSWER),
    ON(WRITING, TICK, 0, 0, WRITING, NOTHING),
    ON(WRITING, CANCELLED, 0, 0, WRITING, WITHDRAW),
    ON(WRITING, TAKEN, 0, 0, OVER, YIELD),
    ON(WRITING, DETACHED, 0, 0, OVER, ABANDON),
    ON(OVER, JUDGED, 0, 0, OVER, RELEASE),
    ON(OVER, HASHED, 0, 0, OVER, RELEASE),
    ON(OVER, WRITTEN, 0, 0, OVER, RELEASE),
    ON(OVER, SPOOLED, PARTING, 0, OVER, NOTHING),
    ON(OVER, SPOOLED, PARTING, PARTING, OVER, RELEASE),
};

static const struct rule *find(enum upload_state from, enum upload_event event, unsigned bits)
{
    const struct rule *found = NULL;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        const struct rule *rule = &rules[i];
        if (rule->from == from && rule->event == event && (bits & rule->mask) == rule->bits) {
            assert_null(found); /* the rules do not overlap */
            found = rule;
        }
    }
    return found;
}

/* What no rule allows is impossible. */
static void test_every_step(void **state)
{
    (void)state;
    for (unsigned from = 0; from <= UPLOAD_STATE_COUNT; from++) {
        for (unsigned event = 0; event <= UPLOAD_EVENT_COUNT; event++) {
            for (unsigned bits = 0; bits < FACTS; bits++) {
                const struct rule *rule =
                    find((enum upload_state)from, (enum upload_event)event, bits);
                struct upload_step step =
                    upload_step((enum upload_state)from, (enum upload_event)event, facts_of(bits));
                assert_int_equal(step.next, rule == NULL ? UPLOAD_STATE_COUNT : rule->to);
                assert_int_equal(step.action, rule == NULL ? UPLOAD_DO_NOTHING : rule->action);
            }
        }
    }
}

/* The table of moves has those that the driver makes, and no other. */
static void test_the_table_is_the_driver(void **state)
{
    (void)state;
    for (unsigned from = 0; from <= UPLOAD_STATE_COUNT; from++) {
        for (unsigned to = 0; to <= UPLOAD_STATE_COUNT; to++) {
            bool moves = false;
            for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
                moves |= from != to && rules[i].from == (enum upload_state)from &&
                         rules[i].to == (enum upload_state)to;
            }
            assert_int_equal(upload_may_move((enum upload_state)from, (enum upload_state)to),
                             moves);
        }
    }
}

/* From every state the end can be reached, by the client's going alone, and only it is the end. */
static void test_no_dead_ends(void **state)
{
    (void)state;
    for (unsigned from = 0; from < UPLOAD_STATE_COUNT; from++) {
        struct upload_step step =
            upload_step((enum upload_state)from, UPLOAD_EVENT_DETACHED, facts_of(0));
        assert_int_equal(step.next == UPLOAD_OVER, from != UPLOAD_OVER);
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
    assert_string_equal(upload_event_name(UPLOAD_EVENT_PIECE), "piece");
    assert_string_equal(upload_event_name(UPLOAD_EVENT_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step),
        cmocka_unit_test(test_the_table_is_the_driver),
        cmocka_unit_test(test_no_dead_ends),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
