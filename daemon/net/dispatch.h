/* From a message to a request: the checks that all share, then the one that the type names. */
#ifndef DAEMON_NET_DISPATCH_H
#define DAEMON_NET_DISPATCH_H

#include "daemon/net/session.h"

/* The first frame of a connection: a HELLO, or an error that ends it. */
void dispatch_hello(struct session *session, const struct proto_event *event);

/* A message other than HELLO, BODY and CANCEL. `id_used`: its id belongs to an open request. */
void dispatch_request(struct session *session, const struct proto_event *event, bool id_used);

#endif
