/*
 * Quotas: what each publisher may have in the store, and bring there within an hour.
 *
 * A publisher is the user at the other end of a Unix socket, as the store keeps it with each cap
 * (the first one owns it). All peers over TCP together are one publisher, the anonymous one: a cap
 * is there for years, and an address is changed at will and shared by others, so a quota by address
 * would bind nobody. Peers over TCP have their shares of what is under way (ledger.h), as all do.
 *
 * What a publisher has is what the store's transactions count; what its uploads may add is held
 * here from before their payload is read until they are over. So several uploads of one publisher
 * cannot exceed a quota together; for a moment after a commit they count twice, and one that comes
 * just then may be refused early. The last hour is counted from the daemon's start.
 *
 * Any thread.
 */
#ifndef DAEMON_PUBLISH_QUOTA_H
#define DAEMON_PUBLISH_QUOTA_H

#include "daemon/core/config.h"
#include "daemon/core/env.h"
#include "daemon/publish/caps.h"
#include "lib/store/store.h"

#define QUOTA_ANONYMOUS UINT32_MAX /* the publisher of all that comes over TCP */

struct quotas;
struct quota_account;

/* What an upload holds; zeroed: nothing. */
struct quota_hold {
    struct quota_account *account;
    uint64_t bytes;
    uint64_t caps;
};

/* One publisher's figures. */
struct quota_row {
    uint32_t uid;
    struct cap_usage used;      /* in the store */
    struct cap_usage under_way; /* held by uploads */
    uint64_t last_hour;         /* bytes that were new, within five minutes more */
};

/* An empty table with the limits of `config`, which outlives it. CAP_E_NO_MEMORY. */
enum cap_error quotas_new(const struct config *config, const struct env *env,
                          struct quotas **ret_quotas);

/* NULL is fine. Nothing is held any more. */
void quotas_free(struct quotas *quotas);

/*
 * Has `hold` be of `bytes` and `caps` for a publisher, whatever it was before. When that is more
 * than it was, it has to fit the quotas: if not, it is as before, and the judgement says which
 * quota, what is needed and what there is. Reads one record of the store where a quota is set.
 * CAP_E_QUOTA_EXCEEDED, CAP_E_NO_MEMORY, or the store's error.
 */
enum cap_error quota_take(struct quotas *quotas, struct cap_store *store, uint32_t uid,
                          struct quota_hold *hold, const struct cap_usage *wanted,
                          struct judgement *ret_judgement);

/* Gives back what is held; `stored` bytes of it are in the store now, as new ones. */
void quota_give(struct quotas *quotas, struct quota_hold *hold, uint64_t stored);

/*
 * Up to `max` publishers (not 0) that have something in the store or here, by uid, from the uid
 * `from` on. Waits for the store.
 */
enum cap_error quota_list(struct quotas *quotas, struct cap_store *store, uint32_t from, size_t max,
                          struct quota_row *ret_rows, size_t *ret_count);

#endif
