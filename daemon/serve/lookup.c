/*
 * Lookups.
 *
 * Happy path: a few hashes are looked up at once, in the turn's snapshot. Many, which may all lie
 * on cold pages, go to a worker with a snapshot of its own, and are answered when it is done.
 *
 * Failure modes: the store's error answers the request. Cancelled: the answer is `cancelled`, the
 * worker's result is thrown away. The connection goes: the same, without an answer.
 */
#include "daemon/serve/lookup.h"

#include <stdlib.h>

#include "daemon/core/ledger.h"
#include "proto/message.h"

/* A HAS in a worker. Its memory is taken from the ledger. */
struct lookup {
    struct request request;
    uv_work_t work;
    uint64_t held;
    size_t count;
    enum cap_error error;
    uint8_t *kinds;
    struct cap_hash hashes[];
};

static enum cap_error find_kinds(struct cap_read *read, const struct cap_hash *hashes, size_t count,
                                 uint8_t *ret_kinds)
{
    for (size_t i = 0; i < count; i++) {
        struct cap_info info;
        enum cap_error error = cap_store_find(read, &hashes[i], &info);
        if (error != CAP_OK && error != CAP_E_NOT_FOUND) {
            return error;
        }
        ret_kinds[i] = error == CAP_OK ? (uint8_t)info.kind : 0;
    }
    return CAP_OK;
}

static void count_lookup(struct shard *shard, uint64_t started)
{
    histogram_add(&shard->stats.lookup_us, env_monotonic_us(shard->context->env) - started);
}

static enum cap_error encode_kinds(const uint8_t *kinds, size_t count, struct cap_buf *payload)
{
    const struct proto_has_reply m = {.kinds = {kinds, count}};
    return proto_has_reply_encode(&m, payload);
}

static void on_cancel(struct request *request)
{
    request_refuse(request, CAP_E_CANCELLED, NULL, NULL); /* the worker's end frees it */
}

static void on_detach(struct request *request)
{
    (void)request; /* the worker's end frees it */
}

static const struct request_class lookup_class = {.cancel = on_cancel, .detach = on_detach};

/* In a worker. */
static void on_work(uv_work_t *work)
{
    struct lookup *lookup = work->data;
    struct cap_read *read = NULL;
    lookup->error = cap_store_read_begin(lookup->request.shard->context->store, &read);
    if (lookup->error == CAP_OK) {
        lookup->error = find_kinds(read, lookup->hashes, lookup->count, lookup->kinds);
        cap_store_read_end(read);
    }
}

static void on_worked(uv_work_t *work, int status)
{
    struct lookup *lookup = work->data;
    struct request *request = &lookup->request;
    struct shard *shard = request->shard;
    struct cap_buf payload = {0};
    (void)status;
    pool_work_done(&shard->pool);
    if (lookup->error != CAP_OK) {
        request_refuse(request, lookup->error, NULL, NULL);
    } else {
        enum cap_error encoded = encode_kinds(lookup->kinds, lookup->count, &payload);
        request_answer(request, PROTO_HAS_REPLY, encoded, &payload);
        count_lookup(shard, request->started_us);
    }
    ledger_memory_give(shard->context->ledger, lookup->held);
    free(lookup);
}

static const struct verdict *has_in_worker(struct session *session, uint32_t id,
                                           const struct proto_has *has)
{
    struct shard *shard = session->shard;
    size_t size = sizeof(struct lookup) + has->count * (CAP_HASH_SIZE + 1);
    if (!ledger_memory_take(shard->context->ledger, size)) {
        return session_refuse(session, id, PROTO_HAS, CAP_E_MEMORY_LIMIT, NULL);
    }
    struct lookup *lookup = calloc(1, size);
    if (lookup == NULL) {
        ledger_memory_give(shard->context->ledger, size);
        return session_refuse(session, id, PROTO_HAS, CAP_E_NO_MEMORY, NULL);
    }
    lookup->held = size;
    lookup->count = has->count;
    lookup->kinds = (uint8_t *)(lookup->hashes + has->count);
    memcpy(lookup->hashes, has->hashes.data, has->hashes.len);
    /* Its size is in `held`, since it may be much. */
    lookup->request = (struct request){.class = &lookup_class, .id = id, .type = PROTO_HAS};
    const struct verdict *verdict = session_pending(session, &lookup->request);
    lookup->work.data = lookup;
    pool_work(&shard->pool, &lookup->work, on_work, on_worked);
    return verdict;
}

const struct verdict *lookup_has(void *room, struct session *session, uint32_t id, uint8_t type,
                                 struct cap_bytes payload)
{
    (void)room;
    struct proto_has has;
    struct cap_hash hashes[LOOKUP_INLINE];
    uint8_t kinds[LOOKUP_INLINE];
    struct cap_read *read = NULL;
    struct cap_buf reply = {0};
    struct shard *shard = session->shard;
    uint64_t started = env_monotonic_us(session->context->env);
    enum cap_error error = proto_has_decode(payload, &has);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    if (has.count > session->context->config.max_hashes) {
        return session_refuse(session, id, type, CAP_E_TOO_MANY_HASHES, NULL);
    }
    if (has.count > LOOKUP_INLINE) {
        return has_in_worker(session, id, &has);
    }
    if (has.count > 0) {
        memcpy(hashes, has.hashes.data, has.hashes.len);
    }
    error = session_snapshot(session, &read);
    error = error == CAP_OK ? find_kinds(read, hashes, has.count, kinds) : error;
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    enum cap_error encoded = encode_kinds(kinds, has.count, &reply);
    count_lookup(shard, started);
    return session_reply(session, PROTO_HAS_REPLY, id, encoded, &reply);
}

const struct verdict *lookup_stat(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload)
{
    (void)room;
    struct proto_stat stat;
    struct cap_info info;
    struct cap_read *read = NULL;
    struct cap_buf reply = {0};
    struct shard *shard = session->shard;
    uint64_t started = env_monotonic_us(session->context->env);
    enum cap_error error = proto_stat_decode(payload, &stat);
    error = error == CAP_OK ? session_snapshot(session, &read) : error;
    error = error == CAP_OK ? cap_store_find(read, &stat.hash, &info) : error;
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    struct proto_stat_reply m = {
        .kind = (uint8_t)info.kind,
        .body_len = info.body_len,
        .size = info.size,
        .page_count = info.page_count,
        .ref_count = info.ref_count,
        .published_us = info.published_us,
    };
    if (info.has_content_hash) {
        m.content_hash = info.content_hash;
    }
    enum cap_error encoded = proto_stat_reply_encode(&m, &reply);
    count_lookup(shard, started);
    return session_reply(session, PROTO_STAT_REPLY, id, encoded, &reply);
}
