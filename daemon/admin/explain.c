/*
 * cap.explain: the kind decides who lays it out; this file has what both share.
 */
#include "daemon/admin/explain.h"

#include "daemon/admin/explain_data.h"
#include "daemon/admin/explain_image.h"
#include "daemon/admin/value.h"

/* Steals `layout`. */
static json_t *whole(const struct cap_hash *hash, const struct cap_info *info, json_t *layout)
{
    bool is_image = info->kind == CAP_KIND_IMAGE;
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o}", "cap_hash", admin_value_hash(hash), "kind",
                     admin_kind_name(info->kind), "body_len", admin_value_u64(info->body_len),
                     "published", admin_value_time(info->published_us), "image",
                     is_image ? layout : json_null(), "data", is_image ? json_null() : layout);
}

enum cap_error admin_explain(struct cap_read *read, const struct cap_hash *hash,
                             const struct admin_page *page, json_t **ret_object)
{
    struct cap_info info;
    enum cap_error error = cap_store_find(read, hash, &info);
    if (error != CAP_OK) {
        return error;
    }
    json_t *layout = NULL;
    if (info.kind == CAP_KIND_IMAGE) {
        error = admin_explain_image(read, hash, &info, page, &layout);
    } else {
        error = admin_explain_data(read, hash, &info, page, &layout);
    }
    if (error != CAP_OK) {
        return error;
    }
    json_t *object = whole(hash, &info, layout);
    if (object == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *ret_object = object;
    return CAP_OK;
}
