/*
 * Copies of caps in sealed memfds (copying.h says what is in them), for runtimes to map.
 *
 * One cache for all loops. A copy is made once, by a reader of the loop where it is first asked
 * for, however many ask meanwhile; those who wait are told on their own loops. What has not been
 * asked for longest goes first.
 *
 * Memory. A descriptor that was given out, and what is mapped of it, keeps the copy's pages in
 * memory after the cache has let go of it. Such copies are still counted: the kernel tells when the
 * last descriptor and mapping is gone (lasthold.h). So the limit, `map-cache`, holds for all copies
 * that exist, in the cache, being made, or in the hands of peers. Each is counted to every peer
 * that it was given to until it is gone; past a peer's share first the cache lets go of that peer's
 * own copies, then the peer is refused.
 *
 * Any thread, unless a function says otherwise.
 */
#ifndef DAEMON_SERVE_COPIES_H
#define DAEMON_SERVE_COPIES_H

#include <sys/queue.h>
#include <uv.h>

#include "daemon/core/ledger.h"
#include "daemon/core/mailbox.h"
#include "daemon/serve/copying.h"

struct context;
struct copies;
struct copy;
struct serve;

/* A small copy counts for this much: it takes a descriptor or a watch as well. */
#define COPY_LEAST UINT64_C(65536)

/* Descriptors in the cache; fewer where the process may open few. */
#define COPIES_OPEN_MAX 256u

/* Somebody who asks for a copy. It belongs to the asker, who fills in the first part. */
struct copy_wait {
    struct serve *serve; /* whose loop the asker is on */
    struct ledger_peer *account;
    struct cap_hash hash;
    void (*done)(struct copy_wait *wait); /* on that loop */

    /* The answer. */
    enum cap_error error;      /* CAP_E_NOT_FOUND, CAP_E_MEMORY_LIMIT, or as copying.h says */
    char why[LEDGER_WHY_SIZE]; /* more of the error, or empty */
    struct copy_layout layout;
    int fd; /* a descriptor of the asker's own; -1 on an error */

    /* The cache's own, from here. */
    struct copy *copy; /* under the lock; NULL: it has been answered */
    TAILQ_ENTRY(copy_wait) link;
    struct letter letter;
};

struct copies_figures {
    uint64_t bytes; /* of all copies that exist */
    uint64_t count; /* of them */
};

/*
 * An empty cache with the context's config and ledger, which outlive it. CAP_E_NO_MEMORY; CAP_E_IO
 * where the system cannot seal a memfd or tell when one is gone: then nothing can be mapped.
 */
enum cap_error copies_new(const struct context *context, struct copies **ret_copies);

/* When no loop runs. NULL is fine. */
void copies_free(struct copies *copies);

/*
 * Asks for a copy, on the asker's loop. True: it is answered. False: `done` will be called, unless
 * copies_leave comes first.
 */
bool copies_get(struct copies *copies, struct copy_wait *wait);

/* On the asker's loop. True: `done` will not be called, the wait is its owner's. False: it will. */
bool copies_leave(struct copies *copies, struct copy_wait *wait);

/*
 * A loop ends, on its thread, before its readers do: what these have not begun to make is given up.
 * NULL is fine.
 */
void copies_stop(struct copies *copies, struct serve *serve);

/*
 * The cache lets go of the copy of a cap that is gone; one that is being made is given to those who
 * wait for it, and to nobody else.
 */
void copies_drop(struct copies *copies, const struct cap_hash *hash);

/* What there is now. */
void copies_figures(struct copies *copies, struct copies_figures *ret_figures);

/* How many descriptors the cache may have open. */
uint64_t copies_open_max(const struct copies *copies);

#endif
