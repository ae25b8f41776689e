/*
 * Binding.
 *
 * Failure modes: something is at the path already. A socket that refuses connections is stale and
 * is replaced; one that answers, or anything else, is an error at start. A socket that another
 * daemon has bound and does not listen on yet would look stale, so both steps happen under a lock
 * on the directory.
 */
#include "daemon/net/bind.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/core/oserror.h"

#define BACKLOG       512 /* connections that wait while the loop is busy for a moment */
#define LOCK_ATTEMPTS 200 /* of 10 ms: binding and listening take far less */

static enum cap_error fail(const char *what, const char *address, char *reason)
{
    int number = errno;
    snprintf(reason, CONFIG_REASON_SIZE, "cannot %s %.200s: %s", what, address, strerror(number));
    return error_of_errno(number);
}

/* Whether no process serves the socket at an address. */
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

/* Says what is at the path already, and what to do about it. */
static enum cap_error path_in_use(const char *path, char *reason)
{
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "%.200s exists and is not a socket; move it away, or give another path", path);
    } else {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "%.200s is in use; stop the process that serves it, or give another path", path);
    }
    return CAP_E_IO;
}

/*
 * Binds with the given permissions. They come from the umask, so the socket never exists with
 * others, and no path is looked up twice. Only start binds, when no other thread creates files.
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

/* Does not ask for what is so already: a sandbox may forbid the call altogether. */
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

/*
 * Locks the directory of a path against other daemons that bind there. Returns the descriptor to
 * close, or -1. Without a lock if the directory cannot be read or another process keeps it locked.
 */
static int lock_directory(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < LOCK_ATTEMPTS; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
            break;
        }
        (void)usleep(10000);
    }
    return fd;
}

static enum cap_error unix_address(const char *path, struct sockaddr_un *ret_address,
                                   socklen_t *ret_len, char *reason)
{
    size_t len = strlen(path);
    size_t room = sizeof(ret_address->sun_path) - 1;
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (len == 0 || len > room || (path[0] == '@' && len == 1)) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "unix:%.120s: expected a path, or @ and a name, of 1 to %zu bytes", path, room);
        return CAP_E_INVALID_ARGUMENT;
    }
    memcpy(ret_address->sun_path, path, len);
    *ret_len = sizeof(*ret_address);
    if (path[0] == '@') {
        ret_address->sun_path[0] = '\0';
        *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    }
    return CAP_OK;
}

/* Binds and listens at a path, in the place of a stale socket if there is one. */
static enum cap_error bind_path(const char *path, const struct sockaddr_un *address,
                                const struct bind_access *access, struct bound *bound, char *reason)
{
    int result = bind_with_mode(bound->fd, address, access->mode);
    if (result != 0 && errno == EADDRINUSE) {
        if (!is_stale(address)) {
            return path_in_use(path, reason);
        }
        if (unlink(path) != 0) {
            return fail("remove the stale socket", path, reason);
        }
        result = bind_with_mode(bound->fd, address, access->mode);
    }
    if (result != 0) {
        return fail("bind", path, reason);
    }
    enum cap_error error = remember_path(bound, path, reason);
    if (error == CAP_OK) {
        error = set_group(path, access->group, reason);
    }
    if (error == CAP_OK && listen(bound->fd, BACKLOG) != 0) {
        error = fail("listen on", path, reason);
    }
    return error;
}

static enum cap_error bind_unix(const char *path, const struct bind_access *access,
                                struct bound *bound, char *reason)
{
    struct sockaddr_un address;
    socklen_t len = 0;
    enum cap_error error = unix_address(path, &address, &len, reason);
    if (error != CAP_OK) {
        return error;
    }
    bound->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bound->fd < 0) {
        return fail("make a socket for", path, reason);
    }
    if (path[0] == '@') {
        if (bind(bound->fd, (const struct sockaddr *)&address, len) != 0 ||
            listen(bound->fd, BACKLOG) != 0) {
            return fail("bind", path, reason);
        }
        return CAP_OK;
    }
    int lock = lock_directory(path);
    error = bind_path(path, &address, access, bound, reason);
    if (lock >= 0) {
        close(lock);
    }
    return error;
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
    return listen(bound->fd, BACKLOG) == 0 ? CAP_OK : fail("listen on", address, reason);
}

/* Splits an address in a copy of it, into which the results point. */
static enum cap_error tcp_address(const char *address, char copy[256], char **ret_host,
                                  char **ret_port, char *reason)
{
    snprintf(copy, 256, "%s", address);
    if (strlen(address) >= 256 || !split_host(copy, ret_host, ret_port)) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "tcp:%.120s: expected tcp:HOST:PORT with a port up to 65535", address);
        return CAP_E_INVALID_ARGUMENT;
    }
    return CAP_OK;
}

static enum cap_error bind_tcp(const char *address, struct bound *bound, char *reason)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *info = NULL;
    char copy[256];
    char *host = NULL;
    char *port = NULL;
    enum cap_error error = tcp_address(address, copy, &host, &port, reason);
    if (error != CAP_OK) {
        return error;
    }
    int result = getaddrinfo(host, port, &hints, &info);
    if (result != 0) {
        snprintf(reason, CONFIG_REASON_SIZE, "tcp:%.120s: %s", address, gai_strerror(result));
        return CAP_E_INVALID_ARGUMENT;
    }
    error = bind_info(info, address, bound, reason);
    freeaddrinfo(info);
    return error;
}

enum cap_error bind_check(const char *address, const struct bind_access *access,
                          char ret_reason[CONFIG_REASON_SIZE])
{
    char copy[256];
    char *host = NULL;
    char *port = NULL;
    struct sockaddr_un sun;
    socklen_t len = 0;
    if (strncmp(address, "tcp:", 4) == 0) {
        return tcp_address(address + 4, copy, &host, &port, ret_reason);
    }
    if (strncmp(address, "unix:", 5) != 0) {
        snprintf(ret_reason, CONFIG_REASON_SIZE,
                 "%.120s: expected unix:PATH, unix:@NAME or tcp:HOST:PORT", address);
        return CAP_E_INVALID_ARGUMENT;
    }
    if (address[5] == '@' &&
        (access->mode != CONFIG_MODE_UMASK || access->group != BIND_OWN_GROUP)) {
        snprintf(ret_reason, CONFIG_REASON_SIZE,
                 "%.120s: an abstract socket has no permissions: every process of this network "
                 "namespace could connect; use a path",
                 address);
        return CAP_E_INVALID_ARGUMENT;
    }
    return unix_address(address + 5, &sun, &len, ret_reason);
}

/* Writes a listening socket's own address as the options spell it. */
static void format_address(struct bound *bound)
{
    union {
        struct sockaddr any;
        struct sockaddr_un sun;
        struct sockaddr_storage storage;
    } own = {0};
    socklen_t len = sizeof(own);
    char host[64];
    char port[8];
    char *to = bound->address;
    size_t size = sizeof(bound->address);
    if (getsockname(bound->fd, &own.any, &len) != 0) {
        return;
    }
    if (own.any.sa_family == AF_UNIX) {
        size_t room = len > offsetof(struct sockaddr_un, sun_path)
                          ? len - offsetof(struct sockaddr_un, sun_path)
                          : 0;
        if (room > 0 && own.sun.sun_path[0] == '\0') {
            own.sun.sun_path[0] = '@';
        }
        snprintf(to, size, "unix:%.*s", (int)room, own.sun.sun_path);
    } else if (getnameinfo(&own.any, len, host, sizeof(host), port, sizeof(port),
                           NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(to, size, own.any.sa_family == AF_INET6 ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
    }
}

enum cap_error bind_address(const char *address, const struct bind_access *access,
                            struct bound *ret_bound, char ret_reason[CONFIG_REASON_SIZE])
{
    struct bound bound = {.fd = -1};
    enum cap_error error = bind_check(address, access, ret_reason);
    if (error == CAP_OK) {
        error = strncmp(address, "unix:", 5) == 0
                    ? bind_unix(address + 5, access, &bound, ret_reason)
                    : bind_tcp(address + 4, &bound, ret_reason);
    }
    if (error != CAP_OK) {
        bound_release(&bound);
        return error;
    }
    format_address(&bound);
    *ret_bound = bound;
    return CAP_OK;
}

enum cap_error bind_inherit(int fd, struct bound *ret_bound, char ret_reason[CONFIG_REASON_SIZE])
{
    int listening = 0;
    socklen_t len = sizeof(listening);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0 || listening == 0) {
        snprintf(ret_reason, CONFIG_REASON_SIZE,
                 "inherited descriptor %d is not a listening socket", fd);
        return CAP_E_INVALID_ARGUMENT;
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    *ret_bound = (struct bound){.fd = fd};
    format_address(ret_bound);
    return CAP_OK;
}

static bool is_ours(const struct bound *bound)
{
    struct stat st;
    return bound->path != NULL && lstat(bound->path, &st) == 0 && st.st_dev == bound->device &&
           st.st_ino == bound->inode;
}

/* The group first: nobody gets in who should not be. */
enum cap_error bound_set_access(const struct bound *bound, const struct bind_access *access,
                                char ret_reason[CONFIG_REASON_SIZE])
{
    if (!is_ours(bound)) {
        return CAP_OK;
    }
    enum cap_error error = set_group(bound->path, access->group, ret_reason);
    if (error == CAP_OK && chmod(bound->path, (mode_t)access->mode) != 0) {
        error = fail("set the permissions of", bound->path, ret_reason);
    }
    return error;
}

void bound_release(struct bound *bound)
{
    if (is_ours(bound)) {
        (void)unlink(bound->path);
    }
    free(bound->path);
    if (bound->fd >= 0) {
        close(bound->fd);
    }
    *bound = (struct bound){.fd = -1};
}
