/* Methods of jobs and events. */
#include <stdlib.h>

#include "daemon/admin/methods.h"
#include "daemon/admin/value.h"
#include "daemon/upkeep/jobs.h"

/* --- Jobs ------------------------------------------------------------------------------------- */

/* A total that is not known is null. */
static json_t *known(uint64_t total)
{
    return total > 0 ? admin_value_u64(total) : json_null();
}

/* By bytes where their total is known, else by what the job counts. */
static json_t *percent(const struct upkeep_job_info *info)
{
    bool by_bytes = info->total_bytes > 0;
    uint64_t done = by_bytes ? info->done_bytes : info->done;
    uint64_t total = by_bytes ? info->total_bytes : info->total;
    if (total == 0) {
        return json_null();
    }
    return json_integer(done >= total ? 100 : (json_int_t)((double)done * 100 / (double)total));
}

static json_t *job_json(const struct upkeep_job_info *info)
{
    bool failed = info->state == UPKEEP_FAILED;
    return json_pack("{s:o, s:s, s:s, s:b, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "id", admin_value_u64(info->id), "kind", upkeep_kind_name(info->kind), "state",
                     upkeep_state_name(info->state), "cancelled", info->cancelled ? 1 : 0, "phase",
                     info->phase, "done", admin_value_u64(info->done), "total", known(info->total),
                     "done_bytes", admin_value_u64(info->done_bytes), "total_bytes",
                     known(info->total_bytes), "percent", percent(info), "started",
                     admin_value_time(info->started_us), "ended", admin_value_time(info->ended_us),
                     "took_ms", admin_value_u64(info->took_us / 1000), "reason",
                     failed ? json_string(cap_error_name(info->error)) : json_null(), "message",
                     admin_value_text(info->message));
}

json_t *admin_jobs_list(struct admin_call *call)
{
    struct upkeep_job_info *infos = calloc(UPKEEP_JOBS_MAX, sizeof(*infos));
    json_t *list = infos == NULL ? NULL : json_array();
    size_t count = list == NULL ? 0 : upkeep_jobs_list(call->rooms->jobs, infos);
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (!admin_append(list, job_json(&infos[i]))) {
            json_decref(list);
            list = NULL;
        }
    }
    free(infos);
    return list == NULL ? NULL : json_pack("{s:o}", "jobs", list);
}

json_t *admin_jobs_cancel(struct admin_call *call)
{
    int64_t id = call->args[ADMIN_JOB_ID].integer;
    enum cap_error error = upkeep_jobs_cancel(call->rooms->jobs, (uint64_t)id);
    if (error != CAP_OK) {
        admin_error_cap(&call->error, error);
        return NULL;
    }
    return json_pack("{s:I}", "id", (json_int_t)id);
}

/* --- Events ----------------------------------------------------------------------------------- */

static json_t *kinds_json(uint32_t kinds)
{
    json_t *list = json_array();
    for (unsigned i = 0; list != NULL && i < EVENT_KIND_COUNT; i++) {
        if ((kinds >> i & 1) != 0 &&
            !admin_append(list, json_string(event_kind_name((enum event_kind)i)))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *admin_events_subscribe(struct admin_call *call)
{
    const struct admin_arg *kinds = &call->args[ADMIN_EVENTS_KINDS];
    int64_t since = call->args[ADMIN_EVENTS_SINCE].integer;
    uint64_t last = events_last(&call->rooms->context->events);
    struct event_cursor *cursor = &call->subscription.cursor;
    cursor->kinds = kinds->given ? kinds->set : EVENT_ALL;
    cursor->after = since < 0 ? last : (uint64_t)since;
    if (cursor->after > last) {
        cursor->after = 0; /* from before a restart: all that there is follows */
    }
    json_t *result = json_pack("{s:o, s:o}", "after", admin_value_u64(cursor->after), "kinds",
                               kinds_json(cursor->kinds));
    call->subscription.on = result != NULL;
    return result;
}
