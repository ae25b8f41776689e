#include "daemon/upkeep/verify.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/core/check.h"

#define LOOK_MS   200 /* between two looks whether the job is cancelled */
#define LINE_SIZE 400u

/* The process, and what it has said on its standard error. */
struct verification {
    struct upkeep_job *job;
    pid_t process; /* leads a group: the check has a child of its own */
    int fd;
    char line[LINE_SIZE]; /* the last whole one */
    char next[LINE_SIZE];
    size_t next_len;
};

/* --- What it says ----------------------------------------------------------------------------- */

/* "checked 1 of 2 caps, 3 of 4 MiB" */
static void show_progress(struct verification *verification)
{
    static const char beginning[] = "checked ";
    const char *at = verification->line;
    uint64_t numbers[4];
    if (strncmp(at, beginning, sizeof(beginning) - 1) != 0) {
        return;
    }
    for (size_t i = 0; i < 4; i++) {
        char *end;
        at += strcspn(at, "0123456789");
        numbers[i] = strtoull(at, &end, 10);
        at = end;
    }
    job_progress(verification->job, numbers[0], numbers[1], numbers[2] << 20, numbers[3] << 20,
                 "verifying");
}

static void take_byte(struct verification *verification, char byte)
{
    if (byte != '\n' && verification->next_len < LINE_SIZE - 1) {
        verification->next[verification->next_len++] = byte;
    } else if (byte == '\n') {
        memcpy(verification->line, verification->next, verification->next_len);
        verification->line[verification->next_len] = '\0';
        verification->next_len = 0;
        show_progress(verification);
    }
}

/* Reads until the process closes its standard error. False: the job is cancelled. */
static bool listen_to(struct verification *verification)
{
    char bytes[256];
    ssize_t len = 1;
    while (len != 0) {
        struct pollfd look = {.fd = verification->fd, .events = POLLIN};
        if (atomic_load(&verification->job->cancelled)) {
            return false;
        }
        if (poll(&look, 1, LOOK_MS) <= 0) {
            continue;
        }
        len = read(verification->fd, bytes, sizeof(bytes));
        for (ssize_t i = 0; i < len; i++) {
            take_byte(verification, bytes[i]);
        }
    }
    return true;
}

/* --- The process ------------------------------------------------------------------------------ */

/* Has the child's standard output go to a file, and its standard error to a pipe. */
static int describe(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes,
                    const char *findings, int pipe_end)
{
    sigset_t none, defaults;
    (void)sigemptyset(&none);
    (void)sigemptyset(&defaults);
    (void)sigaddset(&defaults, SIGPIPE); /* it ends when nobody listens any more */
    int rc = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, findings,
                                              O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (rc == 0) {
        rc = posix_spawn_file_actions_adddup2(actions, pipe_end, STDERR_FILENO);
    }
    if (rc == 0) {
        rc = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                      POSIX_SPAWN_SETSIGDEF);
    }
    if (rc == 0) {
        rc = posix_spawnattr_setsigdefault(attributes, &defaults);
    }
    return rc == 0 ? posix_spawnattr_setsigmask(attributes, &none) : rc;
}

static int spawn(struct verification *verification, const char *dir, const char *findings,
                 int pipe_end)
{
    static char program[] = "capstored", check[] = "--check", state[] = "--state";
    char path[PATH_MAX];
    char *arguments[] = {program, check, state, path, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    snprintf(path, sizeof(path), "%s", dir);
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0) {
        return rc;
    }
    rc = posix_spawnattr_init(&attributes);
    if (rc == 0) {
        rc = describe(&actions, &attributes, findings, pipe_end);
        if (rc == 0) {
            rc = posix_spawn(&verification->process, "/proc/self/exe", &actions, &attributes,
                             arguments, environ);
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int start(struct verification *verification, const char *dir, const char *findings)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return errno;
    }
    int rc = spawn(verification, dir, findings, ends[1]);
    close(ends[1]);
    verification->fd = ends[0];
    if (rc != 0) {
        close(ends[0]);
    }
    return rc;
}

static int wait_for(const struct verification *verification)
{
    int status = 0;
    while (waitpid(verification->process, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

static enum cap_error judge(struct verification *verification, int status, const char *findings)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHECK_SOUND) {
        return unlink(findings) == 0 ? CAP_OK : CAP_E_IO;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHECK_DAMAGED) {
        return CAP_E_CORRUPT;
    }
    job_message(verification->job, "the copy could not be verified: %s",
                verification->line[0] != '\0' ? verification->line : "the check was killed");
    return CAP_E_IO;
}

enum cap_error upkeep_verify(struct upkeep_job *job, const char *dir)
{
    struct verification verification = {.job = job};
    char findings[PATH_MAX];
    snprintf(findings, sizeof(findings), "%s/" VERIFY_FINDINGS, dir);
    job_progress(job, 0, 0, 0, 0, "verifying");
    int rc = start(&verification, dir, findings);
    if (rc != 0) {
        job_message(job, "cannot start capstored --check: %s", strerror(rc));
        return CAP_E_IO;
    }
    bool heard = listen_to(&verification);
    if (!heard) {
        (void)kill(-verification.process, SIGKILL);
    }
    int status = wait_for(&verification);
    close(verification.fd);
    return heard ? judge(&verification, status, findings) : CAP_E_CANCELLED;
}
