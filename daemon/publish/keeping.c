/* Batches of leases. */
#include "daemon/publish/keeping.h"

#include <stdlib.h>
#include <sys/param.h>

#include "daemon/core/container.h"

/* --- Lanes ------------------------------------------------------------------------------------ */

/* The lane of a peer, which is made if there is none; NULL: no memory. */
static struct keeper_lane *lane_of(struct keeping *keeping, uint64_t peer)
{
    struct keeper_lane *lane;
    TAILQ_FOREACH(lane, &keeping->lanes, link)
    {
        if (lane->peer == peer) {
            return lane;
        }
    }
    lane = calloc(1, sizeof(*lane));
    if (lane != NULL) {
        lane->peer = peer;
        STAILQ_INIT(&lane->orders);
        TAILQ_INSERT_TAIL(&keeping->lanes, lane, link);
    }
    return lane;
}

/* Takes an order out of its lane, if it is in one. */
static void leave_lane(struct keeping *keeping, struct keep_order *order)
{
    struct keeper_lane *lane = order->lane;
    if (lane == NULL) {
        return;
    }
    order->lane = NULL;
    STAILQ_REMOVE(&lane->orders, order, keep_order, link);
    if (STAILQ_EMPTY(&lane->orders)) {
        TAILQ_REMOVE(&keeping->lanes, lane, link);
        free(lane);
    }
}

/* --- Batches ---------------------------------------------------------------------------------- */

/* Takes up to `most` leases of an order into the batch. */
static void take(struct keeping *keeping, struct keep_order *order, size_t most)
{
    size_t end = keeping->count + MIN(most, KEEPING_BATCH - keeping->count);
    for (; order->at < order->count; order->at++) {
        if (order->keeps[order->at].keep_s == 0) {
            continue;
        }
        if (keeping->count == end) {
            break; /* so that an order which waits has something left to take */
        }
        keeping->batch[keeping->count] = order->keeps[order->at];
        keeping->places[keeping->count] = (struct keeping_place){order, order->at};
        keeping->count++;
        order->flying++;
    }
}

static void on_kept(struct writer_job *job);

/* Hands the next batch over, unless one is under way or nothing waits. */
static void start(struct keeping *keeping)
{
    struct keeper_lane *lane;
    if (keeping->busy || keeping->closed) {
        return;
    }
    keeping->count = 0;
    while (keeping->count < KEEPING_BATCH && (lane = TAILQ_FIRST(&keeping->lanes)) != NULL) {
        struct keep_order *order = STAILQ_FIRST(&lane->orders);
        TAILQ_REMOVE(&keeping->lanes, lane, link);
        TAILQ_INSERT_TAIL(&keeping->lanes, lane, link);
        take(keeping, order, KEEPING_TURN);
        if (order->at == order->count) {
            leave_lane(keeping, order);
        }
    }
    if (keeping->count > 0) {
        keeping->busy = true;
        keeping->job = (struct writer_job){
            .admission = {.keeps = keeping->batch, .keep_count = keeping->count},
            .done = on_kept,
        };
        writer_submit(keeping->outlet, &keeping->job);
    }
}

/* An order goes no further than what the writer has of it. */
static void end(struct keeping *keeping, struct keep_order *order, enum cap_error error)
{
    order->error = error;
    order->at = order->count;
    leave_lane(keeping, order);
}

/* One result. */
static void settle(struct keeping *keeping, size_t i, enum cap_error error)
{
    struct keep_order *order = keeping->places[i].order;
    if (order == NULL) {
        return;
    }
    order->flying--;
    if (error == CAP_OK) {
        order->keeps[keeping->places[i].index] = keeping->batch[i];
    } else {
        end(keeping, order, error);
    }
    if (order->flying == 0 && order->at == order->count) {
        order->done(order);
    }
}

static void on_kept(struct writer_job *job)
{
    struct keeping *keeping = CONTAINER_OF(job, struct keeping, job);
    for (size_t i = 0; i < keeping->count; i++) {
        settle(keeping, i, job->admission.error);
    }
    keeping->busy = false;
    start(keeping);
}

/* --- The keeper ------------------------------------------------------------------------------- */

static enum cap_error give(struct keeper *keeper, struct keep_order *order)
{
    struct keeping *keeping = CONTAINER_OF(keeper, struct keeping, keeper);
    order->lane = lane_of(keeping, order->peer);
    if (order->lane == NULL) {
        return CAP_E_NO_MEMORY;
    }
    order->error = CAP_OK;
    order->at = order->flying = 0;
    STAILQ_INSERT_TAIL(&order->lane->orders, order, link);
    start(keeping);
    return CAP_OK;
}

static void withdraw(struct keeper *keeper, struct keep_order *order)
{
    struct keeping *keeping = CONTAINER_OF(keeper, struct keeping, keeper);
    leave_lane(keeping, order);
    for (size_t i = 0; i < keeping->count; i++) {
        if (keeping->places[i].order == order) {
            keeping->places[i].order = NULL;
        }
    }
}

void keeping_init(struct keeping *keeping, struct writer_outlet *outlet)
{
    *keeping = (struct keeping){
        .keeper = {.give = give, .withdraw = withdraw},
        .outlet = outlet,
    };
    TAILQ_INIT(&keeping->lanes);
}

void keeping_close(struct keeping *keeping)
{
    struct keeper_lane *lane;
    keeping->closed = true;
    while (keeping->outlet != NULL && (lane = TAILQ_FIRST(&keeping->lanes)) != NULL) {
        struct keep_order *order = STAILQ_FIRST(&lane->orders);
        end(keeping, order, CAP_E_CANCELLED);
        if (order->flying == 0) {
            order->done(order);
        }
    }
}
