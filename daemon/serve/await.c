/*
 * Reading through.
 *
 * Happy path. What the loop knows to be here (places, records, kinds) goes to its room at once, at
 * the cost of a look into its caches. Else a reader looks; what is not here is ordered from the
 * fetcher, and when that has brought it the message is handed to its room as if it came now.
 *
 * What is here may refer to what is lost (lack.h). While the store has such caps, or has changed
 * since a reader saw that it has none, a reader walks from all that is asked for, and what it finds
 * lost is ordered, too, some at a time.
 *
 * Failure modes.
 *   - It is not there either: the room says not_found, as it does without a daemon above.
 *   - The fetcher cannot: its error is the answer. Of a GET_MANY, which answers cap by cap, the
 *     room asks why (recall).
 *   - It takes longer than `upstream-timeout`: upstream_away. The fetch goes on; who asks again
 *     later finds the cap here.
 *   - What is lost cannot be had: the room answers with what is here.
 *   - Cancelled, or the connection goes: the order is withdrawn.
 */
#include "daemon/serve/await.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/container.h"
#include "daemon/core/fetcher.h"
#include "daemon/core/ledger.h"
#include "daemon/serve/lack.h"
#include "lib/cap/must.h"
#include "proto/message.h"

#define AWAIT_SMALL 32u  /* hashes of a request whose memory is counted as any other's is */
#define AWAIT_STEPS 256u /* of a walk, before the clock is looked at */

struct await_request {
    struct request request;
    struct read_job job;
    struct fetch_order order;
    struct letter letter; /* tells the loop that the order is done */
    const struct await *await;
    struct ledger_peer *account;
    uint64_t held; /* memory of the ledger */
    enum { AWAIT_READER, AWAIT_FETCHER, AWAIT_LETTER } with;
    size_t count;
    size_t at;         /* the next to look up */
    size_t absent;     /* how many are not here: they stand in front then */
    size_t room;       /* for hashes */
    uint64_t epoch;    /* of the store, before a reader looked */
    bool looked;       /* it has begun to */
    bool whole;        /* nothing in the store is lost */
    bool lost;         /* what is absent is not asked for, but referred to by what is */
    struct walk *walk; /* NULL: it has not come to that */
    struct cap_bytes payload;
    struct cap_hash hashes[];
};

static const struct context *context_of(const struct await_request *wait)
{
    return wait->await->serve->shard->context;
}

static void await_free(struct await_request *wait)
{
    walk_free(wait->walk);
    (void)ledger_memory_hold(context_of(wait)->ledger, wait->account, &wait->held, 0);
    free(wait);
}

/* --- What is asked ---------------------------------------------------------------------------- */

/* The hashes that a message is about. */
static enum cap_error hashes_of(uint8_t type, struct cap_bytes payload,
                                struct cap_bytes *ret_hashes)
{
    struct proto_get_many many;
    struct proto_closure closure;
    enum cap_error error = CAP_OK;
    switch (type) {
    case PROTO_GET_MANY:
        error = proto_get_many_decode(payload, &many);
        *ret_hashes = error == CAP_OK ? many.hashes : (struct cap_bytes){0};
        return error;
    case PROTO_CLOSURE:
        error = proto_closure_decode(payload, &closure);
        *ret_hashes = error == CAP_OK ? closure.roots : (struct cap_bytes){0};
        return error;
    default: /* GET, STAT, MAP, SLICE begin with the one that they are about */
        *ret_hashes = (struct cap_bytes){payload.data, CAP_HASH_SIZE};
        return payload.len < CAP_HASH_SIZE ? CAP_E_BAD_MESSAGE : CAP_OK;
    }
}

static struct cap_hash hash_at(struct cap_bytes hashes, size_t index)
{
    struct cap_hash hash;
    memcpy(hash.bytes, hashes.data + index * CAP_HASH_SIZE, CAP_HASH_SIZE);
    return hash;
}

/* Whether the loop knows that it is here; not whether its pages are in memory. */
static bool is_known(struct serve *serve, const struct cap_hash *hash)
{
    return places_find(&serve->places, hash) != NULL ||
           records_find(&serve->records, hash) != NULL || kinds_find(&serve->kinds, hash) != 0;
}

static bool all_known(struct serve *serve, struct cap_bytes hashes)
{
    for (size_t i = 0; i < hashes.len / CAP_HASH_SIZE; i++) {
        struct cap_hash hash = hash_at(hashes, i);
        if (!is_known(serve, &hash)) {
            return false;
        }
    }
    return true;
}

/* --- The end ---------------------------------------------------------------------------------- */

/* To the room, which answers as things stand now. */
static void pass(struct await_request *wait)
{
    serve_catch_up(wait->await->serve);
    request_pass(&wait->request, &wait->await->route, wait->payload);
    await_free(wait);
}

static void refuse(struct await_request *wait, enum cap_error error)
{
    char message[SERVE_MESSAGE_SIZE];
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(&wait->hashes[0], hex);
    snprintf(message, sizeof(message), "%s: fetching it from upstream: %s", hex,
             cap_error_text(error));
    request_refuse(&wait->request, error, message, NULL);
    await_free(wait);
}

static void look(struct await_request *wait);

/* The order has ended, or is not waited for any longer. */
static void end(struct await_request *wait, enum cap_error error)
{
    bool by_cap = wait->request.type == PROTO_GET_MANY && error != CAP_E_DRAINING;
    bool more = wait->lost ? wait->absent == wait->room : !wait->whole;
    if (error == CAP_OK && more) {
        look(wait);
    } else if (wait->lost || error == CAP_OK || error == CAP_E_NOT_FOUND || by_cap) {
        pass(wait);
    } else {
        refuse(wait, error);
    }
}

/* --- The fetcher ------------------------------------------------------------------------------ */

static void on_letter(struct letter *letter)
{
    struct await_request *wait = CONTAINER_OF(letter, struct await_request, letter);
    if (wait->request.session == NULL) {
        await_free(wait);
    } else {
        end(wait, wait->order.error);
    }
}

/* On any thread. */
static void on_brought(struct fetch_order *order)
{
    struct await_request *wait = CONTAINER_OF(order, struct await_request, order);
    struct mailbox *mailbox = &wait->await->serve->shard->mailbox;
    bool posted = mailbox_post(mailbox, &wait->letter);
    must(posted); /* the fetcher ends before the loops */
}

static void order(struct await_request *wait)
{
    struct fetcher *fetcher = context_of(wait)->fetcher;
    wait->order = (struct fetch_order){
        .peer = ledger_peer_id(wait->account),
        .hashes = wait->hashes,
        .count = wait->absent,
        .done = on_brought,
    };
    wait->letter.run = on_letter;
    wait->with = AWAIT_FETCHER;
    wait->await->serve->shard->stats.awaited += wait->absent;
    enum cap_error error = fetcher->want(fetcher, &wait->order);
    if (error != CAP_OK) {
        refuse(wait, error);
    }
}

/* --- A reader --------------------------------------------------------------------------------- */

static enum cap_error look_up(struct await_request *wait, struct cap_read *read)
{
    struct cap_info info;
    enum cap_error error = cap_store_find(read, &wait->hashes[wait->at], &info);
    if (lack_is_absent(error)) {
        wait->hashes[wait->absent++] = wait->hashes[wait->at];
    }
    wait->at++;
    return error == CAP_OK || cap_store_is_unserved(error) ? CAP_OK : error;
}

/* A walk through all that is asked for, but for what the client has. */
static enum cap_error begin_walk(struct await_request *wait)
{
    struct proto_closure closure;
    struct walk_query query = {.max = context_of(wait)->config.closure_max};
    enum cap_error error = hashes_of(wait->request.type, wait->payload, &query.roots);
    if (error == CAP_OK && wait->request.type == PROTO_CLOSURE) {
        error = proto_closure_decode(wait->payload, &closure);
        query.have = error == CAP_OK ? closure.have : query.have;
    }
    return error == CAP_OK ? walk_new(context_of(wait)->ledger, wait->account, &query, &wait->walk)
                           : error;
}

/* Looks for what is lost, if all that is asked for is here. False: there is more to do. */
static bool look_further(struct await_request *wait, struct cap_read *read)
{
    if (wait->whole || (wait->absent > 0 && !wait->lost)) {
        return true;
    }
    if (wait->walk == NULL && begin_walk(wait) != CAP_OK) {
        return true; /* what is lost stays so */
    }
    wait->lost = true;
    return lack_walk(wait->walk, read, AWAIT_STEPS, wait->hashes, wait->room, &wait->absent);
}

static bool on_run(struct read_job *job)
{
    struct await_request *wait = CONTAINER_OF(job, struct await_request, job);
    const struct context *context = context_of(wait);
    uint64_t until = env_monotonic_us(context->env) + READERS_TURN_US;
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(context->store, &read);
    bool more = true;
    bool done = false;
    if (error == CAP_OK && !wait->looked) {
        wait->looked = true;
        wait->whole = lack_is_nothing(read);
    }
    while (more && error == CAP_OK && !done) {
        if (wait->at < wait->count) {
            error = look_up(wait, read);
        } else {
            done = look_further(wait, read);
        }
        more = !atomic_load(&job->withdrawn) && env_monotonic_us(context->env) < until;
    }
    cap_store_read_end(read);
    return done || error != CAP_OK; /* the room meets the same error, and says so */
}

static void on_looked(struct read_job *job)
{
    struct await_request *wait = CONTAINER_OF(job, struct await_request, job);
    struct serve *serve = wait->await->serve;
    if (wait->request.session == NULL) {
        await_free(wait);
        return;
    }
    if (wait->whole && serve_may_remember(serve, wait->epoch)) {
        serve->whole_epoch = wait->epoch;
    }
    if (wait->absent == 0) {
        pass(wait);
    } else {
        order(wait);
    }
}

/* Has a reader look, for the first time or again. */
static void look(struct await_request *wait)
{
    struct serve *serve = wait->await->serve;
    struct cap_bytes hashes;
    must(hashes_of(wait->request.type, wait->payload, &hashes) == CAP_OK);
    memcpy(wait->hashes, hashes.data, hashes.len);
    walk_free(wait->walk);
    wait->walk = NULL;
    wait->at = wait->absent = 0;
    wait->lost = wait->looked = wait->whole = false;
    wait->with = AWAIT_READER;
    wait->epoch = serve_epoch(serve);
    enum cap_error error = readers_submit(&serve->readers, &wait->job);
    if (error != CAP_OK) {
        request_refuse(&wait->request, error, NULL, NULL);
        await_free(wait);
    }
}

/* --- The request ------------------------------------------------------------------------------ */

/* Off its session: who has it lets go of it, or frees it when it comes back. */
static void leave(struct await_request *wait)
{
    const struct await *await = wait->await;
    struct fetcher *fetcher = context_of(wait)->fetcher;
    bool ours = wait->with == AWAIT_READER ? readers_withdraw(&await->serve->readers, &wait->job)
                                           : fetcher->withdraw(fetcher, &wait->order);
    if (ours) {
        await_free(wait);
    }
}

static void on_cancel(struct request *request)
{
    request_refuse(request, CAP_E_CANCELLED, NULL, NULL);
    leave(CONTAINER_OF(request, struct await_request, request));
}

static void on_detach(struct request *request)
{
    leave(CONTAINER_OF(request, struct await_request, request));
}

static void on_tick(struct request *request, uint64_t now, bool paused)
{
    struct await_request *wait = CONTAINER_OF(request, struct await_request, request);
    struct fetcher *fetcher = context_of(wait)->fetcher;
    uint64_t most_us = context_of(wait)->config.upstream_timeout_ms * UINT64_C(1000);
    (void)paused;
    if (wait->with == AWAIT_FETCHER && now - request->started_us > most_us &&
        fetcher->give_up(fetcher, &wait->order)) {
        end(wait, CAP_E_UPSTREAM_AWAY);
    }
}

static const struct request_class await_class = {
    .cancel = on_cancel,
    .detach = on_detach,
    .tick = on_tick,
};

/* Makes a request that holds the message. CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. */
static enum cap_error make(struct await *await, const struct session *session,
                           struct cap_bytes payload, struct cap_bytes hashes,
                           struct await_request **ret_wait)
{
    struct ledger *ledger = session->context->ledger;
    bool many = hashes.len > AWAIT_SMALL * CAP_HASH_SIZE;
    size_t room = many ? hashes.len / CAP_HASH_SIZE : AWAIT_SMALL;
    size_t size = sizeof(struct await_request) + room * CAP_HASH_SIZE + payload.len;
    uint64_t held = 0;
    if (!ledger_memory_hold(ledger, session->account, &held, many ? size : 0)) {
        return CAP_E_MEMORY_LIMIT;
    }
    struct await_request *wait = calloc(1, size);
    if (wait == NULL) {
        (void)ledger_memory_hold(ledger, session->account, &held, 0);
        return CAP_E_NO_MEMORY;
    }
    uint8_t *copy = (uint8_t *)(wait->hashes + room);
    memcpy(copy, payload.data, payload.len);
    wait->payload = (struct cap_bytes){copy, payload.len};
    wait->await = await;
    wait->account = session->account;
    wait->held = held;
    wait->count = hashes.len / CAP_HASH_SIZE;
    wait->room = room;
    wait->job.account = session->account;
    wait->job.run = on_run;
    wait->job.done = on_looked;
    wait->request.class = &await_class;
    wait->request.size = many ? 0 : size;
    *ret_wait = wait;
    return CAP_OK;
}

static const struct verdict *begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                   struct cap_bytes payload)
{
    struct await *await = room;
    struct cap_bytes hashes;
    serve_catch_up(await->serve);
    if (hashes_of(type, payload, &hashes) != CAP_OK ||
        hashes.len > (size_t)session->limits.hashes * CAP_HASH_SIZE ||
        (await->serve->whole_epoch == serve_epoch(await->serve) &&
         all_known(await->serve, hashes))) {
        return await->route.begin(await->route.room, session, id, type, payload);
    }
    struct await_request *wait = NULL;
    enum cap_error error = make(await, session, payload, hashes, &wait);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    wait->request.id = id;
    wait->request.type = type;
    const struct verdict *verdict = session_pending(session, &wait->request);
    look(wait);
    return verdict;
}

static void ahead(void *room, const struct cap_bytes *payloads, size_t count)
{
    struct await *await = room;
    await->route.ahead(await->route.room, payloads, count);
}

bool await_route(struct await *await, struct serve *serve, struct route *route)
{
    switch (route->type) {
    case PROTO_GET:
    case PROTO_GET_MANY:
    case PROTO_STAT:
    case PROTO_MAP:
    case PROTO_SLICE:
    case PROTO_CLOSURE:
        *await = (struct await){.serve = serve, .route = *route};
        route->begin = begin;
        route->room = await;
        route->ahead = route->ahead == NULL ? NULL : ahead;
        return true;
    default:
        return false;
    }
}
