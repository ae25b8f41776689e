/*
 * The ledger: what peers hold of the daemon, against its limits.
 *
 * Connections, requests in flight, uploads, spool bytes, memory and mapped copies are counted in
 * all and per peer. A peer has a share of each, so that none can lock out the others. Any thread.
 */
#ifndef DAEMON_CORE_LEDGER_H
#define DAEMON_CORE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/config.h"
#include "daemon/core/env.h"
#include "lib/cap/error.h"

struct ledger;

/*
 * One peer's account. It lives while anything is counted in it; giving nothing back does not touch
 * it. Calls that take an account also take NULL: what the daemon itself holds, counted in all only.
 */
struct ledger_peer;

/* A number that is the peer's as long as the ledger lives, with an account or without; 0 for NULL.
 */
uint64_t ledger_peer_id(const struct ledger_peer *peer);

/* What is counted. */
enum ledger_kind {
    LEDGER_CONNECTIONS,
    LEDGER_REQUESTS,
    LEDGER_UPLOADS,
    LEDGER_SPOOL,  /* bytes reserved by uploads in flight */
    LEDGER_MEMORY, /* bytes held for requests */
    LEDGER_MAPS,   /* bytes of copies that peers were given to map; only shares are limited here */
    LEDGER_KINDS,
};

struct ledger_figures {
    uint64_t connections;
    uint64_t requests;
    uint64_t uploads;
    uint64_t spool;   /* bytes */
    uint64_t memory;  /* bytes */
    uint64_t buffers; /* bytes of uploads that wait for the disk */
    uint64_t peers;   /* accounts */
};

#define LEDGER_WHY_SIZE 160

/* The limit of a kind in all, and of one peer: what was configured or a quarter, at least 1. */
uint64_t ledger_limit(const struct config *config, enum ledger_kind kind);
uint64_t ledger_share(const struct config *config, enum ledger_kind kind);

/* An empty ledger with the limits of `config`, which outlives it. CAP_E_NO_MEMORY. */
enum cap_error ledger_new(const struct config *config, const struct env *env,
                          struct ledger **ret_ledger);

/* NULL is fine. Nothing is held any more. */
void ledger_free(struct ledger *ledger);

/* Counts a connection of the peer named `key`. CAP_E_TOO_MANY_CONNECTIONS, CAP_E_NO_MEMORY. */
enum cap_error ledger_connect(struct ledger *ledger, const char *key,
                              struct ledger_peer **ret_peer);

/* Uncounts it. The account may be gone then, unless the caller holds something else. */
void ledger_disconnect(struct ledger *ledger, struct ledger_peer *peer);

/* Whether one more request may be in flight. Several loops may exceed the limit by one each. */
bool ledger_may_request(struct ledger *ledger, const struct ledger_peer *peer);

/* Counts a request in flight, and uncounts it. */
void ledger_request_begin(struct ledger *ledger, struct ledger_peer *peer);
void ledger_request_end(struct ledger *ledger, struct ledger_peer *peer);

/*
 * Counts an upload and reserves `bytes` of spool for it. CAP_E_SPOOL_FULL: too many uploads or
 * bytes, of this peer or in all; `ret_why` says which, for the client.
 */
enum cap_error ledger_upload_begin(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes,
                                   char ret_why[LEDGER_WHY_SIZE]);

/* The bytes of spool that a peer has reserved. */
uint64_t ledger_spool(struct ledger *ledger, const struct ledger_peer *peer);

/* Gives the same number back. */
void ledger_upload_end(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes);

/*
 * Changes what a holder has taken from *held bytes to `wanted`. False when that is more than there
 * is, for this peer or in all; then *held is as before, and ledger_why can say which. Giving back
 * never fails.
 */
bool ledger_memory_hold(struct ledger *ledger, struct ledger_peer *peer, uint64_t *held,
                        uint64_t wanted);

/* As ledger_memory_hold, of what is there already and must be counted whatever the limits. */
void ledger_memory_count(struct ledger *ledger, struct ledger_peer *peer, uint64_t *held,
                         uint64_t wanted);

/*
 * Counts a copy that a peer is given to map. False: it would exceed its share; `ret_why` says so,
 * for the client.
 */
bool ledger_map_take(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes,
                     char ret_why[LEDGER_WHY_SIZE]);

/* Gives the same number back. */
void ledger_map_give(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes);

/*
 * A sentence that says which limit leaves no room for `more` of a kind, with its figure and its
 * option, as things stand now.
 */
void ledger_why(struct ledger *ledger, const struct ledger_peer *peer, enum ledger_kind kind,
                uint64_t more, char ret_why[LEDGER_WHY_SIZE]);

/*
 * Counts buffers on their way to the disk. They are not refused: the caller that fills them asks
 * ledger_buffer_room before it reads more from a peer.
 */
void ledger_buffer_take(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes);
void ledger_buffer_give(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes);

/* Whether `more` bytes may be buffered for this peer: within its share, and in all. */
bool ledger_buffer_room(struct ledger *ledger, const struct ledger_peer *peer, uint64_t more);

/* What is taken now. */
void ledger_figures(struct ledger *ledger, struct ledger_figures *ret_figures);

#endif
