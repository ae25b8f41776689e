/*
 * Image caps: what a wire Image becomes, its CapHash and served body (FORMATS.md sections 4 and 5).
 */
#ifndef LIB_CAP_IMAGE_CAP_H
#define LIB_CAP_IMAGE_CAP_H

#include "lib/cap/body.h"
#include "lib/cap/nodes.h"
#include "lib/cap/wire_image.h"

/*
 * A finished Image cap. The caller owns it; release with cap_image_free.
 *
 * `code_roots` are the leaves of the tree of pages over the code: for each page of CAP_PAGE_SIZE
 * bytes begun, in order, the root of its 128 chunks as a subtree of depth 7, the last page padded
 * with zeros. A page of zeros has cap_zero_node(CAP_BLOCK_DEPTH) here, unlike in a Data cap. Twenty
 * levels above them, with cap_zero_node(CAP_BLOCK_DEPTH) for what is past the end, is the root of
 * the code before its length is mixed in: cap_tree_root of a cap_tree of height CAP_BLOCK_DEPTH
 * and depth 20. The array belongs to the cap: cap_image_free frees it, unless the pointer was taken
 * and set to NULL; then the taker frees it with free(). NULL when there is no code.
 */
struct cap_image {
    struct cap_hash hash; /* the CapHash */
    struct cap_body body; /* of a conversion, the code is a window of the arena's source */
    struct cap_hash *code_roots;
    size_t code_page_count;
    struct cap_nodes nodes; /* above code_roots */
};

/* Releases what the cap owns. NULL and a zeroed one are fine. */
void cap_image_free(struct cap_image *image);

/*
 * Converts a wire Image that cap_deblob accepted. `slot_hashes[i]` is the resolved CapHash of
 * cap_wire_slot_at(image, i); `arena` reads the arena's bytes, and its `work` hears of the
 * structure. CAP_E_NO_MEMORY, CAP_E_BODY_TOO_LARGE (an offset that does not fit 32 bits),
 * CAP_E_CANCELLED, or as the source fails. Cost: O(structure + code); memory besides the body: 32
 * bytes per page of code.
 */
enum cap_error cap_image_from_wire(const struct cap_wire_image *wire,
                                   const struct cap_hash *slot_hashes,
                                   const struct cap_source *arena, struct cap_image *ret_image);

/* Where the code begins in a body: after the selector and eight offsets. */
#define CAP_IMAGE_CODE_AT 33u

/*
 * The body of that conversion, without hashing anything. Its length and all bytes up to the code's
 * end do not depend on `slot_hashes`. CAP_E_NO_MEMORY, CAP_E_BODY_TOO_LARGE.
 */
enum cap_error cap_image_body_from_wire(const struct cap_wire_image *wire,
                                        const struct cap_hash *slot_hashes,
                                        struct cap_body *ret_body);

struct cap_refusal;

/* A CapEndpoint with its key. */
struct cap_endpoint {
    struct cap_bytes key;
    uint64_t entry_pc;
    uint64_t stack_top;
    struct cap_bytes arg_cnode_slot;
    uint8_t arg_cnode_size;
    uint64_t initial_regs[CAP_NUM_REGS];
};

struct cap_slot {
    struct cap_bytes key;
    struct cap_hash cap_hash;
};

/* A served Image body decoded as a view; borrows the body. */
struct cap_image_view {
    struct cap_bytes code;
    struct cap_ssz_list endpoints;
    struct cap_ssz_list mappings;
    struct cap_ssz_list pinned;
    struct cap_ssz_list initial;
    bool has_yield_receiver;
    struct cap_bytes yield_receiver_slot;
    struct cap_ssz_list gas_slots;
    struct cap_ssz_list quota_slots;
};

/*
 * Strict decode of a whole served Image body, selector included, with everything that a conversion
 * guarantees: what is accepted, some wire Image becomes, given slots that resolve. The first rule
 * broken names the error, and *reterr, unless NULL, says more:
 *   - CAP_E_CODE_TOO_LARGE: code longer than MAX_CODE_SIZE;
 *   - CAP_E_SOURCE_PATH_EMPTY, CAP_E_SOURCE_PATH_TOO_DEEP: a path without 1 to MAX_SOURCE_DEPTH
 *     steps;
 *   - CAP_E_BODY_TOO_LARGE: more structure than the offsets of a wire Image reach;
 *   - CAP_E_BODY_NOT_CANONICAL: everything else: an encoding that is not strict, keys of endpoints
 *     or slots that do not ascend, stack_top other than initial_regs[1], arg_cnode_slot other than
 *     the key [0].
 * O(structure), no allocation.
 */
enum cap_error cap_image_view_judge(struct cap_bytes body, struct cap_image_view *ret_view,
                                    struct cap_refusal *reterr);

/* The rule of the code alone, for bodies whose code is elsewhere. */
enum cap_error cap_image_judge_code(uint64_t code_len, struct cap_refusal *reterr);

/* The same judgement for who reads a body: whatever is wrong is CAP_E_BODY_NOT_CANONICAL. */
enum cap_error cap_image_view_decode(struct cap_bytes body, struct cap_image_view *ret_view);

/*
 * The CapHash of an Image, given the root of its code (cap_byte_list_root); view->code is not
 * looked at, so the view may be of a body without code (cap_image_cut_code). The receiver compares.
 */
void cap_image_parts_hash(const struct cap_image_view *view, const struct cap_hash *code_root,
                          struct cap_hash *ret_hash);

/*
 * Rebuilds an Image cap from its served body: computes its CapHash and code_roots in one pass.
 * `view` is that of the structure, `code_len` the length of the code (structure.h); `body` reads
 * the code, and its `work` hears of the structure. ret_image->body is one window over `body`. The
 * caller compares ret_image->hash. CAP_E_NO_MEMORY, CAP_E_CANCELLED, or as the source fails.
 */
enum cap_error cap_image_from_body(const struct cap_source *body, uint64_t body_len,
                                   const struct cap_image_view *view, uint64_t code_len,
                                   struct cap_image *ret_image);

/* Endpoint `index` < view->endpoints.count, its spans borrowed from the body. */
void cap_image_endpoint_at(const struct cap_image_view *view, size_t index,
                           struct cap_endpoint *ret_endpoint);

/* Entry `index` of view->pinned or view->initial. */
void cap_image_slot_at(const struct cap_ssz_list *slots, size_t index, struct cap_slot *ret_slot);

/* Finds a key by binary search; false when the table has no such slot. */
bool cap_image_slot_find(const struct cap_ssz_list *slots, struct cap_bytes key,
                         struct cap_slot *ret_slot);

/*
 * The two questions of a runtime (FORMATS.md section 5).
 *
 * Where the code maps: true and [*ret_address, + code.len) with read-only bytes, or false when
 * there is no code.
 */
bool cap_image_code_mapping(const struct cap_image_view *view, uint64_t *ret_address,
                            struct cap_bytes *ret_code);

/*
 * Whether memory that is mapped at `address` is read-only: any mapping that starts there, addresses
 * taken modulo 2^32, has a pinned slot as the first step of its path. CAP_E_NOT_FOUND when none
 * starts there, for which the answer is no, too. O(mappings × log slots).
 */
enum cap_error cap_image_mapping_read_only(const struct cap_image_view *view, uint64_t address,
                                           bool *ret_read_only);

/* Code as a runtime maps it: page-aligned, zeroed up to the page's end, exact length kept. */
struct cap_code {
    uint8_t *data;     /* CAP_PAGE_SIZE-aligned; NULL when len is 0 */
    size_t len;        /* exact */
    size_t mapped_len; /* len rounded up to a page */
};

/* Copies a view's code. CAP_E_NO_MEMORY. Release with cap_code_free. */
enum cap_error cap_code_load(const struct cap_image_view *view, struct cap_code *ret_code);
/* Releases the copy. NULL is fine. */
void cap_code_free(struct cap_code *code);

/*
 * Strictly decodes a whole served body of either kind held in memory and computes its CapHash: what
 * a receiver does with bytes it does not trust. CAP_E_BODY_NOT_CANONICAL, CAP_E_NO_MEMORY.
 */
enum cap_error cap_body_hash(struct cap_bytes body, enum cap_kind *ret_kind,
                             struct cap_hash *ret_hash);

#endif
