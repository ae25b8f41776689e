/*
 * Events: what happens in the store, for those who watch. A ring of the last EVENTS_KEPT; readers
 * take copies, so that nobody who emits one ever waits for a reader. Any thread.
 */
#ifndef DAEMON_CORE_EVENTS_H
#define DAEMON_CORE_EVENTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/env.h"
#include "lib/cap/bytes.h"

#define EVENTS_KEPT        1024u /* a second of publishing at full speed, hours of other work */
#define EVENT_MESSAGE_SIZE 192u

/* X(NAME, name) */
#define EVENT_KINDS(X)                                                                             \
    X(PUBLISHED, published)                                                                        \
    X(REFUSED, refused)                                                                            \
    X(DELETED, deleted)                                                                            \
    X(COLLECTED, collected)                                                                        \
    X(FORBIDDEN, forbidden)                                                                        \
    X(ALLOWED, allowed)                                                                            \
    X(QUARANTINED, quarantined)                                                                    \
    X(HEALED, healed)                                                                              \
    X(ROOT_SET, root_set)                                                                          \
    X(ROOT_REMOVED, root_removed)                                                                  \
    X(JOB_STARTED, job_started)                                                                    \
    X(JOB_ENDED, job_ended)                                                                        \
    X(CONFIG_RELOADED, config_reloaded)                                                            \
    X(UPSTREAM_UP, upstream_up)                                                                    \
    X(UPSTREAM_AWAY, upstream_away)                                                                \
    X(UPSTREAM_BROKEN, upstream_broken)

enum event_kind {
#define EVENT_KIND_ENUM(NAME, name) EVENT_##NAME,
    EVENT_KINDS(EVENT_KIND_ENUM)
#undef EVENT_KIND_ENUM
        EVENT_KIND_COUNT,
};

#define EVENT_ALL ((UINT32_C(1) << EVENT_KIND_COUNT) - 1) /* a bit for each kind */

struct event {
    uint64_t seq;     /* 1 for the first since start */
    uint64_t time_us; /* real time */
    enum event_kind kind;
    bool has_hash;
    struct cap_hash hash;
    char message[EVENT_MESSAGE_SIZE]; /* for a person; may be empty */
};

struct events {
    const struct env *env;
    pthread_mutex_t lock;
    struct event *ring;         /* NULL: nothing is kept */
    _Atomic(uint64_t) last_seq; /* 0: none yet; changes under the lock */
};

/* An empty ring; `env` outlives it. CAP_E_NO_MEMORY. */
enum cap_error events_init(struct events *events, const struct env *env);

/* Frees the ring and leaves one that keeps nothing. A zeroed one is fine. */
void events_free(struct events *events);

/* Adds an event, over the oldest when full. `hash` may be NULL; the message is cut to its size. */
void events_emit(struct events *events, enum event_kind kind, const struct cap_hash *hash,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The number of the newest; 0: none yet. Takes no lock. */
uint64_t events_last(const struct events *events);

/* Where a reader is. */
struct event_cursor {
    uint64_t after; /* the seq that it has seen, and all before it */
    uint32_t kinds; /* a bit for each kind that it asks for */
};

/*
 * Copies the next events of the cursor's kinds, at most `max`, and moves it past them. *ret_lost is
 * how many, of any kind, were overwritten before the cursor came to them; then they are older than
 * all that is copied. A cursor from before a restart, which is ahead, begins at the oldest.
 */
size_t events_next(struct events *events, struct event_cursor *cursor, struct event *ret_events,
                   size_t max, uint64_t *ret_lost);

/* "published", ... Static. */
const char *event_kind_name(enum event_kind kind);

#endif
