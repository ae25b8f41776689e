/* One object, two ways to print it. */
#include "client/capctl/out.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* In front of an integer that jansson cannot hold; no other text has this character in it. */
#define BIG      "\x1a"
#define BIG_JSON "\"\\u001A"

#define LEVELS_MAX   16 /* twice what capctl and the daemon nest */
#define LINE_MAX_LEN 98 /* a longer array takes a line per value */

/* ---- values ---- */

json_t *out_text(const char *value)
{
    json_t *text = json_string(value);
    if (text != NULL) {
        return text;
    }
    char *copy = strdup(value);
    for (char *at = copy; at != NULL && *at != '\0'; at++) {
        if ((unsigned char)*at >= 0x80) {
            *at = '?';
        }
    }
    text = copy != NULL ? json_string(copy) : NULL;
    free(copy);
    return text;
}

json_t *out_u64(uint64_t value)
{
    if (value <= INT64_MAX) {
        return json_integer((json_int_t)value);
    }
    return json_sprintf(BIG "%" PRIu64, value);
}

json_t *out_address(uint64_t value)
{
    return json_sprintf("0x%" PRIx64, value);
}

json_t *out_hash(const struct capstore_hash *hash)
{
    char hex[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(hash, hex);
    return json_string(hex);
}

/* Writes 2 * bytes.len lower-case hex digits and a NUL to `ret_hex`, which has room for them. */
static void format_hex(struct capstore_bytes bytes, char *ret_hex)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.len; i++) {
        *ret_hex++ = digits[bytes.data[i] >> 4];
        *ret_hex++ = digits[bytes.data[i] & 0xf];
    }
    *ret_hex = '\0';
}

json_t *out_key(struct capstore_bytes key)
{
    char *hex = malloc(2 * key.len + 1);
    if (hex == NULL) {
        return NULL;
    }
    format_hex(key, hex);
    json_t *text = json_string(hex);
    free(hex);
    return text;
}

json_t *out_append(json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) == 0) {
        return array;
    }
    json_decref(array);
    return NULL;
}

/* ---- JSON ---- */

static bool print_json(const json_t *object, FILE *file)
{
    char *text = json_dumps(object, 0);
    if (text == NULL) {
        return false;
    }
    const char *at = text;
    for (const char *big; (big = strstr(at, BIG_JSON)) != NULL;) {
        const char *digits = big + strlen(BIG_JSON);
        size_t len = strspn(digits, "0123456789");
        fprintf(file, "%.*s%.*s", (int)(big - at), at, (int)len, digits);
        at = digits + len + 1; /* past the closing quote */
    }
    bool good = fputs(at, file) >= 0;
    free(text);
    return good;
}

/* ---- for a person ---- */

void out_human_size(uint64_t value, char ret_text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double shown = (double)value;
    while (shown >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        shown /= 1024;
        unit++;
    }
    snprintf(ret_text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", shown, units[unit]);
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Whether a member counts bytes, by the way that capctl and the daemon name members. */
static bool counts_bytes(const char *name)
{
    return strstr(name, "bytes") != NULL || ends_with(name, "_len") || strcmp(name, "size") == 0 ||
           strcmp(name, "len") == 0;
}

static bool is_duration(const char *name, const json_t *value)
{
    return name != NULL && ends_with(name, "_ms") && json_is_integer(value) &&
           json_integer_value(value) >= 0;
}

static void print_duration(uint64_t ms, FILE *file)
{
    uint64_t seconds = ms / 1000;
    if (seconds < 60) {
        fprintf(file, "%" PRIu64 ".%03" PRIu64 " s", seconds, ms % 1000);
    } else {
        fprintf(file, "%" PRIu64 "d %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64, seconds / 86400,
                seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    }
}

static void print_integer(const char *name, uint64_t value, FILE *file)
{
    fprintf(file, "%" PRIu64, value);
    if (name != NULL && value >= 1024 && counts_bytes(name)) {
        char human[32];
        out_human_size(value, human);
        fprintf(file, " (%s)", human);
    }
}

/* A value that is neither an object nor an array. */
static void print_scalar(const char *name, const json_t *value, FILE *file)
{
    const char *text = json_string_value(value);
    if (text != NULL && text[0] == BIG[0]) {
        print_integer(name, strtoull(text + 1, NULL, 10), file);
    } else if (text != NULL) {
        fputs(text[0] == '\0' ? "\"\"" : text, file);
    } else if (json_is_boolean(value)) {
        fputs(json_is_true(value) ? "yes" : "no", file);
    } else if (json_is_null(value)) {
        fputs("none", file);
    } else if (is_duration(name, value)) {
        print_duration((uint64_t)json_integer_value(value), file);
    } else if (json_is_integer(value) && json_integer_value(value) >= 0) {
        print_integer(name, (uint64_t)json_integer_value(value), file);
    } else {
        (void)json_dumpf(value, file, JSON_ENCODE_ANY);
    }
}

static bool is_scalar(const json_t *value)
{
    return !json_is_object(value) && !json_is_array(value);
}

/* Whether an array goes on one line: nothing but values, and short. */
static bool fits_a_line(const json_t *array)
{
    size_t i;
    json_t *value;
    size_t len = 0;
    json_array_foreach((json_t *)(uintptr_t)array, i, value)
    {
        if (!is_scalar(value)) {
            return false;
        }
        len += 1 + (json_is_string(value) ? json_string_length(value) : 20);
    }
    return len <= LINE_MAX_LEN;
}

static bool is_unset(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

void out_drop_unset(json_t *object)
{
    const char *name;
    const char *inner_name;
    json_t *value;
    json_t *inner;
    void *next;
    void *inner_next;
    json_object_foreach_safe(object, next, name, value)
    {
        json_object_foreach_safe(value, inner_next, inner_name, inner)
        {
            if (is_unset(inner)) {
                (void)json_object_del(value, inner_name);
            }
        }
        if (is_unset(value)) {
            (void)json_object_del(object, name);
        }
    }
}

/* An object or an array that is being printed. */
struct level {
    json_t *container;
    void *member;   /* the next one of an object */
    size_t element; /* the next one of an array */
    int indent;     /* of its lines */
    bool line;      /* an array on one line */
    bool bytes;     /* its name says that what is in it counts bytes */
    bool begun;     /* something of it is printed */
};

/* Prints what precedes the next value of a level: the line's start and the member's name. Returns
 * the value, NULL at the end; *ret_name is the member's name, NULL in an array. */
static json_t *next_value(struct level *level, const char **ret_name, FILE *file)
{
    json_t *value;
    *ret_name = NULL;
    if (json_is_array(level->container)) {
        value = json_array_get(level->container, level->element++);
        if (value != NULL && level->line) {
            fputc(' ', file);
        } else if (value != NULL) {
            fprintf(file, "\n%*s- ", level->indent, "");
        }
        return value;
    }
    if (level->member == NULL) {
        return NULL;
    }
    *ret_name = json_object_iter_key(level->member);
    value = json_object_iter_value(level->member);
    level->member = json_object_iter_next(level->container, level->member);
    if (level->begun) {
        fprintf(file, "\n%*s", level->indent, "");
    }
    level->begun = true;
    /* "uptime_ms" in milliseconds is "uptime" for a person. */
    size_t len = strlen(*ret_name) - (is_duration(*ret_name, value) ? strlen("_ms") : 0);
    fprintf(file, "%.*s:", (int)len, *ret_name);
    return value;
}

/* Prints an object for a person. What is nested too deep is printed as compact JSON. */
static void print_lines(const json_t *object, FILE *file)
{
    struct level levels[LEVELS_MAX];
    size_t depth = 1;
    levels[0] = (struct level){.container = (json_t *)(uintptr_t)object,
                               .member = json_object_iter((json_t *)(uintptr_t)object)};
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        const char *name;
        json_t *value = next_value(level, &name, file);
        bool element = json_is_array(level->container);
        if (value == NULL) {
            depth--;
        } else if (is_scalar(value)) {
            fputs(element ? "" : " ", file);
            print_scalar(level->bytes ? "bytes" : name, value, file);
        } else if (json_object_size(value) == 0 && json_array_size(value) == 0) {
            fputs(element ? "none" : " none", file);
        } else if (depth == LEVELS_MAX || (element && json_is_array(value))) {
            fputs(element ? "" : " ", file);
            (void)json_dumpf(value, file, 0);
        } else {
            bool deeper = element || json_is_object(value); /* "- " takes the place of an indent */
            int indent = level->indent + (deeper ? 2 : 0);
            if (!element && json_is_object(value)) {
                fprintf(file, "\n%*s", indent, "");
            }
            levels[depth++] = (struct level){
                .container = value,
                .member = json_object_iter(value),
                .indent = indent,
                .line = json_is_array(value) && fits_a_line(value),
                .bytes = name != NULL && counts_bytes(name),
            };
        }
    }
}

bool out_print(const json_t *object, bool json, FILE *file)
{
    bool good = object != NULL;
    if (good && json) {
        good = print_json(object, file);
    } else if (good) {
        print_lines(object, file);
    }
    good = good && fputc('\n', file) != EOF;
    return fflush(file) == 0 && ferror(file) == 0 && good;
}
