/* scrub: looks the store through, and what was found. */
#include <string.h>

#include "client/capctl/admin.h"
#include "client/capctl/result.h"
#include "client/capctl/table.h"

/* "running, 3 of 9 caps, 1.0 GiB of 2.0 GiB". */
static bool print_state(const json_t *result)
{
    char done[32];
    char total[32];
    const char *state = cli_admin_text(result, "state");
    const json_t *caps = json_object_get(result, "caps");
    const json_t *bytes = json_object_get(result, "bytes");
    if (strcmp(state, "idle") == 0) {
        return printf("state: idle\n") >= 0;
    }
    out_human_size((uint64_t)cli_admin_integer(bytes, "done"), done);
    out_human_size((uint64_t)cli_admin_integer(bytes, "total"), total);
    return printf("state: %s%s, %lld of %lld caps, %s of %s\n"
                  "found: %lld, repaired: %lld, not: %lld\n",
                  state, json_is_true(json_object_get(result, "repair")) ? " with repair" : "",
                  cli_admin_integer(caps, "done"), cli_admin_integer(caps, "total"), done, total,
                  cli_admin_integer(result, "findings"), cli_admin_integer(result, "repaired"),
                  cli_admin_integer(result, "unrepaired")) >= 0;
}

static bool print_last(const json_t *result)
{
    if (!json_is_string(json_object_get(result, "ended"))) {
        return puts("last: never") >= 0;
    }
    return printf("last: %.19sZ, found: %lld, not repaired: %lld\n",
                  cli_admin_text(result, "ended"), cli_admin_integer(result, "last_findings"),
                  cli_admin_integer(result, "last_unrepaired")) >= 0;
}

/* Shortens what the table shows of times. False without memory. */
static bool shorten(json_t *rows, const char *from)
{
    size_t index;
    json_t *row;
    json_array_foreach(rows, index, row)
    {
        if (json_object_set_new(row, "when", json_sprintf("%.19sZ", cli_admin_text(row, from))) !=
            0) {
            return false;
        }
    }
    return true;
}

static bool print_list(json_t *result, const char *name, const char *time,
                       const struct table_column *columns)
{
    json_t *rows = json_object_get(result, name);
    if (json_array_size(rows) == 0) {
        return true;
    }
    return (time == NULL || shorten(rows, time)) && printf("\n%s:\n", name) >= 0 &&
           table_print(rows, columns, stdout);
}

static bool print_status(json_t *result)
{
    static const struct table_column broken[] = {{"CAP", "cap_hash", false},
                                                 {"WHY", "why", false},
                                                 {"SINCE", "when", false},
                                                 {NULL, NULL, false}};
    static const struct table_column degraded[] = {
        {"IMAGE", "cap_hash", false}, {"NEEDS", "needs", false}, {NULL, NULL, false}};
    static const struct table_column recent[] = {{"FOUND", "when", false},
                                                 {"CAP", "cap_hash", false},
                                                 {"WHAT", "what", false},
                                                 {NULL, NULL, false}};
    return print_state(result) && print_last(result) &&
           print_list(result, "broken", "since", broken) &&
           print_list(result, "degraded", NULL, degraded) &&
           print_list(result, "recent", "time", recent);
}

static enum cli_exit show(struct cli *cli, json_t *result)
{
    if (cli->json) {
        return cli_print(cli, result, CLI_DONE);
    }
    bool good = print_status(result);
    json_decref(result);
    return good && fflush(stdout) == 0 ? CLI_DONE
                                       : cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
}

enum cli_exit cli_scrub(struct cli *cli)
{
    const char *what = cli->argument_count > 0 ? cli->arguments[0] : "status";
    bool repair = cli->options[CLI_REPAIR] != NULL;
    bool starts = strcmp(what, "start") == 0;
    bool shows = strcmp(what, "status") == 0;
    enum cli_exit exit = CLI_FAILED;
    char method[32];
    if ((!starts && !shows && strcmp(what, "pause") != 0) || (repair && !starts)) {
        return cli_fail(cli, CLI_USAGE, "usage",
                        "usage: capctl scrub [status | start [--repair] | pause]");
    }
    snprintf(method, sizeof(method), "scrub.%s", what);
    json_t *params = starts ? json_pack("{s:b}", "repair", repair ? 1 : 0) : json_object();
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = cli_admin_call(admin, method, params, &exit);
    if (result != NULL) {
        exit = shows ? show(cli, result) : cli_print(cli, result, CLI_DONE);
    }
    cli_admin_close(admin);
    return exit;
}
