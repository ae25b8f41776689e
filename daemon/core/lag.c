/* The loop's time less what it waited for events, at each turn. */
#include "daemon/core/lag.h"

static uint64_t busy_us(const struct lag *lag)
{
    return env_monotonic_us(lag->env) - uv_metrics_idle_time(lag->prepare.loop) / 1000;
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct lag *lag = prepare->data;
    uint64_t now = busy_us(lag);
    uint64_t took_us = now > lag->before_us ? now - lag->before_us : 0;
    lag->before_us = now;
    histogram_add(&lag->stats->turn_us, took_us);
    if (took_us > lag->stats->stall_max_us) {
        lag->stats->stall_max_us = took_us;
    }
}

void lag_open(struct lag *lag, uv_loop_t *loop, const struct env *env, struct stats *stats)
{
    (void)uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
    (void)uv_prepare_init(loop, &lag->prepare);
    lag->prepare.data = lag;
    lag->env = env;
    lag->stats = stats;
    lag->before_us = busy_us(lag);
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
