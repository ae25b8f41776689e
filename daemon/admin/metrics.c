/*
 * The exposition. Families come from the rows of stats.h and config.h and from the lists below, so
 * that a figure which is counted is also shown.
 */
#include "daemon/admin/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/admin/text.h"
#include "daemon/admin/value.h"
#include "proto/frame.h"

#define TOTAL "_total"

static uint64_t field_at(const void *base, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)base + offset, sizeof(value));
    return value;
}

static void family(struct admin_text *text, const char *name, const char *type, const char *help)
{
    admin_print(text, "# TYPE %s %s\n# HELP %s %s.\n", name, type, name, help);
}

static void gauge(struct admin_text *text, const char *name, const char *help, uint64_t value)
{
    family(text, name, "gauge", help);
    admin_print(text, "%s %" PRIu64 "\n", name, value);
}

/* A counter's family is its series without the ending. */
static void counter(struct admin_text *text, const char *series, const char *help, uint64_t value)
{
    char name[96];
    size_t len = strlen(series) - strlen(TOTAL);
    snprintf(name, sizeof(name), "%.*s", (int)len, series);
    family(text, name, "counter", help);
    admin_print(text, "%s %" PRIu64 "\n", series, value);
}

/* Buckets are cumulative, their bounds inclusive, the last one is +Inf. */
static void histogram(struct admin_text *text, const char *name, const char *help,
                      const struct histogram *histogram)
{
    family(text, name, "histogram", help);
    uint64_t sum = 0;
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        sum += histogram->buckets[i];
        if (i + 1 < STATS_BUCKETS) {
            admin_print(text, "%s_bucket{le=\"%" PRIu64 ".0\"} %" PRIu64 "\n", name,
                        histogram_bound(i), sum);
        }
    }
    admin_print(text, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_count %" PRIu64 "\n", name, sum, name,
                histogram->count);
    admin_print(text, "%s_sum %" PRIu64 "\n", name, histogram->sum);
}

static void print_rows(struct admin_text *text, const struct admin_rooms *rooms)
{
    size_t count = 0;
    struct gauges gauges = {0};
    admin_gauges(rooms, &gauges);
    const struct stats_row *rows = stats_counter_rows(&count);
    for (size_t i = 0; i < count; i++) {
        counter(text, rows[i].series, rows[i].help, field_at(&rooms->shard->stats, rows[i].offset));
    }
    rows = stats_gauge_rows(&count);
    for (size_t i = 0; i < count; i++) {
        gauge(text, rows[i].series, rows[i].help, field_at(&gauges, rows[i].offset));
    }
    rows = stats_histogram_rows(&count);
    for (size_t i = 0; i < count; i++) {
        struct histogram copy;
        memcpy(&copy, (const char *)&rooms->shard->stats + rows[i].offset, sizeof(copy));
        histogram(text, rows[i].series, rows[i].help, &copy);
    }
    histogram(text, "capstore_commit_admissions", "Admissions that shared a commit",
              &rooms->shard->stats.commit_admissions);
}

static void print_requests(struct admin_text *text, const struct stats *stats)
{
    static const uint8_t types[] = {PROTO_HELLO,    PROTO_HAS,       PROTO_GET,   PROTO_STAT,
                                    PROTO_PUT_DATA, PROTO_PUT_IMAGE, PROTO_CANCEL};
    family(text, "capstore_requests", "counter", "Requests by type");
    for (size_t i = 0; i < sizeof(types); i++) {
        admin_print(text, "capstore_requests_total{type=\"%s\"} %" PRIu64 "\n",
                    proto_type_name(types[i]), stats->requests[types[i]]);
    }
}

static void print_errors(struct admin_text *text, const struct stats *stats)
{
    family(text, "capstore_errors", "counter", "Refusals by error");
    for (unsigned code = 1; code < STATS_ERROR_CODES; code++) {
        enum cap_error error = cap_error_from_code(code);
        if (-(int)error != (int)code) {
            continue;
        }
        admin_print(text, "capstore_errors_total{reason=\"%s\"} %" PRIu64 "\n",
                    cap_error_name(error), stats->errors[code]);
    }
}

static void print_settings(struct admin_text *text, const struct config *config)
{
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    family(text, "capstore_setting", "gauge", "Limits and other numbers of the configuration");
    for (size_t i = 0; i < count; i++) {
        char value[CONFIG_VALUE_SIZE];
        enum config_type type = options[i].type;
        if ((type == CONFIG_SIZE || type == CONFIG_COUNT || type == CONFIG_MS) &&
            config_value(config, &options[i], 0, value, sizeof(value))) {
            admin_print(text, "capstore_setting{option=\"%s\"} %s\n", options[i].name, value);
        }
    }
}

enum cap_error admin_metrics_daemon(const struct admin_rooms *rooms,
                                    const struct admin_figures *figures, struct cap_buf *buf)
{
    struct admin_text text = {.buf = buf};
    family(&text, "capstore_build", "info", "The version that runs");
    admin_print(&text, "capstore_build_info{version=\"%s\"} 1\n", CAPSTORE_VERSION);
    print_rows(&text, rooms);
    print_requests(&text, &rooms->shard->stats);
    print_errors(&text, &rooms->shard->stats);
    gauge(&text, "capstore_admin_connections", "Open connections to the admin socket",
          figures->connections);
    gauge(&text, "capstore_admin_connections_limit", "Limit of these", figures->connections_limit);
    counter(&text, "capstore_admin_calls_total", "Calls of admin methods", figures->calls);
    counter(&text, "capstore_admin_failures_total", "Calls that were answered with an error",
            figures->failures);
    print_settings(&text, &rooms->context->config);
    return text.error;
}

/* --- The store -------------------------------------------------------------------------------- */

static void print_by_kind(struct admin_text *text, const char *name, const char *help,
                          const uint64_t values[CAP_STORE_KINDS])
{
    family(text, name, "gauge", help);
    for (int kind = CAP_KIND_IMAGE; kind <= CAP_KIND_DATA; kind++) {
        admin_print(text, "%s{kind=\"%s\"} %" PRIu64 "\n", name,
                    admin_kind_name((enum cap_kind)kind), values[kind]);
    }
}

static enum cap_error read_counts(struct cap_store *store, struct cap_counts *ret_counts)
{
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = cap_store_counts(read, ret_counts);
    }
    cap_store_read_end(read);
    return error;
}

enum cap_error admin_metrics_store(struct cap_store *store, struct cap_buf *buf)
{
    struct admin_text text = {.buf = buf};
    struct cap_counts counts;
    struct cap_space space;
    enum cap_error error = read_counts(store, &counts);
    if (error == CAP_OK) {
        error = cap_store_space(store, &space);
    }
    if (error != CAP_OK) {
        return error;
    }
    print_by_kind(&text, "capstore_caps", "Caps in the store", counts.caps);
    print_by_kind(&text, "capstore_body_bytes", "Bytes of served bodies", counts.body_bytes);
    gauge(&text, "capstore_refs", "References between caps", counts.refs);
    gauge(&text, "capstore_store_file_bytes", "Physical size of the store's file",
          space.file_bytes);
    gauge(&text, "capstore_store_file_free_bytes", "Of these, in pages free for reuse",
          space.free_bytes);
    gauge(&text, "capstore_store_map_limit_bytes", "Size that the file may grow to",
          space.map_bytes);
    gauge(&text, "capstore_disk_free_bytes", "Free for the store on its file system",
          space.disk_free);
    gauge(&text, "capstore_store_readers", "Open read snapshots", space.readers);
    gauge(&text, "capstore_store_readers_limit", "Limit of these", space.max_readers);
    admin_print(&text, "# EOF\n");
    return text.error;
}
