/* Images by their served bodies. */
#include "daemon/publish/body.h"

#include <inttypes.h>
#include <stdlib.h>

#include "lib/cap/layout.h"
#include "lib/cap/refusal.h"

#define SLOT_MIN 44u /* bytes of structure that a slot takes: an offset, its fixed part, a hash */

enum cap_error body_judge_front(struct body_order *order, struct cap_bytes front,
                                const struct image_limits *limits, struct judgement *ret_judgement)
{
    uint8_t cut[CAP_IMAGE_FRONT];
    struct cap_refusal refusal = {.message = ""};
    memcpy(cut, front.data, sizeof(cut));
    enum cap_error error = cap_image_cut_code(cut, order->total_len, &order->code_len);
    if (error != CAP_OK) {
        return judgement_say(ret_judgement, error, "the front is not that of an Image cap");
    }
    error = cap_image_judge_code(order->code_len, &refusal);
    if (error != CAP_OK) {
        return judgement_say(ret_judgement, error, "%s", refusal.message);
    }
    uint64_t structure = order->total_len - order->code_len;
    if (structure > limits->max_structure) {
        return judgement_say(ret_judgement, CAP_E_STRUCTURE_TOO_LARGE,
                             "the structure takes %" PRIu64 " bytes; max-structure is %" PRIu64,
                             structure, limits->max_structure);
    }
    return CAP_OK;
}

uint64_t body_make_memory(const struct body_order *order, const struct image_limits *limits)
{
    uint64_t structure = order->total_len - order->code_len;
    uint64_t slots =
        structure / SLOT_MIN < limits->max_slots ? structure / SLOT_MIN : limits->max_slots;
    uint64_t pages = order->code_len / CAP_PAGE_SIZE + 1;
    return structure + image_resolve_memory((size_t)slots, (size_t)structure) +
           slots * sizeof(struct cap_ref) + 2 * pages * sizeof(struct cap_hash);
}

uint64_t body_make_cost(const struct body_order *order)
{
    return order->code_len + (order->total_len - order->code_len) * IMAGE_STRUCTURE_COST;
}

/* The slots of both tables, pinned first, as references and as what must be there. */
static enum cap_error list_slots(struct caps *caps)
{
    const struct cap_image_view *view = &caps->structure.view;
    size_t pinned = view->pinned.count;
    size_t count = pinned + view->initial.count;
    struct cap_admission *admission = &caps->admission;
    caps->refs = calloc(count + 1, sizeof(*caps->refs));
    caps->needed_slots = calloc(count + 1, sizeof(*caps->needed_slots));
    admission->needed = calloc(count + 1, sizeof(*admission->needed));
    admission->puts = calloc(1, sizeof(*admission->puts));
    if (caps->refs == NULL || caps->needed_slots == NULL || admission->needed == NULL ||
        admission->puts == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        struct cap_slot slot;
        bool is_pinned = i < pinned;
        cap_image_slot_at(is_pinned ? &view->pinned : &view->initial, is_pinned ? i : i - pinned,
                          &slot);
        caps->refs[i] =
            (struct cap_ref){slot.cap_hash, is_pinned ? CAP_REF_PINNED : CAP_REF_INITIAL};
        admission->needed[i] = (struct cap_needed){.hash = slot.cap_hash};
        if (!is_pinned) { /* a pinned slot may name an Image, too */
            admission->needed[i].kind = CAP_KIND_DATA;
        }
        caps->needed_slots[i] = (uint32_t)i;
    }
    admission->needed_count = count;
    return CAP_OK;
}

static enum cap_error read_body(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct caps *caps = ctx;
    return caps->image_bytes.read(caps->image_bytes.ctx, offset, dst, len);
}

static void put_body(struct caps *caps, const struct caps_stamp *stamp)
{
    caps->admission.puts[0] = (struct cap_put){
        .hash = caps->image.hash,
        .info =
            {
                .kind = CAP_KIND_IMAGE,
                .body_len = caps->image.body.len,
                .size = caps->structure.code_len,
                .publisher = stamp->publisher,
                .published_us = stamp->published_us,
                .node_counts = caps->image.nodes.counts,
            },
        .body = {.read = read_body, .ctx = caps},
        .page_roots = caps->image.code_roots,
        .nodes = caps->image.nodes.all,
        .refs = caps->refs,
        .ref_count = caps->admission.needed_count,
    };
    caps->admission.put_count = 1;
}

enum cap_error body_check_hash(const struct cap_hash *declared, const struct cap_hash *found,
                               struct judgement *ret_judgement)
{
    char hex[CAP_HASH_HEX_SIZE];
    if (cap_hash_equal(declared, found)) {
        return CAP_OK;
    }
    cap_hash_format(found, hex);
    return judgement_say(ret_judgement, CAP_E_HASH_MISMATCH,
                         "the body is that of another cap: its CapHash is %s", hex);
}

static enum cap_error judge(const struct body_order *order, const struct image_limits *limits,
                            const struct cap_source *source, struct cap_structure *ret_structure,
                            struct judgement *ret_judgement)
{
    struct cap_refusal refusal = {.message = ""};
    enum cap_error error = cap_structure_read(source, order->total_len, limits->max_structure,
                                              ret_structure, &refusal);
    if (error != CAP_OK) {
        return judgement_say(ret_judgement, error, "%s", refusal.message);
    }
    size_t slots = ret_structure->view.pinned.count + ret_structure->view.initial.count;
    if (slots > limits->max_slots) {
        return judgement_say(ret_judgement, CAP_E_STRUCTURE_TOO_LARGE,
                             "the Image has %zu slots; max-slots is %" PRIu64, slots,
                             limits->max_slots);
    }
    return CAP_OK;
}

enum cap_error body_make(const struct body_order *order, const struct image_limits *limits,
                         const struct caps_source *source, const struct caps_stamp *stamp,
                         struct caps *ret_caps, struct judgement *ret_judgement)
{
    *ret_caps = (struct caps){.image_bytes = source->stored};
    struct cap_structure *structure = &ret_caps->structure;
    enum cap_error error = judge(order, limits, &source->hashed, structure, ret_judgement);
    if (error != CAP_OK) {
        return error;
    }
    error = cap_image_from_body(&source->hashed, order->total_len, &structure->view,
                                structure->code_len, &ret_caps->image);
    if (error == CAP_OK) {
        error = list_slots(ret_caps);
    }
    if (error != CAP_OK) {
        return judgement_set(ret_judgement, error);
    }
    error = body_check_hash(&order->hash, &ret_caps->image.hash, ret_judgement);
    if (error != CAP_OK) {
        return error;
    }
    put_body(ret_caps, stamp);
    return judgement_set(ret_judgement, CAP_OK);
}

static void name_slot(const void *ctx, uint32_t index, struct proto_unresolved *ret_slot)
{
    const struct cap_image_view *view = ctx;
    size_t pinned = view->pinned.count;
    struct cap_slot slot;
    cap_image_slot_at(index < pinned ? &view->pinned : &view->initial,
                      index < pinned ? index : index - pinned, &slot);
    ret_slot->table = index < pinned ? CAP_TABLE_PINNED : CAP_TABLE_INITIAL;
    ret_slot->slot = slot.key;
}

enum cap_error body_list_missing(const struct caps *caps, const struct cap_admission *admission,
                                 struct judgement *ret_judgement)
{
    return caps_list_missing(admission, caps->needed_slots, name_slot, &caps->structure.view,
                             ret_judgement);
}
