/*
 * What a session may do in one turn.
 *
 * Every session that is ready has one turn in each round of the loop. So that a round is short
 * however many they are, they share what it may cost; a turn has its least share in any case. Loop
 * thread only.
 */
#ifndef DAEMON_TURN_H
#define DAEMON_TURN_H

#include "daemon/server.h"

/* A session has its turn. */
void turn_begin(struct server *server);

/* A round is over: what comes is counted anew. */
void turn_round_over(struct server *server);

/* Until when (monotonic, in microseconds) the turn that begins now may handle input. */
uint64_t turn_end(const struct server *server);

/* How many bytes one receive may take, of which a turn has a few. */
size_t turn_receive(const struct server *server);

/* How many bytes may be sent. */
uint64_t turn_send(const struct server *server);

#endif
