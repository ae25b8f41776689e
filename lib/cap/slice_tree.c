/*
 * A block is filled from what is kept under it: kept nodes for its slots, and the page roots of
 * those slots that have too few pages for a node to be kept. Of a level that is not kept at all
 * (above all pages) there is one slot that is not empty, and it is known from below.
 */
#include "lib/cap/slice_tree.h"

#include <string.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/merkle.h"
#include "lib/cap/must.h"
#include "lib/cap/sha256.h"

#define PAGE_INDEXES (UINT64_C(1) << 32) /* of a Data cap */

enum cap_error cap_slice_tree_init(struct cap_slice_tree *tree,
                                   const struct cap_slice_subject *subject)
{
    bool sound;
    memset(tree, 0, sizeof(*tree));
    tree->subject = *subject;
    tree->pages = cap_slice_page_count(subject->size);
    tree->depth = cap_slice_depth(subject->kind, tree->pages);
    if (subject->kind == CAP_KIND_DATA) {
        tree->roots = subject->page_count;
        sound = subject->size > 0 && subject->size % CAP_PAGE_SIZE == 0 &&
                tree->roots <= tree->pages && tree->roots <= PAGE_INDEXES &&
                subject->body_len >= CAP_DATA_BODY_FIXED + tree->roots * CAP_PAGE_REF_SIZE;
    } else {
        tree->roots = tree->pages;
        sound = subject->kind == CAP_KIND_IMAGE && subject->size <= CAP_MAX_CODE_SIZE &&
                subject->body_len >= CAP_IMAGE_CODE_AT + subject->size;
    }
    for (size_t i = 0; i < CAP_NODE_LEVELS; i++) {
        sound = sound && subject->node_counts.of[i] <= tree->roots / CAP_NODE_PAGES;
    }
    return sound ? CAP_OK : CAP_E_CORRUPT;
}

/* The indexes of the pages whose roots are [first, first + count). */
static enum cap_error page_indexes(const struct cap_slice_tree *tree,
                                   const struct cap_slice_source *source, uint64_t first,
                                   size_t count, uint64_t *ret_indexes)
{
    uint8_t refs[CAP_TREE_LOOSE * CAP_PAGE_REF_SIZE];
    if (tree->subject.kind == CAP_KIND_IMAGE) {
        for (size_t i = 0; i < count; i++) {
            ret_indexes[i] = first + i;
        }
        return CAP_OK;
    }
    enum cap_error error =
        source->body(source->ctx, CAP_DATA_BODY_FIXED + first * CAP_PAGE_REF_SIZE,
                     count * CAP_PAGE_REF_SIZE, refs);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        ret_indexes[i] = cap_load32(refs + i * CAP_PAGE_REF_SIZE);
        if (ret_indexes[i] >= tree->pages || (i > 0 && ret_indexes[i] <= ret_indexes[i - 1])) {
            error = CAP_E_CORRUPT;
        }
    }
    return error;
}

/* --- Filling a block -------------------------------------------------------------------------- */

/* A block while it is filled from left to right. */
struct filling {
    struct cap_tree_block *block;
    unsigned level;  /* of the block's node */
    unsigned lowest; /* the first slot that is not empty */
    unsigned next;   /* the slot after the last one that is not empty */
    uint64_t end;    /* the first page root after those that are placed */
};

/* Gives a slot `count` page roots from filling->end on; where its hash goes, or NULL. */
static struct cap_hash *place(struct filling *filling, unsigned slot, uint64_t count)
{
    if (slot < filling->next) {
        return NULL;
    }
    if (filling->next == 0) {
        filling->lowest = slot;
    }
    while (filling->next <= slot) {
        filling->block->first[filling->next++] = filling->end;
    }
    filling->end += count;
    return &filling->block->hash[CAP_TREE_SLOTS + slot];
}

static void begin_filling(const struct cap_slice_tree *tree, struct filling *filling)
{
    const struct cap_hash *empty =
        cap_slice_empty(tree->subject.kind, filling->level - CAP_NODE_STEP);
    filling->block->there = false;
    for (unsigned i = 0; i < CAP_TREE_SLOTS; i++) {
        filling->block->hash[CAP_TREE_SLOTS + i] = *empty;
    }
}

/* Hashes what is above the slots; only those that are not empty cost anything. */
static void end_filling(struct cap_slice_tree *tree, struct filling *filling)
{
    struct cap_tree_block *block = filling->block;
    unsigned from = filling->lowest;
    unsigned to = filling->next; /* past the last one */
    while (filling->next <= CAP_TREE_SLOTS) {
        block->first[filling->next++] = filling->end;
    }
    unsigned level = filling->level - CAP_NODE_STEP;
    for (unsigned width = CAP_TREE_SLOTS / 2; width > 0; width /= 2) {
        const struct cap_hash *empty = cap_slice_empty(tree->subject.kind, ++level);
        from /= 2;
        to = (to + 1) / 2;
        for (unsigned i = 0; i < width; i++) {
            block->hash[width + i] = *empty;
        }
        cap_sha256_pairs(block->hash[width + from].bytes, block->hash[2 * (width + from)].bytes,
                         to - from);
        tree->hashed += to - from;
    }
    block->there = true;
}

/* The subtree of a slot over `count` pages; `roots` are theirs. */
static void hash_slot(struct cap_slice_tree *tree, unsigned level, const uint64_t *indexes,
                      const struct cap_hash *roots, size_t count, struct cap_hash *ret_hash)
{
    struct cap_tree pages;
    uint64_t mask = (UINT64_C(1) << level) - 1;
    cap_tree_init(&pages, cap_slice_height(tree->subject.kind));
    for (size_t i = 0; i < count;) {
        size_t run = 1;
        while (i + run < count && indexes[i + run] == indexes[i] + run) {
            run++;
        }
        cap_tree_add_many(&pages, indexes[i] & mask, roots + i, run);
        /* A gap takes up to two pairs per level, and what is to its left one. */
        tree->hashed += run + UINT64_C(3) * level;
        i += run;
    }
    cap_tree_root(&pages, level, ret_hash);
}

/* Places page roots from filling->end up to `end` that have no kept node above them. */
static enum cap_error fill_loose(struct cap_slice_tree *tree, const struct cap_slice_source *source,
                                 struct filling *filling, uint64_t end)
{
    uint64_t indexes[CAP_TREE_LOOSE];
    unsigned level = filling->level - CAP_NODE_STEP;
    uint64_t first = filling->end;
    if (end < first || end - first > CAP_TREE_LOOSE) {
        return CAP_E_CORRUPT;
    }
    size_t count = (size_t)(end - first);
    if (count == 0) {
        return CAP_OK;
    }
    enum cap_error error = page_indexes(tree, source, first, count, indexes);
    if (error == CAP_OK) {
        error = source->roots(source->ctx, first, count, tree->loose);
    }
    for (size_t i = 0; error == CAP_OK && i < count;) {
        size_t run = 1;
        while (i + run < count && indexes[i + run] >> level == indexes[i] >> level) {
            run++;
        }
        struct cap_hash *slot =
            indexes[i] >> filling->level == filling->block->index
                ? place(filling, (unsigned)(indexes[i] >> level) % CAP_TREE_SLOTS, run)
                : NULL;
        if (slot == NULL) {
            return CAP_E_CORRUPT;
        }
        if (level == 0) {
            *slot = tree->loose[i];
        } else {
            hash_slot(tree, level, indexes + i, tree->loose + i, run, slot);
        }
        i += run;
    }
    return error;
}

/* Of the kept nodes of one level, which begin at `begin`, the first one at or past `index`. */
static enum cap_error find_node(const struct cap_slice_source *source, uint64_t begin,
                                uint64_t count, uint64_t index, uint64_t *ret_at)
{
    struct cap_node node;
    enum cap_error error = CAP_OK;
    /* Indexes ascend from 0 on, so it is at `index` or before: there if all before it are kept. */
    uint64_t low = 0;
    uint64_t high = count < index ? count : index;
    if (index < count) {
        error = source->nodes(source->ctx, begin + index, 1, &node);
        if (error == CAP_OK && cap_load32(node.index) == index) {
            low = index;
        }
    }
    while (error == CAP_OK && low < high) {
        uint64_t middle = low + (high - low) / 2;
        error = source->nodes(source->ctx, begin + middle, 1, &node);
        if (error == CAP_OK && cap_load32(node.index) < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_at = low;
    return error;
}

/* Reads the kept nodes that are slots of a block. */
static enum cap_error read_nodes(const struct cap_slice_tree *tree,
                                 const struct cap_slice_source *source,
                                 const struct filling *filling,
                                 struct cap_node ret_nodes[CAP_TREE_SLOTS], size_t *ret_count)
{
    const struct cap_node_counts *counts = &tree->subject.node_counts;
    size_t kept = filling->level / CAP_NODE_STEP - 2; /* the slots' level */
    uint64_t index = filling->block->index << CAP_NODE_STEP;
    uint64_t begin = 0;
    uint64_t at;
    *ret_count = 0;
    if (filling->level < 2 * CAP_NODE_STEP || kept >= CAP_NODE_LEVELS || counts->of[kept] == 0) {
        return CAP_OK;
    }
    for (size_t i = 0; i < kept; i++) {
        begin += counts->of[i];
    }
    enum cap_error error = find_node(source, begin, counts->of[kept], index, &at);
    if (error != CAP_OK) {
        return error;
    }
    uint64_t left = counts->of[kept] - at;
    size_t count = left < CAP_TREE_SLOTS ? (size_t)left : CAP_TREE_SLOTS;
    if (count > 0) {
        error = source->nodes(source->ctx, begin + at, count, ret_nodes);
    }
    while (error == CAP_OK && *ret_count < count &&
           cap_load32(ret_nodes[*ret_count].index) - index < CAP_TREE_SLOTS) {
        ++*ret_count;
    }
    return error;
}

/* Fills a block whose page roots are [first, end). */
static enum cap_error fill(struct cap_slice_tree *tree, const struct cap_slice_source *source,
                           unsigned level, uint64_t index, uint64_t first, uint64_t end)
{
    struct cap_node nodes[CAP_TREE_SLOTS];
    size_t count;
    struct filling filling = {
        .block = &tree->blocks[level / CAP_NODE_STEP - 1], .level = level, .end = first};
    filling.block->index = index;
    begin_filling(tree, &filling);
    enum cap_error error = read_nodes(tree, source, &filling, nodes, &count);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        uint64_t from = cap_load32(nodes[i].first);
        uint64_t under = cap_load32(nodes[i].count);
        if (from > end || under > end - from) {
            return CAP_E_CORRUPT;
        }
        error = fill_loose(tree, source, &filling, from);
        if (error != CAP_OK) {
            break;
        }
        struct cap_hash *slot = place(&filling, cap_load32(nodes[i].index) % CAP_TREE_SLOTS, under);
        if (slot == NULL) {
            return CAP_E_CORRUPT;
        }
        *slot = nodes[i].hash;
    }
    if (error == CAP_OK) {
        error = fill_loose(tree, source, &filling, end);
    }
    if (error == CAP_OK && filling.next == 0) {
        error = CAP_E_CORRUPT; /* nothing under a node that is not empty */
    }
    if (error == CAP_OK) {
        end_filling(tree, &filling);
    }
    return error;
}

/* --- From the root down ----------------------------------------------------------------------- */

/* The level of the lowest block that has all pages from `first` to `last`. */
static unsigned level_above(uint64_t first, uint64_t last)
{
    unsigned level = CAP_NODE_STEP;
    while (first >> level != last >> level) {
        level += CAP_NODE_STEP;
    }
    return level;
}

/* The level of the block that has the tree's root. */
static unsigned top_level(const struct cap_slice_tree *tree)
{
    unsigned level = CAP_NODE_STEP;
    while (level < tree->depth) {
        level += CAP_NODE_STEP;
    }
    return level;
}

enum cap_error cap_slice_tree_begin(struct cap_slice_tree *tree,
                                    const struct cap_slice_source *source)
{
    uint64_t first;
    uint64_t last;
    if (tree->roots == 0) {
        tree->root = *cap_slice_empty(tree->subject.kind, tree->depth);
        return CAP_OK;
    }
    enum cap_error error = page_indexes(tree, source, 0, 1, &first);
    if (error == CAP_OK) {
        error = page_indexes(tree, source, tree->roots - 1, 1, &last);
    }
    if (error == CAP_OK && last < first) {
        error = CAP_E_CORRUPT;
    }
    if (error != CAP_OK) {
        return error;
    }
    unsigned top = top_level(tree);
    unsigned level = level_above(first, last);
    error = fill(tree, source, level, first >> level, 0, tree->roots);
    if (error != CAP_OK) {
        return error;
    }
    for (; level < top; level += CAP_NODE_STEP) {
        const struct cap_tree_block *below = &tree->blocks[level / CAP_NODE_STEP - 1];
        struct filling filling = {.block = &tree->blocks[level / CAP_NODE_STEP],
                                  .level = level + CAP_NODE_STEP};
        filling.block->index = below->index >> CAP_NODE_STEP;
        begin_filling(tree, &filling);
        *place(&filling, below->index % CAP_TREE_SLOTS, tree->roots) = below->hash[1];
        end_filling(tree, &filling);
    }
    tree->root = tree->blocks[top / CAP_NODE_STEP - 1].hash[UINT64_C(1) << (top - tree->depth)];
    return CAP_OK;
}

const struct cap_hash *cap_slice_tree_node(const struct cap_slice_tree *tree, unsigned level,
                                           uint64_t index)
{
    if (level == tree->depth) {
        return &tree->root;
    }
    const struct cap_tree_block *block = &tree->blocks[level / CAP_NODE_STEP];
    uint64_t width = UINT64_C(1) << (CAP_NODE_STEP - level % CAP_NODE_STEP);
    return &block->hash[width + index % width];
}

enum cap_error cap_slice_tree_children(struct cap_slice_tree *tree,
                                       const struct cap_slice_source *source, unsigned level,
                                       uint64_t index, const struct cap_hash **ret_pair)
{
    if (level % CAP_NODE_STEP != 0) {
        *ret_pair = cap_slice_tree_node(tree, level - 1, 2 * index);
        return CAP_OK;
    }
    const struct cap_tree_block *block = &tree->blocks[level / CAP_NODE_STEP - 1];
    if (!block->there || block->index != index) {
        /* Blocks over all pages are there from the beginning, so this one has a parent. */
        const struct cap_tree_block *parent = &tree->blocks[level / CAP_NODE_STEP];
        unsigned slot = index % CAP_TREE_SLOTS;
        must(level < tree->depth && parent->there);
        enum cap_error error =
            fill(tree, source, level, index, parent->first[slot], parent->first[slot + 1]);
        if (error != CAP_OK) {
            return error;
        }
        if (!cap_hash_equal(&block->hash[1], &parent->hash[CAP_TREE_SLOTS + slot])) {
            tree->blocks[level / CAP_NODE_STEP - 1].there = false;
            return CAP_E_CORRUPT;
        }
    }
    *ret_pair = &block->hash[2];
    return CAP_OK;
}

void cap_slice_tree_pages(const struct cap_slice_tree *tree, uint64_t first, uint64_t end,
                          uint64_t *ret_first, bool *ret_has)
{
    const uint64_t *roots = tree->blocks[0].first;
    *ret_first = roots[first % CAP_TREE_SLOTS];
    for (uint64_t page = first; page < end; page++) {
        unsigned slot = page % CAP_TREE_SLOTS;
        *ret_has++ = roots[slot + 1] > roots[slot];
    }
}
