/*
 * Handing pages to a Unix socket instead of copying them.
 *
 * The receiver copies them from where they are, so the sender touches no byte. The socket refers to
 * the pages until then, however long that takes, so the memory that lends them must never be
 * written to again. It may be unmapped, but that gives nothing back while a socket refers to it,
 * and a reference to 4 KiB keeps all of a huge page. So memory that lends is numbered in the order
 * in which it is to go, and goes when handover_holds says that no socket has anything of it. What
 * a peer has not read when its connection ends, or moves on by splice(2), is not known any more:
 * it keeps that, within its own limits on sockets and pipes.
 *
 * For TCP nothing is gained: pages stay until they are acknowledged, in more and smaller pieces.
 *
 * One for each loop, whose thread uses it.
 */
#ifndef DAEMON_NET_HANDOVER_H
#define DAEMON_NET_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lib/cap/error.h"

#define HANDOVER_MIN (16u << 10) /* bytes: fewer are copied faster than handed over */

/* A connected nonblocking Unix socket. Zeroed but for `socket`: nothing was handed to it. */
struct borrower {
    TAILQ_ENTRY(borrower) link; /* of those that may hold pages */
    int socket;
    uint64_t oldest; /* number of the oldest memory that it may hold pages of; 0: none */
};

struct handover {
    int read; /* a pipe, empty between calls */
    int write;
    int sink; /* takes what a socket did not */
    TAILQ_HEAD(borrowers, borrower) borrowers;
};

/* CAP_E_NO_MEMORY where there are too many open files, CAP_E_IO where the system does not do it. */
enum cap_error handover_open(struct handover *handover);

/* Of one that was opened, when nobody borrows. */
void handover_close(struct handover *handover);

/*
 * Hands over what the socket takes of the spans, of memory `number` (not 0), up to a bound. Returns
 * how many bytes that is, or -1 with errno, EAGAIN if the socket is full. SIGPIPE must be ignored.
 */
ssize_t handover_send(struct handover *handover, struct borrower *borrower, uint64_t number,
                      const struct iovec *iov, int count);

/* The socket is about to be closed. */
void handover_end(struct handover *handover, struct borrower *borrower);

/* Whether a socket may hold pages of memory `number` or an older one. Asks a few of them. */
bool handover_holds(struct handover *handover, uint64_t number);

#endif
