/*
 * One connection.
 *
 * Happy path. The socket is readable: bytes are received into the buffer that all sessions share,
 * the frame reader cuts them, messages become requests (dispatch.c), pieces of bodies go to their
 * uploads. Then the output is pumped, before the loop
 * goes on. A turn is bounded: what is received but not handled waits in `leftover`.
 *
 * Failure modes.
 *   - The client breaks the protocol, or is idle, or makes no progress: session_fail.
 *   - It closes or resets: session_close; its requests are detached and end by themselves.
 *   - It does not take answers: nothing more is read from it, until the progress time is over.
 *   - Its uploads have no room (the disk is slow): it is paused; sessions_resume goes on.
 *   - There is no memory for its buffers beyond its floor: it is not read until there is, and
 *     closed after the progress time.
 */
#include "daemon/net/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/core/must.h"
#include "daemon/net/dispatch.h"
#include "daemon/net/stray.h"
#include "proto/message.h"

#define TURN_RECEIVES 4
#define LINGER_US     UINT64_C(1000000)
#define LEFTOVER_KEEP (4u << 10)
#define CHARGE_STEP   (16u << 10) /* bytes: so that the ledger is not asked for every message */

static void on_poll(uv_poll_t *poll, int status, int events);

static uint64_t now_of(const struct session *session)
{
    return env_monotonic_us(session->context->env);
}

/* --- Life
 * ----------------------------------------------------------------------------------------- */

static void link_session(struct hub *hub, struct session *session)
{
    session->next = hub->sessions;
    if (hub->sessions != NULL) {
        hub->sessions->prev = session;
    }
    hub->sessions = session;
    hub->session_count++;
    session->number = ++hub->last_session;
}

static void unlink_session(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->prev != NULL) {
        session->prev->next = session->next;
    } else {
        hub->sessions = session->next;
    }
    if (session->next != NULL) {
        session->next->prev = session->prev;
    }
    hub->session_count--;
}

enum cap_error session_new(struct hub *hub, int fd, const struct peer *peer,
                           struct ledger_peer *account)
{
    struct session *session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return CAP_E_NO_MEMORY;
    }
    session->hub = hub;
    session->shard = hub->shard;
    session->context = hub->shard->context;
    if (uv_poll_init(&session->shard->loop, &session->poll, fd) != 0) {
        free(session);
        return CAP_E_NO_MEMORY;
    }
    session->poll.data = session;
    session->fd = fd;
    session->peer = *peer;
    session->account = account;
    session->connected_us = env_real_us(session->context->env);
    session->asked_us = session->input_us = session->output_us = now_of(session);
    session->remainders.output = &session->output;
    proto_reader_init(&session->reader, PROTO_FRAME_MAX);
    link_session(hub, session);
    session->shard->stats.connections++;
    log_event(&session->context->log, LOG_LEVEL_DEBUG, log_name("session_opened"),
              log_number("session", session->number), log_text("peer", session->peer.text));
    session_update(session);
    return CAP_OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct session *session = handle->data;
    proto_reader_free(&session->reader);
    cap_buf_free(&session->leftover);
    output_free(&session->output);
    free(session);
}

static void detach_requests(struct session *session, const struct request *keep)
{
    struct request *request = session->requests;
    struct request *kept = NULL;
    while (request != NULL) {
        struct request *next = request->next;
        if (request == keep) {
            kept = request;
            kept->next = NULL;
        } else {
            ledger_request_end(session->context->ledger, session->account);
            request->session = NULL;
            request->class->detach(request);
        }
        request = next;
    }
    session->requests = kept;
    session->request_count = kept == NULL ? 0 : 1;
    session->request_bytes = kept == NULL ? 0 : kept->size;
}

void session_close(struct session *session)
{
    struct context *context = session->context;
    if (session->phase == SESSION_CLOSED) {
        return;
    }
    session->phase = SESSION_CLOSED;
    log_event(&context->log, LOG_LEVEL_DEBUG, log_name("session_closed"),
              log_number("session", session->number), log_number("bytes_in", session->bytes_in),
              log_number("bytes_out", session->bytes_out));
    output_drop_streams(&session->output, false);
    detach_requests(session, NULL);
    remainders_drop(&session->remainders, false);
    unlink_session(session);
    (void)ledger_memory_hold(context->ledger, session->account, &session->held, 0);
    ledger_disconnect(context->ledger, session->account);
    uv_close((uv_handle_t *)&session->poll, on_closed);
    close(session->fd);
}

/* --- Sending ---------------------------------------------------------------------------------- */

/* A client that cannot be answered must not wait: an error ends the session. */
static void check_sent(struct session *session, enum cap_error error)
{
    if (error != CAP_OK) {
        session->phase = session->phase == SESSION_CLOSED ? SESSION_CLOSED : SESSION_LINGERING;
        session->deadline_us = 0;
    }
}

static void send_message(struct session *session, uint8_t type, uint32_t id, enum cap_error encoded,
                         struct cap_buf *payload)
{
    enum cap_error error = encoded;
    if (error == CAP_OK) {
        error = output_message(&session->output, type, id, cap_buf_bytes(payload));
    }
    cap_buf_free(payload);
    check_sent(session, error);
}

static void send_error(struct session *session, uint32_t id, enum cap_error error,
                       const char *message, uint64_t detail_len)
{
    struct cap_buf payload = {0};
    const char *name = cap_error_name(error);
    size_t len = strlen(message);
    const struct proto_error m = {
        .code = (uint16_t)-error,
        .name = {(const uint8_t *)name, strlen(name)},
        .message = {(const uint8_t *)message, len < PROTO_TEXT_MAX ? len : PROTO_TEXT_MAX},
        .detail_len = detail_len,
    };
    enum cap_error encoded = proto_error_encode(&m, &payload);
    send_message(session, PROTO_ERROR, id, encoded, &payload);
}

/* The request whose stream has a frame under way, which must be completed. */
static const struct request *current_request(const struct session *session)
{
    const struct stream *stream = session->output.current;
    for (const struct request *at = session->requests; stream != NULL && at != NULL;
         at = at->next) {
        if (at->id == stream->id) {
            return at;
        }
    }
    return NULL;
}

void session_fail(struct session *session, uint32_t id, enum cap_error error, const char *message)
{
    if (session->phase >= SESSION_FAILED) {
        return;
    }
    message = message == NULL ? cap_error_text(error) : message;
    if (error == CAP_E_IDLE_TIMEOUT) {
        /* A client that is quiet has done nothing wrong. */
        session->shard->stats.connections_idle++;
        log_event(&session->context->log, LOG_LEVEL_DEBUG, log_name("session_idle"),
                  log_number("session", session->number));
    } else {
        shard_refused(session->shard, session->number, &session->peer, "connection", error,
                      message);
    }
    send_error(session, id, error, message, 0);
    session->phase = SESSION_FAILED;
    session->deadline_us = now_of(session) + LINGER_US;
    session->leftover.len = session->leftover_at = 0;
    output_drop_streams(&session->output, true);
    detach_requests(session, current_request(session));
    remainders_drop(&session->remainders, true);
    if (session->output.current != NULL) {
        output_end(&session->output, session->output.current, CAP_E_CANCELLED);
    }
}

/* --- Verdicts and answers --------------------------------------------------------------------- */

struct verdict {
    char nothing;
};

static const struct verdict *dealt_with(struct session *session)
{
    static const struct verdict verdict;
    session->verdicts++;
    return &verdict;
}

const struct verdict *session_reply(struct session *session, uint8_t type, uint32_t id,
                                    enum cap_error encoded, struct cap_buf *payload)
{
    send_message(session, type, id, encoded, payload);
    return dealt_with(session);
}

const struct verdict *session_reply_body(struct session *session, uint8_t type, uint32_t id,
                                         enum cap_error encoded, struct cap_buf *payload,
                                         struct cap_bytes body)
{
    send_message(session, type, id, encoded, payload);
    check_sent(session, output_body(&session->output, id, body));
    return dealt_with(session);
}

/* Sends an ERROR, and leaves what has to be left of its request. Takes the detail over. */
static void refuse(struct session *session, uint32_t id, uint8_t type, enum cap_error error,
                   const char *message, bool body_open, struct cap_buf *detail)
{
    if (session->phase >= SESSION_FAILED) {
        cap_buf_free(detail);
        return;
    }
    message = message == NULL ? cap_error_text(error) : message;
    shard_refused(session->shard, session->number, &session->peer, proto_type_name(type), error,
                  message);
    send_error(session, id, error, message, detail->len);
    if (remainder_add(&session->remainders, id, body_open, detail) != CAP_OK) {
        session_fail(session, 0, CAP_E_NO_MEMORY, NULL);
    }
}

const struct verdict *session_refuse(struct session *session, uint32_t id, uint8_t type,
                                     enum cap_error error, const char *message)
{
    const struct route *route = hub_route(session->hub, type);
    bool has_body = route != NULL && route->has_body;
    struct cap_buf none = {0};
    if (has_body && session->remainders.open >= session->context->config.max_requests) {
        session_fail(session, 0, CAP_E_TOO_MANY_REQUESTS, "too many refused uploads are left open");
    } else {
        refuse(session, id, type, error, message, has_body, &none);
    }
    return dealt_with(session);
}

const struct verdict *session_pending(struct session *session, struct request *request)
{
    request->shard = session->shard;
    request->session = session;
    request->next = session->requests;
    request->started_us = request->moved_us = now_of(session);
    session->requests = request;
    session->request_count++;
    session->request_bytes += request->size;
    ledger_request_begin(session->context->ledger, session->account);
    session->asked_us = request->started_us;
    return dealt_with(session);
}

/* Takes a request off its session, which is returned. */
static struct session *take_off(struct request *request)
{
    struct session *session = request->session;
    struct request **at = &session->requests;
    while (*at != request) {
        must(*at != NULL);
        at = &(*at)->next;
    }
    *at = request->next;
    session->request_count--;
    session->request_bytes -= request->size;
    ledger_request_end(session->context->ledger, session->account);
    session->asked_us = now_of(session);
    request->session = NULL;
    return session;
}

void request_answer(struct request *request, uint8_t type, enum cap_error encoded,
                    struct cap_buf *payload)
{
    if (request->session == NULL) {
        cap_buf_free(payload);
        return;
    }
    must(!request->body_open);
    struct session *session = take_off(request);
    send_message(session, type, request->id, encoded, payload);
    session_update(session);
}

void request_answer_body(struct request *request, uint8_t type, enum cap_error encoded,
                         struct cap_buf *payload, struct cap_bytes body)
{
    if (request->session == NULL) {
        cap_buf_free(payload);
        return;
    }
    must(!request->body_open);
    struct session *session = take_off(request);
    send_message(session, type, request->id, encoded, payload);
    check_sent(session, output_body(&session->output, request->id, body));
    session_update(session);
}

void request_refuse(struct request *request, enum cap_error error, const char *message,
                    struct cap_buf *detail)
{
    struct cap_buf none = {0};
    detail = detail == NULL ? &none : detail;
    if (request->session == NULL) {
        cap_buf_free(detail);
        return;
    }
    struct session *session = take_off(request);
    refuse(session, request->id, request->type, error, message, request->body_open, detail);
    session_update(session);
}

void request_stream(struct request *request, uint8_t type, enum cap_error encoded,
                    struct cap_buf *payload, struct stream *stream)
{
    struct session *session = request->session;
    if (session == NULL) {
        cap_buf_free(payload);
        return;
    }
    send_message(session, type, request->id, encoded, payload);
    output_add(&session->output, stream);
    session_update(session);
}

void request_end(struct request *request)
{
    if (request->session != NULL) {
        session_update(take_off(request));
    }
}

void request_resume(struct request *request, struct stream *stream)
{
    if (request->session != NULL) {
        output_resume(&request->session->output, stream);
        session_update(request->session);
    }
}

void request_cut(struct request *request, struct stream *stream, enum cap_error error)
{
    struct session *session = request->session;
    if (session != NULL) {
        output_end(&session->output, stream, error);
        session_update(session);
    }
}

size_t session_requests(const struct session *session)
{
    return session->request_count + session->remainders.count;
}

/* --- Receiving
 * ------------------------------------------------------------------------------------ */

static struct request *request_find(const struct session *session, uint32_t id)
{
    struct request *request = session->requests;
    while (request != NULL && request->id != id) {
        request = request->next;
    }
    return request;
}

static void handle_body(struct session *session, const struct proto_event *event)
{
    struct request *request = request_find(session, event->frame.id);
    struct remainder *remainder = remainder_find(&session->remainders, event->frame.id);
    if (request != NULL && request->body_open) {
        if (event->bytes.len > 0) {
            request->moved_us = session->input_us;
        }
        request->body_open = !event->end;
        request->class->body(request, event->bytes, event->end);
    } else if (remainder == NULL || !remainder_body(remainder, event->end)) {
        session_fail(session, event->frame.id, CAP_E_BAD_FRAME,
                     "a BODY frame for a request that expects none");
    } else if (event->end) {
        session->asked_us = now_of(session);
    }
}

static void handle_cancel(struct session *session, const struct proto_event *event)
{
    struct request *request = request_find(session, event->frame.id);
    struct remainder *remainder = remainder_find(&session->remainders, event->frame.id);
    if (event->bytes.len > 0 || event->frame.id == 0) {
        session_fail(session, event->frame.id, CAP_E_BAD_FRAME, "a CANCEL with a payload or id 0");
        return;
    }
    session->shard->stats.requests[PROTO_CANCEL]++;
    if (request != NULL) {
        request->body_open = false;
        request->class->cancel(request);
    } else if (remainder != NULL) {
        remainder_cancel(remainder);
        session->asked_us = now_of(session);
    }
}

static void handle_event(struct session *session, const struct proto_event *event)
{
    if (session->phase == SESSION_HELLO) {
        dispatch_hello(session, event);
    } else if (event->frame.type == PROTO_BODY) {
        handle_body(session, event);
    } else if (event->frame.type == PROTO_CANCEL) {
        handle_cancel(session, event);
    } else {
        uint32_t id = event->frame.id;
        dispatch_request(session, event,
                         request_find(session, id) != NULL ||
                             remainder_find(&session->remainders, id) != NULL);
    }
}

/*
 * Counts the memory that the session holds beyond its floor. Where there is no room for it, it is
 * counted all the same, but nothing more is read until there is (session_tick looks again): what a
 * session holds past its floor without room is what came of one piece of input. `leftover` is not
 * counted: it is one receive at most, and must be handled for the rest to be freed.
 */
static void charge(struct session *session)
{
    struct ledger *ledger = session->context->ledger;
    uint64_t bytes = session->reader.message.capacity + session->output.messages.capacity +
                     session->request_bytes + session->remainders.bytes;
    uint64_t over = bytes > SESSION_FLOOR ? bytes - SESSION_FLOOR : 0;
    uint64_t wanted = (over + CHARGE_STEP - 1) / CHARGE_STEP * CHARGE_STEP;
    bool starved = session->starved;
    if (starved) {
        (void)ledger_memory_hold(ledger, session->account, &session->held, 0);
    }
    session->starved = !ledger_memory_hold(ledger, session->account, &session->held, wanted);
    if (session->starved) {
        ledger_memory_count(ledger, session->account, &session->held, wanted);
        session->starved_us = starved ? session->starved_us : now_of(session);
    }
}

/* How many bytes may be handled now: what every upload could take. */
static size_t input_room(const struct session *session)
{
    size_t room = SIZE_MAX;
    if (session->starved) {
        return 0;
    }
    for (struct request *at = session->requests; at != NULL; at = at->next) {
        if (!at->body_open || at->class->room == NULL) {
            continue;
        }
        size_t own = at->class->room(at);
        room = own < room ? own : room;
    }
    if (room != SIZE_MAX &&
        !ledger_buffer_room(session->context->ledger, session->account, SESSION_INPUT)) {
        return 0;
    }
    return room;
}

/* Whether more may be handled: the phase, the answers that wait, the turn's time. */
static bool may_handle(const struct session *session, uint64_t until)
{
    return session->phase <= SESSION_OPEN && !session->starved &&
           output_waiting(&session->output) < session->context->config.max_output &&
           now_of(session) < until;
}

/* Handles bytes from the front of *input as far as this turn goes. */
static void handle_input(struct session *session, struct cap_bytes *input, uint64_t until)
{
    while (input->len > 0 && may_handle(session, until)) {
        struct proto_event event;
        bool have = false;
        size_t room = input_room(session);
        size_t len = room < input->len ? room : input->len;
        struct cap_bytes slice = {input->data, len};
        if (len == 0) {
            return;
        }
        enum cap_error error = proto_reader_next(&session->reader, &slice, &event, &have);
        *input = cap_bytes_slice(*input, len - slice.len, input->len - (len - slice.len));
        if (error != CAP_OK) {
            session_fail(session, session->reader.frame.id, error, NULL);
        } else if (have) {
            handle_event(session, &event);
        }
        if (session->phase <= SESSION_OPEN) {
            charge(session);
        }
    }
}

/* Keeps what a turn did not handle. False: there is no memory, and the session is closed. */
static bool keep_leftover(struct session *session, struct cap_bytes rest)
{
    if (session->phase > SESSION_OPEN || rest.len == 0) {
        return true;
    }
    if (cap_buf_append(&session->leftover, rest.data, rest.len) != CAP_OK) {
        session_close(session);
        return false;
    }
    return true;
}

/* Handles leftover input. True when none is left. */
static bool handle_leftover(struct session *session, uint64_t until)
{
    struct cap_buf *leftover = &session->leftover;
    if (leftover->len == 0) {
        return true;
    }
    struct cap_bytes rest = {leftover->data + session->leftover_at,
                             leftover->len - session->leftover_at};
    handle_input(session, &rest, until);
    if (session->phase > SESSION_OPEN || rest.len == 0) {
        leftover->len = session->leftover_at = 0;
        if (leftover->capacity > LEFTOVER_KEEP) {
            cap_buf_free(leftover);
        }
        return true;
    }
    session->leftover_at = leftover->len - rest.len;
    return false;
}

/* One receive and what follows from it. False: nothing more this turn. */
static bool receive(struct session *session, uint64_t until)
{
    size_t room = session->phase <= SESSION_OPEN ? input_room(session) : SESSION_INPUT;
    size_t most = round_receive(&session->hub->round);
    size_t len = room < most ? room : most;
    if (len == 0) {
        return false;
    }
    ssize_t n = recv(session->fd, session->hub->input, len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return false;
    }
    if (n <= 0) {
        session_close(session);
        return false;
    }
    session->bytes_in += (uint64_t)n;
    session->input_us = now_of(session);
    session->shard->stats.bytes_in += (uint64_t)n;
    struct cap_bytes input = {session->hub->input, (size_t)n};
    if (session->bytes_in == (uint64_t)n && stray_is_json(input)) {
        stray_refuse(session->fd);
        shard_refused(session->shard, session->number, &session->peer, "connection",
                      CAP_E_BAD_FRAME, STRAY_MESSAGE);
        session_close(session);
        return false;
    }
    handle_input(session, &input, until);
    return keep_leftover(session, input) && session->phase != SESSION_CLOSED &&
           session->leftover.len == 0 && (size_t)n == len && now_of(session) < until;
}

static void end_turn(struct session *session)
{
    struct request *request = session->requests;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->class->turn != NULL) {
            request->class->turn(request);
        }
        request = next;
    }
}

/* Reads and handles within the bounds of a turn. */
static void read_turn(struct session *session)
{
    session->busy = true;
    uint64_t until = round_turn_end(&session->hub->round);
    if (handle_leftover(session, until)) {
        for (int i = 0; i < TURN_RECEIVES && receive(session, until); i++) {
        }
    }
    if (session->phase != SESSION_CLOSED) {
        end_turn(session);
    }
    session->busy = false;
}

/* --- Polling
 * -------------------------------------------------------------------------------------- */

/* Sends what the socket takes. */
static void pump(struct session *session)
{
    uint64_t sent = 0;
    if (!session->sending) {
        session->output_us = now_of(session);
    }
    uint64_t most = round_send(&session->hub->round);
    enum pump_result result = output_pump(&session->output, session->fd, most, &sent);
    session->bytes_out += sent;
    session->shard->stats.bytes_out += sent;
    session->sending = output_wants(&session->output);
    if (sent > 0) {
        session->output_us = now_of(session);
    }
    if (result == PUMP_LOST) {
        session_close(session);
    }
}

/* A failed session whose last frames are out waits for the client to close. */
static void maybe_linger(struct session *session)
{
    if (session->phase == SESSION_FAILED && !output_wants(&session->output) &&
        !session->output.waits) {
        session->phase = SESSION_LINGERING;
        (void)shutdown(session->fd, SHUT_WR);
    }
}

static int wanted_events(struct session *session)
{
    int events = output_wants(&session->output) ? UV_WRITABLE : 0;
    bool full = output_waiting(&session->output) >= session->context->config.max_output;
    session->paused = session->phase <= SESSION_OPEN && input_room(session) == 0;
    if (session->phase >= SESSION_FAILED ||
        (!full && !session->paused && session->leftover.len == 0)) {
        events |= UV_READABLE;
    }
    return events;
}

/* Whether leftover input could be handled now. */
static bool has_turn(const struct session *session)
{
    return session->phase <= SESSION_OPEN && session->leftover.len > 0 && !session->paused &&
           output_waiting(&session->output) < session->context->config.max_output;
}

static void poll_for(struct session *session, int events)
{
    if (events == session->events) {
        return;
    }
    session->events = events;
    if (events == 0) {
        (void)uv_poll_stop(&session->poll);
    } else {
        (void)uv_poll_start(&session->poll, events, on_poll);
    }
}

static void update(struct session *session)
{
    if (output_wants(&session->output)) {
        pump(session);
    }
    if (session->phase == SESSION_CLOSED) {
        return;
    }
    charge(session);
    maybe_linger(session);
    if (session->context->phase == PHASE_DRAINING) {
        session_drain(session);
    }
    int events = wanted_events(session);
    if (has_turn(session)) {
        hub_turn_soon(session->hub);
    }
    poll_for(session, events);
}

void session_update(struct session *session)
{
    if (session->phase == SESSION_CLOSED || session->busy) {
        return;
    }
    session->busy = true;
    update(session);
    session->busy = false;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct session *session = poll->data;
    if (status < 0) {
        session_close(session);
        return;
    }
    round_turn(&session->hub->round);
    if ((events & UV_READABLE) != 0) {
        read_turn(session);
    }
    session_update(session);
}

bool session_turn(struct session *session)
{
    if (!has_turn(session)) {
        return false;
    }
    round_turn(&session->hub->round);
    read_turn(session);
    session_update(session);
    return has_turn(session);
}

/* --- Time
 * ----------------------------------------------------------------------------------------- */

static void tick_requests(struct session *session, uint64_t now)
{
    struct request *request = session->requests;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->class->tick != NULL) {
            request->class->tick(request, now, session->paused || session->starved);
        }
        request = next;
    }
}

static bool has_half_frame(const struct session *session)
{
    return session->reader.header_filled > 0 && !session->reader.delivered && !session->paused &&
           session->leftover.len == 0;
}

/* Where nothing is under way but bodies that were refused, the session is idle too. */
static bool is_idle(const struct session *session)
{
    return session->request_count == 0 && session->remainders.sending == 0;
}

/* How long ago `then` was; 0 where the tick itself has moved it. */
static uint64_t passed(uint64_t now, uint64_t then)
{
    return now > then ? now - then : 0;
}

/* When a request last came or its answer last moved. */
static uint64_t last_asked(const struct session *session)
{
    return session->asked_us > session->output_us ? session->asked_us : session->output_us;
}

static void tick_open(struct session *session, uint64_t now)
{
    const struct config *config = &session->context->config;
    uint64_t progress = config->progress_ms * 1000;
    uint64_t idle = config->idle_ms * 1000;
    uint64_t hello = config->hello_ms * 1000;
    tick_requests(session, now);
    if (session->phase == SESSION_HELLO && hello > 0 && passed(now, session->asked_us) > hello) {
        session_fail(session, 0, CAP_E_HELLO_TIMEOUT, NULL);
    } else if (progress > 0 && session->starved && passed(now, session->starved_us) > progress) {
        char why[LEDGER_WHY_SIZE];
        ledger_why(session->context->ledger, session->account, LEDGER_MEMORY, 1, why);
        session_fail(session, 0, CAP_E_MEMORY_LIMIT, why);
    } else if (progress > 0 && session->sending && passed(now, session->output_us) > progress) {
        session_fail(session, 0, CAP_E_PROGRESS_TIMEOUT, "the client takes no bytes");
    } else if (progress > 0 && has_half_frame(session) &&
               passed(now, session->input_us) > progress) {
        session_fail(session, 0, CAP_E_PROGRESS_TIMEOUT, "a frame stayed incomplete for too long");
    } else if (idle > 0 && is_idle(session) && passed(now, last_asked(session)) > idle) {
        session_fail(session, 0, CAP_E_IDLE_TIMEOUT, NULL);
    }
}

void session_tick(struct session *session, uint64_t now)
{
    enum session_phase phase = session->phase;
    size_t waiting = output_waiting(&session->output);
    if (session->phase <= SESSION_OPEN) {
        session->busy = true;
        tick_open(session, now);
        session->busy = false;
    } else if (session->phase < SESSION_CLOSED && now >= session->deadline_us) {
        session_close(session);
    }
    /* There may be many sessions: only those that the clock changed cost more than a look. */
    if (session->phase != phase || output_waiting(&session->output) != waiting ||
        session->starved) {
        session_update(session);
    }
}

void session_drain(struct session *session)
{
    if (session->phase <= SESSION_OPEN && is_idle(session) && !output_wants(&session->output)) {
        session_fail(session, 0, CAP_E_DRAINING, NULL);
    }
}

void session_describe(const struct session *session, struct client *ret_client)
{
    uint64_t now = now_of(session);
    uint64_t moved =
        session->input_us > session->output_us ? session->input_us : session->output_us;
    struct client client = {
        .session = session->number,
        .peer = session->peer,
        .connected_us = session->connected_us,
        .idle_ms = (now - moved) / 1000,
        .requests = session_requests(session),
        .bytes_in = session->bytes_in,
        .bytes_out = session->bytes_out,
        .output_bytes = output_waiting(&session->output),
    };
    memcpy(client.agent, session->agent, sizeof(client.agent));
    for (const struct request *at = session->requests; at != NULL; at = at->next) {
        client.uploads += at->class->body != NULL;
    }
    *ret_client = client;
}
