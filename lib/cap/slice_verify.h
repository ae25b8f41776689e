/*
 * Checks a slice while it arrives, in any pieces, against the CapHash, and hands on what is proven.
 *
 * Everything is pure. A verifier belongs to one thread at a time.
 */
#ifndef LIB_CAP_SLICE_VERIFY_H
#define LIB_CAP_SLICE_VERIFY_H

#include "lib/cap/image_cap.h"
#include "lib/cap/slice.h"

/* What the head of a slice proves. */
struct cap_slice_head {
    enum cap_kind kind;
    uint64_t size;       /* Data: logical bytes. Image: bytes of code */
    uint64_t page_count; /* cap_slice_page_count(size) */
    struct cap_hash tree_root;
    /* Image: the served body of the same Image without code, and the view of it: what a struct
     * cap_structure has. Both are borrowed for the call. Data: empty, and NULL. */
    struct cap_bytes structure;
    const struct cap_image_view *view;
};

/*
 * Where a verifier hands what it has proven, in the order of the slice: head once, then pages in
 * ascending order, only those of the ranges, each once. What a function fails with, the verifier
 * fails with. A function may be NULL.
 */
struct cap_slice_sink {
    enum cap_error (*head)(void *ctx, const struct cap_slice_head *head);
    /* `count` <= CAP_SLICE_GROUP_PAGES whole pages; of an Image's last one, what is past the code
     * is zero. Borrowed for the call. */
    enum cap_error (*pages)(void *ctx, uint64_t first, size_t count, const uint8_t *bytes);
    /* Pages of zeros that take no room in the slice: perhaps very many. */
    enum cap_error (*zeros)(void *ctx, uint64_t first, uint64_t count);
    /* The hashes of both children of node `index` of `level`, before what lies below them. */
    enum cap_error (*pair)(void *ctx, unsigned level, uint64_t index,
                           const struct cap_hash children[2]);
    void *ctx;
};

/* Opaque. */
struct cap_slice_verifier;

/* For `max_structure`: more than the structure of any Image that a daemon admits by default. */
#define CAP_SLICE_STRUCTURE (UINT64_C(17) << 20)

/*
 * A verifier of a slice of the cap `hash`. It must have exactly the `count` ranges that were asked
 * for, or, if `ranges` is NULL, any that are canonical. `rest` of an Image may take `max_structure`
 * bytes, and so may the ranges. All arguments are copied. CAP_E_NO_MEMORY. Release with
 * cap_slice_verifier_free. Memory: about 80 KiB, the ranges, and what arrives of `rest`; that is
 * freed once the head is proven.
 */
enum cap_error cap_slice_verifier_new(const struct cap_hash *hash, const struct cap_range *ranges,
                                      size_t count, uint64_t max_structure,
                                      const struct cap_slice_sink *sink,
                                      struct cap_slice_verifier **ret_verifier);

/*
 * Takes the next bytes of the slice, borrowed for the call. CAP_E_SLICE_MISMATCH,
 * CAP_E_SLICE_MALFORMED (cap_slice_verifier_where says where), CAP_E_STRUCTURE_TOO_LARGE,
 * CAP_E_NO_MEMORY, or as the sink fails; after a failure the verifier can only be asked where, and
 * freed.
 */
enum cap_error cap_slice_verifier_take(struct cap_slice_verifier *verifier, struct cap_bytes bytes);

/* The bytes have ended. CAP_E_SLICE_MALFORMED when the slice is not complete. */
enum cap_error cap_slice_verifier_finish(struct cap_slice_verifier *verifier);

/* Where a slice is wrong. */
struct cap_slice_where {
    uint64_t offset; /* in the slice, of the first byte of what is wrong */
    /*
     * Of CAP_E_SLICE_MISMATCH: the node whose hash the slice does not have. Above the root of the
     * tree of pages, of depth D, the level D + 1 stands for the CapHash.
     */
    unsigned level;
    uint64_t index; /* of the node in its level */
};

/* Where it failed with CAP_E_SLICE_MISMATCH or CAP_E_SLICE_MALFORMED. */
struct cap_slice_where cap_slice_verifier_where(const struct cap_slice_verifier *verifier);

/* NULL is fine. */
void cap_slice_verifier_free(struct cap_slice_verifier *verifier);

#endif
