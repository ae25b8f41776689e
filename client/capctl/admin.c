/*
 * admin and config: JSON-RPC 2.0 over the admin socket, one object per line.
 *
 * The socket blocks; every wait for it is a poll with the call's deadline.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client/capctl/admin.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"

#define REPLY_MAX          ((size_t)4 << 20) /* the daemon's own bound is 1 MiB */
#define READ_STEP          ((size_t)64 << 10)
#define DEFAULT_TIMEOUT_MS 30000u /* as libcapstore's */

/* A connection to the admin socket. */
struct cli_admin {
    struct cli *cli;
    int fd;
    uint32_t timeout_ms; /* of one call */
    char *in;            /* received and not yet looked at */
    size_t in_len;
    bool heard; /* something came from the peer */
};

/* ---- the socket ---- */

/* Connects, waiting at most timeout_ms for a place in the listener's queue. Returns 0 or an errno.
 */
static int connect_to(const char *path, uint32_t timeout_ms, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    if (strlen(path) >= sizeof(address.sun_path)) {
        return ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int code = errno == EAGAIN ? ETIMEDOUT : errno;
        close(fd);
        return code;
    }
    *ret_fd = fd;
    return 0;
}

struct cli_admin *cli_admin_open(struct cli *cli, enum cli_exit *ret_exit)
{
    uint32_t timeout_ms = cli->timeout_ms != 0 ? cli->timeout_ms : DEFAULT_TIMEOUT_MS;
    int fd = -1;
    if (strncmp(cli->admin, "unix:", 5) != 0 || cli->admin[5] == '\0') {
        *ret_exit = cli_fail(cli, CLI_USAGE, "usage",
                             "--admin: \"%s\" is not an address of the form unix:PATH", cli->admin);
        return NULL;
    }
    int code = connect_to(cli->admin + 5, timeout_ms, &fd);
    if (code != 0) {
        *ret_exit = cli_fail(cli, CLI_FAILED, code == ETIMEDOUT ? "timed_out" : "connect",
                             "cannot connect to %s: %s%s", cli->admin, strerror(code),
                             code == ENOENT || code == ECONNREFUSED
                                 ? "; is the daemon running, and is the address right?"
                             : code == EACCES || code == EPERM ? "; this user may not use it"
                                                               : "");
        return NULL;
    }
    struct cli_admin *admin = malloc(sizeof(*admin));
    if (admin == NULL) {
        close(fd);
        *ret_exit = cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
        return NULL;
    }
    *admin = (struct cli_admin){.cli = cli, .fd = fd, .timeout_ms = timeout_ms};
    return admin;
}

void cli_admin_close(struct cli_admin *admin)
{
    if (admin != NULL) {
        close(admin->fd);
        free(admin->in);
        free(admin);
    }
}

/* ---- one call ---- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until there is something to read, or room to write with `events` POLLOUT. */
static enum capstore_error wait_for(int fd, short events, int64_t deadline_ms)
{
    for (;;) {
        int64_t left = deadline_ms - now_ms();
        struct pollfd entry = {fd, events, 0};
        int n = poll(&entry, 1, left > 0 ? (int)MIN(left, INT_MAX) : 0);
        if (n > 0) {
            return CAPSTORE_OK;
        }
        if (n == 0 && left <= 0) {
            return CAPSTORE_E_TIMED_OUT;
        }
        if (n < 0 && errno != EINTR) {
            return CAPSTORE_E_IO;
        }
    }
}

static enum capstore_error send_line(int fd, const char *line, int64_t deadline_ms)
{
    size_t len = strlen(line);
    while (len > 0) {
        enum capstore_error error = wait_for(fd, POLLOUT, deadline_ms);
        if (error != CAPSTORE_OK) {
            return error;
        }
        ssize_t n = send(fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return CAPSTORE_OK; /* it hung up, perhaps after an answer: reading will show */
        }
        if (n > 0) {
            line += n;
            len -= (size_t)n;
        }
    }
    return CAPSTORE_OK;
}

/* Receives some more bytes. */
static enum capstore_error receive(struct cli_admin *admin, int64_t deadline_ms)
{
    enum capstore_error error = wait_for(admin->fd, POLLIN, deadline_ms);
    if (error != CAPSTORE_OK) {
        return error;
    }
    if (admin->in_len >= REPLY_MAX) {
        return CAPSTORE_E_BAD_REPLY;
    }
    char *grown = realloc(admin->in, admin->in_len + READ_STEP);
    if (grown == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    admin->in = grown;
    ssize_t n = recv(admin->fd, admin->in + admin->in_len, READ_STEP, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        return CAPSTORE_E_CONNECTION_LOST;
    }
    admin->in_len += n > 0 ? (size_t)n : 0;
    admin->heard = admin->heard || n > 0;
    return CAPSTORE_OK;
}

/* Receives up to the next line's end; what follows it stays in `in`. A line of JSON begins with a
 * brace: anything else fails immediately rather than when a line is complete. */
static enum capstore_error receive_line(struct cli_admin *admin, int64_t deadline_ms,
                                        size_t *ret_line_len)
{
    for (;;) {
        const char *end = admin->in_len > 0 ? memchr(admin->in, '\n', admin->in_len) : NULL;
        if (admin->in_len > 0 && admin->in[0] != '{') {
            return CAPSTORE_E_BAD_REPLY;
        }
        if (end != NULL) {
            *ret_line_len = (size_t)(end - admin->in);
            return CAPSTORE_OK;
        }
        enum capstore_error error = receive(admin, deadline_ms);
        if (error != CAPSTORE_OK) {
            return error;
        }
    }
}

/* Waits for the next line, which is one object. */
static enum capstore_error receive_object(struct cli_admin *admin, int64_t deadline_ms,
                                          json_t **ret_object)
{
    size_t len;
    enum capstore_error error = receive_line(admin, deadline_ms, &len);
    if (error != CAPSTORE_OK) {
        return error;
    }
    json_t *object = json_loadb(admin->in, len, 0, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return CAPSTORE_E_BAD_REPLY;
    }
    memmove(admin->in, admin->in + len + 1, admin->in_len - len - 1);
    admin->in_len -= len + 1;
    *ret_object = object;
    return CAPSTORE_OK;
}

/* Waits for the reply to the request under way; other lines (events) are skipped. */
static enum capstore_error receive_reply(struct cli_admin *admin, int64_t deadline_ms,
                                         json_t **ret_reply)
{
    for (;;) {
        json_t *reply = NULL;
        enum capstore_error error = receive_object(admin, deadline_ms, &reply);
        if (error != CAPSTORE_OK) {
            return error;
        }
        if (json_object_get(reply, "result") != NULL || json_object_get(reply, "error") != NULL) {
            *ret_reply = reply;
            return CAPSTORE_OK;
        }
        json_decref(reply);
    }
}

/* More than the error's own words, where there is something to do. */
static const char *what_failed(const struct cli_admin *admin, enum capstore_error error)
{
    if (error == CAPSTORE_E_TIMED_OUT) {
        return "the daemon did not answer in time; it may be stuck: see its log, or wait longer "
               "(--timeout)";
    }
    if (error == CAPSTORE_E_BAD_REPLY) {
        return "peer is not a capstored admin socket; is this its client socket? (see --admin)";
    }
    if (error == CAPSTORE_E_CONNECTION_LOST && !admin->heard) {
        return "the peer closed the connection without an answer; is this capstored's admin "
               "socket? "
               "(see --admin)";
    }
    return NULL;
}

/* Sends a request and waits. NULL after saying what is wrong: *ret_exit. Takes over `params`. */
static json_t *call(struct cli_admin *admin, const char *method, json_t *params,
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
        char label[80];
        snprintf(label, sizeof(label), "waiting for the daemon to answer %.32s", method);
        /* By a command that makes many calls, or that has the terminal for itself. */
        bool metered = admin->cli->meter != NULL || admin->cli->said != NULL;
        if (!metered) {
            cli_meter_begin(admin->cli, &meter, label, NULL);
        }
        int64_t deadline_ms = now_ms() + admin->timeout_ms;
        enum capstore_error error = send_line(admin->fd, line, deadline_ms);
        if (error == CAPSTORE_OK) {
            error = receive_reply(admin, deadline_ms, &reply);
        }
        if (!metered) {
            cli_meter_end(admin->cli);
        }
        if (error != CAPSTORE_OK) {
            *ret_exit =
                cli_fail_error(admin->cli, error, admin->cli->admin, what_failed(admin, error));
        }
    }
    free(line);
    free(text);
    return reply;
}

/* ---- params ---- */

/* The types of a method's parameters by name, as the daemon's schema has them; NULL when it has
 * none. *ret_good is false after saying what is wrong: *ret_exit. */
static json_t *ask_types(struct cli_admin *admin, const char *method, bool *ret_good,
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

/* A value of the schema's type; NULL when the text is not one. A parameter that the schema does not
 * have goes out as text: the daemon says what is wrong with it. */
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

static const char *expected(const char *type)
{
    if (type == NULL || strcmp(type, "string") == 0) {
        return "UTF-8 text";
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
        (void)cli_fail(cli, CLI_USAGE, "usage", "\"%s\": expected %s", word, expected(type));
    } else if (!good) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "\"%s\": duplicate or invalid parameter name",
                       word);
    }
    json_decref(value);
    free(name);
    return good;
}

/* The params of name=value words. NULL after saying what is wrong: *ret_exit. */
static json_t *parse_params(struct cli_admin *admin, enum cli_exit *ret_exit)
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
            (void)cli_fail(cli, CLI_USAGE, "usage", "\"%s\": expected NAME=VALUE",
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

const char *cli_admin_text(const json_t *object, const char *name)
{
    return string_or(object, name, "");
}

json_int_t cli_admin_integer(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

/* What keeps a cap, for a person. */
static void note_needed_by(const json_t *needed_by)
{
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(needed_by, "roots"), i, item)
    {
        const char *name = json_string_value(item);
        cli_note("root %s names it", name != NULL ? name : "?");
    }
    json_array_foreach(json_object_get(needed_by, "caps"), i, item)
    {
        const json_t *tables = json_object_get(item, "tables");
        bool both = json_array_size(tables) > 1;
        const char *table = json_string_value(json_array_get(tables, 0));
        cli_note("Image %s refers to it (%s)", string_or(item, "cap_hash", "?"),
                 both            ? "pinned and initial"
                 : table != NULL ? table
                                 : "?");
    }
    if (json_is_true(json_object_get(needed_by, "more"))) {
        cli_note("more Images refer to it: capctl admin refs.list has all");
    }
    const char *until = string_or(needed_by, "kept_until", NULL);
    if (until != NULL) {
        cli_note("a lease keeps it until %.19sZ", until);
    }
}

static enum cli_exit refused(struct cli *cli, const json_t *error)
{
    const json_t *data = json_object_get(error, "data");
    const char *reason = string_or(data, "reason", "refused");
    const char *hint = string_or(data, "hint", NULL);
    const json_t *needed_by = json_object_get(data, "needed_by");
    json_t *members = json_pack("{s:O*}", "needed_by", needed_by);
    cli->failed_with = members;
    enum cli_exit exit = cli_fail(cli, CLI_NO, reason, "%s: %s%s%s", reason,
                                  string_or(error, "message", "the daemon refused"),
                                  hint != NULL ? "; " : "", hint != NULL ? hint : "");
    cli->failed_with = NULL;
    json_decref(members);
    if (!cli->json) {
        note_needed_by(needed_by);
    }
    return exit;
}

/* One object with --json; a text as it is, or indented JSON, for a person. */
static enum cli_exit print_result(struct cli *cli, const json_t *result)
{
    const json_t *text = json_is_string(result) ? result : json_object_get(result, "text");
    if (cli->json && json_is_object(result)) {
        return cli_print(cli, json_incref((json_t *)(uintptr_t)result), CLI_DONE);
    }
    if (cli->json) {
        return cli_print(cli, json_pack("{s:O}", "result", result), CLI_DONE);
    }
    bool good = true;
    const char *end = "\n";
    if (json_is_string(text)) {
        const char *value = json_string_value(text);
        size_t len = strlen(value);
        good = fwrite(value, 1, len, stdout) == len;
        end = len > 0 && value[len - 1] == '\n' ? "" : "\n";
    } else {
        good = json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) == 0;
    }
    if (!good || fputs(end, stdout) < 0 || fflush(stdout) != 0) {
        return cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
    }
    return CLI_DONE;
}

json_t *cli_admin_call(struct cli_admin *admin, const char *method, json_t *params,
                       enum cli_exit *ret_exit)
{
    if (admin == NULL) {
        json_decref(params);
        return NULL;
    }
    json_t *reply = call(admin, method, params, ret_exit);
    const json_t *error = json_object_get(reply, "error");
    json_t *result = NULL;
    if (error != NULL && !json_is_null(error)) {
        *ret_exit = refused(admin->cli, error);
    } else {
        result = json_incref(json_object_get(reply, "result"));
    }
    json_decref(reply);
    return result;
}

enum capstore_error cli_admin_event(struct cli_admin *admin, json_t **ret_params)
{
    json_t *event = NULL;
    enum capstore_error error = receive_object(admin, INT64_MAX, &event);
    if (error == CAPSTORE_OK) {
        *ret_params = json_incref(json_object_get(event, "params"));
        error = json_is_object(*ret_params) ? CAPSTORE_OK : CAPSTORE_E_BAD_REPLY;
    }
    json_decref(event);
    return error;
}

enum cli_exit cli_admin(struct cli *cli)
{
    enum cli_exit exit = CLI_USAGE;
    struct cli_admin *admin = words_valid(cli) ? cli_admin_open(cli, &exit) : NULL;
    json_t *params = admin != NULL ? parse_params(admin, &exit) : NULL;
    json_t *result =
        params != NULL ? cli_admin_call(admin, cli->arguments[0], params, &exit) : NULL;
    if (result != NULL) {
        exit = print_result(cli, result);
    }
    json_decref(result);
    cli_admin_close(admin);
    return exit;
}

/* Calls a method without params and prints what comes back by `print`, which releases it. */
static enum cli_exit call_and_print(struct cli *cli, const char *method,
                                    enum cli_exit (*print)(struct cli *cli, json_t *result))
{
    enum cli_exit exit = CLI_FAILED;
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = cli_admin_call(admin, method, json_object(), &exit);
    if (json_is_object(result)) {
        exit = print(cli, json_incref(result));
    } else if (result != NULL) {
        exit = print_result(cli, result);
    }
    json_decref(result);
    cli_admin_close(admin);
    return exit;
}

/* ---- config ---- */

/* A value on one line: a text as it is, anything else as JSON; "-" for null. The caller frees it.
 */
static char *value_text(const json_t *value)
{
    if (json_is_string(value)) {
        return strdup(json_string_value(value));
    }
    return json_is_null(value) ? strdup("-") : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
}

/* The width of the widest value. */
static int value_width(const json_t *settings)
{
    size_t width = strlen("VALUE");
    size_t index;
    const json_t *setting;
    json_array_foreach((json_t *)(uintptr_t)settings, index, setting)
    {
        char *text = value_text(json_object_get(setting, "value"));
        width = text != NULL ? MAX(width, strlen(text)) : width;
        free(text);
    }
    return (int)width;
}

/* "workers  4  file line 3; configured: 8, a restart brings the configured value" */
static bool print_setting(const json_t *setting, int width)
{
    char *value = value_text(json_object_get(setting, "value"));
    char *wanted = value_text(json_object_get(setting, "configured"));
    json_int_t line = json_integer_value(json_object_get(setting, "line"));
    const char *note = string_or(setting, "note", NULL);
    bool good = value != NULL && wanted != NULL &&
                printf("%-22s %-*s  %s", string_or(setting, "name", "?"), width, value,
                       string_or(setting, "source", "?")) >= 0 &&
                (line == 0 || printf(" line %lld", (long long)line) >= 0) &&
                (note == NULL || printf("; configured: %s, %s", wanted, note) >= 0) &&
                putchar('\n') != EOF;
    free(value);
    free(wanted);
    return good;
}

static enum cli_exit print_settings(struct cli *cli, json_t *result)
{
    if (cli->json) {
        return cli_print(cli, result, CLI_DONE);
    }
    size_t index;
    const json_t *setting;
    const json_t *settings = json_object_get(result, "settings");
    int width = value_width(settings);
    bool good = printf("%-22s %-*s  %s\n", "SETTING", width, "VALUE", "SOURCE") >= 0;
    json_array_foreach((json_t *)(uintptr_t)settings, index, setting)
    {
        good = good && print_setting(setting, width);
    }
    json_decref(result);
    if (!good || fflush(stdout) != 0) {
        return cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
    }
    return CLI_DONE;
}

/* The settings of one list, each on its line. */
static bool print_changes(const json_t *list, const char *nothing, const char *ending)
{
    size_t index;
    const json_t *change;
    bool good = json_array_size(list) > 0 || fputs(nothing, stdout) >= 0;
    json_array_foreach(list, index, change)
    {
        good =
            good && printf("%s: %s -> %s%s\n", string_or(change, "name", "?"),
                           string_or(change, "from", ""), string_or(change, "to", ""), ending) >= 0;
    }
    return good;
}

static enum cli_exit print_reload(struct cli *cli, json_t *result)
{
    if (cli->json) {
        return cli_print(cli, result, CLI_DONE);
    }
    bool good = print_changes(json_object_get(result, "changed"), "nothing changes\n", "") &&
                print_changes(json_object_get(result, "restart_needed"), "",
                              " (needs a restart: unchanged)");
    json_decref(result);
    if (!good || fflush(stdout) != 0) {
        return cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
    }
    return CLI_DONE;
}

enum cli_exit cli_config(struct cli *cli)
{
    const char *what = cli->argument_count > 0 ? cli->arguments[0] : "get";
    if (strcmp(what, "get") == 0) {
        return call_and_print(cli, "config.get", print_settings);
    }
    if (strcmp(what, "test") == 0) {
        return call_and_print(cli, "config.test", print_reload);
    }
    if (strcmp(what, "reload") == 0) {
        return call_and_print(cli, "config.reload", print_reload);
    }
    return cli_fail(cli, CLI_USAGE, "usage", "\"%s\": expected get, test or reload", what);
}
