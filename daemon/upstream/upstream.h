/*
 * The daemon above: what is not here is fetched from it, verified, published here like anything
 * else, and then served (`--upstream`).
 *
 * Threads of its own wait for it, never a loop. Each takes what peers wait for (flights.h), brings
 * it (errand.h) by two connections (ends.h), and tells those who wait. What a fetch costs is
 * bounded: UPSTREAM_THREADS at a time, each with less than 24 MiB in memory and at most
 * ERRAND_CAPS_MAX caps; bodies of more than 1 MiB in files of the spool, of `max-spool` bytes
 * together; and what is not there either, by a bucket of tokens for each peer.
 *
 * A fetch that has begun goes on when nobody waits for it any more: who asks again finds it here.
 * Caches may stand above each other; in a circle of them a request ends after `upstream-timeout`,
 * since everyone who waits does.
 */
#ifndef DAEMON_UPSTREAM_UPSTREAM_H
#define DAEMON_UPSTREAM_UPSTREAM_H

#include "daemon/core/fetcher.h"
#include "daemon/net/hub.h"

#define UPSTREAM_THREADS 4u /* half of them for one peer: two slow fetches hold up no other */
#define UPSTREAM_DESCRIPTORS                                                                       \
    (UPSTREAM_THREADS * 32) /* sockets, of HTTP some 12 more, and bodies in files */

struct upstream;

/*
 * With the context's config and store; without the option `upstream` there is none, and
 * *ret_upstream is untouched. The hubs of `hubs` are there when upstream_start is called; all
 * outlive it. CAP_E_INVALID_ARGUMENT with a sentence, CAP_E_NO_MEMORY. NULL is fine in what
 * follows.
 */
enum cap_error upstream_new(struct context *context, const struct hub_set *hubs,
                            struct upstream **ret_upstream, char ret_reason[CONFIG_REASON_SIZE]);

/* Whether an address is one; resolves no name. CAP_E_INVALID_ARGUMENT with a sentence. */
enum cap_error upstream_check(const char *address, char ret_reason[CONFIG_REASON_SIZE]);

/* What the rooms ask; NULL: none. */
struct fetcher *upstream_fetcher(struct upstream *upstream);

/* Starts the threads. CAP_E_NO_MEMORY. */
enum cap_error upstream_start(struct upstream *upstream);

/*
 * Cuts what is under way, and ends every order with CAP_E_DRAINING. What has come is here; nothing
 * is half there.
 */
void upstream_stop(struct upstream *upstream);

/* Stops it and waits for its threads, which come back at once. */
void upstream_join(struct upstream *upstream);

/* After upstream_join and the loops. */
void upstream_free(struct upstream *upstream);

/* Shows its counters in the stats of a loop, whose thread calls. */
void upstream_count(struct upstream *upstream, struct stats *stats);

#endif
