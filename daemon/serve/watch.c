/*
 * What is gone goes from the writer's thread into the log for the rooms, straight to the copies,
 * and becomes an event. Damage becomes a fault of the daemon when it is found; the event follows
 * when the writer has written it down.
 */
#include "daemon/serve/watch.h"

#include <stdio.h>

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
    events_emit(&set->context->events, kinds[cause], hash, "%s",
                cause == CAP_GONE_QUARANTINED ? "its bytes are damaged; publish it again" : "");
}

static void on_healed(void *ctx, const struct cap_hash *hash)
{
    struct serve_set *set = ctx;
    events_emit(&set->context->events, EVENT_HEALED, hash, "published again");
}

static void on_damaged(void *ctx, const struct cap_hash *hash)
{
    const struct serve_set *set = ctx;
    char hex[CAP_HASH_HEX_SIZE];
    char message[SERVE_MESSAGE_SIZE];
    cap_hash_format(hash, hex);
    snprintf(message, sizeof(message), "%s: %s", hex, cap_error_text(CAP_E_QUARANTINED));
    context_store_fault(set->context, CAP_E_CORRUPT, message);
}

void serve_watch(struct serve_set *set, struct context *context)
{
    set->context = context;
    const struct cap_store_watch watch = {
        .gone = on_gone,
        .healed = on_healed,
        .damaged = on_damaged,
        .ctx = set,
    };
    cap_store_watch(context->store, &watch);
}
