/*
 * What a session may do in one turn.
 *
 * Every session that is ready has one turn in each round of the loop. So that a round is short
 * however many they are, they share what it may cost; a turn has its least share in any case. Loop
 * thread only.
 */
#ifndef DAEMON_NET_ROUND_H
#define DAEMON_NET_ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/env.h"

#define SESSION_INPUT (64u << 10) /* bytes of one receive, at most */

struct round {
    const struct env *env;
    size_t turns;        /* of sessions in this round */
    size_t turns_before; /* and in the one before */
    uint64_t began_us;   /* monotonic: when its first turn began */
};

/* A first round. `env` outlives it. */
void round_init(struct round *round, const struct env *env);

/* A session has its turn. */
void round_turn(struct round *round);

/* A round is over: what comes is counted anew. */
void round_over(struct round *round);

/* Until when (monotonic, in microseconds) the turn that begins now may handle input. */
uint64_t round_turn_end(const struct round *round);

/* Whether the round has taken its time: what can wait, or be done elsewhere, should. */
bool round_is_late(const struct round *round);

/* How many bytes one receive may take, of which a turn has a few. */
size_t round_receive(const struct round *round);

/* How many bytes may be sent. */
uint64_t round_send(const struct round *round);

#endif
