/* Methods about the configuration. */
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/methods.h"
#include "daemon/admin/value.h"
#include "daemon/core/config_json.h"
#include "lib/cap/sha256.h"

/* --- config.get ------------------------------------------------------------------------------- */

/* Why a value in use is not the one that was given; NULL: it is. */
static const char *why_other(const struct context *context, const struct config_option *option)
{
    if (!config_differs(&context->config, &context->given, option)) {
        return NULL;
    }
    if (!option->live) {
        return "a restart brings the configured value";
    }
    return option->type == CONFIG_LEVEL ? "log.set changed it"
                                        : "lowered to the limit of file descriptors (ulimit -n, "
                                          "LimitNOFILE=)";
}

static json_t *setting_json(const struct context *context, size_t row,
                            const struct config_option *option)
{
    const struct config_origin origin = context->given.origins[row];
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:b, s:s?}", "name", option->name, "value",
                     config_json_value(&context->config, option), "configured",
                     config_json_value(&context->given, option), "source",
                     config_source_name(origin.source), "line",
                     origin.line > 0 ? json_integer(origin.line) : json_null(), "live",
                     option->live ? 1 : 0, "note", why_other(context, option));
}

/* What the environment decides, in the same form. */
static json_t *hashing_json(void)
{
    const char *given = getenv("CAPSTORE_SHA256");
    bool set = given != NULL && given[0] != '\0';
    return json_pack("{s:s, s:s, s:s, s:s, s:n, s:b, s:n}", "name", "CAPSTORE_SHA256", "value",
                     cap_sha256_kernel_name(), "configured", set ? given : cap_sha256_kernel_name(),
                     "source", set ? "environment" : "default", "line", "live", 0, "note");
}

static json_t *file_json(const struct config *given)
{
    return given->config != NULL ? admin_value_text(given->config) : json_null();
}

json_t *admin_config_get(struct admin_call *call)
{
    struct context *context = call->rooms->context;
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    json_t *list = json_array();
    pthread_mutex_lock(&context->config_lock);
    json_t *file = file_json(&context->given);
    bool failed = list == NULL;
    for (size_t i = 0; !failed && i < count; i++) {
        failed = !admin_append(list, setting_json(context, i, &options[i]));
    }
    pthread_mutex_unlock(&context->config_lock);
    failed = failed || !admin_append(list, hashing_json());
    if (failed) {
        json_decref(list);
        json_decref(file);
        return NULL;
    }
    return json_pack("{s:o, s:o}", "file", file, "settings", list);
}

/* --- config.test, config.reload --------------------------------------------------------------- */

/* The changes that are live, or those that take a restart. */
static json_t *changes_json(const struct config_changes *changes, bool live)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < changes->count; i++) {
        const struct config_change *change = &changes->rows[i];
        if (change->option->live == live &&
            !admin_append(list, json_pack("{s:s, s:o, s:o}", "name", change->option->name, "from",
                                          admin_value_text(change->from), "to",
                                          admin_value_text(change->to)))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *read_again(struct admin_call *call, bool apply)
{
    struct context *context = call->rooms->context;
    struct config_changes changes = {0};
    char reason[CONFIG_REASON_SIZE] = "";
    enum cap_error error = context->reload(context->owner, apply, &changes, reason);
    if (error != CAP_OK) {
        admin_error_cap(&call->error, error);
        snprintf(call->error.message, sizeof(call->error.message), "%s", reason);
        return NULL;
    }
    return json_pack("{s:o, s:o}", "changed", changes_json(&changes, true), "restart_needed",
                     changes_json(&changes, false));
}

json_t *admin_config_test(struct admin_call *call)
{
    return read_again(call, false);
}

json_t *admin_config_reload(struct admin_call *call)
{
    return read_again(call, true);
}
