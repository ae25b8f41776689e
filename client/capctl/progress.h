/*
 * A progress bar on the standard error, if that is a terminal with escapes, for anything that takes
 * longer than a second.
 *
 * The meter has a thread that draws, so that the bar also moves while nothing is transferred: while
 * the daemon hashes, or the tool verifies.
 */
#ifndef CLIENT_CAPCTL_PROGRESS_H
#define CLIENT_CAPCTL_PROGRESS_H

#include <capstore/capstore.h>
#include <pthread.h>

struct cli_meter {
    const char *label;
    const char *after; /* label once all bytes are done; NULL: none */
    bool running;      /* the drawing thread exists */
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop;
    uint64_t done;
    uint64_t total;
    uint64_t resumed; /* where it went on; 0: it did not */
    int64_t started_ms;
    struct capstore_source inner; /* of cli_meter_source; not shared with the thread */
};

/* Starts measuring. `after` may be NULL. The meter stays where it is until cli_meter_stop. */
void cli_meter_start(struct cli_meter *meter, const char *label, const char *after);

/* Sets how many bytes are done, and of how many. */
void cli_meter_update(struct cli_meter *meter, uint64_t done, uint64_t total);

/*
 * Says that it went on, from `at` on, after its connection was lost: behind the bar, or where there
 * is none in a line of its own.
 */
void cli_meter_resumed(struct cli_meter *meter, uint64_t at);

/* Removes the bar and ends the thread. May be called again. */
void cli_meter_stop(struct cli_meter *meter);

/* A source that reads `inner` and counts what was read; `passes` times its length is the total.
 * The meter outlives it. */
struct capstore_source cli_meter_source(struct cli_meter *meter,
                                        const struct capstore_source *inner, unsigned passes);

#endif
