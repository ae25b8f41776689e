/*
 * Preloaded into a daemon: a wall clock that is off by as many seconds as the file that ODD_CLOCK
 * names says, and, with ODD_NETWORK, file systems that call themselves NFS.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define NFS_MAGIC 0x6969
#define SHOWN     __attribute__((visibility("default")))

static long seconds_off(void)
{
    char text[32] = "";
    const char *path = getenv("ODD_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) {
        text[0] = '\0';
    }
    if (fd >= 0) {
        close(fd);
    }
    return strtol(text, NULL, 10);
}

/* What a name means without us. */
static void *next_of(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

SHOWN int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    int (*next)(clockid_t, struct timespec *);
    *(void **)&next = next_of("clock_gettime"); /* as dlsym(3) does it */
    int result = next(clock, ret_now);
    if (clock == CLOCK_REALTIME) {
        ret_now->tv_sec += seconds_off();
    }
    return result;
}

SHOWN int fstatfs(int fd, struct statfs *ret_fs)
{
    int (*next)(int, struct statfs *);
    *(void **)&next = next_of("fstatfs");
    int result = next(fd, ret_fs);
    if (getenv("ODD_NETWORK") != NULL) {
        ret_fs->f_type = NFS_MAGIC;
    }
    return result;
}
