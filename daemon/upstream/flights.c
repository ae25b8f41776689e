/*
 * The table of flights.
 *
 * One lock; under it nothing is longer than a walk over the lanes. Peers choose every bit of what
 * they ask for, so where a hash lies goes by a key of the table's own.
 */
#include "daemon/upstream/flights.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "daemon/core/keyed.h"
#include "lib/cap/must.h"

#define BUCKETS   8192u
#define TOKEN     UINT64_C(1000000) /* in parts: what a rate of 1 gains in a second, per us */
#define FULL      (FLIGHTS_BURST * TOKEN)
#define KEPT_WAYS 4u
#define LANES_RUN 2u                 /* a peer has one part of so many of the threads */
#define POLL_NS   UINT64_C(50000000) /* how often a wait for tokens looks again */

/* One order that waits for one flight. */
struct flight_wait {
    struct fetch_order *order;
    struct flight *flight; /* NULL: it has its outcome */
    LIST_ENTRY(flight_wait) link;
};

struct flight_lane {
    uint64_t peer;
    uint64_t tokens; /* of TOKEN parts */
    uint64_t filled_us;
    size_t flights; /* queued and taken */
    size_t running; /* threads */
    TAILQ_HEAD(, flight) queue;
    TAILQ_ENTRY(flight_lane) link;
};

struct kept {
    struct cap_hash hash;
    uint64_t until_us;
    enum cap_error error;
};

LIST_HEAD(flight_bucket, flight);

struct flights {
    const struct env *env;
    config_number *rate;
    size_t most_running; /* of one lane */
    uint32_t keys[KEYED_WORDS];
    uv_mutex_t lock; /* of what follows */
    uv_cond_t more;
    bool stopping;
    TAILQ_HEAD(, flight_lane) lanes; /* that which took its turn longest ago in front */
    size_t lane_count;
    size_t count;
    struct flight_bucket buckets[BUCKETS];
    struct kept kept[FLIGHTS_KEPT];
    struct flights_figures figures;
};

enum cap_error flights_new(const struct env *env, config_number *rate, size_t threads,
                           struct flights **ret_flights)
{
    struct flights *flights = calloc(1, sizeof(*flights));
    if (flights == NULL) {
        return CAP_E_NO_MEMORY;
    }
    enum cap_error error = env->random(env->ctx, flights->keys, sizeof(flights->keys));
    if (error != CAP_OK) {
        free(flights);
        return error;
    }
    flights->env = env;
    flights->rate = rate;
    flights->most_running = threads / LANES_RUN > 0 ? threads / LANES_RUN : 1;
    if (uv_mutex_init(&flights->lock) != 0) {
        free(flights);
        return CAP_E_NO_MEMORY;
    }
    if (uv_cond_init(&flights->more) != 0) {
        uv_mutex_destroy(&flights->lock);
        free(flights);
        return CAP_E_NO_MEMORY;
    }
    TAILQ_INIT(&flights->lanes);
    *ret_flights = flights;
    return CAP_OK;
}

void flights_free(struct flights *flights)
{
    if (flights == NULL) {
        return;
    }
    must(flights->count == 0);
    while (!TAILQ_EMPTY(&flights->lanes)) {
        struct flight_lane *lane = TAILQ_FIRST(&flights->lanes);
        TAILQ_REMOVE(&flights->lanes, lane, link);
        free(lane);
    }
    uv_cond_destroy(&flights->more);
    uv_mutex_destroy(&flights->lock);
    free(flights);
}

/* --- Places ----------------------------------------------------------------------------------- */

static struct flight_bucket *bucket_of(struct flights *flights, const struct cap_hash *hash)
{
    return &flights->buckets[keyed_hash(flights->keys, hash) % BUCKETS];
}

static struct flight *find(struct flights *flights, const struct cap_hash *hash)
{
    struct flight *flight;
    LIST_FOREACH(flight, bucket_of(flights, hash), find)
    {
        if (cap_hash_equal(&flight->hash, hash)) {
            return flight;
        }
    }
    return NULL;
}

/* The first of the places where a cap's outcome may be. */
static struct kept *kept_set(struct flights *flights, const struct cap_hash *hash)
{
    return &flights->kept[keyed_hash(flights->keys, hash) % (FLIGHTS_KEPT / KEPT_WAYS) * KEPT_WAYS];
}

static struct kept *kept_find(struct flights *flights, const struct cap_hash *hash)
{
    struct kept *set = kept_set(flights, hash);
    for (size_t i = 0; i < KEPT_WAYS; i++) {
        if (set[i].error != CAP_OK && cap_hash_equal(&set[i].hash, hash)) {
            return &set[i];
        }
    }
    return NULL;
}

/* Remembers an outcome, over that which is forgotten first. */
static void keep(struct flights *flights, const struct cap_hash *hash, enum cap_error error)
{
    uint64_t keep_us = error == CAP_E_UPSTREAM_AWAY ? FLIGHTS_AWAY_US : FLIGHTS_KEEP_US;
    struct kept *set = kept_set(flights, hash);
    struct kept *place = kept_find(flights, hash);
    if (place == NULL) {
        place = set;
        for (size_t i = 1; i < KEPT_WAYS; i++) {
            place = set[i].until_us < place->until_us ? &set[i] : place;
        }
    }
    *place = (struct kept){*hash, env_monotonic_us(flights->env) + keep_us, error};
}

/* What is remembered of a cap; CAP_OK: nothing. */
static enum cap_error remembered(struct flights *flights, const struct cap_hash *hash)
{
    const struct kept *kept = kept_find(flights, hash);
    bool valid = kept != NULL && env_monotonic_us(flights->env) < kept->until_us;
    return valid ? kept->error : CAP_OK;
}

/* --- Lanes ------------------------------------------------------------------------------------ */

static void fill(struct flights *flights, struct flight_lane *lane)
{
    uint64_t now = env_monotonic_us(flights->env);
    uint64_t rate = *flights->rate;
    uint64_t passed = now - lane->filled_us;
    uint64_t most = FULL / rate + 1; /* by then it is full */
    lane->tokens += (passed < most ? passed : most) * rate;
    lane->tokens = lane->tokens < FULL ? lane->tokens : FULL;
    lane->filled_us = now;
}

/* Forgets lanes that are as a new one would be. */
static void drop_idle_lanes(struct flights *flights)
{
    struct flight_lane *lane = TAILQ_FIRST(&flights->lanes);
    while (lane != NULL) {
        struct flight_lane *next = TAILQ_NEXT(lane, link);
        fill(flights, lane);
        if (lane->flights == 0 && lane->running == 0 && lane->tokens == FULL) {
            TAILQ_REMOVE(&flights->lanes, lane, link);
            flights->lane_count--;
            free(lane);
        }
        lane = next;
    }
}

static struct flight_lane *lane_of(struct flights *flights, uint64_t peer)
{
    struct flight_lane *lane;
    TAILQ_FOREACH(lane, &flights->lanes, link)
    {
        if (lane->peer == peer) {
            return lane;
        }
    }
    if (flights->lane_count >= FLIGHTS_LANES) {
        drop_idle_lanes(flights);
    }
    lane = flights->lane_count < FLIGHTS_LANES ? calloc(1, sizeof(*lane)) : NULL;
    if (lane != NULL) {
        lane->peer = peer;
        lane->tokens = FULL;
        lane->filled_us = env_monotonic_us(flights->env);
        TAILQ_INIT(&lane->queue);
        TAILQ_INSERT_TAIL(&flights->lanes, lane, link);
        flights->lane_count++;
    }
    return lane;
}

/* --- Flights ---------------------------------------------------------------------------------- */

static struct flight *add_flight(struct flights *flights, struct flight_lane *lane,
                                 const struct cap_hash *hash)
{
    struct flight *flight = calloc(1, sizeof(*flight));
    if (flight == NULL) {
        return NULL;
    }
    flight->hash = *hash;
    flight->lane = lane;
    LIST_INIT(&flight->waits);
    LIST_INSERT_HEAD(bucket_of(flights, hash), flight, find);
    TAILQ_INSERT_TAIL(&lane->queue, flight, link);
    lane->flights++;
    flights->count++;
    return flight;
}

static void remove_flight(struct flights *flights, struct flight *flight)
{
    if (!flight->taken) {
        TAILQ_REMOVE(&flight->lane->queue, flight, link);
    }
    LIST_REMOVE(flight, find);
    flight->lane->flights--;
    flights->count--;
    free(flight);
}

/* A flight that waits in a long lane goes to that of another who asks for it, so that nobody is
 * held up by one who asks for much. */
static void join(struct flight *flight, struct flight_lane *lane)
{
    if (!flight->taken && lane->flights < flight->lane->flights) {
        TAILQ_REMOVE(&flight->lane->queue, flight, link);
        flight->lane->flights--;
        flight->lane = lane;
        TAILQ_INSERT_TAIL(&lane->queue, flight, link);
        lane->flights++;
    }
}

/* What is wrong with one of several comes before what is only absent. */
static void add_outcome(struct fetch_order *order, enum cap_error error)
{
    if (order->error == CAP_OK || order->error == CAP_E_NOT_FOUND) {
        order->error = error == CAP_OK ? order->error : error;
    }
}

/* One hash of an order has its outcome. */
static void tell(struct flight_wait *wait, enum cap_error error)
{
    struct fetch_order *order = wait->order;
    LIST_REMOVE(wait, link);
    wait->flight = NULL;
    add_outcome(order, error);
    if (--order->left == 0) {
        free(order->waits);
        order->waits = NULL;
        order->done(order);
    }
}

static void tell_all(struct flight *flight, enum cap_error error)
{
    while (!LIST_EMPTY(&flight->waits)) {
        tell(LIST_FIRST(&flight->waits), error);
    }
}

/* Takes an order's waits off; a flight that nobody waits for and nobody has begun is gone. */
static void unwait(struct flights *flights, struct fetch_order *order)
{
    for (size_t i = 0; i < order->count; i++) {
        struct flight *flight = order->waits[i].flight;
        if (flight != NULL) {
            LIST_REMOVE(&order->waits[i], link);
            if (LIST_EMPTY(&flight->waits) && !flight->taken) {
                remove_flight(flights, flight);
            }
        }
    }
    free(order->waits);
    order->waits = NULL;
}

/* Enters the waits of an order. */
static enum cap_error wait_for_all(struct flights *flights, struct fetch_order *order,
                                   struct flight_lane *lane)
{
    for (size_t i = 0; i < order->count; i++) {
        const struct cap_hash *hash = &order->hashes[i];
        enum cap_error error = remembered(flights, hash);
        struct flight *flight = error == CAP_OK ? find(flights, hash) : NULL;
        if (error == CAP_OK && flight == NULL) {
            flight = add_flight(flights, lane, hash);
            if (flight == NULL) {
                return CAP_E_NO_MEMORY;
            }
        }
        if (flight == NULL) {
            flights->figures.recalled++;
            add_outcome(order, error);
        } else {
            join(flight, lane);
            order->waits[i] = (struct flight_wait){.order = order, .flight = flight};
            LIST_INSERT_HEAD(&flight->waits, &order->waits[i], link);
            order->left++;
        }
    }
    return CAP_OK;
}

static enum cap_error want(struct flights *flights, struct fetch_order *order)
{
    if (flights->stopping) {
        return CAP_E_DRAINING;
    }
    struct flight_lane *lane = lane_of(flights, order->peer);
    if (lane == NULL || flights->count + order->count > FLIGHTS_MAX ||
        lane->flights + order->count > FLIGHTS_PEER_MAX) {
        return CAP_E_TOO_MANY_REQUESTS;
    }
    order->waits = calloc(order->count, sizeof(*order->waits));
    if (order->waits == NULL) {
        return CAP_E_NO_MEMORY;
    }
    enum cap_error error = wait_for_all(flights, order, lane);
    if (error != CAP_OK) {
        unwait(flights, order);
        order->left = 0;
        return error;
    }
    if (order->left > 0) {
        uv_cond_broadcast(&flights->more);
    } else {
        free(order->waits);
        order->waits = NULL;
        order->done(order);
    }
    return CAP_OK;
}

enum cap_error flights_want(struct flights *flights, struct fetch_order *order)
{
    order->error = CAP_OK;
    order->left = 0;
    uv_mutex_lock(&flights->lock);
    enum cap_error error = want(flights, order);
    uv_mutex_unlock(&flights->lock);
    return error;
}

bool flights_withdraw(struct flights *flights, struct fetch_order *order)
{
    uv_mutex_lock(&flights->lock);
    bool waits = order->left > 0;
    if (waits) {
        unwait(flights, order);
        order->left = 0;
    }
    uv_mutex_unlock(&flights->lock);
    return waits;
}

enum cap_error flights_recall(struct flights *flights, const struct cap_hash *hash)
{
    uv_mutex_lock(&flights->lock);
    enum cap_error error = remembered(flights, hash);
    if (error == CAP_OK) {
        error = CAP_E_UPSTREAM_AWAY;
    }
    uv_mutex_unlock(&flights->lock);
    return error;
}

/* --- Threads ---------------------------------------------------------------------------------- */

/* The lane whose turn it is; NULL: none has a flight that may begin. *ret_starved: one has, and
 * waits for a token. */
static struct flight_lane *next_lane(struct flights *flights, bool *ret_starved)
{
    struct flight_lane *lane;
    *ret_starved = false;
    TAILQ_FOREACH(lane, &flights->lanes, link)
    {
        if (TAILQ_EMPTY(&lane->queue) || lane->running >= flights->most_running) {
            continue;
        }
        fill(flights, lane);
        if (lane->tokens >= TOKEN) {
            return lane;
        }
        *ret_starved = true;
    }
    return NULL;
}

static size_t take_from(struct flights *flights, struct flight_lane *lane,
                        struct flight *ret_batch[FLIGHTS_BATCH])
{
    size_t count = 0;
    while (count < FLIGHTS_BATCH && !TAILQ_EMPTY(&lane->queue) && lane->tokens >= TOKEN) {
        struct flight *flight = TAILQ_FIRST(&lane->queue);
        TAILQ_REMOVE(&lane->queue, flight, link);
        lane->tokens -= TOKEN;
        flight->taken = true;
        ret_batch[count++] = flight;
    }
    flights->figures.taken += count;
    lane->running++;
    TAILQ_REMOVE(&flights->lanes, lane, link);
    TAILQ_INSERT_TAIL(&flights->lanes, lane, link);
    return count;
}

static void wait_for_more(struct flights *flights, bool starved)
{
    if (starved) {
        (void)uv_cond_timedwait(&flights->more, &flights->lock, POLL_NS);
    } else {
        uv_cond_wait(&flights->more, &flights->lock);
    }
}

size_t flights_take(struct flights *flights, struct flight *ret_batch[FLIGHTS_BATCH])
{
    size_t count = 0;
    uv_mutex_lock(&flights->lock);
    while (!flights->stopping && count == 0) {
        bool starved;
        struct flight_lane *lane = next_lane(flights, &starved);
        if (lane != NULL) {
            count = take_from(flights, lane, ret_batch);
        } else {
            wait_for_more(flights, starved);
        }
    }
    uv_mutex_unlock(&flights->lock);
    return count;
}

void flights_land(struct flights *flights, struct flight *flight, enum cap_error error)
{
    uv_mutex_lock(&flights->lock);
    flights->figures.taken--;
    if (error == CAP_OK) {
        flights->figures.landed++;
        flight->lane->tokens += TOKEN; /* no more than it had */
    } else if (error == CAP_E_NOT_FOUND) {
        flights->figures.absent++;
    } else {
        flights->figures.failed++;
    }
    if (error != CAP_OK && error != CAP_E_DRAINING) {
        keep(flights, &flight->hash, error);
    }
    tell_all(flight, error);
    remove_flight(flights, flight);
    uv_mutex_unlock(&flights->lock);
}

void flights_return(struct flights *flights, struct flight_lane *lane)
{
    uv_mutex_lock(&flights->lock);
    lane->running--;
    uv_cond_broadcast(&flights->more);
    uv_mutex_unlock(&flights->lock);
}

/* --- The end, and figures --------------------------------------------------------------------- */

void flights_stop(struct flights *flights)
{
    struct flight_lane *lane;
    uv_mutex_lock(&flights->lock);
    flights->stopping = true;
    for (size_t i = 0; i < BUCKETS; i++) {
        struct flight *flight;
        LIST_FOREACH(flight, &flights->buckets[i], find)
        {
            tell_all(flight, CAP_E_DRAINING);
        }
    }
    TAILQ_FOREACH(lane, &flights->lanes, link)
    {
        while (!TAILQ_EMPTY(&lane->queue)) {
            remove_flight(flights, TAILQ_FIRST(&lane->queue));
        }
    }
    uv_cond_broadcast(&flights->more);
    uv_mutex_unlock(&flights->lock);
}

void flights_figures(struct flights *flights, struct flights_figures *ret_figures)
{
    uv_mutex_lock(&flights->lock);
    *ret_figures = flights->figures;
    ret_figures->flights = flights->count;
    uv_mutex_unlock(&flights->lock);
}
