/*
 * The handler of SIGBUS. It does only what POSIX allows in one: looks at the thread's guard, and
 * jumps or steps aside.
 */
#include "lib/store/lmdb/guard.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of `previous`, but for the handler */
static struct sigaction previous;

static _Thread_local struct lmdb_guard *volatile current;

/* Whether the signal says that a load of this thread's failed, rather than that somebody sent it.
 */
static bool is_load(const siginfo_t *info)
{
#ifdef BUS_MCEERR_AR
    if (info->si_code == BUS_MCEERR_AR) { /* bad memory under the page cache */
        return true;
    }
#endif
    return info->si_code == BUS_ADRERR;
}

static void on_bus(int number, siginfo_t *info, void *context)
{
    struct lmdb_guard *guard = current;
    uintptr_t at = (uintptr_t)info->si_addr;
    if (guard != NULL && is_load(info) && lmdb_map_has(guard->map, at)) {
        const ucontext_t *at_load = context;
        current = NULL;
        /* What the handler blocks, or a sanitizer's around it, must not stay blocked. */
        (void)pthread_sigmask(SIG_SETMASK, &at_load->uc_sigmask, NULL);
        siglongjmp(guard->jump, LMDB_GUARD_FAULT);
    }
    /* The load is tried again and meets the one before us, with its own flags and stack. */
    (void)sigaction(SIGBUS, &previous, NULL);
    if (info->si_code <= 0) {
        (void)raise(number); /* nothing will be tried again: it was sent */
    }
}

void lmdb_guard_install(void)
{
    struct sigaction now;
    struct sigaction action = {.sa_sigaction = on_bus};
    action.sa_flags = SA_SIGINFO;
    (void)sigemptyset(&action.sa_mask);
    pthread_mutex_lock(&lock);
    (void)sigaction(SIGBUS, NULL, &now);
    if ((now.sa_flags & SA_SIGINFO) == 0 || now.sa_sigaction != on_bus) {
        previous = now;
        (void)sigaction(SIGBUS, &action, NULL);
    }
    pthread_mutex_unlock(&lock);
}

void lmdb_guard_begin(struct lmdb_guard *guard, const struct lmdb_map *map)
{
    guard->map = map;
    current = guard;
}

void lmdb_guard_end(void)
{
    current = NULL;
}

void lmdb_guard_asserted(void)
{
    struct lmdb_guard *guard = current;
    if (guard != NULL) {
        current = NULL;
        siglongjmp(guard->jump, LMDB_GUARD_ASSERTED);
    }
}
