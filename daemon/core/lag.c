/* The loop's time less what it waited for events, at each turn. */
#include "daemon/core/lag.h"

static uint64_t busy_ns(const struct lag *lag)
{
    return uv_hrtime() - uv_metrics_idle_time(lag->prepare.loop);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct lag *lag = prepare->data;
    uint64_t now = busy_ns(lag);
    uint64_t took_us = now > lag->before_ns ? (now - lag->before_ns) / 1000 : 0;
    lag->before_ns = now;
    histogram_add(&lag->stats->turn_us, took_us);
    if (took_us > lag->stats->stall_max_us) {
        lag->stats->stall_max_us = took_us;
    }
}

void lag_open(struct lag *lag, uv_loop_t *loop, struct stats *stats)
{
    (void)uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
    (void)uv_prepare_init(loop, &lag->prepare);
    lag->prepare.data = lag;
    lag->stats = stats;
    lag->before_ns = busy_ns(lag);
    (void)uv_prepare_start(&lag->prepare, on_prepare);
    uv_unref((uv_handle_t *)&lag->prepare);
    lag->open = true;
}

void lag_close(struct lag *lag)
{
    if (lag->open) {
        lag->open = false;
        uv_close((uv_handle_t *)&lag->prepare, NULL);
    }
}
