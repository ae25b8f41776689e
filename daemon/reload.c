/* Reading the configuration again. */
#include "daemon/reload.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/admin/admin.h"
#include "daemon/admin/level.h"
#include "daemon/core/container.h"
#include "daemon/core/sd.h"
#include "daemon/descriptors.h"
#include "daemon/publish/writer.h"
#include "daemon/sockets.h"

#define NAMES_SIZE 1024 /* of options in a line of the log; more are cut */

struct bind_access reload_admin_access(const struct admin_group *operators)
{
    return (struct bind_access){
        .mode = operators->exists ? 0660 : 0600,
        .group = operators->exists ? operators->gid : BIND_OWN_GROUP,
    };
}

enum cap_error reload_check_admin(const struct config *config, struct admin_group *ret_operators,
                                  char ret_reason[CONFIG_REASON_SIZE])
{
    enum cap_error error = admin_group_find(config->admin_group, ret_operators);
    if (error != CAP_OK) {
        snprintf(ret_reason, CONFIG_REASON_SIZE, "admin-group: no group is called %.120s",
                 config->admin_group);
    } else if (config->admin != NULL) {
        const struct bind_access access = reload_admin_access(ret_operators);
        error = sockets_check_admin(config->admin, &access, ret_reason);
    }
    return error;
}

/* --- One reading ------------------------------------------------------------------------------ */

static void list_changes(const struct config *now, const struct config *wanted,
                         struct config_changes *ret_changes)
{
    size_t count = 0;
    const struct config_option *options = config_options(&count);
    ret_changes->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!config_differs(now, wanted, &options[i])) {
            continue;
        }
        struct config_change *change = &ret_changes->rows[ret_changes->count++];
        *change = (struct config_change){.option = &options[i]};
        (void)config_value(now, &options[i], 0, change->from, sizeof(change->from));
        (void)config_value(wanted, &options[i], 0, change->to, sizeof(change->to));
    }
}

/* Changes what can change live. The operators' group comes first: it may fail. */
static enum cap_error apply_live(struct reload *reload, struct config *wanted,
                                 const struct admin_group *operators, char *reason)
{
    struct context *context = reload->context;
    struct config *config = &context->config;
    const struct bind_access access = reload_admin_access(operators);
    enum cap_error error = bound_set_access(&reload->sockets->admin, &access, reason);
    if (error != CAP_OK) {
        return error;
    }
    admin_set_operators(reload->admin, operators);
    if (config->log_level != wanted->log_level) {
        context->log.level = (enum log_level)wanted->log_level;
    }
    config_apply(config, wanted);
    pool_set_share(&context->pool, config->max_peer_hashing);
    writer_set_reserve(reload->writer, config->disk_reserve);
    return CAP_OK;
}

/* With what was `read`, and `use`, the same within the limits of the process. */
static enum cap_error compare(struct reload *reload, bool apply, struct config *read,
                              struct config *use, struct config_changes *ret_changes, char *reason)
{
    struct context *context = reload->context;
    struct admin_group operators;
    enum cap_error error = sockets_check(read, reason);
    if (error == CAP_OK) {
        error = reload_check_admin(read, &operators, reason);
    }
    if (error == CAP_OK) {
        error = config_copy(read, use);
    }
    if (error == CAP_OK) {
        error = descriptors_fit(reload->own_descriptors, use, &context->log, reason);
    }
    if (error != CAP_OK) {
        return error;
    }
    pthread_mutex_lock(&context->config_lock);
    list_changes(&context->config, use, ret_changes);
    if (apply) {
        error = apply_live(reload, use, &operators, reason);
    }
    if (apply && error == CAP_OK) {
        struct config old = context->given;
        context->given = *read;
        *read = old;
    }
    pthread_mutex_unlock(&context->config_lock);
    return error;
}

/* Under the lock: nobody else changes what was given. */
static enum cap_error read_and_compare(struct reload *reload, bool apply,
                                       struct config_changes *ret_changes, char *reason)
{
    struct config read;
    struct config use;
    if (reload->closed) {
        snprintf(reason, CONFIG_REASON_SIZE, "%s", cap_error_text(CAP_E_DRAINING));
        return CAP_E_DRAINING;
    }
    if (reload->context->given.config == NULL) {
        snprintf(reason, CONFIG_REASON_SIZE,
                 "no configuration file was given at start; restart with --config FILE");
        return CAP_E_NOT_CONFIGURED;
    }
    config_init(&read);
    config_init(&use);
    enum cap_error error = config_read_again(&reload->context->given, &read, reason);
    if (error == CAP_OK) {
        error = compare(reload, apply, &read, &use, ret_changes, reason);
    }
    config_free(&read);
    config_free(&use);
    return error;
}

/* The names of options that changed, or that take a restart, with spaces between. */
static const char *names(const struct config_changes *changes, bool live, char text[NAMES_SIZE])
{
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < changes->count && len < NAMES_SIZE; i++) {
        const struct config_option *option = changes->rows[i].option;
        if (option->live == live) {
            len += (size_t)snprintf(text + len, NAMES_SIZE - len, "%s%s", len > 0 ? " " : "",
                                    option->name);
        }
    }
    return text;
}

static void log_outcome(struct reload *reload, enum cap_error error,
                        const struct config_changes *changes, const char *reason)
{
    struct log *log = &reload->context->log;
    char changed[NAMES_SIZE];
    char waiting[NAMES_SIZE];
    if (error != CAP_OK) {
        log_event(log, LOG_LEVEL_WARNING, log_name("config_not_reloaded"), log_error(error),
                  log_text("message", reason));
    } else {
        log_event(log, LOG_LEVEL_INFO, log_name("config_reloaded"),
                  log_text("changed", names(changes, true, changed)),
                  log_text("restart_needed", names(changes, false, waiting)));
        events_emit(&reload->context->events, EVENT_CONFIG_RELOADED, NULL, "changed: %s", changed);
    }
}

/* Keeps what is wrong with the file, for `status`. */
static void keep_problem(struct context *context, enum cap_error error, const char *reason)
{
    bool wrong = error != CAP_OK && error != CAP_E_NOT_CONFIGURED;
    pthread_mutex_lock(&context->config_lock);
    snprintf(context->config_problem, sizeof(context->config_problem), "%s", wrong ? reason : "");
    pthread_mutex_unlock(&context->config_lock);
}

enum cap_error reload_run(struct reload *reload, bool apply, struct config_changes *ret_changes,
                          char ret_reason[CONFIG_REASON_SIZE])
{
    pthread_mutex_lock(&reload->lock);
    enum cap_error error = read_and_compare(reload, apply, ret_changes, ret_reason);
    if (apply) {
        keep_problem(reload->context, error, ret_reason);
        log_outcome(reload, error, ret_changes, ret_reason);
    }
    pthread_mutex_unlock(&reload->lock);
    return error;
}

/* --- SIGHUP ----------------------------------------------------------------------------------- */

static void run(struct pool_job *job)
{
    struct reload *reload = CONTAINER_OF(job, struct reload, job);
    struct config_changes changes;
    char reason[CONFIG_REASON_SIZE] = "";
    char status[CONFIG_REASON_SIZE + 64];
    enum cap_error error = reload_run(reload, true, &changes, reason);
    if (error == CAP_OK || error == CAP_E_NOT_CONFIGURED) {
        snprintf(status, sizeof(status), "READY=1\nSTATUS=Serving");
    } else {
        snprintf(status, sizeof(status), "READY=1\nSTATUS=Serving; configuration not reloaded: %s",
                 reason);
    }
    sd_notify(status);
}

static void on_done(struct pool_job *job)
{
    struct reload *reload = CONTAINER_OF(job, struct reload, job);
    reload->running = false;
    if (reload->again) {
        reload_start(reload);
    }
}

void reload_start(struct reload *reload)
{
    reload->again = reload->running;
    if (reload->running || reload->context->phase != PHASE_RUNNING) {
        return;
    }
    char status[64];
    snprintf(status, sizeof(status), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             env_monotonic_us(reload->context->env));
    sd_notify(status);
    reload->running = true;
    reload->job = (struct pool_job){.run = run, .done = on_done};
    pool_submit(reload->pool, &reload->job);
}

void reload_close(struct reload *reload)
{
    pthread_mutex_lock(&reload->lock);
    reload->closed = true;
    pthread_mutex_unlock(&reload->lock);
}
