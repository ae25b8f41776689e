/*
 * Latencies in a log-linear histogram: 64 steps in each power of two, so that a value is kept to
 * 1.6 %, in a fixed 30 KiB. The longest is kept exactly.
 */
#ifndef CLIENT_CAPCTL_HISTOGRAM_H
#define CLIENT_CAPCTL_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS   64u
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * 59u)

/* Zero-initialised it is empty. Values are nanoseconds. */
struct histogram {
    uint64_t count;
    uint64_t longest;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Adds one value. */
void histogram_add(struct histogram *histogram, uint64_t value);

/* Adds the values of another histogram. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);

/* How many values are below `end`, to a step. */
uint64_t histogram_below(const struct histogram *histogram, uint64_t end);

/* The least value that `share` (0 to 1) of all values do not exceed, rounded up to its step. */
uint64_t histogram_at(const struct histogram *histogram, double share);

#endif
