/* backup and compact: jobs that are started and waited for, and the backups that are there. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/capctl/admin.h"
#include "client/capctl/result.h"
#include "client/capctl/table.h"

#define LOOK_NS 300000000L /* between two looks at the job */

/* ---- waiting for a job ---- */

/* The job among those of jobs.list; NULL: it is not there. Borrowed. */
static json_t *find_job(const json_t *result, json_int_t id)
{
    size_t index;
    json_t *job;
    json_array_foreach(json_object_get(result, "jobs"), index, job)
    {
        if (json_integer_value(json_object_get(job, "id")) == id) {
            return job;
        }
    }
    return NULL;
}

/* One line that overwrites itself; an empty one at the end. */
static void show_progress(const json_t *job)
{
    const json_t *percent = json_object_get(job, "percent");
    if (isatty(STDERR_FILENO) != 1) {
        return;
    }
    fprintf(stderr, "\r\033[K%s", cli_admin_text(job, "phase"));
    if (json_is_integer(percent)) {
        fprintf(stderr, " %d %%", (int)json_integer_value(percent));
    }
    (void)fflush(stderr);
}

/* Looks at the job until it has ended. A new reference; NULL after saying what is wrong. */
static json_t *wait_for_job(struct cli *cli, struct cli_admin *admin, json_int_t id,
                            enum cli_exit *ret_exit)
{
    const struct timespec pause = {0, LOOK_NS};
    for (;;) {
        json_t *result = cli_admin_call(admin, "jobs.list", json_object(), ret_exit);
        json_t *job = find_job(result, id);
        if (result != NULL && job == NULL) {
            *ret_exit = cli_fail(cli, CLI_FAILED, "no_job",
                                 "the daemon does not know job %lld any more", (long long)id);
        }
        if (job != NULL && strcmp(cli_admin_text(job, "state"), "running") != 0) {
            show_progress(NULL);
            job = json_incref(job);
            json_decref(result);
            return job;
        }
        if (job != NULL) {
            show_progress(job);
        }
        json_decref(result);
        if (job == NULL) {
            return NULL;
        }
        (void)nanosleep(&pause, NULL);
    }
}

/* Takes over the job. */
static enum cli_exit tell_end(struct cli *cli, json_t *job)
{
    enum cli_exit exit;
    const char *state = cli_admin_text(job, "state");
    if (cli->json) {
        return cli_print(cli, job, strcmp(state, "done") == 0 ? CLI_DONE : CLI_NO);
    }
    if (strcmp(state, "done") == 0) {
        exit = puts(cli_admin_text(job, "message")) >= 0 && fflush(stdout) == 0
                   ? CLI_DONE
                   : cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
    } else {
        exit = cli_fail(cli, CLI_NO, state, "%s: %s", state, cli_admin_text(job, "message"));
    }
    json_decref(job);
    return exit;
}

enum cli_exit cli_run_job(struct cli *cli, const char *method, json_t *params)
{
    enum cli_exit exit = CLI_FAILED;
    json_t *job = NULL;
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = cli_admin_call(admin, method, params, &exit);
    if (result != NULL) {
        job = wait_for_job(cli, admin, json_integer_value(json_object_get(result, "job")), &exit);
    }
    if (job != NULL) {
        exit = tell_end(cli, job);
    }
    json_decref(result);
    cli_admin_close(admin);
    return exit;
}

/* ---- backups ---- */

/* Adds what the table shows and the daemon says in other forms. False without memory. */
static bool complete(json_t *backup)
{
    char size[32];
    const json_t *verified = json_object_get(backup, "verified");
    out_human_size((uint64_t)json_integer_value(json_object_get(backup, "bytes")), size);
    return json_object_set_new(backup, "size", json_string(size)) == 0 &&
           json_object_set_new(backup, "sound",
                               json_string(json_is_true(verified) ? "yes" : "no")) == 0;
}

static bool print_backups(json_t *result)
{
    static const struct table_column columns[] = {
        {"NAME", "name", false},      {"MADE", "made", false}, {"SIZE", "size", true},
        {"VERIFIED", "sound", false}, {NULL, NULL, false},
    };
    json_t *backups = json_object_get(result, "backups");
    size_t index;
    json_t *backup;
    json_array_foreach(backups, index, backup)
    {
        if (!complete(backup)) {
            return false;
        }
    }
    if (!json_is_string(json_object_get(result, "dir"))) {
        return puts("backup-dir is not set") >= 0;
    }
    return printf("%s\n", cli_admin_text(result, "dir")) >= 0 &&
           (json_array_size(backups) == 0 ? puts("no backup") >= 0
                                          : table_print(backups, columns, stdout));
}

static enum cli_exit list_backups(struct cli *cli)
{
    enum cli_exit exit = CLI_FAILED;
    struct cli_admin *admin = cli_admin_open(cli, &exit);
    json_t *result = cli_admin_call(admin, "backup.list", json_object(), &exit);
    if (result != NULL && cli->json) {
        exit = cli_print(cli, json_incref(result), CLI_DONE);
    } else if (result != NULL) {
        exit = print_backups(result) && fflush(stdout) == 0
                   ? CLI_DONE
                   : cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
    }
    json_decref(result);
    cli_admin_close(admin);
    return exit;
}

enum cli_exit cli_backup(struct cli *cli)
{
    if (cli->argument_count == 0) {
        return cli_run_job(cli, "backup.start", json_object());
    }
    return strcmp(cli->arguments[0], "list") == 0
               ? list_backups(cli)
               : cli_fail(cli, CLI_USAGE, "usage", "usage: capctl backup [list]");
}

enum cli_exit cli_compact(struct cli *cli)
{
    return cli_run_job(cli, "compact.start", json_object());
}
