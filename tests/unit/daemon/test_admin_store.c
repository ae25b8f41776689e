/* Methods that read the store: what they say about the caps of the fixture. */
#include "tests/unit/daemon/test_admin_fixture.h"

#include <stdio.h>

#include "daemon/admin/structure.h"

static json_t *get(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    if (value == NULL) {
        fail_msg("no member %s", name);
    }
    return value;
}

#define assert_text(object, name, wanted)                                                          \
    assert_string_equal(json_string_value(get((object), (name))), (wanted))
#define assert_number(object, name, wanted)                                                        \
    do {                                                                                           \
        assert_true(json_is_integer(get((object), (name))));                                       \
        assert_int_equal(json_integer_value(get((object), (name))), (wanted));                     \
    } while (0)

static void assert_names(json_t *object, const struct cap_hash *hash)
{
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(hash, hex);
    assert_text(object, "cap_hash", hex);
}

static void assert_absent(struct fixture *fixture, const char *method, const char *rest)
{
    struct cap_hash absent = {{1}};
    struct admin_error error;
    assert_null(
        fixture_call(fixture, ADMIN_OBSERVE, method, fixture_hash_params(&absent, rest), &error));
    assert_string_equal(error.reason, "not_found");
    assert_int_equal(error.code, 60);
    assert_false(error.retry);
}

/* --- cap.stat --------------------------------------------------------------------------------- */

static void stat_tells_what_is_kept(void **state)
{
    struct fixture *fixture = *state;
    json_t *cap = fixture_result(fixture, "cap.stat", fixture_hash_params(&fixture->data, NULL));
    assert_names(cap, &fixture->data);
    assert_text(cap, "kind", "data");
    assert_number(cap, "size", 8 * CAP_PAGE_SIZE);
    assert_number(cap, "page_count", 3);
    assert_text(cap, "published", "2026-01-01T00:00:00.123456Z");
    assert_number(get(cap, "publisher"), "uid", 1000);
    assert_true(json_is_null(get(cap, "image_content_hash")));
    json_decref(cap);
    cap = fixture_result(fixture, "cap.stat", fixture_hash_params(&fixture->image, NULL));
    assert_text(cap, "kind", "image");
    assert_number(cap, "size", FIXTURE_CODE_LEN);
    assert_number(cap, "ref_count", 4);
    assert_true(json_is_string(get(cap, "image_content_hash")));
    json_decref(cap);
    assert_absent(fixture, "cap.stat", NULL);
}

static void a_size_past_the_integers_is_a_text(void **state)
{
    struct fixture *fixture = *state;
    json_t *cap = fixture_result(fixture, "cap.stat", fixture_hash_params(&fixture->zero, NULL));
    assert_text(cap, "size", "9223372036854779904");
    assert_number(cap, "page_count", 0);
    json_decref(cap);
}

/* --- cap.find --------------------------------------------------------------------------------- */

static const char *find_reason(struct fixture *fixture, const char *params)
{
    static struct admin_error error;
    assert_null(fixture_call(fixture, ADMIN_OBSERVE, "cap.find", params, &error));
    return error.reason;
}

static void caps_are_found_by_the_beginning_of_their_hash(void **state)
{
    struct fixture *fixture = *state;
    char hex[CAP_HASH_HEX_SIZE];
    char params[128];
    cap_hash_format(&fixture->image, hex);
    for (int digits = 64; digits >= 0; digits--) {
        snprintf(params, sizeof(params), "{\"prefix\":\"%.*s\"}", digits, hex);
        struct admin_error error;
        json_t *cap = fixture_call(fixture, ADMIN_OBSERVE, "cap.find", params, &error);
        if (cap == NULL) {
            assert_string_equal(error.reason, "ambiguous"); /* with so few digits */
            assert_true(digits < 8);
            continue;
        }
        assert_names(cap, &fixture->image);
        assert_number(cap, "ref_count", 4);
        json_decref(cap);
    }
    assert_string_equal(find_reason(fixture, "{\"prefix\":\"\"}"), "ambiguous");
    hex[20] = hex[20] == '0' ? '1' : '0';
    snprintf(params, sizeof(params), "{\"prefix\":\"%.21s\"}", hex);
    assert_string_equal(find_reason(fixture, params), "not_found");
}

static void images_are_found_by_their_content_hash(void **state)
{
    struct fixture *fixture = *state;
    char hex[CAP_HASH_HEX_SIZE];
    char params[160];
    json_t *stat = fixture_result(fixture, "cap.stat", fixture_hash_params(&fixture->image, NULL));
    snprintf(hex, sizeof(hex), "%s", json_string_value(get(stat, "image_content_hash")));
    json_decref(stat);
    snprintf(params, sizeof(params), "{\"image_content_hash\":\"%s\"}", hex);
    json_t *cap = fixture_result(fixture, "cap.find", params);
    assert_text(cap, "image_content_hash", hex);
    assert_text(cap, "kind", "image");
    json_decref(cap);
    hex[0] = hex[0] == '0' ? '1' : '0';
    snprintf(params, sizeof(params), "{\"image_content_hash\":\"%s\"}", hex);
    assert_string_equal(find_reason(fixture, params), "not_found");
    assert_string_equal(find_reason(fixture, NULL), "missing_param");
    snprintf(params, sizeof(params), "{\"prefix\":\"a\",\"image_content_hash\":\"%s\"}", hex);
    assert_string_equal(find_reason(fixture, params), "unknown_param");
}

/* Why is it absent? An Image that needed it was refused: the hint says so. */
static void an_absent_cap_that_was_needed_says_so(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash absent = {{1, 2, 3}};
    char hex[CAP_HASH_HEX_SIZE];
    struct refusal refusal = {.error = CAP_E_UNRESOLVED_SLOT, .what = "put_image", .peer = "peer"};
    struct admin_error error;
    cap_hash_format(&absent, hex);
    snprintf(refusal.message, sizeof(refusal.message), "not published: %s and others", hex);
    refusals_add(&fixture->context.refusals, &refusal);
    refusal = (struct refusal){.error = CAP_E_NOT_FOUND, .what = "get", .peer = "peer"};
    snprintf(refusal.message, sizeof(refusal.message), "%s: absent", hex);
    refusals_add(&fixture->context.refusals, &refusal);
    static const char *const rests[] = {NULL, ",\"direction\":\"in\""};
    for (size_t i = 0; i < 2; i++) {
        assert_null(fixture_call(fixture, ADMIN_OBSERVE, i == 0 ? "cap.stat" : "refs.list",
                                 fixture_hash_params(&absent, rests[i]), &error));
        assert_string_equal(error.reason, "not_found");
        assert_non_null(
            strstr(error.hint, "refusal 1 names it: put_image of peer, unresolved_slot"));
    }
}

/* --- cap.list --------------------------------------------------------------------------------- */

/* Walks all pages; returns how many caps there were, which come in ascending order. */
static size_t walk(struct fixture *fixture, const char *filter, int limit)
{
    char params[300];
    char cursor[120] = "";
    char last[CAP_HASH_HEX_SIZE] = "";
    size_t count = 0;
    for (int pages = 0; pages < 100; pages++) {
        snprintf(params, sizeof(params), "{\"limit\":%d%s%s}", limit, filter, cursor);
        json_t *page = fixture_result(fixture, "cap.list", params);
        json_t *caps = get(page, "caps");
        assert_true(json_array_size(caps) <= (size_t)limit);
        for (size_t i = 0; i < json_array_size(caps); i++) {
            const char *hex = json_string_value(get(json_array_get(caps, i), "cap_hash"));
            assert_true(strcmp(hex, last) > 0);
            snprintf(last, sizeof(last), "%s", hex);
            count++;
        }
        const char *next = json_string_value(get(page, "cursor"));
        if (next == NULL) {
            json_decref(page);
            return count;
        }
        snprintf(cursor, sizeof(cursor), ",\"cursor\":\"%s\"", next);
        json_decref(page);
    }
    fail_msg("the pages never end");
    return 0;
}

static void lists_are_paged(void **state)
{
    struct fixture *fixture = *state;
    for (int limit = 1; limit <= 6; limit++) {
        assert_int_equal(walk(fixture, "", limit), 5);
        assert_int_equal(walk(fixture, ",\"kind\":\"image\"", limit), 2);
        assert_int_equal(walk(fixture, ",\"kind\":\"data\"", limit), 3);
    }
}

/* Every prefix of a hash, odd counts of digits too, finds it; one wrong digit does not. */
static void prefixes_may_have_odd_digits(void **state)
{
    struct fixture *fixture = *state;
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(&fixture->image, hex);
    for (int digits = 0; digits <= 64; digits++) {
        char filter[120];
        snprintf(filter, sizeof(filter), ",\"kind\":\"image\",\"prefix\":\"%.*s\"", digits, hex);
        size_t found = walk(fixture, filter, 10);
        assert_true(found >= 1 && found <= 2);
        if (digits == 0) {
            continue;
        }
        char wrong[CAP_HASH_HEX_SIZE];
        snprintf(wrong, sizeof(wrong), "%.*s", digits, hex);
        wrong[digits - 1] = wrong[digits - 1] == '0' ? '1' : '0';
        snprintf(filter, sizeof(filter), ",\"prefix\":\"%s\"", wrong);
        assert_true(walk(fixture, filter, 10) < 5);
        if (digits > 8) {
            assert_int_equal(walk(fixture, filter, 10), 0);
        }
    }
}

/* --- refs.list -------------------------------------------------------------------------------- */

static size_t walk_refs(struct fixture *fixture, const struct cap_hash *hash, const char *direction,
                        int limit)
{
    char cursor[120] = "";
    size_t count = 0;
    for (int pages = 0; pages < 100; pages++) {
        char rest[250];
        snprintf(rest, sizeof(rest), ",\"direction\":\"%s\",\"limit\":%d%s", direction, limit,
                 cursor);
        json_t *page = fixture_result(fixture, "refs.list", fixture_hash_params(hash, rest));
        count += json_array_size(get(page, "refs"));
        const char *next = json_string_value(get(page, "cursor"));
        if (next == NULL) {
            json_decref(page);
            return count;
        }
        snprintf(cursor, sizeof(cursor), ",\"cursor\":\"%s\"", next);
        json_decref(page);
    }
    fail_msg("the pages never end");
    return 0;
}

static void references_go_both_ways(void **state)
{
    struct fixture *fixture = *state;
    for (int limit = 1; limit <= 5; limit++) {
        assert_int_equal(walk_refs(fixture, &fixture->image, "out", limit), 4);
        assert_int_equal(walk_refs(fixture, &fixture->image, "in", limit), 0);
        assert_int_equal(walk_refs(fixture, &fixture->data, "in", limit), 1);
        assert_int_equal(walk_refs(fixture, &fixture->inner, "in", limit), 1);
        assert_int_equal(walk_refs(fixture, &fixture->inner, "out", limit), 0);
    }
    json_t *page = fixture_result(fixture, "refs.list",
                                  fixture_hash_params(&fixture->data, ",\"direction\":\"in\""));
    json_t *ref = json_array_get(get(page, "refs"), 0);
    assert_names(ref, &fixture->image);
    assert_int_equal(json_array_size(get(ref, "tables")), 1);
    assert_string_equal(json_string_value(json_array_get(get(ref, "tables"), 0)), "pinned");
    json_decref(page);
    assert_absent(fixture, "refs.list", ",\"direction\":\"out\"");
}

/* --- cap.explain ------------------------------------------------------------------------------ */

static json_t *explain(struct fixture *fixture, const struct cap_hash *hash, const char *rest)
{
    return fixture_result(fixture, "cap.explain", fixture_hash_params(hash, rest));
}

static void data_shows_its_runs(void **state)
{
    struct fixture *fixture = *state;
    json_t *whole = explain(fixture, &fixture->data, NULL);
    assert_true(json_is_null(get(whole, "image")));
    json_t *data = get(whole, "data");
    assert_number(data, "page_count", 3);
    assert_number(data, "content_bytes", 2 * CAP_PAGE_SIZE + 100);
    assert_number(data, "stored_bytes", 2 * CAP_PAGE_SIZE + 100);
    assert_number(data, "run_count", 2);
    json_t *run = json_array_get(get(data, "runs"), 0);
    assert_text(run, "start", "0x0");
    assert_number(run, "size", 2 * CAP_PAGE_SIZE);
    run = json_array_get(get(data, "runs"), 1);
    assert_text(run, "start", "0x5000");
    assert_number(run, "pages", 1);
    json_decref(whole);
    whole = explain(fixture, &fixture->data, ",\"offset\":1,\"limit\":1");
    data = get(whole, "data");
    assert_int_equal(json_array_size(get(data, "runs")), 1);
    assert_text(json_array_get(get(data, "runs"), 0), "start", "0x5000");
    assert_number(data, "run_count", 2);
    json_decref(whole);
    whole = explain(fixture, &fixture->zero, NULL);
    assert_number(get(whole, "data"), "run_count", 0);
    assert_true(json_is_string(get(get(whole, "data"), "size"))); /* past what JSON holds */
    json_decref(whole);
}

static void an_image_shows_its_outline(void **state)
{
    struct fixture *fixture = *state;
    json_t *whole = explain(fixture, &fixture->image, NULL);
    json_t *image = get(whole, "image");
    assert_text(get(image, "code"), "start", "0x400000");
    assert_number(get(image, "code"), "size", FIXTURE_CODE_LEN);
    assert_number(get(image, "code"), "mapped_size", 3 * CAP_PAGE_SIZE);
    assert_number(image, "endpoint_count", 2);
    assert_true(json_integer_value(get(image, "structure_bytes")) < FIXTURE_CODE_LEN);
    json_t *endpoint = json_array_get(get(image, "endpoints"), 0);
    assert_text(endpoint, "key", "6d61696e");
    assert_text(endpoint, "entry_pc", "0x4");
    assert_text(endpoint, "stack_top", "0x1000");
    assert_int_equal(json_object_size(get(endpoint, "initial_regs")), 1);
    assert_text(get(endpoint, "initial_regs"), "1", "0x1000");
    assert_string_equal(json_string_value(json_array_get(get(image, "gas_slots"), 0)), "676173");
    assert_number(image, "gas_count", 1);
    assert_number(image, "quota_count", 0);
    assert_true(json_is_null(get(image, "yield_receiver_slot")));
    json_decref(whole);
    whole = explain(fixture, &fixture->image, ",\"offset\":1");
    assert_int_equal(json_array_size(get(get(whole, "image"), "gas_slots")), 0);
    json_decref(whole);
}

static void mappings_come_in_address_order(void **state)
{
    struct fixture *fixture = *state;
    json_t *whole = explain(fixture, &fixture->image, NULL);
    json_t *mappings = get(get(whole, "image"), "mappings");
    static const char *const starts[] = {"0x10000000", "0x10008000", "0x10010000",
                                         "0xfffffffffffff000"};
    assert_int_equal(json_array_size(mappings), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_text(json_array_get(mappings, i), "start", starts[i]);
    }
    json_t *first = json_array_get(mappings, 0);
    assert_true(json_is_true(get(first, "read_only")));
    assert_text(first, "table", "pinned");
    assert_text(first, "end", "0x10009000");
    assert_names(first, &fixture->data);
    assert_true(json_is_null(get(json_array_get(mappings, 1), "table")));
    assert_int_equal(json_array_size(get(json_array_get(mappings, 1), "source")), 2);
    assert_true(json_is_false(get(json_array_get(mappings, 2), "read_only")));
    json_decref(whole);
}

static void slots_show_what_they_resolve_to(void **state)
{
    struct fixture *fixture = *state;
    json_t *whole = explain(fixture, &fixture->image, NULL);
    json_t *pinned = get(get(whole, "image"), "pinned");
    json_t *slot = json_array_get(pinned, 0);
    assert_text(slot, "slot", "726f");
    assert_true(json_is_true(get(slot, "present")));
    assert_text(slot, "kind", "data");
    assert_number(slot, "size", 8 * CAP_PAGE_SIZE);
    slot = json_array_get(pinned, 1);
    assert_text(slot, "kind", "image");
    assert_names(slot, &fixture->inner);
    json_decref(whole);
    whole = explain(fixture, &fixture->image, ",\"offset\":1,\"limit\":1");
    json_t *image = get(whole, "image");
    assert_int_equal(json_array_size(get(image, "pinned")), 1);
    assert_names(json_array_get(get(image, "pinned"), 0), &fixture->inner);
    assert_number(image, "pinned_count", 2);
    json_decref(whole);
}

static bool has_warning(json_t *warnings, const char *reason, const char *member, const char *text)
{
    for (size_t i = 0; i < json_array_size(warnings); i++) {
        json_t *warning = json_array_get(warnings, i);
        const char *value = json_string_value(json_object_get(warning, member));
        if (strcmp(json_string_value(get(warning, "reason")), reason) == 0 && value != NULL &&
            strcmp(value, text) == 0) {
            return true;
        }
    }
    return false;
}

static void odd_things_are_warned_of(void **state)
{
    struct fixture *fixture = *state;
    json_t *whole = explain(fixture, &fixture->image, NULL);
    json_t *warnings = get(get(whole, "image"), "warnings");
    assert_true(has_warning(warnings, "mappings_overlap", "start", "0x10008000"));
    assert_true(has_warning(warnings, "source_not_a_slot", "start", "0x10008000"));
    assert_true(has_warning(warnings, "mapping_larger_than_data", "start", "0x10000000"));
    assert_true(has_warning(warnings, "mapping_out_of_range", "start", "0xfffffffffffff000"));
    assert_true(has_warning(warnings, "slot_in_both_tables", "key", "737562"));
    assert_true(has_warning(warnings, "entry_outside_code", "key", "6f6666"));
    assert_number(get(whole, "image"), "warning_count", 6);
    json_decref(whole);
    whole = explain(fixture, &fixture->image, ",\"limit\":2");
    assert_int_equal(json_array_size(get(get(whole, "image"), "warnings")), 2);
    assert_number(get(whole, "image"), "warning_count", 6);
    json_decref(whole);
    /* They are a list like the others: the rest of them can be had. */
    whole = explain(fixture, &fixture->image, ",\"offset\":5,\"limit\":2");
    warnings = get(get(whole, "image"), "warnings");
    assert_int_equal(json_array_size(warnings), 1);
    assert_true(has_warning(warnings, "entry_outside_code", "key", "6f6666"));
    json_decref(whole);
    assert_absent(fixture, "cap.explain", NULL);
}

static void a_codeless_image_is_explained(void **state)
{
    struct fixture *fixture = *state;
    json_t *whole = explain(fixture, &fixture->inner, NULL);
    json_t *image = get(whole, "image");
    assert_number(get(image, "code"), "size", 0);
    assert_true(json_is_null(get(get(image, "code"), "start")));
    assert_number(image, "warning_count", 0);
    json_decref(whole);
}

/* More endpoints with long keys than a page holds: cut, counted, and the answer stays small. */
static void large_lists_and_keys_are_cut(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t key[300];
    struct cap_pack *pack = NULL;
    assert_cap_ok(cap_pack_new(&pack));
    for (unsigned i = 0; i < 1000; i++) {
        cap_store32(key, i);
        assert_cap_ok(
            cap_pack_endpoint(pack, (struct cap_bytes){key, sizeof(key)}, 0, 0, 0, NULL, 0));
    }
    struct cap_hash hash = fixture_publish(fixture, pack, (struct cap_bytes){NULL, 0});
    json_t *whole = explain(fixture, &hash, ",\"limit\":256");
    json_t *image = get(whole, "image");
    assert_number(image, "endpoint_count", 1000);
    assert_int_equal(json_array_size(get(image, "endpoints")), 256);
    assert_number(image, "warning_count", 1000);
    const char *shown = json_string_value(get(json_array_get(get(image, "endpoints"), 0), "key"));
    assert_non_null(strstr(shown, "... (300 bytes)"));
    char *text = json_dumps(whole, JSON_COMPACT);
    assert_true(strlen(text) < 512u << 10);
    free(text);
    json_decref(whole);
}

static void a_structure_too_large_is_refused(void **state)
{
    struct fixture *fixture = *state;
    size_t len = ADMIN_EXPLAIN_MAX + 1;
    uint8_t *key = calloc(1, len);
    struct cap_pack *pack = NULL;
    assert_cap_ok(cap_pack_new(&pack));
    assert_cap_ok(cap_pack_gas_slot(pack, (struct cap_bytes){key, len}));
    struct cap_hash hash = fixture_publish(fixture, pack, (struct cap_bytes){NULL, 0});
    struct admin_error error;
    assert_null(fixture_call(fixture, ADMIN_OBSERVE, "cap.explain",
                             fixture_hash_params(&hash, NULL), &error));
    assert_string_equal(error.reason, "structure_too_large");
    free(key);
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(stat_tells_what_is_kept),
        WITH_FIXTURE(a_size_past_the_integers_is_a_text),
        WITH_FIXTURE(caps_are_found_by_the_beginning_of_their_hash),
        WITH_FIXTURE(images_are_found_by_their_content_hash),
        WITH_FIXTURE(an_absent_cap_that_was_needed_says_so),
        WITH_FIXTURE(lists_are_paged),
        WITH_FIXTURE(prefixes_may_have_odd_digits),
        WITH_FIXTURE(references_go_both_ways),
        WITH_FIXTURE(data_shows_its_runs),
        WITH_FIXTURE(an_image_shows_its_outline),
        WITH_FIXTURE(mappings_come_in_address_order),
        WITH_FIXTURE(slots_show_what_they_resolve_to),
        WITH_FIXTURE(odd_things_are_warned_of),
        WITH_FIXTURE(a_codeless_image_is_explained),
        WITH_FIXTURE(large_lists_and_keys_are_cut),
        WITH_FIXTURE(a_structure_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
