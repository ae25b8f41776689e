/*
 * The kinds of caps that large HAS requests asked for lately, so that the next such request need
 * not walk the store.
 *
 * A table of fixed size, in sets of a few entries: a full set forgets its oldest one. It is apart
 * from the records, which a client that asks for a million hashes would otherwise empty. Caps stay
 * what they are until they are gone (gone.h); that one is absent is never kept. Loop thread only.
 */
#ifndef DAEMON_SERVE_KINDS_H
#define DAEMON_SERVE_KINDS_H

#include "daemon/core/env.h"
#include "daemon/core/keyed.h"
#include "lib/store/store.h"

struct kinds_set;

struct kinds {
    struct kinds_set *sets;
    size_t count; /* of these; 0: it keeps nothing */
    uint32_t keys[KEYED_WORDS];
};

/*
 * An empty table of at most `bytes`, which take memory as they are used. CAP_E_NO_MEMORY, or as
 * `env`.
 */
enum cap_error kinds_open(struct kinds *kinds, const struct env *env, uint64_t bytes);

/* A zeroed one is fine. */
void kinds_close(struct kinds *kinds);

/* Says that a hash will be looked up soon: brings its set into the processor's cache. */
void kinds_expect(const struct kinds *kinds, const struct cap_hash *hash);

/* The kind of a cap; 0: not known. */
uint8_t kinds_find(const struct kinds *kinds, const struct cap_hash *hash);

/* Forgets the kind of a cap, or all kinds. */
void kinds_drop(struct kinds *kinds, const struct cap_hash *hash);
void kinds_clear(struct kinds *kinds);

void kinds_add(struct kinds *kinds, const struct cap_hash *hash, uint8_t kind);

#endif
