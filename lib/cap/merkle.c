/*
 * Merkle trees that grow from the left.
 *
 * A cap_tree keeps, like a binary counter, one full subtree per set bit of `next`; adding a node
 * carries. A gap is filled with the largest aligned zero subtrees that fit, at most two per level,
 * so that it costs O(depth) and not O(gap). Blocks, and lists that are small, are reduced many at a
 * time, each level one run of pairs over all of them.
 */
#include "lib/cap/merkle.h"

#include "lib/cap/constants.h"
#include "lib/cap/must.h"
#include "lib/cap/sha256.h"

#define PAIR_SIZE (2 * CAP_CHUNK_SIZE)
#define RUN       64u /* nodes added to a tree at a time */

_Static_assert(sizeof(struct cap_hash) == CAP_CHUNK_SIZE, "nodes lie side by side as pairs");
_Static_assert(CAP_PAGE_SIZE == CAP_BLOCK_SIZE, "a page is hashed as one block");
_Static_assert(CAP_BLOCK_SIZE == CAP_CHUNK_SIZE << CAP_BLOCK_DEPTH, "a block is a whole subtree");

void cap_hash_pair(const struct cap_hash *left, const struct cap_hash *right, struct cap_hash *ret)
{
    uint8_t pair[PAIR_SIZE];
    memcpy(pair, left->bytes, CAP_CHUNK_SIZE);
    memcpy(pair + CAP_CHUNK_SIZE, right->bytes, CAP_CHUNK_SIZE);
    cap_sha256_pairs(ret->bytes, pair, 1);
}

void cap_mix_in(const struct cap_hash *root, uint64_t value, struct cap_hash *ret)
{
    struct cap_hash chunk = cap_chunk64(value);
    cap_hash_pair(root, &chunk, ret);
}

unsigned cap_depth_of(uint64_t count)
{
    unsigned depth = 0;
    while (depth < CAP_MAX_DEPTH && (count > 0 ? count - 1 : 0) >> depth != 0) {
        depth++;
    }
    return depth;
}

void cap_tree_init(struct cap_tree *tree, unsigned height)
{
    /* Of `pending` only what `next` names is ever read. */
    tree->next = 0;
    tree->height = height;
    tree->ret_nodes = NULL;
}

/* Adds a full subtree of 2^level nodes at tree->next, a multiple of 2^level. */
static void push(struct cap_tree *tree, unsigned level, const struct cap_hash *root)
{
    struct cap_hash node = *root;
    unsigned at = level;
    expect(level < CAP_MAX_DEPTH && (tree->next & ((UINT64_C(1) << level) - 1)) == 0);
    /* `next` is below 2^64 - 1, so a clear bit ends the carry. */
    while ((tree->next >> at & 1) != 0) {
        cap_hash_pair(&tree->pending[at], &node, &node);
        at++;
        if (tree->ret_nodes != NULL) {
            cap_node_list_add(tree->ret_nodes, at, tree->next >> at, &node);
        }
    }
    tree->pending[at] = node;
    tree->next += UINT64_C(1) << level;
}

/* Gives tree->ret_nodes subtrees that a run has completed, as if each node had come by itself. */
static void keep_nodes(const struct cap_tree *tree, unsigned level, uint64_t index,
                       const struct cap_hash *nodes, size_t count)
{
    struct cap_node_list *list = tree->ret_nodes;
    uint64_t roots = list->roots;
    for (size_t i = 0; i < count; i++) {
        uint64_t end = (index + i + 1) << level;
        list->roots = roots - (tree->next - end);
        cap_node_list_add(list, level, index + i, &nodes[i]);
    }
    list->roots = roots;
}

/*
 * Adds a run of nodes at tree->next, level by level. They begin at run[1]: where the run begins
 * with a right child, run[0] is for the left one.
 */
static void push_run(struct cap_tree *tree, struct cap_hash *run, size_t count)
{
    uint64_t next = tree->next;
    tree->next += count;
    if (tree->ret_nodes != NULL) {
        tree->ret_nodes->roots += count;
    }
    for (unsigned level = 0; count > 0; next /= 2) {
        struct cap_hash *first = run + 1;
        if (next % 2 != 0) {
            *--first = tree->pending[level];
            count++;
        }
        if (count % 2 != 0) {
            tree->pending[level] = first[count - 1];
        }
        count /= 2;
        level++;
        cap_sha256_pairs(first->bytes, first->bytes, count);
        if (tree->ret_nodes != NULL && level % CAP_NODE_STEP == 0) {
            keep_nodes(tree, level, next / 2, first, count);
        }
        if (first == run) {
            memmove(run + 1, run, count * sizeof(*run));
        }
    }
}

/* Fills up to `index` with zero subtrees: growing ones until aligned, then shrinking ones. */
static void skip_to(struct cap_tree *tree, uint64_t index)
{
    while (tree->next < index) {
        uint64_t gap = index - tree->next;
        unsigned level = 0;
        while (level + 1 < CAP_MAX_DEPTH && (tree->next >> level & 1) == 0 &&
               gap >> (level + 1) != 0) {
            level++;
        }
        push(tree, level, cap_zero_node(level + tree->height));
    }
}

void cap_tree_add_many(struct cap_tree *tree, uint64_t index, const struct cap_hash *nodes,
                       size_t count)
{
    struct cap_hash run[1 + RUN];
    must(index >= tree->next && count < UINT64_MAX - index);
    skip_to(tree, index);
    while (count > 0) {
        size_t n = count < RUN ? count : RUN;
        memcpy(run + 1, nodes, n * sizeof(*nodes));
        push_run(tree, run, n);
        nodes += n;
        count -= n;
    }
}

void cap_tree_add(struct cap_tree *tree, uint64_t index, const struct cap_hash *node)
{
    must(index >= tree->next && index < UINT64_MAX);
    skip_to(tree, index);
    if (tree->ret_nodes != NULL) {
        tree->ret_nodes->roots++;
    }
    push(tree, 0, node);
}

void cap_tree_root(const struct cap_tree *tree, unsigned depth, struct cap_hash *ret_root)
{
    struct cap_hash node = {{0}}; /* root of the nodes below `level`, once there are any */
    bool any = false;
    must(depth + tree->height <= CAP_MAX_DEPTH);

    for (unsigned level = 0; level < depth; level++) {
        bool left = (tree->next >> level & 1) != 0;
        const struct cap_hash *zero = cap_zero_node(level + tree->height);
        if (left) {
            cap_hash_pair(&tree->pending[level], any ? &node : zero, &node);
        } else if (any) {
            cap_hash_pair(&node, zero, &node);
        }
        any = any || left;
    }
    if (any) {
        *ret_root = node;
    } else if (depth < CAP_MAX_DEPTH && (tree->next >> depth & 1) != 0) {
        *ret_root = tree->pending[depth];
    } else {
        *ret_root = *cap_zero_node(depth + tree->height);
    }
}

void cap_tree_end_nodes(const struct cap_tree *tree)
{
    if (tree->ret_nodes == NULL) {
        return;
    }
    for (unsigned i = 1; i <= CAP_NODE_LEVELS; i++) {
        unsigned level = CAP_NODE_STEP * i;
        if ((tree->next & ((UINT64_C(1) << level) - 1)) != 0) {
            struct cap_hash node;
            cap_tree_root(tree, level, &node);
            cap_node_list_add(tree->ret_nodes, level, tree->next >> level, &node);
        }
    }
}

/*
 * Halves each of `tree_count` trees, which lie side by side in `nodes` with counts[i] nodes of
 * height `level` each; a tree of an odd number gets a zero node first, for which there is room.
 * Returns how many nodes are left in all.
 */
static size_t halve_trees(struct cap_hash *nodes, size_t total, size_t *counts, size_t tree_count,
                          unsigned level)
{
    size_t odd = 0;
    for (size_t i = 0; i < tree_count; i++) {
        odd += counts[i] % 2;
    }
    size_t from = total;
    size_t to = total + odd;
    total = to / 2;
    const struct cap_hash *zero = cap_zero_node(level);
    for (size_t i = tree_count; i-- > 0;) {
        if (counts[i] % 2 != 0) {
            nodes[--to] = *zero;
        }
        for (size_t n = 0; to > from && n < counts[i]; n++) {
            nodes[to - 1 - n] = nodes[from - 1 - n];
        }
        from -= counts[i];
        to -= counts[i];
        counts[i] = (counts[i] + 1) / 2;
    }
    cap_sha256_pairs(nodes->bytes, nodes->bytes, total);
    return total;
}

/* The nodes of height 1 over `bytes`, padded with zeros to a whole pair; returns how many. */
static size_t pair_nodes(struct cap_bytes bytes, struct cap_hash *ret_nodes)
{
    size_t count = bytes.len / PAIR_SIZE;
    size_t rest = bytes.len % PAIR_SIZE;
    cap_sha256_pairs(ret_nodes->bytes, bytes.data, count);
    if (rest > 0) {
        uint8_t pair[PAIR_SIZE] = {0};
        memcpy(pair, bytes.data + count * PAIR_SIZE, rest);
        cap_sha256_pairs(ret_nodes[count].bytes, pair, 1);
        count++;
    }
    return count;
}

static bool is_zero(struct cap_bytes bytes)
{
    return bytes.len == 0 ||
           (bytes.data[0] == 0 && memcmp(bytes.data, bytes.data + 1, bytes.len - 1) == 0);
}

/*
 * Roots of up to CAP_BLOCKS_TOGETHER blocks, each padded with zeros; hashes only what is there.
 * Level by level over all of them: 16 times 32 pairs, ..., 16 times one pair, and 32 KiB of nodes,
 * which stay in the nearest cache.
 */
static void block_roots(const struct cap_bytes *blocks, size_t count, struct cap_hash *ret_roots)
{
    struct cap_hash nodes[CAP_BLOCKS_TOGETHER * CAP_BLOCK_SIZE / PAIR_SIZE];
    size_t counts[CAP_BLOCKS_TOGETHER];
    size_t which[CAP_BLOCKS_TOGETHER];
    size_t trees = 0;
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_zero(blocks[i])) {
            ret_roots[i] = *cap_zero_node(CAP_BLOCK_DEPTH);
            continue;
        }
        counts[trees] = pair_nodes(blocks[i], &nodes[total]);
        total += counts[trees];
        which[trees++] = i;
    }
    for (unsigned level = 1; level < CAP_BLOCK_DEPTH; level++) {
        total = halve_trees(nodes, total, counts, trees, level);
    }
    for (size_t i = 0; i < trees; i++) {
        ret_roots[which[i]] = nodes[i];
    }
}

void cap_block_roots(const uint8_t *data, size_t len, struct cap_hash *ret_roots)
{
    struct cap_bytes blocks[CAP_BLOCKS_TOGETHER];
    while (len > 0) {
        size_t count = 0;
        for (; count < CAP_BLOCKS_TOGETHER && len > 0; count++) {
            size_t n = len < CAP_BLOCK_SIZE ? len : CAP_BLOCK_SIZE;
            blocks[count] = (struct cap_bytes){data, n};
            data += n;
            len -= n;
        }
        block_roots(blocks, count, ret_roots);
        ret_roots += count;
    }
}

void cap_byte_tree_init(struct cap_byte_tree *tree)
{
    cap_tree_init(&tree->blocks, CAP_BLOCK_DEPTH);
    tree->ret_block_roots = NULL;
    tree->len = 0;
    tree->filled = 0;
}

void cap_byte_tree_add_blocks(struct cap_byte_tree *tree, const struct cap_hash *roots,
                              size_t count)
{
    must(tree->filled == 0);
    if (tree->ret_block_roots != NULL) {
        memcpy(&tree->ret_block_roots[tree->blocks.next], roots, count * sizeof(*roots));
    }
    cap_tree_add_many(&tree->blocks, tree->blocks.next, roots, count);
    tree->len += (uint64_t)count * CAP_BLOCK_SIZE;
}

/* Adds the blocks of `len` bytes to `blocks`, which are the tree's or a copy of them. */
static void add_blocks(const struct cap_byte_tree *tree, struct cap_tree *blocks,
                       const uint8_t *data, size_t len)
{
    struct cap_hash roots[RUN];
    while (len > 0) {
        size_t n = len < RUN * CAP_BLOCK_SIZE ? len : RUN * CAP_BLOCK_SIZE;
        size_t count = (n + CAP_BLOCK_SIZE - 1) / CAP_BLOCK_SIZE;
        cap_block_roots(data, n, roots);
        if (tree->ret_block_roots != NULL) {
            memcpy(&tree->ret_block_roots[blocks->next], roots, count * sizeof(*roots));
        }
        cap_tree_add_many(blocks, blocks->next, roots, count);
        data += n;
        len -= n;
    }
}

void cap_byte_tree_update(struct cap_byte_tree *tree, const uint8_t *data, size_t len)
{
    expect(tree->filled < CAP_BLOCK_SIZE);
    tree->len += len;
    if (tree->filled > 0) {
        size_t room = CAP_BLOCK_SIZE - tree->filled;
        size_t part = len < room ? len : room;
        if (part > 0) {
            memcpy(tree->block + tree->filled, data, part);
        }
        tree->filled += part;
        if (tree->filled < CAP_BLOCK_SIZE) {
            return;
        }
        add_blocks(tree, &tree->blocks, tree->block, CAP_BLOCK_SIZE);
        tree->filled = 0;
        data += part;
        len -= part;
    }
    tree->filled = len % CAP_BLOCK_SIZE;
    size_t whole = len - tree->filled;
    add_blocks(tree, &tree->blocks, data, whole);
    if (tree->filled > 0) {
        memcpy(tree->block, data + whole, tree->filled);
    }
}

void cap_byte_tree_list_root(const struct cap_byte_tree *tree, struct cap_hash *ret_root)
{
    struct cap_tree blocks = tree->blocks;
    struct cap_hash root;
    add_blocks(tree, &blocks, tree->block, tree->filled);
    cap_tree_end_nodes(&blocks);
    cap_tree_root(&blocks, CAP_BYTE_LIST_DEPTH - CAP_BLOCK_DEPTH, &root);
    cap_mix_in(&root, tree->len, ret_root);
}

void cap_byte_list_root(struct cap_bytes bytes, struct cap_hash *ret_root)
{
    struct cap_byte_tree tree; /* whose block stays unused */
    cap_byte_tree_init(&tree);
    add_blocks(&tree, &tree.blocks, bytes.data, bytes.len);
    tree.len = bytes.len;
    cap_byte_tree_list_root(&tree, ret_root);
}

/* --- Many small lists ------------------------------------------------------------------------- */

void cap_lists_init(struct cap_lists *lists, unsigned depth)
{
    lists->depth = depth;
    lists->count = 0;
    lists->total = 0;
}

struct cap_hash *cap_lists_add(struct cap_lists *lists, size_t count, uint64_t len,
                               struct cap_hash *ret_root)
{
    must(count <= CAP_LISTS_NODES);
    if (lists->count == CAP_LISTS_TOGETHER || count > CAP_LISTS_NODES - lists->total) {
        cap_lists_finish(lists);
    }
    struct cap_hash *nodes = &lists->nodes[lists->total];
    lists->counts[lists->count] = count;
    lists->lens[lists->count] = len;
    lists->ret_roots[lists->count] = ret_root;
    lists->count++;
    lists->total += count;
    return nodes;
}

void cap_lists_finish(struct cap_lists *lists)
{
    struct cap_hash *nodes = lists->nodes;
    size_t total = lists->total;
    for (unsigned level = 0; level < lists->depth; level++) {
        total = halve_trees(nodes, total, lists->counts, lists->count, level);
    }
    /* Of each list that is not empty there is one node left: with its length it makes a pair. */
    size_t to = lists->count;
    for (size_t i = lists->count; i-- > 0;) {
        const struct cap_hash *root =
            lists->counts[i] > 0 ? &nodes[--total] : cap_zero_node(lists->depth);
        nodes[2 * --to] = *root;
        nodes[2 * to + 1] = cap_chunk64(lists->lens[i]);
    }
    cap_sha256_pairs(nodes->bytes, nodes->bytes, lists->count);
    for (size_t i = 0; i < lists->count; i++) {
        *lists->ret_roots[i] = nodes[i];
    }
    cap_lists_init(lists, lists->depth);
}

void cap_merkleize_many(struct cap_hash *chunks, size_t count, unsigned depth,
                        struct cap_hash *ret_roots)
{
    for (size_t pairs = count << depth >> 1; pairs >= count && pairs > 0; pairs /= 2) {
        cap_sha256_pairs(chunks->bytes, chunks->bytes, pairs);
    }
    memmove(ret_roots, chunks, count * sizeof(*chunks));
}

void cap_merkleize_few(const struct cap_hash *chunks, size_t count, unsigned depth,
                       struct cap_hash *ret_root)
{
    struct cap_tree tree;
    expect(count <= UINT64_C(1) << depth);
    cap_tree_init(&tree, 0);
    for (size_t i = 0; i < count; i++) {
        cap_tree_add(&tree, i, &chunks[i]);
    }
    cap_tree_root(&tree, depth, ret_root);
}

size_t cap_page_used(const uint8_t *data, size_t len)
{
    static const uint8_t zeros[64];
    while (len >= sizeof(zeros) && memcmp(data + len - sizeof(zeros), zeros, sizeof(zeros)) == 0) {
        len -= sizeof(zeros);
    }
    while (len > 0 && data[len - 1] == 0) {
        len--;
    }
    return len;
}

void cap_page_roots(const struct cap_bytes *pages, size_t count, struct cap_hash *ret_roots,
                    uint32_t *ret_used)
{
    struct cap_bytes used[CAP_BLOCKS_TOGETHER] = {0};
    for (size_t i = 0; i < count; i++) {
        used[i] = cap_bytes_slice(pages[i], 0, cap_page_used(pages[i].data, pages[i].len));
        ret_used[i] = (uint32_t)used[i].len;
    }
    block_roots(used, count, ret_roots);
    for (size_t i = 0; i < count; i++) {
        if (ret_used[i] == 0) {
            ret_roots[i] = *cap_zero_node(0);
        }
    }
}

size_t cap_page_root(const uint8_t *data, size_t len, struct cap_hash *ret_root)
{
    struct cap_bytes page = {data, len};
    uint32_t used;
    cap_page_roots(&page, 1, ret_root, &used);
    return used;
}
