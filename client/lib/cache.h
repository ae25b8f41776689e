/*
 * A cap's pages in a sparse file, for a later process to go on with.
 *
 * Nothing in the file is believed. A group of pages that is read from it is hashed, and with the
 * nodes in the file that lie beside its path proven up to the root of the tree of pages, which
 * comes from a head that was proven against the CapHash. So a file that is torn, cut off, of
 * another cap or written by somebody who means harm costs time and never gives a wrong byte. That
 * is why the file has no checksums and no keys, why nothing is synced, and why any number of
 * processes may write to it without a lock: of one cap all write the same. The price is hashing a
 * group when it is read from the file, some 50 us; it is in memory then.
 *
 *     at 0        magic and version, hash, length of the head
 *     at 4096     the slice without ranges: the head, to be verified like any slice
 *     then        one byte per group: not 0 says that it may be here; written after its pages
 *     then        hashes of nodes of levels 4 and up; 32 zeros where nothing is but zero pages
 *     then        the pages, in place
 *
 * each from a page's boundary on. Only the first 2^28 groups are kept, where all pages are that are
 * not zero.
 */
#ifndef CLIENT_LIB_CACHE_H
#define CLIENT_LIB_CACHE_H

#include "client/lib/groups.h"

/* The tree of pages of a cap, from its proven head. */
struct client_tree {
    enum cap_kind kind;
    uint64_t pages;
    struct cap_hash root;
};

/* Opaque. Belongs to one thread at a time. */
struct client_cache;

/* Opens or makes the file of a cap in a directory. CAP_E_IO when that cannot be, CAP_E_NO_MEMORY.
 * Release with client_cache_free. */
enum cap_error client_cache_open(const char *directory, const struct cap_hash *hash,
                                 struct client_cache **ret_cache);

/* Closes it. NULL is fine. */
void client_cache_free(struct client_cache *cache);

/* The head's slice that the file has; the caller frees it, and verifies it. CAP_E_NOT_FOUND: it has
 * none of this cap; CAP_E_NO_MEMORY. */
enum cap_error client_cache_head(struct client_cache *cache, struct cap_buf *ret_slice);

/* Writes the head's slice, which was proven. */
void client_cache_put_head(struct client_cache *cache, struct cap_bytes slice);

/* Says what the head proved; to be called before those below. `head_len` is that of its slice. */
void client_cache_begin(struct client_cache *cache, const struct client_tree *tree,
                        size_t head_len);

/* Whether the file may have a group. */
bool client_cache_has(struct client_cache *cache, uint64_t group);

/* Reads a group, and proves it: false if it is not there or cannot be proven; then the file has it
 * no more, and *ret_dropped if it seemed to. Past the cap's end there are zeros. */
bool client_cache_get(struct client_cache *cache, uint64_t group, uint8_t dst[CLIENT_GROUP_SIZE],
                      bool *ret_dropped);

/* Writes a group that was proven; NULL: it is zero. What it is proven with, must have been put. */
void client_cache_put(struct client_cache *cache, uint64_t group, const uint8_t *bytes);

/* Writes the proven hashes of the children of node `index` of `level`. */
void client_cache_put_pair(struct client_cache *cache, unsigned level, uint64_t index,
                           const struct cap_hash children[2]);

/* Whether writing failed; nothing is written any more then. */
bool client_cache_failed(const struct client_cache *cache);

#endif
