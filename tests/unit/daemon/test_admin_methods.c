/*
 * The table of methods: every row is called as its example says, its result is what the row says,
 * and every way of calling it wrongly that the row implies is refused with the reason for it.
 */
#include "tests/unit/daemon/test_admin_fixture.h"

#include <stdio.h>

#include "daemon/admin/reference.h"

/* The row's example, with the hash of a cap that is there, and the first job. */
static json_t *example_of(struct fixture *fixture, const struct admin_method *method)
{
    json_t *params = json_loads(method->example, 0, NULL);
    assert_true(json_is_object(params));
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(&fixture->image, hex);
    if (json_object_get(params, "hash") != NULL) {
        json_object_set_new(params, "hash", json_string(hex));
    }
    if (strcmp(method->name, "jobs.cancel") == 0 || strcmp(method->name, "scrub.pause") == 0) {
        fixture_start_job(fixture); /* which is a scrub */
    } else if (strcmp(method->name, "scrub.start") == 0) {
        fixture_end_job(fixture);
    }
    if (strcmp(method->name, "roots.remove") == 0) {
        fixture_set_root(fixture, json_string_value(json_object_get(params, "name")));
    }
    if (strcmp(method->name, "cap.find") == 0) {
        json_object_set_new(params, "prefix", json_string(hex));
    }
    return params;
}

/* Calls with a params object, which is stolen; returns the reason, "ok" when it worked. */
static const char *reason_of(struct fixture *fixture, enum admin_level level, const char *method,
                             json_t *params, struct admin_error *ret_error)
{
    char *text = json_dumps(params, 0);
    json_t *result = fixture_call(fixture, level, method, text, ret_error);
    const char *reason = result != NULL ? "ok" : ret_error->reason;
    json_decref(result);
    json_decref(params);
    free(text);
    return reason;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    case JSON_NULL:
        return "null";
    case JSON_REAL:
        break;
    }
    return "real";
}

/* Every member is documented with its type, and every documented member is there. */
static void assert_as_documented(const struct admin_method *method, json_t *result)
{
    size_t count = 0;
    for (const struct admin_field *field = method->result; field->name != NULL; field++, count++) {
        json_t *value = json_object_get(result, field->name);
        if (value == NULL || strstr(field->type, type_name(value)) == NULL) {
            fail_msg("%s: %s is %s, not %s", method->name, field->name,
                     value ? type_name(value) : "absent", field->type);
        }
        assert_true(strlen(field->doc) > 2);
    }
    assert_int_equal(json_object_size(result), count);
}

static void each_example_works_and_gives_what_is_documented(void **state)
{
    struct fixture *fixture = *state;
    size_t count = 0;
    const struct admin_method *methods = admin_methods(&count);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        json_t *example = example_of(fixture, &methods[i]);
        char *params = json_dumps(example, 0);
        json_t *result = fixture_result(fixture, methods[i].name, params);
        assert_as_documented(&methods[i], result);
        assert_ptr_equal(admin_method_find(methods[i].name), &methods[i]);
        json_decref(result);
        json_decref(example);
        free(params);
    }
}

/* --- Wrong calls, from the table -------------------------------------------------------------- */

static void assert_refused(struct fixture *fixture, const struct admin_method *method,
                           const char *param, json_t *value, const char *reason)
{
    struct admin_error error;
    json_t *params = example_of(fixture, method);
    if (value != NULL) {
        json_object_set_new(params, param, value);
    } else {
        json_object_del(params, param);
    }
    char *text = json_dumps(params, 0);
    const char *got = reason_of(fixture, ADMIN_ADMIN, method->name, params, &error);
    if (strcmp(got, reason) != 0) {
        fail_msg("%s %s: %s, not %s", method->name, text, got, reason);
    }
    assert_string_equal(error.param, param);
    assert_int_equal(error.code, -32602);
    assert_non_null(strstr(error.message, param)); /* for a reader who sees only the message */
    assert_true(strlen(error.hint) > 0);
    free(text);
}

static json_t *repeat(char c, size_t count)
{
    char text[512];
    assert_true(count < sizeof(text));
    memset(text, c, count);
    return json_stringn(text, count);
}

static void out_of_bounds(struct fixture *fixture, const struct admin_method *method,
                          const struct admin_param *param)
{
    static const char reason[] = "out_of_bounds";
    const char *name = param->name;
    switch (param->type) {
    case ADMIN_BOOLEAN:
        break;
    case ADMIN_INTEGER:
        assert_refused(fixture, method, name, json_integer(param->min - 1), reason);
        if (param->max < INT64_MAX) {
            assert_refused(fixture, method, name, json_integer(param->max + 1), reason);
        }
        break;
    case ADMIN_CHOICE:
        assert_refused(fixture, method, name, json_string("neither"), reason);
        assert_refused(fixture, method, name, json_string(""), reason);
        break;
    case ADMIN_CHOICES:
        assert_refused(fixture, method, name, json_array(), reason);
        assert_refused(fixture, method, name, json_pack("[s]", "neither"), reason);
        assert_refused(fixture, method, name, json_pack("[s, s]", param->choices[0], ""), reason);
        assert_refused(fixture, method, name, json_pack("[i]", 1), "wrong_type");
        break;
    case ADMIN_HASH:
        assert_refused(fixture, method, name, repeat('a', 63), reason);
        assert_refused(fixture, method, name, repeat('a', 65), reason);
        assert_refused(fixture, method, name, repeat('g', 64), reason);
        assert_refused(fixture, method, name, json_string(""), reason);
        break;
    case ADMIN_PREFIX:
        assert_refused(fixture, method, name, repeat('a', 65), reason);
        assert_refused(fixture, method, name, json_string("xyz"), reason);
        break;
    case ADMIN_TEXT:
        assert_refused(fixture, method, name, repeat('a', (size_t)param->max + 1), reason);
        assert_refused(fixture, method, name, json_string(""), reason);
        assert_refused(fixture, method, name, json_string("a\nb"), reason);
        break;
    case ADMIN_NAME:
        assert_refused(fixture, method, name, repeat('a', (size_t)param->min - 1), reason);
        assert_refused(fixture, method, name, repeat('a', (size_t)param->max + 1), reason);
        assert_refused(fixture, method, name, json_string("a b"), reason);
        assert_refused(fixture, method, name, json_string("\xc3\xa9"), reason);
        break;
    case ADMIN_WORD:
        assert_refused(fixture, method, name, repeat('a', (size_t)param->min - 1), reason);
        assert_refused(fixture, method, name, repeat('a', (size_t)param->max + 1), reason);
        assert_refused(fixture, method, name, json_string("no.such"), reason);
        break;
    }
}

static void wrong_types(struct fixture *fixture, const struct admin_method *method,
                        const struct admin_param *param)
{
    json_t *values[] = {json_null(),
                        param->type == ADMIN_BOOLEAN ? json_string("true") : json_true(),
                        param->type == ADMIN_CHOICES ? json_string("a") : json_array(),
                        json_real(1.5),
                        json_object(),
                        param->type == ADMIN_INTEGER ? json_string("1") : json_integer(1)};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_refused(fixture, method, param->name, values[i], "wrong_type");
    }
}

static void each_wrong_param_is_named(void **state)
{
    struct fixture *fixture = *state;
    size_t count = 0;
    const struct admin_method *methods = admin_methods(&count);
    for (size_t i = 0; i < count; i++) {
        assert_refused(fixture, &methods[i], "surprise", json_integer(1), "unknown_param");
        for (const struct admin_param *param = methods[i].params; param->name != NULL; param++) {
            if (param->required) {
                assert_refused(fixture, &methods[i], param->name, NULL, "missing_param");
            }
            wrong_types(fixture, &methods[i], param);
            out_of_bounds(fixture, &methods[i], param);
        }
    }
}

static void levels_are_kept(void **state)
{
    struct fixture *fixture = *state;
    size_t count = 0;
    const struct admin_method *methods = admin_methods(&count);
    for (size_t i = 0; i < count; i++) {
        for (int level = ADMIN_OBSERVE; level <= ADMIN_ADMIN; level++) {
            struct admin_error error;
            const char *reason = reason_of(fixture, (enum admin_level)level, methods[i].name,
                                           example_of(fixture, &methods[i]), &error);
            assert_string_equal(reason, level < (int)methods[i].level ? "forbidden" : "ok");
        }
    }
    assert_int_equal(fixture->drains, 2);
    assert_int_equal(fixture->stops, 1);
}

static void an_unknown_method_is_an_error(void **state)
{
    struct admin_error error;
    assert_null(fixture_call(*state, ADMIN_ADMIN, "cap.destroy", NULL, &error));
    assert_string_equal(error.reason, "unknown_method");
    assert_string_equal(error.message, "unknown method cap.destroy");
    assert_int_equal(error.code, -32601);
}

static void levels_follow_from_user_and_groups(void **state)
{
    (void)state;
    struct admin_group operators = {.exists = true, .gid = 7};
    struct admin_group nobody = {.exists = false, .gid = 7};
    gid_t in[] = {100, 7};
    gid_t out[] = {100};
    assert_int_equal(admin_level_of(0, 500, &nobody, out, 1), ADMIN_ADMIN);
    assert_int_equal(admin_level_of(500, 500, &nobody, out, 1), ADMIN_ADMIN);
    assert_int_equal(admin_level_of(1000, 500, &operators, in, 2), ADMIN_OPERATE);
    assert_int_equal(admin_level_of(1000, 500, &operators, out, 1), ADMIN_OBSERVE);
    assert_int_equal(admin_level_of(1000, 500, &nobody, in, 2), ADMIN_OBSERVE);
    assert_int_equal(admin_level_of(1000, 500, &operators, NULL, 0), ADMIN_OBSERVE);
}

static void the_group_has_a_name_or_a_number(void **state)
{
    (void)state;
    struct admin_group group = {.exists = true};
    assert_cap_ok(admin_group_find(NULL, &group));
    assert_false(group.exists);
    assert_cap_ok(admin_group_find("root", &group));
    assert_true(group.exists);
    assert_int_equal(group.gid, 0);
    assert_cap_ok(admin_group_find("4242", &group));
    assert_int_equal(group.gid, 4242);
    static const char *const wrong[] = {"", "no-such-group", "12x", "-1", "4294967295", " 7"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_cap_error(admin_group_find(wrong[i], &group), CAP_E_INVALID_ARGUMENT);
    }
    assert_int_equal(group.gid, 4242);
}

/* --- What is written about them --------------------------------------------------------------- */

static void the_schema_says_what_the_table_says(void **state)
{
    struct fixture *fixture = *state;
    json_t *schema = fixture_result(fixture, "schema", NULL);
    json_t *methods = json_object_get(schema, "methods");
    size_t count = 0;
    (void)admin_methods(&count);
    assert_int_equal(json_object_size(methods), count);
    json_t *list = json_object_get(methods, "cap.list");
    json_t *params = json_object_get(list, "params");
    assert_true(json_is_false(json_object_get(params, "additionalProperties")));
    json_t *limit = json_object_get(json_object_get(params, "properties"), "limit");
    assert_int_equal(json_integer_value(json_object_get(limit, "maximum")), 1000);
    json_t *explain = json_object_get(methods, "cap.explain");
    json_t *required = json_object_get(json_object_get(explain, "params"), "required");
    assert_string_equal(json_string_value(json_array_get(required, 0)), "hash");
    json_t *result = json_object_get(json_object_get(list, "result"), "properties");
    json_t *types = json_object_get(json_object_get(result, "cursor"), "type");
    assert_int_equal(json_array_size(types), 2);
    assert_string_equal(json_string_value(json_array_get(types, 1)), "null");
    assert_true(json_is_null(json_object_get(list, "deprecated")));
    json_decref(schema);
}

static void help_lists_all_or_explains_one(void **state)
{
    struct fixture *fixture = *state;
    json_t *help = fixture_result(fixture, "help", NULL);
    const char *text = json_string_value(json_object_get(help, "text"));
    size_t count = 0;
    const struct admin_method *methods = admin_methods(&count);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(strstr(text, methods[i].name));
    }
    assert_int_equal(json_array_size(json_object_get(help, "methods")), count);
    json_decref(help);
    help = fixture_result(fixture, "help", "{\"method\":\"cap.list\"}");
    text = json_string_value(json_object_get(help, "text"));
    assert_non_null(strstr(text, "prefix"));
    assert_null(strstr(text, "cap.stat\n"));
    assert_int_equal(json_array_size(json_object_get(help, "methods")), 1);
    json_decref(help);
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail_msg("cannot open %s", path);
    }
    char *text = calloc(1, 200000);
    assert_true(fread(text, 1, 199999, file) > 0);
    fclose(file);
    return text;
}

/* ADMIN.md holds the reference that the table gives, between its marks and to the byte. */
static void the_document_is_up_to_date(void **state)
{
    (void)state;
    struct cap_buf reference = {0};
    assert_cap_ok(admin_reference_markdown(&reference));
    assert_cap_ok(cap_buf_append8(&reference, 0));
    char *document = read_file(ADMIN_DIR "/ADMIN.md");
    static const char begin[] = "<!-- reference -->\n";
    char *from = strstr(document, begin);
    char *to = strstr(document, "<!-- end of reference -->");
    assert_non_null(from);
    assert_non_null(to);
    to[0] = '\0';
    assert_string_equal(from + strlen(begin), (char *)reference.data);
    to[0] = '<';
    for (int i = 0; i <= ADMIN_REPLY_TOO_LARGE; i++) {
        struct admin_error error;
        admin_error_set(&error, (enum admin_reason)i);
        const char *reason = error.reason;
        if (strstr(document, reason) == NULL) {
            fail_msg("ADMIN.md does not name the reason %s", reason);
        }
    }
    free(document);
    cap_buf_free(&reference);
}

static void the_man_page_names_every_method(void **state)
{
    (void)state;
    struct cap_buf page = {0};
    assert_cap_ok(admin_reference_man(&page));
    assert_cap_ok(cap_buf_append8(&page, 0));
    size_t count = 0;
    const struct admin_method *methods = admin_methods(&count);
    for (size_t i = 0; i < count; i++) {
        char heading[80];
        snprintf(heading, sizeof(heading), "\n.SS %s\n", methods[i].name);
        assert_non_null(strstr((char *)page.data, heading));
    }
    cap_buf_free(&page);
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(each_example_works_and_gives_what_is_documented),
        WITH_FIXTURE(each_wrong_param_is_named),
        WITH_FIXTURE(levels_are_kept),
        WITH_FIXTURE(an_unknown_method_is_an_error),
        cmocka_unit_test(levels_follow_from_user_and_groups),
        cmocka_unit_test(the_group_has_a_name_or_a_number),
        WITH_FIXTURE(the_schema_says_what_the_table_says),
        WITH_FIXTURE(help_lists_all_or_explains_one),
        cmocka_unit_test(the_document_is_up_to_date),
        cmocka_unit_test(the_man_page_names_every_method),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
