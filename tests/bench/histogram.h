/*
 * Latencies in a log-linear histogram: 64 steps in each power of two, so that a value is kept to
 * 1.6 %, in a fixed 30 KiB. The longest is kept exactly.
 */
#ifndef TESTS_BENCH_HISTOGRAM_H
#define TESTS_BENCH_HISTOGRAM_H

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

/* The least value that `share` (0 to 1) of all values do not exceed, rounded up to its step. */
uint64_t histogram_at(const struct histogram *histogram, double share);

#endif
