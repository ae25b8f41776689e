#include "client/lib/link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define QUEUE_RETRY_MS 10 /* a daemon empties its queue far more often */

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

/* Connects one socket to one address. Returns 0 or an errno. */
static int connect_one(int fd, const struct sockaddr *address, socklen_t len, int64_t deadline_ms)
{
    while (connect(fd, address, len) != 0) {
        if (errno == EINPROGRESS || errno == EINTR) {
            break;
        }
        if (errno != EAGAIN) {
            return errno;
        }
        /* A Unix listener whose queue is full; there is no event for room in it. */
        if (client_clock_ms() >= deadline_ms) {
            return ETIMEDOUT;
        }
        (void)poll(NULL, 0, QUEUE_RETRY_MS);
    }
    short events;
    if (wait_for(fd, POLLOUT, deadline_ms, &events) != CAP_OK) {
        return ETIMEDOUT;
    }
    int code = 0;
    socklen_t code_len = sizeof(code);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &code_len) < 0) {
        return errno;
    }
    return code;
}

/* A connected socket, or -1 with the errno in *ret_code. */
static int open_socket(int family, const struct sockaddr *address, socklen_t len,
                       int64_t deadline_ms, int *ret_code)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *ret_code = errno;
        return -1;
    }
    *ret_code = connect_one(fd, address, len, deadline_ms);
    if (*ret_code == 0) {
        return fd;
    }
    close(fd);
    return -1;
}

static int connect_unix(const char *path, int64_t deadline_ms, int *ret_code)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _Static_assert(sizeof(address.sun_path) > CLIENT_UNIX_PATH_MAX, "a path fits");
    size_t len = strlen(path);
    socklen_t size = sizeof(address);
    memcpy(address.sun_path, path, len + 1);
    if (path[0] == '@') { /* an abstract socket: its name begins with a zero byte */
        address.sun_path[0] = '\0';
        size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    }
    return open_socket(AF_UNIX, (const struct sockaddr *)&address, size, deadline_ms, ret_code);
}

static int connect_tcp(const struct client_address *to, int64_t deadline_ms, int *ret_code,
                       const char **ret_reason)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(to->host, to->port, &hints, &list);
    if (code != 0) {
        *ret_reason = gai_strerror(code);
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = open_socket(a->ai_family, a->ai_addr, a->ai_addrlen, deadline_ms, ret_code);
    }
    freeaddrinfo(list);
    int on = 1;
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    return fd;
}

/* strerror_r is GNU's, which returns the text, or that of POSIX, which fills the buffer. */
static const char *text_of_gnu(const char *returned, const char *buffer)
{
    (void)buffer;
    return returned;
}

static const char *text_of_posix(int failed, const char *buffer)
{
    return failed == 0 ? buffer : "unknown error";
}

#define ERRNO_TEXT(code, buffer)                                                                   \
    _Generic(strerror_r(code, buffer, sizeof(buffer)), char *: text_of_gnu, int: text_of_posix)(   \
        strerror_r(code, buffer, sizeof(buffer)), buffer)

/* What to look at first. */
static const char *advice(int code)
{
    if (code == ENOENT || code == ECONNREFUSED || code == ETIMEDOUT) {
        return "; is the daemon running, and is the address right?";
    }
    if (code == EACCES || code == EPERM) {
        return "; this user may not use it";
    }
    return "";
}

enum cap_error client_link_connect(const struct client_address *address, uint32_t timeout_ms,
                                   int *ret_fd, char ret_detail[CLIENT_LINK_DETAIL_SIZE])
{
    int64_t deadline_ms = client_clock_ms() + timeout_ms;
    int code = 0;
    const char *reason = NULL;
    int fd = address->is_unix ? connect_unix(address->path, deadline_ms, &code)
                              : connect_tcp(address, deadline_ms, &code, &reason);
    if (fd >= 0) {
        *ret_fd = fd;
        return CAP_OK;
    }
    char text[96] = "";
    if (reason == NULL) {
        reason = ERRNO_TEXT(code, text);
    }
    snprintf(ret_detail, CLIENT_LINK_DETAIL_SIZE, "%s%s", reason, advice(code));
    return code == ETIMEDOUT ? CAP_E_TIMED_OUT : CAP_E_CONNECT;
}
