/*
 * What is to be brought from above: each cap once, however many ask for it.
 *
 * A *flight* is a cap that somebody waits for. It is queued in the *lane* of the peer that asked
 * first, taken by a thread, and lands with an outcome, which all who wait for it get. Lanes take
 * turns, and no peer has more than half of the threads.
 *
 * What hostile peers can cost the daemon above is bounded: a flight takes a token of its peer,
 * which it gets back if the cap was there. A peer has FLIGHTS_BURST tokens, and gains as many per
 * second as it is given (`rate`); without one its flights wait. An outcome that is not CAP_OK is
 * remembered for some seconds, in a table of fixed size, and is the answer meanwhile.
 *
 * Any thread.
 */
#ifndef DAEMON_UPSTREAM_FLIGHTS_H
#define DAEMON_UPSTREAM_FLIGHTS_H

#include <sys/queue.h>

#include "daemon/core/config.h"
#include "daemon/core/env.h"
#include "daemon/core/fetcher.h"

#define FLIGHTS_MAX      32768u /* four GET_MANY of the most hashes */
#define FLIGHTS_PEER_MAX (FLIGHTS_MAX / 4)
#define FLIGHTS_LANES    1024u /* peers, as many as may be connected by default */
#define FLIGHTS_BURST    256u /* absences that a peer may cause at once: a listing of a directory */
#define FLIGHTS_BATCH    64u  /* that a thread takes at a time: of one peer */
#define FLIGHTS_KEPT     16384u /* outcomes that are remembered: of two GET_MANY of the most hashes */
#define FLIGHTS_KEEP_US  UINT64_C(5000000) /* for so long: a publisher above does not wait long */

/* The same of CAP_E_UPSTREAM_AWAY: it may be back soon. */
#define FLIGHTS_AWAY_US UINT64_C(1000000)

LIST_HEAD(flight_waits, flight_wait);

struct flight_lane;

/* One cap that is to be brought. From flights_take to flights_land its thread may read it. */
struct flight {
    struct cap_hash hash;

    /* Under the lock. */
    struct flight_lane *lane;
    bool taken;
    struct flight_waits waits;
    LIST_ENTRY(flight) find;
    TAILQ_ENTRY(flight) link; /* of its lane's, while it is not taken */
};

struct flights;

struct flights_figures {
    uint64_t flights; /* queued and taken */
    uint64_t taken;
    uint64_t landed;   /* since start: the cap came */
    uint64_t absent;   /* it is not there either */
    uint64_t failed;   /* anything else */
    uint64_t recalled; /* asked for, and answered from what is remembered */
};

/*
 * An empty table for `threads` that take from it; `rate`, tokens per second, may change while it is
 * in use. Both arguments outlive it. CAP_E_NO_MEMORY.
 */
enum cap_error flights_new(const struct env *env, config_number *rate, size_t threads,
                           struct flights **ret_flights);

/* NULL is fine. Nothing is queued or taken any more. */
void flights_free(struct flights *flights);

/* As fetcher.h says of want, withdraw and recall. To recall, what nothing is remembered of is
 * CAP_E_UPSTREAM_AWAY: it has not come in time. */
enum cap_error flights_want(struct flights *flights, struct fetch_order *order);
bool flights_withdraw(struct flights *flights, struct fetch_order *order);
enum cap_error flights_recall(struct flights *flights, const struct cap_hash *hash);

/*
 * Waits until there are flights for this thread and takes up to FLIGHTS_BATCH of them, all of one
 * peer; returns how many. 0: flights_stop was called.
 */
size_t flights_take(struct flights *flights, struct flight *ret_batch[FLIGHTS_BATCH]);

/* The outcome of a flight that was taken, and the last of it. */
void flights_land(struct flights *flights, struct flight *flight, enum cap_error error);

/* The thread is done with what it took. `lane` is that of the flights. */
void flights_return(struct flights *flights, struct flight_lane *lane);

/* Ends every order that waits with CAP_E_DRAINING; no order and no flight is taken any more. */
void flights_stop(struct flights *flights);

/* The figures now. */
void flights_figures(struct flights *flights, struct flights_figures *ret_figures);

#endif
