/*
 * slow_fs BACKING MOUNTPOINT DELAY_FILE: the directory BACKING, flat, as a file system whose device
 * is slow: every read takes as many milliseconds more as the text in DELAY_FILE says at that
 * moment.
 *
 * The kernel caches pages as it does for a disk, so only what is cold is slow. Runs in the
 * foreground until it is unmounted.
 */
#define FUSE_USE_VERSION 31

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static int backing;
static int delay_fd;

static int failed(long result)
{
    return result < 0 ? -errno : (int)result;
}

/* A path of FUSE's as one that is relative to the backing directory. */
static const char *name_of(const char *path)
{
    return path[1] == '\0' ? "." : path + 1;
}

static void wait_for_the_device(void)
{
    char text[16] = "";
    if (pread(delay_fd, text, sizeof(text) - 1, 0) > 0) {
        long ms = strtol(text, NULL, 10);
        const struct timespec delay = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        nanosleep(&delay, NULL);
    }
}

static void *slow_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    (void)conn;
    config->kernel_cache = 1;
    config->attr_timeout = config->entry_timeout = 3600;
    config->hard_remove = 1;
    return NULL;
}

static int slow_getattr(const char *path, struct stat *ret_stat, struct fuse_file_info *info)
{
    return failed(info != NULL ? fstat((int)info->fh, ret_stat)
                               : fstatat(backing, name_of(path), ret_stat, AT_SYMLINK_NOFOLLOW));
}

static int slow_open(const char *path, struct fuse_file_info *info)
{
    int fd = openat(backing, name_of(path), info->flags | O_CLOEXEC);
    info->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

static int slow_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    int fd = openat(backing, name_of(path), info->flags | O_CREAT | O_CLOEXEC, mode);
    info->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

static int slow_read(const char *path, char *dst, size_t len, off_t offset,
                     struct fuse_file_info *info)
{
    (void)path;
    wait_for_the_device();
    return failed(pread((int)info->fh, dst, len, offset));
}

static int slow_write(const char *path, const char *data, size_t len, off_t offset,
                      struct fuse_file_info *info)
{
    (void)path;
    return failed(pwrite((int)info->fh, data, len, offset));
}

static int slow_truncate(const char *path, off_t len, struct fuse_file_info *info)
{
    if (info != NULL) {
        return failed(ftruncate((int)info->fh, len));
    }
    int fd = openat(backing, name_of(path), O_WRONLY | O_CLOEXEC);
    int result = fd < 0 ? -errno : failed(ftruncate(fd, len));
    if (fd >= 0) {
        close(fd);
    }
    return result;
}

static int slow_fallocate(const char *path, int mode, off_t offset, off_t len,
                          struct fuse_file_info *info)
{
    (void)path;
    return failed(fallocate((int)info->fh, mode, offset, len));
}

static int slow_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
    (void)path;
    return failed(data_only ? fdatasync((int)info->fh) : fsync((int)info->fh));
}

static int slow_release(const char *path, struct fuse_file_info *info)
{
    (void)path;
    return failed(close((int)info->fh));
}

static int slow_fsyncdir(const char *path, int data_only, struct fuse_file_info *info)
{
    (void)path;
    (void)data_only;
    (void)info;
    return failed(fsync(backing));
}

static int slow_unlink(const char *path)
{
    return failed(unlinkat(backing, name_of(path), 0));
}

static int slow_rename(const char *from, const char *to, unsigned flags)
{
    return failed(renameat2(backing, name_of(from), backing, name_of(to), flags));
}

static int slow_readdir(const char *path, void *ret_entries, fuse_fill_dir_t add, off_t offset,
                        struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    (void)path;
    (void)offset;
    (void)info;
    (void)flags;
    int fd = openat(backing, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        return -errno;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        add(ret_entries, entry->d_name, NULL, 0, 0);
    }
    closedir(dir);
    return 0;
}

static int slow_statfs(const char *path, struct statvfs *ret_fs)
{
    (void)path;
    return failed(fstatvfs(backing, ret_fs));
}

int main(int argc, char **argv)
{
    static const struct fuse_operations operations = {
        .init = slow_init,
        .getattr = slow_getattr,
        .open = slow_open,
        .create = slow_create,
        .read = slow_read,
        .write = slow_write,
        .truncate = slow_truncate,
        .fallocate = slow_fallocate,
        .fsync = slow_fsync,
        .release = slow_release,
        .fsyncdir = slow_fsyncdir,
        .unlink = slow_unlink,
        .rename = slow_rename,
        .readdir = slow_readdir,
        .statfs = slow_statfs,
    };
    if (argc != 4) {
        fprintf(stderr, "usage: slow_fs BACKING MOUNTPOINT DELAY_FILE\n");
        return 2;
    }
    backing = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    delay_fd = open(argv[3], O_RDONLY | O_CLOEXEC);
    if (backing < 0 || delay_fd < 0) {
        perror("slow_fs");
        return 1;
    }
    char foreground[] = "-f";
    char *arguments[] = {argv[0], argv[2], foreground, NULL};
    return fuse_main(3, arguments, &operations, NULL);
}
