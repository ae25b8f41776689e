/* The option table: every row, both readers, bounds, and sentences that name the option. */
#include "tests/unit/support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/config.h"
#include "daemon/core/log.h"

struct parsed {
    struct config config;
    enum config_action action;
    enum cap_error error;
    char reason[CONFIG_REASON_SIZE];
};

/* Parses a command line of up to 8 arguments, NULL-terminated. The caller frees the config. */
static void parse(struct parsed *parsed, const char *const *arguments)
{
    char copies[10][128] = {"capstored"};
    char *argv[11] = {copies[0]};
    int argc = 1;
    for (; arguments[argc - 1] != NULL; argc++) {
        snprintf(copies[argc], sizeof(copies[argc]), "%s", arguments[argc - 1]);
        argv[argc] = copies[argc];
    }
    config_init(&parsed->config);
    parsed->reason[0] = '\0';
    parsed->error = config_parse(&parsed->config, argc, argv, &parsed->action, parsed->reason);
}

#define PARSE(parsed, ...) parse(parsed, (const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(const char *option, struct parsed *parsed)
{
    assert_cap_error(parsed->error, CAP_E_INVALID_ARGUMENT);
    assert_non_null(strstr(parsed->reason, option));
    config_free(&parsed->config);
}

static enum cap_error parse_json(struct config *config, const char *text, char *reason)
{
    config_init(config);
    return config_parse_json(config, text, strlen(text), reason);
}

/* --- The command line ----------------------------------------------------------------------- */

static void test_values_in_both_spellings(void **state)
{
    struct parsed p;
    (void)state;
    PARSE(&p, "--state", "/s", "--listen=unix:/a", "--listen", "tcp:[::1]:5", "--max-upload=2M");
    assert_cap_ok(p.error);
    assert_int_equal(p.action, CONFIG_RUN);
    assert_string_equal(p.config.state, "/s");
    assert_int_equal(p.config.listen_count, 2);
    assert_string_equal(p.config.listen[1], "tcp:[::1]:5");
    assert_int_equal(p.config.max_upload, 2 << 20);
    assert_int_equal(p.config.max_requests, 64); /* untouched default */
    config_free(&p.config);
}

static void test_modes_are_octal(void **state)
{
    static const char *const bad[] = {"",      "66",        "8888",  "1777",
                                      "06600", "rw-rw----", "0o660", "660 "};
    struct parsed p;
    (void)state;
    PARSE(&p, "--state", "/s");
    assert_true(p.config.listen_mode == CONFIG_MODE_UMASK);
    config_free(&p.config);
    PARSE(&p, "--state", "/s", "--listen-mode", "660");
    assert_int_equal(p.config.listen_mode, 0660);
    config_free(&p.config);
    PARSE(&p, "--state", "/s", "--listen-mode=0606");
    assert_int_equal(p.config.listen_mode, 0606);
    config_free(&p.config);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        PARSE(&p, "--state", "/s", "--listen-mode", bad[i]);
        assert_refused("listen-mode", &p);
    }
    assert_cap_ok(parse_json(&p.config, "{\"listen-mode\": \"0660\"}", p.reason));
    assert_int_equal(p.config.listen_mode, 0660);
    config_free(&p.config);
    /* A number would be read as decimal by some and as octal by others. */
    p.error = parse_json(&p.config, "{\"listen-mode\": 660}", p.reason);
    assert_refused("listen-mode", &p);
}

static void test_help_and_version(void **state)
{
    struct parsed p;
    (void)state;
    PARSE(&p, "--help");
    assert_int_equal(p.action, CONFIG_HELP);
    config_free(&p.config);
    PARSE(&p, "-h");
    assert_int_equal(p.action, CONFIG_HELP);
    config_free(&p.config);
    PARSE(&p, "--state", "/s", "--version");
    assert_int_equal(p.action, CONFIG_VERSION);
    config_free(&p.config);
    PARSE(&p, "--check-config", "--state", "/s", "--workers", "7");
    assert_cap_ok(p.error);
    assert_int_equal(p.action, CONFIG_CHECK);
    assert_int_equal(p.config.workers, 7);
    config_free(&p.config);
    PARSE(&p, "--check-config", "--workers", "7");
    assert_refused("state", &p);
    PARSE(&p, "--check-config", "--workers", "1");
    assert_refused("workers", &p);
    PARSE(&p, "--check", "--state", "/s");
    assert_cap_ok(p.error);
    assert_int_equal(p.action, CONFIG_CHECK_STORE);
    config_free(&p.config);
    PARSE(&p, "--check");
    assert_int_equal(p.action, CONFIG_CHECK_STORE);
    assert_refused("state", &p);
}

static void test_bad_arguments_name_the_option(void **state)
{
    struct parsed p;
    (void)state;
    PARSE(&p, "--listen", "unix:/a");
    assert_refused("state", &p);
    PARSE(&p, "--stat", "/s");
    assert_refused("--stat", &p);
    PARSE(&p, "--stat=/s"); /* no abbreviations: they change meaning when options are added */
    assert_refused("--stat", &p);
    PARSE(&p, "--state", "/s", "--", "word");
    assert_refused("word", &p);
    PARSE(&p, "--state", "/s", "-hx");
    assert_int_equal(p.action, CONFIG_HELP);
    config_free(&p.config);
    PARSE(&p, "--state", "/s", "--help=x");
    assert_refused("--help=x", &p);
    PARSE(&p, "word");
    assert_refused("word", &p);
    PARSE(&p, "--state");
    assert_refused("state", &p);
    PARSE(&p, "--state", "/s", "--workers", "1");
    assert_refused("workers", &p);
    PARSE(&p, "--state", "/s", "--max-requests", "1025");
    assert_refused("max-requests", &p);
    PARSE(&p, "--state", "/s", "--max-requests", "8K"); /* a count takes no suffix */
    assert_refused("max-requests", &p);
    PARSE(&p, "--state", "/s", "--max-upload", "-1");
    assert_refused("max-upload", &p);
    PARSE(&p, "--state", "/s", "--max-upload", "99999999999999999999");
    assert_refused("max-upload", &p);
    PARSE(&p, "--state", "/s", "--max-spool", "18014398509481985K"); /* wraps when shifted */
    assert_refused("max-spool", &p);
    PARSE(&p, "--state", "/s", "--log-level", "loud");
    assert_refused("log-level", &p);
    PARSE(&p, "--state", "");
    assert_refused("state", &p);
}

/* Every number takes its bounds and nothing past them. */
static void test_every_bound(void **state)
{
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        struct config config;
        char reason[CONFIG_REASON_SIZE];
        char text[128];
        const struct config_option *option = &options[i];
        if (option->type == CONFIG_TEXT || option->type == CONFIG_TEXTS ||
            option->type == CONFIG_LEVEL || option->type == CONFIG_MODE) {
            continue;
        }
        assert_in_range(option->fallback, option->min, option->max);
        snprintf(text, sizeof(text), "{\"%s\": %llu}", option->name,
                 (unsigned long long)option->max);
        assert_cap_ok(parse_json(&config, text, reason));
        config_free(&config);
        snprintf(text, sizeof(text), "{\"%s\": %llu}", option->name,
                 (unsigned long long)option->max + 1);
        assert_cap_error(parse_json(&config, text, reason), CAP_E_INVALID_ARGUMENT);
        assert_non_null(strstr(reason, option->name));
        config_free(&config);
    }
}

static void test_listen_is_bounded(void **state)
{
    struct config config;
    char reason[CONFIG_REASON_SIZE];
    (void)state;
    assert_cap_error(parse_json(&config,
                                "{\"listen\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\","
                                "\"i\",\"j\",\"k\",\"l\",\"m\",\"n\",\"o\",\"p\",\"q\"]}",
                                reason),
                     CAP_E_INVALID_ARGUMENT);
    assert_non_null(strstr(reason, "listen"));
    config_free(&config);
}

/* --- JSON ----------------------------------------------------------------------------------- */

static void test_json(void **state)
{
    struct config config;
    char reason[CONFIG_REASON_SIZE];
    (void)state;
    assert_cap_ok(parse_json(&config,
                             "{\"state\":\"/s\",\"listen\":[\"unix:/a\",\"unix:/b\"],"
                             "\"max-upload\":\"8K\",\"idle-ms\":7,\"log-level\":\"debug\"}",
                             reason));
    assert_int_equal(config.listen_count, 2);
    assert_int_equal(config.max_upload, 8192);
    assert_int_equal(config.idle_ms, 7);
    assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
    config_free(&config);
}

static void test_bad_json(void **state)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{\"max-upload\":-1}",
        "{\"max-upload\":1.5}",
        "{\"x\":1}",
        "{\"state\":1}",
        "{\"state\":\"a\",\"state\":\"b\"}",
        "{\"listen\":[1]}",
        "{",
        "{\"idle-ms\":\"1\"}",
        "{\"config\":\"x\"}",
        "{\"workers\":null}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct config config;
        char reason[CONFIG_REASON_SIZE] = "";
        assert_cap_error(parse_json(&config, texts[i], reason), CAP_E_INVALID_ARGUMENT);
        assert_true(strlen(reason) > 0);
        config_free(&config);
    }
}

static void test_command_line_wins_over_file(void **state)
{
    char path[] = "/tmp/capstore-config-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "{\"state\":\"/file\",\"workers\":9,\"listen\":\"unix:/file\"}";
    struct parsed p;
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
    close(fd);
    PARSE(&p, "--config", path, "--state", "/line");
    assert_cap_ok(p.error);
    assert_string_equal(p.config.state, "/line");
    assert_int_equal(p.config.workers, 9);
    assert_string_equal(p.config.listen[0], "unix:/file");
    config_free(&p.config);
    unlink(path);
    PARSE(&p, "--config", path, "--state", "/line");
    assert_cap_error(p.error, CAP_E_IO);
    assert_non_null(strstr(p.reason, path));
    config_free(&p.config);
}

/* Bytes that a person does not see are taken or named. */
static void test_invisible_characters(void **state)
{
    static const struct {
        const char *text;
        const char *named; /* NULL: taken */
    } rows[] = {
        {"\xef\xbb\xbf{\"workers\": 9}", NULL},
        {"{\"workers\":\r\n\t9}", NULL},
        {"{\"workers\":\xc2\xa0"
         "9}",
         "line 1: unexpected byte 0xc2"},
        {"{\n\xe2\x80\x9cworkers\xe2\x80\x9d: 9}", "line 2: unexpected byte 0xe2"},
        {"{\"a\xef\xbb\xbf\": 1,\n\xef\xbb\xbf\"workers\": 9}", "line 2: unexpected byte 0xef"},
        {"\xff\xfe{", "save the file as UTF-8"},
        {"{\n\"workers\" 9,\n  \xc2\xa0\"readers\": 9}",
         "line 2, column"}, /* what is wrong first */
        {"{\"workers\": \x01"
         "9}",
         "0x01, a control character"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct config config;
        char reason[CONFIG_REASON_SIZE] = "";
        enum cap_error error = parse_json(&config, rows[i].text, reason);
        assert_int_equal(error == CAP_OK, rows[i].named == NULL);
        if (rows[i].named == NULL) {
            assert_int_equal(config.workers, 9);
        } else {
            assert_non_null(strstr(reason, rows[i].named));
        }
        config_free(&config);
    }
}

/* What is wrong and what would be right. */
static void test_reasons_say_what_is_expected(void **state)
{
    static const struct {
        const char *text;
        const char *reason;
    } rows[] = {
        {"{\"listen-mode\": 660}",
         "line 1: listen-mode: '660' is not valid; expected three octal digits, "
         "such as 660 (in a file: in quotes)"},
        {"{\"workers\": \"four\"}",
         "line 1: workers: '\"four\"' is not valid; expected a whole number"},
        {"{\"idle-ms\": 1.5}",
         "line 1: idle-ms: '1.5' is not valid; expected a whole number of milliseconds"},
        {"{\"log-level\": \"loud\"}",
         "line 1: log-level: 'loud' is not valid; expected error, warning, info or debug"},
        {"{\"max-upload\": \"1Q\"}",
         "line 1: max-upload: '1Q' is not valid; expected a number of bytes; "
         "K, M, G or T may follow (in a file: in quotes)"},
        {"{\"listen\": [1]}",
         "line 1: listen: '1' is not valid; expected a string that is not empty, or an "
         "array of such strings"},
        {"{\n\"state\": \"a\\\"{,\",\n \"listen\": [\"unix:/a\",\n \"unix:/b\"], \"readers\":\n9,"
         "\n\"workers\": 1}",
         "line 6: workers: 1 is not between 2 and 128"},
        {"{\n\n\"map-size\": {\"a\": [1,\n2]}}",
         "line 3: map-size: '{\"a\":[1,2]}' is not valid; expected a number of bytes; K, M, G or T "
         "may follow (in a file: in quotes)"},
        {"{\"x\": 1}", "line 1: x: unknown setting"},
        {"[]", "the configuration is not a JSON object"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct config config;
        char reason[CONFIG_REASON_SIZE] = "";
        assert_cap_error(parse_json(&config, rows[i].text, reason), CAP_E_INVALID_ARGUMENT);
        assert_string_equal(reason, rows[i].reason);
        config_free(&config);
    }
}

/* --- Reading again -------------------------------------------------------------------------- */

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct config_origin origin_of(const struct config *config, const char *name)
{
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return config->origins[i];
        }
    }
    fail();
    return (struct config_origin){0};
}

static void assert_origin(const struct config *config, const char *name, enum config_source source,
                          unsigned line)
{
    struct config_origin origin = origin_of(config, name);
    assert_int_equal(origin.source, source);
    assert_int_equal(origin.line, line);
}

/* Every value that differs is taken over if it is live, and left alone if it is not. */
static void test_reading_again(void **state)
{
    char path[] = "/tmp/capstore-config-XXXXXX";
    struct parsed p;
    struct config now;
    struct config again;
    (void)state;
    close(mkstemp(path));
    write_text(path, "{\n\"max-upload\": 8192,\n\"workers\": 9,\n\"idle-ms\": 5,\n"
                     "\"listen\": [\"unix:/a\",\n\"unix:/b\"]}");
    PARSE(&p, "--config", path, "--state", "/line", "--idle-ms", "7", "--log-level", "debug");
    assert_cap_ok(p.error);
    assert_origin(&p.config, "max-upload", CONFIG_FROM_FILE, 2);
    assert_origin(&p.config, "listen", CONFIG_FROM_FILE, 5);
    assert_origin(&p.config, "idle-ms", CONFIG_FROM_COMMAND_LINE, 0);
    assert_origin(&p.config, "readers", CONFIG_FROM_DEFAULT, 0);
    config_init(&now);
    assert_cap_ok(config_copy(&p.config, &now));
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    for (size_t i = 0; i < count; i++) {
        assert_false(config_differs(&p.config, &now, &options[i]));
    }

    write_text(path,
               "{\"max-slots\": 5,\n\"workers\": 8, \"idle-ms\": 6, \"listen\": \"unix:/a\"}");
    config_init(&again);
    assert_cap_ok(config_read_again(&p.config, &again, p.reason));
    assert_int_equal(again.idle_ms, 7); /* the command line still wins */
    assert_int_equal(again.log_level, LOG_LEVEL_DEBUG);
    assert_string_equal(again.state, "/line");
    assert_string_equal(again.config, path);
    assert_int_equal(again.max_upload, UINT64_C(1) << 30); /* the default again */
    assert_origin(&again, "max-slots", CONFIG_FROM_FILE, 1);
    assert_origin(&again, "workers", CONFIG_FROM_FILE, 2);
    unsigned different = 0;
    for (size_t i = 0; i < count; i++) {
        different += config_differs(&p.config, &again, &options[i]);
    }
    assert_int_equal(different, 4); /* max-upload, max-slots, workers, listen */
    config_apply(&now, &again);
    assert_int_equal(now.max_upload, UINT64_C(1) << 30);
    assert_int_equal(now.max_slots, 5);
    assert_int_equal(now.workers, 9);
    assert_int_equal(now.listen_count, 2);
    config_free(&again);

    write_text(path, "{\"max-slots\": 5,\n\"workers\": 0}");
    config_init(&again);
    assert_cap_error(config_read_again(&p.config, &again, p.reason), CAP_E_INVALID_ARGUMENT);
    assert_non_null(strstr(p.reason, path));
    assert_non_null(strstr(p.reason, ": line 2: workers: 0 is not between"));
    config_free(&again);
    unlink(path);
    config_init(&again);
    assert_cap_error(config_read_again(&p.config, &again, p.reason), CAP_E_IO);
    config_free(&again);
    config_free(&now);
    config_free(&p.config);
}

/* --- Showing -------------------------------------------------------------------------------- */

static void test_values_read_back(void **state)
{
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    struct config config;
    char value[CONFIG_VALUE_SIZE];
    (void)state;
    config_init(&config);
    for (size_t i = 0; i < count; i++) {
        bool unset = options[i].type == CONFIG_TEXT || options[i].type == CONFIG_TEXTS ||
                     options[i].type == CONFIG_MODE;
        assert_int_equal(config_value(&config, &options[i], 0, value, sizeof(value)), !unset);
        assert_false(config_value(&config, &options[i], 1, value, sizeof(value)));
    }
}

/* What --check-config prints is a configuration that says the same. */
static void test_printing_reads_back(void **state)
{
    struct parsed p;
    struct config again;
    char *text = NULL;
    size_t len = 0;
    (void)state;
    PARSE(&p, "--state", "/s", "--listen", "unix:/a", "--listen=tcp:h:1", "--listen-mode", "0640",
          "--max-upload=2M");
    assert_cap_ok(p.error);
    FILE *out = open_memstream(&text, &len);
    assert_cap_ok(config_print(&p.config, out));
    fclose(out);
    assert_cap_ok(parse_json(&again, text, p.reason));
    assert_string_equal(again.state, "/s");
    assert_int_equal(again.listen_count, 2);
    assert_string_equal(again.listen[1], "tcp:h:1");
    assert_int_equal(again.listen_mode, 0640);
    assert_int_equal(again.max_upload, 2 << 20);
    free(text);
    config_free(&p.config);
    config_free(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_in_both_spellings),
        cmocka_unit_test(test_modes_are_octal),
        cmocka_unit_test(test_help_and_version),
        cmocka_unit_test(test_bad_arguments_name_the_option),
        cmocka_unit_test(test_every_bound),
        cmocka_unit_test(test_listen_is_bounded),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_command_line_wins_over_file),
        cmocka_unit_test(test_invisible_characters),
        cmocka_unit_test(test_reasons_say_what_is_expected),
        cmocka_unit_test(test_reading_again),
        cmocka_unit_test(test_printing_reads_back),
        cmocka_unit_test(test_values_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
