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

static enum cap_error make_dir(const char *path, char *reason)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return fail("create", path, reason);
    }
    return CAP_OK;
}

/* Opens DIR/lock and takes the lock that dies with the process. */
static enum cap_error take_lock(struct statedir *statedir, const char *dir, char *reason)
{
    char *path = join(dir, "lock");
    enum cap_error error = CAP_OK;
    if (path == NULL) {
        return CAP_E_NO_MEMORY;
    }
    statedir->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (statedir->lock_fd < 0) {
        error = fail("open", path, reason);
    } else if (flock(statedir->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        error = fail("lock", path, reason);
    }
    if (error == CAP_E_STORE_LOCKED) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "another capstored holds %.180s; stop it, or give another --state", dir);
    }
    free(path);
    return error;
}

/* Removes files that a crash left where O_TMPFILE is not known. */
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

enum cap_error statedir_open(const char *dir, struct statedir **ret_statedir,
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
    error = make_dir(dir, ret_reason);
    error = error == CAP_OK ? take_lock(statedir, dir, ret_reason) : error;
    error = error == CAP_OK ? make_dir(statedir->store_dir, ret_reason) : error;
    error = error == CAP_OK ? make_dir(statedir->spool_dir, ret_reason) : error;
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
