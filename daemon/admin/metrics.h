/*
 * The metrics as text. What belongs to the loop is written there, what belongs to the store in a
 * thread; the two pieces follow each other in one text.
 *
 * Two formats: OpenMetrics 1.0, and the text format 0.0.4 of Prometheus, which textfile collectors
 * take. They differ in the family name of a counter and in the last line.
 */
#ifndef DAEMON_ADMIN_METRICS_H
#define DAEMON_ADMIN_METRICS_H

#include "daemon/admin/gauges.h"
#include "daemon/admin/health.h"

enum admin_metrics_format {
    ADMIN_METRICS_OPENMETRICS,
    ADMIN_METRICS_PROMETHEUS,
};

/* Figures of the admin socket itself. */
struct admin_figures {
    uint64_t connections;
    uint64_t connections_limit;
    uint64_t calls;
    uint64_t failures;
};

/* The media type of a format. Static. */
const char *admin_metrics_type(enum admin_metrics_format format);

/*
 * Appends all of it, after asking every loop but the first: on a thread that runs none of them.
 * CAP_E_NO_MEMORY.
 */
enum cap_error admin_metrics_text(const struct admin_rooms *rooms, struct cap_store *store,
                                  const struct admin_figures *figures,
                                  enum admin_metrics_format format, struct cap_buf *buf);

/* Appends the families of the daemon: counters, gauges, histograms, settings. Any thread. */
enum cap_error admin_metrics_daemon(const struct admin_rooms *rooms,
                                    const struct admin_figures *figures,
                                    enum admin_metrics_format format, struct cap_buf *buf);

/* What the store holds, in a snapshot of its own. Any thread; may wait for the disk. */
enum cap_error admin_store_counts(struct cap_store *store, struct cap_counts *ret_counts);

/* How many caps are quarantined or lost, up to ADMIN_BROKEN_MAX. Any thread; may wait for the
 * disk. */
enum cap_error admin_store_broken(struct cap_store *store, size_t *ret_count);

/*
 * Appends the families of the store, the warnings that `health` gives with the store's space, which
 * this fills in, and the end of the text. Any thread; may wait for the disk.
 */
enum cap_error admin_metrics_store(struct cap_store *store, struct admin_health *health,
                                   enum admin_metrics_format format, struct cap_buf *buf);

#endif
