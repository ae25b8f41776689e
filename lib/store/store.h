/*
 * The store: caps by hash, whole or not at all.
 *
 * One interface, several engines behind a table of functions (LMDB, memory), one conformance suite
 * (tests/unit/store). The interface assumes neither one machine nor that a body is one contiguous
 * span.
 *
 * Threads. Reading: any thread; a cap_read belongs to one thread at a time, many may be open.
 * Writing: one thread, the *writer*, makes every call that is marked so; at most one cap_write is
 * open.
 *
 * Large bodies are *staged* first: written in bounded steps, each durable, none visible. The one
 * write transaction that admits a cap then only links what was staged; so nothing is ever half
 * there, and memory does not grow with a body. What a crash leaves staged is dropped when the store
 * is next opened. A body given to a put without a stage is held in memory until the commit.
 *
 * Errors that every call may return: CAP_E_IO, CAP_E_CORRUPT, CAP_E_NO_MEMORY and
 * CAP_E_STORE_FAILED (the engine must be opened again). After CAP_E_DISK_FULL, CAP_E_MAP_FULL and
 * CAP_E_READERS_FULL the store is intact and reads go on.
 */
#ifndef LIB_STORE_STORE_H
#define LIB_STORE_STORE_H

#include <sys/uio.h>

#include "lib/cap/bytes.h"
#include "lib/cap/constants.h"
#include "lib/cap/wire_image.h"

#define CAP_STORE_ID_SIZE    16
#define CAP_STORE_KINDS      3                   /* index by enum cap_kind */
#define CAP_STAGE_STEP       (UINT64_C(8) << 20) /* most bytes that one stage step writes */
#define CAP_STORE_WINDOW     (256u << 10) /* most bytes that one cap_store_window hands out */
#define CAP_STORE_WINDOW_IOV 8            /* spans that always suffice for such a window */

struct cap_store;
struct cap_read;
struct cap_write;

/* Who published, as the kernel attested; UINT32_MAX where it could not (TCP). */
struct cap_publisher {
    uint32_t uid;
    uint32_t gid;
};

/* What is kept beside a cap's body. */
struct cap_info {
    enum cap_kind kind;
    uint64_t body_len;
    uint64_t size;                  /* Data: logical bytes. Image: bytes of code */
    uint64_t page_count;            /* Data: pages that are not zero. Image: 0 */
    uint64_t ref_count;             /* Image: distinct caps that it names. Data: 0 */
    struct cap_publisher publisher; /* the first one */
    uint64_t published_us;          /* microseconds since 1970, UTC */
    bool has_content_hash; /* Image: the image_content_hash that it was first published with */
    struct cap_hash content_hash;
};

/* A reference from an Image to a cap. A target in both tables has both bits. */
#define CAP_REF_PINNED  1u
#define CAP_REF_INITIAL 2u

struct cap_ref {
    struct cap_hash hash; /* of the other end */
    uint8_t tables;       /* CAP_REF_* */
};

struct cap_listed {
    struct cap_hash hash;
    struct cap_info info;
};

/* What the store holds, kept with the caps (no scan). */
struct cap_counts {
    uint64_t caps[CAP_STORE_KINDS];
    uint64_t body_bytes[CAP_STORE_KINDS];
    uint64_t refs;
};

/* What it takes on disk, as the engine sees it; zero where it has no disk. */
struct cap_space {
    uint64_t file_bytes; /* physical size of the data file */
    uint64_t free_bytes; /* of these, in pages free for reuse */
    uint64_t map_bytes;  /* the limit that CAP_E_MAP_FULL enforces */
    uint64_t disk_free;  /* free for us on the file system */
    uint32_t readers;    /* open read snapshots */
    uint32_t max_readers;
};

/* One cap to store. Everything is borrowed for the call. */
struct cap_put {
    struct cap_hash hash;
    struct cap_info info;   /* ref_count is ignored: the store counts `refs` */
    struct cap_source body; /* reads info.body_len bytes; not looked at when `stage` is not 0 */
    uint64_t stage;         /* a completely written stage of this body, or 0 */
    const struct cap_hash *page_roots; /* info.page_count of them */
    const struct cap_ref *refs;        /* may repeat a target; tables are merged */
    size_t ref_count;
};

/* --- Opening ---------------------------------------------------------------------------------- */

struct cap_store_lmdb_config {
    const char *dir;      /* an existing directory of our own; the files in it are ours */
    uint64_t map_bytes;   /* address space to reserve; 0: a sane default */
    uint32_t max_readers; /* 0: a sane default */
};

/*
 * Opens or creates an LMDB store in a directory. Creation is safe against a crash at any point;
 * leftovers of one are removed, as are stages of an earlier life. CAP_E_STORE_VERSION for another
 * format, CAP_E_CORRUPT for a file shorter than it says, CAP_E_INVALID_ARGUMENT for a network file
 * system, CAP_E_IO, CAP_E_DISK_FULL. The caller holds the state directory's lock: one open per
 * directory. `new_id` becomes the store's identity if it is created now.
 */
enum cap_error cap_store_lmdb_open(const struct cap_store_lmdb_config *config,
                                   const uint8_t new_id[CAP_STORE_ID_SIZE],
                                   struct cap_store **ret_store);

/* Closes; no read or write is open. NULL is fine. */
void cap_store_close(struct cap_store *store);

/* The identity given at creation; valid until close. Any thread. */
const uint8_t *cap_store_id(const struct cap_store *store);

/* The engine's name, "lmdb" or "memory". Static. */
const char *cap_store_engine(const struct cap_store *store);

/* --- Reading: any thread ------------------------------------------------------------------------
 */

/*
 * A snapshot to read from; what is committed later does not show in it. Keep it short: it pins free
 * space. CAP_E_READERS_FULL after stale readers were cleared in vain.
 */
enum cap_error cap_store_read_begin(struct cap_store *store, struct cap_read **ret_read);

/* Ends the snapshot; every pointer that it handed out is dead. NULL is fine. */
void cap_store_read_end(struct cap_read *read);

/* CAP_OK with *ret_info, or CAP_E_NOT_FOUND. ret_info may be NULL. */
enum cap_error cap_store_find(struct cap_read *read, const struct cap_hash *hash,
                              struct cap_info *ret_info);

/*
 * Hands out body bytes in place: up to `len` from `offset`, at most CAP_STORE_WINDOW, as *ret_count
 * spans in ret_iov (room for CAP_STORE_WINDOW_IOV); *ret_len says how many bytes they hold, which
 * is less than asked only at CAP_STORE_WINDOW or the body's end. The spans are valid until
 * cap_store_read_end. CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY when offset is past the end.
 */
enum cap_error cap_store_window(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                                uint64_t len, struct iovec *ret_iov, int *ret_count,
                                size_t *ret_len);

/* Copies page roots [first, first + count) of a Data cap. CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY.
 */
enum cap_error cap_store_page_roots(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t first, size_t count, struct cap_hash *ret_roots);

/* Which caps to list. */
struct cap_list_query {
    int kind; /* an enum cap_kind, or 0 for all */
    struct cap_hash prefix;
    unsigned prefix_bits;         /* leading bits of `prefix` that a hash must begin with */
    const struct cap_hash *after; /* NULL: from the start */
    size_t max;                   /* caps to list */
    size_t scan_max;              /* entries to look at */
};

/*
 * Lists caps in hash order: the first query->max after `after` that match, looking at no more than
 * `scan_max`. *ret_count of them in ret_items; *ret_last is where to go on from, *ret_more whether
 * there may be more. CAP_E_INVALID_ARGUMENT for another kind, more than 256 prefix bits, or a bound
 * of 0.
 */
enum cap_error cap_store_list(struct cap_read *read, const struct cap_list_query *query,
                              struct cap_listed *ret_items, size_t *ret_count,
                              struct cap_hash *ret_last, bool *ret_more);

enum cap_ref_direction {
    CAP_REFS_OUT, /* what the cap names */
    CAP_REFS_IN,  /* what names the cap */
};

/*
 * Up to `max` (not 0) references of a cap in hash order after `after` (NULL: from the start). None
 * for a hash that the store does not know. CAP_E_INVALID_ARGUMENT.
 */
enum cap_error cap_store_refs(struct cap_read *read, const struct cap_hash *hash,
                              enum cap_ref_direction direction, const struct cap_hash *after,
                              size_t max, struct cap_ref *ret_refs, size_t *ret_count,
                              bool *ret_more);

/* The Image cap that a wire Image of this image_content_hash became. CAP_E_NOT_FOUND. */
enum cap_error cap_store_find_content(struct cap_read *read, const struct cap_hash *content_hash,
                                      struct cap_hash *ret_hash);

/* What the snapshot holds. O(1). */
enum cap_error cap_store_counts(struct cap_read *read, struct cap_counts *ret_counts);

/* Physical figures; takes no snapshot. Any thread. */
enum cap_error cap_store_space(struct cap_store *store, struct cap_space *ret_space);

/* Clears readers of dead processes; call at times. Any thread. */
enum cap_error cap_store_tend(struct cap_store *store);

/* --- Writing: the writer thread only
 * --------------------------------------------------------------- */

/* Begins a stage for a body of `body_len` bytes. No cap_write is open. CAP_E_DISK_FULL,
 * CAP_E_MAP_FULL. */
enum cap_error cap_store_stage_begin(struct cap_store *store, uint64_t body_len,
                                     uint64_t *ret_stage);

/*
 * Writes the next piece of a stage, at most CAP_STAGE_STEP bytes of `body` (which reads the whole
 * body), in a durable transaction of its own; *ret_done once all of it is there. No cap_write is
 * open. On an error, drop the stage. CAP_E_DISK_FULL, CAP_E_MAP_FULL, CAP_E_INVALID_ARGUMENT for an
 * unknown stage, or as the body fails.
 */
enum cap_error cap_store_stage_step(struct cap_store *store, uint64_t stage,
                                    const struct cap_source *body, bool *ret_done);

/*
 * Drops a stage that was not linked; one that is not there is fine. No cap_write is open. After an
 * error the stage is dropped all the same: its room comes back with a later write or open.
 */
enum cap_error cap_store_stage_drop(struct cap_store *store, uint64_t stage);

/* The one write transaction. It sees everything committed before and its own puts. */
enum cap_error cap_store_write_begin(struct cap_store *store, struct cap_write **ret_write);

/* As cap_store_find, inside of the transaction: what resolves here is published when this commits.
 */
enum cap_error cap_store_write_find(struct cap_write *write, const struct cap_hash *hash,
                                    struct cap_info *ret_info);

/*
 * Stores a cap, or finds it there already: *ret_new says which. Where it was there, a stage is
 * dropped with the commit and a new content hash is indexed; nothing else changes. After an error
 * only cap_store_write_abort is allowed. CAP_E_DISK_FULL, CAP_E_MAP_FULL, CAP_E_INVALID_ARGUMENT
 * for a put that contradicts itself or a stage that is not a whole one of that length, or as
 * put->body fails.
 */
enum cap_error cap_store_write_put(struct cap_write *write, const struct cap_put *put,
                                   bool *ret_new);

/*
 * Commits and syncs; the transaction is over whatever this returns. CAP_OK: all of it survives
 * power loss (P1). Any error: none of it is there, but for CAP_E_STORE_FAILED, after which only
 * opening again tells. After CAP_E_IO, too, nothing more should be acknowledged before the store is
 * opened again: of what the device lost it may tell only once, so that a retry can seem to succeed.
 */
enum cap_error cap_store_write_commit(struct cap_write *write);

/* Forgets the transaction and its puts; stages stay. NULL is fine. */
void cap_store_write_abort(struct cap_write *write);

#endif
