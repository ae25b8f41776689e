#include "client/capctl/histogram.h"

/* Values below HISTOGRAM_STEPS have a bucket each; above, the six bits after the first choose. */
static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS) {
        return (unsigned)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - 6u;
    return shift * HISTOGRAM_STEPS + (unsigned)(value >> shift);
}

static uint64_t end_of(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS) {
        return bucket;
    }
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    return (((uint64_t)bucket - (uint64_t)shift * HISTOGRAM_STEPS + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->buckets[bucket_of(value)]++;
    if (value > histogram->longest) {
        histogram->longest = value;
    }
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    histogram->count += other->count;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        histogram->buckets[i] += other->buckets[i];
    }
    if (other->longest > histogram->longest) {
        histogram->longest = other->longest;
    }
}

uint64_t histogram_below(const struct histogram *histogram, uint64_t end)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < bucket_of(end); i++) {
        sum += histogram->buckets[i];
    }
    return sum;
}

uint64_t histogram_at(const struct histogram *histogram, double share)
{
    uint64_t rank = (uint64_t)(share * (double)histogram->count), seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > rank) {
            uint64_t end = end_of(i);
            return end < histogram->longest ? end : histogram->longest;
        }
    }
    return histogram->longest;
}
