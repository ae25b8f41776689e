/*
 * The job that makes a backup, and the list of those that are there.
 *
 * Happy path. A directory under a temporary name; the store copies a snapshot into it, no faster
 * than backup-rate; the copy is verified in a process of its own; it is marked, synced and renamed;
 * older ones are removed.
 *
 * Failure modes. Whatever fails, the unfinished directory is removed, by the next backup if this
 * one could not; older backups stay. A copy that is not sound is kept for what can be saved from
 * it, and the job fails.
 */
#include "daemon/upkeep/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/core/oserror.h"
#include "daemon/core/statedir.h"
#include "daemon/upkeep/verify.h"

#define TEMP_ENDING    ".new"
#define VERIFIED       "verified"
#define STORE_FILE     "store/store.lmdb"
#define NAME_PATTERN   "dddddddd?dddddd.dddZ" /* d: a digit; ?: a T */
#define REMOVE_FDS_MAX 8                      /* descriptors that a removal may take */

struct backups {
    struct context *context;
    struct upkeep_jobs *jobs;
    const char *dir;                 /* NULL: not configured */
    uv_mutex_t lock;                 /* of what follows */
    struct backup list[BACKUPS_MAX]; /* the newest first */
    size_t count;
    bool failed;
};

/* One backup that is being made. On the job's thread. */
struct making {
    struct backups *backups;
    struct upkeep_job *job;
    struct backup backup;
    char path[PATH_MAX];
    char temp[PATH_MAX];
    uint64_t began_us; /* monotonic */
    struct cap_copy_progress copied;
};

/* --- Names ------------------------------------------------------------------------------------ */

static bool is_name(const char *name, size_t len)
{
    static const char pattern[] = NAME_PATTERN;
    for (size_t i = 0; i < sizeof(pattern) - 1; i++) {
        bool fits = pattern[i] == 'd' ? name[i] >= '0' && name[i] <= '9'
                                      : name[i] == (pattern[i] == '?' ? 'T' : pattern[i]);
        if (!fits) { /* the end of the name too */
            return false;
        }
    }
    return len == sizeof(pattern) - 1;
}

static bool is_temp(const char *name)
{
    size_t len = strlen(name);
    size_t ending = sizeof(TEMP_ENDING) - 1;
    return len > ending && strcmp(name + len - ending, TEMP_ENDING) == 0 &&
           is_name(name, len - ending);
}

static void name_of(uint64_t real_us, char ret_name[BACKUP_NAME_SIZE])
{
    time_t seconds = (time_t)(real_us / 1000000);
    struct tm tm;
    char text[16] = "";
    if (gmtime_r(&seconds, &tm) != NULL) {
        (void)strftime(text, sizeof(text), "%Y%m%dT%H%M%S", &tm);
    }
    snprintf(ret_name, BACKUP_NAME_SIZE, "%s.%03uZ", text, (unsigned)(real_us / 1000 % 1000));
}

/* When a backup of that name was begun; 0: unknown. */
static uint64_t time_of(const char *name)
{
    struct tm tm = {0};
    const char *rest = strptime(name, "%Y%m%dT%H%M%S", &tm);
    time_t seconds = rest == NULL ? -1 : timegm(&tm);
    return seconds < 0 ? 0 : (uint64_t)seconds * 1000000 + strtoull(rest + 1, NULL, 10) * 1000;
}

/* --- What is there ---------------------------------------------------------------------------- */

/* DIR/NAME; false: it is too long. */
static bool join(const char *dir, const char *name, char ret_path[PATH_MAX])
{
    return snprintf(ret_path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX;
}

static bool exists(const char *dir, const char *name, struct stat *ret_st)
{
    char path[PATH_MAX];
    return join(dir, name, path) && lstat(path, ret_st) == 0;
}

/* Looks at one; false: it is none. */
static bool look_at(const char *dir, struct backup *backup)
{
    char path[PATH_MAX];
    struct stat st;
    if (!join(dir, backup->name, path) || !exists(path, STORE_FILE, &st)) {
        return false;
    }
    backup->bytes = (uint64_t)st.st_size;
    backup->made_us = time_of(backup->name);
    backup->verified = exists(path, VERIFIED, &st);
    return true;
}

/* Enters it in its place by name; the oldest falls out of a full list. Under the lock. */
static void enter(struct backups *backups, const struct backup *backup)
{
    size_t at = 0;
    while (at < backups->count && strcmp(backups->list[at].name, backup->name) > 0) {
        at++;
    }
    if (at == BACKUPS_MAX) {
        return;
    }
    size_t behind = MIN(backups->count, BACKUPS_MAX - 1) - at;
    memmove(&backups->list[at + 1], &backups->list[at], behind * sizeof(*backup));
    backups->list[at] = *backup;
    backups->count = at + behind + 1;
}

/* Reads the directory: what others did there since is known too. errno. */
static int look_around(struct backups *backups)
{
    DIR *dir = opendir(backups->dir);
    if (dir == NULL) {
        return errno;
    }
    uv_mutex_lock(&backups->lock);
    backups->count = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        struct backup backup = {0};
        if (is_name(entry->d_name, strlen(entry->d_name))) {
            memcpy(backup.name, entry->d_name, sizeof(NAME_PATTERN));
            if (look_at(backups->dir, &backup)) {
                enter(backups, &backup);
            }
        }
    }
    uv_mutex_unlock(&backups->lock);
    closedir(dir);
    return 0;
}

/* --- Removing --------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Removes a directory with all that is in it; links are not followed. */
static bool remove_tree(const char *path)
{
    return nftw(path, remove_one, REMOVE_FDS_MAX, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0;
}

/* Removes a backup, unless somebody uses it as the state of a daemon. */
static void remove_backup(struct backups *backups, const struct backup *backup)
{
    char path[PATH_MAX];
    char reason[CONFIG_REASON_SIZE];
    int lock = -1;
    bool removed = join(backups->dir, backup->name, path) &&
                   statedir_lock(path, &lock, reason) != CAP_E_STORE_LOCKED && remove_tree(path);
    log_event(&backups->context->log, removed ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
              log_name(removed ? "backup_removed" : "backup_not_removed"), log_text("path", path),
              log_number("bytes", backup->bytes));
    if (lock >= 0) {
        close(lock);
    }
}

static void remove_leftovers(struct backups *backups)
{
    DIR *dir = opendir(backups->dir);
    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL;
         entry = readdir(dir)) {
        char path[PATH_MAX];
        if (is_temp(entry->d_name) && join(backups->dir, entry->d_name, path)) {
            (void)remove_tree(path);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* Removes what is more than is to be kept; not `newest`, whatever its name says of its age. */
static void remove_oldest(struct backups *backups, const struct backup *newest)
{
    struct backup list[BACKUPS_MAX];
    uint64_t sound = 0, unsound = 0;
    size_t count = backups_list(backups, list);
    for (size_t i = 0; i < count; i++) {
        bool is_newest = strcmp(list[i].name, newest->name) == 0;
        uint64_t *seen = list[i].verified ? &sound : &unsound;
        uint64_t keep = list[i].verified ? (uint64_t)backups->context->config.backup_keep : 1;
        if (!is_newest && *seen >= keep) {
            remove_backup(backups, &list[i]);
        } else {
            (*seen)++;
        }
    }
}

/* --- Making ----------------------------------------------------------------------------------- */

static enum cap_error fail(struct making *making, const char *what, const char *path)
{
    int number = errno;
    job_message(making->job, "cannot %s %.150s: %s", what, path, strerror(number));
    return error_of_errno(number);
}

/* Others must not be able to change what root may start from one day. */
static enum cap_error check_dir(struct making *making)
{
    const char *dir = making->backups->dir;
    struct stat st;
    if (stat(dir, &st) != 0) {
        return fail(making, "use", dir);
    }
    if ((st.st_mode & S_IWOTH) != 0) {
        job_message(making->job, "%.120s can be changed by every user; run: chmod o-w %.100s", dir,
                    dir);
        return CAP_E_INVALID_ARGUMENT;
    }
    return CAP_OK;
}

static enum cap_error make_file(struct making *making, const char *name)
{
    char path[PATH_MAX];
    int fd = join(making->temp, name, path) ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0 || fsync(fd) != 0) {
        enum cap_error error = fail(making, "write", path);
        if (fd >= 0) {
            close(fd);
        }
        return error;
    }
    close(fd);
    return CAP_OK;
}

static enum cap_error sync_dir(struct making *making, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP);
    enum cap_error error = synced ? CAP_OK : fail(making, "sync", path);
    if (fd >= 0) {
        close(fd);
    }
    return error;
}

/* Shows how far the copy is, and waits when it is ahead of its rate. */
static bool on_copied(void *ctx, const struct cap_copy_progress *progress)
{
    struct making *making = ctx;
    const struct context *context = making->backups->context;
    uint64_t rate = context->config.backup_rate;
    uint64_t took_us = env_monotonic_us(context->env) - making->began_us;
    making->copied = *progress;
    job_progress(making->job, progress->records, progress->records_total, progress->bytes,
                 progress->bytes_total, "copying");
    /* In microseconds by way of a double: exact enough, and it cannot overflow. */
    double wanted_us = rate > 0 ? (double)progress->bytes * 1e6 / (double)rate : 0;
    uint64_t wait_us = wanted_us > (double)took_us ? (uint64_t)wanted_us - took_us : 0;
    return job_wait(making->job, wait_us);
}

static enum cap_error copy_store(struct making *making)
{
    const struct context *context = making->backups->context;
    char path[PATH_MAX];
    struct cap_copy copy = {
        .keep_free = context->config.disk_reserve, .go_on = on_copied, .ctx = making};
    if (!join(making->temp, "store", path) || mkdir(path, 0700) != 0) {
        return fail(making, "create", path);
    }
    making->began_us = env_monotonic_us(context->env);
    enum cap_error error = cap_store_backup(context->store, path, &copy);
    if (error == CAP_E_DISK_FULL) {
        job_message(making->job,
                    "not enough room for a backup in %.100s: need %" PRIu64 " bytes, have %" PRIu64,
                    making->backups->dir, copy.need, copy.have);
    }
    making->backup.bytes = copy.file_bytes;
    return error;
}

/* The whole of it under its temporary name, synced. CAP_E_CORRUPT: it is not sound. */
static enum cap_error fill(struct making *making)
{
    enum cap_error error = copy_store(making);
    if (error == CAP_OK) {
        error = make_file(making, "lock");
    }
    if (error != CAP_OK) {
        return error;
    }
    enum cap_error verdict = upkeep_verify(making->job, making->temp);
    if (verdict == CAP_OK) {
        error = make_file(making, VERIFIED);
        making->backup.verified = true;
    } else if (verdict != CAP_E_CORRUPT) {
        return verdict;
    }
    if (error == CAP_OK) {
        error = sync_dir(making, making->temp);
    }
    return error == CAP_OK ? verdict : error;
}

static enum cap_error make(struct making *making)
{
    struct backups *backups = making->backups;
    enum cap_error error = check_dir(making);
    if (error != CAP_OK) {
        return error;
    }
    remove_leftovers(backups);
    if (mkdir(making->temp, 0700) != 0) {
        return fail(making, "create", making->temp);
    }
    error = fill(making);
    bool whole = error == CAP_OK || error == CAP_E_CORRUPT;
    if (whole && making->backup.bytes > 0 && rename(making->temp, making->path) != 0) {
        error = fail(making, "name", making->path);
        whole = false;
    }
    if (!whole || making->backup.bytes == 0) {
        (void)remove_tree(making->temp);
        return error;
    }
    enum cap_error synced = sync_dir(making, backups->dir);
    return synced == CAP_OK ? error : synced;
}

static void tell(struct making *making, enum cap_error error)
{
    const struct backup *backup = &making->backup;
    const struct cap_copy_progress *copied = &making->copied;
    job_progress(making->job, copied->records, copied->records_total, copied->bytes,
                 error == CAP_OK ? copied->bytes : copied->bytes_total, "");
    if (error == CAP_OK) {
        job_message(making->job, "%s: %" PRIu64 " bytes, verified", backup->name, backup->bytes);
    } else if (error == CAP_E_CORRUPT && backup->bytes > 0) {
        job_message(
            making->job,
            "%s is damaged as the store is: its file " VERIFY_FINDINGS
            " says what is wrong; publish those caps again, or repair the store (scrub.start)",
            backup->name);
    }
}

static enum cap_error run(struct upkeep_job *job, void *ctx)
{
    struct backups *backups = ctx;
    struct making making = {.backups = backups, .job = job};
    making.backup.made_us = env_real_us(backups->context->env);
    name_of(making.backup.made_us, making.backup.name);
    char temp[BACKUP_NAME_SIZE + sizeof(TEMP_ENDING)];
    snprintf(temp, sizeof(temp), "%s" TEMP_ENDING, making.backup.name);
    enum cap_error error = CAP_E_INVALID_ARGUMENT;
    if (join(backups->dir, making.backup.name, making.path) &&
        join(backups->dir, temp, making.temp)) {
        error = make(&making);
        tell(&making, error);
    }
    (void)look_around(backups);
    if (error == CAP_OK || error == CAP_E_CORRUPT) {
        remove_oldest(backups, &making.backup);
        (void)look_around(backups);
    }
    uv_mutex_lock(&backups->lock);
    backups->failed = error != CAP_OK;
    uv_mutex_unlock(&backups->lock);
    return error;
}

/* --- For the others --------------------------------------------------------------------------- */

enum cap_error backups_new(struct context *context, struct upkeep_jobs *jobs,
                           struct backups **ret_backups)
{
    struct backups *backups = calloc(1, sizeof(*backups));
    if (backups == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (uv_mutex_init(&backups->lock) != 0) {
        free(backups);
        return CAP_E_NO_MEMORY;
    }
    backups->context = context;
    backups->jobs = jobs;
    backups->dir = context->config.backup_dir;
    *ret_backups = backups;
    int number = backups->dir == NULL ? 0 : look_around(backups);
    if (number != 0) {
        log_event(&context->log, LOG_LEVEL_WARNING, log_name("no_backup_dir"),
                  log_text("path", backups->dir), log_text("message", strerror(number)));
    }
    return CAP_OK;
}

void backups_free(struct backups *backups)
{
    if (backups != NULL) {
        uv_mutex_destroy(&backups->lock);
        free(backups);
    }
}

enum cap_error backups_start(struct backups *backups, uint64_t *ret_id)
{
    return backups->dir == NULL
               ? CAP_E_NOT_CONFIGURED
               : upkeep_jobs_start(backups->jobs, UPKEEP_BACKUP, run, backups, ret_id);
}

size_t backups_list(struct backups *backups, struct backup ret_list[BACKUPS_MAX])
{
    uv_mutex_lock(&backups->lock);
    size_t count = backups->count;
    memcpy(ret_list, backups->list, count * sizeof(*ret_list));
    uv_mutex_unlock(&backups->lock);
    return count;
}

void backups_figures(struct backups *backups, struct backups_figures *ret_figures)
{
    struct backups_figures figures = {0};
    uv_mutex_lock(&backups->lock);
    for (size_t i = 0; i < backups->count; i++) {
        const struct backup *backup = &backups->list[i];
        figures.count += backup->verified ? 1 : 0;
        figures.made_us =
            backup->verified ? MAX(figures.made_us, backup->made_us) : figures.made_us;
    }
    figures.failed = backups->failed;
    uv_mutex_unlock(&backups->lock);
    *ret_figures = figures;
}
