/* gc, roots, why and delete: what the store keeps, and what goes. */
#include <string.h>

#include "client/capctl/admin.h"
#include "client/capctl/result.h"
#include "client/capctl/table.h"

/* Calls one method, takes over `params`, and prints what comes back as an object. */
static enum cli_exit call(struct cli *cli, const char *method, json_t *params)
{
    enum cli_exit exit = CLI_FAILED;
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = cli_admin_call(admin, method, params, &exit);
    if (result != NULL && !cli->json && strcmp(method, "why") == 0) {
        out_drop_unset(result); /* most of what could be said of a cap is not true of it */
    }
    if (result != NULL) {
        exit = cli_print(cli, result, CLI_DONE);
    }
    cli_admin_close(admin);
    return exit;
}

/* The hash that a command is about, as a param. NULL after saying what is wrong. */
static json_t *hash_params(struct cli *cli, const char *text)
{
    struct capstore_hash hash;
    char hex[CAPSTORE_HASH_HEX_SIZE];
    if (!cli_parse_hash(cli, text, &hash)) {
        return NULL;
    }
    capstore_hash_format(&hash, hex);
    return json_pack("{s:s}", "hash", hex);
}

/* As `call`, of the cap that the first argument names. */
static enum cli_exit call_of_hash(struct cli *cli, const char *method, const char *name,
                                  json_t *value)
{
    json_t *params = hash_params(cli, cli->arguments[0]);
    if (params == NULL) {
        json_decref(value);
        return CLI_USAGE;
    }
    if (value != NULL && json_object_set_new(params, name, value) != 0) {
        json_decref(params);
        return cli_fail(cli, CLI_USAGE, "usage", "%s: expected UTF-8 text", name);
    }
    return call(cli, method, params);
}

/* ---- one cap ---- */

enum cli_exit cli_why(struct cli *cli)
{
    return call_of_hash(cli, "why", NULL, NULL);
}

enum cli_exit cli_delete(struct cli *cli)
{
    return call_of_hash(cli, "cap.delete", "force",
                        cli->options[CLI_FORCE] != NULL ? json_true() : NULL);
}

enum cli_exit cli_forbid(struct cli *cli)
{
    return call_of_hash(cli, "cap.forbid", "reason", json_string(cli->arguments[1]));
}

enum cli_exit cli_allow(struct cli *cli)
{
    return call_of_hash(cli, "cap.allow", NULL, NULL);
}

/* ---- lists that come in pages ---- */

/* Fetches all pages of a method, whose list `name` grows to hold them. NULL after saying what is
 * wrong: *ret_exit. */
static json_t *all_pages(struct cli *cli, const char *method, const char *name,
                         enum cli_exit *ret_exit)
{
    struct cli_admin *admin = cli_admin_open(cli, ret_exit);
    json_t *all = json_array();
    json_t *cursor = NULL;
    bool more = admin != NULL && all != NULL;
    while (more) {
        json_t *params = json_pack("{s:i, s:O*}", "limit", 1000, "cursor", cursor);
        json_t *page = cli_admin_call(admin, method, params, ret_exit);
        more = page != NULL && json_array_extend(all, json_object_get(page, name)) == 0;
        json_decref(cursor);
        cursor = json_incref(json_object_get(page, "cursor"));
        json_decref(page);
        if (!more) {
            json_decref(all);
            all = NULL;
        }
        more = more && cursor != NULL && !json_is_null(cursor);
    }
    json_decref(cursor);
    cli_admin_close(admin);
    return admin != NULL ? all : NULL;
}

static enum cli_exit print_table(struct cli *cli, json_t *rows, const struct table_column *columns,
                                 const char *nothing)
{
    bool good =
        json_array_size(rows) == 0 ? puts(nothing) >= 0 : table_print(rows, columns, stdout);
    json_decref(rows);
    return good && fflush(stdout) == 0 ? CLI_DONE
                                       : cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
}

/* ---- roots ---- */

static enum cli_exit list_roots(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"NAME", "name", false},    {"SET", "set", false}, {"UID", "uid", true},
        {"CAP", "cap_hash", false}, {NULL, NULL, false},
    };
    enum cli_exit exit = CLI_FAILED;
    json_t *roots = all_pages(cli, "roots.list", "roots", &exit);
    if (roots == NULL) {
        return exit;
    }
    return cli->json ? cli_print(cli, json_pack("{s:o}", "roots", roots), CLI_DONE)
                     : print_table(cli, roots, columns, "no root");
}

static enum cli_exit set_root(struct cli *cli)
{
    json_t *params = hash_params(cli, cli->arguments[2]);
    if (params == NULL) {
        return CLI_USAGE;
    }
    if (json_object_set_new(params, "name", json_string(cli->arguments[1])) != 0) {
        json_decref(params);
        return cli_fail(cli, CLI_USAGE, "usage", "name: expected printable ASCII without spaces");
    }
    return call(cli, "roots.set", params);
}

enum cli_exit cli_roots(struct cli *cli)
{
    const char *what = cli->argument_count > 0 ? cli->arguments[0] : "list";
    if (strcmp(what, "list") == 0 && cli->argument_count < 2) {
        return list_roots(cli);
    }
    if (strcmp(what, "set") == 0 && cli->argument_count == 3) {
        return set_root(cli);
    }
    if (strcmp(what, "remove") == 0 && cli->argument_count == 2) {
        return call(cli, "roots.remove", json_pack("{s:s}", "name", cli->arguments[1]));
    }
    return cli_fail(cli, CLI_USAGE, "usage",
                    "usage: capctl roots [list | set NAME HASH | remove NAME]");
}

/* ---- collection ---- */

static enum cli_exit print_plan(struct cli *cli, json_t *plan)
{
    static const struct table_column columns[] = {
        {"KIND", "kind", false},           {"BYTES", "body_len", true},
        {"PUBLISHED", "published", false}, {"KEPT BY", "kept_by", false},
        {"CAP", "cap_hash", false},        {NULL, NULL, false},
    };
    json_int_t kept = json_integer_value(json_object_get(plan, "kept"));
    json_int_t caps = json_integer_value(json_object_get(plan, "caps"));
    char bytes[32];
    if (cli->json) {
        return cli_print(cli, plan, CLI_DONE);
    }
    out_human_size((uint64_t)json_integer_value(json_object_get(plan, "bytes")), bytes);
    printf("%s%lld %s of %s would go\n",
           json_is_true(json_object_get(plan, "more")) ? "at least " : "", (long long)caps,
           caps == 1 ? "cap" : "caps", bytes);
    if (kept > 0) {
        printf("%lld more %s due, but kept\n", (long long)kept, kept == 1 ? "is" : "are");
    }
    json_t *due = json_incref(json_object_get(plan, "due"));
    json_decref(plan);
    if (json_array_size(due) == 0) {
        json_decref(due);
        return fflush(stdout) == 0 ? CLI_DONE
                                   : cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
    }
    return print_table(cli, due, columns, "");
}

static enum cli_exit plan(struct cli *cli)
{
    enum cli_exit exit = CLI_FAILED;
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = cli_admin_call(admin, "gc.plan", json_object(), &exit);
    if (result != NULL) {
        exit = print_plan(cli, result);
    }
    cli_admin_close(admin);
    return exit;
}

enum cli_exit cli_gc(struct cli *cli)
{
    const char *what = cli->argument_count > 0 ? cli->arguments[0] : "plan";
    if (strcmp(what, "plan") == 0) {
        return plan(cli);
    }
    if (strcmp(what, "run") == 0) {
        return cli_run_job(cli, "gc.run", json_object());
    }
    return cli_fail(cli, CLI_USAGE, "usage", "usage: capctl gc [plan|run]");
}
