/*
 * Handing pages to a Unix socket instead of copying them.
 *
 * The receiver copies them from where they are, so the sender touches no byte. The socket refers to
 * the pages until then, however long that takes, so the memory that lends them must never be
 * written to again. It may be unmapped, but that gives nothing back while a socket refers to it,
 * and a reference to 4 KiB keeps all of a huge page. So each piece of memory counts the sockets
 * that may have something of it (struct loan), and a socket has something of two at most: a client
 * that stops reading keeps these, not all that it has ever been sent. What a client has not read is
 * its own until it does, also when its connection ends: the socket is closed after that. What a
 * client moves on by splice(2) is not known any more: with a page of each huge page in a pipe it
 * would keep any amount of memory. So only the daemon's own user and root are lent to.
 *
 * For TCP nothing is gained: pages stay until they are acknowledged, in more and smaller pieces.
 *
 * One for each loop, whose thread uses it.
 */
#ifndef DAEMON_NET_HANDOVER_H
#define DAEMON_NET_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lib/cap/error.h"

#define HANDOVER_MIN (16u << 10) /* bytes: fewer are copied faster than handed over */

/* Of memory that is lent: how many sockets may hold pages of it. Zeroed: none. */
struct loan {
    size_t borrowers;
};

/* A connected nonblocking Unix socket. Zeroed but for `socket`: nothing was handed to it. */
struct borrower {
    TAILQ_ENTRY(borrower) link; /* of those that may hold pages */
    int socket;
    struct loan *last;   /* what it was handed last; NULL: it holds none */
    struct loan *before; /* NULL: it holds none of another */
    uint64_t since;      /* bytes handed over after those of `before` */
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

/* Whether pages of `loan` may be handed to the socket, which may hold too much of others. */
bool handover_may(struct handover *handover, struct borrower *borrower, const struct loan *loan);

/*
 * Hands over what the socket takes of the spans, of the memory of `loan`, up to a bound; the memory
 * stays while loan->borrowers is not 0. handover_may has allowed it. Returns how many bytes that
 * is, or -1 with errno, EAGAIN if the socket is full. SIGPIPE must be ignored.
 */
ssize_t handover_send(struct handover *handover, struct borrower *borrower, struct loan *loan,
                      const struct iovec *iov, int count);

/* Whether the socket may still hold pages. Asks the system. */
bool handover_holds(struct handover *handover, struct borrower *borrower);

/* The socket is about to be closed. */
void handover_end(struct handover *handover, struct borrower *borrower);

/* Asks a few sockets whether they still hold what they were handed, others at each call. */
void handover_ask(struct handover *handover);

#endif
