/*
 * What is left of refused requests: a body that the client has not ended, or a detail that is
 * being sent. Loop thread only.
 *
 * The request itself is gone: its memory, its room in the spool, its threads. A remainder skips
 * BODY frames until END or CANCEL, sends the detail of the ERROR, and goes when both are done.
 */
#ifndef DAEMON_NET_REMAINDER_H
#define DAEMON_NET_REMAINDER_H

#include <sys/queue.h>

#include "daemon/net/output.h"

struct remainder;

/* Those of one session. Zeroed but for `output`: empty. */
struct remainders {
    struct output *output; /* by which details go; outlives this */
    LIST_HEAD(remainder_list, remainder) list;
    size_t count;
    size_t open;    /* of these, with a body that has not been ended */
    size_t sending; /* of these, with a detail that has not been sent */
    uint64_t bytes; /* memory of all */
};

/*
 * Leaves a remainder for `id`, whose ERROR has been appended to the output. `detail` may be empty;
 * its bytes are taken over. Nothing is left when the body has been ended and there is no detail.
 * CAP_E_NO_MEMORY: the detail is freed.
 */
enum cap_error remainder_add(struct remainders *remainders, uint32_t id, bool body_open,
                             struct cap_buf *detail);

/* The remainder of `id`; NULL if there is none. */
struct remainder *remainder_find(const struct remainders *remainders, uint32_t id);

/* A piece of the body came; `end`: the last one. False: that body was ended already. */
bool remainder_body(struct remainder *remainder, bool end);

/* The client gives the body up. */
void remainder_cancel(struct remainder *remainder);

/*
 * Frees all but the one whose detail has a frame under way if `keep_current`. The output must have
 * dropped the streams of the others.
 */
void remainders_drop(struct remainders *remainders, bool keep_current);

#endif
