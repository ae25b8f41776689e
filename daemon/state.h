/*
 * The state directory: ours alone, locked for life.
 *
 *     DIR/lock     held with flock for as long as the daemon lives
 *     DIR/store/   the store's own
 *     DIR/spool/   unlinked files of uploads; leftovers are removed at start
 */
#ifndef DAEMON_STATE_H
#define DAEMON_STATE_H

#include "daemon/config.h"

struct state {
    char *store_dir;
    char *spool_dir;
    int lock_fd;
};

/*
 * Creates what is missing (0700), takes the lock, removes leftovers. CAP_E_STORE_LOCKED when
 * another process has it; CAP_E_IO and others with a sentence in ret_reason.
 */
enum cap_error state_open(const char *dir, struct state **ret_state,
                          char ret_reason[CONFIG_REASON_SIZE]);

/* Lets the lock go. NULL is fine. */
void state_close(struct state *state);

#endif
