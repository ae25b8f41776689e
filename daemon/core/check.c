/*
 * The check of a store, in a child process.
 *
 * Happy path. The state directory's lock is taken, so that no daemon writes meanwhile. The child
 * verifies the store, prints what it finds and says by its exit status how it ended.
 *
 * Failure modes. The child is killed by a signal: what a damaged file does to the storage engine is
 * a finding; the child has noted in shared memory what it was looking at. A lock that is held, a
 * store that is missing: the check failed, which says nothing of the store.
 */
#include "daemon/core/check.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/core/env.h"
#include "daemon/core/statedir.h"
#include "lib/store/store.h"

#define TERMINAL_US UINT64_C(200000)  /* between two lines of progress that overwrite each other */
#define LOG_US      UINT64_C(5000000) /* between two that stay */

/* What the child leaves behind, however it ends. */
struct note {
    struct cap_check_progress progress;
    uint64_t findings;
    struct cap_check_outcome outcome; /* of a repair */
    bool ended;                       /* by itself: `error` says how */
    enum cap_error error;
};

/* The child's. */
struct check {
    struct note *note;
    bool terminal;
    uint64_t shown_us;
};

/* --- The child -------------------------------------------------------------------------------- */

static void print_finding(const struct cap_hash *hash, const char *what)
{
    char hex[CAP_HASH_HEX_SIZE] = "store";
    if (hash != NULL) {
        cap_hash_format(hash, hex);
    }
    printf("%s %s\n", hex, what);
    (void)fflush(stdout);
}

static void on_finding(void *ctx, const struct cap_hash *hash, const char *what)
{
    struct check *check = ctx;
    check->note->findings++;
    print_finding(hash, what);
}

static void on_progress(void *ctx, const struct cap_check_progress *progress)
{
    struct check *check = ctx;
    uint64_t now = env_monotonic_us(env_system());
    check->note->progress = *progress;
    if (now - check->shown_us < (check->terminal ? TERMINAL_US : LOG_US)) {
        return;
    }
    check->shown_us = now;
    fprintf(stderr, "%schecked %" PRIu64 " of %" PRIu64 " %s, %" PRIu64 " of %" PRIu64 " MiB%s",
            check->terminal ? "\r" : "", progress->caps, progress->caps_total,
            progress->caps_total == 1 ? "cap" : "caps", progress->bytes >> 20,
            progress->bytes_total >> 20, check->terminal ? "" : "\n");
}

static _Noreturn void run_child(const char *dir, bool repair, struct note *note)
{
    const struct rlimit no_core = {0, 0};
    struct check check = {.note = note, .terminal = isatty(STDERR_FILENO) == 1};
    check.shown_us = env_monotonic_us(env_system());
    const struct cap_check_watch watch = {on_finding, on_progress, &check};
    uint64_t findings = 0;
    (void)setrlimit(RLIMIT_CORE, &no_core); /* a crash is a finding, and the store is private */
    (void)signal(SIGSEGV, SIG_DFL);         /* whatever a sanitizer wants to make of it */
    (void)signal(SIGBUS, SIG_DFL);
    note->error = repair ? cap_store_lmdb_repair(dir, &watch, &note->outcome)
                         : cap_store_lmdb_check(dir, &watch, &findings);
    if (check.terminal) {
        fprintf(stderr, "\r\033[K");
    }
    note->ended = true;
    _exit(EXIT_SUCCESS);
}

/* --- The parent ------------------------------------------------------------------------------- */

static enum check_status fail(char *reason, const char *what, int number)
{
    snprintf(reason, CONFIG_REASON_SIZE, "cannot %s: %s", what, strerror(number));
    return CHECK_FAILED;
}

/* A damaged file makes the storage engine do what these signals stop. */
static bool is_crash(int signal_number)
{
    return signal_number == SIGSEGV || signal_number == SIGBUS || signal_number == SIGABRT ||
           signal_number == SIGFPE || signal_number == SIGILL;
}

static void print_crash(const struct note *note, int signal_number)
{
    char what[200];
    const struct cap_check_progress *progress = &note->progress;
    snprintf(what, sizeof(what),
             "the index is damaged: the storage engine crashed (SIG%s) while reading %s%s",
             sigabbrev_np(signal_number),
             progress->index == NULL ? "its first pages" : "the index ",
             progress->index == NULL ? "" : progress->index);
    print_finding(progress->has_hash ? &progress->hash : NULL, what);
}

static enum check_status judge(const char *dir, bool repair, struct note *note, int status,
                               char *reason)
{
    if (WIFSIGNALED(status) && is_crash(WTERMSIG(status))) {
        print_crash(note, WTERMSIG(status));
        note->findings++;
    } else if (WIFSIGNALED(status)) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "the check was ended by SIG%s; run it again, and if nobody sent the signal see "
                 "whether memory was short (dmesg)",
                 sigabbrev_np(WTERMSIG(status)));
        return CHECK_FAILED;
    } else if (!note->ended) {
        snprintf(reason, CONFIG_REASON_SIZE, "the check ended with status %d and no result",
                 WEXITSTATUS(status));
        return CHECK_FAILED;
    } else if (note->error == CAP_E_STORE_VERSION) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "another version of capstored wrote the store in %.180s; check it with that one",
                 dir);
        return CHECK_FAILED;
    } else if (note->error != CAP_OK) {
        snprintf(reason, CONFIG_REASON_SIZE, "cannot check the store in %.180s: %s", dir,
                 note->error == CAP_E_IO ? "there is none, or it cannot be read"
                                         : cap_error_text(note->error));
        return CHECK_FAILED;
    }
    if (repair && note->findings > 0) {
        const struct cap_check_outcome *outcome = &note->outcome;
        fprintf(stderr,
                "%s: %" PRIu64 " %s; repaired: %" PRIu64 ", not: %" PRIu64
                "; newly quarantined: %" PRIu64 "\n",
                dir, note->findings, note->findings == 1 ? "finding" : "findings", outcome->mended,
                outcome->unmended, outcome->quarantined);
        return outcome->unmended > 0 || outcome->mended == 0 ? CHECK_DAMAGED : CHECK_SOUND;
    }
    if (note->findings > 0) {
        fprintf(stderr, "%s: damaged, %" PRIu64 " %s\n", dir, note->findings,
                note->findings == 1 ? "finding" : "findings");
        return CHECK_DAMAGED;
    }
    fprintf(stderr, "%s: sound, %" PRIu64 " %s, %" PRIu64 " bytes read\n", dir, note->progress.caps,
            note->progress.caps == 1 ? "cap" : "caps", note->progress.bytes);
    return CHECK_SOUND;
}

static enum check_status run_locked(const char *dir, bool repair, char *reason)
{
    int status = 0;
    struct note *note =
        mmap(NULL, sizeof(*note), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (note == MAP_FAILED) {
        return fail(reason, "share memory with a process", errno);
    }
    pid_t child = fork();
    if (child == 0) {
        run_child(dir, repair, note);
    }
    enum check_status verdict = CHECK_FAILED;
    if (child < 0) {
        verdict = fail(reason, "start a process", errno);
    } else {
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        verdict = judge(dir, repair, note, status, reason);
    }
    (void)munmap(note, sizeof(*note));
    return verdict;
}

enum check_status check_run(const struct config *config, bool repair,
                            char ret_reason[CONFIG_REASON_SIZE])
{
    char dir[CONFIG_TEXT_SIZE + 8];
    int lock = -1;
    snprintf(dir, sizeof(dir), "%s/store", config->state);
    if (statedir_lock(config->state, &lock, ret_reason) != CAP_OK) {
        return CHECK_FAILED;
    }
    enum check_status status = run_locked(dir, repair, ret_reason);
    close(lock);
    return status;
}
