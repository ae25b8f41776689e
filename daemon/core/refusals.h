/*
 * What was refused lately: a bounded ring. Loop thread only.
 */
#ifndef DAEMON_CORE_REFUSALS_H
#define DAEMON_CORE_REFUSALS_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/peer.h"
#include "lib/cap/error.h"

#define REFUSAL_MESSAGE_SIZE 256
#define REFUSAL_WHAT_SIZE    24

struct refusal {
    uint64_t seq; /* 1 for the first since start */
    uint64_t time_us;
    uint64_t session; /* its number, 0 when there was none */
    char peer[PEER_TEXT_SIZE];
    char what[REFUSAL_WHAT_SIZE]; /* the request's name as in proto/frame.h, or "connection" */
    enum cap_error error;
    char message[REFUSAL_MESSAGE_SIZE];
};

struct refusals {
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

/*
 * The newest refusal with a seq below `before` (UINT64_MAX: the newest of all), NULL when there is
 * none or it has been overwritten. Valid until the next refusals_add.
 */
const struct refusal *refusals_before(const struct refusals *refusals, uint64_t before);

#endif
