/* quota: what publishers have in the store, beside what they may have. */
#include <string.h>

#include "client/capctl/admin.h"
#include "client/capctl/result.h"
#include "client/capctl/table.h"

/* "1.5 GiB of 2.0 GiB", or "12 of 100"; without a limit the figure alone. */
static json_t *used_of(json_int_t used, const json_t *limit, bool size)
{
    char text[32];
    char most[32];
    if (size) {
        out_human_size((uint64_t)used, text);
        out_human_size((uint64_t)json_integer_value(limit), most);
    } else {
        snprintf(text, sizeof(text), "%lld", (long long)used);
        snprintf(most, sizeof(most), "%lld", (long long)json_integer_value(limit));
    }
    return json_is_integer(limit) ? json_sprintf("%s of %s", text, most) : json_string(text);
}

/* Adds what the table shows of a publisher. False without memory. */
static bool complete(json_t *publisher, const json_t *limits)
{
    return json_object_set_new(publisher, "shown_bytes",
                               used_of(cli_admin_integer(publisher, "bytes"),
                                       json_object_get(limits, "bytes"), true)) == 0 &&
           json_object_set_new(publisher, "shown_caps",
                               used_of(cli_admin_integer(publisher, "caps"),
                                       json_object_get(limits, "caps"), false)) == 0 &&
           json_object_set_new(
               publisher, "shown_under_way",
               used_of(cli_admin_integer(publisher, "under_way_bytes"), NULL, true)) == 0 &&
           json_object_set_new(publisher, "shown_hour",
                               used_of(cli_admin_integer(publisher, "last_hour_bytes"),
                                       json_object_get(limits, "hourly_bytes"), true)) == 0;
}

static enum cli_exit print(struct cli *cli, json_t *result)
{
    static const struct table_column columns[] = {
        {"PUBLISHER", "publisher", false}, {"BYTES", "shown_bytes", true},
        {"CAPS", "shown_caps", true},      {"UNDER WAY", "shown_under_way", true},
        {"LAST HOUR", "shown_hour", true}, {NULL, NULL, false},
    };
    const json_t *limits = json_object_get(result, "limits");
    json_t *publishers = json_object_get(result, "publishers");
    size_t index;
    json_t *publisher;
    if (cli->json) {
        return cli_print(cli, result, CLI_DONE);
    }
    bool good = true;
    json_array_foreach(publishers, index, publisher)
    {
        good = good && complete(publisher, limits);
    }
    json_t *total = used_of(cli_admin_integer(result, "total_bytes"),
                            json_object_get(limits, "total_bytes"), true);
    good = good && total != NULL && table_print(publishers, columns, stdout) &&
           printf("in the store: %s\n", json_string_value(total)) >= 0;
    json_decref(total);
    json_decref(result);
    return good && fflush(stdout) == 0 ? CLI_DONE
                                       : cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
}

/* All pages as one. NULL after saying what is wrong: *ret_exit. */
static json_t *ask_all(struct cli *cli, struct cli_admin *admin, enum cli_exit *ret_exit)
{
    json_t *all = NULL;
    json_int_t cursor = 0;
    for (;;) {
        json_t *page = cli_admin_call(
            admin, "quota.list", json_pack("{s:i, s:I}", "limit", 256, "cursor", cursor), ret_exit);
        json_t *next = json_object_get(page, "cursor");
        bool more = json_is_integer(next) && json_integer_value(next) > cursor;
        cursor = json_integer_value(next);
        if (page == NULL) {
            json_decref(all);
            return NULL;
        }
        if (all == NULL) {
            all = page;
        } else {
            int failed = json_array_extend(json_object_get(all, "publishers"),
                                           json_object_get(page, "publishers"));
            json_decref(page);
            if (failed != 0) {
                json_decref(all);
                *ret_exit = cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
                return NULL;
            }
        }
        if (!more) {
            (void)json_object_del(all, "cursor");
            return all;
        }
    }
}

enum cli_exit cli_quota(struct cli *cli)
{
    enum cli_exit exit = CLI_FAILED;
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = admin != NULL ? ask_all(cli, admin, &exit) : NULL;
    if (result != NULL) {
        exit = print(cli, result);
    }
    cli_admin_close(admin);
    return exit;
}
