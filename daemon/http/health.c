#include "daemon/http/health.h"

#include "lib/cap/bytes.h"

#define STUCK_US  UINT64_C(30000000) /* as WatchdogSec= in the unit */
#define SILENT_US UINT64_C(5000000)  /* fifty ticks */
#define FRESH_US  UINT64_C(1000000)  /* Prometheus asks a hundred times less often */

static enum MHD_Result say(const struct http_call *call, bool good, const char *line)
{
    struct cap_buf text = {0};
    if (cap_buf_append(&text, line, strlen(line)) != CAP_OK) {
        return MHD_NO;
    }
    return http_answer_text(call, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                            "text/plain; charset=utf-8", &text, HTTP_CACHE_NEVER, NULL);
}

/* How long ago the main loop turned. */
static uint64_t silent_us(const struct http *http)
{
    uint64_t beat = http->beat_us;
    uint64_t now = env_monotonic_us(http->context->env);
    return now > beat ? now - beat : 0;
}

enum MHD_Result http_healthz(const struct http_call *call)
{
    bool good = silent_us(call->http) < STUCK_US;
    return say(call, good, good ? "ok\n" : "the main loop is stuck\n");
}

enum MHD_Result http_readyz(const struct http_call *call)
{
    const struct context *context = call->http->context;
    struct cap_counts counts;
    if (context->phase != PHASE_RUNNING) {
        return say(call, false, "draining\n");
    }
    if (silent_us(call->http) > SILENT_US) {
        return say(call, false, "the main loop does not respond\n");
    }
    if (cap_store_failure(context->store) != CAP_OK ||
        admin_store_counts(context->store, &counts) != CAP_OK) {
        return say(call, false, "the store fails\n");
    }
    return say(call, true, "ready\n");
}

/* Under the lock. */
static enum cap_error write_metrics(struct http *http, uint64_t now_us)
{
    struct admin_figures admin;
    struct cap_buf text = {0};
    pthread_mutex_lock(&http->figures_lock);
    admin = http->admin;
    pthread_mutex_unlock(&http->figures_lock);
    enum cap_error error = admin_metrics_text(&http->rooms, http->context->store, &admin,
                                              ADMIN_METRICS_OPENMETRICS, &text);
    if (error != CAP_OK) {
        cap_buf_free(&text);
        return error;
    }
    cap_buf_free(&http->metrics);
    http->metrics = text;
    http->metrics_us = now_us;
    return CAP_OK;
}

enum MHD_Result http_metrics(const struct http_call *call)
{
    struct http *http = call->http;
    struct cap_buf text = {0};
    pthread_mutex_lock(&http->metrics_lock);
    uint64_t now = env_monotonic_us(http->context->env);
    enum cap_error error = http->metrics_us == 0 || now - http->metrics_us >= FRESH_US
                               ? write_metrics(http, now)
                               : CAP_OK;
    if (error == CAP_OK) {
        error = cap_buf_append(&text, http->metrics.data, http->metrics.len);
    }
    pthread_mutex_unlock(&http->metrics_lock);
    if (error != CAP_OK) {
        return http_answer_error(call, error, NULL);
    }
    return http_answer_text(call, MHD_HTTP_OK, admin_metrics_type(ADMIN_METRICS_OPENMETRICS), &text,
                            HTTP_CACHE_NEVER, NULL);
}
