/*
 * Pieces in a table of chains and slabs in the order of their age.
 *
 * Happy path: a piece gets the next pages of the youngest slab; a reader writes it there; fetches
 * find it until its slab is the oldest and a new one is needed.
 *
 * Failure modes.
 *   - More is fetched than fits: of what could be kept one piece in a few is, so that copying for
 *     nothing stays cheap; what is fetched often gets in all the same.
 *   - No memory for a slab: the piece is not kept, and goes out from the store.
 *   - A slab is still being written to, or a socket has pages of it: the next oldest goes, if there
 *     is one; else nothing is kept until that is over.
 */
#include "daemon/serve/pieces.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "daemon/net/handover.h"
#include "lib/cap/must.h"

#define PIECE_TYPICAL (64u << 10) /* bytes of a body; one bucket for each */
#define KEEP_ONE_IN   4u          /* when full */
#define PAGE          4096u       /* so that a piece of whole pages takes no more of them */
#define HUGE_PAGE     (2u << 20)  /* where the system's are larger, small ones are used */

struct slab {
    TAILQ_ENTRY(slab) link;
    SLIST_HEAD(, piece) pieces;
    uint8_t *bytes; /* PIECES_SLAB of them */
    size_t used;    /* bytes */
    size_t writing; /* pieces */
    struct loan loan;
};

static size_t page_up(size_t len)
{
    return (len + PAGE - 1) / PAGE * PAGE;
}

static struct piece_bucket *bucket_of(const struct pieces *pieces, const struct cap_hash *hash,
                                      uint64_t at)
{
    size_t number = (size_t)(at / PIECE_SIZE); /* pieces of a body lie side by side */
    return &pieces->buckets[(keyed_hash(pieces->keys, hash) + number) & pieces->mask];
}

/* The count of pieces that a body's are counted in. */
static uint32_t *bodies_of(const struct pieces *pieces, const struct cap_hash *hash)
{
    return &pieces->bodies[keyed_hash(pieces->keys, hash) & pieces->mask];
}

/* Lets a piece not be found any more. */
static void unlist(struct pieces *pieces, struct piece *piece)
{
    LIST_REMOVE(piece, find);
    (*bodies_of(pieces, &piece->hash))--;
    piece->whole = false;
}

static struct piece *look_up(const struct pieces *pieces, const struct cap_hash *hash, uint64_t at)
{
    struct piece *piece;
    LIST_FOREACH(piece, bucket_of(pieces, hash, at), find)
    {
        if (piece->at == at && cap_hash_equal(&piece->hash, hash)) {
            return piece;
        }
    }
    return NULL;
}

enum cap_error pieces_open(struct pieces *pieces, const struct env *env, uint64_t max)
{
    size_t buckets = 1;
    *pieces = (struct pieces){.slab_max = (size_t)(max / PIECES_SLAB)};
    TAILQ_INIT(&pieces->slabs);
    if (pieces->slab_max == 0) {
        return CAP_OK;
    }
    while (buckets < max / PIECE_TYPICAL) {
        buckets *= 2;
    }
    pieces->buckets = calloc(buckets, sizeof(*pieces->buckets));
    pieces->bodies = calloc(buckets, sizeof(*pieces->bodies));
    if (pieces->buckets == NULL || pieces->bodies == NULL) {
        free(pieces->buckets);
        free(pieces->bodies);
        pieces->buckets = NULL;
        return CAP_E_NO_MEMORY;
    }
    pieces->mask = buckets - 1;
    return env->random(env->ctx, pieces->keys, sizeof(pieces->keys));
}

/* --- Slabs ------------------------------------------------------------------------------------ */

static void drop(struct pieces *pieces, struct slab *slab)
{
    must(slab->writing == 0);
    while (!SLIST_EMPTY(&slab->pieces)) {
        struct piece *piece = SLIST_FIRST(&slab->pieces);
        SLIST_REMOVE_HEAD(&slab->pieces, link);
        if (piece->whole) {
            unlist(pieces, piece);
        }
        free(piece);
    }
    TAILQ_REMOVE(&pieces->slabs, slab, link);
    pieces->slab_count--;
    pieces->bytes -= slab->used;
    (void)munmap(slab->bytes, PIECES_SLAB);
    free(slab);
}

void pieces_close(struct pieces *pieces)
{
    while (pieces->slab_count > 0) {
        drop(pieces, TAILQ_FIRST(&pieces->slabs));
    }
    free(pieces->buckets);
    free(pieces->bodies);
    pieces->buckets = NULL;
    pieces->bodies = NULL;
}

/* Maps a slab's memory, at the start of a huge page. NULL: there is none. */
static uint8_t *map_slab(void)
{
    size_t len = PIECES_SLAB + HUGE_PAGE;
    void *mapped = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        return NULL;
    }
    size_t before = (HUGE_PAGE - (uintptr_t)mapped % HUGE_PAGE) % HUGE_PAGE;
    uint8_t *bytes = (uint8_t *)mapped + before;
    if (before > 0) {
        (void)munmap(mapped, before);
    }
    (void)munmap(bytes + PIECES_SLAB, len - before - PIECES_SLAB);
    (void)madvise(bytes, PIECES_SLAB, MADV_HUGEPAGE);
    return bytes;
}

static struct slab *new_slab(struct pieces *pieces)
{
    struct slab *slab = malloc(sizeof(*slab));
    if (slab == NULL) {
        return NULL;
    }
    *slab = (struct slab){.bytes = map_slab()};
    if (slab->bytes == NULL) {
        free(slab);
        return NULL;
    }
    SLIST_INIT(&slab->pieces);
    TAILQ_INSERT_TAIL(&pieces->slabs, slab, link);
    pieces->slab_count++;
    pieces->slabs_made++;
    return slab;
}

/* The oldest slab that can go; NULL: none can. */
static struct slab *find_oldest(struct pieces *pieces, struct handover *handover)
{
    struct slab *slab = TAILQ_FIRST(&pieces->slabs);
    if (slab->loan.borrowers > 0 && handover != NULL) {
        handover_ask(handover);
    }
    while (slab != NULL && (slab->writing > 0 || slab->loan.borrowers > 0)) {
        slab = TAILQ_NEXT(slab, link);
    }
    return slab;
}

/* A slab with room for `len` bytes. NULL: not now. */
static struct slab *find_slab(struct pieces *pieces, struct handover *handover, size_t len)
{
    struct slab *slab = TAILQ_LAST(&pieces->slabs, slabs);
    if (slab != NULL && PIECES_SLAB - slab->used >= len) {
        return slab;
    }
    if (pieces->slab_count == pieces->slab_max) {
        pieces->full = true;
        struct slab *oldest = find_oldest(pieces, handover);
        if (oldest == NULL) {
            return NULL;
        }
        drop(pieces, oldest);
    }
    return new_slab(pieces);
}

/* --- Pieces ----------------------------------------------------------------------------------- */

bool pieces_find(const struct pieces *pieces, const struct cap_hash *hash, uint64_t offset,
                 struct piece_part *ret_part)
{
    if (pieces->buckets == NULL) {
        return false;
    }
    size_t skip = (size_t)(offset % PIECE_SIZE);
    const struct piece *piece = look_up(pieces, hash, offset - skip);
    if (piece == NULL || !piece->whole || skip >= piece->len) {
        return false;
    }
    *ret_part = (struct piece_part){
        .bytes = piece->bytes + skip,
        .len = piece->len - skip,
        .loan = &piece->slab->loan,
    };
    return true;
}

struct piece *pieces_begin(struct pieces *pieces, struct handover *handover,
                           const struct cap_hash *hash, uint64_t at, size_t len)
{
    must(len > 0 && len <= PIECE_SIZE && at % PIECE_SIZE == 0);
    if (pieces->buckets == NULL || look_up(pieces, hash, at) != NULL) {
        return NULL;
    }
    if (pieces->full && ++pieces->skipped % KEEP_ONE_IN != 0) {
        return NULL;
    }
    struct piece *piece = malloc(sizeof(*piece));
    struct slab *slab = piece == NULL ? NULL : find_slab(pieces, handover, page_up(len));
    if (slab == NULL) {
        free(piece);
        return NULL;
    }
    *piece = (struct piece){.slab = slab, .hash = *hash, .at = at, .len = len};
    piece->bytes = slab->bytes + slab->used;
    slab->used += page_up(len);
    slab->writing++;
    pieces->bytes += page_up(len);
    SLIST_INSERT_HEAD(&slab->pieces, piece, link);
    LIST_INSERT_HEAD(bucket_of(pieces, hash, at), piece, find);
    (*bodies_of(pieces, hash))++;
    return piece;
}

void piece_end(struct pieces *pieces, struct piece *piece, bool whole)
{
    piece->slab->writing--;
    piece->whole = whole && !piece->gone;
    if (!piece->whole) {
        unlist(pieces, piece); /* its pages go with the slab */
    }
}

/* Of a slab: those of one body, or all with NULL. */
static void drop_in(struct pieces *pieces, struct slab *slab, const struct cap_hash *hash)
{
    struct piece *piece;
    SLIST_FOREACH(piece, &slab->pieces, link)
    {
        if (hash != NULL && !cap_hash_equal(&piece->hash, hash)) {
            continue;
        }
        piece->gone = true;
        if (piece->whole) {
            unlist(pieces, piece);
        }
    }
}

void pieces_drop(struct pieces *pieces, const struct cap_hash *hash)
{
    struct slab *slab;
    if (pieces->buckets == NULL || *bodies_of(pieces, hash) == 0) {
        return;
    }
    TAILQ_FOREACH(slab, &pieces->slabs, link)
    {
        drop_in(pieces, slab, hash);
    }
}

void pieces_clear(struct pieces *pieces)
{
    struct slab *slab;
    TAILQ_FOREACH(slab, &pieces->slabs, link)
    {
        drop_in(pieces, slab, NULL);
    }
}
