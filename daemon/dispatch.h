/* From a message to a request: the checks that all share, then the one that the type names. */
#ifndef DAEMON_DISPATCH_H
#define DAEMON_DISPATCH_H

#include "daemon/session.h"

/* The first frame of a connection: a HELLO, or an error that ends it. */
void dispatch_hello(struct session *session, const struct proto_event *event);

/* A message that is no HELLO, BODY or CANCEL. `id_used`: its id belongs to an open request. */
void dispatch_request(struct session *session, const struct proto_event *event, bool id_used);

#endif
