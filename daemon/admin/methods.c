/* The table of methods, and what happens to a call: find, level, params, prepare, run. */
#include "daemon/admin/methods.h"

#include <stdio.h>
#include <string.h>

/* --- The table -------------------------------------------------------------------------------- */

#define EXAMPLE_HASH "00000000000000000000000000000000000000000000000000000000000000aa"

static const struct admin_method methods[] = {
    {.name = "hello",
     .params = admin_no_params,
     .result = admin_hello_result,
     .doc = "Identifies the daemon, your access level and the limits of this socket.",
     .example = "{}",
     .run = admin_hello},
    {.name = "help",
     .params = admin_method_params,
     .result = admin_help_result,
     .doc = "Lists the methods, or explains one.",
     .example = "{\"method\":\"cap.list\"}",
     .run = admin_help},
    {.name = "schema",
     .params = admin_method_params,
     .result = admin_schema_result,
     .doc = "Describes params and results as JSON Schema.",
     .example = "{\"method\":\"cap.list\"}",
     .run = admin_schema},
    {.name = "status",
     .in_worker = true,
     .params = admin_no_params,
     .result = admin_status_result,
     .doc = "Shows the state of the daemon and its store. File sizes are physical, not sums of "
            "bodies.",
     .example = "{}",
     .prepare = admin_publish,
     .run = admin_status},
    {.name = "metrics",
     .in_worker = true,
     .params = admin_metrics_params,
     .result = admin_metrics_result,
     .doc = "Returns every metric as text. Each limit is a gauge next to the figure it bounds.",
     .example = "{}",
     .prepare = admin_publish,
     .run = admin_metrics},
    {.name = "cap.stat",
     .in_worker = true,
     .params = admin_stat_params,
     .result = admin_stat_result,
     .doc = "Shows what the store records about a cap. An absent cap is the error not_found, whose "
            "hint names recent refusals of the hash.",
     .example = "{\"hash\":\"" EXAMPLE_HASH "\"}",
     .run = admin_cap_stat},
    {.name = "cap.find",
     .in_worker = true,
     .params = admin_find_params,
     .result = admin_stat_result,
     .doc = "Finds one cap by the beginning of its hash or by the image_content_hash of its wire "
            "Image; give exactly one of the two. If several caps match a prefix, the error is "
            "ambiguous.",
     .example = "{\"prefix\":\"00000000000000aa\"}",
     .run = admin_cap_find},
    {.name = "cap.list",
     .in_worker = true,
     .params = admin_list_params,
     .result = admin_list_result,
     .doc = "Lists caps ordered by hash. A page may hold fewer caps than asked for, even none, and "
            "still have a cursor: go on until it is null.",
     .example = "{\"kind\":\"image\",\"prefix\":\"a\",\"limit\":10}",
     .run = admin_cap_list},
    {.name = "cap.explain",
     .in_worker = true,
     .params = admin_explain_params,
     .result = admin_explain_result,
     .doc =
         "Shows the structure of a cap. Code is never read, so the cost depends on the structure "
         "alone; if an Image has more than 4 MiB of it, the error is structure_too_large. Keys "
         "longer than 64 bytes are cut.",
     .example = "{\"hash\":\"" EXAMPLE_HASH "\",\"limit\":16}",
     .run = admin_cap_explain},
    {.name = "refs.list",
     .in_worker = true,
     .params = admin_refs_params,
     .result = admin_refs_result,
     .doc = "Lists the caps that a cap references, or that reference it, ordered by hash.",
     .example = "{\"hash\":\"" EXAMPLE_HASH "\",\"direction\":\"in\"}",
     .run = admin_refs_list},
    {.name = "refusals.list",
     .params = admin_refusals_params,
     .result = admin_refusals_result,
     .doc = "Lists recent refusals, with peer and error, newest first.",
     .example = "{\"limit\":10}",
     .run = admin_refusals_list},
    {.name = "quota.list",
     .in_worker = true,
     .params = admin_quota_params,
     .result = admin_quota_result,
     .doc = "Lists publishers: what each has in the store and has under way, beside the quotas.",
     .example = "{\"limit\":10}",
     .run = admin_quota_list},
    {.name = "loops.list",
     .in_worker = true,
     .params = admin_no_params,
     .result = admin_loops_result,
     .doc = "Lists the threads that serve clients, each with its loop's figures.",
     .example = "{}",
     .prepare = admin_publish,
     .run = admin_loops_list},
    {.name = "clients.list",
     .in_worker = true,
     .params = admin_clients_params,
     .result = admin_clients_result,
     .doc = "Lists the connected clients, oldest first.",
     .example = "{\"limit\":10}",
     .prepare = admin_clients_prepare,
     .run = admin_clients_list},
    {.name = "config.get",
     .in_worker = true,
     .params = admin_no_params,
     .result = admin_config_result,
     .doc = "Shows every setting, and where its value came from.",
     .example = "{}",
     .run = admin_config_get},
    {.name = "config.test",
     .level = ADMIN_OPERATE,
     .in_worker = true,
     .params = admin_no_params,
     .result = admin_reload_result,
     .doc = "Reads the configuration file and says what config.reload would do, or what is wrong "
            "and in which line. Nothing is changed.",
     .example = "{}",
     .run = admin_config_test},
    {.name = "config.reload",
     .level = ADMIN_OPERATE,
     .in_worker = true,
     .params = admin_no_params,
     .result = admin_reload_result,
     .doc = "Reads the configuration file again, as SIGHUP does, and changes what can change while "
            "the daemon runs. A connection keeps the limits that its HELLO_REPLY named. A file "
            "with a mistake changes nothing.",
     .example = "{}",
     .run = admin_config_reload},
    {.name = "jobs.list",
     .params = admin_no_params,
     .result = admin_jobs_result,
     .doc = "Lists the long work on the store that runs, with its progress, and the last 64 that "
            "ended.",
     .example = "{}",
     .run = admin_jobs_list},
    {.name = "jobs.cancel",
     .level = ADMIN_OPERATE,
     .params = admin_cancel_params,
     .result = admin_cancel_result,
     .doc = "Asks a job to end, and does not wait for it. What it has done stays done. If no job "
            "with that number runs, the error is no_job.",
     .example = "{\"id\":1}",
     .run = admin_jobs_cancel},
    {.name = "events.subscribe",
     .params = admin_events_params,
     .result = admin_events_result,
     .doc = "Has events sent on this connection from now on, in place of those asked for before: "
            "see Events.",
     .example = "{\"since\":0,\"kinds\":[\"refused\",\"job_ended\"]}",
     .run = admin_events_subscribe},
    {.name = "why",
     .in_worker = true,
     .params = admin_stat_params,
     .result = admin_why_result,
     .doc = "Says why a cap is there or not: what keeps it, what became of it, what was refused.",
     .example = "{\"hash\":\"" EXAMPLE_HASH "\"}",
     .run = admin_why},
    {.name = "roots.list",
     .in_worker = true,
     .params = admin_roots_params,
     .result = admin_roots_result,
     .doc = "Lists the roots: names, each of which keeps a cap and everything that this needs.",
     .example = "{}",
     .run = admin_roots_list},
    {.name = "roots.set",
     .level = ADMIN_OPERATE,
     .in_worker = true,
     .params = admin_root_params,
     .result = admin_root_result,
     .doc = "Sets a root to a cap that is published, in place of what it kept before.",
     .example = "{\"name\":\"release/2026-11\",\"hash\":\"" EXAMPLE_HASH "\"}",
     .run = admin_roots_set},
    {.name = "roots.remove",
     .level = ADMIN_OPERATE,
     .in_worker = true,
     .params = admin_root_name_params,
     .result = admin_root_name_result,
     .doc = "Removes a root. What nothing else keeps goes with the next collection.",
     .example = "{\"name\":\"release/2026-11\"}",
     .run = admin_roots_remove},
    {.name = "gc.plan",
     .in_worker = true,
     .params = admin_plan_params,
     .result = admin_plan_result,
     .doc = "Says which caps a collection would take now, and what keeps the others that it would "
            "look at. Nothing is changed.",
     .example = "{\"limit\":10}",
     .run = admin_gc_plan},
    {.name = "gc.run",
     .level = ADMIN_OPERATE,
     .params = admin_no_params,
     .result = admin_job_result,
     .doc = "Starts a job that removes every cap that no root, reference, lease or upload needs. "
            "Reads and publications go on.",
     .example = "{}",
     .run = admin_gc_run},
    {.name = "cap.delete",
     .level = ADMIN_ADMIN,
     .in_worker = true,
     .params = admin_delete_params,
     .result = admin_delete_result,
     .doc =
         "Removes one cap now. If something needs it the error is still_needed, whose data has "
         "needed_by: caps (the first 16 that refer to it, as in refs.list), more (true: refs.list "
         "has the others), roots (names of the first 16) and kept_until (when its lease ends; "
         "null: none keeps it). force removes it all the same, unless a root or an upload needs "
         "it.",
     .example = "{\"hash\":\"" EXAMPLE_HASH "\"}",
     .run = admin_cap_delete},
    {.name = "cap.forbid",
     .level = ADMIN_ADMIN,
     .in_worker = true,
     .params = admin_forbid_params,
     .result = admin_delete_result,
     .doc = "Forbids a cap, whether it is there or not: it is removed as by cap.delete with force, "
            "those who ask for it are told the reason, and publishing it is refused.",
     .example = "{\"hash\":\"" EXAMPLE_HASH "\",\"reason\":\"withdrawn by its author\"}",
     .run = admin_cap_forbid},
    {.name = "cap.allow",
     .level = ADMIN_ADMIN,
     .in_worker = true,
     .params = admin_stat_params,
     .result = admin_allow_result,
     .doc = "Lets a forbidden cap be published again. If it is not forbidden the error is "
            "not_found.",
     .example = "{\"hash\":\"" EXAMPLE_HASH "\"}",
     .run = admin_cap_allow},
    {.name = "backup.start",
     .level = ADMIN_OPERATE,
     .params = admin_no_params,
     .result = admin_job_result,
     .doc = "Starts a job that copies the store into backup-dir and verifies the copy. Then the "
            "oldest verified backups are removed, as many as there are more than backup-keep. "
            "Without backup-dir the error is not_configured.",
     .example = "{}",
     .run = admin_backup_start},
    {.name = "backup.list",
     .params = admin_no_params,
     .result = admin_backups_result,
     .doc = "Lists the backups. Each is a state directory: a daemon is restored with capstored "
            "--state and a copy of it.",
     .example = "{}",
     .run = admin_backup_list},
    {.name = "compact.start",
     .level = ADMIN_OPERATE,
     .params = admin_no_params,
     .result = admin_job_result,
     .doc = "Starts a job that rewrites the store's file without the free room in it. "
            "It needs room for a second file. Publications wait while it copies; reads go on.",
     .example = "{}",
     .run = admin_compact_start},
    {.name = "scrub.start",
     .level = ADMIN_OPERATE,
     .params = admin_scrub_params,
     .result = admin_job_result,
     .doc = "Starts a job that looks the whole store through, content and structure, or goes on "
            "with one that was paused. What is damaged is quarantined: it is not served until it "
            "is published again.",
     .example = "{\"repair\":true}",
     .run = admin_scrub_start},
    {.name = "scrub.pause",
     .level = ADMIN_OPERATE,
     .params = admin_no_params,
     .result = admin_job_result,
     .doc = "Pauses the scrub that runs. It stays paused, over restarts too, until scrub.start.",
     .example = "{}",
     .run = admin_scrub_pause},
    {.name = "scrub.status",
     .in_worker = true,
     .params = admin_no_params,
     .result = admin_scrub_result,
     .doc = "Shows how far a scrub is, what it found, and what is quarantined.",
     .example = "{}",
     .run = admin_scrub_status},
    {.name = "log.set",
     .level = ADMIN_OPERATE,
     .params = admin_log_params,
     .result = admin_log_result,
     .doc = "Sets the log level until the daemon ends or its configuration is reloaded. Audit "
            "lines are written at any level.",
     .example = "{\"level\":\"info\"}",
     .run = admin_log_set},
    {.name = "drain",
     .level = ADMIN_OPERATE,
     .params = admin_no_params,
     .result = admin_phase_result,
     .doc = "Shuts the daemon down gracefully, as SIGTERM does. It stops accepting, refuses new "
            "requests, lets those in flight finish within drain-ms, and exits with status 0.",
     .example = "{}",
     .run = admin_drain},
    {.name = "shutdown",
     .level = ADMIN_ADMIN,
     .params = admin_no_params,
     .result = admin_phase_result,
     .doc = "Shuts the daemon down at once. Requests in flight are dropped; acknowledged uploads "
            "are safe.",
     .example = "{}",
     .run = admin_shutdown},
};

#define METHOD_COUNT (sizeof(methods) / sizeof(methods[0]))

const struct admin_method *admin_methods(size_t *ret_count)
{
    *ret_count = METHOD_COUNT;
    return methods;
}

const struct admin_method *admin_method_find(const char *name)
{
    for (size_t i = 0; i < METHOD_COUNT; i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

/* --- Calls ------------------------------------------------------------------------------------ */

bool admin_call_begin(struct admin_call *call, const char *method, json_t *params)
{
    call->method = admin_method_find(method);
    if (call->method == NULL) {
        admin_error_set(&call->error, ADMIN_UNKNOWN_METHOD);
        snprintf(call->error.message, sizeof(call->error.message), "unknown method %.100s", method);
        return false;
    }
    if (call->level < call->method->level) {
        admin_error_set(&call->error, ADMIN_FORBIDDEN);
        return false;
    }
    if (!admin_params_read(call->method->params, params, call->args, &call->error)) {
        return false;
    }
    if (call->method->prepare != NULL) {
        call->method->prepare(call);
    }
    return true;
}

json_t *admin_call_run(struct admin_call *call)
{
    json_t *result = call->method->run(call);
    if (result == NULL && call->error.reason == NULL) {
        admin_error_cap(&call->error, CAP_E_NO_MEMORY);
    }
    return result;
}

void admin_call_free(struct admin_call *call)
{
    admin_error_free(&call->error);
    free(call->clients);
    call->clients = NULL;
}
