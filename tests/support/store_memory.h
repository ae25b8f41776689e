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
 * The next commit, of an admission or of a step of a stage, fails with `error` as a disk's would:
 * with CAP_E_IO and CAP_E_STORE_FAILED for good. Call it before the writer has something to do.
 */
void cap_store_memory_fail_commit(struct cap_store *store, enum cap_error error);

#endif
