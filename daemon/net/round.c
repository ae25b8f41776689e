/* Shares of a round, by how many turns it has. */
#include "daemon/net/round.h"

#define ROUND_US      UINT64_C(2000) /* of handling input: what a small request may wait for others */
#define TURN_US       UINT64_C(1000)
#define TURN_US_MIN   UINT64_C(20)
#define ROUND_RECEIVE (1u << 20) /* bytes of one receive of each turn */
#define RECEIVE_MIN   (4u << 10)
#define ROUND_SEND    (16u << 20) /* bytes: some milliseconds of copying into sockets */
#define TURN_SEND     (1u << 20)
#define TURN_SEND_MIN (64u << 10)

void round_init(struct round *round, const struct env *env)
{
    *round = (struct round){.env = env};
}

void round_turn(struct round *round)
{
    if (round->turns++ == 0) {
        round->began_us = env_monotonic_us(round->env);
    }
}

void round_over(struct round *round)
{
    round->turns_before = round->turns;
    round->turns = 0;
}

/* A turn's share of what a round may cost: of as many turns as there were, or are by now. */
static uint64_t share(const struct round *round, uint64_t whole, uint64_t least, uint64_t most)
{
    size_t turns = round->turns > round->turns_before ? round->turns : round->turns_before;
    uint64_t part = turns == 0 ? most : whole / turns;
    return part < least ? least : part > most ? most : part;
}

static bool is_late(const struct round *round, uint64_t now)
{
    return now - round->began_us >= ROUND_US;
}

bool round_is_late(const struct round *round)
{
    return is_late(round, env_monotonic_us(round->env));
}

uint64_t round_turn_end(const struct round *round)
{
    uint64_t now = env_monotonic_us(round->env);
    return now + (is_late(round, now) ? TURN_US_MIN : share(round, ROUND_US, TURN_US_MIN, TURN_US));
}

size_t round_receive(const struct round *round)
{
    return (size_t)share(round, ROUND_RECEIVE, RECEIVE_MIN, SESSION_INPUT);
}

uint64_t round_send(const struct round *round)
{
    return share(round, ROUND_SEND, TURN_SEND_MIN, TURN_SEND);
}
