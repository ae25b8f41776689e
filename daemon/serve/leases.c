/*
 * HAS with leases.
 *
 * Happy path: a reader looks every cap up, in turns with other peers' jobs. What is kept for about
 * as long as asked needs no more; the rest goes to the keeper, and the answer out when all of it is
 * durable. Nothing comes from the caches in front of the store: they do not know leases.
 *
 * Failure modes: as a HAS without leases. Cancelled, or the connection goes: the keeper lets go of
 * it at once; leases that were under way may be given, which does no harm.
 */
#include "daemon/serve/leases.h"

#include <stdlib.h>
#include <sys/param.h>

#include "daemon/core/container.h"
#include "daemon/core/keeper.h"
#include "daemon/core/ledger.h"

#define LEASES_SMALL 32u /* hashes of a request whose memory is counted as any other's is */

struct lease_request {
    struct request request;
    struct read_job job;
    struct keep_order order;
    struct serve *serve;
    struct ledger_peer *account;
    uint64_t held;   /* memory of the ledger */
    bool is_ordered; /* the keeper has it, else the readers */
    uint64_t keep_s; /* wanted; 0: it only asks */
    size_t wanted;   /* of `keeps`: those for the keeper, whose keep_s is not 0 */
    size_t count;    /* of `keeps` */
    size_t at;       /* the next to look up, or the one that failed */
    uint8_t *kinds;  /* of the answer, as is the next */
    uint8_t *kept_s;
    enum cap_error error;
    struct cap_keep keeps[];
};

static void lease_free(struct lease_request *lease)
{
    (void)ledger_memory_hold(lease->serve->shard->context->ledger, lease->account, &lease->held, 0);
    free(lease);
}

/* --- Looking up: in a reader ------------------------------------------------------------------ */

static enum cap_error look_up(struct lease_request *lease, struct cap_keep *keep,
                              struct cap_read *read)
{
    const struct cap_store *store = lease->serve->shard->context->store;
    struct cap_info info;
    keep->error = cap_store_find(read, &keep->hash, &info);
    if (keep->error != CAP_OK) {
        return cap_store_is_unserved(keep->error) ? CAP_OK : keep->error;
    }
    keep->kind = info.kind;
    keep->kept_until_s = info.kept_until_s;
    if (cap_store_keep_gains(store, info.kept_until_s, lease->keep_s)) {
        keep->keep_s = lease->keep_s;
        lease->wanted++;
    }
    return CAP_OK;
}

static bool on_run(struct read_job *job)
{
    struct lease_request *lease = CONTAINER_OF(job, struct lease_request, job);
    const struct context *context = lease->serve->shard->context;
    uint64_t until = env_monotonic_us(context->env) + READERS_TURN_US;
    struct cap_read *read = NULL;
    bool more = true;
    lease->error = cap_store_read_begin(context->store, &read);
    while (more && lease->error == CAP_OK && lease->at < lease->count) {
        lease->error = look_up(lease, &lease->keeps[lease->at], read);
        if (lease->error == CAP_OK) {
            lease->at++;
        }
        more = !atomic_load(&job->withdrawn) && env_monotonic_us(context->env) < until;
    }
    cap_store_read_end(read);
    return lease->error != CAP_OK || lease->at == lease->count;
}

/* --- Answering -------------------------------------------------------------------------------- */

static void answer(struct lease_request *lease)
{
    const struct context *context = lease->serve->shard->context;
    for (size_t i = 0; i < lease->count; i++) {
        const struct cap_keep *keep = &lease->keeps[i];
        bool found = keep->error == CAP_OK;
        lease->kinds[i] = found ? (uint8_t)keep->kind : 0;
        cap_store32(lease->kept_s + i * sizeof(uint32_t),
                    found ? cap_store_left(context->store, keep->kept_until_s) : 0);
    }
    const struct proto_has_reply m = {
        .kinds = {lease->kinds, lease->count},
        .kept_s = {lease->kept_s, lease->count * sizeof(uint32_t)},
    };
    struct cap_buf payload = {0};
    enum cap_error encoded = proto_has_reply_keep_encode(&m, &payload);
    request_answer(&lease->request, PROTO_HAS_REPLY, encoded, &payload, NULL);
}

static void on_kept(struct keep_order *order)
{
    struct lease_request *lease = CONTAINER_OF(order, struct lease_request, order);
    if (order->error == CAP_OK) {
        answer(lease);
    } else {
        request_refuse(&lease->request, order->error, NULL, NULL);
    }
    lease_free(lease);
}

/* Hands what a reader has found to the keeper. */
static enum cap_error give(struct lease_request *lease)
{
    struct keeper *keeper = lease->serve->shard->keeper;
    lease->order = (struct keep_order){
        .peer = ledger_peer_id(lease->account),
        .keeps = lease->keeps,
        .count = lease->count,
        .done = on_kept,
    };
    enum cap_error error = keeper->give(keeper, &lease->order);
    lease->is_ordered = error == CAP_OK;
    return error;
}

static void on_looked_up(struct read_job *job)
{
    struct lease_request *lease = CONTAINER_OF(job, struct lease_request, job);
    struct serve *serve = lease->serve;
    char message[SERVE_MESSAGE_SIZE];
    if (lease->request.session == NULL) {
        lease_free(lease);
        return;
    }
    if (lease->error != CAP_OK) {
        serve_failed(serve, &lease->keeps[lease->at].hash, lease->error, message);
        request_refuse(&lease->request, lease->error, message, NULL);
    } else if (lease->wanted == 0) {
        histogram_add(&serve->shard->stats.lookup_us,
                      env_monotonic_us(serve->shard->context->env) - lease->request.started_us);
        answer(lease);
    } else {
        enum cap_error error = give(lease);
        if (error == CAP_OK) {
            return;
        }
        request_refuse(&lease->request, error, NULL, NULL);
    }
    lease_free(lease);
}

/* --- The request ------------------------------------------------------------------------------ */

static void leave(struct lease_request *lease)
{
    struct keeper *keeper = lease->serve->shard->keeper;
    if (lease->is_ordered) {
        keeper->withdraw(keeper, &lease->order);
        lease_free(lease);
    } else if (readers_withdraw(&lease->serve->readers, &lease->job)) {
        lease_free(lease);
    }
}

static void on_cancel(struct request *request)
{
    request_refuse(request, CAP_E_CANCELLED, NULL, NULL);
    leave(CONTAINER_OF(request, struct lease_request, request));
}

static void on_detach(struct request *request)
{
    leave(CONTAINER_OF(request, struct lease_request, request));
}

static const struct request_class lease_class = {.cancel = on_cancel, .detach = on_detach};

/* CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. */
static enum cap_error lease_new(struct serve *serve, const struct session *session,
                                const struct proto_has *asked, struct lease_request **ret_lease)
{
    const struct context *context = serve->shard->context;
    size_t count = asked->count;
    size_t size = sizeof(struct lease_request) +
                  count * (sizeof(struct cap_keep) + sizeof(uint8_t) + sizeof(uint32_t));
    uint64_t held = 0;
    if (!ledger_memory_hold(context->ledger, session->account, &held,
                            count <= LEASES_SMALL ? 0 : size)) {
        return CAP_E_MEMORY_LIMIT;
    }
    struct lease_request *lease = calloc(1, size);
    if (lease == NULL) {
        (void)ledger_memory_hold(context->ledger, session->account, &held, 0);
        return CAP_E_NO_MEMORY;
    }
    lease->serve = serve;
    lease->account = session->account;
    lease->held = held;
    lease->keep_s = MIN(asked->keep_s, context->config.lease_max);
    lease->count = count;
    lease->kinds = (uint8_t *)(lease->keeps + count);
    lease->kept_s = lease->kinds + count;
    for (size_t i = 0; i < count; i++) {
        memcpy(lease->keeps[i].hash.bytes, asked->hashes.data + i * CAP_HASH_SIZE, CAP_HASH_SIZE);
    }
    lease->job.account = session->account;
    lease->job.run = on_run;
    lease->job.done = on_looked_up;
    lease->request.class = &lease_class;
    lease->request.size = held == 0 ? size : 0;
    *ret_lease = lease;
    return CAP_OK;
}

const struct verdict *leases_has(struct serve *serve, struct session *session, uint32_t id,
                                 uint8_t type, struct cap_bytes payload)
{
    struct proto_has asked;
    struct lease_request *lease = NULL;
    enum cap_error error = proto_has_keep_decode(payload, &asked);
    if (error == CAP_OK && asked.count > session->limits.hashes) {
        error = CAP_E_TOO_MANY_HASHES;
    }
    if (error == CAP_OK && asked.count == 0) {
        const struct proto_has_reply none = {.kinds = {NULL, 0}};
        struct cap_buf reply = {0};
        error = proto_has_reply_keep_encode(&none, &reply);
        return session_reply(session, PROTO_HAS_REPLY, id, error, &reply, NULL);
    }
    if (error == CAP_OK) {
        error = lease_new(serve, session, &asked, &lease);
    }
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    lease->request.id = id;
    lease->request.type = type;
    const struct verdict *verdict = session_pending(session, &lease->request);
    error = readers_submit(&serve->readers, &lease->job);
    if (error != CAP_OK) {
        request_refuse(&lease->request, error, NULL, NULL);
        lease_free(lease);
    }
    return verdict;
}
