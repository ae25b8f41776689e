/*
 * OpenMetrics text. What belongs to the loop is written there, what belongs to the store on a
 * worker; the two pieces follow each other in one text.
 */
#ifndef DAEMON_ADMIN_METRICS_H
#define DAEMON_ADMIN_METRICS_H

#include "daemon/admin/gauges.h"

#define ADMIN_METRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Figures of the admin socket itself. */
struct admin_figures {
    uint64_t connections;
    uint64_t connections_limit;
    uint64_t calls;
    uint64_t failures;
};

/* Appends the families of the daemon: counters, gauges, histograms, settings. Loop only. */
enum cap_error admin_metrics_daemon(const struct admin_rooms *rooms,
                                    const struct admin_figures *figures, struct cap_buf *buf);

/* Appends the families of the store and the end of the text. Any thread; may wait for the disk. */
enum cap_error admin_metrics_store(struct cap_store *store, struct cap_buf *buf);

#endif
