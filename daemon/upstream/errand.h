/*
 * One errand: some caps, each with all that it refers to, from the daemon above into our store.
 *
 * What comes is published through our own front door, which judges it as it judges anybody's: it
 * need not be trusted. A cap that refers to others that are not here is refused there with their
 * hashes; these are brought next, and then it is published. So a cap is here only with all that it
 * refers to, and nothing that is here is asked for.
 */
#ifndef DAEMON_UPSTREAM_ERRAND_H
#define DAEMON_UPSTREAM_ERRAND_H

#include "daemon/upstream/ends.h"

/* Caps that one errand may bring: some 10 MiB of what is known of them. */
#define ERRAND_CAPS_MAX 65536u

/* What all errands have together. Any thread. */
struct errands {
    struct context *context;
    /* Something came from above that is not wrong: a body, a part of one, or that it is not there.
     * On the thread of the errand. */
    void (*heard)(struct errands *errands);
    atomic_uint_least64_t caps;  /* brought since start */
    atomic_uint_least64_t bytes; /* of their bodies */
    atomic_uint_least64_t files; /* bytes of bodies in files at the moment */
};

/* What a thread runs errands with, and how far the one under way is. */
struct porter {
    struct above above;
    struct front front;
    atomic_uint_least64_t caps;  /* brought */
    atomic_uint_least64_t bytes; /* of bodies that have come */
};

/* The caps to be brought, and how that ended. */
struct errand_root {
    const struct cap_hash *hash;
    enum cap_error error;
    void *owner;
};

/*
 * Runs an errand to its end; the outcome of each root is in it: CAP_OK; CAP_E_NOT_FOUND, it is not
 * above, or something that it refers to is not; CAP_E_UPSTREAM_AWAY, CAP_E_UPSTREAM_BROKEN;
 * CAP_E_CLOSURE_TOO_LARGE; or as the front door refuses. `ret_reason` says more of the last thing
 * that went wrong; empty: nothing has.
 */
void errand_run(struct errands *errands, struct porter *porter, struct errand_root *roots,
                size_t count, char ret_reason[ENDS_REASON_SIZE]);

#endif
