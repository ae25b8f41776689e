/*
 * What the store's interface (store.h) and its engines (engine.h) speak of: caps, references,
 * figures, admissions. Structures only; the functions say who owns them and for how long.
 */
#ifndef LIB_STORE_TYPES_H
#define LIB_STORE_TYPES_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "lib/cap/bytes.h"
#include "lib/cap/constants.h"
#include "lib/cap/nodes.h"
#include "lib/cap/wire_image.h"

#define CAP_STORE_ID_SIZE 16
#define CAP_STORE_KINDS   3 /* index by enum cap_kind */
#define CAP_ROOT_NAME_MAX 128u
#define CAP_STORE_REMOVED 65536u /* removals that are remembered */
/*
 * Content hashes that lead to one Image cap: anyone can make as many wire Images of it as they
 * like, with other bytes where nothing looks, and no quota counts them.
 */
#define CAP_STORE_CONTENTS 16u
/*
 * Most bytes that one stage step writes. An admission may wait for one step: at 300 MB/s with its
 * sync this is about 7 ms, and larger steps do not write faster.
 */
#define CAP_STAGE_STEP       (UINT64_C(2) << 20)
#define CAP_STORE_WINDOW     (256u << 10) /* most bytes that one cap_store_window hands out */
#define CAP_STORE_WINDOW_IOV 8            /* spans that always suffice for such a window */
#define CAP_STORE_PLACE_MAX  (32u << 10)  /* longest body that has a place */

/* Bytes that a copy writes with one sync: some 15 ms, which a disk that also serves can spare. */
#define CAP_COPY_SLICE (4u << 20)

/*
 * What admissions that are stored together may sum up to, and so the memory that this takes. An
 * admission of more is stored by itself; staging the longer bodies keeps it within.
 */
#define CAP_ADMIT_PUTS 4096u
#define CAP_ADMIT_LEN  (UINT64_C(20) << 20) /* bytes of bodies without a stage */

struct cap_store;
struct cap_read;

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
    struct cap_node_counts node_counts; /* interior nodes that are kept */
    uint64_t kept_until_s;              /* store clock; 0: the cap has never had a lease */
    bool quarantined;                   /* its bytes were found damaged: it is not served */
};

/* How many page roots are kept with a cap: of Data its pages that are not zero, of an Image its
 * code's.
 */
static inline uint64_t cap_info_root_count(const struct cap_info *info)
{
    return info->kind == CAP_KIND_DATA
               ? info->page_count
               : info->size / CAP_PAGE_SIZE + (info->size % CAP_PAGE_SIZE != 0);
}

/* Whether a cap with so many page roots can have so many nodes: then their total is bounded. */
static inline bool cap_info_nodes_fit(const struct cap_info *info)
{
    bool fit = true;
    for (size_t i = 0; i < CAP_NODE_LEVELS; i++) {
        fit &= info->node_counts.of[i] <= cap_info_root_count(info) / CAP_NODE_PAGES;
    }
    return fit;
}

/* Where a small body lies, in one piece or two. */
struct cap_place {
    const uint8_t *at;   /* NULL: the body is empty or too long, or the engine has no such place */
    const uint8_t *rest; /* its last `rest_len` bytes */
    uint32_t len;        /* of the body */
    uint32_t rest_len;   /* 0: all of it lies at `at` */
    uint64_t seed;       /* the engine's: of the seal behind each piece */
    uint64_t rest_seed;
};

/* How many bytes lie at place->at. */
static inline uint32_t cap_place_first(const struct cap_place *place)
{
    return place->len - place->rest_len;
}

/* What can be learnt of a cap after it was stored. */
enum cap_fact_kind {
    CAP_FACT_DAMAGED = 1,   /* its bytes were found damaged: it is quarantined */
    CAP_FACT_FORBIDDEN = 2, /* it may not be here */
    CAP_FACT_LOST = 3,      /* something refers to it, and it is not there */
};

struct cap_fact {
    enum cap_fact_kind kind;
    uint64_t time_us; /* when it was first noted, since 1970, UTC */
};

#define CAP_REASON_MAX 200u

/* That a cap is forbidden. */
struct cap_forbidden {
    uint64_t time_us; /* since 1970, UTC */
    uint32_t uid;     /* of the one who forbade it */
    char reason[CAP_REASON_MAX + 1];
};

/* A cap that should be served and cannot: what needs it is degraded. */
struct cap_broken {
    struct cap_hash hash;
    enum cap_fact_kind kind; /* CAP_FACT_DAMAGED or CAP_FACT_LOST */
    uint64_t time_us;        /* since when, since 1970, UTC */
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

/* A named reference, which keeps a cap and all that it needs. */
struct cap_root {
    char name[CAP_ROOT_NAME_MAX + 1]; /* printable ASCII without spaces, not empty */
    struct cap_hash hash;
    uint64_t set_us; /* since 1970, UTC */
    uint32_t uid;    /* of the user that set it */
};

/* A lease to give or to renew. */
struct cap_keep {
    struct cap_hash hash;
    uint64_t keep_s; /* from now on; 0: only asks */

    enum cap_error error; /* result: CAP_OK, or as cap_store_find answers */
    enum cap_kind kind;   /* result */
    /*
     * Result, store clock: until when the cap is kept whatever else happens. Less than asked for
     * by up to an eighth of keep_s, for which nothing is written.
     */
    uint64_t kept_until_s;
};

/* What keeps a cap from being collected. */
#define CAP_NEEDED_ROOT      1u
#define CAP_NEEDED_REFERENCE 2u
#define CAP_NEEDED_LEASE     4u
#define CAP_NEEDED_HOLD      8u

/* Why a cap is gone: why it can no longer be served. */
enum cap_gone_cause {
    CAP_GONE_COLLECTED = 1,
    CAP_GONE_DELETED,
    CAP_GONE_FORBIDDEN,
    CAP_GONE_QUARANTINED, /* it is there, and may be healed */
};

/* The last time that a cap went. */
struct cap_removed {
    uint64_t time_us; /* since 1970, UTC */
    enum cap_gone_cause cause;
    uint32_t uid; /* of the user that had it removed; UINT32_MAX: the store by itself */
};

/* What a slice of a collection did. */
struct cap_collected {
    uint64_t caps;  /* that it removed */
    uint64_t bytes; /* of their bodies */
    uint64_t looked_at;
    bool more; /* there is more to look at now */
};

/* Where a listing of what collection would look at goes on; zero-initialised: at its start. */
struct cap_due_cursor {
    uint32_t time_s;
    uint64_t sequence;
    uint32_t index;
    struct cap_hash after; /* among the caps of that entry */
    bool in_entry;
};

/* What collection would look at. */
struct cap_due {
    struct cap_hash hash;
    struct cap_info info;
    unsigned needed; /* CAP_NEEDED_*; 0: it would go */
};

/* What the store tells, on the writer's thread but for `damaged`; NULL: not asked for. */
struct cap_store_watch {
    /* The cap can no longer be served: that is committed, and cap_store_epoch will rise. */
    void (*gone)(void *ctx, const struct cap_hash *hash, enum cap_gone_cause cause);
    /* A cap that was quarantined can be served again. */
    void (*healed)(void *ctx, const struct cap_hash *hash);
    /*
     * Somebody who asked for the cap found it damaged, and is told that it is quarantined. Once
     * for each such find, before the writer has written it down. On the finder's thread, in the
     * midst of its work: no call of the store.
     */
    void (*damaged)(void *ctx, const struct cap_hash *hash);
    void *ctx;
};

/* What the caps that one user was the first to publish come to. */
struct cap_usage {
    uint64_t caps;
    uint64_t bytes; /* of bodies */
};

/* The same with the user. */
struct cap_owner {
    uint32_t uid;
    struct cap_usage usage;
};

/* What it takes on disk, as the engine sees it; zero where it has no disk. */
struct cap_space {
    uint64_t file_bytes; /* physical size of the data file */
    uint64_t free_bytes; /* of these, in pages free for reuse, without those kept for deleting */
    uint64_t map_bytes;  /* the limit that CAP_E_MAP_FULL enforces */
    uint64_t room_bytes; /* of one body that is put now: with more it is CAP_E_MAP_FULL */
    uint64_t disk_free;  /* free for us on the file system */
    uint32_t readers;    /* open read snapshots */
    uint32_t max_readers;
    uint64_t foreign_pid;      /* another process that pins pages by a snapshot; 0: none */
    uint64_t oldest_reader_us; /* since when the oldest snapshot that is open pins pages; 0: none */
};

/* One cap to store. */
struct cap_put {
    struct cap_hash hash;
    struct cap_info info;   /* ref_count is ignored: the store counts `refs` */
    struct cap_source body; /* reads info.body_len bytes; not looked at when `stage` is not 0 */
    uint64_t stage;         /* a completely written stage of this body, or 0 */
    const struct cap_hash *page_roots; /* cap_info_root_count of them */
    const struct cap_node *nodes;      /* as many as info.node_counts has in all */
    const struct cap_ref *refs;        /* may repeat a target; tables are merged */
    size_t ref_count;

    bool is_new; /* result: the store could not serve it before (of a dry run: cannot) */
};

/* A body on its way into a stage. */
struct cap_staging {
    uint64_t stage;
    const struct cap_source *body; /* reads the whole body, or its first `ready` bytes */

    bool done;        /* result: all of it is there */
    uint64_t ready;   /* 0: all. Of a part, the engine may leave an end for the next step */
    uint64_t written; /* result: bytes that are there */
};

/* A cap that the store must be able to serve, of that kind or, if that is 0, of either. */
struct cap_needed {
    struct cap_hash hash;
    enum cap_kind kind;

    bool missing; /* result */
};

/* Whether what the store has under that hash will do. */
static inline bool cap_needed_is_met(const struct cap_needed *needed, bool found,
                                     enum cap_kind kind)
{
    return found && (needed->kind == 0 || needed->kind == kind);
}

/*
 * What is stored as a whole or not at all: caps, and what must be there for them. The caller keeps
 * it and all that it refers to until it is decided.
 */
struct cap_admission {
    struct cap_needed *needed; /* but for what `puts` bring along */
    size_t needed_count;
    struct cap_put *puts; /* what refers to others comes after them: an Image is last */
    size_t put_count;
    const atomic_bool *cancelled; /* NULL: it is never */
    uint64_t keep_s;              /* for how long to keep what is put; 0: no lease */
    struct cap_keep *keeps;       /* leases of others to give and renew, as cap_store_keep does */
    size_t keep_count;

    /*
     * Results. CAP_OK: stored and synced, it survives power loss. CAP_E_UNRESOLVED_SLOT: as many as
     * missing_count of `needed` are not there, and are marked. CAP_E_CANCELLED.
     * CAP_E_INVALID_ARGUMENT for a put that contradicts itself or a stage that is not a whole one
     * of that length. CAP_E_FORBIDDEN_CAP: one of the puts may not be there. CAP_E_DISK_FULL,
     * CAP_E_MAP_FULL, or as a body fails. After any error nothing of it is there, its stages are as
     * before, and is_new means nothing.
     */
    enum cap_error error;
    size_t missing_count;
    /*
     * Store clock: until when all of it is kept at least. What was there is renewed as
     * cap_store_keep does it, but for the Data caps of an Image, which keeps them for its own time.
     */
    uint64_t kept_until_s;
};

/* How far a copy of a store has got. */
struct cap_copy_progress {
    uint64_t records; /* of all tables */
    uint64_t records_total;
    uint64_t bytes;       /* that these hold */
    uint64_t bytes_total; /* of the pages that hold them: an estimate from above, until the end */
};

/* A copy of a store to a file of its own. */
struct cap_copy {
    uint64_t keep_free; /* bytes that must stay free on the disk of the copy */
    /* After each slice, at most CAP_COPY_SLICE bytes; may wait, to be gentle. False: give up. */
    bool (*go_on)(void *ctx, const struct cap_copy_progress *progress);
    void *ctx;

    uint64_t need; /* results: bytes of room that the copy may take */
    uint64_t have; /* and what there was, less keep_free */
    uint64_t file_bytes_before;
    uint64_t file_bytes; /* of the copy */
};

/* Whether a cap that was looked up is one that cannot be served. */
static inline bool cap_store_is_unserved(enum cap_error error)
{
    return error == CAP_E_NOT_FOUND || error == CAP_E_QUARANTINED || error == CAP_E_FORBIDDEN_CAP;
}

/* Which caps to list. */
struct cap_list_query {
    int kind; /* an enum cap_kind, or 0 for all */
    struct cap_hash prefix;
    unsigned prefix_bits;         /* leading bits of `prefix` that a hash must begin with */
    const struct cap_hash *after; /* NULL: from the start; else a *ret_last */
    size_t max;                   /* caps to list */
    size_t scan_max;              /* entries to look at */
};

enum cap_ref_direction {
    CAP_REFS_OUT, /* what the cap names */
    CAP_REFS_IN,  /* what names the cap */
};

/* What cap_store_admit tells while it works. */
struct cap_admit_watch {
    /* The admission is decided; it is the caller's again. */
    void (*decided)(void *ctx, struct cap_admission *admission);
    /* A commit of `count` admissions begins, and has ended. NULL, both: not asked for. */
    void (*commit_begins)(void *ctx);
    void (*committed)(void *ctx, size_t count, enum cap_error error);
    void *ctx;
};

#endif
