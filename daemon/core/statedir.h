/*
 * The state directory: the daemon's alone, locked while it runs.
 *
 *     DIR/lock     locked with flock for as long as the daemon runs
 *     DIR/store/   the store's own
 *     DIR/spool/   unlinked files of uploads; leftovers are removed at start
 */
#ifndef DAEMON_CORE_STATEDIR_H
#define DAEMON_CORE_STATEDIR_H

#include "daemon/core/config.h"
#include "daemon/core/log.h"

struct statedir {
    char *store_dir;
    char *spool_dir;
    int lock_fd;
};

/*
 * Creates what is missing (0700), takes the lock, removes leftovers. A directory that every user
 * can change, or of another owner when root runs us, is refused (CAP_E_INVALID_ARGUMENT); one that
 * a group can change is a warning in `log`. CAP_E_STORE_LOCKED when another process has the lock;
 * CAP_E_IO and others with a sentence in ret_reason.
 */
enum cap_error statedir_open(const char *dir, struct log *log, struct statedir **ret_statedir,
                             char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Takes the lock of a state directory that is there, and changes nothing. The caller closes
 * *ret_fd. CAP_E_STORE_LOCKED, CAP_E_IO and others with a sentence in ret_reason.
 */
enum cap_error statedir_lock(const char *dir, int *ret_fd, char ret_reason[CONFIG_REASON_SIZE]);

/* Releases the lock. NULL is fine. */
void statedir_close(struct statedir *state);

#endif
