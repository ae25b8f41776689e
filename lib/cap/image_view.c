/*
 * Served Image bodies as views, and whether a conversion could have made them: readers of a body
 * and its admission refuse what no wire Image can become by the same rules.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/cap/image_cap.h"
#include "lib/cap/refusal.h"

#define FIELD_COUNT    8u
#define REGS_SIZE      (8u * CAP_NUM_REGS)
#define STACK_REGISTER 1u

/* --- Elements --------------------------------------------------------------------------------- */

static const size_t entry_sizes[2] = {CAP_SSZ_VARIABLE, CAP_SSZ_VARIABLE};
static const size_t endpoint_sizes[5] = {8, 8, CAP_SSZ_VARIABLE, 1, REGS_SIZE};
static const size_t slot_sizes[2] = {CAP_SSZ_VARIABLE, CAP_HASH_SIZE};

static enum cap_error decode_endpoint(struct cap_bytes in, struct cap_endpoint *ret_endpoint)
{
    struct cap_bytes entry[2];
    struct cap_bytes fields[5];
    enum cap_error error = cap_ssz_container(in, in.len, entry_sizes, 2, entry);
    if (error == CAP_OK) {
        error = cap_ssz_container(entry[1], entry[1].len, endpoint_sizes, 5, fields);
    }
    if (error != CAP_OK) {
        return error;
    }
    *ret_endpoint = (struct cap_endpoint){
        .key = entry[0],
        .entry_pc = cap_load64(fields[0].data),
        .stack_top = cap_load64(fields[1].data),
        .arg_cnode_slot = fields[2],
        .arg_cnode_size = fields[3].data[0],
    };
    for (size_t i = 0; i < CAP_NUM_REGS; i++) {
        ret_endpoint->initial_regs[i] = cap_load64(fields[4].data + 8 * i);
    }
    return CAP_OK;
}

static enum cap_error decode_slot(struct cap_bytes in, struct cap_slot *ret_slot)
{
    struct cap_bytes fields[2];
    enum cap_error error = cap_ssz_container(in, in.len, slot_sizes, 2, fields);
    if (error != CAP_OK) {
        return error;
    }
    ret_slot->key = fields[0];
    memcpy(ret_slot->cap_hash.bytes, fields[1].data, CAP_HASH_SIZE);
    return CAP_OK;
}

/* --- Judging ---------------------------------------------------------------------------------- */

/*
 * Bytes that the wire form of what is decoded takes at least: an endpoint lists the registers that
 * are not 0, and a slot may hold a DataDesc without pages. No more than offsets of 32 bits reach
 * fit into a wire Image; what follows a body's last offset could be longer.
 */
struct judging {
    uint64_t wire_len;
    struct cap_refusal *reterr;
};

#define WIRE_FIXED    40u
#define WIRE_ENDPOINT (3u * CAP_SSZ_OFFSET_SIZE + 14u) /* without key and registers */
#define WIRE_REGISTER 9u
#define WIRE_PINNED   (3u * CAP_SSZ_OFFSET_SIZE + 17u) /* a union of a DataDesc */
#define WIRE_INITIAL  (3u * CAP_SSZ_OFFSET_SIZE + 12u)

static enum cap_error refuse_ssz(const struct judging *judging, const char *field)
{
    return cap_refuse(judging->reterr, CAP_E_BODY_NOT_CANONICAL, "%s: not a canonical encoding",
                      field);
}

/* Whether a conversion could have made this endpoint. */
static enum cap_error judge_endpoint(struct judging *judging, const struct cap_endpoint *endpoint)
{
    struct cap_key_text key = cap_key_text(endpoint->key);
    if (endpoint->stack_top != endpoint->initial_regs[STACK_REGISTER]) {
        return cap_refuse(judging->reterr, CAP_E_BODY_NOT_CANONICAL,
                          "endpoint %s: stack_top is 0x%" PRIx64 ", register %u is 0x%" PRIx64,
                          key.text, endpoint->stack_top, STACK_REGISTER,
                          endpoint->initial_regs[STACK_REGISTER]);
    }
    if (endpoint->arg_cnode_slot.len != 1 || endpoint->arg_cnode_slot.data[0] != 0) {
        return cap_refuse(judging->reterr, CAP_E_BODY_NOT_CANONICAL,
                          "endpoint %s: arg_cnode_slot is %s, expected 0x00", key.text,
                          cap_key_text(endpoint->arg_cnode_slot).text);
    }
    judging->wire_len += WIRE_ENDPOINT + endpoint->key.len;
    for (size_t i = 0; i < CAP_NUM_REGS; i++) {
        judging->wire_len += endpoint->initial_regs[i] == 0 ? 0 : WIRE_REGISTER;
    }
    return CAP_OK;
}

static enum cap_error judge_order(const struct judging *judging, const char *what, bool first,
                                  struct cap_bytes before, struct cap_bytes key)
{
    if (first || cap_bytes_compare(before, key) < 0) {
        return CAP_OK;
    }
    return cap_refuse(judging->reterr, CAP_E_BODY_NOT_CANONICAL,
                      "%s %s follows %s; keys must ascend", what, cap_key_text(key).text,
                      cap_key_text(before).text);
}

static enum cap_error decode_endpoints(struct cap_bytes in, struct judging *judging,
                                       struct cap_ssz_list *ret_endpoints)
{
    if (cap_ssz_list(in, ret_endpoints) != CAP_OK) {
        return refuse_ssz(judging, "endpoints");
    }
    struct cap_bytes before = {0};
    for (size_t i = 0; i < ret_endpoints->count; i++) {
        struct cap_endpoint endpoint;
        if (decode_endpoint(cap_ssz_list_at(ret_endpoints, i), &endpoint) != CAP_OK) {
            return refuse_ssz(judging, "endpoints");
        }
        enum cap_error error = judge_order(judging, "endpoint", i == 0, before, endpoint.key);
        if (error == CAP_OK) {
            error = judge_endpoint(judging, &endpoint);
        }
        if (error != CAP_OK) {
            return error;
        }
        before = endpoint.key;
    }
    return CAP_OK;
}

static enum cap_error decode_slots(struct cap_bytes in, enum cap_table table,
                                   struct judging *judging, struct cap_ssz_list *ret_slots)
{
    const char *name = cap_table_name(table);
    if (cap_ssz_list(in, ret_slots) != CAP_OK) {
        return refuse_ssz(judging, name);
    }
    struct cap_bytes before = {0};
    for (size_t i = 0; i < ret_slots->count; i++) {
        struct cap_slot slot;
        if (decode_slot(cap_ssz_list_at(ret_slots, i), &slot) != CAP_OK) {
            return refuse_ssz(judging, name);
        }
        char what[sizeof("initial slot")];
        (void)snprintf(what, sizeof(what), "%s slot", name);
        enum cap_error error = judge_order(judging, what, i == 0, before, slot.key);
        if (error != CAP_OK) {
            return error;
        }
        before = slot.key;
        judging->wire_len +=
            slot.key.len + (table == CAP_TABLE_PINNED ? WIRE_PINNED : WIRE_INITIAL);
    }
    return CAP_OK;
}

static enum cap_error decode_mappings(struct cap_bytes in, struct judging *judging,
                                      struct cap_ssz_list *ret_mappings)
{
    if (cap_mapping_list_decode(in, ret_mappings) != CAP_OK) {
        return refuse_ssz(judging, "mappings");
    }
    judging->wire_len += in.len;
    for (size_t i = 0; i < ret_mappings->count; i++) {
        struct cap_mapping mapping;
        cap_mapping_at(ret_mappings, i, &mapping);
        if (mapping.source.count == 0) {
            return cap_refuse(judging->reterr, CAP_E_SOURCE_PATH_EMPTY,
                              "memory mapping %zu has an empty source path", i);
        }
        if (mapping.source.count > CAP_MAX_SOURCE_DEPTH) {
            return cap_refuse(judging->reterr, CAP_E_SOURCE_PATH_TOO_DEEP,
                              "memory mapping %zu has a source path of %zu steps; the limit is %u",
                              i, mapping.source.count, CAP_MAX_SOURCE_DEPTH);
        }
    }
    return CAP_OK;
}

static enum cap_error decode_keys(struct cap_bytes fields[FIELD_COUNT], struct judging *judging,
                                  struct cap_image_view *view)
{
    if (cap_option_key_decode(fields[5], &view->has_yield_receiver, &view->yield_receiver_slot) !=
        CAP_OK) {
        return refuse_ssz(judging, "yield_receiver_slot");
    }
    if (cap_key_list_decode(fields[6], &view->gas_slots) != CAP_OK) {
        return refuse_ssz(judging, "gas_slots");
    }
    if (cap_key_list_decode(fields[7], &view->quota_slots) != CAP_OK) {
        return refuse_ssz(judging, "quota_slots");
    }
    judging->wire_len += (uint64_t)fields[5].len + fields[6].len + fields[7].len;
    if (judging->wire_len > UINT32_MAX) {
        return cap_refuse(judging->reterr, CAP_E_BODY_TOO_LARGE,
                          "the structure of its wire form would have %" PRIu64 " bytes or more",
                          judging->wire_len);
    }
    return CAP_OK;
}

enum cap_error cap_image_view_judge(struct cap_bytes body, struct cap_image_view *ret_view,
                                    struct cap_refusal *reterr)
{
    static const size_t sizes[FIELD_COUNT] = {CAP_SSZ_VARIABLE};
    struct cap_bytes fields[FIELD_COUNT];
    struct cap_image_view view = {0};
    struct judging judging = {WIRE_FIXED, reterr};
    if (body.len == 0 || body.data[0] != CAP_KIND_IMAGE) {
        return cap_refuse(reterr, CAP_E_BODY_NOT_CANONICAL, "not the body of an Image cap");
    }
    struct cap_bytes payload = cap_bytes_slice(body, 1, body.len - 1);
    if (cap_ssz_container(payload, payload.len, sizes, FIELD_COUNT, fields) != CAP_OK) {
        return refuse_ssz(&judging, "the offsets of its fields");
    }
    view.code = fields[0];
    enum cap_error error = cap_image_judge_code(view.code.len, reterr);
    if (error == CAP_OK) {
        error = decode_endpoints(fields[1], &judging, &view.endpoints);
    }
    if (error == CAP_OK) {
        error = decode_mappings(fields[2], &judging, &view.mappings);
    }
    if (error == CAP_OK) {
        error = decode_slots(fields[3], CAP_TABLE_PINNED, &judging, &view.pinned);
    }
    if (error == CAP_OK) {
        error = decode_slots(fields[4], CAP_TABLE_INITIAL, &judging, &view.initial);
    }
    if (error == CAP_OK) {
        error = decode_keys(fields, &judging, &view);
    }
    if (error == CAP_OK) {
        *ret_view = view;
    }
    return error;
}

enum cap_error cap_image_judge_code(uint64_t code_len, struct cap_refusal *reterr)
{
    if (code_len <= CAP_MAX_CODE_SIZE) {
        return CAP_OK;
    }
    return cap_refuse(reterr, CAP_E_CODE_TOO_LARGE,
                      "the code is %" PRIu64 " bytes long; the limit is %" PRIu64, code_len,
                      (uint64_t)CAP_MAX_CODE_SIZE);
}

enum cap_error cap_image_view_decode(struct cap_bytes body, struct cap_image_view *ret_view)
{
    enum cap_error error = cap_image_view_judge(body, ret_view, NULL);
    return error == CAP_OK ? CAP_OK : CAP_E_BODY_NOT_CANONICAL;
}

/* --- Access -------------------------------------------------------------------------------- */

void cap_image_endpoint_at(const struct cap_image_view *view, size_t index,
                           struct cap_endpoint *ret_endpoint)
{
    (void)decode_endpoint(cap_ssz_list_at(&view->endpoints, index), ret_endpoint);
}

void cap_image_slot_at(const struct cap_ssz_list *slots, size_t index, struct cap_slot *ret_slot)
{
    (void)decode_slot(cap_ssz_list_at(slots, index), ret_slot);
}

bool cap_image_slot_find(const struct cap_ssz_list *slots, struct cap_bytes key,
                         struct cap_slot *ret_slot)
{
    size_t low = 0;
    size_t high = slots->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct cap_slot slot;
        cap_image_slot_at(slots, middle, &slot);
        int order = cap_bytes_compare(slot.key, key);
        if (order == 0) {
            *ret_slot = slot;
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

/* --- A runtime's questions -------------------------------------------------------------------- */

bool cap_image_code_mapping(const struct cap_image_view *view, uint64_t *ret_address,
                            struct cap_bytes *ret_code)
{
    if (view->code.len == 0) {
        return false;
    }
    *ret_address = CAP_CODE_BASE;
    *ret_code = view->code;
    return true;
}

enum cap_error cap_image_mapping_read_only(const struct cap_image_view *view, uint64_t address,
                                           bool *ret_read_only)
{
    bool found = false;
    for (size_t i = 0; i < view->mappings.count; i++) {
        struct cap_mapping mapping;
        struct cap_slot slot;
        cap_mapping_at(&view->mappings, i, &mapping);
        if ((uint32_t)mapping.start != (uint32_t)address) {
            continue;
        }
        found = true;
        if (cap_image_slot_find(&view->pinned, cap_ssz_list_at(&mapping.source, 0), &slot)) {
            *ret_read_only = true;
            return CAP_OK;
        }
    }
    if (!found) {
        return CAP_E_NOT_FOUND;
    }
    *ret_read_only = false;
    return CAP_OK;
}

enum cap_error cap_code_load(const struct cap_image_view *view, struct cap_code *ret_code)
{
    struct cap_code code = {.len = view->code.len};
    if (code.len > 0) {
        code.mapped_len = (code.len + CAP_PAGE_SIZE - 1) / CAP_PAGE_SIZE * CAP_PAGE_SIZE;
        code.data = aligned_alloc(CAP_PAGE_SIZE, code.mapped_len);
        if (code.data == NULL) {
            return CAP_E_NO_MEMORY;
        }
        memcpy(code.data, view->code.data, code.len);
        memset(code.data + code.len, 0, code.mapped_len - code.len);
    }
    *ret_code = code;
    return CAP_OK;
}

void cap_code_free(struct cap_code *code)
{
    if (code == NULL) {
        return;
    }
    free(code->data);
    *code = (struct cap_code){0};
}
