/*
 * Caps of a daemon in an order in which they can be published elsewhere: what a cap refers to comes
 * before it.
 *
 * Memory: a batch of bodies, or one that is larger; the references of the Images on the way down
 * from one that was asked for; and what is known of caps that could not be had.
 */
#ifndef CLIENT_CAPCTL_WALK_H
#define CLIENT_CAPCTL_WALK_H

#include "client/capctl/seen.h"

#include "client/capctl/cli.h"

#define CLI_WALK_BATCH 256u /* most caps that are asked for together */

struct cli_walk {
    struct cli *cli;
    /* Says which caps need not come (any more). False after saying what is wrong. */
    bool (*known)(void *ctx, const struct capstore_hash *hashes, size_t count, bool *ret_known);
    /* Takes over a cap all of whose references are known. False after saying what is wrong. */
    bool (*take)(void *ctx, struct capstore_cap *cap);
    void *ctx;

    /* The walk's own. */
    const char *address;
    struct capstore *many;  /* for batches of caps that are not large */
    struct capstore *large; /* for one cap of any size */
    struct cli_seen left;   /* could not be had, or need one that could not */
    uint64_t left_count;
    struct capstore_hash *stack; /* Images that wait for what they need */
    size_t depth;
    size_t capacity;
};

/* Connects to the daemon at `address`; `known`, `take` and `ctx` are set. False after saying what
 * is wrong. */
bool cli_walk_open(struct cli_walk *walk, const char *address);

/*
 * Visits caps, at most CLI_WALK_BATCH, and before them what they need, except what is known. A cap
 * that is damaged or not there is left out, with those that need it, and said on the standard
 * error; if it is `optional` and was not there itself, that does not count. False after saying what
 * is wrong.
 */
bool cli_walk_visit(struct cli_walk *walk, const struct capstore_hash *hashes, size_t count,
                    bool optional);

/* Releases it, and closes the connections. */
void cli_walk_close(struct cli_walk *walk);

#endif
