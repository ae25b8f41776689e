/*
 * get --resume: a body that is fetched in as many runs as it takes.
 *
 * Happy path: what FILE.part has is kept, the rest is fetched behind it, the whole is verified, and
 * the file gets its name. Failure modes: the connection is lost, or the run is ended: FILE.part
 * stays for the next run. The whole does not verify: what an earlier run left was of another cap,
 * or has changed since, and all of it is fetched anew, once; if that does not verify either, the
 * daemon lies, and nothing is kept.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/capctl/progress.h"
#include "client/capctl/result.h"
#include "client/capctl/resume.h"

struct part {
    struct cli *cli;
    char *final; /* the file's name at the end; links are followed */
    char *path;  /* until then */
    int fd;
    uint64_t len;
    uint64_t body_len; /* what it is to have in the end */
    uint64_t from;     /* its length when this run began; 0: it is this run's alone */
};

static bool fail_part(const struct part *part, int code)
{
    (void)cli_fail_errno(part->cli, part->path, code);
    return false;
}

static void part_close(struct part *part)
{
    if (part->fd >= 0) {
        close(part->fd); /* lets go of the lock */
    }
    free(part->path);
    free(part->final);
}

/* Whether a file that was there is an earlier run's. In a directory that others can write to it may
 * be one with another name too, which would be overwritten, or belong to who can write to it after
 * it has been verified. */
static bool is_own(const struct stat *info)
{
    return info->st_nlink == 1 && info->st_uid == geteuid();
}

/* Opens or makes FILE.part, for this run alone. False after saying what is wrong. */
static bool part_open(struct cli *cli, const char *path, struct part *part)
{
    struct stat info;
    *part = (struct part){.cli = cli, .fd = -1, .final = realpath(path, NULL)};
    if (part->final == NULL && asprintf(&part->final, "%s", path) < 0) {
        part->final = NULL;
    }
    if (part->final == NULL || asprintf(&part->path, "%s.part", part->final) < 0) {
        part->path = NULL;
        (void)cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
        return false;
    }
    const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    part->fd = open(part->path, flags | O_CREAT | O_EXCL, 0666);
    bool made = part->fd >= 0;
    if (part->fd < 0 && errno == EEXIST) {
        part->fd = open(part->path, flags);
    }
    if (part->fd < 0 || fstat(part->fd, &info) < 0) {
        return fail_part(part, errno);
    }
    if (!S_ISREG(info.st_mode)) {
        return fail_part(part, EINVAL);
    }
    if (!made && !is_own(&info)) {
        (void)cli_fail(cli, CLI_FAILED, "io",
                       "%s: it belongs to another user, or has other names too; remove it, or "
                       "choose another -o",
                       part->path);
        return false;
    }
    if (flock(part->fd, LOCK_EX | LOCK_NB) < 0) {
        (void)cli_fail(cli, CLI_FAILED, "io", "%s: another run of capctl is fetching to it",
                       part->path);
        return false;
    }
    part->len = part->from = (uint64_t)info.st_size;
    return true;
}

/* Empties it, to begin anew. False after saying what is wrong. */
static bool part_restart(struct part *part)
{
    part->len = part->from = 0;
    return ftruncate(part->fd, 0) == 0 || fail_part(part, errno);
}

static enum capstore_error on_piece(void *ctx, struct capstore_bytes piece)
{
    struct part *part = ctx;
    if (piece.len > part->body_len - part->len) {
        return CAPSTORE_E_BAD_REPLY; /* there is more of it than it was to have */
    }
    while (piece.len > 0) {
        ssize_t n = pwrite(part->fd, piece.data, piece.len, (off_t)part->len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            (void)fail_part(part, errno);
            return CAPSTORE_E_IO;
        }
        part->len += (uint64_t)n;
        piece.data += n;
        piece.len -= (size_t)n;
    }
    return CAPSTORE_OK;
}

/* Fetches what is missing. False after saying what is wrong: *ret_exit. */
static bool fetch_rest(struct part *part, struct capstore *store, const struct capstore_hash *hash,
                       enum cli_exit *ret_exit)
{
    struct cli *cli = part->cli;
    struct cli_meter meter;
    if (part->len >= part->body_len) {
        return true;
    }
    if (part->len > 0) {
        cli_note("%s has %" PRIu64 " of %" PRIu64 " bytes; going on", part->path, part->len,
                 part->body_len);
    }
    cli_meter_begin(cli, &meter, "fetching", NULL);
    enum capstore_error error =
        capstore_get_range(store, hash, part->len, UINT64_MAX, on_piece, part);
    cli_meter_end(cli);
    if (error == CAPSTORE_OK) {
        return true;
    }
    *ret_exit = cli->failed
                    ? CLI_FAILED
                    : cli_fail_error(cli, error, cli->arguments[0], capstore_message(store));
    cli_note("%" PRIu64 " of %" PRIu64 " bytes are in %s; the same command goes on", part->len,
             part->body_len, part->path);
    return false;
}

/* The verdict on what the file has. */
static enum capstore_error judge(const struct part *part, const struct capstore_hash *hash,
                                 enum capstore_kind *ret_kind)
{
    struct capstore_cap *cap = NULL;
    struct cli_meter meter;
    if (part->len == 0 || part->len > SIZE_MAX) {
        return CAPSTORE_E_BODY_NOT_CANONICAL;
    }
    void *bytes = mmap(NULL, (size_t)part->len, PROT_READ, MAP_SHARED, part->fd, 0);
    if (bytes == MAP_FAILED) {
        return CAPSTORE_E_NO_MEMORY;
    }
    cli_meter_begin(part->cli, &meter, "verifying", NULL);
    enum capstore_error error =
        capstore_cap_from_body((struct capstore_bytes){bytes, (size_t)part->len}, hash, &cap);
    cli_meter_end(part->cli);
    munmap(bytes, (size_t)part->len);
    if (error == CAPSTORE_OK) {
        *ret_kind = capstore_cap_kind(cap);
        capstore_cap_free(cap);
    }
    return error;
}

static bool is_wrong(enum capstore_error error)
{
    return error == CAPSTORE_E_HASH_MISMATCH || error == CAPSTORE_E_BODY_NOT_CANONICAL;
}

/* Gives the file its name, durably. False after saying what is wrong. */
static bool part_finish(struct part *part)
{
    if (fsync(part->fd) < 0 && errno != EINVAL) {
        return fail_part(part, errno);
    }
    if (rename(part->path, part->final) < 0) {
        return fail_part(part, errno);
    }
    char *slash = strrchr(part->final, '/');
    char *directory =
        slash == NULL ? strdup(".") : strndup(part->final, (size_t)(slash - part->final) + 1);
    int fd = directory != NULL ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd); /* of a directory that may not be read there is nothing to say */
        close(fd);
    }
    free(directory);
    return true;
}

static enum cli_exit fetch(struct part *part, struct capstore *store,
                           const struct capstore_hash *hash)
{
    struct cli *cli = part->cli;
    enum cli_exit exit = CLI_FAILED;
    enum capstore_kind kind;
    struct capstore_stat_result stat;
    enum capstore_error error = capstore_stat(store, hash, &stat);
    if (error != CAPSTORE_OK) {
        return cli_fail_error(cli, error, cli->arguments[0], capstore_message(store));
    }
    if (stat.body_len > CLI_LONGEST_BODY) {
        char message[120];
        snprintf(message, sizeof(message),
                 "the body is %" PRIu64 " bytes long; at most %" PRIu64 " are accepted",
                 stat.body_len, CLI_LONGEST_BODY);
        return cli_fail_error(cli, CAPSTORE_E_BODY_TOO_LARGE, cli->arguments[0], message);
    }
    part->body_len = stat.body_len;
    if (part->len > part->body_len && !part_restart(part)) {
        return CLI_FAILED;
    }
    for (;;) {
        if (!fetch_rest(part, store, hash, &exit)) {
            return exit;
        }
        error = judge(part, hash, &kind);
        if (!is_wrong(error) || part->from == 0) {
            break;
        }
        cli_note("what %s had is not of this cap, or has changed; fetching all of it", part->path);
        if (!part_restart(part)) {
            return CLI_FAILED;
        }
    }
    if (error != CAPSTORE_OK) {
        if (is_wrong(error)) {
            (void)unlink(part->path);
        }
        return cli_fail_error(cli, error, cli->arguments[0], NULL);
    }
    if (!part_finish(part)) {
        return CLI_FAILED;
    }
    return cli_print(cli,
                     json_pack("{s:o, s:o, s:o, s:o}", "cap_hash", out_hash(hash), "kind",
                               out_text(capstore_kind_name(kind)), "body_len", out_u64(part->len),
                               "resumed_at", out_u64(part->from)),
                     CLI_DONE);
}

enum cli_exit cli_get_resumed(struct cli *cli)
{
    const char *path = cli->options[CLI_OUTPUT];
    struct capstore_hash hash;
    struct part part;
    enum cli_exit exit = CLI_FAILED;
    if (path == NULL || strcmp(path, "-") == 0 || cli->options[CLI_CONTENT] != NULL) {
        return cli_fail(cli, CLI_USAGE, "usage",
                        "--resume takes a body to a file: -o FILE, without --content");
    }
    if (!cli_parse_hash(cli, cli->arguments[0], &hash)) {
        return CLI_USAGE;
    }
    struct capstore *store = cli_connect(cli, &exit);
    if (store == NULL) {
        return exit;
    }
    if (part_open(cli, path, &part)) {
        exit = fetch(&part, store, &hash);
    } else {
        exit = CLI_FAILED;
    }
    part_close(&part);
    capstore_free(store);
    return exit;
}
