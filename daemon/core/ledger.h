/*
 * The ledger: what peers hold of the daemon, against its limits.
 *
 * Connections and spool bytes are counted per peer and in all, memory for requests in all. Any
 * thread.
 */
#ifndef DAEMON_CORE_LEDGER_H
#define DAEMON_CORE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/config.h"
#include "lib/cap/error.h"

struct ledger;

/* One peer's account, shared by its connections; counted. */
struct ledger_peer;

struct ledger_figures {
    uint64_t memory;  /* bytes */
    uint64_t buffers; /* bytes of uploads that wait for the disk */
    uint64_t spool;   /* bytes reserved */
    uint64_t uploads;
    uint64_t connections;
};

/* Bytes of uploads that may wait in memory for the disk; past it, sockets are not read. */
#define LEDGER_BUFFERS_MAX (UINT64_C(8) << 20)

/* An empty ledger with the limits of `config`, which outlives it. CAP_E_NO_MEMORY. */
enum cap_error ledger_new(const struct config *config, struct ledger **ret_ledger);

/* NULL is fine. Every account has been closed. */
void ledger_free(struct ledger *ledger);

/* Counts a connection of the peer named `key`. CAP_E_TOO_MANY_CONNECTIONS, CAP_E_NO_MEMORY. */
enum cap_error ledger_connect(struct ledger *ledger, const char *key,
                              struct ledger_peer **ret_peer);

/* Uncounts it. The account may live on while uploads hold it. */
void ledger_disconnect(struct ledger *ledger, struct ledger_peer *peer);

/*
 * Reserves `bytes` of spool for one upload and holds the account. CAP_E_SPOOL_FULL: too many
 * uploads or bytes, of this peer or in all.
 */
enum cap_error ledger_upload_begin(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes);

/* Gives the same number back. */
void ledger_upload_end(struct ledger *ledger, struct ledger_peer *peer, uint64_t bytes);

/* Takes memory for a request; false when the limit is reached, and then nothing is taken. */
bool ledger_memory_take(struct ledger *ledger, uint64_t bytes);

/* Gives memory back. */
void ledger_memory_give(struct ledger *ledger, uint64_t bytes);

/*
 * Changes what a holder has taken from *held to `wanted`; false when that is more than there is,
 * and then *held is as before.
 */
bool ledger_memory_hold(struct ledger *ledger, uint64_t *held, uint64_t wanted);

/* Counts buffers on their way to the disk; never refused, see LEDGER_BUFFERS_MAX. */
void ledger_buffer_take(struct ledger *ledger, uint64_t bytes);
void ledger_buffer_give(struct ledger *ledger, uint64_t bytes);

/* What is taken now. */
void ledger_figures(struct ledger *ledger, struct ledger_figures *ret_figures);

#endif
