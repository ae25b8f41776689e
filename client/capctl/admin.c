/*
 * admin and status: JSON-RPC 2.0 over the admin socket, one object per line.
 *
 * jansson's types stay in this file.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/capctl/progress.h"
#include "client/capctl/result.h"
#include "client/lib/address.h"
#include "client/lib/link.h"

#define REPLY_MAX          ((size_t)4 << 20) /* the daemon's own bound is 1 MiB */
#define DEFAULT_TIMEOUT_MS 30000u

/* A connection to the admin socket. */
struct admin {
    struct cli *cli;
    int fd;
    uint32_t timeout_ms; /* of one call */
    struct cap_buf in;   /* received and not yet looked at */
};

/* ---- one call ---- */

static enum cap_error send_line(int fd, const char *line, int64_t deadline_ms)
{
    size_t len = strlen(line);
    size_t done = 0;
    while (done < len) {
        bool readable;
        bool writable;
        size_t n = 0;
        enum cap_error error = client_link_wait(fd, true, deadline_ms, &readable, &writable);
        if (error == CAP_OK && writable) {
            error = client_link_write(fd, line + done, len - done, &n);
        }
        if (error == CAP_OK && readable && !writable) {
            return CAP_OK; /* it answers already, or went away: reading tells */
        }
        if (error != CAP_OK) {
            return error;
        }
        done += n;
    }
    return CAP_OK;
}

/* Reads up to the next line's end; what follows it stays in `in`. */
static enum cap_error receive_line(int fd, struct cap_buf *in, int64_t deadline_ms,
                                   size_t *ret_line_len)
{
    size_t searched = 0;
    for (;;) {
        const uint8_t *end =
            in->len > searched ? memchr(in->data + searched, '\n', in->len - searched) : NULL;
        if (end != NULL) {
            *ret_line_len = (size_t)(end - in->data);
            return CAP_OK;
        }
        searched = in->len;
        bool readable;
        bool writable;
        size_t n = 0;
        enum cap_error error = client_link_wait(fd, false, deadline_ms, &readable, &writable);
        if (error == CAP_OK) {
            error = in->len < REPLY_MAX ? cap_buf_reserve(in, 65536) : CAP_E_BAD_REPLY;
        }
        if (error == CAP_OK) {
            error = client_link_read(fd, in->data + in->len, 65536, &n);
        }
        if (error != CAP_OK) {
            return error;
        }
        in->len += n;
    }
}

/* Waits for the reply to the request under way; other lines (events) are passed over. */
static enum cap_error receive_reply(struct admin *admin, int64_t deadline_ms, json_t **ret_reply)
{
    size_t len;
    enum cap_error error = CAP_OK;
    json_t *reply = NULL;
    while (reply == NULL &&
           (error = receive_line(admin->fd, &admin->in, deadline_ms, &len)) == CAP_OK) {
        reply = json_loadb((const char *)admin->in.data, len, 0, NULL);
        if (!json_is_object(reply)) {
            json_decref(reply);
            return CAP_E_BAD_REPLY;
        }
        if (json_object_get(reply, "result") == NULL && json_object_get(reply, "error") == NULL) {
            json_decref(reply);
            reply = NULL;
        }
        memmove(admin->in.data, admin->in.data + len + 1, admin->in.len - len - 1);
        admin->in.len -= len + 1;
    }
    if (error == CAP_OK) {
        *ret_reply = reply;
    }
    return error;
}

/* Connects. False after saying what is wrong: *ret_exit. */
static bool admin_open(struct cli *cli, struct admin *ret_admin, enum cli_exit *ret_exit)
{
    struct client_address address;
    char detail[CLIENT_LINK_DETAIL_SIZE];
    *ret_admin = (struct admin){.cli = cli, .fd = -1};
    ret_admin->timeout_ms = cli->timeout_ms != 0 ? cli->timeout_ms : DEFAULT_TIMEOUT_MS;
    if (client_address_parse(cli->admin, &address) != CAP_OK || !address.is_unix) {
        *ret_exit =
            cli_fail(cli, CLI_USAGE, "usage", "--admin: \"%s\": unix:PATH is wanted", cli->admin);
        return false;
    }
    if (client_link_connect(&address, ret_admin->timeout_ms, &ret_admin->fd, detail) != CAP_OK) {
        *ret_exit =
            cli_fail(cli, CLI_FAILED, "connect", "cannot connect to %s: %s", cli->admin, detail);
        return false;
    }
    return true;
}

static void admin_close(struct admin *admin)
{
    if (admin->fd >= 0) {
        close(admin->fd);
    }
    cap_buf_free(&admin->in);
}

/* More than the error's own words, where there is something to do. */
static const char *what_failed(enum cap_error error)
{
    if (error == CAP_E_TIMED_OUT) {
        return "the daemon did not answer in time; it may be stuck: see its log, or wait longer "
               "(--timeout)";
    }
    if (error == CAP_E_BAD_REPLY) {
        return "what answers is no admin socket of capstored";
    }
    return NULL;
}

/* Sends a request and waits. NULL after saying what is wrong: *ret_exit. Takes over `params`. */
static json_t *call(struct admin *admin, const char *method, json_t *params,
                    enum cli_exit *ret_exit)
{
    json_t *reply = NULL;
    json_t *request = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method", method,
                                "params", params);
    char *text = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
    char *line = NULL;
    json_decref(request);
    if (text == NULL || asprintf(&line, "%s\n", text) < 0) {
        *ret_exit =
            cli_fail(admin->cli, CLI_USAGE, "usage", "the request cannot be written as JSON");
        line = NULL;
    } else {
        struct cli_meter meter;
        cli_meter_start(&meter, "waiting for the daemon", NULL);
        int64_t deadline_ms = client_clock_ms() + admin->timeout_ms;
        enum cap_error error = send_line(admin->fd, line, deadline_ms);
        if (error == CAP_OK) {
            error = receive_reply(admin, deadline_ms, &reply);
        }
        cli_meter_stop(&meter);
        if (error != CAP_OK) {
            *ret_exit = cli_fail_error(admin->cli, (enum capstore_error)(int)error,
                                       admin->cli->admin, what_failed(error));
        }
    }
    free(line);
    free(text);
    return reply;
}

/* ---- params ---- */

/* The types of a method's params by name, in the daemon's words; NULL when it tells none. *ret_good
 * false after saying what is wrong: *ret_exit. */
static json_t *ask_types(struct admin *admin, const char *method, bool *ret_good,
                         enum cli_exit *ret_exit)
{
    json_t *types = NULL;
    json_t *params = json_pack("{s:s}", "method", method);
    json_t *reply = call(admin, "schema", params, ret_exit);
    *ret_good = reply != NULL;
    /* An error of this question is not told: the call itself will have one that fits. */
    (void)json_unpack(reply, "{s:{s:{s:{s:{s:O}}}}}", "result", "methods", method, "params",
                      "properties", &types);
    json_decref(reply);
    return types;
}

static json_t *parse_integer(const char *text)
{
    uint64_t value;
    bool negative = text[0] == '-';
    if (!cli_parse_u64(text + negative, &value) || value > INT64_MAX) {
        return NULL;
    }
    return json_integer(negative ? -(json_int_t)value : (json_int_t)value);
}

/* A value as the schema's type wants it; NULL when it cannot be read so. A param that is not known
 * goes out as a text: the daemon says what is wrong with it. */
static json_t *parse_value(const char *text, const char *type)
{
    if (type == NULL || strcmp(type, "string") == 0) {
        return json_string(text);
    }
    if (strcmp(type, "integer") == 0) {
        return parse_integer(text);
    }
    return json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
}

static const char *wanted(const char *type)
{
    if (type == NULL || strcmp(type, "string") == 0) {
        return "a text in UTF-8";
    }
    if (strcmp(type, "integer") == 0) {
        return "an integer (decimal or 0x)";
    }
    return "a JSON value";
}

/* One NAME=VALUE word. False after saying what is wrong. */
static bool add_param(struct cli *cli, json_t *params, const json_t *types, const char *word)
{
    const char *equals = strchr(word, '=');
    char *name = strndup(word, (size_t)(equals - word));
    const char *type =
        name != NULL ? json_string_value(json_object_get(json_object_get(types, name), "type"))
                     : NULL;
    json_t *value = parse_value(equals + 1, type);
    bool good = name != NULL && value != NULL && json_object_get(params, name) == NULL &&
                json_object_set(params, name, value) == 0;
    if (!good && value == NULL) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "\"%s\": %s is wanted", word, wanted(type));
    } else if (!good) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "\"%s\": a name stands twice, or is no text", word);
    }
    json_decref(value);
    free(name);
    return good;
}

/* The params of name=value words. NULL after saying what is wrong: *ret_exit. */
static json_t *parse_params(struct admin *admin, enum cli_exit *ret_exit)
{
    struct cli *cli = admin->cli;
    json_t *params = json_object();
    bool good = params != NULL;
    json_t *types =
        cli->argument_count > 1 ? ask_types(admin, cli->arguments[0], &good, ret_exit) : NULL;
    for (int i = 1; good && i < cli->argument_count; i++) {
        *ret_exit = CLI_USAGE;
        good = add_param(cli, params, types, cli->arguments[i]);
    }
    json_decref(types);
    if (good) {
        return params;
    }
    json_decref(params);
    return NULL;
}

/* Whether every word after the method is NAME=VALUE. False after saying what is wrong. */
static bool words_valid(struct cli *cli)
{
    for (int i = 1; i < cli->argument_count; i++) {
        const char *equals = strchr(cli->arguments[i], '=');
        if (equals == NULL || equals == cli->arguments[i]) {
            (void)cli_fail(cli, CLI_USAGE, "usage", "\"%s\": NAME=VALUE is wanted",
                           cli->arguments[i]);
            return false;
        }
    }
    return true;
}

/* ---- what came back ---- */

static const char *string_or(const json_t *object, const char *name, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : fallback;
}

static enum cli_exit refused(struct cli *cli, const json_t *error)
{
    const json_t *data = json_object_get(error, "data");
    const char *reason = string_or(data, "reason", "refused");
    const char *hint = string_or(data, "hint", NULL);
    return cli_fail(cli, CLI_NO, reason, "%s: %s%s%s", reason,
                    string_or(error, "message", "the daemon refused"), hint != NULL ? "; " : "",
                    hint != NULL ? hint : "");
}

/* One object with --json; a text as it is, or indented JSON, for a person. */
static enum cli_exit print_result(struct cli *cli, const json_t *result)
{
    int failed = 0;
    const char *end = "\n";
    const json_t *text = json_object_get(result, "text");
    if (cli->json && json_is_object(result)) {
        failed = json_dumpf(result, stdout, 0);
    } else if (cli->json) {
        json_t *wrapped = json_pack("{s:O}", "result", result);
        failed = wrapped == NULL || json_dumpf(wrapped, stdout, 0);
        json_decref(wrapped);
    } else if (json_is_string(result) || (json_is_string(text))) {
        const char *value = json_string_value(json_is_string(result) ? result : text);
        size_t len = strlen(value);
        failed = fwrite(value, 1, len, stdout) != len;
        end = len > 0 && value[len - 1] == '\n' ? "" : "\n";
    } else {
        failed = json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    }
    if (failed != 0 || fputs(end, stdout) < 0 || fflush(stdout) != 0) {
        return cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
    }
    return CLI_DONE;
}

enum cli_exit cli_admin(struct cli *cli)
{
    struct admin admin;
    enum cli_exit exit = CLI_USAGE;
    if (!words_valid(cli) || !admin_open(cli, &admin, &exit)) {
        return exit;
    }
    json_t *params = parse_params(&admin, &exit);
    json_t *reply = params != NULL ? call(&admin, cli->arguments[0], params, &exit) : NULL;
    const json_t *error = json_object_get(reply, "error");
    if (error != NULL && !json_is_null(error)) {
        exit = refused(cli, error);
    } else if (reply != NULL) {
        exit = print_result(cli, json_object_get(reply, "result"));
    }
    json_decref(reply);
    admin_close(&admin);
    return exit;
}

/* ---- the screen ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Members that count bytes, by the daemon's way of naming them. */
static bool counts_bytes(const char *name)
{
    return strstr(name, "bytes") != NULL || ends_with(name, "_len") || strcmp(name, "size") == 0;
}

/* "uptime_ms" in milliseconds is "uptime" for a person. */
static void print_duration(struct out *out, const char *name, uint64_t ms)
{
    char text[64];
    char shown[64];
    snprintf(shown, sizeof shown, "%.*s", (int)(strlen(name) - strlen("_ms")), name);
    uint64_t seconds = ms / 1000;
    if (seconds < 60) {
        snprintf(text, sizeof text, "%" PRIu64 ".%03" PRIu64 " s", seconds, ms % 1000);
    } else {
        snprintf(text, sizeof text, "%" PRIu64 "d %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
                 seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    }
    out_text(out, shown, text);
}

static void print_scalar(struct out *out, const char *name, const json_t *value)
{
    if (json_is_string(value)) {
        out_text(out, name, json_string_value(value));
    } else if (json_is_boolean(value)) {
        out_bool(out, name, json_is_true(value));
    } else if (json_is_integer(value) && json_integer_value(value) >= 0) {
        uint64_t number = (uint64_t)json_integer_value(value);
        if (name != NULL && ends_with(name, "_ms")) {
            print_duration(out, name, number);
        } else if (name != NULL && counts_bytes(name)) {
            out_size(out, name, number);
        } else {
            out_u64(out, name, number);
        }
    } else if (json_is_null(value)) {
        out_null(out, name);
    } else {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        out_text(out, name, text != NULL ? text : "?");
        free(text);
    }
}

/* The screen goes two levels deep; what lies deeper is printed as compact JSON. */
static void print_section(struct out *out, const char *name, const json_t *section)
{
    const char *member;
    json_t *value;
    out_object(out, name);
    json_object_foreach((json_t *)(uintptr_t)section, member, value)
    {
        const char *inner_name;
        json_t *inner;
        if (!json_is_object(value)) {
            print_scalar(out, member, value);
            continue;
        }
        out_object(out, member);
        json_object_foreach(value, inner_name, inner) print_scalar(out, inner_name, inner);
        out_end(out);
    }
    out_end(out);
}

static enum cli_exit print_screen(struct cli *cli, const json_t *status)
{
    struct out out;
    const char *name;
    json_t *value;
    out_begin(&out, false);
    json_object_foreach((json_t *)(uintptr_t)status, name, value)
    {
        if (json_is_object(value)) {
            print_section(&out, name, value);
        } else {
            print_scalar(&out, name, value);
        }
    }
    return cli_print(cli, &out, CLI_DONE);
}

enum cli_exit cli_status(struct cli *cli)
{
    struct admin admin;
    enum cli_exit exit = CLI_FAILED;
    if (!admin_open(cli, &admin, &exit)) {
        return exit;
    }
    json_t *reply = call(&admin, "status", json_object(), &exit);
    const json_t *error = json_object_get(reply, "error");
    const json_t *result = json_object_get(reply, "result");
    if (error != NULL && !json_is_null(error)) {
        exit = refused(cli, error);
    } else if (reply != NULL && (cli->json || !json_is_object(result))) {
        exit = print_result(cli, result);
    } else if (reply != NULL) {
        exit = print_screen(cli, result);
    }
    json_decref(reply);
    admin_close(&admin);
    return exit;
}
