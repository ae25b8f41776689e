/* Shares of a round, by how many turns it has. */
#include "daemon/turn.h"

#include "daemon/session.h"

#define ROUND_US      UINT64_C(20000) /* of handling input */
#define TURN_US       UINT64_C(5000)
#define TURN_US_MIN   UINT64_C(20)
#define ROUND_RECEIVE (1u << 20) /* bytes of one receive of each turn */
#define RECEIVE_MIN   (4u << 10)
#define ROUND_SEND    (16u << 20) /* bytes */
#define TURN_SEND     (1u << 20)
#define TURN_SEND_MIN (64u << 10)

void turn_begin(struct server *server)
{
    if (server->turns++ == 0) {
        server->round_us = env_monotonic_us(server->env);
    }
}

void turn_round_over(struct server *server)
{
    server->turns_before = server->turns;
    server->turns = 0;
}

/* A turn's share of what a round may cost: of as many turns as there were, or are by now. */
static uint64_t share(const struct server *server, uint64_t round, uint64_t least, uint64_t most)
{
    size_t turns = server->turns > server->turns_before ? server->turns : server->turns_before;
    uint64_t part = turns == 0 ? most : round / turns;
    return part < least ? least : part > most ? most : part;
}

uint64_t turn_end(const struct server *server)
{
    uint64_t now = env_monotonic_us(server->env);
    bool late = now - server->round_us >= ROUND_US;
    return now + (late ? TURN_US_MIN : share(server, ROUND_US, TURN_US_MIN, TURN_US));
}

size_t turn_receive(const struct server *server)
{
    return (size_t)share(server, ROUND_RECEIVE, RECEIVE_MIN, SESSION_INPUT);
}

uint64_t turn_send(const struct server *server)
{
    return share(server, ROUND_SEND, TURN_SEND_MIN, TURN_SEND);
}
