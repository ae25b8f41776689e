#include "client/lib/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/lib/link.h"

#define QUEUE_RETRY_MS 10 /* a daemon empties its queue far more often */

/* Calls connect(2). False when it failed at once. */
static bool call_connect(struct client_dial *dial)
{
    dial->full = false;
    if (connect(dial->fd, dial->at->ai_addr, dial->at->ai_addrlen) == 0 || errno == EINPROGRESS ||
        errno == EINTR) {
        return true;
    }
    dial->full = errno == EAGAIN && dial->at->ai_family == AF_UNIX;
    dial->code = errno;
    return dial->full;
}

/* Begins with the address `at`, or the first one after it that does not fail at once. */
static enum cap_error begin_at(struct client_dial *dial)
{
    for (; dial->at != NULL; dial->at = dial->at->ai_next) {
        int fd = socket(dial->at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int code = errno;
        if (dial->fd >= 0) {
            close(dial->fd); /* only now: who watches it sees by the number that it is another */
        }
        dial->fd = fd;
        dial->code = fd < 0 ? code : dial->code;
        if (fd >= 0 && call_connect(dial)) {
            return CAP_OK;
        }
    }
    return CAP_E_CONNECT;
}

static void take_path(struct client_dial *dial, const char *path)
{
    _Static_assert(sizeof(dial->path.sun_path) > CLIENT_UNIX_PATH_MAX, "a path fits");
    size_t len = strlen(path);
    dial->path.sun_family = AF_UNIX;
    memcpy(dial->path.sun_path, path, len + 1);
    dial->local = (struct addrinfo){
        .ai_family = AF_UNIX,
        .ai_addr = (struct sockaddr *)&dial->path,
        .ai_addrlen = sizeof(dial->path),
    };
    if (path[0] == '@') { /* an abstract socket: its name begins with a zero byte */
        dial->path.sun_path[0] = '\0';
        dial->local.ai_addrlen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    }
    dial->list = &dial->local;
}

enum cap_error client_dial_begin(struct client_dial *dial, const struct client_address *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    *dial = (struct client_dial){.fd = -1};
    if (address->is_unix) {
        take_path(dial, address->path);
    } else {
        int code = getaddrinfo(address->host, address->port, &hints, &dial->list);
        if (code != 0) {
            dial->list = NULL;
            dial->reason = gai_strerror(code);
            return CAP_E_CONNECT;
        }
    }
    dial->at = dial->list;
    return begin_at(dial);
}

/* What became of the connect(2) that is under way: 0, an errno, or EINPROGRESS. */
static int outcome(const struct client_dial *dial)
{
    struct pollfd entry = {dial->fd, POLLOUT, 0};
    int code = 0;
    socklen_t len = sizeof(code);
    if (poll(&entry, 1, 0) <= 0) {
        return EINPROGRESS;
    }
    return getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &code, &len) == 0 ? code : errno;
}

enum cap_error client_dial_step(struct client_dial *dial, int *ret_fd)
{
    *ret_fd = -1;
    bool under_way = !dial->full || call_connect(dial);
    if (dial->full) {
        return CAP_OK;
    }
    int code = under_way ? outcome(dial) : dial->code;
    if (code == EINPROGRESS) {
        return CAP_OK;
    }
    if (code != 0) {
        dial->code = code;
        dial->at = dial->at->ai_next;
        return begin_at(dial);
    }
    int on = 1;
    if (dial->at->ai_family != AF_UNIX) {
        (void)setsockopt(dial->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    *ret_fd = dial->fd;
    dial->fd = -1;
    return CAP_OK;
}

int client_dial_pause_ms(const struct client_dial *dial)
{
    return dial->full ? QUEUE_RETRY_MS : -1;
}

enum cap_error client_dial_wait(struct client_dial *dial, uint32_t timeout_ms, int *ret_fd)
{
    int64_t deadline_ms = client_clock_ms() + timeout_ms;
    for (;;) {
        enum cap_error error = client_dial_step(dial, ret_fd);
        if (error != CAP_OK || *ret_fd >= 0) {
            return error;
        }
        int64_t left_ms = deadline_ms - client_clock_ms();
        if (left_ms <= 0) {
            return CAP_E_TIMED_OUT;
        }
        struct pollfd entry = {dial->fd, POLLOUT, 0};
        int wait_ms = left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
        int pause_ms = client_dial_pause_ms(dial);
        (void)poll(&entry, pause_ms < 0 ? 1u : 0u,
                   pause_ms < 0 || pause_ms > wait_ms ? wait_ms : pause_ms);
    }
}

void client_dial_end(struct client_dial *dial)
{
    if (dial->fd >= 0) {
        close(dial->fd);
    }
    if (dial->list != NULL && dial->list != &dial->local) {
        freeaddrinfo(dial->list);
    }
    *dial = (struct client_dial){.fd = -1};
}

/* ---- failures ---- */

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

void client_dial_detail(const struct client_dial *dial, enum cap_error error,
                        char ret_detail[CLIENT_DETAIL_SIZE])
{
    char text[96] = "";
    int code = error == CAP_E_TIMED_OUT ? ETIMEDOUT : dial->code;
    const char *reason = dial->reason != NULL ? dial->reason : ERRNO_TEXT(code, text);
    snprintf(ret_detail, CLIENT_DETAIL_SIZE, "%s%s", reason,
             dial->reason != NULL ? "" : advice(code));
}
