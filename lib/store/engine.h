/*
 * What an engine is to store.c: a table of functions, and two handles that begin alike.
 *
 * Internal to lib/store. store.c has checked the arguments before an operation is called (lengths,
 * kinds, bounds), so engines do not check again. Every operation keeps the promise that store.h
 * makes for the function of its name.
 */
#ifndef LIB_STORE_ENGINE_H
#define LIB_STORE_ENGINE_H

#include "lib/store/holds.h"
#include "lib/store/scrub.h"

/* Caps that the open transaction makes gone; gone.c. */
struct store_gone {
    struct store_gone_cap {
        struct cap_hash hash;
        enum cap_gone_cause cause;
    } * caps; /* the memory stays for the next transaction */
    size_t count;
    size_t capacity;
    bool announced; /* cap_store_epoch has risen for them */
};

struct cap_store_ops {
    const char *name;
    void (*close)(struct cap_store *store);
    enum cap_error (*space)(struct cap_store *store, struct cap_space *ret_space);
    enum cap_error (*clear_stale_readers)(struct cap_store *store);

    enum cap_error (*read_begin)(struct cap_store *store, struct cap_read **ret_read);
    void (*read_end)(struct cap_read *read);
    enum cap_error (*find)(struct cap_read *read, const struct cap_hash *hash,
                           struct cap_info *ret_info);
    enum cap_error (*window)(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                             uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len);
    enum cap_error (*peek)(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                           uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len);
    enum cap_error (*copy)(struct cap_read *read, const struct iovec *iov, int count, void *dst);
    enum cap_error (*locate)(struct cap_read *read, const struct cap_hash *hash,
                             struct cap_info *ret_info, struct cap_place *ret_place);
    enum cap_error (*take)(struct cap_read *read, const struct cap_hash *hash,
                           const struct cap_place *place, void *dst);
    enum cap_error (*load)(struct cap_store *store, const struct cap_place *place, void *dst);
    enum cap_error (*facts)(struct cap_read *read, const struct cap_hash *hash, size_t max,
                            struct cap_fact *ret_facts, size_t *ret_count);
    enum cap_error (*forbidden)(struct cap_read *read, const struct cap_hash *hash,
                                struct cap_forbidden *ret_forbidden);
    enum cap_error (*broken)(struct cap_read *read, const struct cap_hash *after, size_t max,
                             struct cap_broken *ret_broken, size_t *ret_count, bool *ret_more);
    enum cap_error (*page_roots)(struct cap_read *read, const struct cap_hash *hash, uint64_t first,
                                 size_t count, struct cap_hash *ret_roots);
    enum cap_error (*nodes)(struct cap_read *read, const struct cap_hash *hash, uint64_t first,
                            size_t count, struct cap_node *ret_nodes);
    enum cap_error (*list)(struct cap_read *read, const struct cap_list_query *query,
                           struct cap_listed *ret_items, size_t *ret_count,
                           struct cap_hash *ret_last, bool *ret_more);
    enum cap_error (*refs)(struct cap_read *read, const struct cap_hash *hash,
                           enum cap_ref_direction direction, const struct cap_hash *after,
                           size_t max, struct cap_ref *ret_refs, size_t *ret_count, bool *ret_more);
    enum cap_error (*find_content)(struct cap_read *read, const struct cap_hash *content_hash,
                                   struct cap_hash *ret_hash);
    enum cap_error (*counts)(struct cap_read *read, struct cap_counts *ret_counts);
    enum cap_error (*roots)(struct cap_read *read, const char *after, size_t max,
                            struct cap_root *ret_roots, size_t *ret_count, bool *ret_more);
    enum cap_error (*roots_of)(struct cap_read *read, const struct cap_hash *hash, size_t max,
                               struct cap_root *ret_roots, size_t *ret_count);
    enum cap_error (*needed)(struct cap_read *read, const struct cap_hash *hash,
                             unsigned *ret_needed);
    enum cap_error (*removed)(struct cap_read *read, const struct cap_hash *hash,
                              struct cap_removed *ret_removed);
    enum cap_error (*due)(struct cap_read *read, struct cap_due_cursor *cursor, uint64_t now_s,
                          size_t max, struct cap_due *ret_due, size_t *ret_count, bool *ret_more);
    enum cap_error (*owner)(struct cap_read *read, uint32_t uid, struct cap_usage *ret_usage);
    enum cap_error (*owners)(struct cap_read *read, uint32_t from, size_t max,
                             struct cap_owner *ret_owners, size_t *ret_count);

    enum cap_error (*forbid)(struct cap_store *store, const struct cap_hash *hash,
                             const struct cap_forbidden *forbidden);
    enum cap_error (*allow)(struct cap_store *store, const struct cap_hash *hash);
    enum cap_error (*quarantine)(struct cap_store *store, const struct cap_hash *hash);
    enum cap_error (*scrub)(struct cap_store *store, bool repair,
                            const struct cap_scrub_watch *watch,
                            struct cap_check_outcome *ret_outcome);
    enum cap_error (*scrub_state)(struct cap_read *read, struct cap_scrub_state *ret_state);

    void (*admit)(struct cap_store *store, struct cap_admission *const *admissions, size_t count,
                  const struct cap_admit_watch *watch);
    enum cap_error (*keep)(struct cap_store *store, struct cap_keep *keeps, size_t count);
    enum cap_error (*root_set)(struct cap_store *store, const struct cap_root *root,
                               bool *ret_replaced);
    enum cap_error (*root_remove)(struct cap_store *store, const char *name);
    enum cap_error (*remove)(struct cap_store *store, const struct cap_hash *hash, uint32_t uid,
                             bool force);
    enum cap_error (*collect)(struct cap_store *store, size_t max_caps,
                              struct cap_collected *ret_collected);
    enum cap_error (*stage_begin)(struct cap_store *store, uint64_t body_len, uint64_t *ret_stage);
    enum cap_error (*stage_step)(struct cap_store *store, struct cap_staging *stagings,
                                 size_t count);
    void (*stage_drop)(struct cap_store *store, uint64_t stage);
    enum cap_error (*sweep)(struct cap_store *store, uint64_t now_us, bool *ret_more);

    /* NULL, all three: the engine has no file. */
    enum cap_error (*backup)(struct cap_store *store, const char *dir, struct cap_copy *copy);
    enum cap_error (*compact)(struct cap_store *store, struct cap_copy *copy);
    bool (*let_go)(struct cap_store *store);
};

/* The member `base` of every engine's own store and read; STORE_CONTAINER_OF leads from it to them.
 */
struct cap_store {
    const struct cap_store_ops *ops;
    uint8_t id[CAP_STORE_ID_SIZE];
    atomic_int failure;                  /* what cap_store_failure says; an engine sets it */
    atomic_uint_least64_t clock_zero_us; /* the store clock when the monotonic one was 0 */
    struct store_holds holds;
    struct store_gone gone;
    struct cap_store_watch watch;
    atomic_uint_least64_t epoch;
};

struct cap_read {
    struct cap_store *store;
};

#define STORE_CONTAINER_OF(member_ptr, type, member)                                               \
    ((type *)(void *)((char *)(member_ptr)-offsetof(type, member)))

/* --- Admission by transactions: admit.c ------------------------------------------------------- */

/*
 * What an engine has that can write several caps in one transaction. At most one is open; the
 * thread is the writer's.
 */
struct store_transactions {
    enum cap_error (*begin)(struct cap_store *store);
    /* What is there, own puts included. CAP_E_NOT_FOUND. */
    enum cap_error (*find)(struct cap_store *store, const struct cap_hash *hash,
                           enum cap_kind *ret_kind);
    /* The references of `put` are sorted, without repetition, and counted in its info. */
    enum cap_error (*put)(struct cap_store *store, const struct cap_put *put, bool *ret_new);
    /* Gives or renews a lease as cap_store_keep does; an error is the transaction's. */
    enum cap_error (*keep)(struct cap_store *store, struct cap_keep *keep);
    /* Over, whatever this returns. */
    enum cap_error (*commit)(struct cap_store *store);
    void (*abort)(struct cap_store *store);
};

/* The operation `admit` of such an engine. */
void store_admit(struct cap_store *store, const struct store_transactions *transactions,
                 struct cap_admission *const *admissions, size_t count,
                 const struct cap_admit_watch *watch);

/* --- What goes: gone.c ------------------------------------------------------------------------ */

/* Notes that the open transaction makes a cap gone. CAP_E_NO_MEMORY. */
enum cap_error store_gone_add(struct cap_store *store, const struct cap_hash *hash,
                              enum cap_gone_cause cause);

/* The same for one that nobody may hold, nor from now on: CAP_E_STILL_NEEDED. */
enum cap_error store_gone_claim(struct cap_store *store, const struct cap_hash *hash,
                                enum cap_gone_cause cause);

/* Before the transaction's commit. */
void store_gone_announce(struct cap_store *store);

/* After its end: if it was committed the watch is told. Ends the claims (holds.h). */
void store_gone_settle(struct cap_store *store, bool committed);

/* Releases what these and the holds use. */
void store_gone_free(struct cap_store *store);

/* --- Time: clock.c ---------------------------------------------------------------------------- */

/* Starts the store clock of a store that is being opened; `written_s`: what it was when the store
 * was last written. */
void store_clock_start(struct cap_store *store, uint64_t written_s);

/* Microseconds since 1970, UTC, by the wall clock. */
uint64_t store_wall_us(void);

/* When a lease of `keep_s` from now on ends. */
uint64_t store_lease_end(const struct cap_store *store, uint64_t keep_s);

/* Whether it is worth a write to move the end of a lease from `kept_until_s` to `until_s`. */
bool store_lease_gains(const struct cap_store *store, uint64_t kept_until_s, uint64_t until_s);

/* --- Shared by engines ------------------------------------------------------------------------ */

/* The pages of a listing, filled entry by entry in hash order. */
struct store_scan {
    const struct cap_list_query *query;
    struct cap_listed *items;
    size_t count;
    size_t scanned;
    struct cap_hash last; /* the last entry looked at */
    bool more;
};

/* The first hash that a listing can show: where an engine seeks to. It may equal query->after. */
struct cap_hash store_scan_start(const struct cap_list_query *query);

/* Offers the next entry; false when the listing is over, and scan->more says why. Pure. */
bool store_scan_offer(struct store_scan *scan, const struct cap_hash *hash,
                      const struct cap_info *info);

/* Adds one stored cap to the counts, or takes it away. Pure. */
void store_counts_remove(struct cap_counts *counts, const struct cap_info *info);
void store_counts_add(struct cap_counts *counts, const struct cap_info *info);

/* What the spans hold, copied to `dst`; no load of it can fail, or the caller has a guard. */
void store_copy_spans(const struct iovec *iov, int count, void *dst);

/* Copies `len` bytes of a source; `dst` has room. Fails as the source does. */
enum cap_error store_source_read(const struct cap_source *source, uint64_t offset, void *dst,
                                 size_t len);

#endif
