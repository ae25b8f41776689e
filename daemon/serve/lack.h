/*
 * What is lost: caps that are not here, although Images that are here refer to them. A daemon with
 * another one above fetches them. Waits for the device.
 */
#ifndef DAEMON_SERVE_LACK_H
#define DAEMON_SERVE_LACK_H

#include "daemon/serve/walk.h"

/* Whether nothing in the store is lost or damaged. O(1); false if the store fails. */
bool lack_is_nothing(struct cap_read *read);

/* Whether that is what an error of cap_store_find says: what is damaged counts as absent. */
static inline bool lack_is_absent(enum cap_error error)
{
    return error == CAP_E_NOT_FOUND || error == CAP_E_QUARANTINED;
}

/*
 * Goes on with a walk and appends what is absent to the *count hashes, of which there is room for
 * `room`, looking at no more than `budget` records and references. True: that was all, or all that
 * there is room for, or the walk cannot go on.
 */
bool lack_walk(struct walk *walk, struct cap_read *read, size_t budget, struct cap_hash *hashes,
               size_t room, size_t *count);

#endif
