/*
 * The reading room of one loop: HAS, STAT, GET, GET_MANY, SLICE, CLOSURE and MAP.
 *
 * The loop never walks the store: an index page that is not in memory would stall everybody. It
 * answers what it knows from four caches, asks the readers (readers.h) for the rest, and sends
 * pages that they have read in.
 *
 *   places.h   where small bodies lie        for GET, GET_MANY and HAS
 *   records.h  what a STAT says of a cap     for STAT, HAS, and GET of a body that is not small
 *   pieces.h   bytes of larger bodies        for GET of what is fetched again and again
 *   kinds.h    kinds, and nothing else       for HAS of many hashes
 *
 * What readers find goes to one of them: after a GET of a small body the loop knows its place, and
 * has no record.
 */
#ifndef DAEMON_SERVE_SERVE_H
#define DAEMON_SERVE_SERVE_H

#include "daemon/core/context.h"
#include "daemon/serve/chunks.h"
#include "daemon/serve/gone.h"
#include "daemon/serve/kinds.h"
#include "daemon/serve/pieces.h"
#include "daemon/serve/places.h"
#include "daemon/serve/readers.h"
#include "daemon/serve/records.h"

#define SERVE_MESSAGE_SIZE (CAP_REASON_MAX + 160u) /* a reason, its hash, and a text of ours */

#define SERVE_NEVER UINT64_MAX

struct copies;
struct window;

TAILQ_HEAD(windows, window);

/* The reading rooms of all loops. */
struct serve_set {
    struct copies *copies;   /* NULL: nothing can be mapped */
    struct gone gone;        /* what the rooms are told */
    struct context *context; /* where the store reports what goes, and what is damaged */
    struct serve *rooms[CONTEXT_SHARDS_MAX];
    size_t count;
};

struct serve {
    struct shard *shard;
    const struct serve_set *set;
    struct gone *gone; /* the set's */
    struct readers readers;
    struct records records;
    struct kinds kinds;
    struct places places;
    struct pieces pieces;
    struct windows windows; /* that wait for their sockets, oldest first */
    size_t window_count;
    struct chunks chunks;
    uv_timer_t timer; /* runs while there are any */
    bool open;
    uint64_t epoch;                /* cap_store_epoch, when it last took in what is gone */
    uint64_t whole_epoch;          /* cap_store_epoch, when nothing was lost; SERVE_NEVER */
    atomic_uint_least64_t gone_at; /* how much of the log of what is gone it has taken in */
};

/*
 * Forgets what is gone. Before a request is answered, on the loop; nothing to do costs a load of a
 * number that all loops share.
 */
void serve_catch_up(struct serve *serve);

/*
 * Before a reader's snapshot begins, on the loop; and when it has come back, whether what it found
 * can be remembered.
 */
static inline uint64_t serve_epoch(const struct serve *serve)
{
    return cap_store_epoch(serve->shard->context->store);
}

static inline bool serve_may_remember(const struct serve *serve, uint64_t epoch)
{
    return epoch % 2 == 0 && epoch == serve_epoch(serve);
}

/*
 * Opens the room on the shard's loop, with the context's config and store, and enters it in `set`,
 * whose log is open; all of these outlive it. What the config allows is shared out evenly among the
 * context's shards.
 */
enum cap_error serve_open(struct serve *serve, struct shard *shard, struct serve_set *set);

/* A cap's record, of this loop or of another; NULL: none. Valid until the records change. */
struct record *serve_find_record(struct serve *serve, const struct cap_hash *hash);

/* The same of its place. */
struct place *serve_find_place(struct serve *serve, const struct cap_hash *hash);

/*
 * Loads the body of a place that was found by `hash`, place->len bytes, to `dst`. False: the place
 * is stale or another cap's, or a reader has to load it since its pages are not in memory.
 * `now_us`: env_monotonic_us.
 */
bool serve_load(struct serve *serve, struct place *place, const struct cap_hash *hash,
                uint64_t now_us, uint8_t *dst);

/* When every session is closed, before the loop's last turns. A zeroed one is fine. */
void serve_close(struct serve *serve);

/* Jobs of the readers that have not come back. */
size_t serve_jobs(const struct serve *serve);

/*
 * The message for a request about `hash` that failed: names it. What is wrong with the store, and
 * not with the request, is recorded as a fault.
 */
void serve_failed(struct serve *serve, const struct cap_hash *hash, enum cap_error error,
                  char ret_message[SERVE_MESSAGE_SIZE]);

#endif
