/*
 * Pages by way of a pipe: vmsplice(2) refers to them in it, splice(2) moves the references on.
 *
 * How much of a socket has not been read the kernel says (SIOCOUTQ), a little more for what it
 * needs itself: where that is less than what was handed over later, the earlier has been read.
 *
 * Failure mode: the socket takes fewer than the pipe has. The rest goes to /dev/null, which costs a
 * reference each, and is handed over again when the socket is writable.
 */
#include "daemon/net/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "daemon/core/oserror.h"
#include "lib/cap/must.h"

#define ASK_MAX   16u         /* sockets, of one call: a few microseconds */
#define PIPE_SIZE (256 << 10) /* bytes: a frame; any user may have so much (pipe-max-size) */

enum cap_error handover_open(struct handover *handover)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        return error_of_errno(errno);
    }
    (void)fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE); /* without it, it takes more calls */
    *handover = (struct handover){
        .read = fds[0],
        .write = fds[1],
        .sink = open("/dev/null", O_WRONLY | O_CLOEXEC),
    };
    if (handover->sink < 0) {
        int error = errno;
        close(fds[0]);
        close(fds[1]);
        return error_of_errno(error);
    }
    TAILQ_INIT(&handover->borrowers);
    return CAP_OK;
}

void handover_close(struct handover *handover)
{
    close(handover->read);
    close(handover->write);
    close(handover->sink);
}

/* Moves what the pipe has to `to`, at most `len` bytes. */
static ssize_t move(const struct handover *handover, int to, size_t len)
{
    ssize_t n;
    do {
        n = splice(handover->read, NULL, to, NULL, len, SPLICE_F_NONBLOCK);
    } while (n < 0 && errno == EINTR);
    return n;
}

static void empty(const struct handover *handover, size_t len)
{
    while (len > 0) {
        ssize_t n = move(handover, handover->sink, len);
        must(n > 0); /* what is left would go to another client */
        len -= (size_t)n;
    }
}

static void give_back(struct loan **loan)
{
    if (*loan != NULL) {
        must((*loan)->borrowers > 0);
        (*loan)->borrowers--;
        *loan = NULL;
    }
}

static void lend(struct handover *handover, struct borrower *borrower, struct loan *loan, size_t n)
{
    if (borrower->last == loan) {
        borrower->since += n;
        return;
    }
    if (borrower->last == NULL) {
        TAILQ_INSERT_TAIL(&handover->borrowers, borrower, link);
    }
    if (borrower->before != loan) {
        must(borrower->before == NULL);
        loan->borrowers++;
    }
    borrower->before = borrower->last;
    borrower->last = loan;
    borrower->since = n;
}

void handover_end(struct handover *handover, struct borrower *borrower)
{
    if (borrower->last != NULL) {
        TAILQ_REMOVE(&handover->borrowers, borrower, link);
        give_back(&borrower->last);
        give_back(&borrower->before);
    }
}

bool handover_holds(struct handover *handover, struct borrower *borrower)
{
    int unread = 0;
    if (borrower->last == NULL) {
        return false;
    }
    if (ioctl(borrower->socket, SIOCOUTQ, &unread) != 0) {
        return true;
    }
    if (unread == 0) {
        handover_end(handover, borrower);
    } else if ((uint64_t)unread <= borrower->since) {
        give_back(&borrower->before);
    }
    return borrower->last != NULL;
}

bool handover_may(struct handover *handover, struct borrower *borrower, const struct loan *loan)
{
    return borrower->before == NULL || borrower->last == loan || borrower->before == loan ||
           !handover_holds(handover, borrower) || borrower->before == NULL;
}

void handover_ask(struct handover *handover)
{
    struct borrower *last = TAILQ_LAST(&handover->borrowers, borrowers);
    struct borrower *at = TAILQ_FIRST(&handover->borrowers);
    for (unsigned i = 0; i < ASK_MAX && at != NULL; i++) {
        struct borrower *next = at == last ? NULL : TAILQ_NEXT(at, link);
        if (handover_holds(handover, at)) {
            TAILQ_REMOVE(&handover->borrowers, at, link); /* others are asked the next time */
            TAILQ_INSERT_TAIL(&handover->borrowers, at, link);
        }
        at = next;
    }
}

ssize_t handover_send(struct handover *handover, struct borrower *borrower, struct loan *loan,
                      const struct iovec *iov, int count)
{
    ssize_t in;
    do {
        in = vmsplice(handover->write, iov, (size_t)count, SPLICE_F_NONBLOCK);
    } while (in < 0 && errno == EINTR);
    if (in <= 0) {
        return -1;
    }
    size_t left = (size_t)in;
    int error = 0;
    while (left > 0) {
        ssize_t n = move(handover, borrower->socket, left);
        if (n <= 0) {
            error = n < 0 ? errno : EIO;
            break;
        }
        left -= (size_t)n;
    }
    empty(handover, left);
    if (left == (size_t)in) {
        errno = error;
        return -1;
    }
    lend(handover, borrower, loan, (size_t)in - left);
    return in - (ssize_t)left;
}
