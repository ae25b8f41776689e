/*
 * What the writer does with one job inside of a transaction: resolve its slots, put its caps.
 * Writer thread.
 */
#ifndef DAEMON_ADMIT_H
#define DAEMON_ADMIT_H

#include "daemon/writer.h"

/* What a write transaction may still take. */
struct admit_budget {
    size_t puts;
    uint64_t bytes; /* of bodies that were not staged */
};

/*
 * Takes from the budget what the job's next caps need; false when not even the first fits. An
 * untouched budget fits any cap.
 */
bool admit_fits(const struct writer_job *job, struct admit_budget *budget);

/*
 * Resolves the job's slots when it begins and when it ends, then puts as many of its caps as the
 * budget allows. *ret_verdict is the job's own refusal (CAP_E_UNRESOLVED_SLOT with its detail,
 * CAP_E_CANCELLED, CAP_E_MEMORY_LIMIT), of which nothing was put. Returns an error when the
 * transaction must be aborted.
 */
enum cap_error admit_put(struct cap_write *write, struct ledger *ledger, struct writer_job *job,
                         struct admit_budget *budget, enum cap_error *ret_verdict);

/* Resolves the job's slots in a snapshot. The job's verdict, or the store's error. */
enum cap_error admit_resolve_read(struct cap_store *store, struct ledger *ledger,
                                  struct writer_job *job);

/* Judges a job in a snapshot and says of each cap whether it would be new. Stores nothing. */
enum cap_error admit_dry_run(struct cap_store *store, struct ledger *ledger,
                             struct writer_job *job);

#endif
