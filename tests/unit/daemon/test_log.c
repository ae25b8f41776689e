/* Log lines: one line each, whatever is in a value; levels; a reader that is too slow. */
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/log.h"

#define TIME_US UINT64_C(1767225600123456)

static uint64_t still_us(void *ctx)
{
    (void)ctx;
    return TIME_US;
}

static const struct env still = {.monotonic_us = still_us, .real_us = still_us};

static char *format(bool journal, const struct log_field *fields, size_t count)
{
    static char line[LOG_LINE_MAX + 1];
    size_t len = log_format(LOG_LEVEL_INFO, journal, TIME_US, fields, count, line);
    assert_true(len <= LOG_LINE_MAX);
    line[len] = '\0';
    return line;
}

static void test_plain_line(void **state)
{
    const struct cap_hash hash = {{0xab}};
    const struct log_field fields[] = {log_name("published"), log_number("session", 7),
                                       log_text("kind", "data"), log_hash("cap", &hash)};
    (void)state;
    assert_string_equal(format(false, fields, 4),
                        "2026-01-01T00:00:00.123456Z info published session=7 kind=data "
                        "cap=ab00000000000000000000000000000000000000000000000000000000000000\n");
    assert_int_equal(strncmp(format(true, fields, 4), "<6>published session=7 ", 23), 0);
}

static void test_values_are_escaped(void **state)
{
    static const struct {
        const char *value;
        const char *wanted;
    } cases[] = {
        {"a b", "<6>e k=\"a b\"\n"},
        {"", "<6>e k=\"\"\n"},
        {"x=y", "<6>e k=\"x=y\"\n"},
        {"say \"hi\"", "<6>e k=\"say \\\"hi\\\"\"\n"},
        {"a\nlevel=error", "<6>e k=\"a\\nlevel=error\"\n"},
        {"back\\slash", "<6>e k=\"back\\\\slash\"\n"},
        {"\x1b[31m", "<6>e k=\"\\x1b[31m\"\n"},
        {"caf\xc3\xa9", "<6>e k=\"caf\\xc3\\xa9\"\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct log_field fields[] = {log_name("e"), log_text("k", cases[i].value)};
        assert_string_equal(format(true, fields, 2), cases[i].wanted);
    }
}

/* A value longer than a line is cut, and it still is one line with a closed quote. */
static void test_long_values_are_cut(void **state)
{
    static char value[3 * LOG_LINE_MAX];
    const struct log_field fields[] = {log_name("e"), log_text("k", value)};
    (void)state;
    for (size_t lead = 0; lead < 8; lead++) {
        memset(value, '\n', sizeof(value) - 1);
        memset(value, 'a', lead);
        char *line = format(false, fields, 2);
        size_t len = strlen(line);
        assert_true(len > LOG_LINE_MAX - 16);
        assert_int_equal(line[len - 1], '\n');
        assert_int_equal(line[len - 2], '"');
        assert_ptr_equal(strchr(line, '\n'), line + len - 1);
    }
}

static void test_level_filters(void **state)
{
    int fds[2];
    char text[256];
    struct log log;
    (void)state;
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    log_init(&log, &still, fds[1], true);
    log_event(&log, LOG_LEVEL_DEBUG, log_name("hidden"));
    log_event(&log, LOG_LEVEL_WARNING, log_name("shown"));
    log.level = LOG_LEVEL_ERROR;
    log_event(&log, LOG_LEVEL_WARNING, log_name("hidden"));
    assert_int_equal(read(fds[0], text, sizeof(text)), 9);
    assert_memory_equal(text, "<4>shown\n", 9);
    assert_int_equal(log.lines, 1);
    close(fds[0]);
    close(fds[1]);
}

static void test_slow_reader_loses_lines_and_is_told(void **state)
{
    int fds[2];
    char text[1 << 17];
    struct log log;
    (void)state;
    assert_int_equal(pipe(fds), 0); /* blocking: log_event must not wait all the same */
    log_init(&log, &still, fds[1], true);
    for (int i = 0; i < 20000; i++) {
        log_event(&log, LOG_LEVEL_INFO, log_name("filling"));
    }
    uint64_t lost = log.lost;
    assert_true(lost > 0);
    assert_int_equal(log.lines + lost, 20000);
    assert_true(read(fds[0], text, sizeof(text)) > 0);
    log_event(&log, LOG_LEVEL_INFO, log_name("after"));
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "<4>log_lost lines=%llu\n<6>after\n",
             (unsigned long long)lost);
    assert_string_equal(text, wanted);
    assert_int_equal(log.lost, lost);
    close(fds[0]);
    close(fds[1]);
}

static void test_level_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LOG_LEVEL_COUNT; i++) {
        enum log_level level;
        assert_true(log_level_parse(log_level_name((enum log_level)i), &level));
        assert_int_equal(level, i);
    }
    enum log_level untouched = LOG_LEVEL_INFO;
    assert_false(log_level_parse("INFO", &untouched));
    assert_int_equal(untouched, LOG_LEVEL_INFO);
}

enum { WRITERS = 4, LINES = 500 };

static void *write_lines(void *ctx)
{
    struct log *log = ctx;
    for (uint64_t i = 0; i < LINES; i++) {
        log->level = i % 2 == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
        log_event(log, LOG_LEVEL_INFO, log_name("line"), log_number("i", i), log_text("end", "x"));
    }
    return NULL;
}

/* Any thread may write, and change the level meanwhile. */
static void test_threads_write_whole_lines(void **state)
{
    pthread_t threads[WRITERS];
    FILE *file = tmpfile();
    struct log log;
    char line[256];
    int lines = 0;
    (void)state;
    log_init(&log, env_system(), fileno(file), true);
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &log), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    rewind(file);
    for (; fgets(line, sizeof(line), file) != NULL; lines++) {
        unsigned number;
        int end = 0;
        assert_int_equal(sscanf(line, "<6>line i=%u end=x%n", &number, &end), 1);
        assert_string_equal(line + end, "\n");
    }
    assert_int_equal(lines, WRITERS * LINES);
    assert_int_equal(log.lines, WRITERS * LINES);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_line),
        cmocka_unit_test(test_values_are_escaped),
        cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test(test_level_filters),
        cmocka_unit_test(test_slow_reader_loses_lines_and_is_told),
        cmocka_unit_test(test_level_names),
        cmocka_unit_test(test_threads_write_whole_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
