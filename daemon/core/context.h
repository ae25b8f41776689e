/*
 * What every room of the daemon may use: the context, shared by all loops, and the shard, which
 * belongs to one loop and its thread. Neither knows connections or requests.
 *
 * server.c makes both and outlives them; everybody else borrows them. Members of the context are
 * set before a second thread starts, or say how they may be used from several.
 */
#ifndef DAEMON_CORE_CONTEXT_H
#define DAEMON_CORE_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "daemon/core/config.h"
#include "daemon/core/env.h"
#include "daemon/core/events.h"
#include "daemon/core/log.h"
#include "daemon/core/mailbox.h"
#include "daemon/core/peer.h"
#include "daemon/core/pool.h"
#include "daemon/core/refusals.h"
#include "daemon/core/stats.h"
#include "lib/store/store.h"

#define CONTEXT_SHARDS_MAX    CONFIG_THREADS_MAX
#define CONTEXT_ADDRESSES_MAX 32u  /* CONFIG_LISTEN_MAX, and as many that systemd passed */
#define CONTEXT_ADDRESS_SIZE  128u /* "unix:" and the longest path of a Unix socket */

struct fetcher;
struct handover;
struct keeper;
struct ledger;
struct park;
struct quotas;
struct shard;
struct statedir;

enum phase {
    PHASE_STARTING,
    PHASE_RUNNING,
    PHASE_DRAINING,
    PHASE_STOPPING,
};

/* The last fault of the daemon itself, as opposed to a mistake of a peer. */
struct fault {
    uint64_t time_us; /* real time; 0: nothing yet */
    enum cap_error error;
    char message[REFUSAL_MESSAGE_SIZE];
};

/* Lines of the log that a client can cause as often as it likes, at no cost of its own. */
enum bounded_line {
    LINE_REFUSED, /* and aborted */
    LINE_PRESENT, /* published again */
    LINE_FAULT,   /* a damaged cap may be asked for again and again */
    BOUNDED_LINES,
};

struct line_bound {
    uint64_t second; /* real time; what `lines` counts */
    uint64_t lines;
};

struct context {
    const struct env *env;
    struct config config; /* in use; config.h says how it changes */
    char addresses[CONTEXT_ADDRESSES_MAX][CONTEXT_ADDRESS_SIZE]; /* where clients are served */
    size_t address_count;
    struct log log;           /* any thread */
    struct refusals refusals; /* any thread */
    struct events events;     /* any thread */
    struct cap_store *store;  /* NULL before it is opened */
    struct ledger *ledger;
    struct quotas *quotas;
    struct park *park; /* uploads that were cut off */
    struct statedir *statedir;
    _Atomic(enum phase) phase; /* the main thread changes it */
    uint64_t features;         /* of the protocol, that clients are granted; MAP on Unix sockets */
    uint64_t started_us;       /* real time */
    uint64_t started_monotonic_us;
    struct shard *shards[CONTEXT_SHARDS_MAX];
    size_t shard_count;
    struct fetcher *fetcher; /* brings what is not here; NULL: there is no daemon above */

    /* What every request looks at stands before, what threads write while they serve from here. */
    struct pool pool;       /* through each shard's outlet */
    struct stats_http http; /* any thread */
    pthread_mutex_t lock;   /* of what follows, and of every shard's `published` */
    struct fault last_fault;
    struct line_bound line_bounds[BOUNDED_LINES];
    uint64_t warned_us; /* monotonic: when trouble was last logged; 0: never */

    pthread_mutex_t config_lock; /* of the texts of `config` that are live, and of: */
    struct config given;         /* what the options and the file said when they were last read */
    char config_problem[CONFIG_REASON_SIZE]; /* of the last reload; empty: there was none */

    /*
     * How a room asks the daemon to end: after what is in flight (main thread only), or at once
     * with an exit status (any thread).
     */
    void (*drain)(void *owner);
    void (*stop)(void *owner, int exit_code);
    /* How it asks for the configuration to be read again; as reload_run. Any thread but a loop's.
     */
    enum cap_error (*reload)(void *owner, bool apply, struct config_changes *ret_changes,
                             char ret_reason[CONFIG_REASON_SIZE]);
    void *owner;
};

/* One loop and what its thread alone touches. */
struct shard {
    struct context *context;
    uv_loop_t loop;
    struct stats stats;
    struct stats published;            /* a copy for other threads; see shard_publish_stats */
    void (*look)(struct shard *shard); /* fills stats.now in; NULL: nothing does */
    struct pool_outlet pool;
    struct mailbox mailbox;    /* any thread may post */
    struct handover *handover; /* lends pages to sockets; NULL: nothing does */
    struct keeper *keeper;     /* gives leases; NULL before publish is open */
};

/*
 * Whether such a line may be logged in this second; logs how many were not in an earlier one. Any
 * thread.
 */
bool context_may_log(struct context *context, enum bounded_line kind);

/*
 * Counts, records and logs a refusal, which is an event, too. `what` is a request's name or
 * "connection", `session` the number of the session or 0; `figures` may be NULL. The shard's
 * thread.
 */
void shard_refused(struct shard *shard, uint64_t session, const struct peer *peer, const char *what,
                   enum cap_error error, const char *message,
                   const struct refusal_figures *figures);

/* Records and logs a fault of the daemon; CAP_E_STORE_FAILED ends it. Any thread. */
void context_fault(struct context *context, enum cap_error error, const char *message);

/*
 * The same of a read of the store: where it cannot be read, or is damaged, the line names the
 * command that checks it.
 */
void context_store_fault(struct context *context, enum cap_error error, const char *message);

/* Records trouble that an operator has to mend (the disk is full); warns of it once in a while. */
void context_trouble(struct context *context, enum cap_error error, const char *message);

/*
 * Writes what a peer is told of a forbidden cap: its hash, and why it is forbidden. Reads the
 * store, from pages that the lookup before it has read. Any thread.
 */
void context_say_forbidden(struct cap_store *store, const struct cap_hash *hash, char *ret_message,
                           size_t size);

/* The last fault so far. Any thread. */
struct fault context_last_fault(struct context *context);

/*
 * Shows a shard's stats, as they are now, to other threads. The shard's thread, at its tick and
 * when it is asked to.
 */
void shard_publish_stats(struct shard *shard);

/* The stats of one shard, as last published. Any thread. */
void shard_stats(struct shard *shard, struct stats *ret_stats);

/* The sum of the stats of all shards, as last published, and of HTTP's, as they are. Any thread. */
void context_stats(struct context *context, struct stats *ret_sum);

#endif
