#include "daemon/admin/warnings.h"

#include "daemon/admin/value.h"
#include "lib/cap/lint.h"

struct warnings {
    struct admin_layout *layout;
    json_t *array;
    uint64_t count;
    enum cap_error error; /* the first that a report met */
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
    return admin_append(warnings->array, warning) ? CAP_OK : CAP_E_NO_MEMORY;
}

static json_t *at_mapping(const struct cap_image_view *view, size_t index)
{
    struct cap_mapping mapping;
    cap_mapping_at(&view->mappings, index, &mapping);
    return json_pack("{s:o, s:o}", "start", admin_value_address(mapping.start), "size",
                     admin_value_u64(mapping.size));
}

static json_t *at_slot(enum cap_table table, struct cap_bytes key)
{
    return json_pack("{s:s, s:o}", "table", cap_table_name(table), "key", admin_value_key(key));
}

/* --- What lint says --------------------------------------------------------------------------- */

static enum cap_error size_of(void *ctx, const struct cap_hash *hash, bool *ret_known,
                              uint64_t *ret_size)
{
    struct warnings *warnings = ctx;
    struct admin_target target;
    enum cap_error error = admin_layout_resolve(warnings->layout, hash, &target);
    *ret_known = error == CAP_OK && target.present && target.info.kind == CAP_KIND_DATA;
    *ret_size = *ret_known ? target.info.size : 0;
    return error;
}

static json_t *where_of(const struct cap_image_view *view, const struct cap_warning *warning)
{
    switch (warning->reason) {
    case CAP_WARN_MAPPING_OUT_OF_RANGE:
    case CAP_WARN_MAPPINGS_OVERLAP:
    case CAP_WARN_SOURCE_NOT_A_SLOT:
    case CAP_WARN_MAPPING_LARGER_THAN_DATA:
        return at_mapping(view, warning->index);
    case CAP_WARN_SLOT_IN_BOTH_TABLES:
        return at_slot(CAP_TABLE_INITIAL, warning->key);
    case CAP_WARN_ENTRY_OUTSIDE_CODE:
        return json_pack("{s:o}", "key", admin_value_key(warning->key));
    case CAP_WARN_ARENA_UNUSED:
        break;
    }
    return json_object();
}

static void report(void *ctx, const struct cap_warning *warning)
{
    struct warnings *warnings = ctx;
    if (warnings->error == CAP_OK) {
        warnings->error =
            add(warnings, cap_warning_name(warning->reason), cap_warning_text(warning->reason),
                where_of(&warnings->layout->structure->view, warning));
    }
}

/* --- What became of the references ------------------------------------------------------------ */

static enum cap_error check_slots(struct warnings *warnings, enum cap_table table,
                                  const struct cap_ssz_list *slots)
{
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < slots->count; i++) {
        struct cap_slot slot;
        struct admin_target target;
        cap_image_slot_at(slots, i, &slot);
        error = admin_layout_resolve(warnings->layout, &slot.cap_hash, &target);
        if (error == CAP_OK && target.looked_up && !target.present) {
            error = add(warnings, "unresolved_slot",
                        "a slot names a cap that is not published here", at_slot(table, slot.key));
        }
    }
    return error;
}

enum cap_error admin_warnings(struct admin_layout *layout, json_t *array, uint64_t *ret_count)
{
    struct warnings warnings = {.layout = layout, .array = array};
    const struct cap_structure *structure = layout->structure;
    enum cap_error error =
        cap_lint_cap(&structure->view, structure->code_len, size_of, report, &warnings);
    if (error == CAP_OK) {
        error = warnings.error;
    }
    if (error == CAP_OK) {
        error = check_slots(&warnings, CAP_TABLE_PINNED, &structure->view.pinned);
    }
    if (error == CAP_OK) {
        error = check_slots(&warnings, CAP_TABLE_INITIAL, &structure->view.initial);
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
