/* From the writer's thread: into the log for the rooms, straight to the copies, and an event. */
#include "daemon/serve/watch.h"

#include "daemon/serve/copies.h"

static void on_gone(void *ctx, const struct cap_hash *hash, enum cap_gone_cause cause)
{
    static const enum event_kind kinds[] = {
        [CAP_GONE_COLLECTED] = EVENT_COLLECTED,
        [CAP_GONE_DELETED] = EVENT_DELETED,
        [CAP_GONE_FORBIDDEN] = EVENT_FORBIDDEN,
        [CAP_GONE_QUARANTINED] = EVENT_QUARANTINED,
    };
    struct serve_set *set = ctx;
    gone_tell(&set->gone, hash);
    if (set->copies != NULL) {
        copies_drop(set->copies, hash);
    }
    events_emit(set->events, kinds[cause], hash, "%s",
                cause == CAP_GONE_QUARANTINED ? "its bytes are damaged; publish it again" : "");
}

static void on_healed(void *ctx, const struct cap_hash *hash)
{
    struct serve_set *set = ctx;
    events_emit(set->events, EVENT_HEALED, hash, "published again");
}

void serve_watch(struct serve_set *set, struct context *context)
{
    set->events = &context->events;
    const struct cap_store_watch watch = {.gone = on_gone, .healed = on_healed, .ctx = set};
    cap_store_watch(context->store, &watch);
}
