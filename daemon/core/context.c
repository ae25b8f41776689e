/* Refusals and faults: counted, kept for the operator, logged within a bound. */
#include "daemon/core/context.h"

#include <stdio.h>

#define REFUSAL_LINES_MAX 20 /* log lines for refusals in one second: enough to see a pattern */

/* Whether a refusal may have a log line in this second; says how many had none before. */
static bool may_log_refusal(struct context *context, uint64_t now_us)
{
    uint64_t second = now_us / 1000000;
    if (second != context->refusal_second) {
        if (context->refusal_lines > REFUSAL_LINES_MAX) {
            log_event(&context->log, LOG_LEVEL_WARNING, log_name("refusals_not_logged"),
                      log_number("count", context->refusal_lines - REFUSAL_LINES_MAX));
        }
        context->refusal_second = second;
        context->refusal_lines = 0;
    }
    return ++context->refusal_lines <= REFUSAL_LINES_MAX;
}

void shard_refused(struct shard *shard, uint64_t session, const struct peer *peer, const char *what,
                   enum cap_error error, const char *message)
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
    refusals_add(&context->refusals, &refusal);
    shard->stats.refusals++;
    shard->stats.errors[(unsigned)-error % STATS_ERROR_CODES]++;
    if (may_log_refusal(context, refusal.time_us)) {
        log_event(&context->log, LOG_LEVEL_INFO, log_name("refused"),
                  log_number("session", refusal.session), log_text("peer", peer->text),
                  log_text("what", what), log_error(error), log_text("message", message));
    }
}

void context_fault(struct context *context, enum cap_error error, const char *message)
{
    context->last_fault = (struct fault){.time_us = env_real_us(context->env), .error = error};
    snprintf(context->last_fault.message, sizeof(context->last_fault.message), "%s", message);
    log_event(&context->log, LOG_LEVEL_ERROR, log_name("fault"), log_error(error),
              log_text("message", message));
    if (error == CAP_E_STORE_FAILED) {
        context->stop(context->owner, 1);
    }
}
