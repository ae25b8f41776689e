/*
 * Work that others wait for. What hashes an Image's structure or the tree of a Data cap can take
 * seconds between two reads of its source: it says in small steps what it has hashed, and stops
 * when it is told to.
 */
#ifndef LIB_CAP_WORK_H
#define LIB_CAP_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that one hash counts as: content of n bytes takes about n / 32 hashes. */
#define CAP_WORK_HASH 32u

/* The root of a list or Key of any length: its limit makes it some 30 levels deep. */
#define CAP_WORK_LIST (32u * CAP_WORK_HASH)

struct cap_work {
    /*
     * Tells that `bytes` more have been hashed, not counting those read from a source. Returns
     * false to stop the work, which then fails with CAP_E_CANCELLED. May block. Called in the
     * thread that works, at least every 256 KiB and often sooner, so it must be cheap.
     */
    bool (*go_on)(void *ctx, uint64_t bytes);
    void *ctx;
};

/* Tells `work`, unless it is NULL. */
static inline bool cap_work_done(const struct cap_work *work, uint64_t bytes)
{
    return work == NULL || work->go_on(work->ctx, bytes);
}

#endif
