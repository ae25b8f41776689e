/* Methods of what is kept and what goes: why, roots, deletion, the plan of a collection. */
#include "tests/unit/daemon/test_admin_fixture.h"

static const char *text(json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "(none)";
}

static void assert_list_has(json_t *object, const char *name, const struct cap_hash *hash)
{
    char hex[CAP_HASH_HEX_SIZE];
    size_t index;
    json_t *item;
    cap_hash_format(hash, hex);
    json_array_foreach(json_object_get(object, name), index, item)
    {
        if (strcmp(json_string_value(item), hex) == 0) {
            return;
        }
    }
    fail_msg("%s lacks %s", name, hex);
}

static json_t *why(struct fixture *fixture, const struct cap_hash *hash)
{
    return fixture_result(fixture, "why", fixture_hash_params(hash, NULL));
}

static const char *reason_of(struct fixture *fixture, const char *method, const char *params,
                             struct admin_error *error)
{
    json_t *result = fixture_call(fixture, ADMIN_ADMIN, method, params, error);
    const char *reason = result != NULL ? "ok" : error->reason;
    json_decref(result);
    return reason;
}

static void why_shows_the_way_to_a_root(void **state)
{
    struct fixture *fixture = *state;
    json_t *answer = why(fixture, &fixture->data);
    assert_string_equal(text(answer, "state"), "published");
    assert_true(json_is_null(json_object_get(answer, "path")));
    assert_list_has(answer, "references", &fixture->image);
    json_decref(answer);
    fixture_set_root(fixture, "release");
    answer = why(fixture, &fixture->data);
    json_t *path = json_object_get(answer, "path");
    assert_string_equal(text(path, "root"), "release");
    assert_int_equal(json_array_size(json_object_get(path, "caps")), 2);
    assert_list_has(path, "caps", &fixture->data);
    assert_list_has(path, "caps", &fixture->image);
    json_decref(answer);
    answer = why(fixture, &fixture->image);
    assert_int_equal(json_array_size(json_object_get(answer, "roots")), 1);
    assert_int_equal(json_array_size(json_object_get(json_object_get(answer, "path"), "caps")), 1);
    json_decref(answer);
}

static void what_is_needed_is_not_deleted(void **state)
{
    struct fixture *fixture = *state;
    struct admin_error error;
    char hex[CAP_HASH_HEX_SIZE];
    const char *data = fixture_hash_params(&fixture->data, NULL);
    assert_string_equal(reason_of(fixture, "cap.delete", data, &error), "still_needed");
    cap_hash_format(&fixture->image, hex);
    assert_non_null(strstr(error.hint, hex));
    fixture_set_root(fixture, "release");
    const char *image = fixture_hash_params(&fixture->image, ",\"force\":true");
    assert_string_equal(reason_of(fixture, "cap.delete", image, &error), "still_needed");
    assert_non_null(strstr(error.hint, "release"));
    json_t *answer = why(fixture, &fixture->image);
    assert_string_equal(text(answer, "state"), "published");
    json_decref(answer);
}

static void force_degrades_and_says_so(void **state)
{
    struct fixture *fixture = *state;
    const char *data = fixture_hash_params(&fixture->data, ",\"force\":true");
    json_t *answer = fixture_result(fixture, "cap.delete", data);
    assert_list_has(answer, "degraded", &fixture->image);
    json_decref(answer);
    answer = why(fixture, &fixture->data);
    assert_string_equal(text(answer, "state"), "absent");
    assert_string_equal(text(json_object_get(answer, "removed"), "cause"), "deleted");
    assert_list_has(answer, "references", &fixture->image);
    json_decref(answer);
    answer = why(fixture, &fixture->image);
    assert_string_equal(text(answer, "state"), "degraded");
    assert_list_has(answer, "broken", &fixture->data);
    json_decref(answer);
}

static void why_of_what_never_was(void **state)
{
    const struct cap_hash absent = {{1}};
    json_t *answer = why(*state, &absent);
    assert_string_equal(text(answer, "state"), "absent");
    assert_non_null(strstr(text(answer, "summary"), "never published"));
    assert_true(json_is_null(json_object_get(answer, "removed")));
    json_decref(answer);
}

/* The fixture's caps have no lease, so the Image is due, and what it names goes with it. */
static void the_plan_says_what_would_go_and_what_stays(void **state)
{
    struct fixture *fixture = *state;
    json_t *plan = fixture_result(fixture, "gc.plan", "{\"limit\":1}");
    assert_int_equal(json_integer_value(json_object_get(plan, "caps")), 5);
    assert_int_equal(json_array_size(json_object_get(plan, "due")), 1);
    json_decref(plan);
    plan = fixture_result(fixture, "gc.plan", "{}");
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(&fixture->image, hex);
    json_t *due = json_object_get(plan, "due");
    assert_int_equal(json_array_size(due), 5);
    assert_true(json_is_null(json_object_get(json_array_get(due, 0), "with")));
    assert_string_equal(text(json_array_get(due, 4), "with"), hex);
    json_decref(plan);
    fixture_set_root(fixture, "release");
    plan = fixture_result(fixture, "gc.plan", "{}");
    assert_int_equal(json_integer_value(json_object_get(plan, "caps")), 0);
    json_decref(plan);
}

static void roots_come_in_pages(void **state)
{
    struct fixture *fixture = *state;
    fixture_set_root(fixture, "a");
    fixture_set_root(fixture, "b");
    json_t *page = fixture_result(fixture, "roots.list", "{\"limit\":1}");
    assert_string_equal(text(page, "cursor"), "a");
    json_decref(page);
    page = fixture_result(fixture, "roots.list", "{\"limit\":1,\"cursor\":\"a\"}");
    assert_true(json_is_null(json_object_get(page, "cursor")));
    assert_string_equal(text(json_array_get(json_object_get(page, "roots"), 0), "name"), "b");
    json_decref(page);
    struct admin_error error;
    assert_string_equal(reason_of(fixture, "roots.remove", "{\"name\":\"c\"}", &error), "no_root");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(why_shows_the_way_to_a_root, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(what_is_needed_is_not_deleted, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(force_degrades_and_says_so, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(why_of_what_never_was, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(the_plan_says_what_would_go_and_what_stays, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(roots_come_in_pages, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
