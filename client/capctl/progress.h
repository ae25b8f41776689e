/*
 * A progress bar on the standard error, when that is a terminal, for what takes longer than a
 * second.
 */
#ifndef CLIENT_CAPCTL_PROGRESS_H
#define CLIENT_CAPCTL_PROGRESS_H

#include "client/capctl/cli.h"

struct cli_meter {
    const char *label;
    bool terminal;
    bool shown;
    int64_t started_ms;
    int64_t drawn_ms;
    uint64_t done;
    uint64_t total;
    struct capstore_source inner; /* of cli_meter_source */
};

/* Starts measuring. */
void cli_meter_start(struct cli_meter *meter, const char *label);

/* So many bytes of so many are done: draws at most ten times a second, after the first second. */
void cli_meter_update(struct cli_meter *meter, uint64_t done, uint64_t total);

/* Removes the bar. Harmless when none was drawn. */
void cli_meter_stop(struct cli_meter *meter);

/* A source that reads `inner` and counts what was read, `passes` times its length being all of it.
 * The meter outlives it. */
struct capstore_source cli_meter_source(struct cli_meter *meter,
                                        const struct capstore_source *inner, unsigned passes);

#endif
