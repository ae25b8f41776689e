/* GET_MANY: the bodies of many caps in one answer. `room` is a struct serve. */
#ifndef DAEMON_SERVE_MANY_H
#define DAEMON_SERVE_MANY_H

#include "daemon/net/session.h"

/*
 * Answers with GET_MANY_REPLY and pieces, now or as readers find the caps. Refuses with
 * CAP_E_UNSUPPORTED_REQUEST without the feature, CAP_E_BAD_MESSAGE, CAP_E_TOO_MANY_HASHES,
 * CAP_E_MEMORY_LIMIT, or as the store fails as a whole; what fails for one cap is said in its
 * piece.
 */
const struct verdict *many_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                 struct cap_bytes payload);

#endif
