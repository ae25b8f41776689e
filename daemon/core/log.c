/* Structured log lines: formatted into one bounded buffer, written with one write. */
#include "daemon/core/log.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const level_names[LOG_LEVEL_COUNT] = {"error", "warning", "info", "debug"};

/* Syslog priorities: err, warning, info, debug. */
static const char *const level_prefixes[LOG_LEVEL_COUNT] = {"<3>", "<4>", "<6>", "<7>"};

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
    for (unsigned i = 0; i < LOG_LEVEL_COUNT; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* A line under construction: what does not fit is cut, and one byte is kept for the newline. */
struct line {
    char *text;
    size_t len;
};

static void put(struct line *line, const char *text, size_t len)
{
    size_t room = LOG_LINE_MAX - 1 - line->len;
    size_t n = len < room ? len : room;
    memcpy(line->text + line->len, text, n);
    line->len += n;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Whether a value can stand without quotes. */
static bool is_plain(const char *text)
{
    if (*text == '\0') {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c <= ' ' || *c >= 0x7f || *c == '"' || *c == '=' || *c == '\\') {
            return false;
        }
    }
    return true;
}

static void put_escaped(struct line *line, const char *text)
{
    put_text(line, "\"");
    for (const char *c = text; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        char escape[8];
        /* An escape is not cut in two, and the closing quote has its place. */
        if (line->len + 8 > LOG_LINE_MAX) {
            break;
        }
        if (byte == '"' || byte == '\\') {
            snprintf(escape, sizeof(escape), "\\%c", byte);
        } else if (byte == '\n') {
            snprintf(escape, sizeof(escape), "\\n");
        } else if (byte < ' ' || byte >= 0x7f) {
            snprintf(escape, sizeof(escape), "\\x%02x", byte);
        } else {
            snprintf(escape, sizeof(escape), "%c", byte);
        }
        put_text(line, escape);
    }
    put_text(line, "\"");
}

static void put_field(struct line *line, const struct log_field *field)
{
    char text[CAP_HASH_HEX_SIZE];
    if (field->key != NULL) {
        put_text(line, field->key);
        put_text(line, "=");
    }
    switch (field->type) {
    case LOG_FIELD_TEXT:
        if (is_plain(field->text)) {
            put_text(line, field->text);
        } else {
            put_escaped(line, field->text);
        }
        return;
    case LOG_FIELD_NUMBER:
        snprintf(text, sizeof(text), "%" PRIu64, field->number);
        put_text(line, text);
        return;
    case LOG_FIELD_HASH:
        cap_hash_format(field->hash, text);
        put_text(line, text);
        return;
    }
}

size_t log_format(enum log_level level, bool journal, uint64_t time_us,
                  const struct log_field *fields, size_t count, char ret_line[LOG_LINE_MAX])
{
    struct line line = {ret_line, 0};
    if (journal) {
        put_text(&line, level_prefixes[level]);
    } else {
        char time[ENV_TIME_SIZE];
        env_format_time(time_us, time);
        put_text(&line, time);
        put_text(&line, " ");
        put_text(&line, level_names[level]);
        put_text(&line, " ");
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            put_text(&line, " ");
        }
        put_field(&line, &fields[i]);
    }
    ret_line[line.len++] = '\n';
    return line.len;
}

void log_init(struct log *log, const struct env *env, int fd, bool journal)
{
    *log = (struct log){
        .level = LOG_LEVEL_INFO,
        .journal = journal,
        .fd = fd,
        .env = env,
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
}

bool log_fd_is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM"); /* "device:inode" */
    struct stat st;
    if (stream == NULL || fstat(fd, &st) != 0) {
        return false;
    }
    char *end = NULL;
    if (strtoull(stream, &end, 10) != st.st_dev || *end != ':') {
        return false;
    }
    return strtoull(end + 1, NULL, 10) == st.st_ino;
}

/* Writes a whole line if the reader can take it now. A pipe that polls writable takes at least
 * PIPE_BUF bytes, which is more than a line. */
static void emit(struct log *log, const char *line, size_t len)
{
    struct pollfd poll_fd = {.fd = log->fd, .events = POLLOUT};
    if (poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLOUT) != 0 &&
        write(log->fd, line, len) == (ssize_t)len) {
        log->lines++;
        return;
    }
    log->lost++;
    log->lost_unreported++;
}

static void report_lost(struct log *log, uint64_t now)
{
    char line[LOG_LINE_MAX];
    const struct log_field fields[] = {log_name("log_lost"),
                                       log_number("lines", log->lost_unreported)};
    uint64_t unreported = log->lost_unreported;
    log->lost_unreported = 0;
    emit(log, line, log_format(LOG_LEVEL_WARNING, log->journal, now, fields, 2, line));
    if (log->lost_unreported > 0) {
        log->lost--; /* the report itself does not count */
        log->lost_unreported = unreported;
    }
}

void log_write_always(struct log *log, enum log_level level, const struct log_field *fields,
                      size_t count)
{
    char line[LOG_LINE_MAX];
    uint64_t now = env_real_us(log->env);
    size_t len = log_format(level, log->journal, now, fields, count, line);
    pthread_mutex_lock(&log->lock);
    if (log->lost_unreported > 0) {
        report_lost(log, now);
    }
    emit(log, line, len);
    pthread_mutex_unlock(&log->lock);
}

void log_write(struct log *log, enum log_level level, const struct log_field *fields, size_t count)
{
    if (level <= log->level) {
        log_write_always(log, level, fields, count);
    }
}
