/*
 * Looking a whole store through: the check of one that nobody has open, and the scrub of one in
 * use. Both see the same, and can put right what is not a cap's own bytes.
 */
#ifndef LIB_STORE_SCRUB_H
#define LIB_STORE_SCRUB_H

#include "lib/store/types.h"

/* --- Offline ---------------------------------------------------------------------------------- */

struct cap_check_progress {
    const char *index; /* that is being read; static. NULL: none yet */
    bool has_hash;
    struct cap_hash hash; /* of the entry that is being looked at */
    uint64_t caps;        /* looked at */
    uint64_t caps_total;  /* what the store's counts say, or as many as were looked at */
    uint64_t refs;
    uint64_t bytes;       /* of bodies and page roots read */
    uint64_t bytes_total; /* of bodies, as the store's counts say, or as many as were read */
};

struct cap_check_watch {
    /* Something is wrong, one sentence without a stop; `hash`: the cap it concerns, or NULL. */
    void (*finding)(void *ctx, const struct cap_hash *hash, const char *what);
    /* After every chunk. NULL: not asked for. */
    void (*progress)(void *ctx, const struct cap_check_progress *progress);
    void *ctx;
};

/* What a check, or a scrub, came to. */
struct cap_check_outcome {
    uint64_t findings;
    uint64_t mended;      /* entries that were put right */
    uint64_t unmended;    /* entries with a finding that stays */
    uint64_t quarantined; /* caps whose bytes were found damaged */
};

/*
 * Verifies the LMDB store in a directory, which nobody has open, completely: pages, order of the
 * indexes, checksums, every body's CapHash, page roots, references in both directions, roots,
 * counts, and that nothing lies there unowned. Changes nothing. CAP_OK when it came to its end:
 * *ret_findings says how much is wrong. CAP_E_IO: there is no such store, or it cannot be read.
 * CAP_E_STORE_VERSION.
 *
 * The storage engine may crash over a damaged file: run this in a process of its own. Memory: 40
 * bytes for each cap, and the largest Image's structure.
 */
enum cap_error cap_store_lmdb_check(const char *dir, const struct cap_check_watch *watch,
                                    uint64_t *ret_findings);

/*
 * The same, and puts right what it finds: what the bodies of caps prove is written anew (figures,
 * references, indexes, page roots, nodes, counts), what belongs to nothing is dropped, and a cap
 * whose own bytes are damaged is quarantined. To a file whose pages are damaged nothing is written.
 */
enum cap_error cap_store_lmdb_repair(const char *dir, const struct cap_check_watch *watch,
                                     struct cap_check_outcome *ret_outcome);

/* --- Online: a thread of the caller's -------------------------------------------------------- */

/* Something for the writer's thread. */
typedef enum cap_error cap_store_work(struct cap_store *store, void *work_ctx);

enum cap_scrub_pace {
    CAP_SCRUB_GO,
    CAP_SCRUB_STOP,  /* and go on when the store is opened again */
    CAP_SCRUB_PAUSE, /* and stay so until somebody wants it to go on */
};

/* What a scrub needs of its caller, on the scrub's thread. */
struct cap_scrub_watch {
    /* As those of a check. NULL: not asked for. */
    void (*finding)(void *ctx, const struct cap_hash *hash, const char *what);
    void (*progress)(void *ctx, const struct cap_check_progress *progress);
    /* Runs `work` on the writer's thread and waits for it: its result, or an error when it cannot
     * be run. */
    enum cap_error (*on_writer)(void *ctx, cap_store_work *work, void *work_ctx);
    /* So many bytes were looked at since the last call. May wait: no snapshot is open, but for the
     * one of the first phase, in which the pages of the file are looked at. */
    enum cap_scrub_pace (*pace)(void *ctx, uint64_t bytes);
    void *ctx;
};

/*
 * Looks at a store in use as cap_store_lmdb_check does at one that is not, but for what it would
 * have to stop others for. What is damaged is quarantined; with `repair` the rest is put right. A
 * pass goes on where the last one was paused, also in an earlier life. CAP_OK: the pass came to its
 * end. CAP_E_CANCELLED: it was stopped or paused. CAP_E_CORRUPT: the pages of the file are damaged,
 * and no more than these was looked at. Memory as for a check.
 */
enum cap_error cap_store_scrub(struct cap_store *store, bool repair,
                               const struct cap_scrub_watch *watch,
                               struct cap_check_outcome *ret_outcome);

/* How far the pass that is not at its end has come, as last written down, and when the last one
 * ended. */
struct cap_scrub_state {
    uint64_t began_us; /* real time; 0: no pass is under way */
    bool paused;       /* it is, by somebody's wish */
    uint64_t findings; /* of that pass */
    uint64_t mended;
    uint64_t unmended;
    uint64_t caps;
    uint64_t bytes;
    uint64_t ended_us; /* of the last whole pass; 0: there was none */
    uint64_t last_findings;
    uint64_t last_unmended;
};

enum cap_error cap_store_scrub_state(struct cap_read *read, struct cap_scrub_state *ret_state);

#endif
