#include "daemon/admin/notes.h"

#include "daemon/admin/value.h"
#include "lib/cap/lint.h"

struct notes {
    struct admin_layout *layout;
    json_t *array;
    uint64_t count;
};

/* Steals `where`, which says what the note is about. */
static enum cap_error add(struct notes *notes, const char *reason, const char *message,
                          json_t *where)
{
    const struct admin_page *page = notes->layout->page;
    uint64_t index = notes->count++;
    if (index < page->offset || index - page->offset >= page->limit) {
        json_decref(where);
        return CAP_OK;
    }
    json_t *note = json_pack("{s:s, s:s}", "reason", reason, "message", message);
    int failed = note == NULL || where == NULL || json_object_update(note, where) != 0;
    json_decref(where);
    if (failed) {
        json_decref(note);
        return CAP_E_NO_MEMORY;
    }
    return admin_push(notes->array, note) ? CAP_OK : CAP_E_NO_MEMORY;
}

static enum cap_error warn(struct notes *notes, enum cap_warning_reason reason, json_t *where)
{
    return add(notes, cap_warning_name(reason), cap_warning_text(reason), where);
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

static enum cap_error check_source(struct notes *notes, const struct cap_mapping *mapping)
{
    enum cap_table table;
    struct cap_slot slot;
    if (!admin_layout_root_slot(notes->layout, mapping, &table, &slot)) {
        return warn(notes, CAP_WARN_SOURCE_NOT_A_SLOT, at_mapping(mapping));
    }
    if (mapping->source.count != 1) {
        return CAP_OK;
    }
    struct admin_target target;
    enum cap_error error = admin_layout_resolve(notes->layout, &slot.cap_hash, &target);
    if (error != CAP_OK || !target.present || target.info.kind != CAP_KIND_DATA ||
        mapping->size <= target.info.size) {
        return error;
    }
    return warn(notes, CAP_WARN_MAPPING_LARGER_THAN_DATA, at_mapping(mapping));
}

static enum cap_error check_range(struct notes *notes, const struct cap_mapping *mapping)
{
    if (mapping->start >= CAP_DATA_BASE && mapping->start <= CAP_ADDRESS_END &&
        mapping->size <= CAP_ADDRESS_END - mapping->start) {
        return CAP_OK;
    }
    return warn(notes, CAP_WARN_MAPPING_OUT_OF_RANGE, at_mapping(mapping));
}

/* In address order an overlap is a start before the furthest end so far. */
static enum cap_error check_mappings(struct notes *notes)
{
    const struct cap_ssz_list *list = &notes->layout->structure->view.mappings;
    uint64_t furthest = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct admin_placed *placed = &notes->layout->mappings[i];
        struct cap_mapping mapping;
        cap_mapping_at(list, placed->index, &mapping);
        enum cap_error error = check_range(notes, &mapping);
        if (error == CAP_OK && placed->start < furthest && placed->end > placed->start) {
            error = warn(notes, CAP_WARN_MAPPINGS_OVERLAP, at_mapping(&mapping));
        }
        if (error == CAP_OK) {
            error = check_source(notes, &mapping);
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

static enum cap_error check_slots(struct notes *notes, enum cap_table table,
                                  const struct cap_ssz_list *slots)
{
    for (size_t i = 0; i < slots->count; i++) {
        struct cap_slot slot;
        struct cap_slot other;
        struct admin_target target;
        cap_image_slot_at(slots, i, &slot);
        enum cap_error error = admin_layout_resolve(notes->layout, &slot.cap_hash, &target);
        json_t *where;
        if (error == CAP_OK && target.looked_up && !target.present) {
            where = at_key(cap_table_name(table), slot.key);
            error = add(notes, "unresolved_slot", "a slot names a cap that is not published here",
                        where);
        }
        if (error == CAP_OK && table == CAP_TABLE_INITIAL &&
            cap_image_slot_find(&notes->layout->structure->view.pinned, slot.key, &other)) {
            where = at_key(cap_table_name(table), slot.key);
            error = warn(notes, CAP_WARN_SLOT_IN_BOTH_TABLES, where);
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

static enum cap_error check_endpoints(struct notes *notes)
{
    const struct admin_structure *structure = notes->layout->structure;
    for (size_t i = 0; i < structure->view.endpoints.count; i++) {
        struct cap_endpoint endpoint;
        cap_image_endpoint_at(&structure->view, i, &endpoint);
        if (entry_in_code(structure, endpoint.entry_pc)) {
            continue;
        }
        json_t *where = json_pack("{s:o}", "key", admin_value_key(endpoint.key));
        enum cap_error error = warn(notes, CAP_WARN_ENTRY_OUTSIDE_CODE, where);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

enum cap_error admin_notes(struct admin_layout *layout, json_t *array, uint64_t *ret_count)
{
    struct notes notes = {.layout = layout, .array = array};
    const struct cap_image_view *view = &layout->structure->view;
    enum cap_error error = check_mappings(&notes);
    if (error == CAP_OK) {
        error = check_slots(&notes, CAP_TABLE_PINNED, &view->pinned);
    }
    if (error == CAP_OK) {
        error = check_slots(&notes, CAP_TABLE_INITIAL, &view->initial);
    }
    if (error == CAP_OK) {
        error = check_endpoints(&notes);
    }
    if (error == CAP_OK && layout->lookups_left == 0) {
        error = add(&notes, "lookups_spent", "too many references to look all of them up",
                    json_object());
    }
    if (error == CAP_OK) {
        *ret_count = notes.count;
    }
    return error;
}
