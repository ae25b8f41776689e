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

/* A list's root, a Key's too, whatever its length: it has the depth of its limit, some 30 levels.
 */
#define CAP_WORK_LIST (32u * CAP_WORK_HASH)

struct cap_work {
    /*
     * So many more bytes have been hashed, beside those read from a source. False: stop; then the
     * function that was working fails with CAP_E_CANCELLED. It may block. Called in the thread that
     * works, after at most some 256 KiB, and often after much less: it must be cheap.
     */
    bool (*go_on)(void *ctx, uint64_t bytes);
    void *ctx;
};

/* Says it to `work`, if there is anyone to tell. */
static inline bool cap_work_done(const struct cap_work *work, uint64_t bytes)
{
    return work == NULL || work->go_on(work->ctx, bytes);
}

#endif
