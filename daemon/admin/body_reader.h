/* Copies parts of a stored body out of its windows. Any thread that holds the snapshot. */
#ifndef DAEMON_ADMIN_BODY_READER_H
#define DAEMON_ADMIN_BODY_READER_H

#include "lib/store/store.h"

/*
 * Copies body bytes [offset, offset + len) to `dst`. CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY when
 * they are not all there, or as the store fails.
 */
enum cap_error admin_body_copy(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                               void *dst, size_t len);

#endif
