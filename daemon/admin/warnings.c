#include "daemon/admin/warnings.h"

#include "daemon/admin/value.h"
#include "lib/cap/lint.h"

struct warnings {
    struct admin_layout *layout;
    json_t *array;
    uint64_t count;
};

/* Steals `where`, which says what the warning is about. */
static enum cap_error add(struct warnings *warnings, const char *reason, const char *message,
                          json_t *where)
{
    const struct admin_page *page = warnings->layout->page;
    uint64_t index = warnings->count++;
    if (index < page->offset || index - page->offset >= page->limit) {
        json_decref(where);
        return CAP_OK;
    }
    json_t *warning = json_pack("{s:s, s:s}", "reason", reason, "message", message);
    int failed = warning == NULL || where == NULL || json_object_update(warning, where) != 0;
    json_decref(where);
    if (failed) {
        json_decref(warning);
        return CAP_E_NO_MEMORY;
    }
    return admin_push(warnings->array, warning) ? CAP_OK : CAP_E_NO_MEMORY;
}

static enum cap_error warn(struct warnings *warnings, enum cap_warning_reason reason, json_t *where)
{
    return add(warnings, cap_warning_name(reason), cap_warning_text(reason), where);
}

static json_t *at_mapping(const struct cap_mapping *mapping)
{
    return json_pack("{s:o, s:o}", "start", admin_value_address(mapping->start), "size",
                     admin_value_u64(mapping->size));
}

static json_t *at_key(const char *table, struct cap_bytes key)
{
    return json_pack("{s:s, s:o}", "table", table, "key", admin_value_key(key));
}

/* --- Mappings --------------------------------------------------------------------------------- */

static enum cap_error check_source(struct warnings *warnings, const struct cap_mapping *mapping)
{
    enum cap_table table;
    struct cap_slot slot;
    if (!admin_layout_root_slot(warnings->layout, mapping, &table, &slot)) {
        return warn(warnings, CAP_WARN_SOURCE_NOT_A_SLOT, at_mapping(mapping));
    }
    if (mapping->source.count != 1) {
        return CAP_OK;
    }
    struct admin_target target;
    enum cap_error error = admin_layout_resolve(warnings->layout, &slot.cap_hash, &target);
    if (error != CAP_OK || !target.present || target.info.kind != CAP_KIND_DATA ||
        mapping->size <= target.info.size) {
        return error;
    }
    return warn(warnings, CAP_WARN_MAPPING_LARGER_THAN_DATA, at_mapping(mapping));
}

static enum cap_error check_range(struct warnings *warnings, const struct cap_mapping *mapping)
{
    if (mapping->start >= CAP_DATA_BASE && mapping->start <= CAP_ADDRESS_END &&
        mapping->size <= CAP_ADDRESS_END - mapping->start) {
        return CAP_OK;
    }
    return warn(warnings, CAP_WARN_MAPPING_OUT_OF_RANGE, at_mapping(mapping));
}

/* In address order an overlap is a start before the furthest end so far. */
static enum cap_error check_mappings(struct warnings *warnings)
{
    const struct cap_ssz_list *list = &warnings->layout->structure->view.mappings;
    uint64_t furthest = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct admin_placed *placed = &warnings->layout->mappings[i];
        struct cap_mapping mapping;
        cap_mapping_at(list, placed->index, &mapping);
        enum cap_error error = check_range(warnings, &mapping);
        if (error == CAP_OK && placed->start < furthest && placed->end > placed->start) {
            error = warn(warnings, CAP_WARN_MAPPINGS_OVERLAP, at_mapping(&mapping));
        }
        if (error == CAP_OK) {
            error = check_source(warnings, &mapping);
        }
        if (error != CAP_OK) {
            return error;
        }
        if (placed->end > furthest) {
            furthest = placed->end;
        }
    }
    return CAP_OK;
}

/* --- Slots and endpoints ---------------------------------------------------------------------- */

static enum cap_error check_slots(struct warnings *warnings, enum cap_table table,
                                  const struct cap_ssz_list *slots)
{
    for (size_t i = 0; i < slots->count; i++) {
        struct cap_slot slot;
        struct cap_slot other;
        struct admin_target target;
        cap_image_slot_at(slots, i, &slot);
        enum cap_error error = admin_layout_resolve(warnings->layout, &slot.cap_hash, &target);
        json_t *where;
        if (error == CAP_OK && target.looked_up && !target.present) {
            where = at_key(cap_table_name(table), slot.key);
            error = add(warnings, "unresolved_slot",
                        "a slot names a cap that is not published here", where);
        }
        if (error == CAP_OK && table == CAP_TABLE_INITIAL &&
            cap_image_slot_find(&warnings->layout->structure->view.pinned, slot.key, &other)) {
            where = at_key(cap_table_name(table), slot.key);
            error = warn(warnings, CAP_WARN_SLOT_IN_BOTH_TABLES, where);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

/* As the lint of a wire Image does: an offset into the code or an address where it maps. */
static bool entry_in_code(const struct admin_structure *structure, uint64_t entry_pc)
{
    return entry_pc < structure->code_len ||
           (entry_pc >= CAP_CODE_BASE && entry_pc - CAP_CODE_BASE < structure->code_len);
}

static enum cap_error check_endpoints(struct warnings *warnings)
{
    const struct admin_structure *structure = warnings->layout->structure;
    for (size_t i = 0; i < structure->view.endpoints.count; i++) {
        struct cap_endpoint endpoint;
        cap_image_endpoint_at(&structure->view, i, &endpoint);
        if (entry_in_code(structure, endpoint.entry_pc)) {
            continue;
        }
        json_t *where = json_pack("{s:o}", "key", admin_value_key(endpoint.key));
        enum cap_error error = warn(warnings, CAP_WARN_ENTRY_OUTSIDE_CODE, where);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

enum cap_error admin_warnings(struct admin_layout *layout, json_t *array, uint64_t *ret_count)
{
    struct warnings warnings = {.layout = layout, .array = array};
    const struct cap_image_view *view = &layout->structure->view;
    enum cap_error error = check_mappings(&warnings);
    if (error == CAP_OK) {
        error = check_slots(&warnings, CAP_TABLE_PINNED, &view->pinned);
    }
    if (error == CAP_OK) {
        error = check_slots(&warnings, CAP_TABLE_INITIAL, &view->initial);
    }
    if (error == CAP_OK) {
        error = check_endpoints(&warnings);
    }
    if (error == CAP_OK && layout->lookups_left == 0) {
        error = add(&warnings, "lookups_spent", "too many references to look all of them up",
                    json_object());
    }
    if (error == CAP_OK) {
        *ret_count = warnings.count;
    }
    return error;
}
