/*
 * Binding.
 *
 * Failure modes: a path is in the way. A socket that refuses connections is stale and replaced; one
 * that answers, or anything else, is an error at start.
 */
#include "daemon/net/bind.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/core/oserror.h"

#define BACKLOG 512 /* connections that wait while the loop is busy for a moment */

static enum cap_error fail(const char *what, const char *address, char *reason)
{
    int number = errno;
    snprintf(reason, CONFIG_REASON_SIZE, "cannot %s %.200s: %s", what, address, strerror(number));
    return error_of_errno(number);
}

/* Whether the socket at an address is dead: nobody accepts there. */
static bool is_stale(const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    bool stale = connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
                 errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static enum cap_error remember_path(struct bound *bound, const char *path, char *reason)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        return fail("find", path, reason);
    }
    bound->path = strdup(path);
    bound->device = st.st_dev;
    bound->inode = st.st_ino;
    return bound->path == NULL ? CAP_E_NO_MEMORY : CAP_OK;
}

/* What stands in the way of a socket, and what to do about it. */
static enum cap_error occupied(const char *path, char *reason)
{
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "%.200s is there and is no socket; move it away, or give another path", path);
    } else {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "%.200s is a socket in use; stop who serves it, or give another path", path);
    }
    return CAP_E_IO;
}

/*
 * Binds with the permissions wanted. They come from the umask, so that they are there with the
 * socket and no path is looked up twice. Only start binds, and no other thread makes files then.
 */
static int bind_with_mode(int fd, const struct sockaddr_un *address, uint64_t mode)
{
    if (mode == CONFIG_MODE_UMASK) {
        return bind(fd, (const struct sockaddr *)address, sizeof(*address));
    }
    mode_t before = umask(0777 & ~(mode_t)mode);
    int result = bind(fd, (const struct sockaddr *)address, sizeof(*address));
    int number = errno;
    (void)umask(before);
    errno = number;
    return result;
}

/* Asks only for a change: a sandbox may forbid the call as such. */
static enum cap_error set_group(const char *path, uint32_t group, char *reason)
{
    struct stat st;
    if (group == BIND_OWN_GROUP || (lstat(path, &st) == 0 && st.st_gid == group) ||
        lchown(path, (uid_t)-1, (gid_t)group) == 0) {
        return CAP_OK;
    }
    snprintf(reason, CONFIG_REASON_SIZE,
             "cannot give %.160s to group %u: %s; the daemon's user must be in the group", path,
             (unsigned)group, strerror(errno));
    return CAP_E_IO;
}

static enum cap_error bind_unix(const char *path, const struct bind_access *access,
                                struct bound *bound, char *reason)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (*path == '\0' || strlen(path) >= sizeof(address.sun_path)) {
        snprintf(reason, CONFIG_REASON_SIZE, "unix:%.120s: the path must have 1 to %zu bytes", path,
                 sizeof(address.sun_path) - 1);
        return CAP_E_INVALID_ARGUMENT;
    }
    memcpy(address.sun_path, path, strlen(path));
    bound->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bound->fd < 0) {
        return fail("make a socket for", path, reason);
    }
    int result = bind_with_mode(bound->fd, &address, access->mode);
    if (result != 0 && errno == EADDRINUSE) {
        if (!is_stale(&address)) {
            return occupied(path, reason);
        }
        if (unlink(path) != 0) {
            return fail("remove the stale socket", path, reason);
        }
        result = bind_with_mode(bound->fd, &address, access->mode);
    }
    if (result != 0) {
        return fail("bind", path, reason);
    }
    enum cap_error error = remember_path(bound, path, reason);
    return error == CAP_OK ? set_group(path, access->group, reason) : error;
}

/* getaddrinfo takes 65536 + n for n. */
static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return text[digits] != '\0' || (digits <= 5 && strtoul(text, NULL, 10) <= UINT16_MAX);
}

/* Splits HOST:PORT or [HOST]:PORT in place. */
static bool split_host(char *text, char **ret_host, char **ret_port)
{
    char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || colon[1] == '\0') {
        return false;
    }
    *colon = '\0';
    size_t len = strlen(text);
    if (text[0] == '[' && text[len - 1] == ']') {
        text[len - 1] = '\0';
        text++;
    }
    *ret_host = text;
    *ret_port = colon + 1;
    return is_port(colon + 1);
}

static enum cap_error bind_info(const struct addrinfo *info, const char *address,
                                struct bound *bound, char *reason)
{
    int on = 1;
    bound->fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bound->fd < 0) {
        return fail("make a socket for", address, reason);
    }
    (void)setsockopt(bound->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(bound->fd, info->ai_addr, info->ai_addrlen) != 0) {
        return fail("bind", address, reason);
    }
    return CAP_OK;
}

static enum cap_error bind_tcp(const char *address, struct bound *bound, char *reason)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *info = NULL;
    char text[256];
    char *host = NULL;
    char *port = NULL;
    snprintf(text, sizeof(text), "%s", address);
    if (strlen(address) >= sizeof(text) || !split_host(text, &host, &port)) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "tcp:%.120s: must be tcp:HOST:PORT with a port up to 65535", address);
        return CAP_E_INVALID_ARGUMENT;
    }
    int result = getaddrinfo(host, port, &hints, &info);
    if (result != 0) {
        snprintf(reason, CONFIG_REASON_SIZE, "tcp:%.120s: %s", address, gai_strerror(result));
        return CAP_E_INVALID_ARGUMENT;
    }
    enum cap_error error = bind_info(info, address, bound, reason);
    freeaddrinfo(info);
    return error;
}

enum cap_error bind_address(const char *address, const struct bind_access *access,
                            struct bound *ret_bound, char ret_reason[CONFIG_REASON_SIZE])
{
    struct bound bound = {.fd = -1};
    enum cap_error error = CAP_E_INVALID_ARGUMENT;
    if (strncmp(address, "unix:", 5) == 0) {
        error = bind_unix(address + 5, access, &bound, ret_reason);
    } else if (strncmp(address, "tcp:", 4) == 0) {
        error = bind_tcp(address + 4, &bound, ret_reason);
    } else {
        snprintf(ret_reason, CONFIG_REASON_SIZE, "%.120s: must be unix:PATH or tcp:HOST:PORT",
                 address);
    }
    if (error == CAP_OK && listen(bound.fd, BACKLOG) != 0) {
        error = fail("listen on", address, ret_reason);
    }
    if (error != CAP_OK) {
        bound_release(&bound, false);
        return error;
    }
    *ret_bound = bound;
    return CAP_OK;
}

enum cap_error bind_inherit(int fd, struct bound *ret_bound, char ret_reason[CONFIG_REASON_SIZE])
{
    int listening = 0;
    socklen_t len = sizeof(listening);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0 || listening == 0) {
        snprintf(ret_reason, CONFIG_REASON_SIZE, "inherited descriptor %d does not listen", fd);
        return CAP_E_INVALID_ARGUMENT;
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    *ret_bound = (struct bound){.fd = fd};
    return CAP_OK;
}

void bound_release(struct bound *bound, bool keep_fd)
{
    struct stat st;
    if (bound->path != NULL && lstat(bound->path, &st) == 0 && st.st_dev == bound->device &&
        st.st_ino == bound->inode) {
        (void)unlink(bound->path);
    }
    free(bound->path);
    if (bound->fd >= 0 && !keep_fd) {
        close(bound->fd);
    }
    *bound = (struct bound){.fd = -1};
}
