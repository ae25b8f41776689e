#include "daemon/serve/lasthold.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

/* A struct inotify_event without a name, which a memfd does not have. */
struct event {
    int wd;
    uint32_t mask;
    uint32_t cookie;
    uint32_t len;
};

_Static_assert(sizeof(struct event) == sizeof(struct inotify_event), "events without a name");

/* Whether the system reports a file made for the purpose. */
static bool works(int watcher)
{
    int number = -1;
    int fd = memfd_create("capstore-test", MFD_CLOEXEC);
    int watch = fd < 0 ? -1 : lasthold_watch(watcher, fd);
    if (fd >= 0) {
        close(fd);
    }
    return watch >= 0 && lasthold_gone(watcher, &number, 1) == 1 && number == watch;
}

int lasthold_open(void)
{
    int watcher = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watcher >= 0 && !works(watcher)) {
        close(watcher);
        return -1;
    }
    return watcher;
}

int lasthold_watch(int watcher, int fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return inotify_add_watch(watcher, path, IN_DELETE_SELF);
}

size_t lasthold_gone(int watcher, int *ret_numbers, size_t max)
{
    struct event event;
    size_t count = 0;
    while (count < max && read(watcher, &event, sizeof(event)) == (ssize_t)sizeof(event)) {
        if ((event.mask & IN_DELETE_SELF) != 0) {
            ret_numbers[count++] = event.wd;
        }
    }
    return count;
}
