/*
 * Where small bodies lie in the store's map: a table in which the loop finds a body without walking
 * the store, at half a line of the processor's cache for each cap.
 *
 * The store writes over pages that no cap has any more, and does not say when; what lies there then
 * may be a client's choice. So a place comes with a checksum of its hash and its body under secrets
 * of the table's, and is good for as long as what is loaded from it agrees with that. The hash
 * itself is not kept: an entry that is found may be another cap's, of the same tag, until its body
 * was loaded. A table of entries in small sets: what has not been asked for lately is replaced.
 *
 * Each loop has its own. Its thread finds without a lock, and takes one to change what other loops
 * may see, which they do when they miss (places_learn). Loop thread only.
 */
#ifndef DAEMON_SERVE_PLACES_H
#define DAEMON_SERVE_PLACES_H

#include <uv.h>

#include "daemon/core/env.h"
#include "daemon/core/keyed.h"
#include "lib/store/store.h"

#define PLACES_SET    8u   /* entries that one search looks at, twice if need be */
#define PLACES_SECRET 192u /* bytes: what XXH3 asks for in one of its own */

/* Bytes of a *small* body, the longest that is kept: a Data cap of one page has 4 KiB and its head,
 * of two a little over 8. */
#define PLACES_BODY_MAX (10u << 10)

/*
 * How long pages that were in memory are taken to be there still, without a system call for each
 * load. Each load touches them, and the system lets go of what was not touched for longest: to be
 * wrong it would have to turn over all of its memory in this time. It begins with PLACES_TRUST_MS,
 * and doubles, up to PLACES_TRUST_MAX_MS, when PLACES_TRUST_GROWS pages in a row were still there
 * after it; one that is gone takes it back. To notice that soon, one load in PLACES_TRUST_SAMPLE,
 * of those after more than PLACES_TRUST_MS, looks all the same.
 */
#define PLACES_TRUST_MS     1000u
#define PLACES_TRUST_MAX_MS (32u * PLACES_TRUST_MS)
#define PLACES_TRUST_GROWS  256u
#define PLACES_TRUST_SAMPLE 16u

struct place {
    uint64_t check;
    uint64_t at : 48;   /* an address; 0: a free entry */
    uint64_t len : 16;  /* of the body */
    uint64_t rest : 48; /* an address, as in struct cap_place */
    uint64_t rest_len : 10;
    uint64_t kind : 6;     /* enum cap_kind */
    uint32_t tag;          /* of the hash */
    uint32_t seen_ms : 31; /* when its pages were last found in memory */
    uint32_t touched : 1;  /* asked for since it was last looked at for replacement */
};

struct places {
    uv_mutex_t lock;       /* of the entries, but for `seen_ms` and `touched` */
    struct place *entries; /* mapped; sets one after the other */
    size_t sets;           /* 0: it keeps nothing */
    size_t next;           /* of a set: where the next search for room begins */
    uint64_t count;        /* entries that are taken */
    uint32_t trust_ms;     /* the time at present */
    uint32_t trust_kept;   /* pages that were still there after it, since it changed */
    uint32_t trust_used;   /* loads within it, but after more than PLACES_TRUST_MS */
    uint32_t keys[KEYED_WORDS];
    uint8_t secrets[2][PLACES_SECRET]; /* for bodies, and for their hashes */
};

/*
 * An empty table of about `bytes`; 0: it keeps nothing. It may learn from `other`, NULL: from none,
 * and from those that this may learn from. CAP_E_NO_MEMORY, or as `env`. A zeroed one may be
 * closed.
 */
enum cap_error places_open(struct places *places, const struct env *env, uint64_t bytes,
                           const struct places *other);
void places_close(struct places *places);

/* Memory of the entries that are taken, in bytes. */
uint64_t places_bytes(const struct places *places);

/* Whether a cap has a place, and its body is small. */
static inline bool places_take(const struct cap_place *place)
{
    return place->at != NULL && place->len <= PLACES_BODY_MAX;
}

/* Where a body lies, or lay, or that of another cap does; NULL: unknown. Valid until the table
 * changes. */
struct place *places_find(struct places *places, const struct cap_hash *hash);

/*
 * Before a few hashes are looked up one after the other: has the processor fetch their entries, and
 * then, for each again, the beginning of its body, so that it does not wait for one at a time.
 */
void places_expect(const struct places *places, const struct cap_hash *hash);
void places_expect_body(const struct places *places, const struct cap_hash *hash);

/* places_find after taking it over from the table of another loop, if that has it. */
struct place *places_learn(struct places *places, struct places *other,
                           const struct cap_hash *hash);

/*
 * Enters where a snapshot found a small body (places_take), of which `body` is a sound copy; its
 * pages are in memory at `now_us` (env_monotonic_us).
 */
void places_add(struct places *places, const struct cap_hash *hash, enum cap_kind kind,
                const struct cap_place *place, const uint8_t *body, uint64_t now_us);

/*
 * Forgets the place of a cap, or of another whose hash begins alike; all that are known.
 */
void places_drop(struct places *places, const struct cap_hash *hash);
void places_clear(struct places *places);

/* Whether place_load, called next, need not wait for a device: the pages are in memory, or were not
 * long ago (PLACES_TRUST_MS). */
bool place_is_warm(struct places *places, struct place *place, const struct env *env,
                   uint64_t now_us);

/*
 * Loads the body of the hash by which the place was found, place->len bytes, to `dst`. False: the
 * place is stale or another cap's, or cannot be read; it is forgotten.
 */
bool place_load(struct places *places, struct place *place, const struct cap_hash *hash,
                struct cap_store *store, uint8_t *dst);

#endif
