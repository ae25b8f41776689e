/*
 * Receives and sends of many sockets at a time. Where the system has io_uring, one system call
 * makes all of them: to enter the system can cost more than moving a small message does.
 *
 * None of them waits: what a socket cannot do now is over with EAGAIN, as recv and send with
 * MSG_DONTWAIT have it. So when calls_make returns nothing is under way. One for each loop, whose
 * thread uses it.
 */
#ifndef DAEMON_NET_CALLS_H
#define DAEMON_NET_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lib/cap/error.h"

#define CALLS_MAX  32u /* in one list */
#define CALL_SPANS 16  /* of one call */

struct call {
    int fd;
    bool sends; /* or receives, into one span */
    struct iovec spans[CALL_SPANS];
    size_t count;   /* of spans; 0: nothing is done, and there is no result */
    ssize_t result; /* bytes, or a negative errno */

    /* For calls_make alone. */
    struct msghdr message;
    bool over;
};

struct io_uring;

/* Zeroed: each call is made by itself. */
struct calls {
    struct io_uring *ring;
    unsigned most; /* calls that it makes at a time */
};

/*
 * From now on up to `most` calls, 1 to CALLS_MAX, are made by one system call. CAP_E_IO where the
 * system has no io_uring that sends and receives (before Linux 5.6), or forbids it
 * (kernel.io_uring_disabled, a seccomp filter), CAP_E_NO_MEMORY: each is made by itself.
 */
enum cap_error calls_open(struct calls *calls, unsigned most);
void calls_close(struct calls *calls);

/* Makes up to CALLS_MAX calls, each on another socket. When it returns each has its result, and
 * nothing uses the spans any longer. */
void calls_make(struct calls *calls, struct call *list, size_t count);

/* One send by itself, of a message that may pass a descriptor. Returns bytes, or -1 with errno. */
ssize_t calls_send(int fd, const struct msghdr *message);

#endif
