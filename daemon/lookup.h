/*
 * HAS and STAT. Each answers or returns the error of its refusal, which the caller sends.
 */
#ifndef DAEMON_LOOKUP_H
#define DAEMON_LOOKUP_H

#include "daemon/session.h"

#define LOOKUP_INLINE 32u /* hashes that the loop looks up itself; more go to a worker */

/* CAP_E_BAD_MESSAGE, CAP_E_TOO_MANY_HASHES, CAP_E_MEMORY_LIMIT, or as the store fails. */
enum cap_error lookup_has(struct session *session, uint32_t id, struct cap_bytes payload);

/* CAP_E_BAD_MESSAGE, CAP_E_NOT_FOUND, or as the store fails. */
enum cap_error lookup_stat(struct session *session, uint32_t id, struct cap_bytes payload);

#endif
