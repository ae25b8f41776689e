/*
 * What the methods take and return, for the table in methods.c: lists of params and of members of
 * the result. Internal to the room.
 */
#ifndef DAEMON_ADMIN_SHAPES_H
#define DAEMON_ADMIN_SHAPES_H

#include "daemon/admin/methods.h"

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
extern const struct admin_field admin_log_result[];
extern const struct admin_field admin_config_result[];
extern const struct admin_field admin_reload_result[];
extern const struct admin_field admin_phase_result[];

#endif
