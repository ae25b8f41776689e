/*
 * The log: one structured line per event on standard error.
 *
 *     2026-01-31T12:00:00.123456Z info session_opened session=7 peer="unix:uid=1000,pid=42"
 *
 * Values that are not plain words are quoted, with \" \\ \n \xHH escapes, so that a line is always
 * one line and a value is never taken for a key. Under the journal (JOURNAL_STREAM) a line starts
 * with a syslog priority, `<6>`, and has no time of its own. A line is at most LOG_LINE_MAX bytes.
 * A line that standard error cannot take at once is lost, and the next one says how many were: the
 * loop never waits for a reader of the log. Any thread may write; a line is never mixed with
 * another.
 */
#ifndef DAEMON_CORE_LOG_H
#define DAEMON_CORE_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/env.h"
#include "lib/cap/bytes.h"

#define LOG_LINE_MAX 2048u

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
};

#define LOG_LEVEL_COUNT 4

struct log {
    _Atomic(enum log_level) level; /* lines above it are dropped; may change at any time */
    bool journal;
    int fd;
    const struct env *env;
    _Atomic(uint64_t) lines;
    _Atomic(uint64_t) lost; /* lines that standard error could not take */
    pthread_mutex_t lock;   /* of the descriptor and of what follows */
    uint64_t lost_unreported;
};

enum log_field_type {
    LOG_FIELD_TEXT,
    LOG_FIELD_NUMBER,
    LOG_FIELD_HASH,
};

/* key=value; the first field of a line is the event and has no key. */
struct log_field {
    const char *key;
    enum log_field_type type;
    const char *text;
    uint64_t number;
    const struct cap_hash *hash;
};

/* The fields of a line; texts and hashes are borrowed until log_write returns. First, the event. */
static inline struct log_field log_name(const char *event)
{
    return (struct log_field){.key = NULL, .type = LOG_FIELD_TEXT, .text = event};
}

/* key=text, quoted where needed. */
static inline struct log_field log_text(const char *key, const char *text)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_TEXT, .text = text};
}

/* key=decimal. */
static inline struct log_field log_number(const char *key, uint64_t number)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_NUMBER, .number = number};
}

/* key=64 hex digits. */
static inline struct log_field log_hash(const char *key, const struct cap_hash *hash)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_HASH, .hash = hash};
}

/* error=name. */
static inline struct log_field log_error(enum cap_error error)
{
    return (struct log_field){
        .key = "error", .type = LOG_FIELD_TEXT, .text = cap_error_name(error)};
}

/* log_event(&server->log, LOG_LEVEL_INFO, log_name("session_opened"), log_number("session", 7)) */
#define log_event(log, level, ...)                                                                 \
    log_write((log), (level), (const struct log_field[]){__VA_ARGS__},                             \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* As log_event, at any level of the log: for the audit. */
#define log_event_always(log, level, ...)                                                          \
    log_write_always((log), (level), (const struct log_field[]){__VA_ARGS__},                      \
                     sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* A log to `fd`; `journal` as the head of this file says. `env` outlives it. */
void log_init(struct log *log, const struct env *env, int fd, bool journal);

/* Whether standard error goes to the journal, by JOURNAL_STREAM and the file behind fd 2. */
bool log_fd_is_journal(int fd);

/* Writes one line, or drops it by level. */
void log_write(struct log *log, enum log_level level, const struct log_field *fields, size_t count);

/* Writes one line, whatever the level of the log. */
void log_write_always(struct log *log, enum log_level level, const struct log_field *fields,
                      size_t count);

/* Formats a line with its newline into `ret_line`; returns its length. Pure; for log_write. */
size_t log_format(enum log_level level, bool journal, uint64_t time_us,
                  const struct log_field *fields, size_t count, char ret_line[LOG_LINE_MAX]);

/* "error", "warning", "info", "debug". Static. */
const char *log_level_name(enum log_level level);

/* The level of a name; false for another text. */
bool log_level_parse(const char *name, enum log_level *ret_level);

#endif
