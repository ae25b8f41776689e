/* GET: a range of a served body. A small one from its place, others from the store's pages. */
#ifndef DAEMON_SERVE_FETCH_H
#define DAEMON_SERVE_FETCH_H

#include "daemon/net/session.h"

/*
 * Answers with GET_REPLY and the body, now or when a reader has looked the cap up. Refuses with
 * CAP_E_BAD_MESSAGE, CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY, or as the store fails. `room` is a
 * struct serve.
 */
const struct verdict *fetch_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload);

/* A route's `ahead`: what is known of their places is fetched from memory. */
void fetch_ahead(void *room, const struct cap_bytes *payloads, size_t count);

#endif
