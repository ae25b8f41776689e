#include "client/capctl/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define STEP ((size_t)256 << 10) /* copied at a time */

/* ---- in ---- */

static bool fail_errno(struct cli *cli, const char *path, int code)
{
    (void)cli_fail_errno(cli, path, code);
    return false;
}

static const char *spool_directory(void)
{
    const char *directory = getenv("TMPDIR");
    return directory != NULL && directory[0] != '\0' ? directory : "/tmp";
}

/* A nameless file for what cannot be read twice. */
static int open_spool(void)
{
    const char *directory = spool_directory();
    char path[PATH_MAX];
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) {
        return fd;
    }
    if (snprintf(path, sizeof(path), "%s/capctl.XXXXXX", directory) >= (int)sizeof(path)) {
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        (void)unlink(path);
    }
    return fd;
}

/* Writes all of it; an errno on failure. */
static int write_all(int fd, const void *data, size_t len)
{
    const char *at = (const char *)data;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno;
        }
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Copies a stream to its end. Returns 0 or an errno. */
static int copy_stream(int from, int to, uint64_t *ret_len)
{
    char *buffer = malloc(STEP);
    int code = buffer == NULL ? ENOMEM : 0;
    uint64_t total = 0;
    while (code == 0) {
        ssize_t n = read(from, buffer, STEP);
        if (n == 0) {
            break;
        }
        if (n < 0) {
            code = errno == EINTR ? 0 : errno;
        } else {
            code = write_all(to, buffer, (size_t)n);
        }
        total += n > 0 ? (uint64_t)n : 0;
    }
    free(buffer);
    *ret_len = total;
    return code;
}

/* Replaces a stream by a spool of its bytes. */
static bool spool(struct cli *cli, const char *path, int from, struct cli_input *input)
{
    int fd = open_spool();
    if (fd < 0) {
        int number = errno;
        char copy[1024];
        snprintf(copy, sizeof(copy), "%.400s: no temporary copy in %.400s (TMPDIR)", path,
                 spool_directory());
        return fail_errno(cli, copy, number);
    }
    int code = copy_stream(from, fd, &input->len);
    if (code != 0) {
        close(fd);
        if (code != ENOSPC && code != EFBIG && code != EDQUOT) {
            return fail_errno(cli, path, code);
        }
        (void)cli_fail(cli, CLI_FAILED, "disk_full",
                       "%s: no room for a temporary copy; set TMPDIR to a directory that has some",
                       path);
        return false;
    }
    input->fd = fd;
    return true;
}

/*
 * Whether a regular file ends where it says: the files of /proc and /sys, which the kernel makes
 * when they are read, do not.
 */
static bool size_true(int fd, uint64_t size)
{
    char byte;
    if (size > INT64_MAX - 1 || pread(fd, &byte, 1, (off_t)size) != 0) {
        return false;
    }
    return size == 0 || pread(fd, &byte, 1, (off_t)size - 1) == 1;
}

static bool take_file(struct cli *cli, const char *path, int fd, struct cli_input *input)
{
    struct stat info;
    if (fstat(fd, &info) < 0) {
        return fail_errno(cli, path, errno);
    }
    if (S_ISDIR(info.st_mode)) {
        return fail_errno(cli, path, EISDIR);
    }
    if (!S_ISREG(info.st_mode) || !size_true(fd, (uint64_t)info.st_size)) {
        return spool(cli, path, fd, input);
    }
    input->fd = fd;
    input->len = (uint64_t)info.st_size;
    return true;
}

bool cli_input_open(struct cli *cli, const char *path, struct cli_input *ret_input)
{
    ret_input->fd = -1;
    if (strcmp(path, "-") == 0) {
        if (!spool(cli, "standard input", STDIN_FILENO, ret_input)) {
            return false;
        }
    } else {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return fail_errno(cli, path, errno);
        }
        bool taken = take_file(cli, path, fd, ret_input);
        if (!taken || ret_input->fd != fd) {
            close(fd);
        }
        if (!taken) {
            return false;
        }
    }
    ret_input->source = capstore_source_fd(&ret_input->fd, ret_input->len);
    return true;
}

void cli_input_close(struct cli_input *input)
{
    if (input->fd >= 0) {
        close(input->fd);
    }
    input->fd = -1;
}

struct capstore_cap *cli_input_body(const struct cli_input *input)
{
    struct capstore_cap *cap = NULL;
    uint8_t kind = 0;
    if (input->len == 0 || input->len > SIZE_MAX / 2 ||
        input->source.read(input->source.ctx, 0, &kind, 1) != CAPSTORE_OK ||
        (kind != CAPSTORE_KIND_IMAGE && kind != CAPSTORE_KIND_DATA)) {
        return NULL;
    }
    uint8_t *body = malloc((size_t)input->len);
    if (body != NULL &&
        input->source.read(input->source.ctx, 0, body, (size_t)input->len) == CAPSTORE_OK) {
        (void)capstore_cap_from_body((struct capstore_bytes){body, (size_t)input->len}, NULL, &cap);
    }
    free(body);
    return cap;
}

/* ---- out ---- */

bool cli_choose_output(struct cli *cli, const char **ret_path)
{
    const char *path = cli->options[CLI_OUTPUT];
    bool to_stdout = path != NULL ? strcmp(path, "-") == 0 : !cli->json;
    if (to_stdout && cli->json) {
        (void)cli_fail(cli, CLI_USAGE, "usage",
                       "-o - and --json cannot share the standard output; name a file");
        return false;
    }
    if (to_stdout && path == NULL && isatty(STDOUT_FILENO) == 1) {
        (void)cli_fail(cli, CLI_USAGE, "usage",
                       "the bytes of a cap do not belong on a terminal; use -o FILE");
        return false;
    }
    *ret_path = to_stdout ? "-" : path;
    return true;
}

#define LINKS_MAX 40 /* as the kernel follows at most */

static bool output_fail(struct cli *cli, const struct cli_output *output, int code)
{
    bool standard = output->path == NULL || strcmp(output->path, "-") == 0;
    return fail_errno(cli, standard ? "standard output" : output->path, code);
}

/* Outputs that have a temporary file, the newest first. */
static struct cli_output *volatile unfinished;

/* A signal that ends the run takes the temporary files with it. */
static void remove_unfinished(int number)
{
    for (struct cli_output *output = unfinished; output != NULL; output = output->older) {
        (void)unlinkat(output->directory, output->temporary, 0);
    }
    (void)raise(number); /* the handler is reset: this ends the run as the signal does */
}

static void watch(struct cli_output *output)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGXCPU};
    output->older = unfinished;
    unfinished = output;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct sigaction action = {.sa_handler = remove_unfinished, .sa_flags = (int)SA_RESETHAND};
        struct sigaction before;
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL) {
            (void)sigaction(numbers[i], &action, NULL);
        }
    }
}

/* Its temporary file is there no more. */
static void unwatch(struct cli_output *output)
{
    if (unfinished == output) {
        unfinished = output->older;
    } else {
        struct cli_output *at = unfinished;
        while (at->older != output) {
            at = at->older;
        }
        at->older = output->older;
    }
    output->temporary[0] = '\0';
}

/* The file at the end of a chain of links, existing or not; owned by the caller. NULL
 * with errno set. */
static char *follow_links(const char *path)
{
    char *at = strdup(path);
    for (int links = 0; at != NULL; links++) {
        char target[PATH_MAX];
        ssize_t len = readlink(at, target, sizeof(target) - 1);
        if (len < 0 && (errno == EINVAL || errno == ENOENT)) {
            return at; /* not a link, or nothing yet */
        }
        if (len < 0 || links == LINKS_MAX) {
            int code = len < 0 ? errno : ELOOP;
            free(at);
            errno = code;
            return NULL;
        }
        target[len] = '\0';
        const char *slash = strrchr(at, '/');
        char *next = NULL;
        if (target[0] == '/' || slash == NULL) {
            next = strdup(target);
        } else if (asprintf(&next, "%.*s/%s", (int)(slash - at), at, target) < 0) {
            next = NULL;
        }
        free(at);
        at = next;
    }
    return NULL;
}

bool cli_make_directory(struct cli *cli, const char *path)
{
    char *final = follow_links(path);
    int code = final == NULL ? errno : 0;
    if (final != NULL && mkdir(final, 0777) < 0 && errno != EEXIST) {
        code = errno;
    }
    free(final);
    return code == 0 || fail_errno(cli, path, code);
}

/* Opens the directory in which the file of this path lies. -1 with errno set. */
static int open_directory(const char *final, const char **ret_name)
{
    const char *slash = strrchr(final, '/');
    char *parent =
        slash == NULL ? strdup(".") : strndup(final, slash == final ? 1 : (size_t)(slash - final));
    if (parent == NULL) {
        return -1;
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) { /* one that may be written and not listed */
        fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    int code = errno;
    free(parent);
    errno = code;
    *ret_name = slash == NULL ? final : slash + 1;
    return fd;
}

/* A temporary file in the directory of `final`, with the mode of the file that it replaces, or a
 * new one's. Its name is short, whatever the final one is. -1 with errno set. */
static int open_beside(struct cli_output *output, const struct stat *before)
{
    output->directory = open_directory(output->final, &output->name);
    if (output->directory < 0) {
        return -1;
    }
    if (output->name[0] == '\0') {
        errno = EISDIR;
        return -1;
    }
    int fd;
    do {
        uint32_t number;
        if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number)) {
            return -1;
        }
        snprintf(output->temporary, sizeof(output->temporary), ".capctl.%08" PRIx32, number);
        watch(output);
        fd = openat(output->directory, output->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                    0600);
        if (fd < 0) {
            int code = errno;
            unwatch(output);
            errno = code;
        }
    } while (fd < 0 && errno == EEXIST);
    if (fd >= 0) {
        mode_t mask = umask(0);
        (void)umask(mask);
        (void)fchmod(fd, before != NULL ? before->st_mode & 0777 : 0666 & ~mask);
    }
    return fd;
}

bool cli_output_open(struct cli *cli, const char *path, struct cli_output *ret_output)
{
    *ret_output = (struct cli_output){.fd = -1, .directory = -1};
    ret_output->path = strdup(path);
    if (ret_output->path == NULL) {
        return output_fail(cli, ret_output, ENOMEM);
    }
    struct stat info;
    bool there = strcmp(path, "-") != 0 && stat(path, &info) == 0;
    if (strcmp(path, "-") == 0) {
        ret_output->stream = true;
        ret_output->fd = dup(STDOUT_FILENO);
    } else if (there && !S_ISREG(info.st_mode)) {
        ret_output->stream = true;
        ret_output->fd = open(path, O_WRONLY | O_CLOEXEC);
    } else {
        /* A link stays a link: what it points to is replaced, or made. */
        ret_output->final = follow_links(path);
        if (ret_output->final != NULL) {
            ret_output->fd = open_beside(ret_output, there ? &info : NULL);
        }
    }
    if (ret_output->fd >= 0) {
        return true;
    }
    int code = errno;
    (void)output_fail(cli, ret_output, code);
    cli_output_close(ret_output);
    return false;
}

/* Opens a file whose name the tool chose: whatever else has it is replaced, and not written to. */
static bool open_own(struct cli *cli, const char *path, struct cli_output *ret_output)
{
    *ret_output = (struct cli_output){.fd = -1, .directory = -1};
    ret_output->path = strdup(path);
    ret_output->final = strdup(path);
    struct stat info;
    if (ret_output->path == NULL || ret_output->final == NULL) {
        errno = ENOMEM;
    } else {
        bool there = lstat(path, &info) == 0 && S_ISREG(info.st_mode);
        ret_output->fd = open_beside(ret_output, there ? &info : NULL);
    }
    if (ret_output->fd >= 0) {
        return true;
    }
    (void)output_fail(cli, ret_output, errno);
    cli_output_close(ret_output);
    return false;
}

bool cli_output_write(struct cli *cli, struct cli_output *output, struct capstore_bytes bytes)
{
    int code = write_all(output->fd, bytes.data, bytes.len);
    return code == 0 || output_fail(cli, output, code);
}

bool cli_output_copy(struct cli *cli, struct cli_output *output,
                     const struct capstore_source *source)
{
    uint8_t *step = malloc(STEP);
    bool good = step != NULL || output_fail(cli, output, ENOMEM);
    for (uint64_t at = 0; good && at < source->len;) {
        size_t len = source->len - at < STEP ? (size_t)(source->len - at) : STEP;
        enum capstore_error error = source->read(source->ctx, at, step, len);
        if (error != CAPSTORE_OK) {
            (void)cli_fail_error(cli, error, "reading", NULL);
            good = false;
        } else {
            good = cli_output_write(cli, output, (struct capstore_bytes){step, len});
        }
        at += len;
    }
    free(step);
    return good;
}

/* Zeros to a stream, as many as it takes. */
static bool write_zeros(struct cli *cli, struct cli_output *output, uint64_t len)
{
    static const uint8_t zeros[65536];
    while (len > 0) {
        size_t some = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);
        if (!cli_output_write(cli, output, (struct capstore_bytes){zeros, some})) {
            return false;
        }
        len -= some;
    }
    return true;
}

static bool data_to_stream(struct cli *cli, struct cli_output *output,
                           const struct capstore_cap *cap)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < capstore_data_page_count(cap); i++) {
        struct capstore_page page = capstore_data_page(cap, i);
        uint64_t start = page.index * CAPSTORE_PAGE_SIZE;
        if (!write_zeros(cli, output, start - at) || !cli_output_write(cli, output, page.bytes)) {
            return false;
        }
        at = start + page.bytes.len;
    }
    return write_zeros(cli, output, capstore_data_size(cap) - at);
}

static int write_at(int fd, uint64_t offset, struct capstore_bytes bytes)
{
    while (bytes.len > 0) {
        ssize_t n = pwrite(fd, bytes.data, bytes.len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno;
        }
        bytes.data += n;
        bytes.len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

bool cli_output_data(struct cli *cli, struct cli_output *output, const struct capstore_cap *cap)
{
    if (output->stream) {
        return data_to_stream(cli, output, cap);
    }
    uint64_t size = capstore_data_size(cap);
    if (size > INT64_MAX || ftruncate(output->fd, (off_t)size) < 0) {
        int code = size > INT64_MAX ? EFBIG : errno;
        if (code != EFBIG && code != EINVAL) {
            return output_fail(cli, output, code);
        }
        (void)cli_fail(cli, CLI_FAILED, "disk_full",
                       "%s: a file of %" PRIu64 " bytes is larger than the file size limit "
                       "(ulimit -f) or the file system allows; fetch the body instead (without "
                       "--content)",
                       output->path, size);
        return false;
    }
    int code = 0;
    for (uint64_t i = 0; code == 0 && i < capstore_data_page_count(cap); i++) {
        struct capstore_page page = capstore_data_page(cap, i);
        code = write_at(output->fd, page.index * CAPSTORE_PAGE_SIZE, page.bytes);
    }
    return code == 0 || output_fail(cli, output, code);
}

/*
 * Makes what was written last over a power cut. A file system that cannot sync this (EINVAL and the
 * like), or a directory that may not be listed (EBADF: opened for its path only), is not an error.
 */
static int sync_fd(int fd)
{
    if (fsync(fd) == 0 || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS ||
        errno == EBADF || errno == EROFS) {
        return 0;
    }
    return errno;
}

/* Gives an output its name; the bytes are synced first, unless they are already. */
static bool put_in_place(struct cli *cli, struct cli_output *output, bool synced)
{
    bool whole = output->temporary[0] != '\0';
    int fd = output->fd;
    output->fd = -1;
    int code = whole && !synced ? sync_fd(fd) : 0;
    /* Some file systems report a full disk only now. */
    if (close(fd) < 0 && code == 0) {
        code = errno;
    }
    if (code == 0 && whole) {
        if (renameat(output->directory, output->temporary, output->directory, output->name) < 0) {
            code = errno;
        } else {
            unwatch(output);
        }
    }
    return code == 0 || output_fail(cli, output, code);
}

/* Makes the name last. */
static bool sync_name(struct cli *cli, const struct cli_output *output)
{
    int code = output->directory >= 0 ? sync_fd(output->directory) : 0;
    return code == 0 || output_fail(cli, output, code);
}

bool cli_output_commit(struct cli *cli, struct cli_output *output)
{
    return put_in_place(cli, output, false) && sync_name(cli, output);
}

void cli_output_close(struct cli_output *output)
{
    if (output->fd >= 0) {
        close(output->fd);
    }
    if (output->temporary[0] != '\0') {
        (void)unlinkat(output->directory, output->temporary, 0);
        unwatch(output);
    }
    if (output->directory >= 0) {
        close(output->directory);
    }
    free(output->final);
    free(output->path);
    *output = (struct cli_output){.fd = -1, .directory = -1};
}

/* ---- many results ---- */

/*
 * Syncs the bytes of all by one call for each file system. False where that is not certain: FUSE
 * hands the call on to few of its servers, and what fails may be somebody else's file.
 */
static bool sync_together(const struct cli_batch *batch)
{
    struct stat info;
    struct statfs fs;
    bool any = false;
    dev_t synced = 0;
    for (size_t i = 0; i < batch->count; i++) {
        int fd = batch->outputs[i].fd;
        if (batch->outputs[i].temporary[0] == '\0') {
            continue;
        }
        if (fstat(fd, &info) < 0) {
            return false;
        }
        if (any && info.st_dev == synced) {
            continue;
        }
        if (fstatfs(fd, &fs) < 0 || fs.f_type == FUSE_SUPER_MAGIC || syncfs(fd) < 0) {
            return false;
        }
        any = true;
        synced = info.st_dev;
    }
    return true;
}

/* Whether two outputs lie in one directory. */
static bool are_neighbours(const struct cli_output *one, const struct cli_output *other)
{
    struct stat a;
    struct stat b;
    return fstat(one->directory, &a) == 0 && fstat(other->directory, &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool cli_batch_commit(struct cli *cli, struct cli_batch *batch)
{
    bool good = true;
    bool synced = sync_together(batch);
    for (size_t i = 0; good && i < batch->count; i++) {
        good = put_in_place(cli, &batch->outputs[i], synced);
    }
    for (size_t i = 0; good && i < batch->count; i++) {
        if (i == 0 || !are_neighbours(&batch->outputs[i - 1], &batch->outputs[i])) {
            good = sync_name(cli, &batch->outputs[i]);
        }
    }
    cli_batch_close(batch);
    return good;
}

struct cli_output *cli_batch_open(struct cli *cli, struct cli_batch *batch, const char *path)
{
    if (batch->count == CLI_BATCH && !cli_batch_commit(cli, batch)) {
        return NULL;
    }
    struct cli_output *output = &batch->outputs[batch->count];
    if (!open_own(cli, path, output)) {
        return NULL;
    }
    batch->count++;
    return output;
}

void cli_batch_close(struct cli_batch *batch)
{
    while (batch->count > 0) {
        cli_output_close(&batch->outputs[--batch->count]);
    }
}
