/*
 * HAS on a connection with leases: what is there, and for how long that is promised; with a wanted
 * time it is a write.
 */
#ifndef DAEMON_SERVE_LEASES_H
#define DAEMON_SERVE_LEASES_H

#include "daemon/net/session.h"
#include "daemon/serve/serve.h"

/*
 * Refuses with CAP_E_BAD_MESSAGE, CAP_E_TOO_MANY_HASHES, CAP_E_MEMORY_LIMIT, or as the store fails.
 */
const struct verdict *leases_has(struct serve *serve, struct session *session, uint32_t id,
                                 uint8_t type, struct cap_bytes payload);

#endif
