/* sd_notify and sd_listen_fds, as documented in their man pages, without the library. */
#include "daemon/core/sd.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void sd_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    size_t len = strlen(path);
    if (len >= sizeof(address.sun_path)) {
        return;
    }
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, size);
    close(fd);
}

/* A decimal number in the environment, 0 when there is none. */
static uint64_t env_number(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

int sd_listen_count(void)
{
    uint64_t count = env_number("LISTEN_FDS");
    if (env_number("LISTEN_PID") != (uint64_t)getpid()) {
        return 0;
    }
    return count < INT_MAX ? (int)count : INT_MAX;
}

void sd_listen_name(int index, char ret_name[SD_NAME_SIZE])
{
    const char *at = getenv("LISTEN_FDNAMES");
    ret_name[0] = '\0';
    for (; at != NULL && index > 0; index--) {
        at = strchr(at, ':');
        at = at == NULL ? NULL : at + 1;
    }
    if (at != NULL) {
        snprintf(ret_name, SD_NAME_SIZE, "%.*s", (int)strcspn(at, ":"), at);
    }
}

uint64_t sd_watchdog_us(void)
{
    uint64_t pid = env_number("WATCHDOG_PID");
    if (pid != 0 && pid != (uint64_t)getpid()) {
        return 0;
    }
    return env_number("WATCHDOG_USEC");
}
