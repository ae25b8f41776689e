/*
 * A slice comes out item by item: each is written whole, or not before there is room for it. So
 * between two items the encoder is a position in the slice, and every step may have another source.
 */
#include "lib/cap/slice_encode.h"

#include <stdlib.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/layout.h"
#include "lib/cap/merkle.h"
#include "lib/cap/must.h"
#include "lib/cap/slice_tree.h"

#define RANGE_SIZE 16u
#define PAIR_SIZE  (2u * CAP_HASH_SIZE)
#define FRONT_REST (CAP_IMAGE_FRONT - 1) /* of the front of a body, what begins `rest` */

enum stage {
    STAGE_HEAD,
    STAGE_REST,
    STAGE_RANGES,
    STAGE_NODES,
    STAGE_DONE,
};

struct cap_slice_encoder {
    enum stage stage;
    uint64_t done; /* of this stage: bytes of `rest`, or ranges */
    struct cap_range *ranges;
    size_t range_count;
    size_t range_at; /* the first one that does not end before the node */
    unsigned level;  /* the node that is next */
    uint64_t index;
    struct cap_slice_tree tree;
    uint8_t pages[CAP_SLICE_GROUP_PAGES * CAP_PAGE_SIZE];
};

_Static_assert(sizeof(struct cap_slice_encoder) <= CAP_SLICE_ENCODER_SIZE, "as users count it");

/* Where a step writes. */
struct out {
    uint8_t *at;
    size_t len;
    size_t room;
};

static void put(struct out *out, const void *bytes, size_t len)
{
    memcpy(out->at + out->len, bytes, len);
    out->len += len;
}

static void put_page(struct out *out, const uint8_t *page, size_t used)
{
    uint8_t len[2];
    cap_store16(len, (uint16_t)used);
    put(out, len, sizeof(len));
    if (used > 0) {
        put(out, page, used);
    }
}

static void begin_stage(struct cap_slice_encoder *encoder, enum stage stage)
{
    encoder->stage = stage;
    encoder->done = 0;
}

/* --- Pages ------------------------------------------------------------------------------------ */

static enum cap_error put_code(struct cap_slice_encoder *encoder,
                               const struct cap_slice_source *source, uint64_t first, uint64_t end,
                               struct out *out)
{
    uint64_t from = first * CAP_PAGE_SIZE;
    uint64_t code_len = encoder->tree.subject.size;
    uint64_t until = end * CAP_PAGE_SIZE < code_len ? end * CAP_PAGE_SIZE : code_len;
    size_t len = (size_t)(until - from);
    enum cap_error error = source->body(source->ctx, CAP_IMAGE_CODE_AT + from, len, encoder->pages);
    for (size_t at = 0; error == CAP_OK && at < len; at += CAP_PAGE_SIZE) {
        const uint8_t *page = encoder->pages + at;
        size_t most = len - at < CAP_PAGE_SIZE ? len - at : CAP_PAGE_SIZE;
        put_page(out, page, cap_page_used(page, most));
    }
    return error;
}

/* The windows of pages that are not zero, one after the other in encoder->pages. */
static enum cap_error read_windows(struct cap_slice_encoder *encoder,
                                   const struct cap_slice_source *source, uint64_t first,
                                   size_t count,
                                   struct cap_page_ref ret_refs[CAP_SLICE_GROUP_PAGES])
{
    uint8_t bytes[CAP_SLICE_GROUP_PAGES * CAP_PAGE_REF_SIZE];
    const struct cap_slice_subject *subject = &encoder->tree.subject;
    uint64_t arena = CAP_DATA_BODY_FIXED + subject->page_count * CAP_PAGE_REF_SIZE;
    uint64_t arena_len = subject->body_len - arena;
    struct cap_bytes refs = {bytes, count * CAP_PAGE_REF_SIZE};
    enum cap_error error =
        source->body(source->ctx, CAP_DATA_BODY_FIXED + first * CAP_PAGE_REF_SIZE, refs.len, bytes);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        ret_refs[i] = cap_page_ref_at(refs, i);
        if (ret_refs[i].len == 0 || ret_refs[i].len > CAP_PAGE_SIZE ||
            ret_refs[i].arena_off > arena_len ||
            ret_refs[i].len > arena_len - ret_refs[i].arena_off) {
            error = CAP_E_CORRUPT;
        }
    }
    uint8_t *to = encoder->pages;
    for (size_t i = 0; error == CAP_OK && i < count;) {
        size_t len = ret_refs[i].len;
        uint64_t from = ret_refs[i].arena_off;
        for (i++; i < count && ret_refs[i].arena_off == from + len; i++) {
            len += ret_refs[i].len;
        }
        error = source->body(source->ctx, arena + from, len, to);
        to += len;
    }
    return error;
}

static enum cap_error put_data(struct cap_slice_encoder *encoder,
                               const struct cap_slice_source *source, uint64_t first, uint64_t end,
                               struct out *out)
{
    struct cap_page_ref refs[CAP_SLICE_GROUP_PAGES];
    bool has[CAP_SLICE_GROUP_PAGES];
    uint64_t root;
    size_t count = 0;
    cap_slice_tree_pages(&encoder->tree, first, end, &root, has);
    for (uint64_t i = 0; i < end - first; i++) {
        count += has[i];
    }
    enum cap_error error = read_windows(encoder, source, root, count, refs);
    const uint8_t *window = encoder->pages;
    size_t at = 0;
    for (uint64_t i = 0; error == CAP_OK && i < end - first; i++) {
        size_t len = has[i] ? refs[at++].len : 0;
        put_page(out, window, len);
        window += len;
    }
    return error;
}

/* --- The tree --------------------------------------------------------------------------------- */

/* Goes to the node after the subtree of this one, or ends. */
static void go_on(struct cap_slice_encoder *encoder)
{
    while (encoder->level < encoder->tree.depth && encoder->index % 2 != 0) {
        encoder->level++;
        encoder->index /= 2;
    }
    if (encoder->level == encoder->tree.depth) {
        begin_stage(encoder, STAGE_DONE);
    } else {
        encoder->index++;
    }
}

/* One node of the walk; *ret_full: what is next has no room. */
static enum cap_error put_node(struct cap_slice_encoder *encoder,
                               const struct cap_slice_source *source, struct out *out,
                               bool *ret_full)
{
    struct cap_slice_tree *tree = &encoder->tree;
    unsigned level = encoder->level;
    uint64_t first = encoder->index << level;
    uint64_t end = (encoder->index + 1) << level;
    end = end < tree->pages ? end : tree->pages;
    if (!cap_ranges_meet(encoder->ranges, encoder->range_count, &encoder->range_at, first, end) ||
        cap_hash_equal(cap_slice_tree_node(tree, level, encoder->index),
                       cap_slice_empty(tree->subject.kind, level))) {
        go_on(encoder);
        return CAP_OK;
    }
    const struct cap_range *range = &encoder->ranges[encoder->range_at];
    bool group = level <= CAP_SLICE_GROUP_LEVEL && range->first <= first &&
                 range->first + range->pages >= end;
    size_t most = group ? (size_t)(end - first) * (2 + CAP_PAGE_SIZE) : PAIR_SIZE;
    *ret_full = most > out->room - out->len;
    if (*ret_full) {
        return CAP_OK;
    }
    enum cap_error error;
    if (group) {
        error = tree->subject.kind == CAP_KIND_IMAGE ? put_code(encoder, source, first, end, out)
                                                     : put_data(encoder, source, first, end, out);
        if (error == CAP_OK) {
            go_on(encoder);
        }
        return error;
    }
    const struct cap_hash *pair;
    error = cap_slice_tree_children(tree, source, level, encoder->index, &pair);
    if (error == CAP_OK) {
        put(out, pair, PAIR_SIZE);
        encoder->level--;
        encoder->index *= 2;
    }
    return error;
}

static enum cap_error put_nodes(struct cap_slice_encoder *encoder,
                                const struct cap_slice_source *source, struct out *out,
                                bool *ret_full)
{
    uint64_t most = encoder->tree.hashed + CAP_SLICE_WORK;
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && !*ret_full && encoder->stage == STAGE_NODES) {
        error = put_node(encoder, source, out, ret_full);
        *ret_full = *ret_full || encoder->tree.hashed >= most;
    }
    return error;
}

/* --- What precedes the nodes ------------------------------------------------------------------ */

static enum cap_error put_head(struct cap_slice_encoder *encoder,
                               const struct cap_slice_source *source, struct out *out)
{
    struct cap_slice_tree *tree = &encoder->tree;
    enum cap_error error = cap_slice_tree_begin(tree, source);
    if (error != CAP_OK) {
        return error;
    }
    uint8_t kind = (uint8_t)tree->subject.kind;
    uint8_t size[8];
    cap_store64(size, tree->subject.size);
    put(out, &kind, 1);
    put(out, size, sizeof(size));
    put(out, tree->root.bytes, CAP_HASH_SIZE);
    if (tree->subject.kind == CAP_KIND_DATA) {
        begin_stage(encoder, STAGE_RANGES);
        return CAP_OK;
    }
    uint8_t rest_len[4];
    cap_store32(rest_len, (uint32_t)(tree->subject.body_len - tree->subject.size - 1));
    put(out, rest_len, sizeof(rest_len));
    begin_stage(encoder, STAGE_REST);
    return CAP_OK;
}

/* The body without its selector and its code. */
static enum cap_error put_rest(struct cap_slice_encoder *encoder,
                               const struct cap_slice_source *source, struct out *out)
{
    const struct cap_slice_subject *subject = &encoder->tree.subject;
    uint64_t left = subject->body_len - subject->size - 1 - encoder->done;
    enum cap_error error;
    if (encoder->done == 0) {
        uint8_t front[CAP_IMAGE_FRONT];
        uint64_t code_len;
        if (out->room - out->len < FRONT_REST) {
            return CAP_OK;
        }
        error = source->body(source->ctx, 0, sizeof(front), front);
        if (error == CAP_OK && (cap_image_cut_code(front, subject->body_len, &code_len) != CAP_OK ||
                                code_len != subject->size)) {
            error = CAP_E_CORRUPT;
        }
        if (error != CAP_OK) {
            return error;
        }
        put(out, front + 1, FRONT_REST);
        encoder->done = FRONT_REST;
        left -= FRONT_REST;
    }
    size_t room = out->room - out->len;
    size_t len = left < room ? (size_t)left : room;
    if (len > 0) {
        error =
            source->body(source->ctx, 1 + subject->size + encoder->done, len, out->at + out->len);
        if (error != CAP_OK) {
            return error;
        }
    }
    out->len += len;
    encoder->done += len;
    if (len == left) {
        begin_stage(encoder, STAGE_RANGES);
    }
    return CAP_OK;
}

static void put_ranges(struct cap_slice_encoder *encoder, struct out *out)
{
    uint8_t item[RANGE_SIZE];
    if (encoder->done == 0) {
        if (out->room - out->len < 4) {
            return;
        }
        cap_store32(item, (uint32_t)encoder->range_count);
        put(out, item, 4);
        encoder->done = 1;
    }
    for (; encoder->done <= encoder->range_count; encoder->done++) {
        if (out->room - out->len < RANGE_SIZE) {
            return;
        }
        cap_store64(item, encoder->ranges[encoder->done - 1].first);
        cap_store64(item + 8, encoder->ranges[encoder->done - 1].pages);
        put(out, item, RANGE_SIZE);
    }
    begin_stage(encoder, STAGE_NODES);
    encoder->level = encoder->tree.depth;
    encoder->index = 0;
}

/* --- All of it -------------------------------------------------------------------------------- */

enum cap_error cap_slice_encoder_new(const struct cap_slice_subject *subject,
                                     const struct cap_range *ranges, size_t count,
                                     struct cap_slice_encoder **ret_encoder)
{
    enum cap_error error = cap_ranges_judge(ranges, count, cap_slice_page_count(subject->size));
    if (error != CAP_OK) {
        return error;
    }
    struct cap_slice_encoder *encoder = calloc(1, sizeof(*encoder));
    if (encoder == NULL) {
        return CAP_E_NO_MEMORY;
    }
    error = cap_slice_tree_init(&encoder->tree, subject);
    if (error == CAP_OK && count > 0) {
        encoder->ranges = calloc(count, sizeof(*ranges));
        error = encoder->ranges == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    }
    if (error != CAP_OK) {
        cap_slice_encoder_free(encoder);
        return error;
    }
    if (count > 0) {
        memcpy(encoder->ranges, ranges, count * sizeof(*ranges));
    }
    encoder->range_count = count;
    *ret_encoder = encoder;
    return CAP_OK;
}

void cap_slice_encoder_free(struct cap_slice_encoder *encoder)
{
    if (encoder != NULL) {
        free(encoder->ranges);
        free(encoder);
    }
}

enum cap_error cap_slice_encoder_next(struct cap_slice_encoder *encoder,
                                      const struct cap_slice_source *source, uint8_t *dst,
                                      size_t room, size_t *ret_len, bool *ret_done)
{
    struct out out = {.at = dst, .room = room};
    enum cap_error error = CAP_OK;
    bool full = false;
    must(room >= CAP_SLICE_ROOM);
    while (error == CAP_OK && !full && encoder->stage != STAGE_DONE) {
        enum stage before = encoder->stage;
        switch (encoder->stage) {
        case STAGE_HEAD:
            error = put_head(encoder, source, &out);
            break;
        case STAGE_REST:
            error = put_rest(encoder, source, &out);
            break;
        case STAGE_RANGES:
            put_ranges(encoder, &out);
            break;
        case STAGE_NODES:
            error = put_nodes(encoder, source, &out, &full);
            break;
        case STAGE_DONE:
            break;
        }
        full = full || encoder->stage == before;
    }
    /* What there is goes out; the error comes again. */
    if (error != CAP_OK && out.len == 0) {
        return error;
    }
    *ret_len = out.len;
    *ret_done = encoder->stage == STAGE_DONE;
    return CAP_OK;
}
