/* The memory engine's insides, shared by its files. */
#ifndef TESTS_SUPPORT_MEMORY_H
#define TESTS_SUPPORT_MEMORY_H

#include <pthread.h>
#include <sys/queue.h>

#include "lib/store/engine.h"

struct memory_cap {
    struct cap_hash hash;
    struct cap_info info;
    atomic_uint_least64_t kept_until_s; /* what info.kept_until_s of a copy is */
    atomic_bool quarantined;            /* what info.quarantined of a copy is */
    bool healing;                       /* by the open transaction */
    struct cap_removed gone;            /* of one that was removed */
    bool is_alias;                      /* of a cap that is there: only its content hash counts */
    struct cap_hash *roots;
    struct cap_node *nodes;
    struct cap_ref *refs;
    uint8_t *body;
    uint8_t bytes[]; /* of these four */
};

struct memory_stage {
    LIST_ENTRY(memory_stage) entry;
    uint64_t id;
    uint64_t body_len;
    uint64_t written;
    uint8_t *body;
    bool used; /* by the open transaction */
};

struct memory_read {
    struct cap_read base;
    size_t count;
    struct memory_cap *caps[]; /* in hash order, aliases after what they stand for */
};

struct memory_forbidden {
    struct cap_hash hash;
    struct cap_forbidden why;
};

struct memory_store {
    struct cap_store base;
    uint64_t max_bytes;

    pthread_mutex_t lock; /* of the next three, the first two of which only the writer changes */
    struct memory_cap **caps; /* those of the open transaction come last */
    size_t visible;           /* that are committed */
    uint32_t open_reads;

    size_t put; /* that are in the array; from here on: the writer's thread only */
    LIST_HEAD(, memory_stage) stages;
    uint64_t last_stage;
    enum cap_error commit_error; /* the next commit's */

    struct memory_forbidden *forbidden; /* under the lock, the writer's */
    size_t forbidden_count;
    struct cap_root *roots; /* by name; under the lock, the writer's */
    size_t root_count;
    struct memory_cap **removed; /* whose memory snapshots may still use; the lock's, too */
    size_t removed_count;
};

/* `size` bytes for the writer, of whom no test takes the memory away. */
void *memory_allocate(size_t size);

static inline struct memory_store *memory_of(struct cap_store *base)
{
    return STORE_CONTAINER_OF(base, struct memory_store, base);
}

static inline struct memory_read *memory_read_of(struct cap_read *base)
{
    return STORE_CONTAINER_OF(base, struct memory_read, base);
}

/* What a snapshot has, or NULL. */
const struct memory_cap *memory_find_cap(struct cap_read *base, const struct cap_hash *hash);

/* What the writer has put, or NULL. */
struct memory_cap *memory_search(const struct memory_store *store, const struct cap_hash *hash);

/* What a commit comes to: CAP_OK, or what the test asked for. */
enum cap_error memory_try_commit(struct memory_store *store);

/* --- store_memory_keep.c ---------------------------------------------------------------------- */

/* Operations of these names of engine.h, of which none takes a snapshot's time into account. */

enum cap_error memory_keep_one(struct cap_store *base, struct cap_keep *keep);
enum cap_error memory_keep(struct cap_store *base, struct cap_keep *keeps, size_t count);
enum cap_error memory_root_set(struct cap_store *base, const struct cap_root *root,
                               bool *ret_replaced);
enum cap_error memory_root_remove(struct cap_store *base, const char *name);
enum cap_error memory_roots(struct cap_read *base, const char *after, size_t max,
                            struct cap_root *ret_roots, size_t *ret_count, bool *ret_more);
enum cap_error memory_roots_of(struct cap_read *base, const struct cap_hash *hash, size_t max,
                               struct cap_root *ret_roots, size_t *ret_count);
enum cap_error memory_needed(struct cap_read *base, const struct cap_hash *hash,
                             unsigned *ret_needed);
enum cap_error memory_remove(struct cap_store *base, const struct cap_hash *hash, uint32_t uid,
                             bool force);
enum cap_error memory_collect(struct cap_store *base, size_t max_caps,
                              struct cap_collected *ret_collected);
enum cap_error memory_remove_as(struct cap_store *base, const struct cap_hash *hash, uint32_t uid,
                                bool force, enum cap_gone_cause cause);
enum cap_error memory_removed(struct cap_read *base, const struct cap_hash *hash,
                              struct cap_removed *ret_removed);
enum cap_error memory_due(struct cap_read *base, struct cap_due_cursor *cursor, uint64_t now_s,
                          size_t max, struct cap_due *ret_due, size_t *ret_count, bool *ret_more);
enum cap_error memory_owner(struct cap_read *base, uint32_t uid, struct cap_usage *ret_usage);
enum cap_error memory_owners(struct cap_read *base, uint32_t from, size_t max,
                             struct cap_owner *ret_owners, size_t *ret_count);

/* --- store_memory_heal.c: the same ------------------------------------------------------------ */

enum cap_error memory_quarantine(struct cap_store *base, const struct cap_hash *hash);
/* Whether a cap is forbidden, and why if ret_why is not NULL. Any thread. */
bool memory_is_forbidden(struct memory_store *store, const struct cap_hash *hash,
                         struct cap_forbidden *ret_why);
enum cap_error memory_forbidden(struct cap_read *base, const struct cap_hash *hash,
                                struct cap_forbidden *ret_forbidden);
enum cap_error memory_forbid(struct cap_store *base, const struct cap_hash *hash,
                             const struct cap_forbidden *forbidden);
enum cap_error memory_allow(struct cap_store *base, const struct cap_hash *hash);
enum cap_error memory_broken(struct cap_read *base, const struct cap_hash *after, size_t max,
                             struct cap_broken *ret_broken, size_t *ret_count, bool *ret_more);
enum cap_error memory_scrub(struct cap_store *base, bool repair,
                            const struct cap_scrub_watch *watch,
                            struct cap_check_outcome *ret_outcome);
enum cap_error memory_scrub_state(struct cap_read *base, struct cap_scrub_state *ret_state);

#endif
