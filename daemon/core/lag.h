/*
 * How long the loop is busy between two looks at its sockets: what a client whom nobody else keeps
 * waiting would notice of a stall. Loop thread only.
 */
#ifndef DAEMON_CORE_LAG_H
#define DAEMON_CORE_LAG_H

#include <stdbool.h>
#include <uv.h>

#include "daemon/core/env.h"
#include "daemon/core/stats.h"

struct lag {
    uv_prepare_t prepare;
    const struct env *env;
    struct stats *stats;
    uint64_t before_us; /* the loop's clock, less the time that it had waited for events */
    bool open;
};

/* Measures `loop` into `stats` (turn_us, stall_max_us) from now on; all of these outlive it. */
void lag_open(struct lag *lag, uv_loop_t *loop, const struct env *env, struct stats *stats);

/* Closes its handle; run the loop until that is done. A zeroed one is fine. */
void lag_close(struct lag *lag);

#endif
