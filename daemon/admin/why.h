/* Why a cap is absent or kept, for methods that have to say so. */
#ifndef DAEMON_ADMIN_WHY_H
#define DAEMON_ADMIN_WHY_H

#include "daemon/admin/methods.h"

/* CAP_E_STILL_NEEDED in call->error, whose hint and needed_by say what keeps the cap; returns NULL.
 * Any thread. */
json_t *admin_fail_needed(struct admin_call *call, const struct cap_hash *hash);

/* Hashes of Images that refer to a cap, the first of them: what its absence degrades. A new array,
 * or NULL. Any thread. */
json_t *admin_degraded_by(struct cap_store *store, const struct cap_hash *hash);

#endif
