/*
 * Fetching.
 *
 * Happy path. A small body whose place is known (places.h) and in memory is loaded from there and
 * goes out at once, with its GET_REPLY, as messages. Another small body is copied by a reader, and
 * a larger cap without a record is looked up by one first. A larger body becomes a stream: whenever
 * its turn comes, a reader looks up the next window and reads it in, and the loop hands it to the
 * socket in place. Caps do not change, so the next window is of the same bytes. Of a body that is
 * fetched again the reader copies the window to the pieces (pieces.h), and whatever these have goes
 * out from there.
 *
 * Failure modes.
 *   - A place is stale or its page cannot be read: as if it were not known.
 *   - The cap or its window is not there, or cannot be read: the stream is over with the store's
 *     error; at a frame's beginning the client gets an ERROR that names the hash.
 *   - The window is not in memory any more when its turn comes: it is read in once more, and then
 *     sent in any case, so that a busy machine makes progress.
 *   - The socket is full for longer than a window is kept: it is dropped and asked for again.
 *   - Cancelled: at the next frame's end. The connection goes: a job that waits is withdrawn, what
 *     a reader has is freed when it comes back.
 */
#include "daemon/serve/fetch.h"

#include <stdlib.h>

#include "daemon/core/container.h"
#include "daemon/serve/resolve.h"
#include "daemon/serve/warm.h"
#include "daemon/serve/window.h"
#include "lib/cap/must.h"
#include "proto/message.h"

_Static_assert(PIECE_SIZE == WINDOW_PARTS * CAP_STORE_WINDOW, "a window makes a piece");

struct fetch {
    struct request request;
    struct stream stream;
    struct serve *serve;
    struct resolve resolve;
    struct proto_get get;
    uint64_t body_len;
    uint64_t offset; /* of the next byte to send */
    uint64_t end;

    struct window windows[2];
    struct window *now;  /* what is sent */
    struct window *next; /* what `job` reads: the first, or the one after `now` */
    struct read_job job;
    struct piece *piece; /* what `job` makes of `next`; NULL: it stays a window */
    bool piece_whole;
    enum cap_error next_error;
    bool waits; /* for `job` */
    bool asked; /* a reader has `resolve` or `job`, or they wait for one */
    bool freed; /* meanwhile */
    bool again; /* the window was read in, and was gone from memory when its turn came */
};

static struct fetch *fetch_of(struct stream *stream)
{
    return CONTAINER_OF(stream, struct fetch, stream);
}

static void end_piece(struct fetch *fetch, bool whole)
{
    if (fetch->piece != NULL) {
        piece_end(&fetch->serve->pieces, fetch->piece, whole);
        fetch->piece = NULL;
    }
}

/* Of a fetch whose request is off its session. */
static void fetch_free(struct fetch *fetch, struct read_job *job)
{
    if (fetch->asked && !readers_withdraw(&fetch->serve->readers, job)) {
        fetch->freed = true;
        return;
    }
    end_piece(fetch, false);
    window_drop(&fetch->windows[0]);
    window_drop(&fetch->windows[1]);
    free(fetch);
}

/* --- Windows ---------------------------------------------------------------------------------- */

/* In a reader. */
static bool on_read(struct read_job *job)
{
    struct fetch *fetch = CONTAINER_OF(job, struct fetch, job);
    fetch->next_error = window_read(fetch->next, &fetch->get.hash, fetch->next->offset,
                                    fetch->end - fetch->next->offset, job->hot ? WINDOW_PARTS : 1);
    fetch->piece_whole = fetch->next_error == CAP_OK && fetch->piece != NULL &&
                         fetch->next->len == fetch->piece->len &&
                         cap_store_copy(fetch->next->read, fetch->next->iov, fetch->next->count,
                                        fetch->piece->bytes) == CAP_OK;
    if (fetch->piece_whole) {
        window_unread(fetch->next);
    }
    return true;
}

static void on_read_done(struct read_job *job)
{
    struct fetch *fetch = CONTAINER_OF(job, struct fetch, job);
    struct serve *serve = fetch->serve;
    fetch->asked = false;
    if (fetch->next_error == CAP_OK) {
        struct record *record = records_find(&serve->records, &fetch->get.hash);
        if (record != NULL) {
            records_note(&serve->records, record, fetch->next->was_in_memory);
        }
        fetch->job.hot = fetch->next->was_in_memory;
        serve->shard->stats.cold_windows += fetch->next->was_in_memory ? 0 : 1;
    }
    if (fetch->next->read != NULL) {
        window_keep(fetch->next);
    }
    end_piece(fetch, fetch->piece_whole);
    if (fetch->freed) {
        fetch_free(fetch, job);
    } else if (fetch->waits) {
        fetch->waits = false;
        request_resume(&fetch->request, &fetch->stream);
    }
}

/* The piece that a window from `offset` would be; NULL: none, or it is not to be kept. */
static struct piece *begin_piece(struct fetch *fetch, uint64_t offset)
{
    uint64_t rest = fetch->body_len - offset;
    size_t len = rest < PIECE_SIZE ? (size_t)rest : PIECE_SIZE;
    if (!fetch->job.hot || offset % PIECE_SIZE != 0 || fetch->end - offset < len) {
        return NULL;
    }
    return pieces_begin(&fetch->serve->pieces, fetch->serve->shard->handover, &fetch->get.hash,
                        offset, len);
}

/* Has the next window read, from `offset`. */
static enum stream_answer ask(struct fetch *fetch, uint64_t offset)
{
    must(!fetch->asked); /* a reader has `next` otherwise */
    window_drop(fetch->next);
    fetch->next->offset = offset;
    fetch->piece = begin_piece(fetch, offset);
    enum cap_error error = readers_submit(&fetch->serve->readers, &fetch->job);
    if (error != CAP_OK) {
        end_piece(fetch, false);
        fetch->stream.error = fetch->next_error = error;
        return STREAM_FAILED;
    }
    fetch->asked = true;
    return STREAM_WAITS;
}

/* There is no window to send: takes the next one, or has it read. READY: it is `now`. */
static enum stream_answer take_next(struct fetch *fetch)
{
    if (fetch->asked) {
        return STREAM_WAITS;
    }
    if (fetch->next->offset != fetch->offset) {
        return ask(fetch, fetch->offset); /* what was before it had to be dropped */
    }
    if (fetch->next_error != CAP_OK) {
        fetch->stream.error = fetch->next_error;
        return STREAM_FAILED;
    }
    if (fetch->next->read == NULL) {
        return ask(fetch, fetch->offset);
    }
    struct window *taken = fetch->next;
    fetch->next = fetch->now;
    fetch->now = taken;
    return STREAM_READY;
}

/*
 * A body in memory is read ahead from `end`, where what is at hand ends, so that its stream does
 * not wait for a thread to look it up.
 */
static void read_ahead(struct fetch *fetch, uint64_t end)
{
    struct piece_part part;
    if (fetch->job.hot && !fetch->asked && fetch->next->read == NULL && end < fetch->end &&
        fetch->serve->window_count < WINDOWS_MAX / 2 &&
        !pieces_find(&fetch->serve->pieces, &fetch->get.hash, end, &part)) {
        (void)ask(fetch, end);
    }
}

/* --- The stream ------------------------------------------------------------------------------- */

/* The next bytes, if they are kept. Returns the loan of their memory, or NULL. */
static struct loan *find_piece(struct fetch *fetch, size_t len, struct iovec *ret_iov,
                               int *ret_count)
{
    struct piece_part part;
    if (fetch->now->read != NULL ||
        !pieces_find(&fetch->serve->pieces, &fetch->get.hash, fetch->offset, &part)) {
        return NULL;
    }
    *ret_iov = (struct iovec){part.bytes, part.len < len ? part.len : len};
    *ret_count = 1;
    return part.loan;
}

static enum stream_answer find_window(struct fetch *fetch, size_t len, struct iovec *ret_iov,
                                      int *ret_count)
{
    if (fetch->now->read == NULL) {
        enum stream_answer answer = take_next(fetch);
        if (answer != STREAM_READY) {
            return answer;
        }
    }
    window_spans(fetch->now, len, ret_iov, ret_count);
    if (!fetch->again &&
        !warm_is_resident(fetch->serve->shard->context->env, ret_iov, *ret_count)) {
        fetch->again = true;
        fetch->job.hot = false;
        window_drop(fetch->now);
        return fetch->asked ? STREAM_WAITS : ask(fetch, fetch->offset);
    }
    read_ahead(fetch, fetch->now->offset + fetch->now->len);
    return STREAM_READY;
}

static enum stream_answer fetch_window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                       int *ret_count)
{
    struct fetch *fetch = fetch_of(stream);
    serve_catch_up(fetch->serve);
    stream->lends = find_piece(fetch, len, ret_iov, ret_count);
    if (stream->lends != NULL) {
        return STREAM_READY;
    }
    enum stream_answer answer = find_window(fetch, len, ret_iov, ret_count);
    fetch->waits = answer == STREAM_WAITS;
    return answer;
}

static void fetch_sent(struct stream *stream, size_t len)
{
    struct fetch *fetch = fetch_of(stream);
    if (stream->lends == NULL) {
        window_sent(fetch->now, len);
    }
    fetch->offset += len;
    fetch->again = false;
    fetch->serve->shard->stats.body_bytes_out += len;
    if (stream->lends != NULL) {
        fetch->serve->shard->stats.body_bytes_kept += len;
        /* Only now: to make room for a piece ends others, and the one just sent may be among them.
         */
        read_ahead(fetch, (fetch->offset + PIECE_SIZE - 1) / PIECE_SIZE * PIECE_SIZE);
    }
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
    fetch_free(fetch, &fetch->job);
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
    fetch_free(fetch, &fetch->job);
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
    fetch->body_len = reply->body_len;
    fetch->offset = reply->offset;
    fetch->end = reply->offset + reply->len;
    fetch->stream = (struct stream){
        .class = &fetch_stream,
        .id = fetch->request.id,
        .left = reply->len,
    };
    fetch->now = &fetch->windows[0];
    fetch->next = &fetch->windows[1];
    fetch->now->serve = fetch->next->serve = fetch->serve;
    fetch->next->offset = reply->offset;
    fetch->job.account = fetch->resolve.job.account;
    fetch->job.hot = record->in_memory;
    fetch->job.run = on_read;
    fetch->job.done = on_read_done;
    request_stream(&fetch->request, PROTO_GET_REPLY, encoded, payload, &fetch->stream);
}

static void refuse(struct fetch *fetch, enum cap_error error)
{
    char message[SERVE_MESSAGE_SIZE];
    serve_failed(fetch->serve, &fetch->get.hash, error, message);
    request_refuse(&fetch->request, error, message, NULL);
    fetch_free(fetch, &fetch->resolve.job);
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
    fetch_free(fetch, &fetch->resolve.job);
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
        fetch_free(fetch, job);
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
    fetch_free(fetch, &fetch->resolve.job);
}

static void on_detach(struct request *request)
{
    struct fetch *fetch = CONTAINER_OF(request, struct fetch, request);
    fetch_free(fetch, &fetch->resolve.job);
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
