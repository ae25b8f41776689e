/*
 * Depth first, with a stack of its own.
 *
 * An Image that is met is put on the stack; it comes when all that it refers to has come. What has
 * come, and what the client has, is in a set; an Image on the stack is not, for nothing below it
 * can refer to it.
 *
 * The stack is a ring: an Image that is put on a full one takes the place of the first. There are
 * more Images on the way down than may come then, so the walk ends before the first one's turn.
 */
#include "daemon/serve/walk.h"

#include <stdlib.h>
#include <string.h>

#include "lib/cap/hash_set.h"
#include "lib/cap/must.h"

#define REFS_AT_ONCE 32u /* they are read again after each Image among them */
#define FIRST_ROOM   64u /* hashes and Images; both double */

/* Of hashes that can be found: themselves, and at most two places of the set for each. */
#define SEEN_BYTES (CAP_HASH_SIZE + 2 * sizeof(uint32_t))

/* An Image on the way down. */
struct level {
    struct cap_hash hash;
    struct cap_hash after; /* the reference that was looked at last */
    bool begun;            /* there is one */
};

struct walk {
    struct ledger *ledger;
    struct ledger_peer *account;
    uint64_t held; /* bytes counted */
    uint64_t max;
    uint64_t come; /* caps that came */

    struct cap_hash *roots;
    size_t root_count;
    size_t root_at;

    struct cap_hash *seen; /* what the client has, and what has come */
    size_t seen_count;
    size_t seen_room;
    struct cap_hash_set set; /* over these */

    struct level *levels; /* level i at i % level_room, once there are more than that */
    size_t level_room;
    uint64_t depth;
    uint64_t store_caps; /* most that a snapshot had: no way down is longer */

    struct cap_ref refs[REFS_AT_ONCE]; /* of the topmost level, as far as they are read */
    size_t ref_count;
    size_t ref_at;
};

/* --- Memory ----------------------------------------------------------------------------------- */

/* Counts what there will be. CAP_E_MEMORY_LIMIT. */
static enum cap_error count(struct walk *walk, size_t seen_room, size_t level_room)
{
    uint64_t wanted = sizeof(*walk) + walk->root_count * CAP_HASH_SIZE + seen_room * SEEN_BYTES +
                      level_room * sizeof(struct level);
    return ledger_memory_hold(walk->ledger, walk->account, &walk->held, wanted)
               ? CAP_OK
               : CAP_E_MEMORY_LIMIT;
}

static enum cap_error add_seen(struct walk *walk, const struct cap_hash *hash)
{
    if (walk->seen_count == walk->seen_room) {
        size_t room = walk->seen_room == 0 ? FIRST_ROOM : 2 * walk->seen_room;
        enum cap_error error = count(walk, room, walk->level_room);
        if (error != CAP_OK) {
            return error;
        }
        struct cap_hash *seen = realloc(walk->seen, room * sizeof(*seen));
        if (seen == NULL) {
            return CAP_E_NO_MEMORY;
        }
        walk->seen = seen;
        walk->seen_room = room;
    }
    walk->seen[walk->seen_count] = *hash;
    enum cap_error error = cap_hash_set_insert(&walk->set, walk->seen, walk->seen_count);
    walk->seen_count += error == CAP_OK;
    return error;
}

static bool is_seen(const struct walk *walk, const struct cap_hash *hash)
{
    return cap_hash_set_find(&walk->set, walk->seen, hash) != CAP_HASH_ABSENT;
}

/* Room for a level more, if there are to be more. */
static enum cap_error grow_levels(struct walk *walk)
{
    if (walk->depth < walk->level_room || walk->level_room >= walk->max) {
        return CAP_OK;
    }
    size_t room = walk->level_room == 0 ? FIRST_ROOM : 2 * walk->level_room;
    if (room > walk->max) {
        room = (size_t)walk->max;
    }
    enum cap_error error = count(walk, walk->seen_room, room);
    if (error != CAP_OK) {
        return error;
    }
    struct level *levels = realloc(walk->levels, room * sizeof(*levels));
    if (levels == NULL) {
        return CAP_E_NO_MEMORY;
    }
    walk->levels = levels;
    walk->level_room = room;
    return CAP_OK;
}

static enum cap_error copy_hashes(struct walk *walk, const struct walk_query *query)
{
    enum cap_error error = CAP_OK;
    if (walk->root_count > 0) {
        walk->roots = malloc(walk->root_count * sizeof(*walk->roots));
        if (walk->roots == NULL) {
            return CAP_E_NO_MEMORY;
        }
        memcpy(walk->roots, query->roots.data, walk->root_count * sizeof(*walk->roots));
    }
    for (size_t at = 0; error == CAP_OK && at + CAP_HASH_SIZE <= query->have.len;
         at += CAP_HASH_SIZE) {
        struct cap_hash hash;
        memcpy(hash.bytes, query->have.data + at, CAP_HASH_SIZE);
        error = is_seen(walk, &hash) ? CAP_OK : add_seen(walk, &hash);
    }
    return error;
}

enum cap_error walk_new(struct ledger *ledger, struct ledger_peer *account,
                        const struct walk_query *query, struct walk **ret_walk)
{
    must(query->max > 0);
    struct walk *walk = calloc(1, sizeof(*walk));
    if (walk == NULL) {
        return CAP_E_NO_MEMORY;
    }
    walk->ledger = ledger;
    walk->account = account;
    walk->max = query->max;
    walk->root_count = query->roots.len / CAP_HASH_SIZE;
    enum cap_error error = count(walk, 0, 0);
    if (error == CAP_OK) {
        error = copy_hashes(walk, query);
    }
    if (error != CAP_OK) {
        walk_free(walk);
        return error;
    }
    *ret_walk = walk;
    return CAP_OK;
}

void walk_free(struct walk *walk)
{
    if (walk == NULL) {
        return;
    }
    (void)ledger_memory_hold(walk->ledger, walk->account, &walk->held, 0);
    cap_hash_set_free(&walk->set);
    free(walk->roots);
    free(walk->seen);
    free(walk->levels);
    free(walk);
}

uint64_t walk_memory(const struct walk *walk)
{
    return walk->held;
}

/* --- Caps ------------------------------------------------------------------------------------- */

static enum cap_error find(struct cap_read *read, const struct cap_hash *hash,
                           struct walk_cap *ret_cap)
{
    *ret_cap = (struct walk_cap){.hash = *hash};
    ret_cap->error = cap_store_find(read, hash, &ret_cap->info);
    if (ret_cap->error != CAP_OK) {
        ret_cap->info = (struct cap_info){0};
    }
    return ret_cap->error == CAP_OK || walk_goes_on(ret_cap->error) ? CAP_OK : ret_cap->error;
}

/* The cap comes. */
static enum cap_error come(struct walk *walk, const struct walk_cap *cap, enum walk_step *ret_step)
{
    walk->come++;
    *ret_step = WALK_CAP;
    return add_seen(walk, &cap->hash);
}

static struct level *top(const struct walk *walk)
{
    return &walk->levels[(walk->depth - 1) % walk->level_room];
}

/* Puts an Image on the stack. */
static enum cap_error descend(struct walk *walk, struct cap_read *read, const struct cap_hash *hash)
{
    enum cap_error error = grow_levels(walk);
    if (error == CAP_OK && walk->depth >= walk->max) {
        struct cap_counts counts;
        error = cap_store_counts(read, &counts);
        if (error == CAP_OK && counts.caps[CAP_KIND_IMAGE] > walk->store_caps) {
            walk->store_caps = counts.caps[CAP_KIND_IMAGE];
        }
        if (error == CAP_OK && walk->depth > walk->store_caps) {
            error = CAP_E_CORRUPT; /* the store's references go in a circle */
        }
    }
    if (error == CAP_OK) {
        walk->depth++;
        *top(walk) = (struct level){.hash = *hash};
        walk->ref_count = walk->ref_at = 0;
    }
    return error;
}

/* Looks at a cap for the first time, perhaps: it comes, or goes to the stack. */
static enum cap_error meet(struct walk *walk, struct cap_read *read, const struct cap_hash *hash,
                           enum walk_step *ret_step, struct walk_cap *ret_cap)
{
    if (is_seen(walk, hash)) {
        return CAP_OK;
    }
    if (walk->come == walk->max) {
        return CAP_E_CLOSURE_TOO_LARGE;
    }
    enum cap_error error = find(read, hash, ret_cap);
    if (error == CAP_OK && ret_cap->info.ref_count > 0) {
        return descend(walk, read, hash);
    }
    return error == CAP_OK ? come(walk, ret_cap, ret_step) : error;
}

/* Reads the next references of the topmost Image; none: it has no more. */
static enum cap_error read_refs(struct walk *walk, struct cap_read *read, struct walk_cap *ret_cap)
{
    const struct level *level = top(walk);
    bool more;
    walk->ref_at = walk->ref_count = 0;
    *ret_cap = (struct walk_cap){.hash = level->hash};
    return cap_store_refs(read, &level->hash, CAP_REFS_OUT, level->begun ? &level->after : NULL,
                          REFS_AT_ONCE, walk->refs, &walk->ref_count, &more);
}

/* All that the topmost Image refers to has come, so it does, if it is still there. */
static enum cap_error ascend(struct walk *walk, struct cap_read *read, enum walk_step *ret_step,
                             struct walk_cap *ret_cap)
{
    const struct cap_hash hash = top(walk)->hash;
    walk->depth--;
    walk->ref_at = walk->ref_count = 0;
    if (walk->come == walk->max) {
        return CAP_E_CLOSURE_TOO_LARGE;
    }
    enum cap_error error = find(read, &hash, ret_cap);
    return error == CAP_OK ? come(walk, ret_cap, ret_step) : error;
}

/* One step on the way: *ret_step stays WALK_MORE until a cap comes or there are no more. */
static enum cap_error advance(struct walk *walk, struct cap_read *read, enum walk_step *ret_step,
                              struct walk_cap *ret_cap)
{
    if (walk->depth == 0) {
        if (walk->root_at == walk->root_count) {
            *ret_step = WALK_END;
            return CAP_OK;
        }
        return meet(walk, read, &walk->roots[walk->root_at++], ret_step, ret_cap);
    }
    if (walk->ref_at == walk->ref_count) {
        enum cap_error error = read_refs(walk, read, ret_cap);
        if (error != CAP_OK || walk->ref_count == 0) {
            return error == CAP_OK ? ascend(walk, read, ret_step, ret_cap) : error;
        }
    }
    struct level *level = top(walk);
    const struct cap_hash hash = walk->refs[walk->ref_at++].hash;
    level->after = hash;
    level->begun = true;
    return meet(walk, read, &hash, ret_step, ret_cap);
}

enum cap_error walk_next(struct walk *walk, struct cap_read *read, size_t *budget,
                         enum walk_step *ret_step, struct walk_cap *ret_cap)
{
    enum cap_error error = CAP_OK;
    *ret_step = WALK_MORE;
    while (error == CAP_OK && *ret_step == WALK_MORE && *budget > 0) {
        (*budget)--;
        error = advance(walk, read, ret_step, ret_cap);
    }
    return error;
}
