/*
 * Cold pages: whether spans of the store's map are in memory, and reading them in.
 *
 * The store hands out spans of a mapped file. A thread that touches a page which is not in memory
 * waits for the device, so a loop asks first and leaves the reading to a thread that may wait.
 */
#ifndef DAEMON_SERVE_WARM_H
#define DAEMON_SERVE_WARM_H

#include <sys/uio.h>

#include "daemon/core/env.h"

/* Whether all bytes of the spans can be read without waiting for a device. Any thread. */
bool warm_is_resident(const struct env *env, const struct iovec *iov, int count);

/*
 * Reads the spans in; blocks, so not on a loop. CAP_E_IO when the device cannot: nothing has been
 * touched that would raise SIGBUS.
 */
enum cap_error warm_populate(const struct env *env, const struct iovec *iov, int count);

#endif
