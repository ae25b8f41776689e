/* SLICE: some pages of a cap with what proves them. `room` is a struct serve. */
#ifndef DAEMON_SERVE_SLICE_H
#define DAEMON_SERVE_SLICE_H

#include "daemon/net/session.h"

/*
 * Answers with SLICE_REPLY and the slice, as readers make it. Refuses with
 * CAP_E_UNSUPPORTED_REQUEST without the feature, CAP_E_BAD_MESSAGE, CAP_E_RANGE_OUT_OF_BODY,
 * CAP_E_MEMORY_LIMIT, or as the store fails, also when part of the slice was sent.
 */
const struct verdict *slice_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload);

#endif
