#include "daemon/admin/params.h"

#include <inttypes.h>
#include <stdio.h>

/* --- Checking --------------------------------------------------------------------------------- */

static bool read_integer(const struct admin_param *param, json_int_t value, struct admin_arg *arg,
                         struct admin_error *error)
{
    if (value < param->min || value > param->max) {
        admin_error_param(error, ADMIN_OUT_OF_BOUNDS, param->name,
                          "%s must be from %" PRId64 " to %" PRId64, param->name, param->min,
                          param->max);
        return false;
    }
    arg->integer = value;
    return true;
}

static bool read_choice(const struct admin_param *param, const char *text, struct admin_arg *arg,
                        struct admin_error *error)
{
    char words[192] = "";
    size_t used = 0;
    for (unsigned i = 0; param->choices[i] != NULL; i++) {
        if (strcmp(param->choices[i], text) == 0) {
            arg->choice = i;
            return true;
        }
        int n = snprintf(words + used, sizeof(words) - used, " %s", param->choices[i]);
        used += n > 0 && (size_t)n < sizeof(words) - used ? (size_t)n : 0;
    }
    admin_error_param(error, ADMIN_OUT_OF_BOUNDS, param->name, "%s must be one of:%s", param->name,
                      words);
    return false;
}

static bool read_choices(const struct admin_param *param, json_t *array, struct admin_arg *arg,
                         struct admin_error *error)
{
    size_t i;
    json_t *word;
    json_array_foreach(array, i, word)
    {
        if (!json_is_string(word)) {
            admin_error_param(error, ADMIN_WRONG_TYPE, param->name,
                              "%s must be an array of strings", param->name);
            return false;
        }
        if (!read_choice(param, json_string_value(word), arg, error)) {
            return false;
        }
        arg->set |= UINT32_C(1) << arg->choice;
    }
    if (arg->set == 0) {
        admin_error_param(error, ADMIN_OUT_OF_BOUNDS, param->name, "%s must name at least one",
                          param->name);
        return false;
    }
    return true;
}

static bool read_hash(const struct admin_param *param, const char *text, struct admin_arg *arg,
                      struct admin_error *error)
{
    if (cap_hash_parse(text, &arg->hash) == CAP_OK) {
        return true;
    }
    admin_error_param(error, ADMIN_OUT_OF_BOUNDS, param->name, "%s must be 64 hex digits",
                      param->name);
    return false;
}

/* The digits are filled up with zeros to a whole hash, so that an odd count needs no case. */
static bool read_prefix(const struct admin_param *param, const char *text, struct admin_arg *arg,
                        struct admin_error *error)
{
    if (text[0] == '0' && text[1] == 'x') {
        text += 2;
    }
    size_t digits = strlen(text);
    char hex[CAP_HASH_HEX_SIZE];
    memset(hex, '0', sizeof(hex) - 1);
    hex[sizeof(hex) - 1] = '\0';
    if (digits < sizeof(hex)) {
        memcpy(hex, text, digits);
    }
    if (digits >= sizeof(hex) || cap_hash_parse(hex, &arg->hash) != CAP_OK) {
        admin_error_param(error, ADMIN_OUT_OF_BOUNDS, param->name,
                          "%s must be at most 64 hex digits", param->name);
        return false;
    }
    arg->bits = (unsigned)digits * 4;
    return true;
}

static bool read_word(const struct admin_param *param, const char *text, struct admin_arg *arg,
                      struct admin_error *error)
{
    size_t len = strlen(text);
    if (len < (uint64_t)param->min || len > (uint64_t)param->max) {
        admin_error_param(error, ADMIN_OUT_OF_BOUNDS, param->name,
                          "%s must be a string of %" PRId64 " to %" PRId64 " bytes", param->name,
                          param->min, param->max);
        return false;
    }
    arg->text = text;
    return true;
}

static bool read_boolean(const struct admin_param *param, json_t *value, struct admin_arg *arg,
                         struct admin_error *error)
{
    if (!json_is_boolean(value)) {
        admin_error_param(error, ADMIN_WRONG_TYPE, param->name, "%s must be true or false",
                          param->name);
        return false;
    }
    arg->given = true;
    arg->boolean = json_is_true(value);
    return true;
}

static bool read_name(const struct admin_param *param, const char *text, struct admin_arg *arg,
                      struct admin_error *error)
{
    bool spaces = param->type == ADMIN_TEXT;
    for (const char *at = text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~' || (*at == ' ' && !spaces)) {
            admin_error_param(error, ADMIN_OUT_OF_BOUNDS, param->name,
                              "%s must be printable ASCII%s", param->name,
                              spaces ? "" : " without spaces");
            return false;
        }
    }
    return read_word(param, text, arg, error);
}

static bool read_text(const struct admin_param *param, const char *text, struct admin_arg *arg,
                      struct admin_error *error)
{
    switch (param->type) {
    case ADMIN_CHOICE:
        return read_choice(param, text, arg, error);
    case ADMIN_HASH:
        return read_hash(param, text, arg, error);
    case ADMIN_PREFIX:
        return read_prefix(param, text, arg, error);
    case ADMIN_WORD:
        return read_word(param, text, arg, error);
    case ADMIN_NAME:
    case ADMIN_TEXT:
        return read_name(param, text, arg, error);
    case ADMIN_BOOLEAN:
    case ADMIN_INTEGER:
    case ADMIN_CHOICES:
        break;
    }
    return false;
}

static bool read_one(const struct admin_param *param, json_t *value, struct admin_arg *arg,
                     struct admin_error *error)
{
    static const struct {
        json_type type;
        const char *name;
    } expected[] = {
        [ADMIN_INTEGER] = {JSON_INTEGER, "an integer"},
        [ADMIN_CHOICE] = {JSON_STRING, "a string, in quotes"},
        [ADMIN_CHOICES] = {JSON_ARRAY, "an array of strings"},
        [ADMIN_HASH] = {JSON_STRING, "a string, in quotes"},
        [ADMIN_PREFIX] = {JSON_STRING, "a string, in quotes"},
        [ADMIN_WORD] = {JSON_STRING, "a string, in quotes"},
        [ADMIN_NAME] = {JSON_STRING, "a string, in quotes"},
        [ADMIN_TEXT] = {JSON_STRING, "a string, in quotes"},
    };
    if (param->type == ADMIN_BOOLEAN) {
        return read_boolean(param, value, arg, error);
    }
    if (json_typeof(value) != expected[param->type].type) {
        admin_error_param(error, ADMIN_WRONG_TYPE, param->name, "%s must be %s", param->name,
                          expected[param->type].name);
        return false;
    }
    arg->given = true;
    if (param->type == ADMIN_INTEGER) {
        return read_integer(param, json_integer_value(value), arg, error);
    }
    if (param->type == ADMIN_CHOICES) {
        return read_choices(param, value, arg, error);
    }
    return read_text(param, json_string_value(value), arg, error);
}

static bool is_known(const struct admin_param *params, const char *name)
{
    for (; params->name != NULL; params++) {
        if (strcmp(params->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool all_known(const struct admin_param *params, json_t *given, struct admin_error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach(given, name, value)
    {
        if (!is_known(params, name)) {
            admin_error_param(error, ADMIN_UNKNOWN_PARAM, name, "unknown param %.60s", name);
            return false;
        }
    }
    return true;
}

bool admin_params_read(const struct admin_param *params, json_t *given,
                       struct admin_arg ret_args[ADMIN_MAX_PARAMS], struct admin_error *ret_error)
{
    struct admin_arg args[ADMIN_MAX_PARAMS] = {{0}};
    if (!all_known(params, given, ret_error)) {
        return false;
    }
    for (size_t i = 0; params[i].name != NULL; i++) {
        args[i].integer = params[i].fallback;
        json_t *value = json_object_get(given, params[i].name);
        if (value == NULL && params[i].required) {
            admin_error_param(ret_error, ADMIN_MISSING_PARAM, params[i].name, "%s is required",
                              params[i].name);
            return false;
        }
        if (value != NULL && !read_one(&params[i], value, &args[i], ret_error)) {
            return false;
        }
    }
    memcpy(ret_args, args, sizeof(args));
    return true;
}

/* --- The schema ------------------------------------------------------------------------------- */

static json_t *choices_json(const char *const *choices)
{
    json_t *array = json_array();
    for (; array != NULL && *choices != NULL; choices++) {
        if (json_array_append_new(array, json_string(*choices)) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *param_schema(const struct admin_param *param)
{
    switch (param->type) {
    case ADMIN_INTEGER:
        return json_pack("{s:s, s:I, s:I, s:I, s:s}", "type", "integer", "minimum",
                         (json_int_t)param->min, "maximum", (json_int_t)param->max, "default",
                         (json_int_t)param->fallback, "description", param->doc);
    case ADMIN_BOOLEAN:
        return json_pack("{s:s, s:b, s:s}", "type", "boolean", "default", 0, "description",
                         param->doc);
    case ADMIN_CHOICE:
        return json_pack("{s:s, s:o, s:s}", "type", "string", "enum", choices_json(param->choices),
                         "description", param->doc);
    case ADMIN_CHOICES:
        return json_pack("{s:s, s:{s:s, s:o}, s:i, s:s}", "type", "array", "items", "type",
                         "string", "enum", choices_json(param->choices), "minItems", 1,
                         "description", param->doc);
    case ADMIN_HASH:
        return json_pack("{s:s, s:s, s:s}", "type", "string", "pattern", "^(0x)?[0-9a-fA-F]{64}$",
                         "description", param->doc);
    case ADMIN_PREFIX:
        return json_pack("{s:s, s:s, s:s}", "type", "string", "pattern", "^(0x)?[0-9a-fA-F]{0,64}$",
                         "description", param->doc);
    case ADMIN_NAME:
    case ADMIN_TEXT:
        return json_pack("{s:s, s:s, s:I, s:I, s:s}", "type", "string", "pattern",
                         param->type == ADMIN_TEXT ? "^[ -~]*$" : "^[!-~]*$", "minLength",
                         (json_int_t)param->min, "maxLength", (json_int_t)param->max, "description",
                         param->doc);
    case ADMIN_WORD:
        return json_pack("{s:s, s:I, s:I, s:s}", "type", "string", "minLength",
                         (json_int_t)param->min, "maxLength", (json_int_t)param->max, "description",
                         param->doc);
    }
    return NULL;
}

json_t *admin_params_schema(const struct admin_param *params)
{
    json_t *properties = json_object();
    json_t *required = json_array();
    for (; params->name != NULL; params++) {
        if (json_object_set_new(properties, params->name, param_schema(params)) != 0) {
            goto fail;
        }
        if (params->required && json_array_append_new(required, json_string(params->name)) != 0) {
            goto fail;
        }
    }
    return json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties, "required",
                     required, "additionalProperties", 0);
fail:
    json_decref(properties);
    json_decref(required);
    return NULL;
}
