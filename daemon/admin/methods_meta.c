/* Methods about the socket itself: hello, help, schema. */
#include <stdio.h>
#include <string.h>

#include "daemon/admin/jsonrpc.h"
#include "daemon/admin/limits.h"
#include "daemon/admin/methods.h"
#include "daemon/admin/reference.h"
#include "daemon/admin/value.h"

json_t *admin_hello(struct admin_call *call)
{
    json_t *limits = json_pack("{s:i, s:i, s:i, s:i, s:o}", "line_bytes", (int)JSONRPC_LINE_MAX,
                               "depth", (int)JSONRPC_DEPTH_MAX, "reply_bytes",
                               (int)JSONRPC_REPLY_MAX, "connections", (int)ADMIN_CONNECTIONS_MAX,
                               "idle_ms", admin_value_u64(call->rooms->context->config.idle_ms));
    return json_pack("{s:s, s:i, s:o, s:s, s:o, s:o, s:o}", "version", CAPSTORE_VERSION, "api",
                     ADMIN_API_VERSION, "store_id", admin_value_store_id(cap_store_id(call->store)),
                     "level", admin_level_name(call->level), "uid", admin_value_u64(call->peer.uid),
                     "gid", admin_value_u64(call->peer.gid), "limits", limits);
}

/* The method named in the call, or NULL for all; false with the call's error if it is unknown. */
static bool named_method(struct admin_call *call, const struct admin_method **ret_method)
{
    const struct admin_arg *arg = &call->args[ADMIN_ARG_METHOD];
    *ret_method = arg->given ? admin_method_find(arg->text) : NULL;
    if (!arg->given || *ret_method != NULL) {
        return true;
    }
    admin_error_param(&call->error, ADMIN_OUT_OF_BOUNDS, "method", "unknown method %s", arg->text);
    return false;
}

static json_t *brief(const struct admin_method *method)
{
    size_t len = admin_summary_len(method);
    return json_pack("{s:s, s:s, s:s%, s:s?}", "name", method->name, "level",
                     admin_level_name(method->level), "summary", method->doc, len, "deprecated",
                     method->deprecated);
}

json_t *admin_help(struct admin_call *call)
{
    const struct admin_method *one;
    if (!named_method(call, &one)) {
        return NULL;
    }
    size_t count = 0;
    const struct admin_method *all = admin_methods(&count);
    json_t *list = json_array();
    struct cap_buf text = {0};
    bool failed = list == NULL;
    for (size_t i = 0; i < count && !failed; i++) {
        if (one != NULL && one != &all[i]) {
            continue;
        }
        failed =
            !admin_append(list, brief(&all[i])) ||
            (one != NULL ? admin_help_one(one, &text) : admin_help_line(&all[i], &text)) != CAP_OK;
    }
    json_t *result = NULL;
    if (failed) {
        json_decref(list);
    } else {
        result =
            json_pack("{s:s%, s:o}", "text", (const char *)text.data, text.len, "methods", list);
    }
    cap_buf_free(&text);
    return result;
}

/* --- Schema ----------------------------------------------------------------------------------- */

/* "string or null" as JSON Schema wants it: ["string", "null"]. */
static json_t *types_json(const char *types)
{
    json_t *array = json_array();
    while (array != NULL && *types != '\0') {
        size_t len = strcspn(types, " ");
        if (!admin_append(array, json_stringn(types, len))) {
            json_decref(array);
            return NULL;
        }
        types += len;
        if (strncmp(types, " or ", 4) == 0) {
            types += 4;
        }
    }
    return array;
}

static json_t *result_schema(const struct admin_field *fields)
{
    json_t *properties = json_object();
    for (; properties != NULL && fields->name != NULL; fields++) {
        json_t *field =
            json_pack("{s:o, s:s}", "type", types_json(fields->type), "description", fields->doc);
        if (json_object_set_new(properties, fields->name, field) != 0) {
            json_decref(properties);
            return NULL;
        }
    }
    return json_pack("{s:s, s:o}", "type", "object", "properties", properties);
}

/* How a method shows in `schema`; NULL without memory. */
static json_t *method_schema(const struct admin_method *method)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:s?}", "level", admin_level_name(method->level),
                     "doc", method->doc, "params", admin_params_schema(method->params), "result",
                     result_schema(method->result), "example", json_loads(method->example, 0, NULL),
                     "deprecated", method->deprecated);
}

json_t *admin_schema(struct admin_call *call)
{
    const struct admin_method *one;
    if (!named_method(call, &one)) {
        return NULL;
    }
    size_t count = 0;
    const struct admin_method *all = admin_methods(&count);
    json_t *methods = json_object();
    for (size_t i = 0; methods != NULL && i < count; i++) {
        if (one != NULL && one != &all[i]) {
            continue;
        }
        if (json_object_set_new(methods, all[i].name, method_schema(&all[i])) != 0) {
            json_decref(methods);
            methods = NULL;
        }
    }
    return json_pack("{s:o}", "methods", methods);
}
