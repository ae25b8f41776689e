/* Quarantine in the memory engine, whose bytes are never damaged but by a test's word. */
#include "tests/support/memory.h"

enum cap_error memory_quarantine(struct cap_store *base, const struct cap_hash *hash)
{
    struct memory_cap *cap = memory_search(memory_of(base), hash);
    if (cap == NULL) {
        return CAP_E_NOT_FOUND;
    }
    enum cap_error error = memory_try_commit(memory_of(base));
    if (error == CAP_OK) {
        atomic_store(&cap->quarantined, true);
    }
    return error;
}

/* There is nothing to find; but a scrub of many caps takes a while. */
enum cap_error memory_scrub(struct cap_store *base, bool repair,
                            const struct cap_scrub_watch *watch,
                            struct cap_check_outcome *ret_outcome)
{
    struct cap_check_progress progress = {.caps_total = memory_of(base)->visible};
    (void)repair;
    (void)ret_outcome;
    while (progress.caps < progress.caps_total) {
        if (watch->pace(watch->ctx, 1) != CAP_SCRUB_GO) {
            return CAP_E_CANCELLED;
        }
        progress.caps++;
        if (watch->progress != NULL) {
            watch->progress(watch->ctx, &progress);
        }
    }
    return CAP_OK;
}

enum cap_error memory_scrub_state(struct cap_read *base, struct cap_scrub_state *ret_state)
{
    (void)base;
    *ret_state = (struct cap_scrub_state){0};
    return CAP_OK;
}
