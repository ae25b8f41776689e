/* jobs and events: what the daemon does, and what happens in it. */
#include <stdlib.h>
#include <string.h>

#include "client/capctl/admin.h"
#include "client/capctl/result.h"
#include "client/capctl/table.h"

/* ---- jobs ---- */

/* "75 %, 1.5 GiB of 2.0 GiB", "1200 of 4000", "1200"; of both units what is known. */
static void progress_of(const json_t *job, char *ret_text, size_t size)
{
    char done[32];
    char total[32];
    char percent[16] = "";
    json_int_t count = cli_admin_integer(job, "done");
    out_human_size((uint64_t)cli_admin_integer(job, "done_bytes"), done);
    out_human_size((uint64_t)cli_admin_integer(job, "total_bytes"), total);
    if (json_is_integer(json_object_get(job, "percent"))) {
        snprintf(percent, sizeof(percent), "%d %%, ", (int)cli_admin_integer(job, "percent"));
    }
    if (cli_admin_integer(job, "total_bytes") > 0) {
        snprintf(ret_text, size, "%s%s of %s", percent, done, total);
    } else if (cli_admin_integer(job, "total") > 0) {
        snprintf(ret_text, size, "%s%lld of %lld", percent, (long long)count,
                 (long long)cli_admin_integer(job, "total"));
    } else if (cli_admin_integer(job, "done_bytes") > 0) {
        snprintf(ret_text, size, "%lld, %s", (long long)count, done);
    } else {
        snprintf(ret_text, size, "%lld", (long long)count);
    }
}

/* Adds what the table shows of a job and the daemon says in other forms. False without memory. */
static bool complete(json_t *job)
{
    char progress[96];
    const char *state = cli_admin_text(job, "state");
    json_int_t seconds = cli_admin_integer(job, "took_ms") / 1000;
    bool ending = strcmp(state, "running") == 0 && json_is_true(json_object_get(job, "cancelled"));
    progress_of(job, progress, sizeof(progress));
    return json_object_set_new(job, "progress", json_string(progress)) == 0 &&
           json_object_set_new(job, "shown", json_string(ending ? "cancelling" : state)) == 0 &&
           json_object_set_new(job, "took",
                               json_sprintf("%d:%02d:%02d", (int)(seconds / 3600),
                                            (int)(seconds / 60 % 60), (int)(seconds % 60))) == 0;
}

static enum cli_exit print_jobs(struct cli *cli, json_t *result)
{
    static const struct table_column columns[] = {
        {"ID", "id", true},        {"KIND", "kind", false},         {"STATE", "shown", false},
        {"PHASE", "phase", false}, {"PROGRESS", "progress", false}, {"STARTED", "started", false},
        {"TOOK", "took", true},    {"MESSAGE", "message", false},   {NULL, NULL, false},
    };
    json_t *jobs = json_object_get(result, "jobs");
    size_t index;
    json_t *job;
    if (cli->json) {
        return cli_print(cli, result, CLI_DONE);
    }
    bool good = true;
    json_array_foreach(jobs, index, job)
    {
        good = good && complete(job);
    }
    if (good && json_array_size(jobs) == 0) {
        good = puts("no job has run since the daemon started") >= 0;
    } else {
        good = good && table_print(jobs, columns, stdout);
    }
    json_decref(result);
    return good && fflush(stdout) == 0 ? CLI_DONE
                                       : cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
}

static enum cli_exit list_jobs(struct cli *cli)
{
    enum cli_exit exit = CLI_FAILED;
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = cli_admin_call(admin, "jobs.list", json_object(), &exit);
    if (result != NULL) {
        exit = print_jobs(cli, result);
    }
    cli_admin_close(admin);
    return exit;
}

static enum cli_exit cancel_job(struct cli *cli, const char *text)
{
    uint64_t id;
    enum cli_exit exit = CLI_FAILED;
    if (!cli_parse_u64(text, &id) || id == 0 || id > INT64_MAX) {
        return cli_fail(cli, CLI_USAGE, "usage", "\"%s\" is not the number of a job", text);
    }
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result =
        cli_admin_call(admin, "jobs.cancel", json_pack("{s:I}", "id", (json_int_t)id), &exit);
    if (result != NULL) {
        exit = cli_print(cli, result, CLI_DONE);
    }
    cli_admin_close(admin);
    return exit;
}

enum cli_exit cli_jobs(struct cli *cli)
{
    const char *what = cli->argument_count > 0 ? cli->arguments[0] : "list";
    if (strcmp(what, "list") == 0 && cli->argument_count < 2) {
        return list_jobs(cli);
    }
    if (strcmp(what, "cancel") == 0 && cli->argument_count == 2) {
        return cancel_job(cli, cli->arguments[1]);
    }
    return cli_fail(cli, CLI_USAGE, "usage", "usage: capctl jobs [list | cancel ID]");
}

/* ---- events ---- */

/* As the daemon has them (daemon/core/events.h); a test compares the two. */
static const char kind_words[] = "published, refused, deleted, collected, forbidden, allowed, "
                                 "quarantined, healed, root_set, root_removed, job_started, "
                                 "job_ended, config_reloaded, upstream_up, upstream_away, "
                                 "upstream_broken";

/* Whether the first `len` characters are one of the words above. */
static bool is_kind(const char *word, size_t len)
{
    for (const char *at = kind_words; *at != '\0';) {
        size_t known = strcspn(at, ",");
        if (known == len && memcmp(at, word, len) == 0) {
            return true;
        }
        at += known;
        at += strspn(at, ", ");
    }
    return false;
}

/* Whether --kind names kinds only; says which word does not. */
static bool check_kinds(struct cli *cli, const char *words)
{
    for (;;) {
        size_t len = strcspn(words, ",");
        if (!is_kind(words, len)) {
            (void)cli_fail(cli, CLI_USAGE, "usage",
                           "--kind: \"%.*s\" is not a kind of event; these are: %s",
                           (int)(len < 40 ? len : 40), words, kind_words);
            return false;
        }
        if (words[len] == '\0') {
            return true;
        }
        words += len + 1;
    }
}

/* The words of --kind as an array. NULL without memory. */
static json_t *kinds_of(const char *words)
{
    json_t *kinds = json_array();
    while (kinds != NULL) {
        size_t len = strcspn(words, ",");
        kinds = out_append(kinds, json_stringn(words, len));
        if (words[len] == '\0') {
            break;
        }
        words += len + 1;
    }
    return kinds;
}

/* The params of events.subscribe. NULL after saying what is wrong. */
static json_t *subscription(struct cli *cli)
{
    const char *since = cli->options[CLI_SINCE];
    const char *kind = cli->options[CLI_KIND];
    uint64_t after = 0;
    if (since != NULL && (!cli_parse_u64(since, &after) || after > INT64_MAX)) {
        (void)cli_fail(cli, CLI_USAGE, "usage", "--since: \"%s\" is not the number of an event",
                       since);
        return NULL;
    }
    if (kind != NULL && !check_kinds(cli, kind)) {
        return NULL;
    }
    json_t *params = json_pack("{s:I}", "since", since != NULL ? (json_int_t)after : -1);
    if (kind != NULL && json_object_set_new(params, "kinds", kinds_of(kind)) != 0) {
        json_decref(params);
        (void)cli_fail(cli, CLI_USAGE, "usage", "--kind: \"%s\" is not a list of kinds", kind);
        return NULL;
    }
    return params;
}

/* One line for an event. False when it could not be written. */
static bool print_event(const struct cli *cli, const json_t *event)
{
    const json_t *lost = json_object_get(event, "lost");
    if (cli->json) {
        return out_print(event, true, stdout);
    }
    if (lost != NULL) {
        printf("... %lld events lost ...\n", (long long)json_integer_value(lost));
    } else {
        const char *hash = cli_admin_text(event, "hash");
        const char *message = cli_admin_text(event, "message");
        printf("%6lld  %.19sZ  %-15s  %s%s%s\n", (long long)cli_admin_integer(event, "seq"),
               cli_admin_text(event, "time"), cli_admin_text(event, "kind"), message,
               message[0] != '\0' && hash[0] != '\0' ? "  " : "", hash);
    }
    return fflush(stdout) == 0 && ferror(stdout) == 0;
}

/* Prints events until the connection ends, or nobody reads them. */
static enum cli_exit follow(struct cli *cli, struct cli_admin *admin)
{
    json_int_t seq = 0;
    for (;;) {
        json_t *event = NULL;
        enum capstore_error error = cli_admin_event(admin, &event);
        if (error != CAPSTORE_OK) {
            char message[128];
            snprintf(message, sizeof(message),
                     "the daemon ended the connection; the last event was %lld (--since)",
                     (long long)seq);
            return cli_fail_error(cli, error, cli->admin, message);
        }
        bool good = print_event(cli, event);
        if (json_object_get(event, "seq") != NULL) {
            seq = cli_admin_integer(event, "seq");
        }
        json_decref(event);
        if (!good) {
            return cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
        }
    }
}

enum cli_exit cli_events(struct cli *cli)
{
    enum cli_exit exit = CLI_USAGE;
    json_t *params = subscription(cli);
    if (params == NULL) {
        return exit;
    }
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    if (admin == NULL) {
        json_decref(params);
        return exit;
    }
    json_t *result = cli_admin_call(admin, "events.subscribe", params, &exit);
    if (result != NULL) {
        exit = follow(cli, admin);
    }
    json_decref(result);
    cli_admin_close(admin);
    return exit;
}
