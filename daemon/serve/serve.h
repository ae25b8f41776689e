/*
 * The reading room of one loop: HAS, STAT, GET, GET_MANY and MAP.
 *
 * The loop never walks the store: an index page that is not in memory would stall everybody. It
 * answers from the records (records.h) and the places (places.h), asks the readers (readers.h) for
 * the rest, and sends pages that they have read in.
 */
#ifndef DAEMON_SERVE_SERVE_H
#define DAEMON_SERVE_SERVE_H

#include "daemon/core/context.h"
#include "daemon/serve/chunks.h"
#include "daemon/serve/kinds.h"
#include "daemon/serve/pieces.h"
#include "daemon/serve/places.h"
#include "daemon/serve/readers.h"
#include "daemon/serve/records.h"

#define SERVE_MESSAGE_SIZE 160

struct copies;
struct window;

TAILQ_HEAD(windows, window);

/* The reading rooms of all loops. */
struct serve_set {
    struct copies *copies; /* NULL: nothing can be mapped */
    struct serve *rooms[CONTEXT_SHARDS_MAX];
    size_t count;
};

struct serve {
    struct shard *shard;
    const struct serve_set *set;
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
};

/*
 * Opens the room on the shard's loop, with the context's config and store, and enters it in `set`;
 * all of these outlive it. What the config allows is shared out evenly among the context's shards.
 */
enum cap_error serve_open(struct serve *serve, struct shard *shard, struct serve_set *set);

/*
 * What is known of a cap without the store, on this loop or on another; NULL: nothing. Valid until
 * the records change.
 */
struct record *serve_find(struct serve *serve, const struct cap_hash *hash);

/* The same of where its body lies, if that is small. */
struct place *serve_find_place(struct serve *serve, const struct cap_hash *hash);

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
