/*
 * Rules 0 to 10, in the order of FORMATS.md section 5: each function below judges one part of the
 * Image and stops at the first rule broken. Messages are made only then.
 */
#include "lib/cap/deblob.h"

#include <inttypes.h>
#include <stdio.h>

/* Rules 1 and 2. */
static enum cap_error check_code(const struct cap_wire_image *image, struct cap_refusal *reterr)
{
    if (image->code_len > CAP_MAX_CODE_SIZE) {
        return cap_refuse(reterr, CAP_E_CODE_TOO_LARGE,
                          "the code is %" PRIu32 " bytes long; the limit is %" PRIu64,
                          image->code_len, (uint64_t)CAP_MAX_CODE_SIZE);
    }
    if ((uint64_t)image->code_off + image->code_len > image->arena_len) {
        return cap_refuse(reterr, CAP_E_CODE_REF_OUT_OF_RANGE,
                          "the code is at %" PRIu32 " + %" PRIu32 " of the arena, which is %" PRIu64
                          " bytes long",
                          image->code_off, image->code_len, image->arena_len);
    }
    return CAP_OK;
}

/* Reports a fault of page reference `index` in `slot`; `what` ends the sentence. */
static enum cap_error refuse_page(struct cap_refusal *reterr, enum cap_error error,
                                  const struct cap_wire_slot *slot, size_t index, const char *what)
{
    struct cap_page_ref ref = cap_page_ref_at(slot->desc.pages, index);
    return cap_refuse(reterr, error,
                      "%s slot %s, page reference %zu (page %" PRIu32 " at %" PRIu32 " + %" PRIu32
                      " of the arena): %s",
                      cap_table_name(slot->table), cap_key_text(slot->key).text, index,
                      ref.page_index, ref.arena_off, ref.len, what);
}

/* Rules 4 to 7 for one page reference. `past` is one past the page before it; 0 for the first. */
static enum cap_error check_page(const struct cap_wire_image *image,
                                 const struct cap_wire_slot *slot, size_t index, uint64_t past,
                                 struct cap_refusal *reterr)
{
    struct cap_page_ref ref = cap_page_ref_at(slot->desc.pages, index);
    char what[96];
    if (ref.len == 0 || ref.len > CAP_PAGE_SIZE) {
        return refuse_page(reterr, CAP_E_DATA_BAD_LEN, slot, index, "a window has 1 to 4096 bytes");
    }
    if ((uint64_t)ref.arena_off + ref.len > image->arena_len) {
        (void)snprintf(what, sizeof(what), "the arena is %" PRIu64 " bytes long", image->arena_len);
        return refuse_page(reterr, CAP_E_DATA_OUT_OF_RANGE, slot, index, what);
    }
    if (ref.page_index >= slot->desc.size / CAP_PAGE_SIZE) {
        (void)snprintf(what, sizeof(what), "the slot has %" PRIu64 " bytes", slot->desc.size);
        return refuse_page(reterr, CAP_E_DATA_PAGE_INDEX_OUT_OF_RANGE, slot, index, what);
    }
    if (ref.page_index < past) {
        (void)snprintf(what, sizeof(what), "it follows page %" PRIu64 "; pages must ascend",
                       past - 1);
        return refuse_page(reterr, CAP_E_DATA_NOT_CANONICAL, slot, index, what);
    }
    return CAP_OK;
}

/* Rule 3, then 4 to 7 for each page. */
static enum cap_error check_data(const struct cap_wire_image *image,
                                 const struct cap_wire_slot *slot, struct cap_refusal *reterr)
{
    uint64_t past = 0;
    if (slot->desc.size % CAP_PAGE_SIZE != 0) {
        return cap_refuse(reterr, CAP_E_DATA_SIZE_NOT_PAGE_MULTIPLE,
                          "%s slot %s: size %" PRIu64 " is not a multiple of %u",
                          cap_table_name(slot->table), cap_key_text(slot->key).text,
                          slot->desc.size, CAP_PAGE_SIZE);
    }
    for (size_t i = 0; i < slot->desc.page_count; i++) {
        enum cap_error error = check_page(image, slot, i, past, reterr);
        if (error != CAP_OK) {
            return error;
        }
        past = (uint64_t)cap_page_ref_at(slot->desc.pages, i).page_index + 1;
    }
    return CAP_OK;
}

static enum cap_error check_slots(const struct cap_wire_image *image, struct cap_refusal *reterr)
{
    for (size_t i = 0; i < cap_wire_slot_count(image); i++) {
        struct cap_wire_slot slot;
        enum cap_error error = CAP_OK;
        cap_wire_slot_at(image, i, &slot);
        if (slot.kind == CAP_KIND_DATA) {
            error = check_data(image, &slot, reterr);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

/* Rule 8. Indexes ascend, so the last one decides. */
static enum cap_error check_endpoints(const struct cap_wire_image *image,
                                      struct cap_refusal *reterr)
{
    for (size_t i = 0; i < image->endpoints.count; i++) {
        struct cap_wire_endpoint endpoint;
        cap_wire_endpoint_at(image, i, &endpoint);
        if (endpoint.register_count == 0) {
            continue;
        }
        unsigned highest = cap_wire_register(&endpoint, endpoint.register_count - 1).index;
        if (highest >= CAP_NUM_REGS) {
            return cap_refuse(reterr, CAP_E_REGISTER_INDEX_OUT_OF_RANGE,
                              "endpoint %s sets register %u; registers are 0 to %u",
                              cap_key_text(endpoint.key).text, highest, CAP_NUM_REGS - 1);
        }
    }
    return CAP_OK;
}

/* Rules 9 and 10. */
static enum cap_error check_mappings(const struct cap_wire_image *image, struct cap_refusal *reterr)
{
    for (size_t i = 0; i < image->mappings.count; i++) {
        struct cap_mapping mapping;
        cap_mapping_at(&image->mappings, i, &mapping);
        if (mapping.source.count == 0) {
            return cap_refuse(reterr, CAP_E_SOURCE_PATH_EMPTY,
                              "memory mapping %zu, at 0x%" PRIx64 ", has an empty source path", i,
                              mapping.start);
        }
        if (mapping.source.count > CAP_MAX_SOURCE_DEPTH) {
            return cap_refuse(reterr, CAP_E_SOURCE_PATH_TOO_DEEP,
                              "memory mapping %zu, at 0x%" PRIx64
                              ", has a source path of %zu steps; the limit is %u",
                              i, mapping.start, mapping.source.count, CAP_MAX_SOURCE_DEPTH);
        }
    }
    return CAP_OK;
}

/* Rules 1 to 10. */
static enum cap_error check(const struct cap_wire_image *image, struct cap_refusal *reterr)
{
    static enum cap_error (*const parts[])(const struct cap_wire_image *, struct cap_refusal *) = {
        check_code,
        check_slots,
        check_endpoints,
        check_mappings,
    };

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        enum cap_error error = parts[i](image, reterr);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

enum cap_error cap_deblob(struct cap_bytes head, uint64_t total_len,
                          struct cap_wire_image *ret_image, struct cap_refusal *reterr)
{
    struct cap_wire_image image;
    struct cap_ssz_fault fault;
    if (cap_wire_image_decode_why(head, total_len, &image, &fault) != CAP_OK) {
        return cap_refuse(reterr, CAP_E_SSZ, "%s", fault.text);
    }
    enum cap_error error = check(&image, reterr);
    if (error == CAP_OK) {
        *ret_image = image;
    }
    return error;
}
