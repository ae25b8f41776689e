/*
 * Publishes caps that were fetched or read, many at a time, each after what it refers to. Memory:
 * the bodies in flight, some tens of MiB or one that is larger.
 */
#ifndef CLIENT_CAPCTL_SENDER_H
#define CLIENT_CAPCTL_SENDER_H

#include <capstore/async.h>

#include "client/capctl/cli.h"

#define CLI_SENDER_MAX   32u                  /* caps in flight */
#define CLI_SENDER_BYTES (UINT64_C(32) << 20) /* of their bodies, unless one has more */

/*
 * Longer ones go alone, and on when they are cut off. Each then costs a round trip in which nothing
 * is sent: 96 MiB to a daemon 50 ms away took 1.3 s when none went alone, 1.8 s as caps of 6 MiB
 * that did, and would have taken 3.5 s as caps of 2 MiB. To one beside it there was no difference.
 */
#define CLI_SENDER_ALONE (UINT64_C(4) << 20)

/* A cap on its way. */
struct cli_sending {
    struct cli_sender *sender;
    struct capstore_cap *cap; /* NULL: free */
    struct capstore_bytes body;
};

struct cli_sender {
    struct cli *cli;
    const char *address;
    struct capstore *to;
    struct cli_sending sending[CLI_SENDER_MAX];
    size_t count;
    uint64_t bytes;
    bool failed; /* which has been said */

    uint64_t sent;       /* caps that were new there */
    uint64_t present;    /* caps that somebody else had published meanwhile */
    uint64_t sent_bytes; /* of bodies that were acknowledged */
};

/* Connects to the daemon at `address`. It stays where it is. False after saying what is wrong. */
bool cli_sender_open(struct cli *cli, struct cli_sender *sender, const char *address);

/* Publishes a cap, which it takes over; waits where too much is in flight, or what the cap refers
 * to. False after saying what is wrong. */
bool cli_sender_put(struct cli_sender *sender, struct capstore_cap *cap);

/* Waits until all is published. False after saying what is wrong. */
bool cli_sender_drain(struct cli_sender *sender);

/* Which caps are there; of those in flight that is waited for. False after saying what is wrong. */
bool cli_sender_has(struct cli_sender *sender, const struct capstore_hash *hashes, size_t count,
                    bool *ret_there);

/* Closes the connection; what is in flight may be published or not. */
void cli_sender_close(struct cli_sender *sender);

#endif
