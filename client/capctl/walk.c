/*
 * The walk: a cap that was named with all that it needs in one answer, as far as that goes; what is
 * left, and where all caps are visited, a batch at a time, Data as it arrives, Images once it is
 * known that all they refer to has come. An Image that has to wait goes to a stack, and is fetched
 * again when its turn comes.
 */
#include "client/capctl/walk.h"

#include <stdlib.h>
#include <string.h>

#define SMALL_BODY  (UINT64_C(4) << 20)  /* longer ones are fetched alone */
#define BATCH_BYTES (UINT64_C(16) << 20) /* of Images kept until their batch is complete */
#define NOTES_MAX   20u                  /* caps left out that are named */

/* Hashes of a cap's slots, or of many caps'. */
struct refs {
    struct capstore_hash *hashes;
    bool *known;
    size_t count;
    size_t capacity;
};

static void refs_free(struct refs *refs)
{
    free(refs->hashes);
    free(refs->known);
    *refs = (struct refs){0};
}

/* The caps of one get_many. */
struct batch {
    struct cli_walk *walk;
    struct capstore_hash hashes[CLI_WALK_BATCH]; /* that are asked for */
    bool answered[CLI_WALK_BATCH];
    bool optional;
    struct capstore_cap *images[CLI_WALK_BATCH];
    size_t image_count;
    uint64_t image_bytes;
    struct capstore_hash later[CLI_WALK_BATCH]; /* to be visited one by one */
    size_t later_count;
};

/* Says so: false. */
static bool no_memory(struct cli_walk *walk)
{
    (void)cli_fail_error(walk->cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
    return false;
}

/* Whether an error is about one cap, and says nothing of others. */
static bool is_of_one_cap(enum capstore_error error)
{
    return error == CAPSTORE_E_NOT_FOUND || error == CAPSTORE_E_CORRUPT ||
           error == CAPSTORE_E_QUARANTINED || error == CAPSTORE_E_HASH_MISMATCH ||
           error == CAPSTORE_E_BODY_NOT_CANONICAL || error == CAPSTORE_E_IO;
}

/* Leaves a cap out. False when memory is short, which is said. */
static bool leave_out(struct cli_walk *walk, const struct capstore_hash *hash, const char *why)
{
    char hex[CAPSTORE_HASH_HEX_SIZE];
    if (cli_seen_has(&walk->left, hash)) {
        return true;
    }
    capstore_hash_format(hash, hex);
    walk->left_count++;
    if (walk->left_count <= NOTES_MAX) {
        cli_note("%s is left out: %s", hex, why);
    }
    if (walk->left_count == NOTES_MAX + 1) {
        cli_note("more caps are left out, which are only counted");
    }
    return cli_seen_add(&walk->left, hash) || no_memory(walk);
}

/* ---- references ---- */

/* Appends the references of an Image; of Data there are none. False when memory is short. */
static bool refs_add(struct refs *refs, const struct capstore_cap *cap)
{
    struct capstore_counts counts = capstore_image_counts(cap);
    size_t more = counts.slots[0] + counts.slots[1];
    if (more == 0) {
        return true;
    }
    if (refs->count + more > refs->capacity) {
        size_t capacity = 2 * (refs->count + more);
        struct capstore_hash *hashes = realloc(refs->hashes, capacity * sizeof(*hashes));
        if (hashes == NULL) {
            return false;
        }
        refs->hashes = hashes;
        refs->capacity = capacity;
    }
    for (int table = 0; table < 2; table++) {
        for (size_t i = 0; i < counts.slots[table]; i++) {
            refs->hashes[refs->count++] =
                capstore_image_slot(cap, (enum capstore_table)table, i).cap_hash;
        }
    }
    return true;
}

/* Asks which of them are known. False after saying what is wrong. */
static bool refs_ask(struct cli_walk *walk, struct refs *refs)
{
    if (refs->count == 0) {
        return true;
    }
    refs->count = cli_distinct(refs->hashes, refs->count);
    free(refs->known);
    refs->known = calloc(refs->count, sizeof(*refs->known));
    if (refs->known == NULL) {
        return no_memory(walk);
    }
    return walk->known(walk->ctx, refs->hashes, refs->count, refs->known);
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, CAPSTORE_HASH_SIZE);
}

static bool is_known(const struct refs *refs, const struct capstore_hash *hash)
{
    const struct capstore_hash *found =
        refs->count == 0 ? NULL
                         : bsearch(hash, refs->hashes, refs->count, sizeof(*refs->hashes), compare);
    return found != NULL && refs->known[found - refs->hashes];
}

/* Whether every reference of the cap is among those that are known. */
static bool all_known(const struct refs *refs, const struct capstore_cap *cap)
{
    struct capstore_counts counts = capstore_image_counts(cap);
    for (int table = 0; table < 2; table++) {
        for (size_t i = 0; i < counts.slots[table]; i++) {
            struct capstore_slot slot = capstore_image_slot(cap, (enum capstore_table)table, i);
            if (!is_known(refs, &slot.cap_hash)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- batches ---- */

/* Whether a call has failed because its connection was closed, perhaps while the other one was in
 * use: then it is open again. */
static bool was_idle(struct cli_walk *walk, struct capstore *store)
{
    return !walk->cli->failed && !capstore_connected(store) &&
           capstore_connect(store, walk->address) == CAPSTORE_OK;
}

static enum capstore_error on_got(void *ctx, size_t index, enum capstore_error error,
                                  struct capstore_cap *cap)
{
    struct batch *batch = ctx;
    struct cli_walk *walk = batch->walk;
    const struct capstore_hash *hash = &batch->hashes[index];
    if (cap == NULL) {
        if (error == CAPSTORE_E_NOT_FOUND && batch->optional) {
            return CAPSTORE_OK;
        }
        if (is_of_one_cap(error)) {
            batch->answered[index] = true;
            return leave_out(walk, hash, capstore_error_text(error)) ? CAPSTORE_OK
                                                                     : CAPSTORE_E_CANCELLED;
        }
        batch->later[batch->later_count++] = *hash; /* perhaps it is only too large for this */
        return CAPSTORE_OK;
    }
    batch->answered[index] = true;
    if (capstore_cap_kind(cap) == CAPSTORE_KIND_DATA) {
        return walk->take(walk->ctx, cap) ? CAPSTORE_OK : CAPSTORE_E_CANCELLED;
    }
    if (batch->image_bytes + capstore_cap_body(cap).len > BATCH_BYTES) {
        batch->answered[index] = false;
        batch->later[batch->later_count++] = *hash;
        capstore_cap_free(cap);
        return CAPSTORE_OK;
    }
    batch->image_bytes += capstore_cap_body(cap).len;
    batch->images[batch->image_count++] = cap;
    return CAPSTORE_OK;
}

/* Takes the batch's Images that can be taken; the others are left for later. */
static bool take_images(struct batch *batch)
{
    struct cli_walk *walk = batch->walk;
    struct refs refs = {0};
    bool good = true;
    for (size_t i = 0; good && i < batch->image_count; i++) {
        good = refs_add(&refs, batch->images[i]) || no_memory(walk);
    }
    good = good && refs_ask(walk, &refs);
    for (size_t i = 0; i < batch->image_count; i++) {
        struct capstore_cap *image = batch->images[i];
        if (good && all_known(&refs, image)) {
            good = walk->take(walk->ctx, image);
            continue;
        }
        batch->later[batch->later_count++] = *capstore_cap_hash(image);
        capstore_cap_free(image);
    }
    refs_free(&refs);
    return good;
}

/* Keeps of the batch's hashes those that have no answer. Returns how many. */
static size_t unanswered(struct batch *batch, size_t count)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        if (!batch->answered[i]) {
            batch->hashes[left++] = batch->hashes[i];
        }
    }
    memset(batch->answered, 0, sizeof(batch->answered));
    return left;
}

/* Fetches caps, at most CLI_WALK_BATCH, and takes those that can be. False after saying what is
 * wrong. */
static bool take_batch(struct batch *batch, const struct capstore_hash *hashes, size_t count)
{
    struct cli_walk *walk = batch->walk;
    memcpy(batch->hashes, hashes, count * sizeof(*hashes));
    enum capstore_error error = capstore_get_many(walk->many, batch->hashes, count, on_got, batch);
    if (error != CAPSTORE_OK && was_idle(walk, walk->many)) {
        count = unanswered(batch, count);
        batch->later_count = 0; /* these have no answer either */
        error = capstore_get_many(walk->many, batch->hashes, count, on_got, batch);
    }
    if (error != CAPSTORE_OK) {
        for (size_t i = 0; i < batch->image_count; i++) {
            capstore_cap_free(batch->images[i]);
        }
        if (!walk->cli->failed) {
            (void)cli_fail_error(walk->cli, error, NULL, capstore_message(walk->many));
        }
        return false;
    }
    return take_images(batch);
}

/* ---- Images that wait ---- */

static bool push(struct cli_walk *walk, const struct capstore_hash *hash)
{
    if (walk->depth == walk->capacity) {
        size_t capacity = walk->capacity == 0 ? 64 : 2 * walk->capacity;
        struct capstore_hash *stack = realloc(walk->stack, capacity * sizeof(*stack));
        if (stack == NULL) {
            return no_memory(walk);
        }
        walk->stack = stack;
        walk->capacity = capacity;
    }
    walk->stack[walk->depth++] = *hash;
    return true;
}

/* Fetches what is missing of `refs`, and pushes what has to wait in turn. *ret_lost: an Image that
 * needs all of them cannot be had. */
static bool descend(struct cli_walk *walk, const struct refs *refs, bool *ret_lost)
{
    struct batch *batch = malloc(sizeof(*batch));
    struct capstore_hash *missing = malloc(CLI_WALK_BATCH * sizeof(*missing));
    bool good = (batch != NULL && missing != NULL) || no_memory(walk);
    size_t at = 0;
    while (good && at < refs->count) {
        size_t count = 0;
        for (; at < refs->count && count < CLI_WALK_BATCH; at++) {
            if (!refs->known[at] && !cli_seen_has(&walk->left, &refs->hashes[at])) {
                missing[count++] = refs->hashes[at];
            }
        }
        *batch = (struct batch){.walk = walk};
        good = count == 0 || take_batch(batch, missing, count);
        for (size_t i = 0; good && i < batch->later_count; i++) {
            good = push(walk, &batch->later[i]);
        }
    }
    *ret_lost = false;
    for (size_t i = 0; i < refs->count; i++) {
        *ret_lost |= cli_seen_has(&walk->left, &refs->hashes[i]);
    }
    free(missing);
    free(batch);
    return good;
}

/* Fetches the cap on top of the stack, which may be large. NULL with *ret_good when it is left out.
 */
static struct capstore_cap *fetch_top(struct cli_walk *walk, const struct capstore_hash *hash,
                                      bool *ret_good)
{
    struct capstore_cap *cap = NULL;
    enum capstore_error error = capstore_get(walk->large, hash, &cap);
    if (error != CAPSTORE_OK && was_idle(walk, walk->large)) {
        error = capstore_get(walk->large, hash, &cap);
    }
    *ret_good = true;
    if (error != CAPSTORE_OK && is_of_one_cap(error)) {
        *ret_good = leave_out(walk, hash, capstore_error_text(error));
    } else if (error != CAPSTORE_OK) {
        (void)cli_fail_error(walk->cli, error, NULL, capstore_message(walk->large));
        *ret_good = false;
    }
    return cap;
}

/* Takes the cap on top of the stack, or puts what it needs above it. */
static bool step(struct cli_walk *walk)
{
    const size_t below = walk->depth - 1;
    const struct capstore_hash top = walk->stack[below];
    bool known = false;
    bool good = walk->known(walk->ctx, &top, 1, &known);
    if (!good || known || cli_seen_has(&walk->left, &top)) {
        walk->depth = below;
        return good;
    }
    struct capstore_cap *cap = fetch_top(walk, &top, &good);
    if (cap == NULL) {
        walk->depth = below;
        return good;
    }
    struct refs refs = {0};
    good = (refs_add(&refs, cap) || no_memory(walk)) && refs_ask(walk, &refs);
    if (good && all_known(&refs, cap)) {
        walk->depth = below;
        refs_free(&refs);
        return walk->take(walk->ctx, cap);
    }
    capstore_cap_free(cap);
    bool lost = false;
    good = good && descend(walk, &refs, &lost);
    refs_free(&refs);
    if (good && lost) {
        walk->depth = below; /* what was put above it is not needed on its account */
        return leave_out(walk, &top, "a cap that it needs cannot be had");
    }
    return good;
}

/* ---- whole programs ---- */

/* A program that is asked for at once. */
struct whole {
    struct cli_walk *walk;
    struct cli_seen here; /* what is known or was taken */
    struct capstore_hash *listed;
    size_t count;
    size_t capacity;
};

static enum capstore_error on_listed(void *ctx, const struct capstore_closure_entry *entry,
                                     struct capstore_cap *cap)
{
    struct whole *whole = ctx;
    capstore_cap_free(cap);
    if (whole->count == whole->capacity) {
        size_t capacity = whole->capacity == 0 ? 256 : 2 * whole->capacity;
        struct capstore_hash *listed = realloc(whole->listed, capacity * sizeof(*listed));
        if (listed == NULL) {
            return CAPSTORE_E_NO_MEMORY;
        }
        whole->listed = listed;
        whole->capacity = capacity;
    }
    whole->listed[whole->count++] = entry->hash;
    return CAPSTORE_OK;
}

/* Whether all that a cap refers to is here. */
static bool refs_are_here(const struct whole *whole, const struct capstore_cap *cap)
{
    struct capstore_counts counts = capstore_image_counts(cap);
    bool here = true;
    for (int table = 0; table < 2; table++) {
        for (size_t i = 0; here && i < counts.slots[table]; i++) {
            struct capstore_slot slot = capstore_image_slot(cap, (enum capstore_table)table, i);
            here = cli_seen_has(&whole->here, &slot.cap_hash);
        }
    }
    return here;
}

static enum capstore_error on_came(void *ctx, const struct capstore_closure_entry *entry,
                                   struct capstore_cap *cap)
{
    struct whole *whole = ctx;
    struct cli_walk *walk = whole->walk;
    if (cap == NULL || cli_seen_has(&whole->here, &entry->hash) || !refs_are_here(whole, cap)) {
        capstore_cap_free(cap);
        return CAPSTORE_OK;
    }
    if (!cli_seen_add(&whole->here, &entry->hash)) {
        capstore_cap_free(cap);
        return CAPSTORE_E_NO_MEMORY;
    }
    return walk->take(walk->ctx, cap) ? CAPSTORE_OK : CAPSTORE_E_CANCELLED;
}

/* Keeps of what is listed what is known already: it need not come. False after saying what is
 * wrong. */
static bool keep_known(struct whole *whole)
{
    struct cli_walk *walk = whole->walk;
    bool *known = calloc(whole->count + 1, sizeof(*known));
    if (known == NULL) {
        return no_memory(walk);
    }
    bool good = whole->count == 0 || walk->known(walk->ctx, whole->listed, whole->count, known);
    size_t kept = 0;
    for (size_t i = 0; good && i < whole->count; i++) {
        if (known[i]) {
            whole->listed[kept++] = whole->listed[i];
            good = cli_seen_add(&whole->here, &whole->listed[i]) || no_memory(walk);
        }
    }
    whole->count = kept;
    free(known);
    return good;
}

static enum capstore_error ask(struct whole *whole, const struct capstore_closure_query *query,
                               capstore_came_cb *came)
{
    struct capstore *store = whole->walk->large;
    enum capstore_error error = capstore_closure_many(store, query, came, whole);
    if (error != CAPSTORE_OK && was_idle(whole->walk, store)) {
        error = capstore_closure_many(store, query, came, whole);
    }
    return error;
}

/*
 * Takes a cap and what it needs as they come in one answer: as far as that goes, for what is not
 * there or damaged is the walk's. False after saying what is wrong.
 */
static bool take_whole(struct cli_walk *walk, const struct capstore_hash *root)
{
    struct whole whole = {.walk = walk};
    const unsigned absent = CAPSTORE_CLOSURE_ABSENT;
    const struct capstore_closure_query list = {
        .roots = root, .root_count = 1, .flags = CAPSTORE_CLOSURE_LIST | absent};
    bool good = true;
    if (ask(&whole, &list, on_listed) == CAPSTORE_OK) {
        good = keep_known(&whole);
        const struct capstore_closure_query bodies = {
            .roots = root,
            .root_count = 1,
            .have = whole.listed,
            .have_count = whole.count,
            .flags = CAPSTORE_CLOSURE_BODIES | absent,
        };
        if (good) {
            (void)ask(&whole, &bodies, on_came);
        }
    }
    good = good && !walk->cli->failed;
    cli_seen_free(&whole.here);
    free(whole.listed);
    return good;
}

/* ---- the walk ---- */

bool cli_walk_visit(struct cli_walk *walk, const struct capstore_hash *hashes, size_t count,
                    bool optional)
{
    struct batch *batch = malloc(sizeof(*batch));
    bool known[CLI_WALK_BATCH] = {false};
    struct capstore_hash wanted[CLI_WALK_BATCH];
    size_t wanted_count = 0;
    if (batch == NULL) {
        return no_memory(walk);
    }
    bool good = count == 0 || walk->known(walk->ctx, hashes, count, known);
    if (good && count == 1 && !known[0] && !optional) { /* somebody wants this program */
        good = take_whole(walk, hashes) && walk->known(walk->ctx, hashes, count, known);
    }
    for (size_t i = 0; good && i < count; i++) {
        if (!known[i] && !cli_seen_has(&walk->left, &hashes[i])) {
            wanted[wanted_count++] = hashes[i];
        }
    }
    if (good && wanted_count > 0) {
        *batch = (struct batch){.walk = walk, .optional = optional};
        good = take_batch(batch, wanted, wanted_count);
        for (size_t i = 0; good && i < batch->later_count; i++) {
            good = push(walk, &batch->later[i]);
            while (good && walk->depth > 0) {
                good = step(walk);
            }
        }
    }
    free(batch);
    return good;
}

bool cli_walk_open(struct cli_walk *walk, const char *address)
{
    const struct cli_connect_options small = {.address = address, .max_body = SMALL_BODY};
    const struct cli_connect_options any = {.address = address};
    enum cli_exit exit; /* the tool remembers it */
    walk->address = address;
    walk->many = cli_connect_to(walk->cli, &small, &exit);
    walk->large = walk->many == NULL ? NULL : cli_connect_to(walk->cli, &any, &exit);
    return walk->large != NULL;
}

void cli_walk_close(struct cli_walk *walk)
{
    capstore_free(walk->many);
    capstore_free(walk->large);
    cli_seen_free(&walk->left);
    free(walk->stack);
    walk->many = walk->large = NULL;
    walk->stack = NULL;
}
