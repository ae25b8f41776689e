/* HAS and STAT: from the records, or by a reader. `room` is a struct serve. */
#ifndef DAEMON_SERVE_LOOKUP_H
#define DAEMON_SERVE_LOOKUP_H

#include "daemon/net/session.h"

/* Refuses with CAP_E_BAD_MESSAGE, CAP_E_TOO_MANY_HASHES, CAP_E_MEMORY_LIMIT, or as the store fails.
 */
const struct verdict *lookup_has(void *room, struct session *session, uint32_t id, uint8_t type,
                                 struct cap_bytes payload);

/* Refuses with CAP_E_BAD_MESSAGE, CAP_E_NOT_FOUND, or as the store fails. */
const struct verdict *lookup_stat(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload);

#endif
