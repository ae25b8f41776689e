/*
 * Recent refusals: a bounded ring. Any thread.
 */
#ifndef DAEMON_CORE_REFUSALS_H
#define DAEMON_CORE_REFUSALS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/peer.h"
#include "lib/cap/bytes.h"

#define REFUSAL_MESSAGE_SIZE 256
#define REFUSAL_WHAT_SIZE    24

/* What was asked for and what there was, where room or a quota is lacking. */
struct refusal_figures {
    uint64_t need; /* more than `have`; bytes or caps, as the message says */
    uint64_t have;
};

struct refusal {
    uint64_t seq; /* 1 for the first since start */
    uint64_t time_us;
    uint64_t session; /* its number, 0 when there was none */
    char peer[PEER_TEXT_SIZE];
    char what[REFUSAL_WHAT_SIZE]; /* the request's name as in proto/frame.h, or "connection" */
    enum cap_error error;
    char message[REFUSAL_MESSAGE_SIZE];
    struct refusal_figures figures; /* zeros: there are none */
};

struct refusals {
    pthread_mutex_t lock;
    struct refusal *ring;
    size_t capacity;
    uint64_t last_seq; /* 0: none yet */
};

/* A ring of `capacity` entries. CAP_E_NO_MEMORY. */
enum cap_error refusals_init(struct refusals *refusals, size_t capacity);

/* Frees the ring and leaves an empty one. */
void refusals_free(struct refusals *refusals);

/* Adds a copy, over the oldest when full; sets its seq. */
void refusals_add(struct refusals *refusals, const struct refusal *refusal);

/* Copies the newest refusal with a seq below `before` (UINT64_MAX: the newest of all). False when
 * there is none or it has been overwritten. */
bool refusals_before(struct refusals *refusals, uint64_t before, struct refusal *ret_refusal);

/* Copies the newest refusal that is kept and whose message names a cap, other than that it was not
 * found. False: there is none. */
bool refusals_naming(struct refusals *refusals, const struct cap_hash *hash,
                     struct refusal *ret_refusal);

/* How many have been added since start. */
uint64_t refusals_total(struct refusals *refusals);

#endif
