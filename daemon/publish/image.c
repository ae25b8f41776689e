/*
 * Images.
 *
 * Happy path of image_make: the root of the arena, the Data cap of every slot, the Image cap, the
 * admission: what must be there, and the caps that come along, the Image last.
 *
 * Failure modes: no memory, or the source fails (the upload was cancelled, the spool cannot be
 * read). What was made so far is freed with the caps.
 */
#include "daemon/publish/image.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/param.h>

#include "lib/cap/hash_set.h"
#include "lib/cap/must.h"

#define ARENA_PIECE    (256u << 10) /* read at a time for the arena's root */
#define ROOTS_TOGETHER 4096u        /* of blocks, hashed before `work` hears of them: 1 ms or so */

/*
 * Heap that one endpoint of an Image cap costs, beside the bytes of the head: of 10 MiB of short
 * endpoints, 105 MB were measured in all.
 */
#define ENDPOINT_MEMORY 256u

/* --- Judging ---------------------------------------------------------------------------------- */

enum cap_error image_judge(struct cap_bytes head, uint64_t total_len,
                           const struct image_limits *limits, struct cap_wire_image *ret_wire,
                           struct judgement *ret_judgement)
{
    struct cap_refusal refusal = {.message = ""};
    enum cap_error error = cap_deblob(head, total_len, ret_wire, &refusal);
    if (error != CAP_OK) {
        return judgement_say(ret_judgement, error, "%s", refusal.message);
    }
    size_t slots = cap_wire_slot_count(ret_wire);
    if (slots > limits->max_slots) {
        return judgement_say(ret_judgement, CAP_E_STRUCTURE_TOO_LARGE,
                             "the Image has %zu slots; max-slots is %" PRIu64, slots,
                             limits->max_slots);
    }
    uint64_t data = cap_wire_image_data_len(ret_wire);
    if (data > limits->max_data) {
        return judgement_say(ret_judgement, CAP_E_DATA_TOO_LARGE,
                             "the data windows name %" PRIu64 " bytes; max-data is %" PRIu64, data,
                             limits->max_data);
    }
    uint64_t memory = ret_wire->head.len + image_make_memory(ret_wire);
    if (memory > limits->max_memory) {
        return judgement_say(ret_judgement, CAP_E_MEMORY_LIMIT,
                             "hashing this upload takes %" PRIu64 " bytes of memory; %s is "
                             "%" PRIu64,
                             memory, limits->memory_option, limits->max_memory);
    }
    return judgement_set(ret_judgement, CAP_OK);
}

bool image_resolves_early(const struct cap_wire_image *wire, bool resolve_only, uint64_t arena_min)
{
    size_t count = cap_wire_slot_count(wire);
    size_t images = 0;
    if (wire->arena_len <= arena_min) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(wire, i, &slot);
        images += slot.kind == CAP_KIND_IMAGE ? 1 : 0;
    }
    return images > 0 && (images == count || !resolve_only);
}

/* --- What must be there ----------------------------------------------------------------------- */

/* Which slots name caps that the upload does not bring. */
struct needs {
    const struct cap_wire_image *wire;
    const struct cap_hash *hashes; /* per slot; NULL: Images only, by the head */
    const bool *own;               /* per slot: comes with the upload */
};

/* Fills admission->needed, and whose slots these are. */
static enum cap_error list_needs(const struct needs *needs, struct cap_admission *admission,
                                 uint32_t **ret_slots)
{
    size_t count = cap_wire_slot_count(needs->wire);
    admission->needed = calloc(count + 1, sizeof(*admission->needed));
    *ret_slots = calloc(count + 1, sizeof(**ret_slots));
    if (admission->needed == NULL || *ret_slots == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(needs->wire, i, &slot);
        if (needs->hashes == NULL ? slot.kind != CAP_KIND_IMAGE : needs->own[i]) {
            continue;
        }
        (*ret_slots)[admission->needed_count] = (uint32_t)i;
        admission->needed[admission->needed_count++] = (struct cap_needed){
            .hash = slot.kind == CAP_KIND_IMAGE ? slot.content_hash : needs->hashes[i],
            .kind = slot.kind,
        };
    }
    return CAP_OK;
}

uint64_t image_resolve_memory(size_t slots, size_t head_len)
{
    uint64_t per_slot =
        sizeof(struct cap_needed) + sizeof(uint32_t) + CAPS_MISSING_MEMORY + HELD_MEMORY;
    return slots == 0 ? 0 : slots * per_slot + head_len;
}

enum cap_error image_resolve(const struct cap_wire_image *wire, struct cap_store *store,
                             struct held *held, struct judgement *ret_judgement)
{
    const struct needs needs = {.wire = wire};
    struct cap_admission look = {0};
    uint32_t *slots = NULL;
    judgement_set(ret_judgement, CAP_OK);
    enum cap_error error = list_needs(&needs, &look, &slots);
    if (error == CAP_OK) {
        error = held_add(held, store, &look);
    }
    if (error == CAP_OK) {
        error = cap_store_dry_run(store, &look);
    }
    if (error == CAP_OK && look.error == CAP_E_UNRESOLVED_SLOT) {
        (void)image_list_missing(wire, &look, slots, ret_judgement);
    }
    free(look.needed);
    free(slots);
    return error;
}

static void name_slot(const void *ctx, uint32_t index, struct proto_unresolved *ret_slot)
{
    struct cap_wire_slot slot;
    cap_wire_slot_at(ctx, index, &slot);
    ret_slot->table = (uint8_t)slot.table;
    ret_slot->slot = slot.key;
}

enum cap_error image_list_missing(const struct cap_wire_image *wire,
                                  const struct cap_admission *admission,
                                  const uint32_t *needed_slots, struct judgement *ret_judgement)
{
    return caps_list_missing(admission, needed_slots, name_slot, wire, ret_judgement);
}

/* --- The caps --------------------------------------------------------------------------------- */

/* At most so many pages are named by the Image's slots. */
static uint64_t named_pages(const struct cap_wire_image *wire)
{
    uint64_t pages = wire->head.len / CAP_PAGE_REF_SIZE;
    uint64_t named = cap_wire_image_data_len(wire);
    return pages < named ? pages : named;
}

uint64_t image_make_memory(const struct cap_wire_image *wire)
{
    size_t slots = cap_wire_slot_count(wire);
    /* The hash set has up to 16 bytes per slot; a Data cap costs up to two pages beside its own. */
    uint64_t per_slot = sizeof(struct cap_hash) + sizeof(bool) + 4 * sizeof(uint32_t) +
                        sizeof(struct data_cap) + sizeof(struct cap_put) + sizeof(struct cap_ref) +
                        2 * CAPS_PAGE_MEMORY;
    uint64_t pages = named_pages(wire);
    return image_resolve_memory(slots, wire->head.len) + wire->head.len +
           wire->endpoints.count * ENDPOINT_MEMORY + slots * per_slot + pages * CAPS_PAGE_MEMORY +
           cap_window_memo_size(pages) + wire->code_len / CAP_PAGE_SIZE * sizeof(struct cap_hash) +
           cap_block_count(wire->arena_len) * sizeof(struct cap_hash) + ARENA_PIECE;
}

uint64_t image_make_cost(const struct cap_wire_image *wire, bool roots_known)
{
    bool code_shared = wire->code_off % CAP_BLOCK_SIZE == 0;
    uint64_t arena =
        roots_known ? cap_block_count(wire->arena_len) * CAP_WORK_HASH : wire->arena_len;
    return wire->head.len + arena + (code_shared ? 0 : wire->code_len) +
           cap_wire_image_data_len(wire) + wire->head.len * IMAGE_STRUCTURE_COST;
}

static void widen(uint64_t at, uint64_t len, uint64_t *from, uint64_t *until)
{
    if (len > 0) {
        *from = MIN(*from, at);
        *until = MAX(*until, at + len);
    }
}

void image_reads(const struct cap_wire_image *wire, uint64_t *ret_from, uint64_t *ret_until)
{
    bool shared = wire->code_off % CAP_BLOCK_SIZE == 0;
    uint64_t known = shared ? wire->code_len - wire->code_len % CAP_BLOCK_SIZE : 0;
    uint64_t from = UINT64_MAX;
    uint64_t until = 0;
    widen(wire->code_off + known, wire->code_len - known, &from, &until);
    for (size_t i = 0; i < cap_wire_slot_count(wire); i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(wire, i, &slot);
        for (size_t k = 0; slot.kind == CAP_KIND_DATA && k < slot.desc.page_count; k++) {
            struct cap_page_ref page = cap_page_ref_at(slot.desc.pages, k);
            widen(page.arena_off, page.len, &from, &until);
        }
    }
    *ret_from = MIN(from, until);
    *ret_until = until;
}

/* Root of the arena, given those of all its blocks. */
static enum cap_error root_above(const struct cap_source *arena, uint64_t len,
                                 struct cap_hash *ret_root)
{
    struct cap_tree tree;
    size_t count = cap_block_count(len);
    cap_tree_init(&tree, CAP_BLOCK_DEPTH);
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < ROOTS_TOGETHER ? count - at : ROOTS_TOGETHER;
        cap_tree_add_many(&tree, at, &arena->block_roots[at], n);
        if (!cap_work_done(arena->work, n * CAP_WORK_HASH)) {
            return CAP_E_CANCELLED;
        }
    }
    cap_tree_root(&tree, CAP_BYTE_LIST_DEPTH - CAP_BLOCK_DEPTH, ret_root);
    cap_mix_in(ret_root, len, ret_root);
    return CAP_OK;
}

/* Root of the arena, read in pieces, and of each of its blocks. */
static enum cap_error arena_root(const struct cap_source *arena, uint64_t len,
                                 struct cap_hash *ret_block_roots, struct cap_hash *ret_root)
{
    uint8_t *scratch = malloc(ARENA_PIECE);
    struct cap_byte_tree *tree = malloc(sizeof(*tree));
    enum cap_error error = scratch == NULL || tree == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    if (error == CAP_OK) {
        cap_byte_tree_init(tree);
        tree->ret_block_roots = ret_block_roots;
    }
    for (uint64_t at = 0; error == CAP_OK && at < len;) {
        size_t n = len - at < ARENA_PIECE ? (size_t)(len - at) : ARENA_PIECE;
        const uint8_t *data = NULL;
        error = cap_source_get(arena, at, n, scratch, &data);
        if (error == CAP_OK) {
            cap_byte_tree_update(tree, data, n);
            at += n;
        }
    }
    if (error == CAP_OK) {
        cap_byte_tree_list_root(tree, ret_root);
    }
    free(tree);
    free(scratch);
    return error;
}

/* What is there only while the caps are made. */
struct making {
    const struct cap_wire_image *wire;
    bool resolve_only;
    const struct caps_source *source;
    struct cap_source arena;      /* source->hashed, with the roots of its blocks */
    struct cap_hash *block_roots; /* if they are made here; what is shared is hashed once */
    struct caps *caps;
    struct cap_hash *hashes;      /* one per slot */
    bool *own;                    /* one per slot: resolved by a cap of this upload */
    struct cap_hash_set distinct; /* of `hashes`, the first slot of each Data cap */
    struct cap_window_memo *memo; /* of the arena */
};

/* The arena's root, and its blocks' for whatever is made of them. */
static enum cap_error hash_arena(struct making *making, struct cap_hash *ret_root)
{
    uint64_t len = making->wire->arena_len;
    making->arena = making->source->hashed;
    if (making->arena.block_roots != NULL) {
        must(making->arena.block_count == cap_block_count(len));
        making->arena.block_count = (size_t)(len / CAP_BLOCK_SIZE); /* those that code may share */
        return root_above(&making->arena, len, ret_root);
    }
    making->block_roots = calloc(cap_block_count(len) + 1, sizeof(*making->block_roots));
    if (making->block_roots == NULL) {
        return CAP_E_NO_MEMORY;
    }
    enum cap_error error = arena_root(&making->arena, len, making->block_roots, ret_root);
    making->arena.block_roots = making->block_roots;
    making->arena.block_count = (size_t)(len / CAP_BLOCK_SIZE);
    return error;
}

/* Makes a slot's Data cap, and keeps it if it comes along and is not there yet. */
static enum cap_error make_data_slot(struct making *making, const struct cap_wire_slot *slot,
                                     size_t index)
{
    struct caps *caps = making->caps;
    struct cap_data data = {0};
    enum cap_error error =
        cap_data_from_desc(&slot->desc, &making->arena, UINT64_MAX, making->memo, &data);
    if (error != CAP_OK) {
        return error;
    }
    making->hashes[index] = data.hash;
    size_t first = cap_hash_set_find(&making->distinct, making->hashes, &data.hash);
    if (first != CAP_HASH_ABSENT) {
        making->own[index] = making->own[first];
        cap_data_free(&data);
        return CAP_OK;
    }
    caps->data_distinct++;
    error = cap_hash_set_insert(&making->distinct, making->hashes, index);
    if (error != CAP_OK || making->resolve_only) {
        cap_data_free(&data);
        return error;
    }
    making->own[index] = true;
    caps->data[caps->data_count++] = (struct data_cap){data, making->source->stored};
    return CAP_OK;
}

static enum cap_error make_slots(struct making *making)
{
    struct caps *caps = making->caps;
    size_t count = cap_wire_slot_count(making->wire);
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(making->wire, i, &slot);
        caps->refs[i].tables = slot.table == CAP_TABLE_PINNED ? CAP_REF_PINNED : CAP_REF_INITIAL;
        if (slot.kind == CAP_KIND_IMAGE) {
            making->hashes[i] = slot.content_hash;
        } else {
            enum cap_error error = make_data_slot(making, &slot, i);
            if (error != CAP_OK) {
                return error;
            }
        }
        caps->refs[i].hash = making->hashes[i];
    }
    return CAP_OK;
}

/* Room for what the slots become: in proportion to slots that are there. */
static enum cap_error make_tables(struct making *making)
{
    struct caps *caps = making->caps;
    size_t count = cap_wire_slot_count(making->wire);
    making->hashes = calloc(count + 1, sizeof(*making->hashes));
    making->own = calloc(count + 1, sizeof(*making->own));
    caps->data = calloc(count + 1, sizeof(*caps->data));
    caps->refs = calloc(count + 1, sizeof(*caps->refs));
    if (making->hashes == NULL || making->own == NULL || caps->data == NULL || caps->refs == NULL) {
        return CAP_E_NO_MEMORY;
    }
    return cap_window_memo_new(named_pages(making->wire), &making->memo);
}

static enum cap_error read_image_body(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct caps *caps = ctx;
    return cap_body_read(&caps->image.body, &caps->image_bytes, offset, dst, len);
}

static void put_image(struct caps *caps, const struct cap_wire_image *wire,
                      const struct caps_stamp *stamp)
{
    caps->admission.puts[caps->data_count] = (struct cap_put){
        .hash = caps->image.hash,
        .info =
            {
                .kind = CAP_KIND_IMAGE,
                .body_len = caps->image.body.len,
                .size = wire->code_len,
                .publisher = stamp->publisher,
                .published_us = stamp->published_us,
                .has_content_hash = true,
                .content_hash = caps->content_hash,
                .node_counts = caps->image.nodes.counts,
            },
        .body = {.read = read_image_body, .ctx = caps},
        .page_roots = caps->image.code_roots,
        .nodes = caps->image.nodes.all,
        .refs = caps->refs,
        .ref_count = cap_wire_slot_count(wire),
    };
}

/* The admission: what must be there, the Data caps that come along, then the Image. */
static enum cap_error make_admission(const struct making *making, const struct caps_stamp *stamp)
{
    struct caps *caps = making->caps;
    const struct needs needs = {making->wire, making->hashes, making->own};
    enum cap_error error = list_needs(&needs, &caps->admission, &caps->needed_slots);
    if (error != CAP_OK) {
        return error;
    }
    caps->admission.puts = calloc(caps->data_count + 1, sizeof(*caps->admission.puts));
    if (caps->admission.puts == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < caps->data_count; i++) {
        caps_put_data(caps, i, stamp);
    }
    put_image(caps, making->wire, stamp);
    caps->admission.put_count = caps->data_count + 1;
    return CAP_OK;
}

enum cap_error image_make(const struct cap_wire_image *wire, bool resolve_only,
                          const struct caps_source *source, const struct caps_stamp *stamp,
                          struct caps *ret_caps)
{
    struct making making = {
        .wire = wire, .resolve_only = resolve_only, .source = source, .caps = ret_caps};
    struct cap_hash root;
    *ret_caps = (struct caps){.image_bytes = source->stored};
    enum cap_error error = hash_arena(&making, &root);
    if (error == CAP_OK) {
        error =
            cap_wire_image_content_hash(wire, &root, making.arena.work, &ret_caps->content_hash);
    }
    if (error == CAP_OK) {
        error = make_tables(&making);
    }
    if (error == CAP_OK) {
        error = make_slots(&making);
    }
    if (error == CAP_OK) {
        error = cap_image_from_wire(wire, making.hashes, &making.arena, &ret_caps->image);
    }
    if (error == CAP_OK) {
        error = make_admission(&making, stamp);
    }
    free(making.hashes);
    free(making.own);
    cap_hash_set_free(&making.distinct);
    cap_window_memo_free(making.memo);
    free(making.block_roots);
    return error;
}
