/* Refusals and faults: counted, kept for the operator, logged within a bound. */
#include "daemon/core/context.h"

#include <stdio.h>

#define TROUBLE_US UINT64_C(10000000) /* between two warnings: a full disk fails every upload */

#define LINES_MAX 20 /* of a kind in one second: enough to see a pattern */

bool context_may_log(struct context *context, enum bounded_line kind)
{
    static const char *const names[BOUNDED_LINES] = {"refused", "published", "fault"};
    uint64_t second = env_real_us(context->env) / 1000000;
    uint64_t skipped = 0;
    pthread_mutex_lock(&context->lock);
    struct line_bound *bound = &context->line_bounds[kind];
    if (second != bound->second) {
        skipped = bound->lines > LINES_MAX ? bound->lines - LINES_MAX : 0;
        *bound = (struct line_bound){.second = second};
    }
    bool may = ++bound->lines <= LINES_MAX;
    pthread_mutex_unlock(&context->lock);
    if (skipped > 0) {
        log_event(&context->log, LOG_LEVEL_WARNING, log_name("lines_not_logged"),
                  log_text("event", names[kind]), log_number("count", skipped));
    }
    return may;
}

void shard_refused(struct shard *shard, uint64_t session, const struct peer *peer, const char *what,
                   enum cap_error error, const char *message, const struct refusal_figures *figures)
{
    struct context *context = shard->context;
    struct refusal refusal = {
        .time_us = env_real_us(context->env),
        .session = session,
        .error = error,
    };
    snprintf(refusal.peer, sizeof(refusal.peer), "%s", peer->text);
    snprintf(refusal.what, sizeof(refusal.what), "%s", what);
    snprintf(refusal.message, sizeof(refusal.message), "%s", message);
    if (figures != NULL) {
        refusal.figures = *figures;
    }
    refusals_add(&context->refusals, &refusal);
    events_emit(&context->events, EVENT_REFUSED, NULL, "%s of %s: %s: %.120s", what, peer->text,
                cap_error_name(error), message);
    shard->stats.refusals++;
    shard->stats.errors[(unsigned)-error % STATS_ERROR_CODES]++;
    if (context_may_log(context, LINE_REFUSED)) {
        log_event(&context->log, LOG_LEVEL_INFO, log_name("refused"),
                  log_number("session", refusal.session), log_text("peer", peer->text),
                  log_text("what", what), log_error(error), log_text("message", message));
    }
}

static void record_fault(struct context *context, enum cap_error error, const char *message)
{
    struct fault fault = {.time_us = env_real_us(context->env), .error = error};
    snprintf(fault.message, sizeof(fault.message), "%s", message);
    pthread_mutex_lock(&context->lock);
    context->last_fault = fault;
    pthread_mutex_unlock(&context->lock);
}

void context_trouble(struct context *context, enum cap_error error, const char *message)
{
    uint64_t now = env_monotonic_us(context->env);
    record_fault(context, error, message);
    pthread_mutex_lock(&context->lock);
    bool warn = context->warned_us == 0 || now - context->warned_us >= TROUBLE_US;
    context->warned_us = warn ? now : context->warned_us;
    pthread_mutex_unlock(&context->lock);
    if (warn) {
        log_event(&context->log, LOG_LEVEL_WARNING, log_name("trouble"), log_error(error),
                  log_text("message", message));
    }
}

/* `check`: also names the check of the store. */
static void fault(struct context *context, enum cap_error error, const char *message, bool check)
{
    char command[CONFIG_TEXT_SIZE + 40];
    record_fault(context, error, message);
    if (context_may_log(context, LINE_FAULT)) {
        snprintf(command, sizeof(command), "capstored --check --state %s", context->config.state);
        const struct log_field fields[] = {log_name("fault"), log_error(error),
                                           log_text("message", message),
                                           log_text("check", command)};
        log_write(&context->log, LOG_LEVEL_ERROR, fields, check ? 4 : 3);
    }
    if (error == CAP_E_STORE_FAILED) {
        context->stop(context->owner, 1);
    }
}

void context_fault(struct context *context, enum cap_error error, const char *message)
{
    fault(context, error, message, false);
}

void context_store_fault(struct context *context, enum cap_error error, const char *message)
{
    fault(context, error, message, error == CAP_E_IO || error == CAP_E_CORRUPT);
}

void context_say_forbidden(struct cap_store *store, const struct cap_hash *hash, char *ret_message,
                           size_t size)
{
    struct cap_forbidden forbidden = {.reason = ""};
    struct cap_read *read = NULL;
    char hex[CAP_HASH_HEX_SIZE];
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = cap_store_forbidden(read, hash, &forbidden);
    }
    cap_store_read_end(read);
    cap_hash_format(hash, hex);
    snprintf(ret_message, size, "%s: %s%s%s", hex, cap_error_text(CAP_E_FORBIDDEN_CAP),
             error == CAP_OK ? ": " : "", forbidden.reason);
}

struct fault context_last_fault(struct context *context)
{
    pthread_mutex_lock(&context->lock);
    struct fault fault = context->last_fault;
    pthread_mutex_unlock(&context->lock);
    return fault;
}

void shard_publish_stats(struct shard *shard)
{
    if (shard->look != NULL) {
        shard->look(shard);
    }
    pthread_mutex_lock(&shard->context->lock);
    shard->published = shard->stats;
    pthread_mutex_unlock(&shard->context->lock);
}

void shard_stats(struct shard *shard, struct stats *ret_stats)
{
    pthread_mutex_lock(&shard->context->lock);
    *ret_stats = shard->published;
    pthread_mutex_unlock(&shard->context->lock);
}

void context_stats(struct context *context, struct stats *ret_sum)
{
    *ret_sum = (struct stats){0};
    pthread_mutex_lock(&context->lock);
    for (size_t i = 0; i < context->shard_count; i++) {
        stats_add(ret_sum, &context->shards[i]->published);
    }
    pthread_mutex_unlock(&context->lock);
    ret_sum->http_requests += context->http.requests;
    ret_sum->http_errors += context->http.errors;
    ret_sum->http_bytes += context->http.bytes;
    ret_sum->http_cut += context->http.cut;
    ret_sum->awaited += context->http.awaited;
}
