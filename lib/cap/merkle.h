/*
 * Merkleization (FORMATS.md section 2): cost follows the chunks that are there, never the limit.
 *
 * Three accumulators, all of fixed size, all fed in pieces:
 *   - cap_tree: nodes at ascending indexes, gaps are zero subtrees (page roots of a Data cap, the
 *     elements of a list);
 *   - cap_byte_tree: a byte string from first to last (an arena, code, a long key);
 *   - cap_lists: many small lists.
 * A SHA-256 kernel is fast on long runs of pairs: blocks are reduced CAP_BLOCKS_TOGETHER at a time,
 * small lists CAP_LISTS_TOGETHER, level by level, and nodes join a tree in runs.
 * Every function is pure and may be called on any thread; an accumulator belongs to one at a time.
 */
#ifndef LIB_CAP_MERKLE_H
#define LIB_CAP_MERKLE_H

#include "lib/cap/nodes.h"

#define CAP_CHUNK_SIZE      32u
#define CAP_MAX_DEPTH       64u
#define CAP_LIST_DEPTH      32u /* a list of 2^32 elements, one chunk each */
#define CAP_BYTE_LIST_DEPTH 27u /* List[byte, 2^32]: 2^27 chunks */
#define CAP_BLOCK_SIZE      4096u
#define CAP_BLOCK_DEPTH     7u /* 128 chunks */
#define CAP_BLOCKS_TOGETHER 16u
#define CAP_LISTS_TOGETHER  64u
#define CAP_LISTS_NODES     256u

/* Root of a subtree of 2^depth zero chunks; depth <= CAP_MAX_DEPTH. Static, from a table. */
const struct cap_hash *cap_zero_node(unsigned depth);

/* H(left, right). `ret` may be one of them. */
void cap_hash_pair(const struct cap_hash *left, const struct cap_hash *right, struct cap_hash *ret);

/* H(root, value as 32-byte little-endian): a list's length, a union's selector. `ret` may be
 * `root`. */
void cap_mix_in(const struct cap_hash *root, uint64_t value, struct cap_hash *ret);

/* The least depth whose 2^depth chunks hold `count`; 0 for counts 0 and 1. */
unsigned cap_depth_of(uint64_t count);

/* Nodes of one height, added at ascending indexes. */
struct cap_tree {
    uint64_t next;                   /* index after the last node added */
    unsigned height;                 /* of the nodes, above chunks */
    struct cap_node_list *ret_nodes; /* NULL, or where subtrees go once they are complete */
    struct cap_hash pending[CAP_MAX_DEPTH +
                            1]; /* pending[i]: full left subtree of 2^i nodes, if bit i of next */
};

/*
 * An empty tree whose nodes are roots of 2^height chunks (0: the nodes are chunks). For a tree of
 * pages whose interior nodes are kept, set tree->ret_nodes next, to an empty list.
 */
void cap_tree_init(struct cap_tree *tree, unsigned height);

/*
 * Adds the node at `index`, which is at or past tree->next and below 2^64 - 1: those between are
 * zero subtrees. O(CAP_MAX_DEPTH), however wide the gap.
 */
void cap_tree_add(struct cap_tree *tree, uint64_t index, const struct cap_hash *node);

/* Adds `count` nodes, the first one at `index`, as cap_tree_add does one by one, but in runs. */
void cap_tree_add_many(struct cap_tree *tree, uint64_t index, const struct cap_hash *nodes,
                       size_t count);

/*
 * Root of the whole as a tree of `depth` levels above the nodes, padded with zero subtrees; at most
 * 2^depth nodes were added, depth + height <= CAP_MAX_DEPTH. The tree is left as it was.
 */
void cap_tree_root(const struct cap_tree *tree, unsigned depth, struct cap_hash *ret_root);

/*
 * Gives tree->ret_nodes, if there is one, the subtrees that the last nodes begin, padded with zero
 * subtrees: then the list has all of them. No node may be added after that.
 */
void cap_tree_end_nodes(const struct cap_tree *tree);

/* How many blocks are begun by `len` bytes. */
static inline size_t cap_block_count(uint64_t len)
{
    return (size_t)(len / CAP_BLOCK_SIZE + (len % CAP_BLOCK_SIZE != 0));
}

/*
 * Roots of the blocks of `len` bytes, one for each CAP_BLOCK_SIZE begun, the last one padded with
 * zeros. Fastest from CAP_BLOCKS_TOGETHER blocks on; blocks of zeros cost nothing.
 */
void cap_block_roots(const uint8_t *data, size_t len, struct cap_hash *ret_roots);

/* A byte string in chunks, the last one padded with zeros. */
struct cap_byte_tree {
    struct cap_tree blocks;
    struct cap_hash *ret_block_roots; /* NULL, or where the roots of the blocks go */
    uint64_t len;
    size_t filled; /* bytes of `block` in use, always below CAP_BLOCK_SIZE between calls */
    uint8_t block[CAP_BLOCK_SIZE];
};

/*
 * The empty byte string. To get the roots of its blocks as well, set tree->ret_block_roots next, to
 * an array with room for one root per CAP_BLOCK_SIZE bytes begun. Roots of whole blocks are written
 * as these fill, that of an incomplete last one by cap_byte_tree_list_root. So with
 * tree->blocks.ret_nodes, which cap_byte_tree_list_root ends: it is the last call then.
 */
void cap_byte_tree_init(struct cap_byte_tree *tree);
/* Appends `count` whole blocks, given their roots; no incomplete block is before them. */
void cap_byte_tree_add_blocks(struct cap_byte_tree *tree, const struct cap_hash *roots,
                              size_t count);
/* Appends `len` bytes; in all at most 2^32. */
void cap_byte_tree_update(struct cap_byte_tree *tree, const uint8_t *data, size_t len);

/* Root of List[byte, 2^32]: depth 27, length mixed in. The tree may be updated further afterwards.
 */
void cap_byte_tree_list_root(const struct cap_byte_tree *tree, struct cap_hash *ret_root);

/* Root of List[byte, 2^32] of bytes in memory, such as a Key. */
void cap_byte_list_root(struct cap_bytes bytes, struct cap_hash *ret_root);

/* Lists that are hashed together: a short list alone is a chain of hashes, each waiting for the one
 * before. Of fixed size. */
struct cap_lists {
    unsigned depth;
    size_t count;
    size_t total; /* nodes in use */
    size_t counts[CAP_LISTS_TOGETHER];
    uint64_t lens[CAP_LISTS_TOGETHER];
    struct cap_hash *ret_roots[CAP_LISTS_TOGETHER];
    struct cap_hash nodes[CAP_LISTS_NODES + CAP_LISTS_TOGETHER]; /* the lists', side by side */
};

/* No lists yet; they will have trees of `depth` levels. */
void cap_lists_init(struct cap_lists *lists, unsigned depth);

/*
 * Adds a list of `count` <= CAP_LISTS_NODES nodes, which the caller writes to where the result
 * points before the next call. Its root with `len` mixed in goes to *ret_root, in
 * cap_lists_finish at the latest.
 */
struct cap_hash *cap_lists_add(struct cap_lists *lists, size_t count, uint64_t len,
                               struct cap_hash *ret_root);

/* Writes the roots that are due and leaves no lists. */
void cap_lists_finish(struct cap_lists *lists);

/* Roots of `count` containers or vectors of 2^depth chunks each, which lie side by side in `chunks`
 * and are overwritten. ret_roots may be `chunks`. */
void cap_merkleize_many(struct cap_hash *chunks, size_t count, unsigned depth,
                        struct cap_hash *ret_roots);

/* merkleize(chunks, 2^depth) of at most 16 chunks in memory; depth <= 4: containers and small
 * vectors. */
void cap_merkleize_few(const struct cap_hash *chunks, size_t count, unsigned depth,
                       struct cap_hash *ret_root);

/*
 * Root of a page as Vector[byte, 4096], zero-padded from `len` <= CAP_PAGE_SIZE bytes; the zero
 * chunk when every byte is zero, as in a Data cap (FORMATS.md section 4). Returns the length after
 * trailing zeros are cut, so 0 for a zero page.
 */
size_t cap_page_root(const uint8_t *data, size_t len, struct cap_hash *ret_root);

/* The same for each of `count` <= CAP_BLOCKS_TOGETHER pages, together; *ret_used are the lengths.
 */
void cap_page_roots(const struct cap_bytes *pages, size_t count, struct cap_hash *ret_roots,
                    uint32_t *ret_used);

/* The length of a page after trailing zeros are cut. */
size_t cap_page_used(const uint8_t *data, size_t len);

/* The chunk of one integer: little-endian, zero-padded. */
static inline struct cap_hash cap_chunk64(uint64_t value)
{
    struct cap_hash chunk = {{0}};
    cap_store64(chunk.bytes, value);
    return chunk;
}

#endif
