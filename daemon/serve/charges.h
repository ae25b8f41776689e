/*
 * The peers that something is counted to, all of it to each, against their shares of what is
 * mapped. Under a lock of its owner's.
 */
#ifndef DAEMON_SERVE_CHARGES_H
#define DAEMON_SERVE_CHARGES_H

#include <sys/queue.h>

#include "daemon/core/ledger.h"

struct charge;

/* Zeroed: to none. */
struct charges {
    SLIST_HEAD(, charge) list;
};

/* Whether it is counted to this peer. */
bool charges_have(const struct charges *charges, const struct ledger_peer *account);

/*
 * Counts it, of `bytes`, to a peer, unless it is. CAP_E_MEMORY_LIMIT past its share, and `ret_why`
 * says so; CAP_E_NO_MEMORY.
 */
enum cap_error charges_add(struct charges *charges, struct ledger *ledger,
                           struct ledger_peer *account, uint64_t bytes,
                           char ret_why[LEDGER_WHY_SIZE]);

/* Gives all back; `bytes` is what was counted. */
void charges_drop(struct charges *charges, struct ledger *ledger, uint64_t bytes);

#endif
