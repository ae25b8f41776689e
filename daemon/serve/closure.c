/*
 * A whole program in one answer.
 *
 * Happy path. A reader walks (walk.h) and fills a chunk with entries: heads, and behind them the
 * bodies that are not large. A chunk that is full goes out, and is filled again when the socket has
 * taken it. A large body ends the chunk with its head, and goes out behind it as a flow (flow.h),
 * like that of a GET; then the walk goes on. So the walk is one chunk ahead of the socket, and no
 * snapshot of the store is held while that is full.
 *
 * Failure modes.
 *   - A cap is not there or cannot be read: an entry says so. Once its head is out: an ERROR.
 *   - More caps than one answer gives, or no memory to walk on: what was found goes out first, then
 *     the ERROR.
 *   - The store fails as a whole: the same.
 *   - Cancelled: at the end of the frame, or at once while a reader works. The connection goes: a
 *     job that waits is withdrawn; what a reader has is freed when it comes back.
 */
#include "daemon/serve/closure.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/serve/flow.h"
#include "daemon/serve/serve.h"
#include "daemon/serve/walk.h"
#include "daemon/serve/window.h"
#include "proto/message.h"

#define CLOSURE_COPY  65536u /* longest body that goes through the chunk: half of one */
#define CLOSURE_STEPS 256u   /* of the walk, before the clock is looked at */

_Static_assert(CLOSURE_COPY + PROTO_ENTRY_SIZE <= CHUNK_SIZE, "an entry fits into a chunk");

struct closure {
    struct request request;
    struct stream stream;
    struct serve *serve;
    struct ledger_peer *account;
    uint64_t held; /* memory of the ledger, beside the walk's */
    uint32_t max;
    bool list;    /* without bodies */
    bool replied; /* the CLOSURE_REPLY is out */
    bool freed;   /* while a reader had it */
    uint8_t *chunk;
    size_t filled;
    size_t sent;
    struct flow flow; /* of the large body whose head ends the chunk */

    bool asked; /* a reader has the job, or it waits for one: then what follows is the reader's */
    struct read_job job;
    struct walk *walk;
    bool found; /* `cap` has come, and is in no chunk yet */
    bool large; /* its head ends the chunk, and its body goes out next */
    bool ended; /* all caps have come */
    struct walk_cap cap;
    size_t put;           /* entries in the chunk */
    enum cap_error error; /* ends the answer, behind the chunk */
    enum cap_error fault; /* of an entry in the chunk, for the operator */
    struct cap_hash fault_hash;
};

/* --- Memory ----------------------------------------------------------------------------------- */

/* Of a request that is off its session. */
static void closure_free(struct closure *closure)
{
    if (closure->asked && !readers_withdraw(&closure->serve->readers, &closure->job)) {
        closure->freed = true;
        return;
    }
    closure->asked = false;
    if (!flow_close(&closure->flow)) {
        return;
    }
    walk_free(closure->walk);
    chunks_give(&closure->serve->chunks, closure->chunk);
    (void)ledger_memory_hold(closure->serve->shard->context->ledger, closure->account,
                             &closure->held, 0);
    free(closure);
}

static void ask(struct closure *closure);

/* A reader read ahead of what other requests have brought. */
static void on_closed(struct flow *flow)
{
    struct closure *closure = CONTAINER_OF(flow, struct closure, flow);
    if (closure->request.session == NULL) {
        closure_free(closure);
    } else {
        ask(closure);
    }
}

/* --- In a reader ------------------------------------------------------------------------------ */

/* Copies the body of the cap at hand to where it is sent from. */
static enum cap_error copy_body(struct closure *closure, struct cap_read *read, uint8_t *dst)
{
    const struct cap_hash *hash = &closure->cap.hash;
    struct cap_place place = {0};
    struct cap_info info;
    size_t len = (size_t)closure->cap.info.body_len;
    enum cap_error error = cap_store_locate(read, hash, &info, &place);
    if (error != CAP_OK || len == 0) {
        return error;
    }
    if (place.at != NULL && place.len == len) {
        return cap_store_take(read, hash, &place, dst);
    }
    return window_copy(closure->serve, read, hash, 0, len, dst, NULL);
}

/* Puts the head of the cap at hand, and `len` bytes that are behind it already. */
static void put_entry(struct closure *closure, size_t len)
{
    const struct walk_cap *cap = &closure->cap;
    const struct proto_entry entry = walk_entry(cap);
    proto_entry_encode(&entry, closure->chunk + closure->filled);
    closure->filled += PROTO_ENTRY_SIZE + len;
    closure->put++;
    closure->found = false;
    if (cap->error != CAP_OK && !cap_store_is_unserved(cap->error)) {
        closure->fault = cap->error;
        closure->fault_hash = cap->hash;
    }
}

/* The entry of the cap at hand. False: the chunk goes out before there is more. */
static bool put_next(struct closure *closure, struct cap_read *read)
{
    struct walk_cap *cap = &closure->cap;
    bool has_body = !closure->list && cap->error == CAP_OK;
    bool large = has_body && cap->info.body_len > CLOSURE_COPY;
    size_t len = has_body && !large ? (size_t)cap->info.body_len : 0;
    if (CHUNK_SIZE - closure->filled < PROTO_ENTRY_SIZE + len) {
        return false;
    }
    if (has_body && !large) {
        enum cap_error error =
            copy_body(closure, read, closure->chunk + closure->filled + PROTO_ENTRY_SIZE);
        if (error != CAP_OK && !walk_goes_on(error)) {
            closure->error = error;
            return false;
        }
        cap->error = error;
        len = error == CAP_OK ? len : 0;
    }
    put_entry(closure, len);
    closure->large = large;
    return !large && closure->fault == CAP_OK;
}

/* Some steps of the walk. False as at put_next. */
static bool walk_on(struct closure *closure, struct cap_read *read)
{
    enum walk_step step = WALK_CAP;
    size_t budget = CLOSURE_STEPS;
    if (!closure->found) {
        closure->error = walk_next(closure->walk, read, &budget, &step, &closure->cap);
        closure->found = closure->error == CAP_OK && step == WALK_CAP;
        closure->ended = closure->error == CAP_OK && step == WALK_END;
    }
    if (closure->error != CAP_OK || closure->ended) {
        return false;
    }
    return !closure->found || put_next(closure, read);
}

static bool on_walk(struct read_job *job)
{
    struct closure *closure = CONTAINER_OF(job, struct closure, job);
    const struct context *context = closure->serve->shard->context;
    uint64_t until = env_monotonic_us(context->env) + READERS_TURN_US;
    struct cap_read *read = NULL;
    closure->error = cap_store_read_begin(context->store, &read);
    bool more = closure->error == CAP_OK;
    while (more) {
        more = walk_on(closure, read) && !atomic_load(&job->withdrawn) &&
               env_monotonic_us(context->env) < until;
    }
    cap_store_read_end(read);
    /* A walk that has found nothing yet waits for another turn. */
    return closure->filled > 0 || closure->ended || closure->error != CAP_OK;
}

/* --- The answer ------------------------------------------------------------------------------- */

static void refuse(struct closure *closure, const struct cap_hash *hash, enum cap_error error)
{
    char message[SERVE_MESSAGE_SIZE];
    if (error == CAP_E_CLOSURE_TOO_LARGE || error == CAP_E_CANCELLED) {
        request_refuse(&closure->request, error, NULL, NULL);
    } else if (error == CAP_E_MEMORY_LIMIT) {
        char why[LEDGER_WHY_SIZE];
        ledger_why(closure->serve->shard->context->ledger, closure->account, LEDGER_MEMORY,
                   walk_memory(closure->walk), why);
        request_refuse(&closure->request, error, why, NULL);
    } else {
        serve_failed(closure->serve, hash, error, message);
        request_refuse(&closure->request, error, message, NULL);
    }
    closure_free(closure);
}

/* Has `len` bytes sent, behind the reply if they are the first. */
static void send_some(struct closure *closure, uint64_t len, bool more)
{
    struct cap_buf payload = {0};
    closure->stream.left = len;
    closure->stream.more = more;
    if (closure->replied) {
        request_resume(&closure->request, &closure->stream);
        return;
    }
    closure->replied = true;
    const struct proto_closure_reply reply = {.max = closure->max};
    enum cap_error encoded = proto_closure_reply_encode(&reply, &payload);
    request_stream(&closure->request, PROTO_CLOSURE_REPLY, encoded, &payload, &closure->stream);
}

/* The chunk is free: has a reader fill it. */
static void ask(struct closure *closure)
{
    closure->filled = closure->sent = closure->put = 0;
    closure->large = false;
    enum cap_error error = readers_submit(&closure->serve->readers, &closure->job);
    closure->asked = error == CAP_OK;
    if (error != CAP_OK) {
        refuse(closure, &closure->cap.hash, error);
    }
}

static void on_walk_done(struct read_job *job)
{
    struct closure *closure = CONTAINER_OF(job, struct closure, job);
    char message[SERVE_MESSAGE_SIZE];
    closure->asked = false;
    if (closure->freed) {
        closure_free(closure);
        return;
    }
    closure->serve->shard->stats.closure_caps += closure->put;
    if (closure->fault != CAP_OK) {
        serve_failed(closure->serve, &closure->fault_hash, closure->fault, message);
        closure->fault = CAP_OK;
    }
    if (closure->filled == 0 && closure->error != CAP_OK) {
        refuse(closure, &closure->cap.hash, closure->error);
    } else {
        send_some(closure, closure->filled, !closure->ended);
    }
}

static void on_ready(struct flow *flow)
{
    struct closure *closure = CONTAINER_OF(flow, struct closure, flow);
    request_resume(&closure->request, &closure->stream);
}

/* The chunk is out: what follows is the body of its last cap. */
static void send_large(struct closure *closure)
{
    struct flow *flow = &closure->flow;
    closure->large = false;
    flow->hash = closure->cap.hash;
    flow->body_len = flow->end = closure->cap.info.body_len;
    flow->offset = 0;
    flow_open(flow);
    send_some(closure, flow->body_len, true);
}

static enum stream_answer closure_window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                         int *ret_count)
{
    struct closure *closure = CONTAINER_OF(stream, struct closure, stream);
    if (closure->flow.open) {
        return flow_window(&closure->flow, stream, len, ret_iov, ret_count);
    }
    stream->lends = NULL;
    *ret_iov = (struct iovec){closure->chunk + closure->sent, len};
    *ret_count = 1;
    return STREAM_READY;
}

static void closure_sent(struct stream *stream, size_t len)
{
    struct closure *closure = CONTAINER_OF(stream, struct closure, stream);
    if (closure->flow.open) {
        flow_sent(&closure->flow, stream, len);
        return;
    }
    closure->sent += len;
    closure->serve->shard->stats.body_bytes_out += len;
}

/* The answer is complete. */
static void end(struct closure *closure)
{
    struct shard *shard = closure->serve->shard;
    histogram_add(&shard->stats.closure_us,
                  env_monotonic_us(shard->context->env) - closure->request.started_us);
    request_end(&closure->request);
    closure_free(closure);
}

static void closure_over(struct stream *stream, enum cap_error error)
{
    struct closure *closure = CONTAINER_OF(stream, struct closure, stream);
    if (error != CAP_OK) {
        const struct cap_hash hash = closure->flow.hash;
        refuse(closure, &hash, error);
    } else if (closure->error != CAP_OK) {
        refuse(closure, &closure->cap.hash, closure->error);
    } else if (!stream->more) {
        end(closure);
    } else if (closure->large) {
        send_large(closure);
    } else if (flow_close(&closure->flow)) {
        ask(closure);
    }
}

static const struct stream_class closure_stream = {
    .window = closure_window,
    .sent = closure_sent,
    .over = closure_over,
};

static void on_cancel(struct request *request)
{
    struct closure *closure = CONTAINER_OF(request, struct closure, request);
    request_cut(request, &closure->stream, CAP_E_CANCELLED);
}

static void on_detach(struct request *request)
{
    closure_free(CONTAINER_OF(request, struct closure, request));
}

static const struct request_class closure_request = {.cancel = on_cancel, .detach = on_detach};

/* --- The request ------------------------------------------------------------------------------ */

/* CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. */
static enum cap_error closure_new(struct serve *serve, const struct session *session,
                                  const struct proto_closure *asked, struct closure **ret_closure)
{
    const struct context *context = serve->shard->context;
    const struct walk_query query = {asked->roots, asked->have, context->config.closure_max};
    struct walk *walk = NULL;
    uint64_t held = 0;
    if (!ledger_memory_hold(context->ledger, session->account, &held,
                            sizeof(struct closure) + CHUNK_SIZE)) {
        return CAP_E_MEMORY_LIMIT;
    }
    struct closure *closure = malloc(sizeof(*closure));
    uint8_t *chunk = chunks_take(&serve->chunks);
    enum cap_error error = closure != NULL && chunk != NULL ? CAP_OK : CAP_E_NO_MEMORY;
    if (error == CAP_OK) {
        error = walk_new(context->ledger, session->account, &query, &walk);
    }
    if (error != CAP_OK) {
        free(closure);
        chunks_give(&serve->chunks, chunk);
        (void)ledger_memory_hold(context->ledger, session->account, &held, 0);
        return error;
    }
    *closure = (struct closure){
        .request = {.class = &closure_request},
        .stream = {.class = &closure_stream},
        .serve = serve,
        .account = session->account,
        .held = held,
        .max = (uint32_t)query.max,
        .list = (asked->flags & PROTO_CLOSURE_LIST) != 0,
        .chunk = chunk,
        .flow = {.serve = serve,
                 .account = session->account,
                 .ready = on_ready,
                 .closed = on_closed},
        .job = {.account = session->account, .run = on_walk, .done = on_walk_done},
        .walk = walk,
    };
    *ret_closure = closure;
    return CAP_OK;
}

const struct verdict *closure_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                    struct cap_bytes payload)
{
    struct serve *serve = room;
    struct proto_closure asked;
    struct closure *closure = NULL;
    enum cap_error error = proto_closure_decode(payload, &asked);
    if (error == CAP_OK &&
        (asked.roots.len + asked.have.len) / CAP_HASH_SIZE > session->limits.hashes) {
        error = CAP_E_TOO_MANY_HASHES;
    }
    if (error == CAP_OK) {
        error = closure_new(serve, session, &asked, &closure);
    }
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    closure->request.id = closure->stream.id = id;
    closure->request.type = type;
    const struct verdict *verdict = session_pending(session, &closure->request);
    ask(closure);
    return verdict;
}
