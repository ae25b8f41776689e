/*
 * Socket calls, together or one by one.
 *
 * Failure modes.
 *   - The ring fails (no memory in the system): the calls that are not over, and all later ones,
 *     are made one by one.
 */
#include "daemon/net/calls.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/param.h>

#ifdef CAPSTORE_IO_URING
#include <liburing.h>
#endif

#define FLAGS (MSG_NOSIGNAL | MSG_DONTWAIT)

/* --- One by one ------------------------------------------------------------------------------- */

ssize_t calls_send(int fd, const struct msghdr *message)
{
    const struct iovec *span = message->msg_iov;
    ssize_t n;
    do { /* one span alone is cheaper without its description */
        n = message->msg_iovlen == 1 && message->msg_controllen == 0
                ? send(fd, span->iov_base, span->iov_len, FLAGS)
                : sendmsg(fd, message, FLAGS);
    } while (n < 0 && errno == EINTR);
    return n;
}

static ssize_t receive(int fd, const struct iovec *span)
{
    ssize_t n;
    do {
        n = recv(fd, span->iov_base, span->iov_len, FLAGS);
    } while (n < 0 && errno == EINTR);
    return n;
}

static void make_one(struct call *call)
{
    ssize_t n = call->sends ? calls_send(call->fd, &call->message) : receive(call->fd, call->spans);
    call->result = n < 0 ? -errno : n;
    call->over = true;
}

/* --- Together --------------------------------------------------------------------------------- */

#ifdef CAPSTORE_IO_URING

/* Linux has rings since 5.1, which send and receive since 5.6, and say since then what they can. */
static bool can_send_and_receive(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool can = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_RECV) != 0 &&
               io_uring_opcode_supported(probe, IORING_OP_SEND) != 0 &&
               io_uring_opcode_supported(probe, IORING_OP_SENDMSG) != 0;
    io_uring_free_probe(probe);
    return can;
}

enum cap_error calls_open(struct calls *calls, unsigned most)
{
    *calls = (struct calls){.ring = malloc(sizeof(*calls->ring)), .most = most};
    if (calls->ring == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (io_uring_queue_init(most, calls->ring, 0) != 0) {
        free(calls->ring);
        calls->ring = NULL;
        return CAP_E_IO;
    }
    if (!can_send_and_receive(calls->ring)) {
        calls_close(calls);
        return CAP_E_IO;
    }
    return CAP_OK;
}

void calls_close(struct calls *calls)
{
    if (calls->ring != NULL) {
        io_uring_queue_exit(calls->ring);
        free(calls->ring);
        calls->ring = NULL;
    }
}

static void prepare(struct io_uring *ring, struct call *call)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(ring); /* the ring is empty, and long enough */
    if (!call->sends) {
        io_uring_prep_recv(entry, call->fd, call->spans[0].iov_base, call->spans[0].iov_len, FLAGS);
    } else if (call->count == 1) {
        io_uring_prep_send(entry, call->fd, call->spans[0].iov_base, call->spans[0].iov_len, FLAGS);
    } else {
        io_uring_prep_sendmsg(entry, call->fd, &call->message, FLAGS);
    }
    io_uring_sqe_set_data(entry, call);
}

/* Takes the results that are there; returns how many. */
static unsigned take_results(struct io_uring *ring)
{
    struct io_uring_cqe *result;
    unsigned head, count = 0;
    io_uring_for_each_cqe(ring, head, result)
    {
        struct call *call = io_uring_cqe_get_data(result);
        call->result = result->res;
        call->over = true;
        count++;
    }
    io_uring_cq_advance(ring, count);
    return count;
}

static void make_together(struct calls *calls, struct call *list, size_t count)
{
    unsigned left = 0;
    for (size_t i = 0; i < count; i++) {
        if (list[i].count > 0) {
            prepare(calls->ring, &list[i]);
            left++;
        }
    }
    while (left > 0 && calls->ring != NULL) {
        int n = io_uring_submit_and_wait(calls->ring, left);
        left -= take_results(calls->ring);
        if (n < 0 && n != -EINTR) {
            calls_close(calls);
        }
    }
}

#else

enum cap_error calls_open(struct calls *calls, unsigned most)
{
    (void)most;
    *calls = (struct calls){0};
    return CAP_E_IO;
}

void calls_close(struct calls *calls)
{
    (void)calls;
}

static void make_together(struct calls *calls, struct call *list, size_t count)
{
    (void)calls;
    (void)list;
    (void)count;
}

#endif

void calls_make(struct calls *calls, struct call *list, size_t count)
{
    size_t some = 0;
    for (size_t i = 0; i < count; i++) {
        struct call *call = &list[i];
        call->message = (struct msghdr){.msg_iov = call->spans, .msg_iovlen = call->count};
        call->over = call->count == 0;
        some += call->count > 0;
    }
    /* One alone is cheaper by itself. */
    for (size_t at = 0; some > 1 && calls->ring != NULL && at < count; at += calls->most) {
        make_together(calls, list + at, MIN(calls->most, count - at));
    }
    for (size_t i = 0; i < count; i++) {
        if (!list[i].over) {
            make_one(&list[i]);
        }
    }
}
