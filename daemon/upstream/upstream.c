/*
 * The room's threads, and what operators are told.
 *
 * Happy path: flights are taken, an errand brings them, they land. Failure modes: the daemon above
 * is away, then nobody dials for a moment, and what is asked meanwhile has that answer; it is
 * silent for longer than a request waits, which is told as away, too, while the fetch goes on; it
 * is broken, which is logged with the hash. Operators see each change once.
 */
#include "daemon/upstream/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/container.h"
#include "daemon/core/log.h"
#include "daemon/net/bind.h"
#include "daemon/upstream/errand.h"
#include "daemon/upstream/flights.h"

enum upstream_state {
    UPSTREAM_UNUSED, /* nothing was asked yet */
    UPSTREAM_UP,
    UPSTREAM_AWAY,
    UPSTREAM_SILENT, /* away, as far as those who wait can tell: a fetch is under way */
    UPSTREAM_BROKEN, /* what it said last was wrong */
};

struct worker {
    struct upstream *upstream;
    pthread_t thread;
    bool running;
    struct porter porter;
    struct fetcher_fetch fetch; /* under the lock; of its figures porter has the rest */
    uint64_t began_us;          /* monotonic, under the lock; 0: nothing is under way */
};

_Static_assert(UPSTREAM_THREADS <= FETCHER_FETCHES, "operators see all that is under way");

struct upstream {
    struct fetcher fetcher;
    struct context *context;
    const struct hub_set *hubs;
    struct flights *flights;
    struct errands errands;
    struct worker workers[UPSTREAM_THREADS];
    bool stopped;

    pthread_mutex_t lock; /* of what follows, and of what workers have under way */
    enum upstream_state state;
    uint64_t since_us;
    uint64_t dial_us; /* monotonic: nobody dials before */
    uint64_t heard;   /* grows with each thing that comes from above */
    char reason[FETCHER_REASON];
};

/* --- Operators -------------------------------------------------------------------------------- */

static const char *const state_names[] = {
    [UPSTREAM_UNUSED] = "unused", [UPSTREAM_UP] = "up",         [UPSTREAM_AWAY] = "away",
    [UPSTREAM_SILENT] = "away",   [UPSTREAM_BROKEN] = "broken",
};

static void tell_operators(struct upstream *upstream, enum upstream_state state, const char *reason)
{
    struct context *context = upstream->context;
    bool up = state == UPSTREAM_UP;
    events_emit(&context->events, up ? EVENT_UPSTREAM_UP : EVENT_UPSTREAM_AWAY, NULL, "%.180s",
                up ? context->config.upstream : reason);
    log_event(&context->log, up ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
              log_name(up ? "upstream_up" : "upstream_away"),
              log_text("address", context->config.upstream), log_text("message", up ? "" : reason));
}

static bool is_away(enum upstream_state state)
{
    return state == UPSTREAM_AWAY || state == UPSTREAM_SILENT;
}

/* Under the lock. True: operators are to be told, without it. */
static bool enter(struct upstream *upstream, enum upstream_state state, const char *reason)
{
    const struct env *env = upstream->context->env;
    enum upstream_state before = upstream->state;
    bool changed = state != before && !(is_away(state) && is_away(before));
    upstream->state = state;
    upstream->since_us = changed ? env_real_us(env) : upstream->since_us;
    upstream->dial_us = state == UPSTREAM_AWAY ? env_monotonic_us(env) + FLIGHTS_AWAY_US : 0;
    upstream->heard += is_away(state) ? 0 : 1;
    snprintf(upstream->reason, sizeof(upstream->reason), "%s", reason);
    return changed && (is_away(state) || (state == UPSTREAM_UP && before != UPSTREAM_BROKEN));
}

static void set_state(struct upstream *upstream, enum upstream_state state, const char *reason)
{
    (void)pthread_mutex_lock(&upstream->lock);
    bool tell = enter(upstream, state, reason);
    (void)pthread_mutex_unlock(&upstream->lock);
    if (tell) {
        tell_operators(upstream, state, reason);
    }
}

/* On the thread of an errand, perhaps in the middle of it. */
static void on_heard(struct errands *errands)
{
    struct upstream *upstream = CONTAINER_OF(errands, struct upstream, errands);
    (void)pthread_mutex_lock(&upstream->lock);
    upstream->heard++;
    bool tell = upstream->state != UPSTREAM_UP && upstream->state != UPSTREAM_BROKEN &&
                enter(upstream, UPSTREAM_UP, "");
    (void)pthread_mutex_unlock(&upstream->lock);
    if (tell) {
        tell_operators(upstream, UPSTREAM_UP, "");
    }
}

/*
 * Whether an order waited for a daemon above that is silent, under the lock: nothing came from
 * there meanwhile, and a fetch was under way for most of that time, so that it was not for its turn
 * or its peer's tokens that it waited.
 */
static bool is_silent(struct upstream *upstream, const struct fetch_order *order)
{
    uint64_t now = env_monotonic_us(upstream->context->env);
    uint64_t most = (now - order->wanted_us) / 2;
    for (size_t i = 0; i < UPSTREAM_THREADS; i++) {
        uint64_t began = upstream->workers[i].began_us;
        if (began != 0 && now - began >= most) {
            return upstream->heard == order->heard;
        }
    }
    return false;
}

/* An order has waited for as long as it may. */
static void judge_silence(struct upstream *upstream, const struct fetch_order *order)
{
    char reason[FETCHER_REASON];
    double timeout_s = (double)upstream->context->config.upstream_timeout_ms / 1000;
    snprintf(reason, sizeof(reason), "nothing came within upstream-timeout (%g s)", timeout_s);
    (void)pthread_mutex_lock(&upstream->lock);
    bool tell = is_silent(upstream, order) && upstream->state != UPSTREAM_AWAY &&
                enter(upstream, UPSTREAM_SILENT, reason);
    (void)pthread_mutex_unlock(&upstream->lock);
    if (tell) {
        tell_operators(upstream, UPSTREAM_SILENT, reason);
    }
}

/* A cap came that is not what it should be. */
static void blame(struct upstream *upstream, const struct cap_hash *hash, const char *reason)
{
    struct context *context = upstream->context;
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(hash, hex);
    events_emit(&context->events, EVENT_UPSTREAM_BROKEN, hash, "%.180s", reason);
    if (context_may_log(context, LINE_FAULT)) {
        log_event(&context->log, LOG_LEVEL_WARNING, log_name("upstream_broken"),
                  log_text("cap_hash", hex), log_text("address", context->config.upstream),
                  log_text("message", reason));
    }
}

/* Notes what a worker has under way. */
static void note_begin(struct worker *worker, const struct cap_hash *first, size_t count)
{
    struct upstream *upstream = worker->upstream;
    const struct env *env = upstream->context->env;
    (void)pthread_mutex_lock(&upstream->lock);
    worker->fetch =
        (struct fetcher_fetch){.hash = *first, .asked = count, .since_us = env_real_us(env)};
    worker->began_us = env_monotonic_us(env);
    atomic_store(&worker->porter.caps, 0);
    atomic_store(&worker->porter.bytes, 0);
    (void)pthread_mutex_unlock(&upstream->lock);
}

static void note_end(struct worker *worker)
{
    (void)pthread_mutex_lock(&worker->upstream->lock);
    worker->began_us = 0;
    (void)pthread_mutex_unlock(&worker->upstream->lock);
}

/* Under the lock. */
static void list_fetches(struct upstream *upstream, struct fetcher_figures *figures)
{
    uint64_t now = env_monotonic_us(upstream->context->env);
    for (size_t i = 0; i < UPSTREAM_THREADS; i++) {
        struct worker *worker = &upstream->workers[i];
        if (worker->began_us != 0) {
            struct fetcher_fetch *fetch = &figures->fetches[figures->fetch_count++];
            *fetch = worker->fetch;
            fetch->caps = atomic_load(&worker->porter.caps);
            fetch->bytes = atomic_load(&worker->porter.bytes);
            fetch->took_us = now - worker->began_us;
        }
    }
}

static void on_figures(struct fetcher *fetcher, struct fetcher_figures *ret_figures)
{
    struct upstream *upstream = CONTAINER_OF(fetcher, struct upstream, fetcher);
    struct flights_figures flights;
    flights_figures(upstream->flights, &flights);
    *ret_figures = (struct fetcher_figures){
        .waiting = flights.flights - flights.taken,
        .under_way = flights.taken,
        .absent = flights.absent,
        .failed = flights.failed,
        .recalled = flights.recalled,
        .caps = atomic_load(&upstream->errands.caps),
        .bytes = atomic_load(&upstream->errands.bytes),
        .file_bytes = atomic_load(&upstream->errands.files),
    };
    (void)pthread_mutex_lock(&upstream->lock);
    ret_figures->state = state_names[upstream->state];
    ret_figures->is_away = is_away(upstream->state);
    ret_figures->is_broken = upstream->state == UPSTREAM_BROKEN;
    ret_figures->since_us = upstream->since_us;
    memcpy(ret_figures->reason, upstream->reason, sizeof(ret_figures->reason));
    list_fetches(upstream, ret_figures);
    if (upstream->state == UPSTREAM_UNUSED && ret_figures->fetch_count > 0) {
        ret_figures->state = "waiting";
        ret_figures->since_us = ret_figures->fetches[0].since_us;
    }
    (void)pthread_mutex_unlock(&upstream->lock);
}

void upstream_count(struct upstream *upstream, struct stats *stats)
{
    struct fetcher_figures figures;
    if (upstream != NULL) {
        on_figures(&upstream->fetcher, &figures);
        stats->upstream_caps = figures.caps;
        stats->upstream_bytes = figures.bytes;
        stats->upstream_absent = figures.absent;
        stats->upstream_failed = figures.failed;
        stats->upstream_recalled = figures.recalled;
    }
}

/* --- Threads ---------------------------------------------------------------------------------- */

/* What an errand's outcomes say of the daemon above. */
static void judge(struct upstream *upstream, const struct errand_root *roots, size_t count,
                  const char *reason)
{
    size_t away = 0;
    size_t answered = 0;
    size_t broken = 0;
    for (size_t i = 0; i < count; i++) {
        enum cap_error error = roots[i].error;
        away += error == CAP_E_UPSTREAM_AWAY ? 1 : 0;
        answered += error == CAP_OK || error == CAP_E_NOT_FOUND ? 1 : 0;
        if (error == CAP_E_UPSTREAM_BROKEN) {
            broken++;
            blame(upstream, roots[i].hash, reason);
        }
    }
    if (broken > 0) {
        set_state(upstream, UPSTREAM_BROKEN, reason);
    } else if (away > 0) {
        set_state(upstream, UPSTREAM_AWAY, reason);
    } else if (answered > 0) {
        set_state(upstream, UPSTREAM_UP, "");
    }
}

/* Whether it was found away a moment ago. */
static bool may_dial(struct upstream *upstream)
{
    (void)pthread_mutex_lock(&upstream->lock);
    bool may = env_monotonic_us(upstream->context->env) >= upstream->dial_us;
    (void)pthread_mutex_unlock(&upstream->lock);
    return may;
}

static void bring(struct worker *worker, struct errand_root *roots, size_t count)
{
    struct upstream *upstream = worker->upstream;
    char reason[ENDS_REASON_SIZE];
    if (!may_dial(upstream)) {
        for (size_t i = 0; i < count; i++) {
            roots[i].error = CAP_E_UPSTREAM_AWAY;
        }
        return;
    }
    note_begin(worker, roots[0].hash, count);
    errand_run(&upstream->errands, &worker->porter, roots, count, reason);
    for (size_t i = 0; count > 1 && i < count; i++) {
        if (roots[i].error == CAP_E_CLOSURE_TOO_LARGE) { /* together with the others */
            errand_run(&upstream->errands, &worker->porter, &roots[i], 1, reason);
        }
    }
    note_end(worker);
    judge(upstream, roots, count, reason);
}

static void *run(void *arg)
{
    struct worker *worker = arg;
    struct flights *flights = worker->upstream->flights;
    struct flight *batch[FLIGHTS_BATCH];
    size_t count = flights_take(flights, batch);
    while (count > 0) {
        struct errand_root roots[FLIGHTS_BATCH];
        struct flight_lane *lane = batch[0]->lane;
        for (size_t i = 0; i < count; i++) {
            roots[i] = (struct errand_root){.hash = &batch[i]->hash};
        }
        bring(worker, roots, count);
        for (size_t i = 0; i < count; i++) {
            flights_land(flights, batch[i], roots[i].error);
        }
        flights_return(flights, lane);
        count = flights_take(flights, batch);
    }
    above_close(&worker->porter.above);
    front_close(&worker->porter.front);
    return NULL;
}

/* --- What the rooms ask ----------------------------------------------------------------------- */

static struct flights *flights_of(struct fetcher *fetcher)
{
    return CONTAINER_OF(fetcher, struct upstream, fetcher)->flights;
}

static enum cap_error on_want(struct fetcher *fetcher, struct fetch_order *order)
{
    struct upstream *upstream = CONTAINER_OF(fetcher, struct upstream, fetcher);
    order->wanted_us = env_monotonic_us(upstream->context->env);
    (void)pthread_mutex_lock(&upstream->lock);
    order->heard = upstream->heard;
    (void)pthread_mutex_unlock(&upstream->lock);
    return flights_want(upstream->flights, order);
}

static bool on_withdraw(struct fetcher *fetcher, struct fetch_order *order)
{
    return flights_withdraw(flights_of(fetcher), order);
}

static bool on_give_up(struct fetcher *fetcher, struct fetch_order *order)
{
    struct upstream *upstream = CONTAINER_OF(fetcher, struct upstream, fetcher);
    bool waited = flights_withdraw(upstream->flights, order);
    if (waited) {
        judge_silence(upstream, order);
    }
    return waited;
}

static enum cap_error on_recall(struct fetcher *fetcher, const struct cap_hash *hash)
{
    return flights_recall(flights_of(fetcher), hash);
}

struct fetcher *upstream_fetcher(struct upstream *upstream)
{
    return upstream == NULL ? NULL : &upstream->fetcher;
}

/* --- Life ------------------------------------------------------------------------------------- */

/* Whether an address is one over HTTP, as far as the library will not say it better. */
static bool is_http(const char *address)
{
    size_t scheme = strncmp(address, "https://", 8) == 0 ? 8 : 7;
    return (scheme == 8 || strncmp(address, "http://", 7) == 0) &&
           strcspn(address + scheme, ":/") > 0 && strpbrk(address, " ?#@") == NULL;
}

enum cap_error upstream_check(const char *address, char ret_reason[CONFIG_REASON_SIZE])
{
    const struct bind_access access = {.mode = CONFIG_MODE_UMASK, .group = BIND_OWN_GROUP};
    enum cap_error error = is_http(address) ? CAP_OK : bind_check(address, &access, ret_reason);
    if (error != CAP_OK) {
        snprintf(ret_reason, CONFIG_REASON_SIZE,
                 "--upstream: '%.100s' is not an address; expected unix:PATH, unix:@NAME, "
                 "tcp:HOST:PORT, or http://HOST[:PORT][/PREFIX] or the same with https",
                 address);
    }
    return error;
}

enum cap_error upstream_new(struct context *context, const struct hub_set *hubs,
                            struct upstream **ret_upstream, char ret_reason[CONFIG_REASON_SIZE])
{
    if (context->config.upstream == NULL) {
        return CAP_OK;
    }
    enum cap_error error = upstream_check(context->config.upstream, ret_reason);
    if (error != CAP_OK) {
        return error;
    }
    snprintf(ret_reason, CONFIG_REASON_SIZE, "out of memory");
    struct upstream *upstream = calloc(1, sizeof(*upstream));
    if (upstream == NULL) {
        return CAP_E_NO_MEMORY;
    }
    error = flights_new(context->env, &context->config.upstream_rate, UPSTREAM_THREADS,
                        &upstream->flights);
    if (error != CAP_OK) {
        free(upstream);
        return error;
    }
    upstream->fetcher = (struct fetcher){on_want, on_withdraw, on_give_up, on_recall, on_figures};
    upstream->context = context;
    upstream->hubs = hubs;
    upstream->errands.context = context;
    upstream->errands.heard = on_heard;
    (void)pthread_mutex_init(&upstream->lock, NULL);
    for (size_t i = 0; i < UPSTREAM_THREADS; i++) {
        struct worker *worker = &upstream->workers[i];
        worker->upstream = upstream;
        above_init(&worker->porter.above, context->config.upstream,
                   &context->config.upstream_timeout_ms, cap_store_id(context->store));
        front_init(&worker->porter.front, NULL);
    }
    *ret_upstream = upstream;
    return CAP_OK;
}

enum cap_error upstream_start(struct upstream *upstream)
{
    for (size_t i = 0; upstream != NULL && i < UPSTREAM_THREADS; i++) {
        struct worker *worker = &upstream->workers[i];
        worker->porter.front.hub = upstream->hubs->hubs[i % upstream->hubs->count];
        if (pthread_create(&worker->thread, NULL, run, worker) != 0) {
            return CAP_E_NO_MEMORY;
        }
        worker->running = true;
    }
    return CAP_OK;
}

void upstream_stop(struct upstream *upstream)
{
    if (upstream == NULL || upstream->stopped) {
        return;
    }
    upstream->stopped = true;
    flights_stop(upstream->flights); /* first: a cut looks like a daemon above that is away */
    for (size_t i = 0; i < UPSTREAM_THREADS; i++) {
        tether_cut(&upstream->workers[i].porter.above.tether);
        tether_cut(&upstream->workers[i].porter.front.tether);
    }
}

void upstream_join(struct upstream *upstream)
{
    if (upstream == NULL) {
        return;
    }
    upstream_stop(upstream);
    for (size_t i = 0; i < UPSTREAM_THREADS; i++) {
        if (upstream->workers[i].running) {
            upstream->workers[i].running = false;
            (void)pthread_join(upstream->workers[i].thread, NULL);
        }
    }
}

void upstream_free(struct upstream *upstream)
{
    if (upstream != NULL) {
        flights_free(upstream->flights);
        (void)pthread_mutex_destroy(&upstream->lock);
        free(upstream);
    }
}
