/* The method quota.list. */
#include <inttypes.h>
#include <stdlib.h>

#include "daemon/admin/methods.h"
#include "daemon/admin/value.h"
#include "daemon/publish/quota.h"

static json_t *row_json(const struct quota_row *row)
{
    bool anonymous = row->uid == QUOTA_ANONYMOUS;
    char name[32];
    snprintf(name, sizeof(name), "uid:%" PRIu32, row->uid);
    return json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "publisher", anonymous ? "anonymous" : name, "uid",
        anonymous ? json_null() : admin_value_u64(row->uid), "bytes",
        admin_value_u64(row->used.bytes), "caps", admin_value_u64(row->used.caps),
        "under_way_bytes", admin_value_u64(row->under_way.bytes), "under_way_caps",
        admin_value_u64(row->under_way.caps), "last_hour_bytes", admin_value_u64(row->last_hour));
}

static json_t *limit_json(uint64_t limit)
{
    return limit > 0 ? admin_value_u64(limit) : json_null();
}

static json_t *limits_json(const struct config *config)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "bytes", limit_json(config->quota_bytes), "caps",
                     limit_json(config->quota_caps), "hourly_bytes",
                     limit_json(config->quota_hourly), "total_bytes",
                     limit_json(config->quota_total));
}

static json_t *list_json(const struct quota_row *rows, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (!admin_append(list, row_json(&rows[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *admin_quota_list(struct admin_call *call)
{
    const struct context *context = call->rooms->context;
    size_t limit = (size_t)call->args[ADMIN_PAGE_LIMIT].integer;
    int64_t from = call->args[ADMIN_PAGE_CURSOR].integer;
    struct quota_row *rows = calloc(limit, sizeof(*rows));
    struct cap_counts counts;
    size_t count = 0;
    if (rows == NULL) {
        return NULL;
    }
    enum cap_error error = admin_store_counts(call->store, &counts);
    if (error == CAP_OK && from <= UINT32_MAX) {
        error = quota_list(context->quotas, call->store, (uint32_t)from, limit, rows, &count);
    }
    json_t *result = NULL;
    if (error != CAP_OK) {
        admin_error_cap(&call->error, error);
    } else {
        bool more = count == limit && rows[count - 1].uid != UINT32_MAX;
        result = json_pack(
            "{s:o, s:o, s:o, s:o}", "publishers", list_json(rows, count), "limits",
            limits_json(&context->config), "total_bytes",
            admin_value_u64(counts.body_bytes[CAP_KIND_IMAGE] + counts.body_bytes[CAP_KIND_DATA]),
            "cursor", more ? json_integer((json_int_t)rows[count - 1].uid + 1) : json_null());
    }
    free(rows);
    return result;
}
