/*
 * Pages by way of a pipe: vmsplice(2) refers to them in it, splice(2) moves the references on.
 *
 * Whether a socket has been emptied the kernel says (SIOCOUTQ), which it does when the peer has
 * read or closed.
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

static void lend(struct handover *handover, struct borrower *borrower, uint64_t number)
{
    must(number != 0);
    if (borrower->oldest == 0) {
        TAILQ_INSERT_TAIL(&handover->borrowers, borrower, link);
        borrower->oldest = number;
    } else if (number < borrower->oldest) {
        borrower->oldest = number;
    }
}

void handover_end(struct handover *handover, struct borrower *borrower)
{
    if (borrower->oldest != 0) {
        TAILQ_REMOVE(&handover->borrowers, borrower, link);
        borrower->oldest = 0;
    }
}

static bool is_empty(const struct borrower *borrower)
{
    int bytes = 0;
    return ioctl(borrower->socket, SIOCOUTQ, &bytes) == 0 && bytes == 0;
}

bool handover_holds(struct handover *handover, uint64_t number)
{
    struct borrower *last = TAILQ_LAST(&handover->borrowers, borrowers);
    struct borrower *at = TAILQ_FIRST(&handover->borrowers);
    unsigned asked = 0;
    bool holds = false;
    while (at != NULL && asked < ASK_MAX) {
        struct borrower *next = at == last ? NULL : TAILQ_NEXT(at, link);
        if (at->oldest <= number) {
            asked++;
            if (is_empty(at)) {
                handover_end(handover, at);
            } else {
                holds = true;
                TAILQ_REMOVE(&handover->borrowers, at, link); /* others are asked the next time */
                TAILQ_INSERT_TAIL(&handover->borrowers, at, link);
            }
        }
        at = next;
    }
    return holds || at != NULL;
}

ssize_t handover_send(struct handover *handover, struct borrower *borrower, uint64_t number,
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
    lend(handover, borrower, number);
    return in - (ssize_t)left;
}
