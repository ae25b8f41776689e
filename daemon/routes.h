/* Which room serves which message. */
#ifndef DAEMON_ROUTES_H
#define DAEMON_ROUTES_H

#include "daemon/net/hub.h"
#include "daemon/publish/publish.h"
#include "daemon/serve/serve.h"

#define ROUTES_MAX 12 /* the rows below and the one that ends the table */

/* Fills the table of one loop, which both rooms outlive. */
void routes_fill(struct route ret_routes[ROUTES_MAX], struct publish *publish, struct serve *serve);

#endif
