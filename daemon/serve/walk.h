/*
 * The walk through a closure: caps and all that they refer to, each once, and what a cap refers to
 * before the cap.
 *
 * It holds no snapshot. Each step gets one, which may be a later one than the last step's; caps do
 * not change, and one that goes meanwhile comes as one that is not there. So a walk waits for as
 * long as its user likes and pins nothing.
 *
 * Memory, counted to a peer as it grows: some 44 bytes for each cap that has come or is at hand,
 * and 64 for each Image on the way down to the one at hand, at most `max` of these: where the way
 * is longer its beginning is forgotten, since an answer of `max` caps ends before it is needed
 * again. Time: a step looks at no more than it is told.
 *
 * A walk belongs to one thread at a time, any of them.
 */
#ifndef DAEMON_SERVE_WALK_H
#define DAEMON_SERVE_WALK_H

#include "daemon/core/ledger.h"
#include "lib/store/store.h"
#include "proto/message.h"

struct walk;

/* What is asked for; hashes are 32 bytes each, one behind the other. */
struct walk_query {
    struct cap_bytes roots; /* may repeat */
    struct cap_bytes have;  /* caps to leave out with all that only they refer to; may be unknown */
    uint64_t max;           /* caps that come, at least 1 */
};

/* Whether an error says something of one cap only, so that others may come. */
static inline bool walk_goes_on(enum cap_error error)
{
    return cap_store_is_unserved(error) || error == CAP_E_CORRUPT || error == CAP_E_IO;
}

/* A cap that comes. */
struct walk_cap {
    struct cap_hash hash;
    enum cap_error error; /* why it cannot be served; CAP_OK: as that snapshot has it, it can */
    struct cap_info info; /* when it can */
};

/* The head of its entry in an answer (PROTOCOL.md section 4.24). */
static inline struct proto_entry walk_entry(const struct walk_cap *cap)
{
    bool is_here = cap->error == CAP_OK;
    return (struct proto_entry){
        .hash = cap->hash,
        .kind = is_here ? (uint8_t)cap->info.kind : 0,
        .body_len = is_here ? cap->info.body_len : 0,
    };
}

enum walk_step {
    WALK_CAP,  /* it is in *ret_cap */
    WALK_MORE, /* the budget is used up: another step goes on, in this snapshot or a later one */
    WALK_END,  /* all of them have come */
};

/*
 * A walk at its beginning, with copies of the hashes. What it takes is counted to `account`; NULL:
 * to nobody but in all. CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. Both outlive it; release with
 * walk_free.
 */
enum cap_error walk_new(struct ledger *ledger, struct ledger_peer *account,
                        const struct walk_query *query, struct walk **ret_walk);

/* NULL is fine. */
void walk_free(struct walk *walk);

/*
 * Goes on in a snapshot that the caller has taken, to the next cap, looking at no more than *budget
 * records and references, of which it leaves what it did not use. Waits for the device.
 * CAP_E_CLOSURE_TOO_LARGE: there are more than `max` caps; those that have come are in order.
 * CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY, or as the store fails; ret_cap->hash is the cap at hand
 * then. After an error there is no next step.
 */
enum cap_error walk_next(struct walk *walk, struct cap_read *read, size_t *budget,
                         enum walk_step *ret_step, struct walk_cap *ret_cap);

/* Bytes that are counted to its peer. */
uint64_t walk_memory(const struct walk *walk);

#endif
