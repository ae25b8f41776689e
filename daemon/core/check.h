/*
 * `capstored --check`: verifies the store of a state directory that no daemon uses.
 */
#ifndef DAEMON_CORE_CHECK_H
#define DAEMON_CORE_CHECK_H

#include "daemon/core/config.h"

/* Exit statuses, as capctl's. */
enum check_status {
    CHECK_SOUND = 0,
    CHECK_DAMAGED = 1,
    CHECK_USAGE = 2,
    CHECK_FAILED = 3,
};

/*
 * Checks the store of config->state in a child process, since the storage engine may crash over a
 * damaged file. Every finding is a line on standard output, "HASH what" or "store what"; progress
 * and the sum go to standard error. CHECK_FAILED comes with a sentence in ret_reason. With `repair`
 * what can be put right is, and CHECK_SOUND says that nothing else was found.
 */
enum check_status check_run(const struct config *config, bool repair,
                            char ret_reason[CONFIG_REASON_SIZE]);

#endif
