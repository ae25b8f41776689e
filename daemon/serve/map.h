/* MAP: a cap as a sealed descriptor, from the copies or made by a reader. */
#ifndef DAEMON_SERVE_MAP_H
#define DAEMON_SERVE_MAP_H

#include "daemon/net/session.h"

/*
 * Answers with MAP_REPLY and the descriptor, now or when the copy is made. Refuses with
 * CAP_E_UNSUPPORTED_REQUEST where the feature does not hold, CAP_E_BAD_MESSAGE, CAP_E_NOT_FOUND,
 * CAP_E_MEMORY_LIMIT, CAP_E_TOO_MANY_REQUESTS, or as the store fails. `room` is a struct serve.
 */
const struct verdict *map_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                struct cap_bytes payload);

#endif
