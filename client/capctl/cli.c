/* Arguments, messages, exit statuses: what every command uses. */
#include "client/capctl/cli.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/capctl/out.h"
#include "client/capctl/progress.h"

/* The code point of two to four bytes of UTF-8 at `at`, and their number in *ret_len; 0 for
 * anything else. */
static unsigned code_point(const unsigned char *at, size_t *ret_len)
{
    if (at[0] >= 0xc2 && at[0] < 0xe0 && (at[1] & 0xc0) == 0x80) {
        *ret_len = 2;
        return (at[0] & 0x1fu) << 6 | (at[1] & 0x3fu);
    }
    if ((at[0] & 0xf0) == 0xe0 && (at[1] & 0xc0) == 0x80 && (at[2] & 0xc0) == 0x80) {
        *ret_len = 3;
        return (at[0] & 0xfu) << 12 | (at[1] & 0x3fu) << 6 | (at[2] & 0x3fu);
    }
    if ((at[0] & 0xf8) == 0xf0 && (at[1] & 0xc0) == 0x80 && (at[2] & 0xc0) == 0x80 &&
        (at[3] & 0xc0) == 0x80) {
        *ret_len = 4;
        return (at[0] & 0x7u) << 18 | (at[1] & 0x3fu) << 12 | (at[2] & 0x3fu) << 6 |
               (at[3] & 0x3fu);
    }
    return 0;
}

/* Characters that a person does not see, or that change how others are shown: controls, spaces of
 * other widths, joiners, marks of direction, variants, the byte order mark, tags. */
static bool is_invisible(unsigned point)
{
    return point < 0x20 || (point >= 0x7f && point <= 0xa0) || point == 0xad || point == 0x34f ||
           point == 0x61c || (point >= 0x180b && point <= 0x180f) ||
           (point >= 0x2000 && point <= 0x200f) || (point >= 0x2028 && point <= 0x202f) ||
           (point >= 0x205f && point <= 0x206f) || point == 0x3000 || point == 0x3164 ||
           (point >= 0xfe00 && point <= 0xfe0f) || point == 0xfeff ||
           (point >= 0xfff9 && point <= 0xfffb) || (point >= 0xe0000 && point <= 0xe0fff);
}

/* Control characters must not reach a terminal through a message; what nobody would see is named.
 */
static void make_printable(const char *text, char *ret_text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t len = 0;
    while (*at != '\0' && len + sizeof("<U+10FFFF>") < size) {
        size_t taken = 1;
        unsigned point = *at < 0x80 ? *at : code_point(at, &taken);
        if (point != 0 && is_invisible(point)) {
            len += (size_t)snprintf(ret_text + len, size - len, "<U+%04X>", point);
            at += taken;
        } else {
            ret_text[len++] = (char)*at;
            at++;
        }
    }
    ret_text[len] = '\0';
}

void cli_meter_begin(struct cli *cli, struct cli_meter *meter, const char *label, const char *after)
{
    cli->meter = meter;
    cli_meter_start(meter, label, after);
}

void cli_meter_end(struct cli *cli)
{
    if (cli->meter != NULL) {
        cli_meter_stop(cli->meter);
    }
    cli->meter = NULL;
}

enum cli_exit cli_fail(struct cli *cli, enum cli_exit exit, const char *error, const char *format,
                       ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    char printed[1024];
    make_printable(message, printed, sizeof(printed));
    if (cli->said != NULL) {
        snprintf(cli->said, cli->said_size, "%s", printed);
        return exit;
    }
    cli_meter_end(cli);
    fprintf(stderr, "capctl: %s\n", printed);
    if (cli->json && !cli->failed) {
        json_t *object =
            json_pack("{s:o, s:o}", "error", out_text(error), "message", out_text(printed));
        (void)json_object_update(object, (json_t *)(uintptr_t)cli->failed_with);
        (void)out_print(object, true, stdout);
        json_decref(object);
    }
    cli->failure = cli->failed ? cli->failure : exit;
    cli->failed = true;
    return exit;
}

bool cli_is_refusal(enum capstore_error error)
{
    return (error <= CAPSTORE_E_SSZ && error >= CAPSTORE_E_UNRESOLVED_SLOT) ||
           error == CAPSTORE_E_UPLOAD_TOO_LARGE || error == CAPSTORE_E_STRUCTURE_TOO_LARGE ||
           error == CAPSTORE_E_DATA_TOO_LARGE || error == CAPSTORE_E_BODY_TOO_LARGE ||
           error == CAPSTORE_E_BODY_NOT_CANONICAL || error == CAPSTORE_E_INVALID_ARGUMENT;
}

enum cli_exit cli_exit_of(enum capstore_error error)
{
    if (error == CAPSTORE_OK) {
        return CLI_DONE;
    }
    if (cli_is_refusal(error) || error == CAPSTORE_E_NOT_FOUND || error == CAPSTORE_E_CORRUPT ||
        error == CAPSTORE_E_QUARANTINED || error == CAPSTORE_E_FORBIDDEN_CAP ||
        error == CAPSTORE_E_HASH_MISMATCH || error == CAPSTORE_E_WRONG_KIND ||
        error == CAPSTORE_E_SLICE_MISMATCH || error == CAPSTORE_E_SLICE_MALFORMED ||
        error == CAPSTORE_E_RANGE_OUT_OF_BODY) {
        return CLI_NO;
    }
    return CLI_FAILED;
}

enum cli_exit cli_fail_error(struct cli *cli, enum capstore_error error, const char *what,
                             const char *message)
{
    size_t len = what != NULL ? strlen(what) : 0;
    if (message == NULL || message[0] == '\0') {
        message = capstore_error_text(error);
    }
    if (len > 0 && strncmp(message, what, len) == 0 && strncmp(message + len, ": ", 2) == 0) {
        message += len + 2; /* the daemon names the cap, too */
    }
    return cli_fail(cli, cli_exit_of(error), capstore_error_name(error), "%s%s%s: %s",
                    what != NULL ? what : "", what != NULL ? ": " : "", capstore_error_name(error),
                    message);
}

/* What lacked, as members. NULL: nobody said so. */
static json_t *figures_json(const struct capstore *store)
{
    struct capstore_shortage_figures figures;
    if (!capstore_shortage(store, &figures)) {
        return NULL;
    }
    return json_pack(
        "{s:o, s:o, s:o*}", "need", out_u64(figures.need), "have", out_u64(figures.have), "limit",
        figures.limit.len == 0 ? NULL
                               : json_stringn((const char *)figures.limit.data, figures.limit.len));
}

enum cli_exit cli_fail_asked(struct cli *cli, enum capstore_error error, const char *what,
                             const struct capstore *store)
{
    json_t *figures = figures_json(store);
    cli->failed_with = figures;
    enum cli_exit exit = cli_fail_error(cli, error, what, capstore_message(store));
    cli->failed_with = NULL;
    json_decref(figures);
    return exit;
}

enum cli_exit cli_fail_errno(struct cli *cli, const char *path, int code)
{
    if (code == EFBIG) {
        return cli_fail(cli, CLI_FAILED, "disk_full",
                        "%s: %s: larger than the file size limit (ulimit -f) or the file system "
                        "allows",
                        path, strerror(code));
    }
    return cli_fail(cli, CLI_FAILED, code == ENOSPC || code == EDQUOT ? "disk_full" : "io",
                    "%s: %s", path, strerror(code));
}

void cli_note(const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    char printed[1024];
    make_printable(message, printed, sizeof(printed));
    fprintf(stderr, "capctl: note: %s\n", printed);
}

/* The value of a hex digit, 16 for another character. */
static unsigned digit_value(char c)
{
    return c >= '0' && c <= '9'   ? (unsigned)(c - '0')
           : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
           : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                  : 16;
}

bool cli_parse_u64(const char *text, uint64_t *ret_value)
{
    unsigned base = 10;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    uint64_t value = 0;
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        unsigned digit = digit_value(*text);
        if (digit >= base || value > (UINT64_MAX - digit) / base) {
            return false;
        }
        value = value * base + digit;
    }
    *ret_value = value;
    return true;
}

static bool parse_size(const char *text, uint64_t *ret_value)
{
    static const char units[] = "KMGT";
    size_t len = strlen(text);
    const char *unit = len > 1 ? strchr(units, toupper((unsigned char)text[len - 1])) : NULL;
    char digits[32];
    if (unit == NULL) {
        return cli_parse_u64(text, ret_value);
    }
    unsigned shift = 10 * (unsigned)(unit - units + 1);
    uint64_t value;
    if (len > sizeof(digits) || strspn(text, "0123456789") != len - 1) {
        return false;
    }
    memcpy(digits, text, len - 1);
    digits[len - 1] = '\0';
    if (!cli_parse_u64(digits, &value) || value > UINT64_MAX >> shift) {
        return false;
    }
    *ret_value = value << shift;
    return true;
}

bool cli_option_size(struct cli *cli, enum cli_option option, uint64_t fallback,
                     uint64_t *ret_value)
{
    const char *text = cli->options[option];
    *ret_value = fallback;
    if (text == NULL || (parse_size(text, ret_value) && *ret_value <= CLI_MAX_SIZE)) {
        return true;
    }
    (void)cli_fail(cli, CLI_USAGE, "usage",
                   "--%s: \"%s\" is not a number of bytes (decimal or 0x, or decimal with K, M, G "
                   "or T) of at most %" PRIu64,
                   option == CLI_STACK ? "stack" : "size", text, CLI_MAX_SIZE);
    return false;
}

bool cli_option_keep(struct cli *cli, uint32_t fallback, uint32_t *ret_seconds)
{
    static const char units[] = "smhd";
    static const uint32_t seconds[] = {1, 60, 3600, 86400};
    const char *text = cli->options[CLI_KEEP];
    *ret_seconds = fallback;
    if (text == NULL) {
        return true;
    }
    size_t digits = strspn(text, "0123456789");
    const char *unit = text[digits] != '\0' ? strchr(units, text[digits]) : units;
    char number[16];
    uint64_t value;
    if (digits > 0 && digits < sizeof(number) && unit != NULL &&
        (text[digits] == '\0' || text[digits + 1] == '\0')) {
        memcpy(number, text, digits);
        number[digits] = '\0';
        if (cli_parse_u64(number, &value) && value <= UINT32_MAX / seconds[unit - units]) {
            *ret_seconds = (uint32_t)value * seconds[unit - units];
            return true;
        }
    }
    (void)cli_fail(cli, CLI_USAGE, "usage",
                   "--keep: \"%s\" is not a time: a number of seconds, or of m, h or d, such as "
                   "12h; at most %" PRIu32 " seconds",
                   text, UINT32_MAX);
    return false;
}

bool cli_parse_hash(struct cli *cli, const char *text, struct capstore_hash *ret_hash)
{
    if (capstore_hash_parse(text, ret_hash) == CAPSTORE_OK) {
        return true;
    }
    (void)cli_fail(cli, CLI_USAGE, "usage", "\"%s\" is not a hash: expected 64 hex digits", text);
    return false;
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, CAPSTORE_HASH_SIZE);
}

size_t cli_distinct(struct capstore_hash *hashes, size_t count)
{
    size_t distinct = 0;
    qsort(hashes, count, sizeof(*hashes), by_bytes);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !capstore_hash_equal(&hashes[distinct - 1], &hashes[i])) {
            hashes[distinct++] = hashes[i];
        }
    }
    return distinct;
}

bool cli_hex_parse(const char *text, uint8_t *ret_bytes)
{
    for (; *text != '\0'; text += 2) {
        unsigned high = digit_value(text[0]);
        unsigned low = digit_value(text[1]); /* of the NUL it is none */
        if (high > 15 || low > 15) {
            return false;
        }
        *ret_bytes++ = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool show_progress(void *ctx, const struct capstore_progress *progress)
{
    struct cli *cli = (struct cli *)ctx;
    if (cli->meter != NULL) {
        cli_meter_update(cli->meter, progress->done, progress->total);
        cli_meter_resumed(cli->meter, progress->resumed);
    }
    return true;
}

struct capstore *cli_connect(struct cli *cli, enum cli_exit *ret_exit)
{
    const struct cli_connect_options how = {.address = cli->socket, .show_progress = true};
    return cli_connect_to(cli, &how, ret_exit);
}

struct capstore *cli_connect_keeping(struct cli *cli, uint32_t keep_s, enum cli_exit *ret_exit)
{
    const struct cli_connect_options how = {
        .address = cli->socket, .show_progress = true, .leases = true, .keep_s = keep_s};
    return cli_connect_to(cli, &how, ret_exit);
}

struct capstore *cli_connect_to(struct cli *cli, const struct cli_connect_options *how,
                                enum cli_exit *ret_exit)
{
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    options.leases = how->leases;
    options.keep_s = how->keep_s;
    options.agent = "capctl " CAPSTORE_VERSION;
    options.timeout_ms = cli->timeout_ms;
    options.max_body = how->max_body != 0 ? how->max_body : CLI_LONGEST_BODY;
    options.progress = how->show_progress ? show_progress : NULL;
    options.progress_ctx = cli;
    options.hash_thread = true;
    struct capstore *store = NULL;
    enum capstore_error error = capstore_new(&options, &store);
    if (error == CAPSTORE_OK) {
        struct cli_meter meter;
        cli_meter_begin(cli, &meter, "connecting", NULL);
        error = capstore_connect(store, how->address);
        cli_meter_end(cli);
    }
    if (error == CAPSTORE_OK) {
        return store;
    }
    if (error == CAPSTORE_E_INVALID_ARGUMENT) {
        *ret_exit = cli_fail(cli, CLI_USAGE, "usage", "%s", capstore_message(store));
    } else if (error == CAPSTORE_E_CONNECT) { /* its message names the address */
        *ret_exit = cli_fail_error(cli, error, NULL, capstore_message(store));
    } else {
        *ret_exit = cli_fail_error(cli, error, how->address,
                                   store != NULL ? capstore_message(store) : NULL);
    }
    capstore_free(store);
    return NULL;
}

struct capstore_cap *cli_fetch(struct cli *cli, struct capstore *store,
                               const struct capstore_hash *hash, enum cli_exit *ret_exit)
{
    struct cli_meter meter;
    struct capstore_cap *cap = NULL;
    cli_meter_begin(cli, &meter, "fetching", "verifying");
    enum capstore_error error = capstore_get(store, hash, &cap);
    cli_meter_end(cli);
    if (error == CAPSTORE_OK) {
        return cap;
    }
    char hex[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(hash, hex);
    const char *message = capstore_message(store);
    *ret_exit = cli_fail_error(cli, error, strstr(message, hex) != NULL ? NULL : hex, message);
    return NULL;
}
