/*
 * Caps that are gone, for those who remember what they found: told by the writer, taken in by each
 * room on its own loop before it answers anything.
 *
 * The writer tells before cap_store_epoch rises the second time, and a deletion is acknowledged
 * after that. So a room that looks at the epoch before it answers, and takes in what it was told if
 * that has changed, does not answer with a cap whose deletion was acknowledged. What a reader finds
 * is remembered only if the epoch was even before its snapshot began, so that no commit was under
 * way, and is the same still.
 *
 * One log for all rooms; each has its own place in it. It has an end: a room that falls behind by
 * more than that forgets everything.
 */
#ifndef DAEMON_SERVE_GONE_H
#define DAEMON_SERVE_GONE_H

#include <uv.h>

#include "lib/store/store.h"

#define GONE_MAX 65536u /* caps: 2 MiB, of which only what was told takes memory */

struct gone {
    uv_mutex_t lock; /* of the rest */
    struct cap_hash *ring;
    uint64_t count; /* caps told so far: the last ones are in the ring */
};

/* An empty log. CAP_E_NO_MEMORY. A zeroed one may be closed. */
enum cap_error gone_open(struct gone *gone);
void gone_close(struct gone *gone);

/* Tells that a cap is gone. The writer's thread. */
void gone_tell(struct gone *gone, const struct cap_hash *hash);

/*
 * Copies up to `max` (not 0) caps that were told after the first *at ones, and moves *at on. False:
 * some are not in the log any more, and *at is its end. Any thread.
 */
bool gone_take(struct gone *gone, uint64_t *at, struct cap_hash *ret_hashes, size_t max,
               size_t *ret_count);

#endif
