/* From the writer's thread: into the log for the rooms, and straight to the copies. */
#include "daemon/serve/watch.h"

#include "daemon/serve/copies.h"

static void on_gone(void *ctx, const struct cap_hash *hash, enum cap_gone_cause cause)
{
    struct serve_set *set = ctx;
    (void)cause;
    gone_tell(&set->gone, hash);
    if (set->copies != NULL) {
        copies_drop(set->copies, hash);
    }
}

void serve_watch(struct serve_set *set, struct cap_store *store)
{
    const struct cap_store_watch watch = {.gone = on_gone, .ctx = set};
    cap_store_watch(store, &watch);
}
