/*
 * Who brings caps that are not here from the daemon above, for those who only read from the store.
 * Any thread.
 */
#ifndef DAEMON_CORE_FETCHER_H
#define DAEMON_CORE_FETCHER_H

#include "lib/cap/bytes.h"

#define FETCHER_REASON  256u
#define FETCHER_FETCHES 8u /* at a time, at most */

struct flight_wait;

/*
 * Caps that a peer asks for and that are not here, at least one. The owner fills in what stands in
 * front, and keeps it and the hashes where they are until `done` or withdrawn.
 */
struct fetch_order {
    uint64_t peer; /* its number in the ledger */
    const struct cap_hash *hashes;
    size_t count;
    /* Once, on any thread, perhaps inside `want`: it passes the word on, and asks the fetcher for
     * nothing. */
    void (*done)(struct fetch_order *order);

    /*
     * Result: CAP_OK, all of them are here, each with all that it refers to; CAP_E_NOT_FOUND, some
     * are not there either, and nothing else is wrong; or what is wrong with one of them.
     */
    enum cap_error error;

    /* The fetcher's own. */
    size_t left; /* hashes without an outcome */
    struct flight_wait *waits;
    uint64_t wanted_us; /* monotonic */
    uint64_t heard;     /* how much had come from above by then */
};

/* A fetch under way: some caps that were asked for, with all that they refer to. */
struct fetcher_fetch {
    struct cap_hash hash; /* of the first */
    uint64_t asked;       /* how many */
    uint64_t caps;        /* that are here by now */
    uint64_t bytes;       /* of bodies that have come */
    uint64_t since_us;    /* real time */
    uint64_t took_us;     /* so far */
};

/* What operators are told of it. */
struct fetcher_figures {
    /* "unused": nothing was asked yet; "waiting": the first fetch is under way, and nothing has
     * come of it; "up"; "away"; "broken": what it sent last was wrong. */
    const char *state;
    bool is_away; /* each for its own state */
    bool is_broken;
    uint64_t since_us;           /* real time: of the state; 0: "unused" */
    char reason[FETCHER_REASON]; /* why it is not up; may be empty */
    uint64_t waiting;            /* caps */
    uint64_t under_way;
    uint64_t absent;     /* since start: not there either */
    uint64_t failed;     /* could not be brought */
    uint64_t recalled;   /* asked for again, and answered from what is remembered */
    uint64_t caps;       /* brought */
    uint64_t bytes;      /* of their bodies */
    uint64_t file_bytes; /* in files of the spool now */
    size_t fetch_count;
    struct fetcher_fetch fetches[FETCHER_FETCHES];
};

struct fetcher {
    /*
     * CAP_E_DRAINING, CAP_E_NO_MEMORY, CAP_E_TOO_MANY_REQUESTS (too much waits already, of this
     * peer or in all): the order is not taken.
     */
    enum cap_error (*want)(struct fetcher *fetcher, struct fetch_order *order);
    /*
     * Nobody waits for it any more. True: `done` will not be called. False: it has been. What is
     * under way goes on.
     */
    bool (*withdraw)(struct fetcher *fetcher, struct fetch_order *order);
    /*
     * As withdraw, of an order that has waited for `upstream-timeout`. If it waited for the daemon
     * above, not for its turn, and nothing has come from there meanwhile, that is away from now on,
     * until something comes.
     */
    bool (*give_up)(struct fetcher *fetcher, struct fetch_order *order);
    /*
     * Why a cap that was ordered a moment ago is not here: CAP_E_NOT_FOUND, what kept it from being
     * brought, or CAP_E_UPSTREAM_AWAY, it has not come in time. It asks nobody.
     */
    enum cap_error (*recall)(struct fetcher *fetcher, const struct cap_hash *hash);
    /* The figures now. */
    void (*figures)(struct fetcher *fetcher, struct fetcher_figures *ret_figures);
};

#endif
