/*
 * Who gives leases on a loop, for those who only read from the store. Loop thread.
 */
#ifndef DAEMON_CORE_KEEPER_H
#define DAEMON_CORE_KEEPER_H

#include <sys/queue.h>

#include "lib/store/store.h"

struct keeper_lane;

/*
 * Leases that a peer asks for: those of `keeps`, at least one, whose keep_s is not 0. The owner
 * fills in what stands in front, and keeps it where it is until `done` or withdrawn.
 */
struct keep_order {
    uint64_t peer; /* its number in the ledger */
    struct cap_keep *keeps;
    size_t count;
    void (*done)(struct keep_order *order); /* on the loop, once; never inside `give` */

    enum cap_error error; /* result: CAP_OK, and the results of `keeps` are durable */

    /* The keeper's own. */
    size_t at;     /* of `keeps`: the next that may be taken */
    size_t flying; /* of those that were taken, without a result */
    struct keeper_lane *lane;
    STAILQ_ENTRY(keep_order) link;
};

struct keeper {
    /* CAP_E_NO_MEMORY: the order is not taken. */
    enum cap_error (*give)(struct keeper *keeper, struct keep_order *order);
    /* Nobody waits for it any more: `done` is not called. What was taken may still be given. */
    void (*withdraw)(struct keeper *keeper, struct keep_order *order);
};

#endif
