/*
 * The exposition. Families come from the rows of stats.h and config.h and from the lists below, so
 * that a figure which is counted is also shown.
 */
#include "daemon/admin/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/ask.h"
#include "daemon/admin/text.h"
#include "daemon/admin/value.h"
#include "daemon/publish/quota.h"
#include "proto/frame.h"

#define TOTAL            "_total"
#define PUBLISHERS_SHOWN 64u /* so that a scrape stays small */

/* A text being written, in one of the formats. */
struct exposition {
    struct admin_text text;
    enum admin_metrics_format format;
};

const char *admin_metrics_type(enum admin_metrics_format format)
{
    switch (format) {
    case ADMIN_METRICS_OPENMETRICS:
        break;
    case ADMIN_METRICS_PROMETHEUS:
        return "text/plain; version=0.0.4; charset=utf-8";
    }
    return "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

static uint64_t field_at(const void *base, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)base + offset, sizeof(value));
    return value;
}

/* Begins a family. OpenMetrics names a counter's without the ending of its series. */
static void family(struct exposition *to, const char *name, const char *type, const char *help)
{
    size_t len = strlen(name);
    if (to->format == ADMIN_METRICS_OPENMETRICS && strcmp(type, "counter") == 0) {
        len -= strlen(TOTAL);
    }
    admin_print(&to->text, "# TYPE %.*s %s\n# HELP %.*s %s.\n", (int)len, name, type, (int)len,
                name, help);
}

static void gauge(struct exposition *to, const char *name, const char *help, uint64_t value)
{
    family(to, name, "gauge", help);
    admin_print(&to->text, "%s %" PRIu64 "\n", name, value);
}

static void counter(struct exposition *to, const char *series, const char *help, uint64_t value)
{
    family(to, series, "counter", help);
    admin_print(&to->text, "%s %" PRIu64 "\n", series, value);
}

/* A number of microseconds as seconds, or a plain number. */
static const char *scaled(char text[32], uint64_t value, bool in_seconds)
{
    if (in_seconds) {
        snprintf(text, 32, "%" PRIu64 ".%06" PRIu64, value / 1000000, value % 1000000);
    } else {
        snprintf(text, 32, "%" PRIu64 ".0", value);
    }
    return text;
}

static void gauge_seconds(struct exposition *to, const char *name, const char *help,
                          uint64_t value_us)
{
    char text[32];
    family(to, name, "gauge", help);
    admin_print(&to->text, "%s %s\n", name, scaled(text, value_us, true));
}

/* Buckets are cumulative, their bounds inclusive, the last one is +Inf. */
static void histogram(struct exposition *to, const char *name, const char *help,
                      const struct histogram *histogram, bool in_seconds)
{
    char text[32];
    uint64_t sum = 0;
    family(to, name, "histogram", help);
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        sum += histogram->buckets[i];
        if (i + 1 < STATS_BUCKETS) {
            admin_print(&to->text, "%s_bucket{le=\"%s\"} %" PRIu64 "\n", name,
                        scaled(text, histogram_bound(i), in_seconds), sum);
        }
    }
    admin_print(&to->text, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_count %" PRIu64 "\n", name, sum,
                name, histogram->count);
    admin_print(&to->text, "%s_sum %s\n", name, scaled(text, histogram->sum, in_seconds));
}

static void print_rows(struct exposition *to, const struct admin_rooms *rooms,
                       const struct stats *stats)
{
    size_t count = 0;
    struct gauges gauges = {0};
    admin_gauges(rooms, &gauges);
    const struct stats_row *rows = stats_counter_rows(&count);
    for (size_t i = 0; i < count; i++) {
        counter(to, rows[i].series, rows[i].help, field_at(stats, rows[i].offset));
    }
    gauge_seconds(to, "capstore_uptime_seconds", "Time since start", gauges.uptime_ms * 1000);
    rows = stats_gauge_rows(&count);
    for (size_t i = 0; i < count; i++) {
        uint64_t value = field_at(&gauges, rows[i].offset);
        if (stats_in_seconds(&rows[i])) {
            gauge_seconds(to, rows[i].series, rows[i].help, value);
        } else {
            gauge(to, rows[i].series, rows[i].help, value);
        }
    }
    rows = stats_histogram_rows(&count);
    for (size_t i = 0; i < count; i++) {
        struct histogram copy;
        memcpy(&copy, (const char *)stats + rows[i].offset, sizeof(copy));
        histogram(to, rows[i].series, rows[i].help, &copy, true);
    }
    histogram(to, "capstore_commit_admissions", "Admissions that shared a commit",
              &stats->commit_admissions, false);
}

static void print_requests(struct exposition *to, const struct stats *stats)
{
    static const uint8_t types[] = {PROTO_HELLO,  PROTO_HAS,      PROTO_GET,       PROTO_GET_MANY,
                                    PROTO_STAT,   PROTO_PUT_DATA, PROTO_PUT_IMAGE, PROTO_PUT_CAP,
                                    PROTO_CANCEL, PROTO_MAP,      PROTO_SLICE,     PROTO_CLOSURE,
                                    PROTO_RESUME};
    family(to, "capstore_requests_total", "counter", "Requests by type");
    for (size_t i = 0; i < sizeof(types); i++) {
        admin_print(&to->text, "capstore_requests_total{type=\"%s\"} %" PRIu64 "\n",
                    proto_type_name(types[i]), stats->requests[types[i]]);
    }
}

static void print_errors(struct exposition *to, const struct stats *stats)
{
    family(to, "capstore_errors_total", "counter", "Refusals by error");
    for (unsigned code = 1; code < STATS_ERROR_CODES; code++) {
        enum cap_error error = cap_error_from_code(code);
        if (-(int)error != (int)code) {
            continue;
        }
        admin_print(&to->text, "capstore_errors_total{reason=\"%s\"} %" PRIu64 "\n",
                    cap_error_name(error), stats->errors[code]);
    }
}

static void print_settings(struct exposition *to, const struct config *config)
{
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    family(to, "capstore_setting", "gauge",
           "Numbers of the configuration, as the options take them");
    for (size_t i = 0; i < count; i++) {
        char value[CONFIG_VALUE_SIZE];
        enum config_type type = options[i].type;
        if ((type == CONFIG_SIZE || type == CONFIG_COUNT || type == CONFIG_MS) &&
            config_value(config, &options[i], 0, value, sizeof(value))) {
            admin_print(&to->text, "capstore_setting{option=\"%s\"} %s\n", options[i].name, value);
        }
    }
}

enum cap_error admin_metrics_daemon(const struct admin_rooms *rooms,
                                    const struct admin_figures *figures,
                                    enum admin_metrics_format format, struct cap_buf *buf)
{
    struct exposition to = {.text = {.buf = buf}, .format = format};
    struct stats stats;
    context_stats(rooms->context, &stats);
    /* A gauge, as everywhere: checkers of the older format do not know the type `info`. */
    family(&to, "capstore_build_info", "gauge", "The version that runs, as a label; always 1");
    admin_print(&to.text, "capstore_build_info{version=\"%s\"} 1\n", CAPSTORE_VERSION);
    print_rows(&to, rooms, &stats);
    print_requests(&to, &stats);
    print_errors(&to, &stats);
    gauge(&to, "capstore_admin_connections", "Open connections to the admin socket",
          figures->connections);
    gauge(&to, "capstore_admin_connections_limit", "Limit of connections to the admin socket",
          figures->connections_limit);
    counter(&to, "capstore_admin_calls_total", "Calls of admin methods", figures->calls);
    counter(&to, "capstore_admin_failures_total", "Calls of admin methods answered with an error",
            figures->failures);
    print_settings(&to, &rooms->context->config);
    return to.text.error;
}

/* --- The store -------------------------------------------------------------------------------- */

static void print_by_kind(struct exposition *to, const char *name, const char *help,
                          const uint64_t values[CAP_STORE_KINDS])
{
    family(to, name, "gauge", help);
    for (int kind = CAP_KIND_IMAGE; kind <= CAP_KIND_DATA; kind++) {
        admin_print(&to->text, "%s{kind=\"%s\"} %" PRIu64 "\n", name,
                    admin_kind_name((enum cap_kind)kind), values[kind]);
    }
}

enum cap_error admin_store_counts(struct cap_store *store, struct cap_counts *ret_counts)
{
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = cap_store_counts(read, ret_counts);
    }
    cap_store_read_end(read);
    return error;
}

/* One family of figures of publishers. */
static void print_publishers(struct exposition *to, const char *name, const char *help,
                             const struct quota_row *rows, size_t count, size_t offset)
{
    family(to, name, "gauge", help);
    for (size_t i = 0; i < count; i++) {
        char publisher[32] = "anonymous";
        if (rows[i].uid != QUOTA_ANONYMOUS) {
            snprintf(publisher, sizeof(publisher), "uid:%" PRIu32, rows[i].uid);
        }
        admin_print(&to->text, "%s{publisher=\"%s\"} %" PRIu64 "\n", name, publisher,
                    field_at(&rows[i], offset));
    }
}

static void print_quotas(struct exposition *to, const struct context *context,
                         struct cap_store *store)
{
    struct quota_row rows[PUBLISHERS_SHOWN];
    size_t count = 0;
    if (quota_list(context->quotas, store, 0, PUBLISHERS_SHOWN, rows, &count) != CAP_OK) {
        return;
    }
    print_publishers(to, "capstore_publisher_bytes",
                     "Bodies in the store by first publisher, of the first 64 by uid", rows, count,
                     offsetof(struct quota_row, used.bytes));
    print_publishers(to, "capstore_publisher_caps",
                     "Caps in the store by first publisher, of the first 64 by uid", rows, count,
                     offsetof(struct quota_row, used.caps));
    print_publishers(to, "capstore_publisher_under_way_bytes",
                     "Bytes that uploads in flight hold of the quotas, by publisher", rows, count,
                     offsetof(struct quota_row, under_way.bytes));
    print_publishers(to, "capstore_publisher_hour_bytes",
                     "Bytes new to the store in the last hour, by publisher", rows, count,
                     offsetof(struct quota_row, last_hour));
}

static void print_warnings(struct exposition *to, const struct admin_health *health)
{
    family(to, "capstore_warning", "gauge",
           "1 for each warning in the answer of status, by reason");
    for (int i = 0; i < ADMIN_WARNING_COUNT; i++) {
        char sentence[ADMIN_WARNING_SIZE];
        bool warns = admin_health_warns(health, (enum admin_warning)i, sentence);
        admin_print(&to->text, "capstore_warning{reason=\"%s\"} %d\n",
                    admin_warning_name((enum admin_warning)i), warns ? 1 : 0);
    }
}

enum cap_error admin_store_broken(struct cap_store *store, size_t *ret_count)
{
    struct cap_read *read = NULL;
    bool more = false;
    struct cap_broken *broken = calloc(ADMIN_BROKEN_MAX, sizeof(*broken));
    enum cap_error error = broken == NULL ? CAP_E_NO_MEMORY : cap_store_read_begin(store, &read);
    *ret_count = 0;
    if (error == CAP_OK) {
        error = cap_store_broken(read, NULL, ADMIN_BROKEN_MAX, broken, ret_count, &more);
        cap_store_read_end(read);
    }
    free(broken);
    return error;
}

enum cap_error admin_metrics_store(struct cap_store *store, struct admin_health *health,
                                   enum admin_metrics_format format, struct cap_buf *buf)
{
    struct exposition to = {.text = {.buf = buf}, .format = format};
    struct cap_counts counts;
    struct cap_space space;
    bool counted = admin_store_counts(store, &counts) == CAP_OK;
    bool measured = cap_store_space(store, &space) == CAP_OK;
    bool looked = admin_store_broken(store, &health->broken) == CAP_OK;
    gauge(&to, "capstore_store_readable", "1 if the store could be asked for its figures",
          counted && measured ? 1 : 0);
    if (counted) {
        print_by_kind(&to, "capstore_caps", "Caps in the store", counts.caps);
        print_by_kind(&to, "capstore_body_bytes", "Bytes of served bodies", counts.body_bytes);
        gauge(&to, "capstore_refs", "References between caps", counts.refs);
        print_quotas(&to, health->context, store);
    }
    if (looked) {
        gauge(&to, "capstore_quarantined_caps",
              "Caps that are quarantined or lost, up to 1000: they are not served", health->broken);
    }
    if (measured) {
        gauge(&to, "capstore_store_file_bytes", "Physical size of the store's file",
              space.file_bytes);
        gauge(&to, "capstore_store_file_free_bytes",
              "Bytes of the store's file in pages free for reuse", space.free_bytes);
        gauge(&to, "capstore_store_map_limit_bytes", "Size that the file may grow to",
              space.map_bytes);
        gauge(&to, "capstore_disk_free_bytes", "Bytes free for the store on its file system",
              space.disk_free);
        gauge(&to, "capstore_store_readers", "Open read snapshots", space.readers);
        gauge(&to, "capstore_store_readers_limit", "Limit of open read snapshots",
              space.max_readers);
        gauge_seconds(&to, "capstore_store_oldest_reader_seconds",
                      "Age of the oldest open snapshot: pages freed since are not used again",
                      space.oldest_reader_us);
        health->space = space;
        print_warnings(&to, health);
    }
    if (format == ADMIN_METRICS_OPENMETRICS) {
        admin_print(&to.text, "# EOF\n");
    }
    return to.text.error;
}

enum cap_error admin_metrics_text(const struct admin_rooms *rooms, struct cap_store *store,
                                  const struct admin_figures *figures,
                                  enum admin_metrics_format format, struct cap_buf *buf)
{
    struct admin_ask *ask = admin_ask(rooms, 0, 0);
    if (ask == NULL) {
        return CAP_E_NO_MEMORY;
    }
    struct admin_health health = admin_health_now(rooms, ask);
    admin_ask_free(ask);
    enum cap_error error = admin_metrics_daemon(rooms, figures, format, buf);
    return error == CAP_OK ? admin_metrics_store(store, &health, format, buf) : error;
}
