/*
 * A slice is a run of small items of known length (the head, ranges, pairs of hashes, lengths of
 * pages) and of long ones (an Image's structure, pages). Each is collected whole and then judged;
 * what comes next follows from what is proven so far.
 *
 * The tree is walked in pre-order. Of the path down to the node that is next, only the hashes of
 * right siblings still to come are kept: one per level.
 */
#include "lib/cap/slice_verify.h"

#include <stdlib.h>

#define DATA_HEAD  (1u + 8u + CAP_HASH_SIZE)
#define IMAGE_HEAD (DATA_HEAD + 4u)
#define RANGE_SIZE 16u
#define PAIR_SIZE  (2u * CAP_HASH_SIZE)
#define DEPTH_MAX  52u /* 2^64 bytes of pages */

enum stage {
    STAGE_HEAD,
    STAGE_REST,
    STAGE_COUNT,
    STAGE_RANGE,
    STAGE_PAIR,
    STAGE_PAGE_LEN,
    STAGE_PAGE,
    STAGE_DONE,
};

struct cap_slice_verifier {
    struct cap_hash wanted;
    struct cap_slice_sink sink;
    uint64_t max_structure;
    enum stage stage;
    struct cap_slice_where where;

    uint64_t offset;          /* bytes taken */
    uint64_t item_at;         /* where the item that is collected began */
    size_t filled;            /* of it, in `item` or, of a page, in `group` */
    uint8_t item[PAIR_SIZE];  /* the longest one that is not a page or `rest` */
    struct cap_buf structure; /* the selector, then `rest` */
    uint32_t rest_len;

    struct cap_slice_head head;
    unsigned depth; /* of the tree of pages */

    struct cap_range *ranges;
    size_t range_count;    /* that are there */
    size_t range_capacity; /* that `ranges` has room for */
    uint64_t ranges_total; /* that there must be */
    bool any_ranges;       /* those that the slice states */
    size_t range_at;       /* the first one that does not end before the next node */

    unsigned level; /* the node that is next */
    uint64_t index;
    struct cap_hash hash;
    struct cap_hash right[DEPTH_MAX]; /* of each level below the root, where the path goes left */

    uint64_t group_at; /* offset in the slice */
    uint64_t group_first;
    size_t group_count;
    size_t group_done;
    size_t page_len;
    uint8_t group[CAP_SLICE_GROUP_PAGES * CAP_PAGE_SIZE];
};

static enum cap_error malformed(struct cap_slice_verifier *verifier, uint64_t offset)
{
    verifier->where = (struct cap_slice_where){.offset = offset};
    return CAP_E_SLICE_MALFORMED;
}

static enum cap_error mismatch(struct cap_slice_verifier *verifier, uint64_t offset, unsigned level,
                               uint64_t index)
{
    verifier->where = (struct cap_slice_where){offset, level, index};
    return CAP_E_SLICE_MISMATCH;
}

/* Moves bytes into the item until it has `len`; whether it has. */
static bool collect(struct cap_slice_verifier *verifier, struct cap_bytes *bytes, uint8_t *item,
                    size_t len)
{
    size_t missing = len - verifier->filled;
    size_t n = bytes->len < missing ? bytes->len : missing;
    if (verifier->filled == 0) {
        verifier->item_at = verifier->offset;
    }
    memcpy(item + verifier->filled, bytes->data, n);
    verifier->filled += n;
    verifier->offset += n;
    *bytes = cap_bytes_slice(*bytes, n, bytes->len - n);
    return n == missing;
}

static void begin_item(struct cap_slice_verifier *verifier, enum stage stage)
{
    verifier->stage = stage;
    verifier->filled = 0;
}

/* --- The tree --------------------------------------------------------------------------------- */

/* The first page of the node that is next, and the page after its last one that there is. */
static void node_pages(const struct cap_slice_verifier *verifier, uint64_t *ret_first,
                       uint64_t *ret_end)
{
    uint64_t end = (verifier->index + 1) << verifier->level;
    *ret_first = verifier->index << verifier->level;
    *ret_end = end < verifier->head.page_count ? end : verifier->head.page_count;
}

/* Hands on the pages of the ranges that lie in an empty node. */
static enum cap_error give_zeros(const struct cap_slice_verifier *verifier, uint64_t first,
                                 uint64_t end)
{
    enum cap_error error = CAP_OK;
    if (verifier->sink.zeros == NULL) {
        return CAP_OK;
    }
    for (size_t i = verifier->range_at; error == CAP_OK && i < verifier->range_count; i++) {
        const struct cap_range *range = &verifier->ranges[i];
        uint64_t from = range->first > first ? range->first : first;
        uint64_t until = range->first + range->pages < end ? range->first + range->pages : end;
        if (from >= until) {
            break;
        }
        error = verifier->sink.zeros(verifier->sink.ctx, from, until - from);
    }
    return error;
}

/* Goes to the node after the subtree of this one; false at the end. */
static bool go_on(struct cap_slice_verifier *verifier)
{
    while (verifier->level < verifier->depth && verifier->index % 2 != 0) {
        verifier->level++;
        verifier->index /= 2;
    }
    if (verifier->level == verifier->depth) {
        return false;
    }
    verifier->index++;
    verifier->hash = verifier->right[verifier->level];
    return true;
}

/* Goes from the node that is next to the first one that the slice has something of. */
static enum cap_error settle(struct cap_slice_verifier *verifier)
{
    do {
        uint64_t first;
        uint64_t end;
        node_pages(verifier, &first, &end);
        if (!cap_ranges_meet(verifier->ranges, verifier->range_count, &verifier->range_at, first,
                             end)) {
            continue;
        }
        if (cap_hash_equal(&verifier->hash,
                           cap_slice_empty(verifier->head.kind, verifier->level))) {
            enum cap_error error = give_zeros(verifier, first, end);
            if (error != CAP_OK) {
                return error;
            }
            continue;
        }
        const struct cap_range *range = &verifier->ranges[verifier->range_at];
        if (verifier->level > CAP_SLICE_GROUP_LEVEL || range->first > first ||
            range->first + range->pages < end) {
            begin_item(verifier, STAGE_PAIR);
            return CAP_OK;
        }
        verifier->group_at = verifier->offset;
        verifier->group_first = first;
        verifier->group_count = (size_t)(end - first);
        verifier->group_done = 0;
        begin_item(verifier, STAGE_PAGE_LEN);
        return CAP_OK;
    } while (go_on(verifier));
    verifier->stage = STAGE_DONE;
    return CAP_OK;
}

static enum cap_error take_pair(struct cap_slice_verifier *verifier, struct cap_bytes *bytes)
{
    struct cap_hash pair[2];
    struct cap_hash node;
    if (!collect(verifier, bytes, verifier->item, PAIR_SIZE)) {
        return CAP_OK;
    }
    memcpy(pair, verifier->item, sizeof(pair));
    cap_hash_pair(&pair[0], &pair[1], &node);
    if (!cap_hash_equal(&node, &verifier->hash)) {
        return mismatch(verifier, verifier->item_at, verifier->level, verifier->index);
    }
    if (verifier->sink.pair != NULL) {
        const struct cap_slice_sink *sink = &verifier->sink;
        enum cap_error error = sink->pair(sink->ctx, verifier->level, verifier->index, pair);
        if (error != CAP_OK) {
            return error;
        }
    }
    verifier->level--;
    verifier->index *= 2;
    verifier->hash = pair[0];
    verifier->right[verifier->level] = pair[1];
    /* Past the end everything is empty, or the tree is not that of a cap. */
    if ((verifier->index + 1) << verifier->level >= verifier->head.page_count &&
        !cap_hash_equal(&pair[1], cap_slice_empty(verifier->head.kind, verifier->level))) {
        return mismatch(verifier, verifier->item_at + CAP_HASH_SIZE, verifier->level,
                        verifier->index + 1);
    }
    return settle(verifier);
}

/* --- Pages ------------------------------------------------------------------------------------ */

static enum cap_error finish_group(struct cap_slice_verifier *verifier)
{
    struct cap_hash root;
    cap_slice_group_root(verifier->head.kind, verifier->group, verifier->group_count,
                         verifier->level, &root);
    if (!cap_hash_equal(&root, &verifier->hash)) {
        return mismatch(verifier, verifier->group_at, verifier->level, verifier->index);
    }
    if (verifier->sink.pages != NULL) {
        enum cap_error error = verifier->sink.pages(verifier->sink.ctx, verifier->group_first,
                                                    verifier->group_count, verifier->group);
        if (error != CAP_OK) {
            return error;
        }
    }
    if (!go_on(verifier)) {
        verifier->stage = STAGE_DONE;
        return CAP_OK;
    }
    return settle(verifier);
}

static enum cap_error finish_page(struct cap_slice_verifier *verifier)
{
    uint8_t *page = verifier->group + verifier->group_done * CAP_PAGE_SIZE;
    memset(page + verifier->page_len, 0, CAP_PAGE_SIZE - verifier->page_len);
    verifier->group_done++;
    begin_item(verifier, STAGE_PAGE_LEN);
    return verifier->group_done == verifier->group_count ? finish_group(verifier) : CAP_OK;
}

static enum cap_error take_page_len(struct cap_slice_verifier *verifier, struct cap_bytes *bytes)
{
    if (!collect(verifier, bytes, verifier->item, 2)) {
        return CAP_OK;
    }
    /* The last page of an Image's code may be shorter; the pages of Data are all whole. */
    uint64_t start = (verifier->group_first + verifier->group_done) * CAP_PAGE_SIZE;
    uint64_t most = verifier->head.size - start;
    verifier->page_len = cap_load16(verifier->item);
    if (verifier->page_len > CAP_PAGE_SIZE || verifier->page_len > most) {
        return malformed(verifier, verifier->item_at);
    }
    begin_item(verifier, STAGE_PAGE);
    return verifier->page_len > 0 ? CAP_OK : finish_page(verifier);
}

static enum cap_error take_page(struct cap_slice_verifier *verifier, struct cap_bytes *bytes)
{
    uint8_t *page = verifier->group + verifier->group_done * CAP_PAGE_SIZE;
    if (!collect(verifier, bytes, page, verifier->page_len)) {
        return CAP_OK;
    }
    if (page[verifier->page_len - 1] == 0) {
        return malformed(verifier, verifier->offset - 1);
    }
    return finish_page(verifier);
}

/* --- Ranges ----------------------------------------------------------------------------------- */

static enum cap_error begin_nodes(struct cap_slice_verifier *verifier)
{
    verifier->level = verifier->depth;
    verifier->index = 0;
    verifier->hash = verifier->head.tree_root;
    return settle(verifier);
}

static enum cap_error take_count(struct cap_slice_verifier *verifier, struct cap_bytes *bytes)
{
    if (!collect(verifier, bytes, verifier->item, 4)) {
        return CAP_OK;
    }
    uint64_t count = cap_load32(verifier->item);
    if (!verifier->any_ranges && count != verifier->ranges_total) {
        return malformed(verifier, verifier->item_at);
    }
    if (verifier->any_ranges && count * RANGE_SIZE > verifier->max_structure) {
        return CAP_E_STRUCTURE_TOO_LARGE;
    }
    verifier->ranges_total = count;
    begin_item(verifier, STAGE_RANGE);
    return count > 0 ? CAP_OK : begin_nodes(verifier);
}

/* Room for one more range; memory is taken for what arrives. */
static enum cap_error reserve_range(struct cap_slice_verifier *verifier)
{
    if (verifier->range_count < verifier->range_capacity) {
        return CAP_OK;
    }
    size_t capacity = verifier->range_capacity > 0 ? 2 * verifier->range_capacity : 16;
    struct cap_range *ranges = realloc(verifier->ranges, capacity * sizeof(*ranges));
    if (ranges == NULL) {
        return CAP_E_NO_MEMORY;
    }
    verifier->ranges = ranges;
    verifier->range_capacity = capacity;
    return CAP_OK;
}

static enum cap_error take_range(struct cap_slice_verifier *verifier, struct cap_bytes *bytes)
{
    if (!collect(verifier, bytes, verifier->item, RANGE_SIZE)) {
        return CAP_OK;
    }
    enum cap_error error = reserve_range(verifier);
    if (error != CAP_OK) {
        return error;
    }
    struct cap_range *range = &verifier->ranges[verifier->range_count];
    struct cap_range stated = {cap_load64(verifier->item), cap_load64(verifier->item + 8)};
    if (!verifier->any_ranges && (stated.first != range->first || stated.pages != range->pages)) {
        return malformed(verifier, verifier->item_at);
    }
    /* With the one before it, which is canonical, it must be canonical. */
    size_t before = verifier->range_count > 0 ? 1 : 0;
    *range = stated;
    if (cap_ranges_judge(range - before, 1 + before, verifier->head.page_count) != CAP_OK) {
        return malformed(verifier, verifier->item_at);
    }
    verifier->range_count++;
    begin_item(verifier, STAGE_RANGE);
    return verifier->range_count < verifier->ranges_total ? CAP_OK : begin_nodes(verifier);
}

/* --- The head --------------------------------------------------------------------------------- */

/* The head has proven itself if `hash` is the cap's. */
static enum cap_error finish_head(struct cap_slice_verifier *verifier, const struct cap_hash *hash)
{
    if (!cap_hash_equal(hash, &verifier->wanted)) {
        return mismatch(verifier, 0, verifier->depth + 1, 0);
    }
    if (verifier->head.page_count == 0 &&
        !cap_hash_equal(&verifier->head.tree_root,
                        cap_slice_empty(verifier->head.kind, verifier->depth))) {
        return mismatch(verifier, DATA_HEAD - CAP_HASH_SIZE, verifier->depth, 0);
    }
    enum cap_error error = CAP_OK;
    if (verifier->sink.head != NULL) {
        error = verifier->sink.head(verifier->sink.ctx, &verifier->head);
    }
    verifier->head.structure = (struct cap_bytes){0};
    verifier->head.view = NULL;
    cap_buf_free(&verifier->structure);
    begin_item(verifier, STAGE_COUNT);
    return error;
}

static enum cap_error finish_data_head(struct cap_slice_verifier *verifier)
{
    struct cap_hash size = cap_chunk64(verifier->head.size);
    struct cap_hash hash;
    if (verifier->head.size == 0 || verifier->head.size % CAP_PAGE_SIZE != 0) {
        return malformed(verifier, 1);
    }
    cap_hash_pair(&size, &verifier->head.tree_root, &hash);
    cap_mix_in(&hash, CAP_KIND_DATA, &hash);
    return finish_head(verifier, &hash);
}

static enum cap_error finish_image_head(struct cap_slice_verifier *verifier)
{
    struct cap_image_view view;
    struct cap_hash code_root;
    struct cap_hash hash;
    struct cap_bytes structure = cap_buf_bytes(&verifier->structure);
    if (cap_image_view_decode(structure, &view) != CAP_OK || view.code.len > 0) {
        return malformed(verifier, IMAGE_HEAD);
    }
    verifier->head.structure = structure;
    verifier->head.view = &view;
    cap_mix_in(&verifier->head.tree_root, verifier->head.size, &code_root);
    cap_image_parts_hash(&view, &code_root, &hash);
    return finish_head(verifier, &hash);
}

static enum cap_error take_rest(struct cap_slice_verifier *verifier, struct cap_bytes *bytes)
{
    size_t missing = verifier->rest_len - (verifier->structure.len - 1);
    size_t n = bytes->len < missing ? bytes->len : missing;
    enum cap_error error = cap_buf_append(&verifier->structure, bytes->data, n);
    verifier->offset += n;
    *bytes = cap_bytes_slice(*bytes, n, bytes->len - n);
    return error == CAP_OK && n == missing ? finish_image_head(verifier) : error;
}

static enum cap_error begin_rest(struct cap_slice_verifier *verifier)
{
    verifier->rest_len = cap_load32(verifier->item + DATA_HEAD);
    if (cap_image_judge_code(verifier->head.size, NULL) != CAP_OK) {
        return malformed(verifier, 1);
    }
    if (verifier->rest_len > verifier->max_structure) {
        return CAP_E_STRUCTURE_TOO_LARGE;
    }
    begin_item(verifier, STAGE_REST);
    enum cap_error error = cap_buf_append8(&verifier->structure, CAP_KIND_IMAGE);
    return error == CAP_OK && verifier->rest_len == 0 ? finish_image_head(verifier) : error;
}

static enum cap_error take_head(struct cap_slice_verifier *verifier, struct cap_bytes *bytes)
{
    uint8_t *item = verifier->item;
    if (verifier->filled == 0) {
        (void)collect(verifier, bytes, item, 1);
        return item[0] == CAP_KIND_IMAGE || item[0] == CAP_KIND_DATA ? CAP_OK
                                                                     : malformed(verifier, 0);
    }
    bool is_image = item[0] == CAP_KIND_IMAGE;
    if (!collect(verifier, bytes, item, is_image ? IMAGE_HEAD : DATA_HEAD)) {
        return CAP_OK;
    }
    verifier->head.kind = is_image ? CAP_KIND_IMAGE : CAP_KIND_DATA;
    verifier->head.size = cap_load64(item + 1);
    verifier->head.page_count = cap_slice_page_count(verifier->head.size);
    verifier->depth = cap_slice_depth(verifier->head.kind, verifier->head.page_count);
    memcpy(verifier->head.tree_root.bytes, item + 9, CAP_HASH_SIZE);
    return is_image ? begin_rest(verifier) : finish_data_head(verifier);
}

/* --- All of it -------------------------------------------------------------------------------- */

enum cap_error cap_slice_verifier_new(const struct cap_hash *hash, const struct cap_range *ranges,
                                      size_t count, uint64_t max_structure,
                                      const struct cap_slice_sink *sink,
                                      struct cap_slice_verifier **ret_verifier)
{
    struct cap_slice_verifier *verifier = calloc(1, sizeof(*verifier));
    if (verifier == NULL) {
        return CAP_E_NO_MEMORY;
    }
    verifier->wanted = *hash;
    verifier->max_structure = max_structure;
    verifier->sink = *sink;
    verifier->any_ranges = ranges == NULL;
    if (ranges != NULL && count > 0) {
        verifier->ranges = calloc(count, sizeof(*ranges));
        if (verifier->ranges == NULL) {
            free(verifier);
            return CAP_E_NO_MEMORY;
        }
        memcpy(verifier->ranges, ranges, count * sizeof(*ranges));
        verifier->range_capacity = count;
        verifier->ranges_total = count;
    }
    *ret_verifier = verifier;
    return CAP_OK;
}

void cap_slice_verifier_free(struct cap_slice_verifier *verifier)
{
    if (verifier == NULL) {
        return;
    }
    free(verifier->ranges);
    cap_buf_free(&verifier->structure);
    free(verifier);
}

enum cap_error cap_slice_verifier_take(struct cap_slice_verifier *verifier, struct cap_bytes bytes)
{
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && bytes.len > 0) {
        switch (verifier->stage) {
        case STAGE_HEAD:
            error = take_head(verifier, &bytes);
            break;
        case STAGE_REST:
            error = take_rest(verifier, &bytes);
            break;
        case STAGE_COUNT:
            error = take_count(verifier, &bytes);
            break;
        case STAGE_RANGE:
            error = take_range(verifier, &bytes);
            break;
        case STAGE_PAIR:
            error = take_pair(verifier, &bytes);
            break;
        case STAGE_PAGE_LEN:
            error = take_page_len(verifier, &bytes);
            break;
        case STAGE_PAGE:
            error = take_page(verifier, &bytes);
            break;
        case STAGE_DONE:
            error = malformed(verifier, verifier->offset);
            break;
        }
    }
    return error;
}

enum cap_error cap_slice_verifier_finish(struct cap_slice_verifier *verifier)
{
    return verifier->stage == STAGE_DONE ? CAP_OK : malformed(verifier, verifier->offset);
}

struct cap_slice_where cap_slice_verifier_where(const struct cap_slice_verifier *verifier)
{
    return verifier->where;
}
