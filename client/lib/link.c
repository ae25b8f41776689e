#include "client/lib/link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t client_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t client_clock_ms(void)
{
    return client_clock_ns() / 1000000;
}

void client_sleep_ms(unsigned ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0) {
    }
}

/* poll(2) with a deadline; the returned events in *ret_events. */
static enum cap_error wait_for(int fd, short events, int64_t deadline_ms, short *ret_events)
{
    for (;;) {
        int64_t left = deadline_ms - client_clock_ms();
        if (left < 0) {
            left = 0;
        }
        struct pollfd entry = {fd, events, 0};
        int n = poll(&entry, 1, left > INT32_MAX ? INT32_MAX : (int)left);
        if (n > 0) {
            *ret_events = entry.revents;
            return CAP_OK;
        }
        if (n == 0 && client_clock_ms() >= deadline_ms) {
            return CAP_E_TIMED_OUT;
        }
        if (n < 0 && errno != EINTR) {
            return CAP_E_IO;
        }
    }
}

enum cap_error client_link_wait(int fd, bool want_write, int64_t deadline_ms, bool *ret_readable,
                                bool *ret_writable)
{
    short events;
    enum cap_error error =
        wait_for(fd, (short)(POLLIN | (want_write ? POLLOUT : 0)), deadline_ms, &events);
    if (error != CAP_OK) {
        return error;
    }
    bool broken = (events & (POLLERR | POLLHUP | POLLNVAL)) != 0;
    *ret_readable = broken || (events & POLLIN) != 0;
    *ret_writable = (events & POLLOUT) != 0;
    return CAP_OK;
}

/* Keeps the descriptor of a message; the kernel has dropped those for which there was no room. */
static void take_passed(struct msghdr *message, int *passed)
{
    const struct cmsghdr *control = CMSG_FIRSTHDR(message);
    if (control == NULL && (message->msg_flags & MSG_CTRUNC) != 0 && *passed < 0) {
        *passed = CLIENT_PASSED_LOST;
    }
    if (control == NULL || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS ||
        control->cmsg_len != CMSG_LEN(sizeof(*passed))) {
        return;
    }
    if (*passed >= 0) {
        close(*passed);
    }
    memcpy(passed, CMSG_DATA(control), sizeof(*passed));
}

enum cap_error client_link_read(int fd, void *dst, size_t len, size_t *ret_len, int *passed)
{
    union {
        struct cmsghdr header; /* for its alignment */
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec span = {dst, len};
    struct msghdr message = {
        .msg_iov = &span,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_LEN(sizeof(int)), /* room for one */
    };
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (n > 0) {
        take_passed(&message, passed);
    }
    if (n > 0) {
        *ret_len = (size_t)n;
        return CAP_OK;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        *ret_len = 0;
        return CAP_OK;
    }
    return CAP_E_CONNECTION_LOST;
}

enum cap_error client_link_write(int fd, const void *src, size_t len, size_t *ret_len)
{
    ssize_t n = send(fd, src, len, MSG_NOSIGNAL);
    if (n >= 0) {
        *ret_len = (size_t)n;
        return CAP_OK;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        *ret_len = 0;
        return CAP_OK;
    }
    return CAP_E_CONNECTION_LOST;
}

void client_link_end(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
}

enum cap_error client_link_prepare(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return CAP_E_IO;
    }
    return CAP_OK;
}
