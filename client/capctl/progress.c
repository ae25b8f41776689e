#include "client/capctl/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/capctl/out.h"

#define WIDTH    30   /* of the bar: the line fits 80 columns */
#define FIRST_MS 1000 /* what is done sooner shows no bar */
#define NEXT_MS  100  /* smooth to the eye */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void draw_bar(const struct cli_meter *meter, int64_t elapsed_ms)
{
    double part = (double)meter->done / (double)meter->total;
    char bar[WIDTH + 1];
    size_t filled = (size_t)((part > 1 ? 1 : part) * WIDTH);
    memset(bar, '.', WIDTH);
    memset(bar, '#', filled);
    bar[WIDTH] = '\0';
    char done[32];
    char rate[32];
    out_human_size(meter->done, done);
    out_human_size((uint64_t)((double)meter->done * 1000 / (double)elapsed_ms), rate);
    fprintf(stderr, "\r\033[K%s [%s] %3.0f%%  %s  %s/s", meter->label, bar,
            (part > 1 ? 1 : part) * 100, done, rate);
    if (meter->resumed > 0) {
        char resumed[32];
        out_human_size(meter->resumed, resumed);
        fprintf(stderr, "  resumed at %s", resumed);
    }
}

static void draw(const struct cli_meter *meter)
{
    int64_t elapsed_ms = now_ms() - meter->started_ms;
    if (meter->total > 0 && (meter->done < meter->total || meter->after == NULL)) {
        draw_bar(meter, elapsed_ms);
    } else {
        fprintf(stderr, "\r\033[K%s, %lld s", meter->total > 0 ? meter->after : meter->label,
                (long long)(elapsed_ms / 1000));
    }
    fflush(stderr);
}

static struct timespec in_ms(int64_t ms)
{
    int64_t at = now_ms() + ms;
    return (struct timespec){.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};
}

static void *draw_until_stop(void *ctx)
{
    struct cli_meter *meter = (struct cli_meter *)ctx;
    struct timespec until = in_ms(FIRST_MS);
    bool drawn = false;
    pthread_mutex_lock(&meter->lock);
    while (!meter->stop) {
        if (pthread_cond_timedwait(&meter->wake, &meter->lock, &until) == 0 || meter->stop) {
            continue; /* woken early: to stop, or for nothing */
        }
        draw(meter);
        drawn = true;
        until = in_ms(NEXT_MS);
    }
    pthread_mutex_unlock(&meter->lock);
    if (drawn) {
        fputs("\r\033[K", stderr);
    }
    return NULL;
}

/* Whether the standard error is a terminal that knows the escapes of draw. */
static bool can_draw(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) == 1 && term != NULL && term[0] != '\0' &&
           strcmp(term, "dumb") != 0;
}

void cli_meter_start(struct cli_meter *meter, const char *label, const char *after)
{
    pthread_condattr_t monotonic;
    *meter = (struct cli_meter){.label = label, .after = after, .started_ms = now_ms()};
    if (!can_draw()) {
        return;
    }
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&meter->lock, NULL);
    pthread_cond_init(&meter->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    meter->running = pthread_create(&meter->thread, NULL, draw_until_stop, meter) == 0;
}

void cli_meter_update(struct cli_meter *meter, uint64_t done, uint64_t total)
{
    if (!meter->running) {
        meter->done = done;
        return;
    }
    pthread_mutex_lock(&meter->lock);
    meter->done = done;
    meter->total = total;
    pthread_mutex_unlock(&meter->lock);
}

void cli_meter_resumed(struct cli_meter *meter, uint64_t at)
{
    if (at == meter->resumed) {
        return; /* of the thread that draws, which only reads it */
    }
    if (meter->running) {
        pthread_mutex_lock(&meter->lock);
        meter->resumed = at;
        pthread_mutex_unlock(&meter->lock);
        return;
    }
    char resumed[32];
    out_human_size(at, resumed);
    fprintf(stderr, "%s: the connection was lost; resumed at %s\n", meter->label, resumed);
    meter->resumed = at;
}

void cli_meter_stop(struct cli_meter *meter)
{
    if (!meter->running) {
        return;
    }
    pthread_mutex_lock(&meter->lock);
    meter->stop = true;
    pthread_cond_signal(&meter->wake);
    pthread_mutex_unlock(&meter->lock);
    pthread_join(meter->thread, NULL);
    pthread_cond_destroy(&meter->wake);
    pthread_mutex_destroy(&meter->lock);
    meter->running = false;
}

static enum capstore_error metered_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct cli_meter *meter = (struct cli_meter *)ctx;
    cli_meter_update(meter, meter->done + len, meter->total);
    return meter->inner.read(meter->inner.ctx, offset, dst, len);
}

/* A hole that is skipped counts as read. */
static uint64_t metered_next(void *ctx, uint64_t offset)
{
    struct cli_meter *meter = (struct cli_meter *)ctx;
    uint64_t next = meter->inner.next_data(meter->inner.ctx, offset);
    uint64_t end = next < meter->inner.len ? next : meter->inner.len;
    if (end > offset) {
        cli_meter_update(meter, meter->done + (end - offset), meter->total);
    }
    return next;
}

struct capstore_source cli_meter_source(struct cli_meter *meter,
                                        const struct capstore_source *inner, unsigned passes)
{
    meter->inner = *inner;
    cli_meter_update(meter, 0, inner->len > UINT64_MAX / passes ? UINT64_MAX : inner->len * passes);
    return (struct capstore_source){metered_read, meter, inner->len,
                                    inner->next_data != NULL ? metered_next : NULL};
}
