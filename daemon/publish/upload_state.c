/* The table of an upload's states. */
#include "daemon/publish/upload_state.h"

#define BIT(STATE) (1u << UPLOAD_##STATE)

static const unsigned successors[UPLOAD_STATE_COUNT] = {
    [UPLOAD_HEAD] = BIT(JUDGING) | BIT(BODY) | BIT(OVER),
    [UPLOAD_JUDGING] = BIT(BODY) | BIT(OVER),
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

const char *upload_state_name(enum upload_state state)
{
    static const char *const names[UPLOAD_STATE_COUNT] = {
#define UPLOAD_STATE_NAME(NAME, name) #name,
        UPLOAD_STATES(UPLOAD_STATE_NAME)
#undef UPLOAD_STATE_NAME
    };
    return state < UPLOAD_STATE_COUNT ? names[state] : "?";
}
