/* Methods about the daemon, and the exposition: what is counted is what is shown. */
#include "tests/unit/daemon/test_admin_fixture.h"

#include <inttypes.h>
#include <stdio.h>

#include "proto/frame.h"

static json_t *get(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    if (value == NULL) {
        fail_msg("no member %s", name);
    }
    return value;
}

static json_int_t number(const json_t *object, const char *name)
{
    assert_true(json_is_integer(get(object, name)));
    return json_integer_value(get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    assert_true(json_is_string(get(object, name)));
    return json_string_value(get(object, name));
}

/* --- status ----------------------------------------------------------------------------------- */

static void status_shows_the_figures(void **state)
{
    struct fixture *fixture = *state;
    fixture->gauges = (struct gauges){.uptime_ms = 5,
                                      .connections = 6,
                                      .max_connections = 7,
                                      .requests = 8,
                                      .spool_bytes = 9,
                                      .max_spool = 10,
                                      .record_bytes = 12,
                                      .max_record_bytes = 13,
                                      .jobs = 16,
                                      .hash_peers = 17,
                                      .peer_hashing = 18,
                                      .read_jobs = 14,
                                      .stall_max_us = 15,
                                      .writer_queue = 11};
    json_t *status = fixture_result(fixture, "status", NULL);
    assert_string_equal(text(status, "version"), CAPSTORE_VERSION);
    assert_string_equal(text(status, "engine"), "memory");
    assert_string_equal(text(status, "phase"), "running");
    assert_string_equal(text(status, "started"), "2026-01-01T00:00:00.123456Z");
    assert_int_equal(number(status, "uptime_ms"), 5);
    assert_int_equal(number(get(status, "sessions"), "open"), 6);
    assert_int_equal(number(get(status, "sessions"), "limit"), 7);
    assert_int_equal(number(status, "requests_in_flight"), 8);
    assert_int_equal(number(get(status, "spool"), "bytes"), 9);
    assert_int_equal(number(get(status, "spool"), "limit_bytes"), 10);
    assert_int_equal(number(get(status, "record_cache"), "bytes"), 12);
    assert_int_equal(number(get(status, "record_cache"), "limit_bytes"), 13);
    assert_int_equal(number(get(status, "hashing"), "jobs"), 16);
    assert_int_equal(number(get(status, "hashing"), "peers"), 17);
    assert_int_equal(number(get(status, "hashing"), "peer_limit_percent"), 18);
    assert_int_equal(number(status, "read_jobs"), 14);
    assert_int_equal(number(status, "stall_max_us"), 15);
    assert_int_equal(number(status, "writer_queue"), 11);
    assert_int_equal(number(get(status, "caps"), "image"), 2);
    assert_int_equal(number(get(status, "caps"), "data"), 3);
    assert_int_equal(number(get(status, "caps"), "total"), 5);
    assert_int_equal(number(get(status, "body_bytes"), "image") +
                         number(get(status, "body_bytes"), "data"),
                     number(get(status, "body_bytes"), "total"));
    assert_int_equal(number(status, "refs"), 4);
    assert_true(json_is_null(get(status, "last_error")));
    json_decref(status);
}

static void status_shows_the_last_error(void **state)
{
    struct fixture *fixture = *state;
    fixture->context.phase = PHASE_DRAINING;
    fixture->context.last_fault.time_us = FIXTURE_NOW_US;
    fixture->context.last_fault.error = CAP_E_DISK_FULL;
    snprintf(fixture->context.last_fault.message, sizeof(fixture->context.last_fault.message), "%s",
             "commit\xff\n");
    json_t *status = fixture_result(fixture, "status", NULL);
    assert_string_equal(text(status, "phase"), "draining");
    json_t *last = get(status, "last_error");
    assert_string_equal(text(last, "reason"), "disk_full");
    assert_string_equal(text(last, "message"), "commit??");
    assert_string_equal(text(last, "time"), "2026-01-01T00:00:00.123456Z");
    json_decref(status);
}

/* --- Lists ------------------------------------------------------------------------------------ */

static void refuse(struct fixture *fixture, enum cap_error error)
{
    struct refusal refusal = {.time_us = FIXTURE_NOW_US, .session = 3, .error = error};
    snprintf(refusal.peer, sizeof(refusal.peer), "%s", "unix:uid=1000,pid=42");
    snprintf(refusal.what, sizeof(refusal.what), "%s", "put_image");
    snprintf(refusal.message, sizeof(refusal.message), "%s", cap_error_text(error));
    refusals_add(&fixture->context.refusals, &refusal);
}

static void refusals_come_newest_first_and_paged(void **state)
{
    struct fixture *fixture = *state;
    json_t *page = fixture_result(fixture, "refusals.list", NULL);
    assert_int_equal(json_array_size(get(page, "refusals")), 0);
    assert_true(json_is_null(get(page, "cursor")));
    json_decref(page);
    for (int i = 0; i < 5; i++) {
        refuse(fixture, i == 4 ? CAP_E_SSZ : CAP_E_UNRESOLVED_SLOT);
    }
    /* The ring of the fixture holds four: 5, 4, 3, 2. */
    page = fixture_result(fixture, "refusals.list", "{\"limit\":3}");
    json_t *list = get(page, "refusals");
    assert_int_equal(json_array_size(list), 3);
    json_t *first = json_array_get(list, 0);
    assert_int_equal(number(first, "seq"), 5);
    assert_string_equal(text(first, "reason"), "ssz");
    assert_string_equal(text(first, "what"), "put_image");
    assert_string_equal(text(first, "peer"), "unix:uid=1000,pid=42");
    assert_int_equal(number(page, "total"), 5);
    assert_int_equal(number(page, "cursor"), 3);
    json_decref(page);
    page = fixture_result(fixture, "refusals.list", "{\"cursor\":3}");
    assert_int_equal(json_array_size(get(page, "refusals")), 1);
    assert_int_equal(number(json_array_get(get(page, "refusals"), 0), "seq"), 2);
    assert_true(json_is_null(get(page, "cursor")));
    json_decref(page);
}

static void clients_are_paged(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 40 };
    static struct client clients[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        clients[i] = (struct client){.session = 10 + 2 * i, .requests = i};
        clients[i].peer.local = i != 1;
        clients[i].peer.uid = 1000 + i;
        snprintf(clients[i].agent, sizeof(clients[i].agent), "%s", "test\x1b");
    }
    fixture->clients = clients;
    fixture->client_count = COUNT;
    size_t seen = 0;
    json_int_t cursor = 0;
    for (int pages = 0; pages < 10; pages++) {
        char params[64];
        snprintf(params, sizeof(params), "{\"limit\":17,\"cursor\":%" PRId64 "}", (int64_t)cursor);
        json_t *page = fixture_result(fixture, "clients.list", params);
        json_t *list = get(page, "clients");
        for (size_t i = 0; i < json_array_size(list); i++, seen++) {
            json_t *client = json_array_get(list, i);
            assert_int_equal(number(client, "session"), 10 + 2 * seen);
            assert_string_equal(text(client, "agent"), "test?");
            assert_int_equal(json_is_null(get(client, "uid")), seen == 1);
        }
        json_t *next = get(page, "cursor");
        cursor = json_integer_value(next);
        bool last = json_is_null(next);
        json_decref(page);
        if (last) {
            break;
        }
    }
    assert_int_equal(seen, COUNT);
}

static void the_log_level_is_set(void **state)
{
    struct fixture *fixture = *state;
    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        char params[64];
        const char *name = log_level_name((enum log_level)level);
        snprintf(params, sizeof(params), "{\"level\":\"%s\"}", name);
        json_t *result = fixture_result(fixture, "log.set", params);
        assert_int_equal(fixture->context.log.level, level);
        assert_string_equal(text(result, "level"), name);
        json_decref(result);
    }
}

/* --- config.* --------------------------------------------------------------------------------- */

static const char *name_of_first(const json_t *result, const char *list)
{
    const json_t *array = json_object_get(result, list);
    assert_int_equal(json_array_size(array), 1);
    assert_string_equal(text(json_array_get(array, 0), "from"), "old");
    assert_string_equal(text(json_array_get(array, 0), "to"), "new");
    return text(json_array_get(array, 0), "name");
}

static void a_reload_says_what_changes(void **state)
{
    struct fixture *fixture = *state;
    struct admin_error error;
    for (unsigned apply = 0; apply < 2; apply++) {
        json_t *result = fixture_result(fixture, apply ? "config.reload" : "config.test", NULL);
        assert_string_equal(name_of_first(result, "restart_needed"), "state");
        assert_string_equal(name_of_first(result, "changed"), "admin-group");
        assert_int_equal(fixture->reloads, apply);
        json_decref(result);
    }
    fixture->reload_error = CAP_E_INVALID_ARGUMENT;
    assert_null(fixture_call(fixture, ADMIN_ADMIN, "config.test", NULL, &error));
    assert_string_equal(error.reason, "invalid_argument");
    assert_string_equal(error.message, "line 3: wrong");
}

static const json_t *setting(const json_t *result, const char *name)
{
    size_t index;
    const json_t *row;
    json_array_foreach(json_object_get(result, "settings"), index, row)
    {
        if (strcmp(text(row, "name"), name) == 0) {
            return row;
        }
    }
    fail_msg("no setting %s", name);
    return NULL;
}

static void settings_say_where_they_come_from(void **state)
{
    struct fixture *fixture = *state;
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    static const char file[] = "{\"max-slots\": 7,\n\"workers\": 9,\n\"max-uploads\": 20}";
    char reason[CONFIG_REASON_SIZE];
    assert_cap_ok(config_parse_json(&fixture->context.given, file, strlen(file), reason));
    fixture->context.config.max_slots = 7;
    fixture->context.config.max_uploads = 10;
    fixture->context.config.log_level = LOG_LEVEL_ERROR;
    json_t *result = fixture_result(fixture, "config.get", NULL);
    for (size_t i = 0; i < count; i++) {
        const json_t *row = setting(result, options[i].name);
        assert_int_equal(json_is_true(json_object_get(row, "live")), options[i].live);
    }
    assert_int_equal(number(setting(result, "max-slots"), "value"), 7);
    assert_string_equal(text(setting(result, "max-slots"), "source"), "file");
    assert_true(json_is_null(json_object_get(setting(result, "max-slots"), "note")));
    assert_int_equal(number(setting(result, "workers"), "line"), 2);
    assert_int_equal(number(setting(result, "workers"), "configured"), 9);
    assert_string_equal(text(setting(result, "workers"), "note"),
                        "a restart brings the configured value");
    assert_non_null(strstr(text(setting(result, "max-uploads"), "note"), "ulimit -n"));
    assert_string_equal(text(setting(result, "log-level"), "note"), "log.set changed it");
    assert_string_equal(text(setting(result, "log-level"), "value"), "error");
    assert_true(json_is_null(json_object_get(setting(result, "admin"), "value")));
    assert_string_equal(text(setting(result, "admin"), "source"), "default");
    (void)setting(result, "CAPSTORE_SHA256");
    json_decref(result);
    config_free(&fixture->context.given);
}

/* --- metrics ---------------------------------------------------------------------------------- */

#define MAX_SERIES 1024

/* One exposition, taken apart. */
struct exposition {
    char *text;
    size_t count;
    struct {
        const char *series; /* with its labels */
        double value;
    } samples[MAX_SERIES];
};

static void free_exposition(struct exposition *exposition)
{
    free(exposition->text);
    free(exposition);
}

/* Whether a sample's name is the family's, or it with an ending of the family's type. */
static bool belongs(const char *sample, const char *family, const char *type)
{
    static const char *const endings[][4] = {
        {"gauge", ""}, {"counter", "_total"}, {"histogram", "_bucket", "_count", "_sum"}};
    size_t len = strlen(family);
    if (strncmp(sample, family, len) != 0) {
        return false;
    }
    size_t name_len = strcspn(sample, "{ ");
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        for (size_t j = 1; j < 4 && endings[i][j] != NULL && strcmp(endings[i][0], type) == 0;
             j++) {
            if (strlen(endings[i][j]) == name_len - len &&
                strncmp(sample + len, endings[i][j], name_len - len) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Names that have been seen, to find what is there twice. */
struct seen {
    size_t count;
    char names[MAX_SERIES][96];
};

static void see(struct seen *seen, const char *name)
{
    for (size_t i = 0; i < seen->count; i++) {
        if (strcmp(seen->names[i], name) == 0) {
            fail_msg("%s is there twice", name);
        }
    }
    assert_true(seen->count < MAX_SERIES);
    snprintf(seen->names[seen->count++], sizeof(seen->names[0]), "%s", name);
}

static void parse_sample(struct exposition *exposition, char *line, const char *family,
                         const char *type)
{
    char *space = strrchr(line, ' ');
    assert_non_null(space);
    if (!belongs(line, family, type)) {
        fail_msg("%s stands under %s %s", line, type, family);
    }
    *space = '\0';
    char *end = NULL;
    assert_true(exposition->count < MAX_SERIES);
    exposition->samples[exposition->count].series = line;
    exposition->samples[exposition->count++].value = strtod(space + 1, &end);
    assert_int_equal(*end, '\0');
}

/* Takes an exposition apart and checks its form. */
static struct exposition *scrape(struct fixture *fixture)
{
    json_t *result = fixture_result(fixture, "metrics", NULL);
    assert_non_null(strstr(text(result, "content_type"), "application/openmetrics-text"));
    struct exposition *exposition = calloc(1, sizeof(*exposition));
    struct seen *families = calloc(1, sizeof(*families));
    struct seen *series = calloc(1, sizeof(*series));
    exposition->text = strdup(text(result, "text"));
    json_decref(result);
    size_t len = strlen(exposition->text);
    assert_true(len > 6 && strcmp(exposition->text + len - 6, "# EOF\n") == 0);
    exposition->text[len - 6] = '\0';
    char family[96] = "";
    char type[16] = "";
    char *rest = NULL;
    for (char *line = strtok_r(exposition->text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char help[96];
        if (sscanf(line, "# TYPE %95s %15s", family, type) == 2) {
            see(families, family);
        } else if (sscanf(line, "# HELP %95s", help) == 1) {
            assert_string_equal(help, family);
        } else {
            parse_sample(exposition, line, family, type);
            see(series, line);
        }
    }
    free(families);
    free(series);
    return exposition;
}

/* Every sample of the older format has a help line and a type line of its own name or family. */
static void the_older_format_names_counters_in_full(void **state)
{
    struct fixture *fixture = *state;
    json_t *result = fixture_result(fixture, "metrics", "{\"format\":\"prometheus\"}");
    const char *exposition = text(result, "text");
    assert_non_null(strstr(text(result, "content_type"), "version=0.0.4"));
    assert_null(strstr(exposition, "# EOF"));
    assert_null(strstr(exposition, " info\n"));
    const char *at = exposition;
    size_t totals = 0;
    while ((at = strstr(at, "_total")) != NULL) {
        const char *line = at;
        while (line > exposition && line[-1] != '\n') {
            line--;
        }
        if (*line != '#') {
            char help[160];
            char type[160];
            int len = (int)(at + 6 - line);
            snprintf(help, sizeof(help), "# HELP %.*s ", len, line);
            snprintf(type, sizeof(type), "# TYPE %.*s counter\n", len, line);
            assert_non_null(strstr(exposition, help));
            assert_non_null(strstr(exposition, type));
            totals++;
        }
        at++;
    }
    assert_true(totals > 20);
    json_decref(result);
}

static double sample(const struct exposition *exposition, const char *series)
{
    for (size_t i = 0; i < exposition->count; i++) {
        if (strcmp(exposition->samples[i].series, series) == 0) {
            return exposition->samples[i].value;
        }
    }
    fail_msg("no series %s", series);
    return 0;
}

static void set_field(void *base, size_t offset, uint64_t value)
{
    memcpy((char *)base + offset, &value, sizeof(value));
}

/* Every counter and gauge has a value of its own, and shows it. */
static void every_figure_moves(void **state)
{
    struct fixture *fixture = *state;
    size_t counters = 0;
    size_t gauges = 0;
    const struct stats_row *counter_rows = stats_counter_rows(&counters);
    const struct stats_row *gauge_rows = stats_gauge_rows(&gauges);
    for (size_t i = 0; i < counters; i++) {
        set_field(&fixture->shard.stats, counter_rows[i].offset, 1000 + i);
    }
    for (size_t i = 0; i < gauges; i++) {
        set_field(&fixture->gauges, gauge_rows[i].offset, 2000 + i);
    }
    struct exposition *exposition = scrape(fixture);
    for (size_t i = 0; i < counters; i++) {
        assert_true(sample(exposition, counter_rows[i].series) == (double)(1000 + i));
    }
    for (size_t i = 0; i < gauges; i++) {
        double shown = (double)(2000 + i) / (stats_in_seconds(&gauge_rows[i]) ? 1e6 : 1);
        assert_true(sample(exposition, gauge_rows[i].series) == shown);
    }
    free_exposition(exposition);
}

static double bucket(const struct exposition *exposition, const char *series, const char *bound)
{
    char name[160];
    snprintf(name, sizeof(name), "%s_bucket{le=\"%s\"}", series, bound);
    return sample(exposition, name);
}

static void histograms_are_cumulative(void **state)
{
    struct fixture *fixture = *state;
    size_t count = 0;
    const struct stats_row *rows = stats_histogram_rows(&count);
    for (size_t i = 0; i < count; i++) {
        struct histogram *histogram =
            (struct histogram *)(void *)((char *)&fixture->shard.stats + rows[i].offset);
        histogram_add(histogram, 4);
        histogram_add(histogram, 5);
        histogram_add(histogram, UINT64_C(1) << 40);
    }
    struct exposition *exposition = scrape(fixture);
    for (size_t i = 0; i < count; i++) {
        char name[120];
        assert_true(bucket(exposition, rows[i].series, "0.000004") == 1);
        assert_true(bucket(exposition, rows[i].series, "0.000016") == 2);
        assert_true(bucket(exposition, rows[i].series, "+Inf") == 3);
        snprintf(name, sizeof(name), "%s_count", rows[i].series);
        assert_true(sample(exposition, name) == 3);
        snprintf(name, sizeof(name), "%s_sum", rows[i].series);
        assert_true(sample(exposition, name) == 1099511.627785);
    }
    assert_true(bucket(exposition, "capstore_commit_admissions", "+Inf") == 0);
    free_exposition(exposition);
}

static void errors_requests_and_settings_are_shown(void **state)
{
    struct fixture *fixture = *state;
    fixture->shard.stats.errors[12] = 5;
    fixture->shard.stats.requests[PROTO_PUT_IMAGE] = 6;
    struct exposition *exposition = scrape(fixture);
    assert_true(sample(exposition, "capstore_errors_total{reason=\"unresolved_slot\"}") == 5);
    assert_true(sample(exposition, "capstore_errors_total{reason=\"ssz\"}") == 0);
    assert_true(sample(exposition, "capstore_requests_total{type=\"put_image\"}") == 6);
    assert_true(sample(exposition, "capstore_setting{option=\"max-upload\"}") ==
                (double)fixture->context.config.max_upload);
    assert_true(sample(exposition, "capstore_caps{kind=\"image\"}") == 2);
    assert_true(sample(exposition, "capstore_caps{kind=\"data\"}") == 3);
    assert_true(sample(exposition, "capstore_refs") == 4);
    assert_true(sample(exposition, "capstore_store_readable") == 1);
    assert_true(sample(exposition, "capstore_admin_calls_total") == 0);
    assert_true(sample(exposition, "capstore_build_info{version=\"" CAPSTORE_VERSION "\"}") == 1);
    free_exposition(exposition);
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(status_shows_the_figures),
        WITH_FIXTURE(status_shows_the_last_error),
        WITH_FIXTURE(refusals_come_newest_first_and_paged),
        WITH_FIXTURE(clients_are_paged),
        WITH_FIXTURE(the_log_level_is_set),
        WITH_FIXTURE(a_reload_says_what_changes),
        WITH_FIXTURE(settings_say_where_they_come_from),
        WITH_FIXTURE(the_older_format_names_counters_in_full),
        WITH_FIXTURE(every_figure_moves),
        WITH_FIXTURE(histograms_are_cumulative),
        WITH_FIXTURE(errors_requests_and_settings_are_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
