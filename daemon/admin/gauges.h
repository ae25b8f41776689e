/* The present values of the daemon, gathered from its rooms. Any thread. */
#ifndef DAEMON_ADMIN_GAUGES_H
#define DAEMON_ADMIN_GAUGES_H

#include "daemon/core/context.h"
#include "daemon/net/hub.h"

struct backups;
struct gc;
struct scrub;
struct upkeep_jobs;
struct writer;

/* What the admin socket looks at; server.c's, and outlives it. */
struct admin_rooms {
    struct context *context;
    const struct hub_set *hubs; /* the first is that of the loop of the admin socket */
    struct writer *writer;
    struct upkeep_jobs *jobs;
    struct backups *backups;
    struct gc *gc;
    struct scrub *scrub;
    struct copies *copies; /* NULL: nothing can be mapped */
};

/* The present values; of the loops, as last published. */
void admin_gauges(const struct admin_rooms *rooms, struct gauges *ret_gauges);

#endif
