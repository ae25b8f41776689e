/*
 * What the writer does with one job inside of a transaction: resolve its slots, put its caps.
 * Writer thread.
 */
#ifndef DAEMON_PUBLISH_ADMIT_H
#define DAEMON_PUBLISH_ADMIT_H

#include "daemon/publish/writer.h"

/* What the jobs of a write transaction sum up to. */
struct admit_budget {
    size_t puts;
    uint64_t bytes; /* of bodies that were not staged */
};

/*
 * Adds a job to the budget; false when it does not fit beside those that are there. Alone, every
 * job fits.
 */
bool admit_fits(const struct writer_job *job, struct admit_budget *budget);

/*
 * Resolves the job's slots, then puts its caps. *ret_verdict is the job's own refusal
 * (CAP_E_UNRESOLVED_SLOT with its detail, CAP_E_CANCELLED, CAP_E_MEMORY_LIMIT), of which nothing
 * was put. Returns an error when the transaction must be aborted.
 */
enum cap_error admit_put(struct cap_write *write, struct ledger *ledger, struct writer_job *job,
                         enum cap_error *ret_verdict);

/* Resolves the job's slots in a snapshot. The job's verdict, or the store's error. */
enum cap_error admit_resolve_read(struct cap_store *store, struct ledger *ledger,
                                  struct writer_job *job);

/* Judges a job in a snapshot and says of each cap whether it would be new. Stores nothing. */
enum cap_error admit_dry_run(struct cap_store *store, struct ledger *ledger,
                             struct writer_job *job);

#endif
