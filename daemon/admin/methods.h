/*
 * The methods of the admin socket: ONE table from which dispatch, the checks of params, `help`,
 * `schema`, ADMIN.md and the man page come.
 */
#ifndef DAEMON_ADMIN_METHODS_H
#define DAEMON_ADMIN_METHODS_H

#include "daemon/admin/gauges.h"
#include "daemon/admin/level.h"
#include "daemon/admin/metrics.h"
#include "daemon/admin/shapes.h"
#include "daemon/admin/subscription.h"

#define ADMIN_API_VERSION 1 /* rises when a method or a member goes away or changes meaning */

struct admin_clients;
struct admin_method;

/*
 * One call from its request to its answer. It belongs to the loop, but for the time between
 * `prepare` and the answer of a method that works in a thread. It may outlive its connection.
 */
struct admin_call {
    const struct admin_method *method;
    const struct admin_rooms *rooms;
    struct admin_figures figures; /* of the admin socket, as the call began */
    struct cap_store *store;      /* for threads */
    struct peer peer;
    enum admin_level level;
    struct admin_arg args[ADMIN_MAX_PARAMS]; /* by the rows of method->params */
    struct admin_clients *clients;           /* what `prepare` found on the loop */
    struct admin_subscription subscription;  /* what the connection gets when the call succeeds */
    struct admin_error error;
};

struct admin_method {
    const char *name;
    enum admin_level level; /* above ADMIN_OBSERVE: a change, which is audited */
    bool in_worker;         /* `run` may wait for the disk */
    const struct admin_param *params;
    const struct admin_field *result;
    const char *doc;        /* the first sentence is the summary */
    const char *example;    /* params as JSON */
    const char *deprecated; /* since when and what to call instead; NULL: it is not */

    /* Takes on the loop what `run` needs of the daemon; NULL: nothing. */
    void (*prepare)(struct admin_call *call);

    /* Makes the result, or returns NULL with call->error filled in; NULL alone means no memory. */
    json_t *(*run)(struct admin_call *call);
};

/* The table, in the order in which it is shown. Static. */
const struct admin_method *admin_methods(size_t *ret_count);

/* NULL for an unknown name. */
const struct admin_method *admin_method_find(const char *name);

/*
 * Finds the method, checks level and params, and prepares the call, whose rooms, store, peer and
 * level are set. False with call->error. `params` lives as long as the call. Loop only.
 */
bool admin_call_begin(struct admin_call *call, const char *method, json_t *params);

/*
 * Runs a call that admin_call_begin accepted, on the loop or, if call->method->in_worker, on any
 * thread. A new result, or NULL with call->error filled in.
 */
json_t *admin_call_run(struct admin_call *call);

/* Releases what the call holds, but not the call. */
void admin_call_free(struct admin_call *call);

/* --- The methods themselves, by file ---------------------------------------------------------- */

/* methods_meta.c */
json_t *admin_hello(struct admin_call *call);
json_t *admin_help(struct admin_call *call);
json_t *admin_schema(struct admin_call *call);

/* methods_store.c */
json_t *admin_cap_stat(struct admin_call *call);
json_t *admin_cap_find(struct admin_call *call);
json_t *admin_cap_list(struct admin_call *call);
json_t *admin_cap_explain(struct admin_call *call);
json_t *admin_refs_list(struct admin_call *call);

/* methods_scrub.c */
json_t *admin_scrub_start(struct admin_call *call);
json_t *admin_scrub_pause(struct admin_call *call);
json_t *admin_scrub_status(struct admin_call *call);

/* Members of status: "scrub", "broken" and "degraded". NULL without memory, or with call->error. */
json_t *admin_scrub_summary(struct admin_call *call);

/* methods_server.c */
void admin_publish(struct admin_call *call);
json_t *admin_status(struct admin_call *call);
json_t *admin_metrics(struct admin_call *call);
json_t *admin_refusals_list(struct admin_call *call);
json_t *admin_loops_list(struct admin_call *call);
void admin_clients_prepare(struct admin_call *call);
json_t *admin_clients_list(struct admin_call *call);
json_t *admin_log_set(struct admin_call *call);
json_t *admin_drain(struct admin_call *call);
json_t *admin_shutdown(struct admin_call *call);

/* methods_quota.c */
json_t *admin_quota_list(struct admin_call *call);

/* methods_config.c */
json_t *admin_config_get(struct admin_call *call);
json_t *admin_config_test(struct admin_call *call);
json_t *admin_config_reload(struct admin_call *call);
/* methods_jobs.c */
json_t *admin_jobs_list(struct admin_call *call);
json_t *admin_jobs_cancel(struct admin_call *call);
json_t *admin_events_subscribe(struct admin_call *call);

/* methods_keep.c */
json_t *admin_roots_list(struct admin_call *call);
json_t *admin_roots_set(struct admin_call *call);
json_t *admin_roots_remove(struct admin_call *call);
json_t *admin_cap_delete(struct admin_call *call);
json_t *admin_cap_forbid(struct admin_call *call);
json_t *admin_cap_allow(struct admin_call *call);
json_t *admin_gc_plan(struct admin_call *call);
json_t *admin_gc_run(struct admin_call *call);

/* methods_why.c */
json_t *admin_why(struct admin_call *call);

/* methods_upkeep.c */
json_t *admin_backup_start(struct admin_call *call);
json_t *admin_backup_list(struct admin_call *call);
json_t *admin_compact_start(struct admin_call *call);
json_t *admin_upkeep_status(const struct admin_rooms *rooms); /* members of status */

#endif
