/*
 * One loop.
 *
 * Happy path: made, given its rooms, and started; letters from the main thread have it drain and
 * end. Then its thread is joined and the main thread closes it, as it does its own.
 *
 * Failure modes: any at start ends the start. A loop that is stuck does not beat, so that the
 * watchdog is not fed.
 */
#include "daemon/loop.h"

#include "daemon/core/container.h"
#include "daemon/serve/copies.h"

#define TICK_MS 100 /* the bounds of time that it enforces are seconds */

/* The present values, for those who sum the stats. */
static void on_look(struct shard *shard)
{
    const struct loop *loop = CONTAINER_OF(shard, struct loop, shard);
    shard->stats.now = (struct stats_now){
        .connections = loop->hub.session_count,
        .requests = hub_requests(&loop->hub),
        .read_jobs = serve_jobs(&loop->serve),
        .record_bytes = records_bytes(&loop->serve.records) + places_bytes(&loop->serve.places),
        .body_bytes = loop->serve.pieces.bytes,
    };
}

static void on_tick(uv_timer_t *timer)
{
    struct loop *loop = CONTAINER_OF(timer, struct loop, tick);
    hub_tick(&loop->hub);
    shard_publish_stats(&loop->shard);
    atomic_fetch_add(&loop->beat, 1);
}

static void on_drain(struct letter *letter)
{
    hub_drain(&CONTAINER_OF(letter, struct loop, drain)->hub);
}

static void on_end(struct letter *letter)
{
    struct loop *loop = CONTAINER_OF(letter, struct loop, end);
    loop->ending = true;
    uv_stop(&loop->shard.loop);
}

enum cap_error loop_init(struct loop *loop, struct context *context)
{
    struct shard *shard = &loop->shard;
    *loop = (struct loop){
        .shard = {.context = context, .look = on_look},
        .drain = {.run = on_drain},
        .end = {.run = on_end},
    };
    if (uv_loop_init(&shard->loop) != 0) {
        return CAP_E_NO_MEMORY;
    }
    loop->loop_open = true;
    context->shards[context->shard_count++] = shard;
    lag_open(&loop->lag, &shard->loop, context->env, &shard->stats);
    enum cap_error error = mailbox_open(&shard->mailbox, &shard->loop);
    if (error == CAP_OK) {
        error = pool_outlet_open(&shard->pool, &context->pool, &shard->loop, &shard->stats);
    }
    return error;
}

enum cap_error loop_open(struct loop *loop, struct hub_set *hubs, struct serve_set *serves,
                         struct writer *writer, struct room *room)
{
    struct shard *shard = &loop->shard;
    routes_fill(loop->routes, &loop->publish, &loop->serve);
    for (size_t i = 0; shard->context->fetcher != NULL && i < ROUTES_MAX; i++) {
        (void)await_route(&loop->awaits[i], &loop->serve, &loop->routes[i]);
    }
    enum cap_error error = hub_open(&loop->hub, shard, loop->routes);
    if (error == CAP_OK) {
        hub_join(&loop->hub, hubs);
        error = publish_open(&loop->publish, &loop->hub, writer, room);
    }
    if (error == CAP_OK) {
        error = serve_open(&loop->serve, shard, serves);
    }
    if (error == CAP_OK) {
        (void)uv_timer_init(&shard->loop, &loop->tick);
        (void)uv_timer_start(&loop->tick, on_tick, TICK_MS, TICK_MS);
        loop->tick_open = true;
    }
    return error;
}

static void run(void *arg)
{
    struct loop *loop = arg;
    while (!loop->ending) {
        uv_run(&loop->shard.loop, UV_RUN_DEFAULT);
    }
}

enum cap_error loop_start(struct loop *loop)
{
    if (uv_thread_create(&loop->thread, run, loop) != 0) {
        return CAP_E_NO_MEMORY;
    }
    loop->threaded = true;
    return CAP_OK;
}

void loop_join(struct loop *loop)
{
    if (loop->threaded) {
        loop->threaded = false;
        (void)mailbox_post(&loop->shard.mailbox, &loop->end);
        uv_thread_join(&loop->thread);
    }
}

void loop_drain(struct loop *loop)
{
    if (loop->threaded) {
        (void)mailbox_post(&loop->shard.mailbox, &loop->drain);
    } else {
        hub_drain(&loop->hub);
    }
}

bool loop_beats(struct loop *loop)
{
    uint64_t beat = atomic_load(&loop->beat);
    bool beats = beat != loop->beat_seen;
    loop->beat_seen = beat;
    return beats;
}

void loop_close(struct loop *loop)
{
    if (loop->loop_open) {
        mailbox_close(&loop->shard.mailbox);
        hub_close(&loop->hub);
        if (loop->serve.open) {
            copies_stop(loop->serve.set->copies, &loop->serve);
        }
        serve_close(&loop->serve);
        lag_close(&loop->lag);
        if (loop->tick_open) {
            uv_close((uv_handle_t *)&loop->tick, NULL);
        }
    }
}

void loop_settle(struct loop *loop)
{
    if (loop->loop_open) {
        publish_close(&loop->publish);
        pool_outlet_close(&loop->shard.pool);
    }
}

void loop_free(struct loop *loop)
{
    if (loop->loop_open) {
        /* Workers come back, handles close, what they held is freed. */
        while (uv_run(&loop->shard.loop, UV_RUN_DEFAULT) != 0) {
        }
        (void)uv_loop_close(&loop->shard.loop);
        hub_free(&loop->hub);
        mailbox_free(&loop->shard.mailbox);
    }
}
