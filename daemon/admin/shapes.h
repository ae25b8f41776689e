/*
 * What the methods take and return, for the table in methods.c: lists of params and of members of
 * the result. Internal to the room.
 */
#ifndef DAEMON_ADMIN_SHAPES_H
#define DAEMON_ADMIN_SHAPES_H

#include "daemon/admin/params.h"

/* A member of a result. `type` lists JSON types, "string or null". A list ends with name NULL. */
struct admin_field {
    const char *name;
    const char *type;
    const char *doc;
};

/* Rows of params, for the methods that read them. */
enum { ADMIN_ARG_METHOD = 0 }; /* help, schema */
enum { ADMIN_ARG_HASH = 0 };   /* cap.stat, cap.explain, cap.delete, refs.list, why */
enum { ADMIN_FIND_PREFIX, ADMIN_FIND_CONTENT }; /* cap.find */
enum { ADMIN_LIST_KIND, ADMIN_LIST_PREFIX, ADMIN_LIST_LIMIT, ADMIN_LIST_CURSOR };
enum { ADMIN_EXPLAIN_OFFSET = 1, ADMIN_EXPLAIN_LIMIT };
enum { ADMIN_REFS_DIRECTION = 1, ADMIN_REFS_LIMIT, ADMIN_REFS_CURSOR };
enum { ADMIN_PAGE_LIMIT, ADMIN_PAGE_CURSOR }; /* refusals.list, clients.list, quota.list */
enum { ADMIN_LOG_LEVEL = 0 };
enum { ADMIN_SCRUB_REPAIR = 0 };
enum { ADMIN_METRICS_FORMAT = 0 };
enum { ADMIN_JOB_ID = 0 };
enum { ADMIN_ROOTS_LIMIT, ADMIN_ROOTS_CURSOR };
enum { ADMIN_ROOT_NAME, ADMIN_ROOT_HASH }; /* roots.remove: the first */
enum { ADMIN_DELETE_FORCE = 1 };
enum { ADMIN_FORBID_REASON = 1 };
enum { ADMIN_PLAN_LIMIT = 0 };
enum { ADMIN_EVENTS_SINCE, ADMIN_EVENTS_KINDS };

extern const struct admin_param admin_no_params[];
extern const struct admin_param admin_method_params[];
extern const struct admin_param admin_stat_params[];
extern const struct admin_param admin_find_params[];
extern const struct admin_param admin_list_params[];
extern const struct admin_param admin_explain_params[];
extern const struct admin_param admin_refs_params[];
extern const struct admin_param admin_refusals_params[];
extern const struct admin_param admin_quota_params[];
extern const struct admin_param admin_clients_params[];
extern const struct admin_param admin_metrics_params[];
extern const struct admin_param admin_cancel_params[];
extern const struct admin_param admin_events_params[];
extern const struct admin_param admin_roots_params[];
extern const struct admin_param admin_root_params[];
extern const struct admin_param admin_root_name_params[];
extern const struct admin_param admin_delete_params[];
extern const struct admin_param admin_forbid_params[];
extern const struct admin_param admin_plan_params[];
extern const struct admin_param admin_scrub_params[];
extern const struct admin_param admin_log_params[];

extern const struct admin_field admin_hello_result[];
extern const struct admin_field admin_help_result[];
extern const struct admin_field admin_schema_result[];
extern const struct admin_field admin_status_result[];
extern const struct admin_field admin_metrics_result[];
extern const struct admin_field admin_stat_result[];
extern const struct admin_field admin_list_result[];
extern const struct admin_field admin_explain_result[];
extern const struct admin_field admin_refs_result[];
extern const struct admin_field admin_refusals_result[];
extern const struct admin_field admin_quota_result[];
extern const struct admin_field admin_loops_result[];
extern const struct admin_field admin_clients_result[];
extern const struct admin_field admin_jobs_result[];
extern const struct admin_field admin_cancel_result[];
extern const struct admin_field admin_events_result[];
extern const struct admin_field admin_job_result[];
extern const struct admin_field admin_backups_result[];
extern const struct admin_field admin_roots_result[];
extern const struct admin_field admin_root_result[];
extern const struct admin_field admin_root_name_result[];
extern const struct admin_field admin_delete_result[];
extern const struct admin_field admin_allow_result[];
extern const struct admin_field admin_plan_result[];
extern const struct admin_field admin_why_result[];
extern const struct admin_field admin_scrub_result[];
extern const struct admin_field admin_log_result[];
extern const struct admin_field admin_config_result[];
extern const struct admin_field admin_reload_result[];
extern const struct admin_field admin_phase_result[];

#endif
