/*
 * Pieces of larger bodies that are fetched again and again, kept in memory.
 *
 * The reader that checks a piece copies it here. From then on its fetches need no snapshot, no
 * reader and no check: what lies here was sound and comes from no device any more. Caps do not
 * change, so a piece stays true until its cap is gone (gone.h).
 *
 * Pieces lie one behind the other in slabs, of huge pages where the system has them: so the pages
 * themselves can be lent to Unix sockets (handover.h). A byte of a slab is written once; then the
 * slab is unmapped, as a whole, the oldest first of which no socket has anything. So receivers that
 * stop reading cost room in the cache, not memory beside it; where they have something of every
 * slab, nothing new is kept. No page of the store is ever in a socket.
 *
 * Each loop has its own. Loop thread only; another may write a piece that is not whole.
 */
#ifndef DAEMON_SERVE_PIECES_H
#define DAEMON_SERVE_PIECES_H

#include <sys/queue.h>

#include "daemon/core/env.h"
#include "daemon/core/keyed.h"

#define PIECE_SIZE  (1u << 20) /* bytes of a body, but for its last piece: what a turn may send */
#define PIECES_SLAB (4u << 20) /* bytes: two huge pages, or 1,024 small ones for a loop to free */

struct handover;
struct loan;
struct slab;

/* Bytes of a body. */
struct piece_part {
    uint8_t *bytes; /* only to be read */
    size_t len;
    struct loan *loan; /* of their memory (handover.h) */
};

struct piece {
    LIST_ENTRY(piece) find;
    SLIST_ENTRY(piece) link; /* of its slab */
    struct slab *slab;
    struct cap_hash hash;
    uint64_t at;    /* in the body, a multiple of PIECE_SIZE */
    uint8_t *bytes; /* in the slab, at the start of a page */
    size_t len;
    bool whole; /* false: it is being written, or not to be found any more */
    bool gone;  /* its cap is: it is given up when it is written */
};

LIST_HEAD(piece_bucket, piece);

struct pieces {
    struct piece_bucket *buckets; /* NULL: nothing is kept */
    uint32_t *bodies;             /* how many pieces of bodies there are, by their hashes */
    size_t mask;                  /* of the number of each of these, a power of two */
    uint32_t keys[KEYED_WORDS];
    TAILQ_HEAD(slabs, slab) slabs; /* oldest first; the last one is being filled */
    size_t slab_count;
    size_t slab_max;
    uint64_t slabs_made; /* since it was opened */
    bool full;           /* a slab has to go for another to come */
    unsigned skipped;    /* pieces that could have been kept, since then */
    uint64_t bytes;      /* of memory that the slabs take */
};

/* An empty cache of at most `max` bytes; less than a slab: it keeps nothing. CAP_E_NO_MEMORY. */
enum cap_error pieces_open(struct pieces *pieces, const struct env *env, uint64_t max);

/* Frees all; none is being written. A zeroed one is fine. */
void pieces_close(struct pieces *pieces);

/* The bytes of a body that are kept from `offset` on, to the end of the piece that has it; valid
 * until the next pieces_begin. False: none. */
bool pieces_find(const struct pieces *pieces, const struct cap_hash *hash, uint64_t offset,
                 struct piece_part *ret_part);

/*
 * Makes room for the piece of `len` bytes (at most PIECE_SIZE) at `at`: piece->len of them are to
 * be written to piece->bytes, and then it is ended. NULL: it is not to be kept, or is there
 * already. `handover` is what lends pieces; NULL: nothing does.
 */
struct piece *pieces_begin(struct pieces *pieces, struct handover *handover,
                           const struct cap_hash *hash, uint64_t at, size_t len);

/* It is written if `whole`, or given up. */
void piece_end(struct pieces *pieces, struct piece *piece, bool whole);

/*
 * Lets no more pieces of a body be found, or of any: those that are being written, too. Their
 * memory goes with their slabs.
 */
void pieces_drop(struct pieces *pieces, const struct cap_hash *hash);
void pieces_clear(struct pieces *pieces);

#endif
