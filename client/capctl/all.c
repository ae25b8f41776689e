#include "client/capctl/all.h"

#include <string.h>

#include "client/capctl/admin.h"

#define PAGE_LIMIT 1000 /* caps in one answer of cap.list: the most that it gives */

static bool bad_reply(struct cli *cli, const char *method)
{
    (void)cli_fail(cli, CLI_FAILED, "bad_reply", "%s: not an answer of %s", cli->admin, method);
    return false;
}

/* Calls a method on a connection of its own: one that waits while caps are fetched may be closed
 * for being idle. Takes over `params`. NULL after saying what is wrong. */
static json_t *call(struct cli *cli, const char *method, json_t *params)
{
    enum cli_exit exit; /* the tool remembers it */
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = NULL;
    if (admin == NULL) {
        json_decref(params);
    } else {
        result = cli_admin_call(admin, method, params, &exit);
    }
    cli_admin_close(admin);
    return result;
}

bool cli_all_bytes(struct cli *cli, uint64_t *ret_bytes)
{
    json_int_t total = 0;
    *ret_bytes = 0;
    if (cli->argument_count > 0) {
        return true;
    }
    json_t *status = call(cli, "status", json_object());
    bool good = status != NULL;
    if (good && json_unpack(status, "{s:{s:I}}", "body_bytes", "total", &total) != 0) {
        good = bad_reply(cli, "status");
    }
    *ret_bytes = (uint64_t)total;
    json_decref(status);
    return good;
}

/* Visits the caps of one page. */
static bool visit_page(struct cli *cli, struct cli_walk *walk, const json_t *page)
{
    const json_t *caps = json_object_get(page, "caps");
    struct capstore_hash hashes[CLI_WALK_BATCH];
    size_t count = 0;
    size_t total = json_array_size(caps);
    for (size_t i = 0; i < total; i++) {
        const char *hex = json_string_value(json_object_get(json_array_get(caps, i), "cap_hash"));
        if (hex == NULL || capstore_hash_parse(hex, &hashes[count]) != CAPSTORE_OK) {
            return bad_reply(cli, "cap.list");
        }
        count++;
        if (count == CLI_WALK_BATCH || i + 1 == total) {
            if (!cli_walk_visit(walk, hashes, count, true)) {
                return false;
            }
            count = 0;
        }
    }
    return true;
}

/* Visits every cap of a kind, page by page: a cap that goes or comes meanwhile may be missed. */
static bool visit_kind(struct cli *cli, struct cli_walk *walk, const char *kind)
{
    json_t *cursor = NULL;
    bool good = true;
    do {
        json_t *params =
            json_pack("{s:s, s:i, s:O*}", "kind", kind, "limit", PAGE_LIMIT, "cursor", cursor);
        json_decref(cursor);
        json_t *page = call(cli, "cap.list", params);
        good = page != NULL && visit_page(cli, walk, page);
        cursor = json_incref(json_object_get(page, "cursor"));
        json_decref(page);
    } while (good && json_is_string(cursor));
    json_decref(cursor);
    return good;
}

/* ---- roots ---- */

/* Whether the daemon has roots: one of an earlier version has none, but can be dumped. *ret_good
 * false after saying what is wrong. */
static bool has_roots(struct cli *cli, bool *ret_good)
{
    json_t *help = call(cli, "help", json_object());
    const json_t *methods = json_object_get(help, "methods");
    bool found = false;
    for (size_t i = 0; i < json_array_size(methods) && !found; i++) {
        const char *name = json_string_value(json_object_get(json_array_get(methods, i), "name"));
        found = name != NULL && strcmp(name, "roots.list") == 0;
    }
    *ret_good = help != NULL;
    json_decref(help);
    return found;
}

bool cli_each_root(struct cli *cli,
                   bool (*found)(void *ctx, const char *name, const struct capstore_hash *hash),
                   void *ctx)
{
    json_t *cursor = NULL;
    bool good;
    if (!has_roots(cli, &good)) {
        return good;
    }
    do {
        json_t *params = json_pack("{s:i, s:O*}", "limit", PAGE_LIMIT, "cursor", cursor);
        json_decref(cursor);
        json_t *page = call(cli, "roots.list", params);
        const json_t *roots = json_object_get(page, "roots");
        good = page != NULL;
        for (size_t i = 0; good && i < json_array_size(roots); i++) {
            const json_t *root = json_array_get(roots, i);
            const char *name = json_string_value(json_object_get(root, "name"));
            const char *hex = json_string_value(json_object_get(root, "cap_hash"));
            struct capstore_hash hash;
            good = name != NULL && hex != NULL && capstore_hash_parse(hex, &hash) == CAPSTORE_OK
                       ? found(ctx, name, &hash)
                       : bad_reply(cli, "roots.list");
        }
        cursor = json_incref(json_object_get(page, "cursor"));
        json_decref(page);
    } while (good && json_is_string(cursor));
    json_decref(cursor);
    return good;
}

/* What is looked for among the roots. */
struct wanted_root {
    const char *name;
    bool found;
    struct capstore_hash hash;
};

static bool is_wanted(void *ctx, const char *name, const struct capstore_hash *hash)
{
    struct wanted_root *wanted = ctx;
    if (strcmp(name, wanted->name) == 0) {
        wanted->found = true;
        wanted->hash = *hash;
    }
    return !wanted->found;
}

bool cli_cap_named(struct cli *cli, const char *text, struct capstore_hash *ret_hash)
{
    struct wanted_root wanted = {.name = text};
    if (capstore_hash_parse(text, ret_hash) == CAPSTORE_OK) {
        return true;
    }
    (void)cli_each_root(cli, is_wanted, &wanted);
    if (!wanted.found && !cli->failed) {
        (void)cli_fail(cli, CLI_NO, "no_root",
                       "\"%s\" is neither a hash (64 hex digits) nor the name of a root", text);
    }
    *ret_hash = wanted.hash;
    return wanted.found;
}

/* ---- caps ---- */

/* Visits the caps that the arguments name. */
static bool visit_arguments(struct cli *cli, struct cli_walk *walk)
{
    struct capstore_hash hash;
    for (int i = 0; i < cli->argument_count; i++) { /* all are looked at before the first is had */
        if (!cli_cap_named(cli, cli->arguments[i], &hash)) {
            return false;
        }
    }
    for (int i = 0; i < cli->argument_count; i++) {
        if (!cli_cap_named(cli, cli->arguments[i], &hash) ||
            !cli_walk_visit(walk, &hash, 1, false)) {
            return false;
        }
    }
    return true;
}

/* Whether the admin socket is that of the daemon whose caps are fetched: what it lists must be
 * there. */
static bool is_same_store(struct cli *cli, struct cli_walk *walk)
{
    struct capstore_daemon_info info;
    uint8_t id[CAPSTORE_STORE_ID_SIZE];
    json_t *status = call(cli, "status", json_object());
    const char *hex = json_string_value(json_object_get(status, "store_id"));
    bool good = status != NULL;
    if (good && (hex == NULL || strlen(hex) != 2 * sizeof(id) || !cli_hex_parse(hex, id))) {
        good = bad_reply(cli, "status");
    }
    if (good && (capstore_info(walk->many, &info) != CAPSTORE_OK ||
                 memcmp(info.store_id, id, sizeof(id)) != 0)) {
        (void)cli_fail(cli, CLI_USAGE, "usage",
                       "%s is the admin socket of another daemon; see --admin", cli->admin);
        good = false;
    }
    json_decref(status);
    return good;
}

bool cli_visit_all(struct cli *cli, struct cli_walk *walk)
{
    if (cli->argument_count > 0) {
        return visit_arguments(cli, walk);
    }
    return is_same_store(cli, walk) && visit_kind(cli, walk, "data") &&
           visit_kind(cli, walk, "image");
}
