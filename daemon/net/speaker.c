/*
 * Our protocol as it comes in.
 *
 * Happy path. The frame reader cuts the connection's input; a HELLO opens the session; messages
 * become requests by the hub's routes, pieces of bodies go to their requests.
 *
 * Failure modes.
 *   - The client breaks the protocol, or is idle, or makes no progress: session_fail.
 *   - The connection goes: its requests are detached and end by themselves.
 */
#include "daemon/net/speaker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/net/framing.h"
#include "daemon/net/reply.h"
#include "daemon/net/session.h"
#include "daemon/net/stray.h"
#include "lib/cap/must.h"
#include "proto/message.h"

static struct session *of(struct connection *connection)
{
    return CONTAINER_OF(connection, struct session, connection);
}

static const struct session *of_const(const struct connection *connection)
{
    return (const struct session *)(const void *)connection;
}

_Static_assert(offsetof(struct session, connection) == 0, "of_const casts");

/* --- Messages --------------------------------------------------------------------------------- */

static void handle_hello(struct session *session, const struct proto_event *event)
{
    struct proto_hello hello;
    if (event->frame.type != PROTO_HELLO || event->frame.id != 0) {
        session_fail(session, 0, CAP_E_BAD_FRAME, "the first frame must be a HELLO with id 0");
        return;
    }
    enum cap_error error = proto_hello_decode(event->bytes, &hello);
    if (error != CAP_OK) {
        session_fail(session, 0, error, NULL);
        return;
    }
    snprintf(session->agent, sizeof(session->agent), "%.*s", (int)hello.agent.len,
             (const char *)hello.agent.data);
    session->shard->stats.requests[PROTO_HELLO]++;
    if (hello.version_min > PROTO_VERSION || hello.version_max < PROTO_VERSION) {
        session_fail(session, 0, CAP_E_UNSUPPORTED_VERSION, "this daemon speaks version 1");
        return;
    }
    session->greeted = true;
    struct cap_buf payload = {0};
    uint64_t granted = session->context->features;
    if (!session_peer(session)->local) {
        granted &= ~PROTO_FEATURE_MAP;
    }
    if ((hello.features & granted & PROTO_FEATURE_KEEP) == 0 ||
        session->context->config.resume_keep == 0) {
        granted &= ~PROTO_FEATURE_RESUME;
    }
    session->features = hello.features & granted;
    error = reply_hello(session->context, &session->limits, &hello, session->features, &payload);
    session_send(session, PROTO_HELLO_REPLY, 0, error, &payload);
}

/* What every request is checked for before it is looked at. */
static enum cap_error check(const struct session *session, char ret_why[LEDGER_WHY_SIZE])
{
    size_t count = session_requests(session);
    if (session->context->phase != PHASE_RUNNING) {
        return CAP_E_DRAINING;
    }
    if (count >= session->limits.requests) {
        uint32_t most = session->limits.requests;
        snprintf(ret_why, LEDGER_WHY_SIZE,
                 "limit of %" PRIu32 " %s in flight of one connection reached (max-requests)", most,
                 most == 1 ? "request" : "requests");
        return CAP_E_TOO_MANY_REQUESTS;
    }
    if (count >= SESSION_REQUESTS_FLOOR &&
        !ledger_may_request(session->context->ledger, session->account)) {
        ledger_why(session->context->ledger, session->account, LEDGER_REQUESTS, 1, ret_why);
        return CAP_E_TOO_MANY_REQUESTS;
    }
    return CAP_OK;
}

/* A request of a type, or with flags, that a later version may know. */
static const struct verdict *refuse_unknown(struct session *session, uint32_t id, uint8_t type,
                                            uint8_t flags)
{
    char message[64];
    if (flags != 0) {
        snprintf(message, sizeof(message), "unknown flags 0x%02x", flags);
        return session_refuse(session, id, type, CAP_E_BAD_MESSAGE, message);
    }
    snprintf(message, sizeof(message), "this daemon does not know requests of type 0x%02x", type);
    return session_refuse(session, id, type, CAP_E_UNSUPPORTED_REQUEST, message);
}

static const struct verdict *begin(struct session *session, const struct route *route, uint32_t id,
                                   uint8_t type, struct cap_bytes payload)
{
    if (route == NULL) {
        return refuse_unknown(session, id, type, 0);
    }
    session->shard->stats.requests[type]++;
    session->asked_us = session->connection.input_us;
    if (!session_may_route(session, route)) {
        char missing[64];
        snprintf(missing, sizeof(missing), "the HELLO did not ask for the feature of %s requests",
                 proto_type_name(type));
        return session_refuse(session, id, type, CAP_E_UNSUPPORTED_REQUEST, missing);
    }
    char why[LEDGER_WHY_SIZE] = "";
    enum cap_error error = check(session, why);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, why[0] == '\0' ? NULL : why);
    }
    uint8_t flags = proto_unknown_flags(type, payload, session->features);
    if (flags != 0) {
        return refuse_unknown(session, id, type, flags);
    }
    return route->begin(route->room, session, id, type, payload);
}

static void handle_request(struct session *session, const struct proto_event *event, bool id_used)
{
    uint32_t id = event->frame.id;
    uint8_t type = event->frame.type;
    const struct route *route = hub_route(session->connection.hub, type);
    if (route == NULL && proto_type_is_known(type)) {
        session_fail(session, id, CAP_E_BAD_FRAME,
                     "a frame that only the daemon sends, or a second HELLO");
        return;
    }
    if (id == 0) {
        session_fail(session, 0, CAP_E_BAD_FRAME, "a request with id 0");
        return;
    }
    if (id_used) {
        session_fail(session, id, CAP_E_ID_IN_USE, NULL);
        return;
    }
    session->verdicts = 0;
    const struct verdict *verdict = begin(session, route, id, type, event->bytes);
    must(verdict != NULL && session->verdicts == 1);
}

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
            request->moved_us = session->connection.input_us;
        }
        request->body_open = !event->end;
        request->class->body(request, event->bytes, event->end);
    } else if (remainder == NULL || !remainder_body(remainder, event->end)) {
        session_fail(session, event->frame.id, CAP_E_BAD_FRAME,
                     "a BODY frame for a request that expects none");
    } else if (event->end) {
        session->asked_us = session_now(session);
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
        session->asked_us = session_now(session);
    }
}

static void handle_event(struct session *session, const struct proto_event *event)
{
    if (!session->greeted) {
        handle_hello(session, event);
    } else if (event->frame.type == PROTO_BODY) {
        handle_body(session, event);
    } else if (event->frame.type == PROTO_CANCEL) {
        handle_cancel(session, event);
    } else {
        uint32_t id = event->frame.id;
        handle_request(session, event,
                       request_find(session, id) != NULL ||
                           remainder_find(&session->remainders, id) != NULL);
    }
}

/* --- As a speaker ----------------------------------------------------------------------------- */

/* How many bytes may be handled now: what every upload could take. */
static size_t on_room(const struct connection *connection)
{
    const struct session *session = of_const(connection);
    size_t room = SIZE_MAX;
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

/* JSON text at the beginning is a client of the admin socket that has the wrong one. */
static bool is_stray(const struct connection *connection, struct cap_bytes input)
{
    return connection->bytes_in == input.len && stray_is_json(input);
}

/*
 * Adds the messages that come next, as far as they are whole, of the type of those in `coming`, and
 * there is room.
 */
static void look_ahead(struct session *session, struct cap_bytes input, struct coming *coming)
{
    struct proto_frame frame;
    if (session->reader.header_filled > 0 && !session->reader.delivered) {
        return;
    }
    while (coming->count < ROUTE_AHEAD && input.len > PROTO_FRAME_HEADER_SIZE &&
           proto_frame_decode(input.data, session->reader.max_len, &frame) == CAP_OK &&
           frame.len <= input.len - PROTO_FRAME_HEADER_SIZE) {
        if (coming->count == 0) {
            coming->route = hub_route(session->connection.hub, frame.type);
        }
        if (coming->route == NULL || coming->route->ahead == NULL ||
            coming->route->type != frame.type) {
            return;
        }
        coming->payloads[coming->count++] =
            cap_bytes_slice(input, PROTO_FRAME_HEADER_SIZE, frame.len);
        input = cap_bytes_slice(input, PROTO_FRAME_HEADER_SIZE + frame.len,
                                input.len - PROTO_FRAME_HEADER_SIZE - frame.len);
        session->told++;
    }
}

static void on_ahead(struct connection *connection, struct cap_bytes input, struct coming *coming)
{
    struct session *session = of(connection);
    session->told = 0;
    look_ahead(session, input, coming);
}

static void on_input(struct connection *connection, struct cap_bytes *input, uint64_t until_us)
{
    struct session *session = of(connection);
    if (is_stray(connection, *input)) {
        stray_refuse(connection->fd);
        shard_refused(session->shard, session_number(session), session_peer(session), "connection",
                      CAP_E_BAD_FRAME, STRAY_MESSAGE, NULL);
        connection_close(connection);
        return;
    }
    do {
        struct proto_event event;
        bool have = false;
        size_t room = on_room(connection);
        size_t len = room < input->len ? room : input->len;
        struct cap_bytes slice = {input->data, len};
        if (len == 0) {
            return;
        }
        if (session->told == 0) {
            struct coming coming = {.count = 0};
            look_ahead(session, slice, &coming);
            coming_tell(&coming);
        }
        enum cap_error error = proto_reader_next(&session->reader, &slice, &event, &have);
        *input = cap_bytes_slice(*input, len - slice.len, input->len - (len - slice.len));
        if (error != CAP_OK) {
            session_fail(session, session->reader.frame.id, error, NULL);
        } else if (have) {
            session->told -= session->told > 0 ? 1 : 0;
            handle_event(session, &event);
        }
    } while (input->len > 0 && connection_may_handle(connection, until_us));
}

static void on_turn(struct connection *connection)
{
    struct session *session = of(connection);
    struct request *request = session->requests;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->class->turn != NULL) {
            request->class->turn(request);
        }
        request = next;
    }
}

static uint64_t on_memory(const struct connection *connection)
{
    const struct session *session = of_const(connection);
    return session->reader.message.capacity + session->request_bytes + session->remainders.bytes;
}

static void on_fail(struct connection *connection, enum cap_error error, const char *message)
{
    session_fail(of(connection), 0, error, message);
}

static void tick_requests(struct session *session, uint64_t now)
{
    struct request *request = session->requests;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->class->tick != NULL) {
            request->class->tick(request, now, session->connection.member.paused);
        }
        request = next;
    }
}

static bool has_half_frame(const struct session *session)
{
    return session->reader.header_filled > 0 && !session->reader.delivered &&
           !session->connection.member.paused && session->connection.leftover.len == 0;
}

/* Where nothing is under way but bodies that were refused, the session is idle too. */
static bool is_idle(const struct session *session)
{
    return session->request_count == 0 && session->remainders.sending == 0;
}

/* When a request last came or its answer last moved. */
static uint64_t last_asked(const struct session *session)
{
    uint64_t output_us = session->connection.output_us;
    return session->asked_us > output_us ? session->asked_us : output_us;
}

static void on_tick(struct connection *connection, uint64_t now)
{
    struct session *session = of(connection);
    uint64_t hello = session->context->config.hello_ms * 1000;
    uint64_t progress = connection->progress_us;
    uint64_t idle = session->limits.idle_ms * UINT64_C(1000);
    tick_requests(session, now);
    if (!session->greeted && hello > 0 && passed_us(now, session->asked_us) > hello) {
        session_fail(session, 0, CAP_E_HELLO_TIMEOUT, NULL);
    } else if (progress > 0 && has_half_frame(session) &&
               passed_us(now, connection->input_us) > progress) {
        session_fail(session, 0, CAP_E_PROGRESS_TIMEOUT, "a frame stayed incomplete for too long");
    } else if (idle > 0 && is_idle(session) && passed_us(now, last_asked(session)) > idle) {
        session_fail(session, 0, CAP_E_IDLE_TIMEOUT, NULL);
    }
}

static void on_drain(struct connection *connection)
{
    struct session *session = of(connection);
    if (is_idle(session) && !output_wants(&connection->output)) {
        session_fail(session, 0, CAP_E_DRAINING, NULL);
    }
}

static void on_closed(struct connection *connection)
{
    session_detach(of(connection));
}

static void on_free(struct connection *connection)
{
    struct session *session = of(connection);
    proto_reader_free(&session->reader);
    free(session);
}

static size_t on_requests(const struct connection *connection)
{
    return session_requests(of_const(connection));
}

static void on_describe(const struct connection *connection, struct client *client)
{
    const struct session *session = of_const(connection);
    memcpy(client->agent, session->agent, sizeof(client->agent));
    client->requests = session_requests(session);
    for (const struct request *at = session->requests; at != NULL; at = at->next) {
        client->uploads += at->class->body != NULL;
    }
}

static const struct speaker session_speaker = {
    .framing = &framing_proto,
    .ahead = on_ahead,
    .input = on_input,
    .turn = on_turn,
    .room = on_room,
    .memory = on_memory,
    .fail = on_fail,
    .tick = on_tick,
    .drain = on_drain,
    .closed = on_closed,
    .free = on_free,
    .requests = on_requests,
    .describe = on_describe,
};

/* --- As a door -------------------------------------------------------------------------------- */

static enum cap_error open_session(struct hub *hub, int fd, const struct peer *peer,
                                   struct ledger_peer *account)
{
    struct session *session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return CAP_E_NO_MEMORY;
    }
    session->shard = hub->shard;
    session->context = hub->shard->context;
    session->account = account;
    session->limits = reply_limits(&session->context->config);
    session->connection.progress_us = session->limits.progress_ms * UINT64_C(1000);
    session->remainders.output = &session->connection.output;
    session->asked_us = session_now(session);
    proto_reader_init(&session->reader, PROTO_FRAME_MAX);
    enum cap_error error =
        connection_open(&session->connection, &session_speaker, hub, fd, peer, account);
    if (error != CAP_OK) {
        free(session);
        return error;
    }
    connection_update(&session->connection);
    return CAP_OK;
}

const struct door session_door = {.open = open_session, .turn_away = reply_turn_away};
