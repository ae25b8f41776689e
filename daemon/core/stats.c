/* Rows of the figures and their histograms. */
#include "daemon/core/stats.h"

#include <string.h>

#define ROWS_COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

const struct stats_row *stats_counter_rows(size_t *ret_count)
{
#define ROW(field, series, help) {#field, series, help, offsetof(struct stats, field)},
    static const struct stats_row rows[] = {STATS_COUNTERS(ROW)};
#undef ROW
    *ret_count = ROWS_COUNT(rows);
    return rows;
}

const struct stats_row *stats_gauge_rows(size_t *ret_count)
{
#define ROW(field, series, help) {#field, series, help, offsetof(struct gauges, field)},
    static const struct stats_row rows[] = {STATS_GAUGES(ROW)};
#undef ROW
    *ret_count = ROWS_COUNT(rows);
    return rows;
}

const struct stats_row *stats_histogram_rows(size_t *ret_count)
{
#define ROW(field, series, help) {#field, series, help, offsetof(struct stats, field)},
    static const struct stats_row rows[] = {STATS_HISTOGRAMS(ROW)};
#undef ROW
    *ret_count = ROWS_COUNT(rows);
    return rows;
}

bool stats_in_seconds(const struct stats_row *row)
{
    static const char ending[] = "_seconds";
    size_t len = strlen(row->series);
    return len >= sizeof(ending) && strcmp(row->series + len - (sizeof(ending) - 1), ending) == 0;
}

void histogram_merge(struct histogram *sum, const struct histogram *other)
{
    sum->count += other->count;
    sum->sum += other->sum;
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        sum->buckets[i] += other->buckets[i];
    }
}

void stats_add(struct stats *sum, const struct stats *other)
{
#define ADD(field, series, help) sum->field += other->field;
    STATS_COUNTERS(ADD)
#undef ADD
#define ADD(field, series, help) histogram_merge(&sum->field, &other->field);
    STATS_HISTOGRAMS(ADD)
#undef ADD
    histogram_merge(&sum->commit_admissions, &other->commit_admissions);
    if (other->stall_max_us > sum->stall_max_us) {
        sum->stall_max_us = other->stall_max_us;
    }
    sum->now.connections += other->now.connections;
    sum->now.requests += other->now.requests;
    sum->now.read_jobs += other->now.read_jobs;
    sum->now.record_bytes += other->now.record_bytes;
    sum->now.body_bytes += other->now.body_bytes;
    for (unsigned i = 0; i < STATS_TYPES; i++) {
        sum->requests[i] += other->requests[i];
    }
    for (unsigned i = 0; i < STATS_ERROR_CODES; i++) {
        sum->errors[i] += other->errors[i];
    }
}

uint64_t histogram_bound(unsigned index)
{
    if (index >= STATS_BUCKETS - 1) {
        return UINT64_MAX;
    }
    return UINT64_C(4) << (2 * index);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    unsigned index = 0;
    while (value > histogram_bound(index)) {
        index++;
    }
    histogram->buckets[index]++;
    histogram->count++;
    histogram->sum += value;
}
