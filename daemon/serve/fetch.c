/*
 * Fetching.
 *
 * Happy path. A small body whose place is known (places.h) and in memory is loaded from there and
 * goes out at once, with its GET_REPLY, as messages. Another small body is copied by a reader, and
 * a larger cap without a record is looked up by one first. A larger body becomes a stream, whose
 * bytes are a flow's (flow.h).
 *
 * Failure modes.
 *   - A place is stale or its page cannot be read: as if it were not known.
 *   - The flow fails: the stream is over with the store's error; at a frame's beginning the client
 *     gets an ERROR that names the hash.
 *   - Cancelled: at the next frame's end. The connection goes: a job that waits is withdrawn, what
 *     a reader has is freed when it comes back.
 */
#include "daemon/serve/fetch.h"

#include <stdlib.h>

#include "daemon/core/container.h"
#include "daemon/serve/flow.h"
#include "daemon/serve/resolve.h"
#include "proto/message.h"

struct fetch {
    struct request request;
    struct stream stream;
    struct serve *serve;
    struct resolve resolve;
    struct proto_get get;
    struct flow flow; /* once the cap is known */
    bool asked;       /* a reader has `resolve`, or it waits for one */
    bool freed;       /* meanwhile */
};

static struct fetch *fetch_of(struct stream *stream)
{
    return CONTAINER_OF(stream, struct fetch, stream);
}

/* Of a fetch whose request is off its session. */
static void fetch_free(struct fetch *fetch)
{
    if (fetch->asked && !readers_withdraw(&fetch->serve->readers, &fetch->resolve.job)) {
        fetch->freed = true;
        return;
    }
    if (flow_close(&fetch->flow)) {
        free(fetch);
    }
}

/* --- The stream ------------------------------------------------------------------------------- */

static enum stream_answer fetch_window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                       int *ret_count)
{
    return flow_window(&fetch_of(stream)->flow, stream, len, ret_iov, ret_count);
}

static void fetch_sent(struct stream *stream, size_t len)
{
    flow_sent(&fetch_of(stream)->flow, stream, len);
}

static void on_ready(struct flow *flow)
{
    struct fetch *fetch = CONTAINER_OF(flow, struct fetch, flow);
    request_resume(&fetch->request, &fetch->stream);
}

static void on_closed(struct flow *flow)
{
    free(CONTAINER_OF(flow, struct fetch, flow));
}

static void count_fetch(struct serve *serve, uint64_t started_us)
{
    histogram_add(&serve->shard->stats.fetch_us,
                  env_monotonic_us(serve->shard->context->env) - started_us);
}

static void fetch_over(struct stream *stream, enum cap_error error)
{
    struct fetch *fetch = fetch_of(stream);
    struct request *request = &fetch->request;
    char message[SERVE_MESSAGE_SIZE];
    if (error == CAP_OK) {
        count_fetch(fetch->serve, request->started_us);
        request_end(request);
    } else if (error == CAP_E_CANCELLED) {
        request_refuse(request, error, NULL, NULL);
    } else {
        serve_failed(fetch->serve, &fetch->get.hash, error, message);
        request_refuse(request, error, message, NULL);
    }
    fetch_free(fetch);
}

static const struct stream_class fetch_stream = {
    .window = fetch_window,
    .sent = fetch_sent,
    .over = fetch_over,
};

static void on_cancel_stream(struct request *request)
{
    struct fetch *fetch = CONTAINER_OF(request, struct fetch, request);
    request_cut(request, &fetch->stream, CAP_E_CANCELLED);
}

static void on_detach_stream(struct request *request)
{
    struct fetch *fetch = CONTAINER_OF(request, struct fetch, request);
    fetch_free(fetch);
}

static const struct request_class stream_request = {
    .cancel = on_cancel_stream,
    .detach = on_detach_stream,
};

/* --- Looking the cap up ----------------------------------------------------------------------- */

/* What a known cap is answered with. CAP_E_RANGE_OUT_OF_BODY. */
static enum cap_error make_reply(const struct proto_get *get, uint8_t kind, uint64_t body_len,
                                 struct proto_get_reply *ret_reply)
{
    if (get->offset > body_len) {
        return CAP_E_RANGE_OUT_OF_BODY;
    }
    uint64_t rest = body_len - get->offset;
    *ret_reply = (struct proto_get_reply){
        .kind = kind,
        .body_len = body_len,
        .offset = get->offset,
        .len = get->len < rest ? get->len : rest,
    };
    return CAP_OK;
}

/* From here on the request is a stream. */
static void start_stream(struct fetch *fetch, const struct record *record,
                         const struct proto_get_reply *reply, enum cap_error encoded,
                         struct cap_buf *payload)
{
    fetch->request.class = &stream_request;
    fetch->stream = (struct stream){
        .class = &fetch_stream,
        .id = fetch->request.id,
        .left = reply->len,
    };
    fetch->flow = (struct flow){
        .serve = fetch->serve,
        .account = fetch->resolve.job.account,
        .hash = fetch->get.hash,
        .body_len = reply->body_len,
        .offset = reply->offset,
        .end = reply->offset + reply->len,
        .hot = record->in_memory,
        .ready = on_ready,
        .closed = on_closed,
    };
    flow_open(&fetch->flow);
    request_stream(&fetch->request, PROTO_GET_REPLY, encoded, payload, &fetch->stream);
}

static void refuse(struct fetch *fetch, enum cap_error error)
{
    char message[SERVE_MESSAGE_SIZE];
    serve_failed(fetch->serve, &fetch->get.hash, error, message);
    request_refuse(&fetch->request, error, message, NULL);
    fetch_free(fetch);
}

/* The cap is known, and its body goes out from `body`; NULL: as a stream. */
static void answer(struct fetch *fetch, const struct record *record, const uint8_t *body)
{
    struct serve *serve = fetch->serve;
    struct cap_buf payload = {0};
    struct proto_get_reply reply;
    enum cap_error error =
        make_reply(&fetch->get, (uint8_t)record->info.kind, record->info.body_len, &reply);
    if (error != CAP_OK) {
        refuse(fetch, error);
        return;
    }
    enum cap_error encoded = proto_get_reply_encode(&reply, &payload);
    if (body == NULL) {
        start_stream(fetch, record, &reply, encoded, &payload);
        return;
    }
    serve->shard->stats.body_bytes_out += reply.len;
    count_fetch(serve, fetch->request.started_us);
    const struct cap_bytes part = {body + reply.offset, (size_t)reply.len};
    request_answer(&fetch->request, PROTO_GET_REPLY, encoded, &payload, &part);
    fetch_free(fetch);
}

static void remember_place(struct serve *serve, const struct record *record,
                           const struct cap_place *place, const uint8_t *body)
{
    places_add(&serve->places, &record->hash, record->info.kind, place, body,
               env_monotonic_us(serve->shard->context->env));
}

/* Keeps what a reader found, if it found the cap: the place of a small body, else the record. */
static void remember(struct serve *serve, uint64_t epoch, struct record *record,
                     const struct cap_place *place, uint8_t *body)
{
    bool may = serve_may_remember(serve, epoch);
    if (record != NULL && body == NULL && may) {
        records_add(&serve->records, record);
        return;
    }
    if (record != NULL && may) {
        remember_place(serve, record, place, body);
    }
    free(record);
    free(body);
}

static void on_resolved(struct read_job *job)
{
    struct resolve *resolve = CONTAINER_OF(job, struct resolve, job);
    struct fetch *fetch = CONTAINER_OF(resolve, struct fetch, resolve);
    struct serve *serve = fetch->serve;
    struct record *record = resolve->record;
    uint8_t *body = resolve->body;
    const struct cap_place place = resolve->place;
    uint64_t epoch = resolve->epoch;
    fetch->asked = false;
    serve->shard->stats.cold_windows += resolve->was_cold ? 1 : 0;
    if (fetch->freed) {
        fetch_free(fetch);
    } else if (record == NULL) {
        refuse(fetch, resolve->error);
    } else {
        answer(fetch, record, body);
    }
    remember(serve, epoch, record, &place, body); /* `fetch` may be gone */
}

static void on_cancel(struct request *request)
{
    struct fetch *fetch = CONTAINER_OF(request, struct fetch, request);
    request_refuse(request, CAP_E_CANCELLED, NULL, NULL);
    fetch_free(fetch);
}

static void on_detach(struct request *request)
{
    struct fetch *fetch = CONTAINER_OF(request, struct fetch, request);
    fetch_free(fetch);
}

static const struct request_class resolve_request = {.cancel = on_cancel, .detach = on_detach};

/* --- The request ------------------------------------------------------------------------------ */

/* Answers with a body that was loaded. */
static const struct verdict *answer_at_once(struct serve *serve, struct session *session,
                                            uint32_t id, const struct proto_get *get,
                                            const struct place *place, const uint8_t *body)
{
    struct cap_buf payload = {0};
    struct proto_get_reply reply;
    char message[SERVE_MESSAGE_SIZE];
    enum cap_error error = make_reply(get, (uint8_t)place->kind, place->len, &reply);
    if (error != CAP_OK) {
        serve_failed(serve, &get->hash, error, message);
        return session_refuse(session, id, PROTO_GET, error, message);
    }
    serve->shard->stats.records_used++;
    serve->shard->stats.body_bytes_out += reply.len;
    count_fetch(serve, session->asked_us);
    enum cap_error encoded = proto_get_reply_encode(&reply, &payload);
    const struct cap_bytes part = {body + reply.offset, (size_t)reply.len};
    return session_reply(session, PROTO_GET_REPLY, id, encoded, &payload, &part);
}

void fetch_ahead(void *room, const struct cap_bytes *payloads, size_t count)
{
    const struct serve *serve = room;
    struct proto_get gets[ROUTE_AHEAD];
    size_t sound = 0;
    for (size_t i = 0; i < count; i++) {
        if (proto_get_decode(payloads[i], &gets[sound]) == CAP_OK) {
            places_expect(&serve->places, &gets[sound++].hash);
        }
    }
    for (size_t i = 0; sound > 1 && i < sound; i++) { /* one alone has none to overlap with */
        places_expect_body(&serve->places, &gets[i].hash);
    }
}

const struct verdict *fetch_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload)
{
    struct serve *serve = room;
    struct proto_get get;
    enum cap_error error = proto_get_decode(payload, &get);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    serve_catch_up(serve);
    uint8_t body[PLACES_BODY_MAX];
    struct place *place = serve_find_place(serve, &get.hash);
    if (place != NULL && serve_load(serve, place, &get.hash, session->asked_us, body)) {
        return answer_at_once(serve, session, id, &get, place, body);
    }
    struct fetch *fetch = calloc(1, sizeof(*fetch));
    if (fetch == NULL) {
        return session_refuse(session, id, type, CAP_E_NO_MEMORY, NULL);
    }
    fetch->serve = serve;
    fetch->get = get;
    resolve_init(&fetch->resolve, serve, session->account, &get.hash, true, on_resolved);
    fetch->request = (struct request){
        .class = &resolve_request,
        .size = sizeof(*fetch),
        .id = id,
        .type = type,
    };
    const struct verdict *verdict = session_pending(session, &fetch->request);
    const struct record *record = serve_find_record(serve, &get.hash);
    if (record != NULL && record->info.body_len > PLACES_BODY_MAX) {
        serve->shard->stats.records_used++;
        answer(fetch, record, NULL);
        return verdict;
    }
    serve->shard->stats.records_missed++;
    fetch->asked = true;
    error = readers_submit(&serve->readers, &fetch->resolve.job);
    if (error != CAP_OK) {
        fetch->asked = false;
        refuse(fetch, error);
    }
    return verdict;
}
