/*
 * A store in memory, for tests: the second engine that the conformance suite of the store runs on,
 * and what the daemon's unit tests run over.
 */
#ifndef TESTS_SUPPORT_STORE_MEMORY_H
#define TESTS_SUPPORT_STORE_MEMORY_H

#include "lib/store/store.h"

/* An empty store. `max_bytes` bounds the bodies: past it, CAP_E_MAP_FULL. */
enum cap_error cap_store_memory_new(const uint8_t id[CAP_STORE_ID_SIZE], uint64_t max_bytes,
                                    struct cap_store **ret_store);

/*
 * The next `count` commits, of admissions and of stage steps, fail with `error`, as a disk's would:
 * CAP_E_IO and CAP_E_STORE_FAILED for good. Before the writer has something to do.
 */
void cap_store_memory_fail_commits(struct cap_store *store, unsigned count, enum cap_error error);

#endif
