/* The driver of uploads. */
#include "daemon/publish/upload_state.h"

static struct upload_step go(enum upload_state next, enum upload_action action)
{
    return (struct upload_step){next, action};
}

static struct upload_step impossible(void)
{
    return go(UPLOAD_STATE_COUNT, UPLOAD_DO_NOTHING);
}

/* What ends an upload in every state that waits for more than the writer. */
static struct upload_step end(enum upload_event event)
{
    switch (event) {
    case UPLOAD_EVENT_FAILED:
        return go(UPLOAD_OVER, UPLOAD_DO_REFUSE);
    case UPLOAD_EVENT_CANCELLED:
        return go(UPLOAD_OVER, UPLOAD_DO_CANCEL);
    case UPLOAD_EVENT_TAKEN:
        return go(UPLOAD_OVER, UPLOAD_DO_YIELD);
    case UPLOAD_EVENT_DETACHED:
        return go(UPLOAD_OVER, UPLOAD_DO_ABANDON);
    case UPLOAD_EVENT_PIECE:
    case UPLOAD_EVENT_GATHERED:
    case UPLOAD_EVENT_END:
    case UPLOAD_EVENT_SPOOLED:
    case UPLOAD_EVENT_JUDGED:
    case UPLOAD_EVENT_HASHED:
    case UPLOAD_EVENT_WRITTEN:
    case UPLOAD_EVENT_TICK:
    case UPLOAD_EVENT_COUNT:
        break;
    }
    return impossible();
}

/* NOLINTNEXTLINE(readability-function-size): the table of all states, in one place */
struct upload_step upload_step(enum upload_state state, enum upload_event event,
                               struct upload_facts facts)
{
    const struct upload_step stay = {state, UPLOAD_DO_NOTHING};
    switch (state) {
    case UPLOAD_HEAD:
        if (event == UPLOAD_EVENT_PIECE) {
            return go(UPLOAD_HEAD, UPLOAD_DO_GATHER);
        }
        if (event == UPLOAD_EVENT_GATHERED) {
            return go(UPLOAD_JUDGING, UPLOAD_DO_JUDGE);
        }
        return event == UPLOAD_EVENT_TICK ? go(UPLOAD_HEAD, UPLOAD_DO_MEASURE) : end(event);

    case UPLOAD_JUDGING:
        if (event == UPLOAD_EVENT_PIECE) {
            return go(UPLOAD_JUDGING, UPLOAD_DO_SPOOL);
        }
        if (event == UPLOAD_EVENT_JUDGED && facts.failed) {
            return go(UPLOAD_OVER, UPLOAD_DO_REFUSE);
        }
        if (event == UPLOAD_EVENT_JUDGED) {
            return facts.ended ? go(UPLOAD_SETTLING, UPLOAD_DO_SETTLE)
                               : go(UPLOAD_BODY, UPLOAD_DO_NOTHING);
        }
        if (event == UPLOAD_EVENT_END || event == UPLOAD_EVENT_SPOOLED ||
            event == UPLOAD_EVENT_TICK) {
            return stay;
        }
        return end(event);

    case UPLOAD_BODY:
        if (event == UPLOAD_EVENT_PIECE) {
            return go(UPLOAD_BODY, UPLOAD_DO_SPOOL);
        }
        if (event == UPLOAD_EVENT_END) {
            return go(UPLOAD_SETTLING, UPLOAD_DO_SETTLE);
        }
        if (event == UPLOAD_EVENT_TICK) {
            return go(UPLOAD_BODY, UPLOAD_DO_MEASURE);
        }
        return event == UPLOAD_EVENT_SPOOLED ? go(UPLOAD_BODY, UPLOAD_DO_STAGE) : end(event);

    case UPLOAD_SETTLING:
        if (event == UPLOAD_EVENT_SPOOLED) {
            return facts.settled ? go(UPLOAD_HASHING, UPLOAD_DO_HASH) : stay;
        }
        return event == UPLOAD_EVENT_TICK ? stay : end(event);

    case UPLOAD_HASHING:
        if (event == UPLOAD_EVENT_HASHED && facts.failed) {
            return go(UPLOAD_OVER, UPLOAD_DO_REFUSE);
        }
        if (event == UPLOAD_EVENT_HASHED) {
            return facts.dry_run ? go(UPLOAD_OVER, UPLOAD_DO_ANSWER)
                                 : go(UPLOAD_WRITING, UPLOAD_DO_WRITE);
        }
        return event == UPLOAD_EVENT_TICK ? stay : end(event);

    case UPLOAD_WRITING:
        if (event == UPLOAD_EVENT_WRITTEN) {
            return go(UPLOAD_OVER, facts.failed ? UPLOAD_DO_REFUSE : UPLOAD_DO_ANSWER);
        }
        if (event == UPLOAD_EVENT_CANCELLED) {
            return go(UPLOAD_WRITING, UPLOAD_DO_WITHDRAW); /* a commit under way wins */
        }
        if (event == UPLOAD_EVENT_FAILED) {
            return impossible(); /* only the writer's word counts */
        }
        return event == UPLOAD_EVENT_TICK ? stay : end(event);

    case UPLOAD_OVER:
        if (event == UPLOAD_EVENT_JUDGED || event == UPLOAD_EVENT_HASHED ||
            event == UPLOAD_EVENT_WRITTEN) {
            return go(UPLOAD_OVER, UPLOAD_DO_RELEASE);
        }
        if (event == UPLOAD_EVENT_SPOOLED) {
            return facts.parting ? go(UPLOAD_OVER, UPLOAD_DO_RELEASE) : stay;
        }
        return impossible();

    case UPLOAD_STATE_COUNT:
        break;
    }
    return impossible();
}

#define BIT(STATE) (1u << UPLOAD_##STATE)

static const unsigned successors[UPLOAD_STATE_COUNT] = {
    [UPLOAD_HEAD] = BIT(JUDGING) | BIT(OVER),
    [UPLOAD_JUDGING] = BIT(BODY) | BIT(SETTLING) | BIT(OVER),
    [UPLOAD_BODY] = BIT(SETTLING) | BIT(OVER),
    [UPLOAD_SETTLING] = BIT(HASHING) | BIT(OVER),
    [UPLOAD_HASHING] = BIT(WRITING) | BIT(OVER),
    [UPLOAD_WRITING] = BIT(OVER),
    [UPLOAD_OVER] = 0,
};

bool upload_may_move(enum upload_state from, enum upload_state to)
{
    return from < UPLOAD_STATE_COUNT && to < UPLOAD_STATE_COUNT &&
           (successors[from] >> to & 1u) != 0;
}

#define NAME_OF(NAME, name) #name,

const char *upload_state_name(enum upload_state state)
{
    static const char *const names[] = {UPLOAD_STATES(NAME_OF)};
    return state < UPLOAD_STATE_COUNT ? names[state] : "?";
}

const char *upload_event_name(enum upload_event event)
{
    static const char *const names[] = {UPLOAD_EVENTS(NAME_OF)};
    return event < UPLOAD_EVENT_COUNT ? names[event] : "?";
}
