/* Arguments, messages, exit statuses: what every command uses. */
#include "client/capctl/cli.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/capctl/out.h"
#include "client/capctl/progress.h"

const char *cli_option(const struct cli *cli, const char *name)
{
    for (int i = 0; i < CLI_MAX_OPTIONS && cli->command->options[i].name != NULL; i++) {
        if (strcmp(cli->command->options[i].name, name) == 0) {
            return cli->values[i];
        }
    }
    return NULL;
}

/* Control characters must not reach a terminal through a message. */
static void make_printable(char *text)
{
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?';
        }
    }
}

enum cli_exit cli_fail(struct cli *cli, enum cli_exit exit, const char *error, const char *format,
                       ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    make_printable(message);
    if (cli->meter != NULL) {
        cli_meter_stop(cli->meter);
    }
    fprintf(stderr, "capctl: %s\n", message);
    if (cli->json && !cli->failed) {
        struct out out;
        out_begin(&out, true);
        out_text(&out, "error", error);
        out_text(&out, "message", message);
        (void)out_finish(&out, stdout);
    }
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
        error == CAPSTORE_E_HASH_MISMATCH || error == CAPSTORE_E_WRONG_KIND ||
        error == CAPSTORE_E_RANGE_OUT_OF_BODY) {
        return CLI_NO;
    }
    return CLI_FAILED;
}

enum cli_exit cli_fail_error(struct cli *cli, enum capstore_error error, const char *what,
                             const char *message)
{
    if (message == NULL || message[0] == '\0') {
        message = capstore_error_text(error);
    }
    return cli_fail(cli, cli_exit_of(error), capstore_error_name(error), "%s%s%s: %s",
                    what != NULL ? what : "", what != NULL ? ": " : "", capstore_error_name(error),
                    message);
}

void cli_note(const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    make_printable(message);
    fprintf(stderr, "capctl: note: %s\n", message);
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
        unsigned digit = *text >= '0' && *text <= '9'   ? (unsigned)(*text - '0')
                         : *text >= 'a' && *text <= 'f' ? (unsigned)(*text - 'a') + 10
                         : *text >= 'A' && *text <= 'F' ? (unsigned)(*text - 'A') + 10
                                                        : 16;
        if (digit >= base || value > (UINT64_MAX - digit) / base) {
            return false;
        }
        value = value * base + digit;
    }
    *ret_value = value;
    return true;
}

bool cli_option_size(struct cli *cli, const char *name, uint64_t fallback, uint64_t *ret_value)
{
    const char *text = cli_option(cli, name);
    *ret_value = fallback;
    if (text == NULL || (cli_parse_u64(text, ret_value) && *ret_value <= CLI_MAX_SIZE)) {
        return true;
    }
    (void)cli_fail(cli, CLI_USAGE, "usage",
                   "--%s: \"%s\" is no integer (decimal or 0x) of at most %" PRIu64, name, text,
                   CLI_MAX_SIZE);
    return false;
}

bool cli_parse_hash(struct cli *cli, const char *text, struct capstore_hash *ret_hash)
{
    if (capstore_hash_parse(text, ret_hash) == CAPSTORE_OK) {
        return true;
    }
    (void)cli_fail(cli, CLI_USAGE, "usage", "\"%s\" is no hash: 64 hex digits are wanted", text);
    return false;
}

static bool show_progress(void *ctx, const struct capstore_progress *progress)
{
    struct cli *cli = (struct cli *)ctx;
    if (cli->meter != NULL) {
        cli_meter_update(cli->meter, progress->done, progress->total);
    }
    return true;
}

struct capstore *cli_connect(struct cli *cli, enum cli_exit *ret_exit)
{
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    options.agent = "capctl " CAPSTORE_VERSION;
    options.timeout_ms = cli->timeout_ms;
    options.max_body = UINT64_C(1) << 33; /* whatever the format can hold: 32-bit offsets */
    options.progress = show_progress;
    options.progress_ctx = cli;
    struct capstore *store = NULL;
    enum capstore_error error = capstore_new(&options, &store);
    if (error == CAPSTORE_OK) {
        struct cli_meter meter;
        cli_meter_start(&meter, "connecting", NULL);
        error = capstore_connect(store, cli->socket);
        cli_meter_stop(&meter);
    }
    if (error == CAPSTORE_OK) {
        return store;
    }
    if (error == CAPSTORE_E_INVALID_ARGUMENT) {
        *ret_exit = cli_fail(cli, CLI_USAGE, "usage", "%s", capstore_message(store));
    } else if (error == CAPSTORE_E_CONNECT) { /* its message names the address */
        *ret_exit = cli_fail_error(cli, error, NULL, capstore_message(store));
    } else {
        *ret_exit = cli_fail_error(cli, error, cli->socket, store ? capstore_message(store) : NULL);
    }
    capstore_free(store);
    return NULL;
}
