/*
 * Published caps that an upload relies on: held from before it looks for them until it is over, so
 * that no collection takes them away in between.
 */
#ifndef DAEMON_PUBLISH_HELD_H
#define DAEMON_PUBLISH_HELD_H

#include "lib/store/store.h"

/* Memory of each, twice held: by the head and by the body of an Image. */
#define HELD_MEMORY (4u * sizeof(struct cap_hash))

/* Zero-initialised: none. */
struct held {
    struct cap_store *store;
    struct cap_hash *hashes;
    size_t count;
};

/*
 * Holds what an admission needs and what it puts, which may be there. Before they are looked for:
 * one that is just going is not held, and found to be missing at the latest when the admission is
 * decided. CAP_E_NO_MEMORY. Any thread.
 */
enum cap_error held_add(struct held *held, struct cap_store *store,
                        const struct cap_admission *admission);

/* Releases all. Any thread. */
void held_release(struct held *held);

#endif
