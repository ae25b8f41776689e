/* Which room serves which message. */
#ifndef DAEMON_ROUTES_H
#define DAEMON_ROUTES_H

#include "daemon/net/hub.h"
#include "daemon/publish/publish.h"

#define ROUTES_MAX 6 /* the rows below and the one that ends the table */

/* Fills the table of one loop; `publish` outlives it. */
void routes_fill(struct route ret_routes[ROUTES_MAX], struct publish *publish);

#endif
