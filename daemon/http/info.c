#include "daemon/http/info.h"

#include <stdlib.h>

#include "daemon/admin/explain.h"
#include "daemon/admin/value.h"
#include "daemon/http/caps.h"
#include "lib/cap/slice.h"

bool http_info_page(const struct http_call *call, struct admin_page *ret_page)
{
    const char *text = http_argument_of(call, "offset");
    *ret_page = (struct admin_page){.offset = 0, .limit = HTTP_LIST_MAX};
    if (text == NULL) {
        return true;
    }
    size_t len = strlen(text);
    if (len == 0 || len > 18 || strspn(text, "0123456789") != len) {
        return false;
    }
    ret_page->offset = strtoull(text, NULL, 10);
    return true;
}

/* What is known without a layout, as admin_explain has it. */
static json_t *outline(const struct cap_hash *hash, const struct cap_info *info)
{
    return json_pack("{s:o, s:s, s:o, s:o, s:n, s:n}", "cap_hash", admin_value_hash(hash), "kind",
                     admin_kind_name(info->kind), "body_len", admin_value_u64(info->body_len),
                     "published", admin_value_time(info->published_us), "image", "data");
}

enum cap_error http_info_read(struct cap_store *store, const struct cap_hash *hash,
                              const struct admin_page *page, json_t **ret_object)
{
    struct cap_read *read = NULL;
    struct cap_info info;
    json_t *object = NULL;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error != CAP_OK) {
        return error;
    }
    error = cap_store_find(read, hash, &info);
    if (error == CAP_OK) {
        error = admin_explain(read, hash, page, &object);
    }
    cap_store_read_end(read);
    if (error == CAP_E_STRUCTURE_TOO_LARGE) {
        object = outline(hash, &info);
        error = object == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    }
    if (error != CAP_OK) {
        return error;
    }
    if (json_object_set_new(object, "size", admin_value_u64(info.size)) != 0 ||
        json_object_set_new(object, "pages", admin_value_u64(cap_slice_page_count(info.size))) !=
            0) {
        json_decref(object);
        return CAP_E_NO_MEMORY;
    }
    *ret_object = object;
    return CAP_OK;
}

/* Takes out what depends on the store, and may be otherwise tomorrow. */
static void keep_what_holds(json_t *object)
{
    static const char *const lists[] = {"pinned", "initial"};
    json_t *image = json_object_get(object, "image");
    (void)json_object_del(object, "published");
    (void)json_object_del(image, "image_content_hash"); /* the first of several that lead here */
    (void)json_object_del(image, "warnings");
    (void)json_object_del(image, "warning_count");
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        size_t index;
        json_t *slot;
        json_array_foreach(json_object_get(image, lists[i]), index, slot)
        {
            (void)json_object_del(slot, "present");
            (void)json_object_del(slot, "kind");
            (void)json_object_del(slot, "size");
        }
    }
}

enum MHD_Result http_info(const struct http_call *call, const struct cap_hash *hash)
{
    struct admin_page page;
    json_t *object = NULL;
    if (!http_info_page(call, &page)) {
        return http_answer_error(call, CAP_E_INVALID_ARGUMENT, "offset: a whole number");
    }
    enum cap_error error = http_info_read(call->http->context->store, hash, &page, &object);
    if (error != CAP_OK) {
        return http_caps_unserved(call, hash, error);
    }
    keep_what_holds(object);
    char *dump = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(object);
    if (dump == NULL) {
        return http_answer_error(call, CAP_E_NO_MEMORY, NULL);
    }
    struct cap_buf text = {.data = (uint8_t *)dump, .len = strlen(dump)};
    unsigned status = http_is_known(call, hash) ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK;
    return http_answer_text(call, status, "application/json", &text, HTTP_CACHE_FOREVER, hash);
}
