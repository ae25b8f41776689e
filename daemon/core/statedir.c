/* The state directory, its lock and its leftovers. */
#include "daemon/core/statedir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/core/oserror.h"

static enum cap_error fail(const char *what, const char *path, char *reason)
{
    int number = errno;
    snprintf(reason, CONFIG_REASON_SIZE, "cannot %s %.180s: %s", what, path, strerror(number));
    return error_of_errno(number);
}

static char *join(const char *dir, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/*
 * Who else could change what is in a directory. Others that may write to it, and its owner when
 * root runs the daemon, could have root follow links of theirs: refused. A group that may write is
 * what some platforms make of a volume, so it is told only; so is a foreign owner when we are not
 * root, who then gains nothing by us.
 */
static enum cap_error check_access(const char *path, struct log *log, char *reason)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return fail("examine", path, reason);
    }
    if (!S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return fail("use", path, reason);
    }
    if ((st.st_mode & S_IWOTH) != 0) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "%.110s can be changed by every user (mode %03o); run: chmod 700 %.100s", path,
                 (unsigned)st.st_mode & 07777, path);
        return CAP_E_INVALID_ARGUMENT;
    }
    if (st.st_uid != geteuid() && geteuid() == 0) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "%.100s belongs to user %u, and capstored runs as root; run it as that user, or "
                 "run: chown -R root %.90s",
                 path, (unsigned)st.st_uid, path);
        return CAP_E_INVALID_ARGUMENT;
    }
    if ((st.st_mode & S_IWGRP) != 0 || (st.st_uid != geteuid() && st.st_uid != 0)) {
        log_event(log, LOG_LEVEL_WARNING, log_name("state_not_private"), log_text("path", path),
                  log_number("owner", st.st_uid), log_number("group", st.st_gid),
                  log_text("message", "users other than the daemon's can change the state "
                                      "directory; it should have mode 0700"));
    }
    return CAP_OK;
}

/* Creates a directory of the state if it is missing; what is there must be private. */
static enum cap_error make_dir(const char *path, struct log *log, char *reason)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return fail("create", path, reason);
    }
    return check_access(path, log, reason);
}

/* Opens DIR/lock and takes the lock that dies with the process. *ret_fd is open even on an error,
 * or -1. */
static enum cap_error take_lock(const char *dir, int flags, int *ret_fd, char *reason)
{
    char *path = join(dir, "lock");
    enum cap_error error = CAP_OK;
    *ret_fd = -1;
    if (path == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *ret_fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*ret_fd < 0) {
        error = fail("open", path, reason);
    } else if (flock(*ret_fd, LOCK_EX | LOCK_NB) != 0) {
        error = fail("lock", path, reason);
    }
    if (error == CAP_E_STORE_LOCKED) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "another capstored uses %.180s; stop it, or give another --state", dir);
    }
    free(path);
    return error;
}

/* Removes files that a crash left on file systems without O_TMPFILE. */
static enum cap_error clean_spool(const char *path, char *reason)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return fail("read", path, reason);
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strncmp(entry->d_name, "upload-", 7) == 0) {
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    closedir(dir);
    return CAP_OK;
}

enum cap_error statedir_open(const char *dir, struct log *log, struct statedir **ret_statedir,
                             char ret_reason[CONFIG_REASON_SIZE])
{
    struct statedir *statedir = calloc(1, sizeof(*statedir));
    enum cap_error error = CAP_E_NO_MEMORY;
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    if (statedir == NULL) {
        return error;
    }
    statedir->lock_fd = -1;
    statedir->store_dir = join(dir, "store");
    statedir->spool_dir = join(dir, "spool");
    if (statedir->store_dir == NULL || statedir->spool_dir == NULL) {
        goto fail;
    }
    error = make_dir(dir, log, ret_reason);
    error =
        error == CAP_OK ? take_lock(dir, O_RDWR | O_CREAT, &statedir->lock_fd, ret_reason) : error;
    error = error == CAP_OK ? make_dir(statedir->store_dir, log, ret_reason) : error;
    error = error == CAP_OK ? make_dir(statedir->spool_dir, log, ret_reason) : error;
    error = error == CAP_OK ? clean_spool(statedir->spool_dir, ret_reason) : error;
    if (error != CAP_OK) {
        goto fail;
    }
    *ret_statedir = statedir;
    return CAP_OK;
fail:
    statedir_close(statedir);
    return error;
}

enum cap_error statedir_lock(const char *dir, int *ret_fd, char ret_reason[CONFIG_REASON_SIZE])
{
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    enum cap_error error = take_lock(dir, O_RDONLY, ret_fd, ret_reason);
    if (error != CAP_OK && *ret_fd >= 0) {
        close(*ret_fd);
        *ret_fd = -1;
    }
    return error;
}

void statedir_close(struct statedir *statedir)
{
    if (statedir == NULL) {
        return;
    }
    if (statedir->lock_fd >= 0) {
        close(statedir->lock_fd);
    }
    free(statedir->store_dir);
    free(statedir->spool_dir);
    free(statedir);
}
