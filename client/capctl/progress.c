#include "client/capctl/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/capctl/out.h"

#define WIDTH 30

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void cli_meter_start(struct cli_meter *meter, const char *label)
{
    *meter = (struct cli_meter){.label = label, .terminal = isatty(STDERR_FILENO) == 1};
    meter->started_ms = now_ms();
}

static void draw(struct cli_meter *meter, int64_t elapsed_ms)
{
    double part = meter->total == 0 ? 1 : (double)meter->done / (double)meter->total;
    if (part > 1)
        part = 1;
    char bar[WIDTH + 1];
    size_t filled = (size_t)(part * WIDTH);
    memset(bar, '.', WIDTH);
    memset(bar, '#', filled);
    bar[WIDTH] = '\0';
    char done[32];
    char rate[32];
    out_human_size(meter->done, done);
    out_human_size((uint64_t)((double)meter->done * 1000 / (double)elapsed_ms), rate);
    fprintf(stderr, "\r\033[K%s [%s] %3.0f%%  %s  %s/s", meter->label, bar, part * 100, done, rate);
    fflush(stderr);
    meter->shown = true;
}

void cli_meter_update(struct cli_meter *meter, uint64_t done, uint64_t total)
{
    meter->done = done;
    meter->total = total;
    if (!meter->terminal)
        return;
    int64_t now = now_ms();
    if (now - meter->started_ms < 1000 || now - meter->drawn_ms < 100)
        return;
    meter->drawn_ms = now;
    draw(meter, now - meter->started_ms);
}

void cli_meter_stop(struct cli_meter *meter)
{
    if (meter->shown)
        fputs("\r\033[K", stderr);
    meter->shown = false;
}

static enum capstore_error metered_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct cli_meter *meter = (struct cli_meter *)ctx;
    cli_meter_update(meter, meter->done + len, meter->total);
    return meter->inner.read(meter->inner.ctx, offset, dst, len);
}

struct capstore_source cli_meter_source(struct cli_meter *meter,
                                        const struct capstore_source *inner, unsigned passes)
{
    meter->inner = *inner;
    meter->done = 0;
    meter->total = inner->len > UINT64_MAX / passes ? UINT64_MAX : inner->len * passes;
    return (struct capstore_source){metered_read, meter, inner->len};
}
