/* CLOSURE: caps and all that they refer to, in one answer. `room` is a struct serve. */
#ifndef DAEMON_SERVE_CLOSURE_H
#define DAEMON_SERVE_CLOSURE_H

#include "daemon/net/session.h"

/*
 * Answers with CLOSURE_REPLY and entries, as readers find the caps. Refuses with
 * CAP_E_UNSUPPORTED_REQUEST without the feature, CAP_E_BAD_MESSAGE, CAP_E_TOO_MANY_HASHES,
 * CAP_E_MEMORY_LIMIT; CAP_E_CLOSURE_TOO_LARGE after as many caps as one answer gives; or as the
 * store fails. What cannot be served is said in its entry, unless its body has begun.
 */
const struct verdict *closure_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                    struct cap_bytes payload);

#endif
