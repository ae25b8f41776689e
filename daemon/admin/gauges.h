/* The present values of the daemon, gathered from its rooms. Loop thread only. */
#ifndef DAEMON_ADMIN_GAUGES_H
#define DAEMON_ADMIN_GAUGES_H

#include "daemon/core/context.h"
#include "daemon/net/hub.h"
#include "daemon/publish/publish.h"

/* What the admin socket looks at; server.c's, and outlives it. */
struct admin_rooms {
    struct context *context;
    struct shard *shard;
    struct hub *hub;
    struct publish *publish;
    struct serve *serve;
};

/* The present values; walks the sessions. */
void admin_gauges(const struct admin_rooms *rooms, struct gauges *ret_gauges);

#endif
