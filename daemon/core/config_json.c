/* The configuration as JSON: read from the file of --config, printed for --check-config. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/config_json.h"
#include "daemon/core/config_reader.h"
#include "daemon/core/oserror.h"

#define CONFIG_FILE_MAX (64u << 10) /* a file with every option at its longest has about 20 KiB */

/* A value of the wrong type, shown as it is written in the file. */
static enum cap_error bad_json_value(struct config_reader *reader,
                                     const struct config_option *option, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    enum cap_error error = config_bad_value(reader, option, text != NULL ? text : "");
    free(text);
    return error;
}

static enum cap_error set_from_json(struct config_reader *reader,
                                    const struct config_option *option, const json_t *value)
{
    bool numeric =
        option->type == CONFIG_SIZE || option->type == CONFIG_COUNT || option->type == CONFIG_MS;
    if (json_is_integer(value) && numeric && json_integer_value(value) >= 0) {
        return config_set_number(reader, option, (uint64_t)json_integer_value(value));
    }
    if (json_is_string(value) && (!numeric || option->type == CONFIG_SIZE)) {
        return config_set_text(reader, option, json_string_value(value));
    }
    if (!json_is_array(value) || option->type != CONFIG_TEXTS) {
        return bad_json_value(reader, option, value);
    }
    size_t index;
    json_t *item;
    json_array_foreach(value, index, item)
    {
        enum cap_error error = json_is_string(item)
                                   ? config_set_text(reader, option, json_string_value(item))
                                   : bad_json_value(reader, option, item);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

/* Where in the text of a valid object its keys stand. */
struct key_lines {
    const char *text;
    size_t len;
    size_t at;
    unsigned line;
    unsigned depth;
    bool quoted;
    bool awaits; /* the next string is a key */
};

/* The line of the next key; jansson keeps their order. */
static unsigned next_key_line(struct key_lines *keys)
{
    while (keys->at < keys->len) {
        char byte = keys->text[keys->at++];
        keys->line += byte == '\n';
        if (keys->quoted) {
            keys->at += byte == '\\';
            keys->quoted = byte != '"';
        } else if (byte == '{' || byte == '[') {
            keys->awaits = keys->depth++ == 0;
        } else if (byte == '}' || byte == ']') {
            keys->depth--;
        } else if (byte == ',') {
            keys->awaits = keys->depth == 1;
        } else if (byte == '"') {
            bool is_key = keys->awaits;
            keys->quoted = true;
            keys->awaits = false;
            if (is_key) {
                break;
            }
        }
    }
    return keys->line;
}

/* Sets one member, or says what is wrong with it. */
static enum cap_error read_member(struct config_reader *reader, const char *name,
                                  const json_t *value)
{
    const struct config_option *option = config_option_find(name, strlen(name));
    if (option == NULL || option->offset == offsetof(struct config, config)) {
        snprintf(reader->reason, CONFIG_REASON_SIZE, "%.80s: unknown setting", name);
        return CAP_E_INVALID_ARGUMENT;
    }
    const struct config_origin *origin = &reader->config->origins[config_option_index(option)];
    if (origin->source == CONFIG_FROM_COMMAND_LINE) {
        return CAP_OK;
    }
    return set_from_json(reader, option, value);
}

static enum cap_error read_object(struct config_reader *reader, json_t *object,
                                  struct key_lines *keys)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object)) {
        snprintf(reader->reason, CONFIG_REASON_SIZE, "the configuration is not a JSON object");
        return CAP_E_INVALID_ARGUMENT;
    }
    json_object_foreach(object, name, value)
    {
        char inner[CONFIG_REASON_SIZE];
        const struct config_origin origin = {CONFIG_FROM_FILE, next_key_line(keys)};
        struct config_reader member = {reader->config, &origin, inner};
        enum cap_error error = read_member(&member, name, value);
        if (error != CAP_OK) {
            if (error == CAP_E_INVALID_ARGUMENT) {
                snprintf(reader->reason, CONFIG_REASON_SIZE, "line %u: %.290s", origin.line, inner);
            }
            return error;
        }
    }
    return CAP_OK;
}

#define POSITION_SLACK 4 /* jansson names the byte before the character that it did not take */

/*
 * A character that looks like nothing or like a blank is what a person cannot find: names the first
 * one outside of strings that JSON has no place for.
 */
static bool name_odd_character(const char *text, size_t len, char *reason)
{
    unsigned line = 1;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        line += byte == '\n';
        if (quoted && byte == '\\') {
            i++;
        } else if (byte == '"') {
            quoted = !quoted;
        } else if (!quoted && (byte >= 0x7f || (byte < ' ' && !isspace(byte)))) {
            snprintf(reason, CONFIG_REASON_SIZE, "line %u: unexpected byte 0x%02x%s", line, byte,
                     byte == 0 || byte >= 0xfe ? "; save the file as UTF-8"
                     : byte > 0x7f ? ", part of a character such as a no-break space or a "
                                     "typographic quotation mark"
                                   : ", a control character");
            return true;
        }
    }
    return false;
}

enum cap_error config_parse_json(struct config *config, const char *text, size_t len,
                                 char ret_reason[CONFIG_REASON_SIZE])
{
    static const char mark[] = {'\xef', '\xbb', '\xbf'}; /* editors begin UTF-8 with it */
    struct config_reader reader = {.config = config, .reason = ret_reason};
    json_error_t where;
    if (len >= sizeof(mark) && memcmp(text, mark, sizeof(mark)) == 0) {
        text += sizeof(mark);
        len -= sizeof(mark);
    }
    json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (object == NULL) {
        size_t read = (size_t)where.position + POSITION_SLACK;
        if (!name_odd_character(text, read < len ? read : len, ret_reason)) {
            snprintf(ret_reason, CONFIG_REASON_SIZE, "line %d, column %d: %s", where.line,
                     where.column, where.text);
        }
        return CAP_E_INVALID_ARGUMENT;
    }
    struct key_lines keys = {.text = text, .len = len, .line = 1};
    enum cap_error error = read_object(&reader, object, &keys);
    json_decref(object);
    return error;
}

/* Reads a small file to its end. *ret_text is the caller's. */
static enum cap_error read_file(const char *path, char **ret_text, size_t *ret_len, char *reason)
{
    char *text = malloc(CONFIG_FILE_MAX);
    FILE *file = NULL;
    if (text == NULL) {
        return CAP_E_NO_MEMORY;
    }
    errno = 0;
    file = fopen(path, "re");
    size_t len = file == NULL ? 0 : fread(text, 1, CONFIG_FILE_MAX, file);
    int number = errno;
    bool failed = file == NULL || ferror(file);
    if (file != NULL) {
        fclose(file);
    }
    if (failed || len == CONFIG_FILE_MAX) {
        snprintf(reason, CONFIG_REASON_SIZE, "config: cannot read %.200s: %s", path,
                 failed ? strerror(number) : "longer than 64 KiB");
        free(text);
        return failed ? error_of_errno(number) : CAP_E_INVALID_ARGUMENT;
    }
    *ret_text = text;
    *ret_len = len;
    return CAP_OK;
}

enum cap_error config_read_file(struct config_reader *reader)
{
    char inner[CONFIG_REASON_SIZE] = "";
    const char *path = reader->config->config;
    char *text = NULL;
    size_t len = 0;
    enum cap_error error = read_file(path, &text, &len, reader->reason);
    if (error != CAP_OK) {
        return error;
    }
    error = config_parse_json(reader->config, text, len, inner);
    free(text);
    if (error != CAP_OK) {
        snprintf(reader->reason, CONFIG_REASON_SIZE, "%.120s: %.190s", path, inner);
    }
    return error;
}

/* One of the values that a row may have; NULL when there is none, or no memory. */
static json_t *one_value(const struct config *config, const struct config_option *option,
                         size_t index)
{
    char value[CONFIG_TEXT_SIZE];
    if (!config_value(config, option, index, value, sizeof(value))) {
        return NULL;
    }
    if (option->type == CONFIG_SIZE || option->type == CONFIG_COUNT || option->type == CONFIG_MS) {
        return json_integer((json_int_t)strtoull(value, NULL, 10));
    }
    return json_string(value);
}

json_t *config_json_value(const struct config *config, const struct config_option *option)
{
    json_t *value = one_value(config, option, 0);
    if (value == NULL || option->type != CONFIG_TEXTS) {
        return value != NULL ? value : json_null();
    }
    json_t *array = json_array();
    bool failed = array == NULL;
    for (size_t i = 1; value != NULL; i++) {
        failed |= json_array_append_new(array, value) != 0;
        value = one_value(config, option, i);
    }
    if (failed) {
        json_decref(array);
        return NULL;
    }
    return array;
}

enum cap_error config_print(const struct config *config, FILE *out)
{
    size_t count = 0;
    json_t *object = json_object();
    bool failed = object == NULL;
    const struct config_option *options = config_options(&count);
    for (size_t i = 0; i < count; i++) {
        json_t *value = config_json_value(config, &options[i]);
        if (json_is_null(value) || options[i].offset == offsetof(struct config, config)) {
            json_decref(value);
            continue;
        }
        failed |= json_object_set_new(object, options[i].name, value) != 0;
    }
    failed |= json_dumpf(object, out, JSON_INDENT(2)) != 0 || fputs("\n", out) == EOF;
    json_decref(object);
    return failed ? CAP_E_IO : CAP_OK;
}
