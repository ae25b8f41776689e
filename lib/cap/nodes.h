/*
 * The nodes of a cap's tree of pages that are kept beside its page roots, so that one page can be
 * proven without hashing the roots of all the others.
 *
 * Kept are nodes of every sixth level: each covers 64 of the level below, up to level 30, since
 * page indexes have 32 bits. What a proof of one page then costs, in pairs to hash and in roots and
 * nodes to read, on average:
 *
 *                                     none kept   every 4th     6th        8th level
 *   Image, 64,512 pages of code       64,496         44         125         491 pairs
 *                                     64,511         60         141         506 read
 *   Data of 1 TiB, 10,000 pages      148,006        394         240       5,410 pairs
 *   Data of 1 TiB, 1,000,000 pages  8,196,701       154         245       2,106 pairs
 *   kept per page of code                  0        2.9         0.7         0.2 bytes
 *
 * With libsodium a pair takes 0.35 us; to compare a chunk of the store with its checksum takes 3
 * us. Every sixth level is cheap enough for dense caps and for sparse ones, and takes little room.
 *
 * A node that covers fewer than CAP_NODE_PAGES pages is not kept, which bounds what a sparse cap
 * can make us store; neither is one that covers all pages of the cap, and of a cap of at most
 * CAP_NODES_ABOVE pages none is: its roots cost less to hash than one page does to serve.
 */
#ifndef LIB_CAP_NODES_H
#define LIB_CAP_NODES_H

#include "lib/cap/bytes.h"

#define CAP_NODE_STEP   6u
#define CAP_NODE_LEVELS 5u   /* 6, 12, 18, 24, 30 */
#define CAP_NODE_PAGES  4u   /* page roots under a node that is kept, at least */
#define CAP_NODES_ABOVE 256u /* page roots of a cap of which no node is kept, at most */

/*
 * A kept node, as it is stored: integers of 32 bits, little-endian. Its pages are those at indexes
 * [index << level, (index + 1) << level) of the cap; their roots are `count` from `first` on among
 * the page roots that are kept (of a Data cap: of pages that are not zero).
 */
struct cap_node {
    struct cap_hash hash;
    uint8_t index[4];
    uint8_t first[4];
    uint8_t count[4];
};

_Static_assert(sizeof(struct cap_node) == 44, "a node is stored as it lies in memory");

/* How many nodes are kept of each level: of[i] of level CAP_NODE_STEP * (i + 1). */
struct cap_node_counts {
    uint32_t of[CAP_NODE_LEVELS];
};

/* Their sum. */
static inline uint64_t cap_node_total(const struct cap_node_counts *counts)
{
    uint64_t total = 0;
    for (size_t i = 0; i < CAP_NODE_LEVELS; i++) {
        total += counts->of[i];
    }
    return total;
}

/* The nodes of a cap: level by level from the lowest, each level in order of index and of first. */
struct cap_nodes {
    struct cap_node *all; /* NULL when there is none; free() releases it */
    struct cap_node_counts counts;
};

/* Collects the nodes of one tree while it is hashed (struct cap_tree). Zeroed it is empty. */
struct cap_node_list {
    uint64_t roots;                  /* page roots that were added */
    uint64_t first[CAP_NODE_LEVELS]; /* of them, the first under the node that is not complete */
    struct cap_buf kept[CAP_NODE_LEVELS];
    enum cap_error error; /* the first CAP_E_NO_MEMORY; nothing is kept after it */
};

/* The subtree `index` of a level above 0 is complete. Of levels that are not kept it is ignored. */
void cap_node_list_add(struct cap_node_list *list, unsigned level, uint64_t index,
                       const struct cap_hash *hash);

/* The nodes, once all are complete. Empties the list, also when it fails: CAP_E_NO_MEMORY. */
enum cap_error cap_node_list_finish(struct cap_node_list *list, struct cap_nodes *ret_nodes);

/* Empties the list. */
void cap_node_list_free(struct cap_node_list *list);

#endif
