/* Opening the store in the state directory, and what a person is told when it does not open. */
#ifndef DAEMON_OPENING_H
#define DAEMON_OPENING_H

#include "daemon/core/context.h"

/*
 * Opens the store of `context`, whose state directory is open, for so many loops. Main thread, at
 * start. Errors as cap_store_lmdb_open, with a sentence that says what to do.
 */
enum cap_error opening_store(struct context *context, size_t loops,
                             char ret_reason[CONFIG_REASON_SIZE]);

#endif
