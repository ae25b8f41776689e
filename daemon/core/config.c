/*
 * The option table and its readers: command line and JSON file.
 *
 * Both end in the same setters, so a value means the same and is bounded the same wherever it comes
 * from. What was given on the command line is marked, so that the file does not override it.
 */
#include "daemon/core/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/log.h"
#include "daemon/core/oserror.h"

#define CONFIG_FILE_MAX (64u << 10)

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

#define AT(field) offsetof(struct config, field)

static const struct config_option options[] = {
    {"state", CONFIG_TEXT, AT(state), 0, 0, 0, "DIR",
     "state directory: the store and the spool (required)"},
    {"listen", CONFIG_TEXTS, AT(listen), 0, 0, 0, "ADDRESS",
     "serve on unix:PATH or tcp:HOST:PORT; repeatable"},
    {"listen-mode", CONFIG_MODE, AT(listen_mode), CONFIG_MODE_UMASK, 0, 0777, "MODE",
     "permissions of the Unix sockets of --listen, as 660; else what the umask leaves"},
    {"admin", CONFIG_TEXT, AT(admin), 0, 0, 0, "ADDRESS", "admin socket, unix:PATH"},
    {"admin-group", CONFIG_TEXT, AT(admin_group), 0, 0, 0, "GROUP",
     "members of this group may operate the daemon through the admin socket"},
    {"config", CONFIG_TEXT, AT(config), 0, 0, 0, "FILE",
     "read settings from a JSON object with these names"},
    {"log-level", CONFIG_LEVEL, AT(log_level), LOG_LEVEL_INFO, 0, 0, "LEVEL",
     "error, warning, info or debug"},
    {"map-size", CONFIG_SIZE, AT(map_size), 0, 0, 64 * TIB, "BYTES",
     "address space for the store, its greatest size; 0: the store's default"},
    {"workers", CONFIG_COUNT, AT(workers), 4, 2, 128, "N",
     "threads that hash uploads and wait for the disk"},
    {"max-connections", CONFIG_COUNT, AT(max_connections), 1024, 1, 65536, "N",
     "client connections in all"},
    {"max-peer-connections", CONFIG_COUNT, AT(max_peer_connections), 512, 1, 65536, "N",
     "client connections of one user or one address"},
    {"max-requests", CONFIG_COUNT, AT(max_requests), 64, 1, 1024, "N",
     "requests in flight per connection"},
    {"max-hashes", CONFIG_COUNT, AT(max_hashes), 4096, 1, 8000, "N", "hashes in one has"},
    {"max-upload", CONFIG_SIZE, AT(max_upload), GIB, 4 * KIB, 8 * GIB, "BYTES", "one upload"},
    {"max-uploads", CONFIG_COUNT, AT(max_uploads), 256, 1, 16384, "N", "uploads in flight in all"},
    {"max-structure", CONFIG_SIZE, AT(max_structure), 16 * MIB, KIB, 256 * MIB, "BYTES",
     "an Image's bytes before its arena"},
    {"max-slots", CONFIG_COUNT, AT(max_slots), 4095, 1, 65535, "N",
     "pinned and initial slots of one Image"},
    {"max-data", CONFIG_SIZE, AT(max_data), GIB, 4 * KIB, 64 * GIB, "BYTES",
     "bytes that an Image's data windows name"},
    {"max-spool", CONFIG_SIZE, AT(max_spool), 4 * GIB, MIB, 64 * TIB, "BYTES",
     "bytes of all uploads in flight"},
    {"max-peer-spool", CONFIG_SIZE, AT(max_peer_spool), 2 * GIB, MIB, 64 * TIB, "BYTES",
     "bytes of the uploads in flight of one user or one address"},
    {"max-memory", CONFIG_SIZE, AT(max_memory), 48 * MIB, MIB, TIB, "BYTES",
     "memory held for requests of all clients"},
    {"max-output", CONFIG_SIZE, AT(max_output), 64 * KIB, 4 * KIB, 16 * MIB, "BYTES",
     "answers that may wait for one client before it is no longer read from"},
    {"disk-reserve", CONFIG_SIZE, AT(disk_reserve), 16 * MIB, 0, 64 * TIB, "BYTES",
     "free disk that uploads leave alone"},
    {"idle-ms", CONFIG_MS, AT(idle_ms), 300000, 0, UINT32_MAX, "MS",
     "close a connection without a request for so long; 0: never"},
    {"progress-ms", CONFIG_MS, AT(progress_ms), 30000, 0, UINT32_MAX, "MS",
     "give up on a client that neither sends nor takes bytes it owes; 0: never"},
    {"drain-ms", CONFIG_MS, AT(drain_ms), 20000, 0, 3600000, "MS",
     "time that requests in flight have to finish when the daemon is told to end"},
    {"refusals", CONFIG_COUNT, AT(refusals), 256, 1, 65536, "N",
     "refusals kept for the admin socket"},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))
_Static_assert(OPTION_COUNT <= 64, "the mask of options given has 64 bits");

/* Where settings come from while they are read. */
struct reader {
    struct config *config;
    uint64_t set; /* bit i: row i has been given */
    char *reason;
};

const struct config_option *config_options(size_t *ret_count)
{
    *ret_count = OPTION_COUNT;
    return options;
}

static uint64_t *number_of(struct config *config, const struct config_option *option)
{
    return (uint64_t *)(void *)((char *)config + option->offset);
}

static char **text_of(struct config *config, const struct config_option *option)
{
    return (char **)(void *)((char *)config + option->offset);
}

void config_init(struct config *config)
{
    *config = (struct config){0};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].type != CONFIG_TEXT && options[i].type != CONFIG_TEXTS) {
            *number_of(config, &options[i]) = options[i].fallback;
        }
    }
}

void config_free(struct config *config)
{
    free(config->state);
    free(config->admin);
    free(config->admin_group);
    free(config->config);
    for (size_t i = 0; i < config->listen_count; i++) {
        free(config->listen[i]);
    }
    config_init(config);
}

static const struct config_option *option_find(const char *name, size_t len)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* --- Values ----------------------------------------------------------------------------------- */

static enum cap_error bad_value(struct reader *reader, const struct config_option *option,
                                const char *text, const char *wanted)
{
    snprintf(reader->reason, CONFIG_REASON_SIZE, "%s: %.80s is no %s", option->name, text, wanted);
    return CAP_E_INVALID_ARGUMENT;
}

static enum cap_error set_number(struct reader *reader, const struct config_option *option,
                                 uint64_t value)
{
    if (value < option->min || value > option->max) {
        snprintf(reader->reason, CONFIG_REASON_SIZE,
                 "%s: %" PRIu64 " is not between %" PRIu64 " and %" PRIu64, option->name, value,
                 option->min, option->max);
        return CAP_E_INVALID_ARGUMENT;
    }
    *number_of(reader->config, option) = value;
    return CAP_OK;
}

static enum cap_error set_level(struct reader *reader, const struct config_option *option,
                                const char *text)
{
    enum log_level level;
    if (!log_level_parse(text, &level)) {
        return bad_value(reader, option, text, "level: error, warning, info or debug");
    }
    *number_of(reader->config, option) = level;
    return CAP_OK;
}

/* Three octal digits, with or without a zero before them. */
static enum cap_error set_mode(struct reader *reader, const struct config_option *option,
                               const char *text)
{
    size_t digits = strspn(text, "01234567");
    if (text[digits] != '\0' || digits < 3 || digits > 4 || (digits == 4 && text[0] != '0')) {
        return bad_value(reader, option, text, "mode: three octal digits, such as 660");
    }
    *number_of(reader->config, option) = strtoull(text, NULL, 8);
    return CAP_OK;
}

/* How far a size's suffix shifts; false for another suffix. */
static bool suffix_shift(const char *suffix, unsigned *ret_shift)
{
    static const char letters[] = "KMGT";
    if (*suffix == '\0') {
        *ret_shift = 0;
        return true;
    }
    const char *found = strchr(letters, toupper((unsigned char)*suffix));
    if (found == NULL || suffix[1] != '\0') {
        return false;
    }
    *ret_shift = 10u * (unsigned)(found - letters + 1);
    return true;
}

/* Decimal digits and, for a size, K, M, G or T. */
static enum cap_error set_number_text(struct reader *reader, const struct config_option *option,
                                      const char *text)
{
    char *end = NULL;
    unsigned shift = 0;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    bool sized = option->type == CONFIG_SIZE;
    if (!isdigit((unsigned char)*text) || errno != 0 || (!sized && *end != '\0') ||
        !suffix_shift(end, &shift) || value > UINT64_MAX >> shift) {
        return bad_value(reader, option, text,
                         sized ? "number of bytes (K, M, G, T may follow)" : "number");
    }
    return set_number(reader, option, value << shift);
}

static enum cap_error set_text(struct reader *reader, const struct config_option *option,
                               const char *text)
{
    struct config *config = reader->config;
    char **slot = text_of(config, option);
    if (*text == '\0') {
        return bad_value(reader, option, "an empty text", "value");
    }
    if (option->type == CONFIG_TEXTS) {
        if (config->listen_count == CONFIG_LISTEN_MAX) {
            snprintf(reader->reason, CONFIG_REASON_SIZE, "%s: at most %d times", option->name,
                     CONFIG_LISTEN_MAX);
            return CAP_E_INVALID_ARGUMENT;
        }
        slot = &config->listen[config->listen_count];
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (option->type == CONFIG_TEXTS) {
        config->listen_count++;
    } else {
        free(*slot);
    }
    *slot = copy;
    return CAP_OK;
}

static enum cap_error set_from_text(struct reader *reader, const struct config_option *option,
                                    const char *text)
{
    switch (option->type) {
    case CONFIG_TEXT:
    case CONFIG_TEXTS:
        return set_text(reader, option, text);
    case CONFIG_LEVEL:
        return set_level(reader, option, text);
    case CONFIG_MODE:
        return set_mode(reader, option, text);
    case CONFIG_SIZE:
    case CONFIG_COUNT:
    case CONFIG_MS:
        return set_number_text(reader, option, text);
    }
    return CAP_E_INTERNAL;
}

/* --- The JSON file -----------------------------------------------------------------------------
 */

static enum cap_error set_from_json(struct reader *reader, const struct config_option *option,
                                    const json_t *value)
{
    bool numeric =
        option->type == CONFIG_SIZE || option->type == CONFIG_COUNT || option->type == CONFIG_MS;
    if (json_is_integer(value) && numeric && json_integer_value(value) >= 0) {
        return set_number(reader, option, (uint64_t)json_integer_value(value));
    }
    if (json_is_string(value) && (!numeric || option->type == CONFIG_SIZE)) {
        return set_from_text(reader, option, json_string_value(value));
    }
    if (json_is_array(value) && option->type == CONFIG_TEXTS) {
        size_t index;
        json_t *item;
        json_array_foreach(value, index, item)
        {
            if (!json_is_string(item)) {
                return bad_value(reader, option, "an item", "text");
            }
            enum cap_error error = set_text(reader, option, json_string_value(item));
            if (error != CAP_OK) {
                return error;
            }
        }
        return CAP_OK;
    }
    return bad_value(reader, option, "the value", numeric ? "number that is 0 or more" : "text");
}

static enum cap_error read_object(struct reader *reader, json_t *object)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object)) {
        snprintf(reader->reason, CONFIG_REASON_SIZE, "the configuration is no JSON object");
        return CAP_E_INVALID_ARGUMENT;
    }
    json_object_foreach(object, name, value)
    {
        const struct config_option *option = option_find(name, strlen(name));
        if (option == NULL || option->offset == AT(config)) {
            snprintf(reader->reason, CONFIG_REASON_SIZE,
                     "%.80s: there is no such setting in a configuration file", name);
            return CAP_E_INVALID_ARGUMENT;
        }
        if ((reader->set >> (option - options) & 1) != 0) {
            continue;
        }
        enum cap_error error = set_from_json(reader, option, value);
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

enum cap_error config_parse_json(struct config *config, const char *text, size_t len, uint64_t set,
                                 char ret_reason[CONFIG_REASON_SIZE])
{
    struct reader reader = {config, set, ret_reason};
    json_error_t where;
    json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (object == NULL) {
        snprintf(ret_reason, CONFIG_REASON_SIZE, "line %d, column %d: %s", where.line, where.column,
                 where.text);
        return CAP_E_INVALID_ARGUMENT;
    }
    enum cap_error error = read_object(&reader, object);
    json_decref(object);
    return error;
}

/* Reads a small file whole. *ret_text is the caller's. */
static enum cap_error read_file(const char *path, char **ret_text, size_t *ret_len)
{
    char *text = malloc(CONFIG_FILE_MAX);
    FILE *file = text == NULL ? NULL : fopen(path, "re");
    enum cap_error error = text == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    size_t len = 0;
    if (file == NULL) {
        error = error == CAP_OK ? error_of_errno(errno) : error;
        free(text);
        return error;
    }
    len = fread(text, 1, CONFIG_FILE_MAX, file);
    if (ferror(file)) {
        error = CAP_E_IO;
    } else if (len == CONFIG_FILE_MAX) {
        error = CAP_E_INVALID_ARGUMENT;
    }
    fclose(file);
    if (error != CAP_OK) {
        free(text);
        return error;
    }
    *ret_text = text;
    *ret_len = len;
    return CAP_OK;
}

static enum cap_error read_config_file(struct reader *reader)
{
    char inner[CONFIG_REASON_SIZE] = "";
    const char *path = reader->config->config;
    char *text = NULL;
    size_t len = 0;
    enum cap_error error = read_file(path, &text, &len);
    if (error != CAP_OK) {
        snprintf(reader->reason, CONFIG_REASON_SIZE, "config: cannot read %.200s: %s", path,
                 error == CAP_E_INVALID_ARGUMENT ? "longer than 64 KiB" : strerror(errno));
        return error;
    }
    error = config_parse_json(reader->config, text, len, reader->set, inner);
    free(text);
    if (error != CAP_OK) {
        snprintf(reader->reason, CONFIG_REASON_SIZE, "%.120s: %.190s", path, inner);
    }
    return error;
}

/* --- The command line --------------------------------------------------------------------------
 */

static enum cap_error unknown_argument(struct reader *reader, const char *argument)
{
    snprintf(reader->reason, CONFIG_REASON_SIZE, "%.80s: there is no such option; see --help",
             argument);
    return CAP_E_INVALID_ARGUMENT;
}

/* Reads the option at argv[*at] and moves *at past it. */
static enum cap_error read_argument(struct reader *reader, int argc, char **argv, int *at)
{
    const char *argument = argv[*at];
    if (strncmp(argument, "--", 2) != 0) {
        return unknown_argument(reader, argument);
    }
    const char *name = argument + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct config_option *option = option_find(name, len);
    if (option == NULL) {
        return unknown_argument(reader, argument);
    }
    const char *value = equals != NULL ? equals + 1 : NULL;
    if (value == NULL && *at + 1 < argc) {
        value = argv[++*at];
    }
    if (value == NULL) {
        snprintf(reader->reason, CONFIG_REASON_SIZE, "%s: a value is missing", option->name);
        return CAP_E_INVALID_ARGUMENT;
    }
    ++*at;
    reader->set |= UINT64_C(1) << (option - options);
    return set_from_text(reader, option, value);
}

enum cap_error config_parse(struct config *config, int argc, char **argv,
                            enum config_action *ret_action, char ret_reason[CONFIG_REASON_SIZE])
{
    struct reader reader = {config, 0, ret_reason};
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    for (int at = 1; at < argc;) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            *ret_action = CONFIG_HELP;
            return CAP_OK;
        }
        if (strcmp(argv[at], "--version") == 0) {
            *ret_action = CONFIG_VERSION;
            return CAP_OK;
        }
        enum cap_error error = read_argument(&reader, argc, argv, &at);
        if (error != CAP_OK) {
            return error;
        }
    }
    if (config->config != NULL) {
        enum cap_error error = read_config_file(&reader);
        if (error != CAP_OK) {
            return error;
        }
    }
    if (config->state == NULL) {
        snprintf(ret_reason, CONFIG_REASON_SIZE, "state: a directory must be given; see --help");
        return CAP_E_INVALID_ARGUMENT;
    }
    *ret_action = CONFIG_RUN;
    return CAP_OK;
}

/* --- Showing ------------------------------------------------------------------------------------
 */

bool config_value(const struct config *config, const struct config_option *option, size_t index,
                  char *ret_value, size_t size)
{
    const char *base = (const char *)config + option->offset;
    const uint64_t *number = (const uint64_t *)(const void *)base;
    char *const *text = (char *const *)(const void *)base;
    if (option->type == CONFIG_TEXTS ? index >= config->listen_count : index > 0) {
        return false;
    }
    switch (option->type) {
    case CONFIG_TEXT:
    case CONFIG_TEXTS:
        if (text[index] == NULL) {
            return false;
        }
        snprintf(ret_value, size, "%s", text[index]);
        return true;
    case CONFIG_LEVEL:
        snprintf(ret_value, size, "%s", log_level_name((enum log_level) * number));
        return true;
    case CONFIG_MODE:
        snprintf(ret_value, size, "%03" PRIo64, *number);
        return *number != CONFIG_MODE_UMASK;
    case CONFIG_SIZE:
    case CONFIG_COUNT:
    case CONFIG_MS:
        snprintf(ret_value, size, "%" PRIu64, *number);
        return true;
    }
    return false;
}

void config_help(FILE *out)
{
    struct config defaults;
    char value[CONFIG_VALUE_SIZE];
    config_init(&defaults);
    fputs("Usage: capstored --state DIR --listen ADDRESS [--OPTION VALUE]...\n"
          "Keeps caps and serves them by hash. SIGTERM drains and ends it.\n\n",
          out);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char flag[48];
        snprintf(flag, sizeof(flag), "--%s %s", options[i].name, options[i].unit);
        fprintf(out, "  %-30s %s", flag, options[i].help);
        if (config_value(&defaults, &options[i], 0, value, sizeof(value))) {
            fprintf(out, " [%s]", value);
        }
        fputs("\n", out);
    }
    fputs("  --help                         show this\n"
          "  --version                      show the version\n\n"
          "Bytes take K, M, G or T. See capstored(8).\n",
          out);
}
