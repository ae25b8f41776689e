/*
 * Leases, on their way to the writer.
 *
 * What the peers of a loop ask to keep is gathered into one batch, which the writer gives in a
 * commit that it shares with admissions; while that is under way, what comes in waits for the next.
 * Peers take turns, so that one that asks for many delays another by a batch, and a publisher by a
 * batch in its commit. Loop thread.
 */
#ifndef DAEMON_PUBLISH_KEEPING_H
#define DAEMON_PUBLISH_KEEPING_H

#include "daemon/core/keeper.h"
#include "daemon/publish/writer.h"

/*
 * Leases in a batch: each may dirty a page of its own, and so many pages are CAP_STAGE_STEP, for
 * which an admission may wait.
 */
#define KEEPING_BATCH (CAP_STAGE_STEP / CAP_PAGE_SIZE)
#define KEEPING_TURN  64u /* of these, what a peer has before others have their turn */

/* Orders of one peer that wait. */
struct keeper_lane {
    TAILQ_ENTRY(keeper_lane) link;
    uint64_t peer;
    STAILQ_HEAD(, keep_order) orders;
};

/* Whose lease it is: keeps[index] of `order`, which is NULL when it was withdrawn. */
struct keeping_place {
    struct keep_order *order;
    size_t index;
};

struct keeping {
    struct keeper keeper;
    struct writer_outlet *outlet;
    TAILQ_HEAD(, keeper_lane) lanes; /* in turn */
    struct writer_job job;           /* of the batch */
    bool busy;                       /* the writer has it */
    bool closed;
    size_t count;
    struct cap_keep batch[KEEPING_BATCH];
    struct keeping_place places[KEEPING_BATCH];
};

/* Nothing waits; `outlet`, which may still be opened, outlives it. */
void keeping_init(struct keeping *keeping, struct writer_outlet *outlet);

/*
 * Before the outlet is closed: ends every order with CAP_E_CANCELLED, of which the writer has a
 * part when it comes back. A zeroed one is fine.
 */
void keeping_close(struct keeping *keeping);

#endif
