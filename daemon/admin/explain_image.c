/*
 * Lays an Image out for a person: code, endpoints, mappings in address order with what they show,
 * slots with what they resolve to, and warnings. Lists are cut to the page that was asked for and
 * say how long they are, so that the answer is bounded.
 */
#include "daemon/admin/explain_image.h"

#include <stdio.h>

#include "daemon/admin/value.h"
#include "daemon/admin/warnings.h"

enum cap_error admin_layout_resolve(struct admin_layout *layout, const struct cap_hash *hash,
                                    struct admin_target *ret_target)
{
    *ret_target = (struct admin_target){.looked_up = layout->lookups_left > 0};
    if (!ret_target->looked_up) {
        return CAP_OK;
    }
    layout->lookups_left--;
    enum cap_error error = cap_store_find(layout->read, hash, &ret_target->info);
    ret_target->present = error == CAP_OK;
    return error == CAP_E_NOT_FOUND ? CAP_OK : error;
}

/* --- Lists, a page of each -------------------------------------------------------------------- */

/* Makes entry `index` of a list; NULL without memory, or with *ret_error as the store fails. */
typedef json_t *(*make_entry)(struct admin_layout *layout, const void *list, size_t index,
                              enum cap_error *ret_error);

static enum cap_error make_list(struct admin_layout *layout, const void *list, size_t count,
                                make_entry make, json_t **ret_array)
{
    json_t *array = json_array();
    uint64_t from = layout->page->offset;
    enum cap_error error = array != NULL ? CAP_OK : CAP_E_NO_MEMORY;
    for (uint64_t i = from; error == CAP_OK && i < count && i - from < layout->page->limit; i++) {
        json_t *entry = make(layout, list, (size_t)i, &error);
        if (!admin_append(array, entry) && error == CAP_OK) {
            error = CAP_E_NO_MEMORY;
        }
    }
    if (error != CAP_OK) {
        json_decref(array);
        return error;
    }
    *ret_array = array;
    return CAP_OK;
}

static json_t *keys_json(const struct cap_ssz_list *keys, const struct admin_page *page)
{
    json_t *array = json_array();
    uint64_t from = page->offset;
    for (uint64_t i = from; array != NULL && i < keys->count && i - from < page->limit; i++) {
        if (!admin_append(array, admin_value_key(cap_ssz_list_at(keys, (size_t)i)))) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* Registers that are not zero, by their number. */
static json_t *registers_json(const struct cap_endpoint *endpoint)
{
    json_t *object = json_object();
    for (unsigned i = 0; object != NULL && i < CAP_NUM_REGS; i++) {
        char name[4];
        snprintf(name, sizeof(name), "%u", i % 100);
        if (endpoint->initial_regs[i] != 0 &&
            json_object_set_new(object, name, admin_value_address(endpoint->initial_regs[i]))) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *endpoint_json(struct admin_layout *layout, const void *list, size_t index,
                             enum cap_error *ret_error)
{
    (void)list;
    (void)ret_error;
    struct cap_endpoint endpoint;
    cap_image_endpoint_at(&layout->structure->view, index, &endpoint);
    return json_pack("{s:o, s:o, s:o, s:i, s:o}", "key", admin_value_key(endpoint.key), "entry_pc",
                     admin_value_address(endpoint.entry_pc), "stack_top",
                     admin_value_address(endpoint.stack_top), "arg_cnode_size",
                     (int)endpoint.arg_cnode_size, "initial_regs", registers_json(&endpoint));
}

static json_t *mapping_json(struct admin_layout *layout, const void *list, size_t index,
                            enum cap_error *ret_error)
{
    (void)ret_error;
    const struct cap_placed *placed = &layout->places.mappings[index];
    struct cap_mapping mapping;
    enum cap_table table;
    struct cap_slot slot;
    const struct admin_page whole_path = {.limit = CAP_MAX_SOURCE_DEPTH};
    cap_mapping_at(list, placed->index, &mapping);
    bool found = cap_image_mapping_memory(&layout->structure->view, &mapping, &table, &slot);
    return json_pack("{s:o, s:o, s:o, s:b, s:o, s:o, s:o}", "start",
                     admin_value_address(mapping.start), "end", admin_value_address(placed->end),
                     "size", admin_value_u64(mapping.size), "read_only", (int)placed->read_only,
                     "source", keys_json(&mapping.source, &whole_path), "table",
                     found ? json_string(cap_table_name(table)) : json_null(), "cap_hash",
                     found ? admin_value_hash(&slot.cap_hash) : json_null());
}

static json_t *slot_json(struct admin_layout *layout, const void *list, size_t index,
                         enum cap_error *ret_error)
{
    struct cap_slot slot;
    struct admin_target target;
    cap_image_slot_at(list, index, &slot);
    *ret_error = admin_layout_resolve(layout, &slot.cap_hash, &target);
    if (*ret_error != CAP_OK) {
        return NULL;
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "slot", admin_value_key(slot.key), "cap_hash",
                     admin_value_hash(&slot.cap_hash), "present",
                     target.looked_up ? json_boolean(target.present) : json_null(), "kind",
                     target.present ? json_string(admin_kind_name(target.info.kind)) : json_null(),
                     "size", target.present ? admin_value_u64(target.info.size) : json_null());
}

/* --- The whole -------------------------------------------------------------------------------- */

static json_t *code_json(uint64_t len)
{
    uint64_t mapped = (len + CAP_PAGE_SIZE - 1) / CAP_PAGE_SIZE * CAP_PAGE_SIZE;
    return json_pack("{s:o, s:o, s:o}", "start",
                     len > 0 ? admin_value_address(CAP_CODE_BASE) : json_null(), "size",
                     admin_value_u64(len), "mapped_size", admin_value_u64(mapped));
}

/* Everything but the lists of structures: one object, or NULL without memory. */
static json_t *outline(const struct admin_layout *layout, const struct cap_info *info)
{
    const struct cap_image_view *view = &layout->structure->view;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "image_content_hash",
        info->has_content_hash ? admin_value_hash(&info->content_hash) : json_null(), "code",
        code_json(layout->structure->code_len), "endpoint_count",
        admin_value_u64(view->endpoints.count), "mapping_count",
        admin_value_u64(view->mappings.count), "pinned_count", admin_value_u64(view->pinned.count),
        "initial_count", admin_value_u64(view->initial.count), "gas_count",
        admin_value_u64(view->gas_slots.count), "quota_count",
        admin_value_u64(view->quota_slots.count), "structure_bytes",
        admin_value_u64(layout->structure->bytes.len), "yield_receiver_slot",
        view->has_yield_receiver ? admin_value_key(view->yield_receiver_slot) : json_null(),
        "gas_slots", keys_json(&view->gas_slots, layout->page), "quota_slots",
        keys_json(&view->quota_slots, layout->page));
}

static enum cap_error add_list(struct admin_layout *layout, json_t *object, const char *name,
                               const struct cap_ssz_list *list, make_entry make)
{
    json_t *array = NULL;
    enum cap_error error = make_list(layout, list, list->count, make, &array);
    if (error != CAP_OK) {
        return error;
    }
    return json_object_set_new(object, name, array) == 0 ? CAP_OK : CAP_E_NO_MEMORY;
}

static enum cap_error add_warnings(struct admin_layout *layout, json_t *object)
{
    uint64_t count = 0;
    json_t *array = json_array();
    enum cap_error error = array != NULL ? admin_warnings(layout, array, &count) : CAP_E_NO_MEMORY;
    if (json_object_set_new(object, "warnings", array) != 0 ||
        json_object_set_new(object, "warning_count", admin_value_u64(count)) != 0) {
        return error != CAP_OK ? error : CAP_E_NO_MEMORY;
    }
    return error;
}

static enum cap_error lay_out(struct admin_layout *layout, json_t *object)
{
    const struct cap_image_view *view = &layout->structure->view;
    enum cap_error error = add_list(layout, object, "endpoints", &view->endpoints, endpoint_json);
    if (error == CAP_OK) {
        error = add_list(layout, object, "mappings", &view->mappings, mapping_json);
    }
    if (error == CAP_OK) {
        error = add_list(layout, object, "pinned", &view->pinned, slot_json);
    }
    if (error == CAP_OK) {
        error = add_list(layout, object, "initial", &view->initial, slot_json);
    }
    return error == CAP_OK ? add_warnings(layout, object) : error;
}

enum cap_error admin_explain_image(struct cap_read *read, const struct cap_hash *hash,
                                   const struct cap_info *info, const struct admin_page *page,
                                   json_t **ret_layout)
{
    struct cap_structure structure;
    enum cap_error error = admin_structure_read(read, hash, info->body_len, &structure);
    if (error != CAP_OK) {
        return error;
    }
    struct admin_layout layout = {
        .read = read, .structure = &structure, .page = page, .lookups_left = ADMIN_LOOKUPS_MAX};
    json_t *object = outline(&layout, info);
    error = object != NULL ? cap_layout_make(&structure.view, &layout.places) : CAP_E_NO_MEMORY;
    if (error == CAP_OK) {
        error = lay_out(&layout, object);
    }
    cap_layout_free(&layout.places);
    cap_structure_free(&structure);
    if (error != CAP_OK) {
        json_decref(object);
        return error;
    }
    *ret_layout = object;
    return CAP_OK;
}
