/*
 * Lookups.
 *
 * Happy path: what the loop knows (serve.h) is answered at once. For the rest a reader looks; a HAS
 * of many takes turns with other peers' jobs.
 *
 * Failure modes: the store's error answers the request and names the hash. Cancelled: the answer is
 * `cancelled`; a job that waits is withdrawn, one that a reader has returns early. The connection
 * goes: the same, without an answer.
 */
#include "daemon/serve/lookup.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/serve/leases.h"
#include "daemon/serve/resolve.h"
#include "proto/message.h"

#define HAS_SMALL 32u /* hashes of a HAS whose records are worth keeping: no scan */
#define HAS_AHEAD 8u  /* hashes whose sets are fetched from memory while others are compared */

static void count_lookup(struct serve *serve, uint64_t started_us)
{
    histogram_add(&serve->shard->stats.lookup_us,
                  env_monotonic_us(serve->shard->context->env) - started_us);
}

/* --- HAS -------------------------------------------------------------------------------------- */

/* A HAS in a reader. */
struct has_request {
    struct request request;
    struct read_job job;
    struct serve *serve;
    struct ledger_peer *account;
    uint64_t held; /* memory of the ledger */
    size_t count;
    size_t at; /* hash that comes next, or that failed */
    enum cap_error error;
    uint64_t epoch;                    /* before a reader looked; see serve_may_remember */
    struct record *records[HAS_SMALL]; /* found, if they are no more than that */
    uint8_t *kinds;                    /* 0: not found, or not looked for yet */
    struct cap_hash hashes[];
};

/* The hash that comes next. In a reader. */
static enum cap_error look_for_next(struct has_request *has, struct cap_read *read)
{
    struct cap_info info;
    enum cap_error error = cap_store_find(read, &has->hashes[has->at], &info);
    if (error != CAP_OK) {
        return cap_store_is_unserved(error) ? CAP_OK : error;
    }
    has->kinds[has->at] = (uint8_t)info.kind;
    if (has->count <= HAS_SMALL) {
        has->records[has->at] = record_new(&has->hashes[has->at], &info);
    }
    return CAP_OK;
}

static bool on_has(struct read_job *job)
{
    struct has_request *has = CONTAINER_OF(job, struct has_request, job);
    const struct context *context = has->serve->shard->context;
    uint64_t until = env_monotonic_us(context->env) + READERS_TURN_US;
    struct cap_read *read = NULL;
    bool more = true;
    has->error = cap_store_read_begin(context->store, &read);
    while (more && has->error == CAP_OK && has->at < has->count) {
        if (has->kinds[has->at] == 0) {
            has->error = look_for_next(has, read);
        }
        if (has->error == CAP_OK) {
            has->at++;
        }
        more = !atomic_load(&job->withdrawn) && env_monotonic_us(context->env) < until;
    }
    cap_store_read_end(read);
    return has->error != CAP_OK || has->at == has->count;
}

/* Remembers what a reader found. */
static void remember_kinds(struct has_request *has)
{
    bool may = serve_may_remember(has->serve, has->epoch);
    for (size_t i = 0; may && has->count > HAS_SMALL && i < has->count; i++) {
        kinds_add(&has->serve->kinds, &has->hashes[i], has->kinds[i]);
    }
}

static void has_free(struct has_request *has)
{
    bool may = serve_may_remember(has->serve, has->epoch);
    for (size_t i = 0; i < HAS_SMALL; i++) {
        if (may) {
            records_add(&has->serve->records, has->records[i]);
        } else {
            free(has->records[i]);
        }
    }
    (void)ledger_memory_hold(has->serve->shard->context->ledger, has->account, &has->held, 0);
    free(has);
}

static enum cap_error encode_kinds(const uint8_t *kinds, size_t count, struct cap_buf *ret_payload)
{
    const struct proto_has_reply m = {.kinds = {kinds, count}};
    return proto_has_reply_encode(&m, ret_payload);
}

static void on_has_done(struct read_job *job)
{
    struct has_request *has = CONTAINER_OF(job, struct has_request, job);
    struct cap_buf payload = {0};
    char message[SERVE_MESSAGE_SIZE];
    if (has->request.session != NULL && has->error != CAP_OK) {
        serve_failed(has->serve, &has->hashes[has->at], has->error, message);
        request_refuse(&has->request, has->error, message, NULL);
    } else if (has->request.session != NULL) {
        remember_kinds(has);
        count_lookup(has->serve, has->request.started_us);
        enum cap_error encoded = encode_kinds(has->kinds, has->count, &payload);
        request_answer(&has->request, PROTO_HAS_REPLY, encoded, &payload, NULL);
    }
    has_free(has);
}

static void leave_has(struct has_request *has)
{
    if (readers_withdraw(&has->serve->readers, &has->job)) {
        has_free(has);
    }
}

static void on_has_cancel(struct request *request)
{
    request_refuse(request, CAP_E_CANCELLED, NULL, NULL);
    leave_has(CONTAINER_OF(request, struct has_request, request));
}

static void on_has_detach(struct request *request)
{
    leave_has(CONTAINER_OF(request, struct has_request, request));
}

static const struct request_class has_class = {.cancel = on_has_cancel, .detach = on_has_detach};

/* Makes what a reader needs. CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. */
static enum cap_error has_new(struct serve *serve, const struct session *session,
                              const struct proto_has *asked, struct has_request **ret_has)
{
    struct ledger *ledger = serve->shard->context->ledger;
    size_t size = sizeof(struct has_request) + asked->count * (CAP_HASH_SIZE + 1);
    /* A few hashes are a request like any other; many are counted by themselves. */
    uint64_t held = 0;
    if (!ledger_memory_hold(ledger, session->account, &held,
                            asked->count <= HAS_SMALL ? 0 : size)) {
        return CAP_E_MEMORY_LIMIT;
    }
    struct has_request *has = calloc(1, size);
    if (has == NULL) {
        (void)ledger_memory_hold(ledger, session->account, &held, 0);
        return CAP_E_NO_MEMORY;
    }
    has->serve = serve;
    has->epoch = serve_epoch(serve);
    has->account = session->account;
    has->held = held;
    has->count = asked->count;
    has->kinds = (uint8_t *)(has->hashes + asked->count);
    memcpy(has->hashes, asked->hashes.data, asked->hashes.len);
    has->job.account = session->account;
    has->job.run = on_has;
    has->job.done = on_has_done;
    has->request.class = &has_class;
    has->request.size = held == 0 ? size : 0;
    *ret_has = has;
    return CAP_OK;
}

static struct cap_hash hash_at(const struct proto_has *asked, size_t index)
{
    struct cap_hash hash;
    memcpy(hash.bytes, asked->hashes.data + index * CAP_HASH_SIZE, CAP_HASH_SIZE);
    return hash;
}

/* The kind of a cap by its place or its record, those of other loops included if `any`; 0: unknown.
 */
static uint8_t find_kind(struct serve *serve, const struct cap_hash *hash, uint64_t now_us,
                         bool any)
{
    uint8_t body[PLACES_BODY_MAX]; /* which shows that the place is not another cap's */
    struct place *place = any ? serve_find_place(serve, hash) : places_find(&serve->places, hash);
    if (place != NULL && serve_load(serve, place, hash, now_us, body)) {
        return (uint8_t)place->kind;
    }
    const struct record *record =
        any ? serve_find_record(serve, hash) : records_find(&serve->records, hash);
    return record == NULL ? 0 : (uint8_t)record->info.kind;
}

/* What the loops know; returns how many hashes they do not. */
static size_t find_few(struct serve *serve, const struct proto_has *asked, uint64_t now_us,
                       uint8_t *ret_kinds)
{
    size_t missed = 0;
    for (size_t i = 0; i < asked->count; i++) {
        struct cap_hash hash = hash_at(asked, i);
        ret_kinds[i] = find_kind(serve, &hash, now_us, true);
        missed += ret_kinds[i] == 0 ? 1 : 0;
    }
    return missed;
}

/* The same of many hashes: what this loop knows, from earlier requests of this kind or others. */
static size_t find_many(struct serve *serve, const struct proto_has *asked, uint64_t now_us,
                        uint8_t *ret_kinds)
{
    size_t missed = 0;
    for (size_t i = 0; i < asked->count; i++) {
        if (i + HAS_AHEAD < asked->count) {
            struct cap_hash ahead = hash_at(asked, i + HAS_AHEAD);
            kinds_expect(&serve->kinds, &ahead);
        }
        struct cap_hash hash = hash_at(asked, i);
        ret_kinds[i] = kinds_find(&serve->kinds, &hash);
        if (ret_kinds[i] == 0) {
            ret_kinds[i] = find_kind(serve, &hash, now_us, false);
            kinds_add(&serve->kinds, &hash, ret_kinds[i]);
        }
        missed += ret_kinds[i] == 0 ? 1 : 0;
    }
    return missed;
}

const struct verdict *lookup_has(void *room, struct session *session, uint32_t id, uint8_t type,
                                 struct cap_bytes payload)
{
    struct serve *serve = room;
    if (session_keeps(session)) {
        return leases_has(serve, session, id, type, payload);
    }
    struct proto_has asked;
    struct cap_buf reply = {0};
    uint8_t kinds[CONFIG_HASHES_MAX];
    enum cap_error error = proto_has_decode(payload, &asked);
    if (error == CAP_OK && asked.count > session->limits.hashes) {
        error = CAP_E_TOO_MANY_HASHES;
    }
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    serve_catch_up(serve);
    uint64_t now_us = session->asked_us;
    size_t missed = asked.count <= HAS_SMALL ? find_few(serve, &asked, now_us, kinds)
                                             : find_many(serve, &asked, now_us, kinds);
    serve->shard->stats.records_used += asked.count - missed;
    serve->shard->stats.records_missed += missed;
    if (missed == 0) {
        error = encode_kinds(kinds, asked.count, &reply);
        count_lookup(serve, session->asked_us);
        return session_reply(session, PROTO_HAS_REPLY, id, error, &reply, NULL);
    }
    struct has_request *has = NULL;
    error = has_new(serve, session, &asked, &has);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    memcpy(has->kinds, kinds, asked.count);
    has->request.id = id;
    has->request.type = type;
    const struct verdict *verdict = session_pending(session, &has->request);
    error = readers_submit(&serve->readers, &has->job);
    if (error != CAP_OK) {
        request_refuse(&has->request, error, NULL, NULL);
        has_free(has);
    }
    return verdict;
}

/* --- STAT ------------------------------------------------------------------------------------- */

/* A STAT in a reader. */
struct stat_request {
    struct request request;
    struct resolve resolve;
};

static enum cap_error encode_stat(const struct record *record, struct cap_buf *ret_payload)
{
    const struct cap_info *info = &record->info;
    struct proto_stat_reply m = {
        .kind = (uint8_t)info->kind,
        .body_len = info->body_len,
        .size = info->size,
        .page_count = info->page_count,
        .ref_count = info->ref_count,
        .published_us = info->published_us,
    };
    if (info->has_content_hash) {
        m.content_hash = info->content_hash;
    }
    return proto_stat_reply_encode(&m, ret_payload);
}

static void on_stat_done(struct read_job *job)
{
    struct resolve *resolve = CONTAINER_OF(job, struct resolve, job);
    struct stat_request *stat = CONTAINER_OF(resolve, struct stat_request, resolve);
    struct serve *serve = resolve->serve;
    struct cap_buf payload = {0};
    char message[SERVE_MESSAGE_SIZE];
    if (stat->request.session != NULL && resolve->record == NULL) {
        serve_failed(serve, &resolve->hash, resolve->error, message);
        request_refuse(&stat->request, resolve->error, message, NULL);
    } else if (stat->request.session != NULL) {
        count_lookup(serve, stat->request.started_us);
        enum cap_error encoded = encode_stat(resolve->record, &payload);
        request_answer(&stat->request, PROTO_STAT_REPLY, encoded, &payload, NULL);
    }
    if (serve_may_remember(serve, resolve->epoch)) {
        records_add(&serve->records, resolve->record);
    } else {
        free(resolve->record);
    }
    free(stat);
}

static void leave_stat(struct stat_request *stat)
{
    if (readers_withdraw(&stat->resolve.serve->readers, &stat->resolve.job)) {
        free(stat);
    }
}

static void on_stat_cancel(struct request *request)
{
    request_refuse(request, CAP_E_CANCELLED, NULL, NULL);
    leave_stat(CONTAINER_OF(request, struct stat_request, request));
}

static void on_stat_detach(struct request *request)
{
    leave_stat(CONTAINER_OF(request, struct stat_request, request));
}

static const struct request_class stat_class = {.cancel = on_stat_cancel, .detach = on_stat_detach};

const struct verdict *lookup_stat(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload)
{
    struct serve *serve = room;
    struct proto_stat asked;
    struct cap_buf reply = {0};
    enum cap_error error = proto_stat_decode(payload, &asked);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    serve_catch_up(serve);
    const struct record *record = serve_find_record(serve, &asked.hash);
    if (record != NULL) {
        serve->shard->stats.records_used++;
        error = encode_stat(record, &reply);
        count_lookup(serve, session->asked_us);
        return session_reply(session, PROTO_STAT_REPLY, id, error, &reply, NULL);
    }
    serve->shard->stats.records_missed++;
    struct stat_request *stat = calloc(1, sizeof(*stat));
    if (stat == NULL) {
        return session_refuse(session, id, type, CAP_E_NO_MEMORY, NULL);
    }
    resolve_init(&stat->resolve, serve, session->account, &asked.hash, false, on_stat_done);
    stat->request =
        (struct request){.class = &stat_class, .size = sizeof(*stat), .id = id, .type = type};
    const struct verdict *verdict = session_pending(session, &stat->request);
    error = readers_submit(&serve->readers, &stat->resolve.job);
    if (error != CAP_OK) {
        request_refuse(&stat->request, error, NULL, NULL);
        free(stat);
    }
    return verdict;
}
