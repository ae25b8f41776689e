/*
 * The option table, the setters of values, and the command line.
 *
 * Command line and file (config_json.c) end in the same setters, so a value means the same and has
 * the same bounds wherever it comes from. Options given on the command line are marked, so that the
 * file does not override them.
 */
#include "daemon/core/config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/config_reader.h"
#include "daemon/core/log.h"

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

#define DAY_S UINT64_C(86400)

#define AT(field) offsetof(struct config, field)
#define LIVE      true
#define RESTART   false

/*
 * Defaults suit one machine with a few publishers and a gigabyte for the daemon: the largest Image
 * allowed is hashed in about ten times max-structure, which fits into max-memory; a spool holds
 * four of the largest uploads. Upper bounds keep sums of sizes within 64 bits and a
 * message within its frame (max-hashes: 8000 hashes of 32 bytes in 256 KiB).
 */
static const struct config_option options[] = {
    {"state", CONFIG_TEXT, AT(state), 0, 0, 0, "DIR",
     "state directory: the store and the spool (required)", RESTART},
    {"listen", CONFIG_TEXTS, AT(listen), 0, 0, 0, "ADDRESS",
     "serve on unix:PATH, unix:@NAME or tcp:HOST:PORT; repeatable", RESTART},
    {"listen-mode", CONFIG_MODE, AT(listen_mode), CONFIG_MODE_UMASK, 0, 0777, "MODE",
     "permissions of the Unix sockets of --listen and --http, such as 660 [the umask's]", RESTART},
    {"http", CONFIG_TEXT, AT(http), 0, 0, 0, "ADDRESS",
     "serve caps, metrics and health read-only over HTTP on an address as of --listen", RESTART},
    {"admin", CONFIG_TEXT, AT(admin), 0, 0, 0, "ADDRESS", "admin socket, unix:PATH", RESTART},
    {"admin-group", CONFIG_TEXT, AT(admin_group), 0, 0, 0, "GROUP",
     "members of this group may operate the daemon through the admin socket", LIVE},
    {"address-file", CONFIG_TEXT, AT(address_file), 0, 0, 0, "FILE",
     "write the addresses in use to this file, one per line, once the daemon listens", RESTART},
    {"config", CONFIG_TEXT, AT(config), 0, 0, 0, "FILE",
     "read settings from a JSON object with these names", RESTART},
    {"log-level", CONFIG_LEVEL, AT(log_level), LOG_LEVEL_INFO, 0, 0, "LEVEL",
     "error, warning, info or debug", LIVE},
    {"map-size", CONFIG_SIZE, AT(map_size), 0, 0, 64 * TIB, "BYTES",
     "address space for the store, and so its maximum size; 0: 1T, or what fits", RESTART},
    {"workers", CONFIG_COUNT, AT(workers), 4, 2, 128, "N",
     "threads that hash uploads and wait for the disk", RESTART},
    {"threads", CONFIG_COUNT, AT(threads), 0, 0, CONFIG_THREADS_MAX, "N",
     "threads that serve clients; 0: as many as there are cores", RESTART},
    {"io-uring", CONFIG_COUNT, AT(io_uring), 32, 0, CONFIG_IO_URING_MAX, "N",
     "sockets that one system call serves, where io_uring is allowed; 0: do not use it", RESTART},
    {"readers", CONFIG_COUNT, AT(readers), 8, 2, 128, "N",
     "threads that look caps up and read their pages from the disk", RESTART},
    {"record-cache", CONFIG_SIZE, AT(record_cache), 48 * MIB, 0, TIB, "BYTES",
     "memory for what is known of recently requested caps; 0: none", RESTART},
    {"body-cache", CONFIG_SIZE, AT(body_cache), 256 * MIB, 0, 64 * GIB, "BYTES",
     "memory for larger bodies that are fetched again and again; 0: none", RESTART},
    {"map-cache", CONFIG_SIZE, AT(map_cache), GIB, 0, 64 * TIB, "BYTES",
     "memory for copies of caps that runtimes map; 0: none", RESTART},
    {"max-connections", CONFIG_COUNT, AT(max_connections), 1024, 1, 65536, "N",
     "client connections in total", LIVE},
    {"max-peer-connections", CONFIG_COUNT, AT(max_peer_connections), 0, 0, 65536, "N",
     "client connections of one peer, a user or an address; 0: a quarter", LIVE},
    {"peer-prefix6", CONFIG_COUNT, AT(peer_prefix6), 64, 1, 128, "BITS",
     "IPv6 addresses that share this many leading bits count as one peer", LIVE},
    {"max-requests", CONFIG_COUNT, AT(max_requests), 64, 1, 1024, "N",
     "requests in flight per connection", LIVE},
    {"max-all-requests", CONFIG_COUNT, AT(max_all_requests), 8192, 1, 1 << 26, "N",
     "requests in flight in total", LIVE},
    {"max-peer-requests", CONFIG_COUNT, AT(max_peer_requests), 0, 0, 1 << 26, "N",
     "requests in flight of one peer; 0: a quarter", LIVE},
    {"max-hashes", CONFIG_COUNT, AT(max_hashes), 4096, 1, CONFIG_HASHES_MAX, "N",
     "hashes in one HAS, GET_MANY or CLOSURE request", LIVE},
    {"closure-max", CONFIG_COUNT, AT(closure_max), 65536, 1, 1 << 24, "N",
     "caps in one answer to a CLOSURE request", LIVE},
    {"max-upload", CONFIG_SIZE, AT(max_upload), GIB, 4 * KIB, 8 * GIB, "BYTES",
     "size of one upload", LIVE},
    {"max-uploads", CONFIG_COUNT, AT(max_uploads), 256, 1, 16384, "N", "uploads in flight in total",
     LIVE},
    {"max-peer-uploads", CONFIG_COUNT, AT(max_peer_uploads), 0, 0, 16384, "N",
     "uploads in flight of one peer; 0: a quarter", LIVE},
    {"max-peer-hashing", CONFIG_COUNT, AT(max_peer_hashing), 25, 1, 100, "PERCENT",
     "hashing for one peer while others wait", LIVE},
    {"max-structure", CONFIG_SIZE, AT(max_structure), 16 * MIB, KIB, 256 * MIB, "BYTES",
     "an Image's bytes before its arena", LIVE},
    {"max-slots", CONFIG_COUNT, AT(max_slots), 4095, 1, 65535, "N",
     "pinned and initial slots of one Image", LIVE},
    {"max-data", CONFIG_SIZE, AT(max_data), GIB, 4 * KIB, 64 * GIB, "BYTES",
     "bytes that an Image's data windows name", LIVE},
    {"max-spool", CONFIG_SIZE, AT(max_spool), 4 * GIB, MIB, 64 * TIB, "BYTES",
     "bytes of all uploads in flight", LIVE},
    {"max-peer-spool", CONFIG_SIZE, AT(max_peer_spool), 0, 0, 64 * TIB, "BYTES",
     "bytes of the uploads in flight of one peer; 0: a quarter", LIVE},
    {"max-memory", CONFIG_SIZE, AT(max_memory), 192 * MIB, MIB, TIB, "BYTES",
     "memory held for requests of all clients", LIVE},
    {"max-peer-memory", CONFIG_SIZE, AT(max_peer_memory), 0, 0, TIB, "BYTES",
     "memory held for requests of one peer; 0: a quarter", LIVE},
    {"max-peer-maps", CONFIG_SIZE, AT(max_peer_maps), 0, 0, 64 * TIB, "BYTES",
     "memory of the copies that one peer was given to map; 0: a quarter", LIVE},
    {"max-buffers", CONFIG_SIZE, AT(max_buffers), 8 * MIB, MIB, TIB, "BYTES",
     "memory of uploads on their way to the spool; a peer may have a quarter", LIVE},
    {"resume-keep", CONFIG_COUNT, AT(resume_keep), 300, 0, DAY_S, "SECONDS",
     "how long to keep what came of an upload that was cut off, so that it can go on", LIVE},
    {"resume-bytes", CONFIG_SIZE, AT(resume_bytes), 512 * MIB, 0, TIB, "BYTES",
     "of uploads that were cut off, kept for one peer; for all, four times as many", LIVE},
    {"max-output", CONFIG_SIZE, AT(max_output), 64 * KIB, 4 * KIB, 16 * MIB, "BYTES",
     "answers that may wait for one client before it is no longer read from", LIVE},
    {"disk-reserve", CONFIG_SIZE, AT(disk_reserve), 16 * MIB, 0, 64 * TIB, "BYTES",
     "free disk space that uploads must leave", LIVE},
    {"quota-bytes", CONFIG_SIZE, AT(quota_bytes), 0, 0, 64 * TIB, "BYTES",
     "bodies in the store that one publisher was the first to publish; 0: any", LIVE},
    {"quota-caps", CONFIG_COUNT, AT(quota_caps), 0, 0, UINT32_MAX, "N",
     "caps in the store that one publisher was the first to publish; 0: any", LIVE},
    {"quota-hourly", CONFIG_SIZE, AT(quota_hourly), 0, 0, 64 * TIB, "BYTES",
     "bodies new to the store that one publisher may bring within an hour; 0: any", LIVE},
    {"quota-total", CONFIG_SIZE, AT(quota_total), 0, 0, 64 * TIB, "BYTES",
     "bodies in the store, of all publishers; 0: any", LIVE},
    {"lease", CONFIG_COUNT, AT(lease), DAY_S, 0, UINT32_MAX, "SECONDS",
     "keep what is published for this long, unless its publisher asks otherwise", LIVE},
    {"lease-max", CONFIG_COUNT, AT(lease_max), 30 * DAY_S, 0, UINT32_MAX, "SECONDS",
     "the longest that a client may have something kept", LIVE},
    {"hello-ms", CONFIG_MS, AT(hello_ms), 10000, 0, UINT32_MAX, "MS",
     "close a connection that has not said HELLO within this time; 0: never", LIVE},
    {"idle-ms", CONFIG_MS, AT(idle_ms), 300000, 0, UINT32_MAX, "MS",
     "close a connection that has made no request for this long; 0: never", LIVE},
    {"progress-ms", CONFIG_MS, AT(progress_ms), 30000, 0, UINT32_MAX, "MS",
     "give up on an upload or an answer that has not moved for this long; 0: never", LIVE},
    {"min-upload-rate", CONFIG_SIZE, AT(min_upload_rate), KIB, 0, GIB, "BYTES",
     "minimum rate of an upload in bytes per second; 0: any rate", LIVE},
    {"min-upload-grace-ms", CONFIG_MS, AT(min_upload_grace_ms), 10000, 0, 3600000, "MS",
     "time from the start of an upload before that rate is enforced", LIVE},
    {"drain-ms", CONFIG_MS, AT(drain_ms), 20000, 0, 3600000, "MS",
     "time for requests in flight to finish when the daemon is told to stop", LIVE},
    {"upstream", CONFIG_TEXT, AT(upstream), 0, 0, 0, "ADDRESS",
     "fetch what is not here from the daemon at this address, or its HTTP cache", RESTART},
    {"upstream-timeout", CONFIG_MS, AT(upstream_timeout_ms), 15000, 100, 3600000, "MS",
     "time that a request waits for what is fetched there", LIVE},
    {"upstream-rate", CONFIG_COUNT, AT(upstream_rate), 20, 1, 1000000, "N",
     "caps per second that one peer may ask for there in vain", LIVE},
    {"gc-high", CONFIG_SIZE, AT(gc_high), 0, 0, 64 * TIB, "BYTES",
     "collect when the store uses this much of its file; 0: only when told", LIVE},
    {"gc-low", CONFIG_SIZE, AT(gc_low), 0, 0, 64 * TIB, "BYTES",
     "until it uses no more than this; 0: nine tenths of gc-high", LIVE},
    {"backup-dir", CONFIG_TEXT, AT(backup_dir), 0, 0, 0, "DIR",
     "directory in which backups are made; it must exist", RESTART},
    {"backup-keep", CONFIG_COUNT, AT(backup_keep), 3, 1, 200, "N",
     "verified backups that are kept: when there is one more, the oldest is removed", LIVE},
    {"backup-rate", CONFIG_SIZE, AT(backup_rate), 64 * MIB, 0, TIB, "BYTES",
     "bytes per second that a backup copies; 0: as fast as the disks are", LIVE},
    {"scrub-period", CONFIG_COUNT, AT(scrub_period), 0, 0, UINT32_MAX, "SECONDS",
     "scrub the whole store again this long after the last time; 0: only when told", LIVE},
    {"scrub-rate", CONFIG_SIZE, AT(scrub_rate), 64 * MIB, 0, TIB, "BYTES",
     "bytes per second that a scrub reads at most; 0: as fast as it can", LIVE},
    {"refusals", CONFIG_COUNT, AT(refusals), 256, 1, 65536, "N",
     "refusals kept for the admin socket", RESTART},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))
_Static_assert(OPTION_COUNT <= CONFIG_OPTIONS_MAX, "every row has an origin");

const struct config_option *config_options(size_t *ret_count)
{
    *ret_count = OPTION_COUNT;
    return options;
}

static config_number *number_of(struct config *config, const struct config_option *option)
{
    return (config_number *)(void *)((char *)config + option->offset);
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
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].type == CONFIG_TEXT) {
            free(*text_of(config, &options[i]));
        }
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        free(config->listen[i]);
    }
    config_init(config);
}

const struct config_option *config_option_find(const char *name, size_t len)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

unsigned config_option_index(const struct config_option *option)
{
    return (unsigned)(option - options);
}

/* --- Values ----------------------------------------------------------------------------------- */

/* What a row takes, as the end of a sentence. */
static const char *expected(const struct config_option *option)
{
    switch (option->type) {
    case CONFIG_TEXT:
        return "a string that is not empty";
    case CONFIG_TEXTS:
        return "a string that is not empty, or an array of such strings";
    case CONFIG_SIZE:
        return "a number of bytes; K, M, G or T may follow (in a file: in quotes)";
    case CONFIG_COUNT:
        return strcmp(option->unit, "SECONDS") == 0 ? "a whole number of seconds"
                                                    : "a whole number";
    case CONFIG_MS:
        return "a whole number of milliseconds";
    case CONFIG_LEVEL:
        return "error, warning, info or debug";
    case CONFIG_MODE:
        return "three octal digits, such as 660 (in a file: in quotes)";
    }
    return "";
}

enum cap_error config_bad_value(struct config_reader *reader, const struct config_option *option,
                                const char *text)
{
    snprintf(reader->reason, CONFIG_REASON_SIZE, "%s: '%.80s' is not valid; expected %s",
             option->name, text, expected(option));
    return CAP_E_INVALID_ARGUMENT;
}

static void set_number(struct config_reader *reader, const struct config_option *option,
                       uint64_t value)
{
    *number_of(reader->config, option) = value;
    reader->config->origins[config_option_index(option)] = *reader->origin;
}

enum cap_error config_set_number(struct config_reader *reader, const struct config_option *option,
                                 uint64_t value)
{
    if (value < option->min || value > option->max) {
        snprintf(reader->reason, CONFIG_REASON_SIZE,
                 "%s: %" PRIu64 " is not between %" PRIu64 " and %" PRIu64, option->name, value,
                 option->min, option->max);
        return CAP_E_INVALID_ARGUMENT;
    }
    set_number(reader, option, value);
    return CAP_OK;
}

static enum cap_error set_level(struct config_reader *reader, const struct config_option *option,
                                const char *text)
{
    enum log_level level;
    if (!log_level_parse(text, &level)) {
        return config_bad_value(reader, option, text);
    }
    set_number(reader, option, level);
    return CAP_OK;
}

/* Three octal digits, with or without a zero before them. */
static enum cap_error set_mode(struct config_reader *reader, const struct config_option *option,
                               const char *text)
{
    size_t digits = strspn(text, "01234567");
    if (text[digits] != '\0' || digits < 3 || digits > 4 || (digits == 4 && text[0] != '0')) {
        return config_bad_value(reader, option, text);
    }
    set_number(reader, option, strtoull(text, NULL, 8));
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
static enum cap_error set_number_text(struct config_reader *reader,
                                      const struct config_option *option, const char *text)
{
    char *end = NULL;
    unsigned shift = 0;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    bool sized = option->type == CONFIG_SIZE;
    if (!isdigit((unsigned char)*text) || errno != 0 || (!sized && *end != '\0') ||
        !suffix_shift(end, &shift) || value > UINT64_MAX >> shift) {
        return config_bad_value(reader, option, text);
    }
    return config_set_number(reader, option, value << shift);
}

static enum cap_error set_text(struct config_reader *reader, const struct config_option *option,
                               const char *text)
{
    struct config *config = reader->config;
    char **slot = text_of(config, option);
    if (*text == '\0') {
        return config_bad_value(reader, option, text);
    }
    if (option->type == CONFIG_TEXTS) {
        if (config->listen_count == CONFIG_LISTEN_MAX) {
            snprintf(reader->reason, CONFIG_REASON_SIZE, "%s: at most %d addresses", option->name,
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
    config->origins[config_option_index(option)] = *reader->origin;
    return CAP_OK;
}

enum cap_error config_set_text(struct config_reader *reader, const struct config_option *option,
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

/* --- The command line ------------------------------------------------------------------------- */

/* Options that are not settings, with their actions; listed by --help. */
static const struct {
    const char *name;
    enum config_action action;
    const char *help;
} actions[] = {
    {"check", CONFIG_CHECK_STORE, "verify the store of --state, which no daemon may use, and exit"},
    {"check-config", CONFIG_CHECK, "check the configuration, print all of it, and exit"},
    {"repair", CONFIG_REPAIR, "with --check: put right what can be, quarantine what cannot"},
    {"help", CONFIG_HELP, "show this help and exit"},
    {"version", CONFIG_VERSION, "show the version and exit"},
};

#define ACTION_COUNT (sizeof(actions) / sizeof(actions[0]))

/* getopt's table: the settings in their order, then the actions. */
static void fill_long_options(struct option ret_options[OPTION_COUNT + ACTION_COUNT + 1])
{
    struct option *at = ret_options;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        *at++ = (struct option){options[i].name, required_argument, NULL, 0};
    }
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        *at++ = (struct option){actions[i].name, no_argument, NULL, 0};
    }
    *at = (struct option){0};
}

static enum cap_error unknown_argument(struct config_reader *reader, const char *argument)
{
    snprintf(reader->reason, CONFIG_REASON_SIZE, "%.80s: unknown %s; see --help", argument,
             argument[0] == '-' ? "option" : "argument");
    return CAP_E_INVALID_ARGUMENT;
}

/* getopt takes abbreviations, which would change meaning when options are added. */
static bool is_whole_name(const char *argument, const char *name)
{
    size_t len = strlen(name);
    return strncmp(argument, "--", 2) == 0 && strncmp(argument + 2, name, len) == 0 &&
           (argument[2 + len] == '\0' || argument[2 + len] == '=');
}

/* Reads argv up to an action that ends reading or to its end. */
static enum cap_error read_arguments(struct config_reader *reader, int argc, char **argv,
                                     enum config_action *ret_action)
{
    struct option long_options[OPTION_COUNT + ACTION_COUNT + 1];
    fill_long_options(long_options);
    opterr = 0;
    optind = 0; /* glibc: begin anew */
    for (;;) {
        int index = -1;
        const char *argument = argv[optind == 0 ? 1 : optind];
        int got = getopt_long(argc, argv, "+:h", long_options, &index);
        if (got == -1) {
            return optind < argc ? unknown_argument(reader, argv[optind]) : CAP_OK;
        }
        if (got == 'h') {
            *ret_action = CONFIG_HELP;
            return CAP_OK;
        }
        if (got == ':') {
            snprintf(reader->reason, CONFIG_REASON_SIZE, "%.80s: missing value", argument);
            return CAP_E_INVALID_ARGUMENT;
        }
        if (got == '?' || !is_whole_name(argument, long_options[index].name)) {
            return unknown_argument(reader, argument);
        }
        if ((size_t)index >= OPTION_COUNT) {
            enum config_action action = actions[(size_t)index - OPTION_COUNT].action;
            if (action != CONFIG_CHECK_STORE || *ret_action != CONFIG_REPAIR) {
                *ret_action = action; /* --check adds nothing to --repair */
            }
            if (action == CONFIG_CHECK || action == CONFIG_CHECK_STORE || action == CONFIG_REPAIR) {
                continue;
            }
            return CAP_OK;
        }
        enum cap_error error = config_set_text(reader, &options[index], optarg);
        if (error != CAP_OK) {
            return error;
        }
    }
}

enum cap_error config_parse(struct config *config, int argc, char **argv,
                            enum config_action *ret_action, char ret_reason[CONFIG_REASON_SIZE])
{
    static const struct config_origin line = {CONFIG_FROM_COMMAND_LINE, 0};
    struct config_reader reader = {config, &line, ret_reason};
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    *ret_action = CONFIG_RUN;
    enum cap_error error = read_arguments(&reader, argc, argv, ret_action);
    if (error != CAP_OK || *ret_action == CONFIG_HELP || *ret_action == CONFIG_VERSION) {
        return error;
    }
    if (config->config != NULL) {
        error = config_read_file(&reader);
    }
    if (error == CAP_OK && config->state == NULL) {
        snprintf(ret_reason, CONFIG_REASON_SIZE, "state: no directory given; see --help");
        error = CAP_E_INVALID_ARGUMENT;
    }
    return error;
}

/* --- Showing -------------------------------------------------------------------------------- */

bool config_value(const struct config *config, const struct config_option *option, size_t index,
                  char *ret_value, size_t size)
{
    const char *base = (const char *)config + option->offset;
    const config_number *number = (const config_number *)(const void *)base;
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
        snprintf(ret_value, size, "%03" PRIo64, (uint64_t)*number);
        return *number != CONFIG_MODE_UMASK;
    case CONFIG_SIZE:
    case CONFIG_COUNT:
    case CONFIG_MS:
        snprintf(ret_value, size, "%" PRIu64, (uint64_t)*number);
        return true;
    }
    return false;
}

/* Writes a number of bytes with the largest suffix that leaves it whole: 16777216 as 16M. */
static void shorten(char value[CONFIG_VALUE_SIZE])
{
    static const char letters[] = " KMGT";
    uint64_t bytes = strtoull(value, NULL, 10);
    size_t at = 0;
    while (bytes != 0 && bytes % KIB == 0 && at < sizeof(letters) - 2) {
        bytes /= KIB;
        at++;
    }
    snprintf(value, CONFIG_VALUE_SIZE, "%" PRIu64 "%.*s", bytes, at > 0 ? 1 : 0, letters + at);
}

void config_help(FILE *out)
{
    struct config defaults;
    char value[CONFIG_VALUE_SIZE];
    config_init(&defaults);
    fputs("Usage: capstored --state DIR --listen ADDRESS [--OPTION VALUE]...\n"
          "Stores caps and serves them by hash. SIGTERM lets requests finish, then ends it.\n\n",
          out);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char flag[48];
        snprintf(flag, sizeof(flag), "--%s %s", options[i].name, options[i].unit);
        fprintf(out, "  %-30s %s", flag, options[i].help);
        if (config_value(&defaults, &options[i], 0, value, sizeof(value))) {
            if (options[i].type == CONFIG_SIZE) {
                shorten(value);
            }
            fprintf(out, " [%s]", value);
        }
        fputs("\n", out);
    }
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        fprintf(out, "  --%-28s %s\n", actions[i].name, actions[i].help);
    }
    fputs("\nSizes are in bytes; K, M, G or T may follow. See capstored(8).\n", out);
}
