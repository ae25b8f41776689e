/* GET: a range of a served body, straight from the store's memory to the socket. */
#ifndef DAEMON_SERVE_FETCH_H
#define DAEMON_SERVE_FETCH_H

#include "daemon/net/session.h"

/*
 * As struct route wants it. CAP_E_BAD_MESSAGE, CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY, or as the
 * store fails.
 */
const struct verdict *fetch_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload);

#endif
