/* GET: a range of a served body, straight from the store's memory to the socket. */
#ifndef DAEMON_SERVE_FETCH_H
#define DAEMON_SERVE_FETCH_H

#include "daemon/net/session.h"

/*
 * Answers with GET_REPLY and adds the body's stream, or returns the error of the refusal:
 * CAP_E_BAD_MESSAGE, CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY, or as the store fails.
 */
enum cap_error fetch_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                           struct cap_bytes payload);

#endif
