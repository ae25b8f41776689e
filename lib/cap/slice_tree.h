/*
 * The tree of pages of one cap, read from kept roots and nodes along a path: what the encoder of
 * slices walks on.
 *
 * Levels come in blocks of CAP_NODE_STEP: a block is one node of a level that is a multiple of it,
 * with everything six levels down to its 64 slots. One block of each such level is there at a time:
 * that of the path.
 */
#ifndef LIB_CAP_SLICE_TREE_H
#define LIB_CAP_SLICE_TREE_H

#include "lib/cap/slice.h"

#define CAP_TREE_SLOTS  64u /* 2^CAP_NODE_STEP */
#define CAP_TREE_BLOCKS 9u  /* 54 levels: a cap of 2^64 bytes has 52 */
#define CAP_TREE_LOOSE  256u

_Static_assert(CAP_TREE_SLOTS == 1u << CAP_NODE_STEP, "a block has six levels");
_Static_assert(CAP_TREE_LOOSE >= CAP_NODES_ABOVE, "a cap without nodes fits one block");
_Static_assert(CAP_TREE_LOOSE >= CAP_TREE_SLOTS * (CAP_NODE_PAGES - 1),
               "page roots under the slots of a block that have no kept node");

/* hash[1] is the block's node, hash[2 * k] and hash[2 * k + 1] are the children of hash[k]. */
struct cap_tree_block {
    bool there;
    uint64_t index; /* of its node */
    struct cap_hash hash[2 * CAP_TREE_SLOTS];
    uint64_t first[CAP_TREE_SLOTS + 1]; /* of each slot, the first page root under it */
};

struct cap_slice_tree {
    struct cap_slice_subject subject;
    uint64_t pages; /* of the cap */
    uint64_t roots; /* page roots that are kept */
    unsigned depth; /* of the tree of pages */
    struct cap_hash root;
    uint64_t hashed;                               /* pairs, about, since the tree was made */
    struct cap_tree_block blocks[CAP_TREE_BLOCKS]; /* blocks[i]: level CAP_NODE_STEP * (i + 1) */
    struct cap_hash loose[CAP_TREE_LOOSE];
};

/* The tree of a subject, of which nothing is known yet. CAP_E_CORRUPT: no cap is so. */
enum cap_error cap_slice_tree_init(struct cap_slice_tree *tree,
                                   const struct cap_slice_subject *subject);

/* Computes tree->root, before anything else. CAP_E_CORRUPT, or as the source fails. */
enum cap_error cap_slice_tree_begin(struct cap_slice_tree *tree,
                                    const struct cap_slice_source *source);

/* The hash of a node: the root, or one whose parent cap_slice_tree_children was asked for last
 * among the nodes of its level. */
const struct cap_hash *cap_slice_tree_node(const struct cap_slice_tree *tree, unsigned level,
                                           uint64_t index);

/*
 * The children, left and right, of a node that cap_slice_tree_node can give and that is neither
 * empty nor of level 0. CAP_E_CORRUPT, or as the source fails; then it may be asked again.
 */
enum cap_error cap_slice_tree_children(struct cap_slice_tree *tree,
                                       const struct cap_slice_source *source, unsigned level,
                                       uint64_t index, const struct cap_hash **ret_pair);

/* Page roots under pages [first, end), all in one block of the lowest level that is there: from
 * *ret_first on one for each page for which `ret_has` is true. */
void cap_slice_tree_pages(const struct cap_slice_tree *tree, uint64_t first, uint64_t end,
                          uint64_t *ret_first, bool *ret_has);

#endif
