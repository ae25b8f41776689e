/*
 * The check of a copy of the store, by `capstored --check` in a process of its own.
 *
 * A damaged file may make the storage engine crash, which must not end the daemon. A process that
 * is only forked would do with memory of many threads what POSIX does not allow, and would copy
 * each page that the daemon changes meanwhile; so the program starts itself anew (/proc/self/exe,
 * which is there in the sandbox of the systemd unit, and is the same program after an upgrade too).
 */
#ifndef DAEMON_UPKEEP_VERIFY_H
#define DAEMON_UPKEEP_VERIFY_H

#include "daemon/upkeep/jobs.h"

#define VERIFY_FINDINGS "findings" /* the file in DIR that lists what is wrong */

/*
 * Checks the store of the state directory `dir`, which no daemon uses, and shows progress of the
 * job. CAP_OK: it is sound. CAP_E_CORRUPT: DIR/VERIFY_FINDINGS lists what is not. CAP_E_CANCELLED.
 * CAP_E_IO, with a message of the job's: it could not be checked.
 */
enum cap_error upkeep_verify(struct upkeep_job *job, const char *dir);

#endif
