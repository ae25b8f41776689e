/*
 * A session's answers, and its requests until they are answered.
 *
 * Happy path. A request is put among those of its session, and its answer takes it off; answers go
 * to the output, which is sent at the end of the turn, or before the loop waits if there is none.
 *
 * Failure modes.
 *   - An answer cannot be made: the connection is given up.
 *   - The session fails: its requests are detached and end by themselves.
 */
#include "daemon/net/session.h"

#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/net/framing.h"
#include "daemon/net/reply.h"
#include "lib/cap/must.h"
#include "proto/message.h"

uint64_t session_now(const struct session *session)
{
    return env_monotonic_us(session->context->env);
}

static bool is_open(const struct session *session)
{
    return session->connection.phase == CONNECTION_OPEN;
}

const struct peer *session_peer(const struct session *session)
{
    return &session->connection.peer;
}

uint64_t session_number(const struct session *session)
{
    return session->connection.member.number;
}

/* Sends and polls as things stand when all that is ready was answered. */
static void update(struct session *session)
{
    connection_update_soon(&session->connection);
}

/* --- Sending ---------------------------------------------------------------------------------- */

/* A client that cannot be answered must not wait: an error ends the session. */
static void check_sent(struct session *session, enum cap_error error)
{
    if (error != CAP_OK) {
        connection_give_up(&session->connection);
    }
}

void session_send(struct session *session, uint8_t type, uint32_t id, enum cap_error encoded,
                  struct cap_buf *payload)
{
    enum cap_error error = encoded;
    if (error == CAP_OK) {
        error = framing_message(&session->connection.output, type, id, cap_buf_bytes(payload));
    }
    cap_buf_free(payload);
    check_sent(session, error);
}

static void send_error(struct session *session, uint32_t id, enum cap_error error,
                       const char *message, uint64_t detail_len)
{
    struct cap_buf payload = {0};
    enum cap_error encoded = reply_error(error, message, detail_len, &payload);
    session_send(session, PROTO_ERROR, id, encoded, &payload);
}

static void detach_but(struct session *session, const struct request *keep)
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

void session_detach(struct session *session)
{
    detach_but(session, NULL);
    remainders_drop(&session->remainders, false);
}

/* The request whose stream has a frame under way, which must be completed. */
static const struct request *current_request(const struct session *session)
{
    const struct stream *stream = session->connection.output.current;
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
    struct output *output = &session->connection.output;
    if (!is_open(session)) {
        return;
    }
    message = message == NULL ? cap_error_text(error) : message;
    if (error == CAP_E_IDLE_TIMEOUT) {
        /* A client that is quiet has done nothing wrong. */
        session->shard->stats.connections_idle++;
        log_event(&session->context->log, LOG_LEVEL_DEBUG, log_name("session_idle"),
                  log_number("session", session_number(session)));
    } else {
        shard_refused(session->shard, session_number(session), session_peer(session), "connection",
                      error, message, NULL);
    }
    send_error(session, id, error, message, 0);
    connection_end(&session->connection);
    output_drop_streams(output, true);
    detach_but(session, current_request(session));
    remainders_drop(&session->remainders, true);
    if (output->current != NULL) {
        output_end(output, output->current, CAP_E_CANCELLED);
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

/* Sends a reply, and a body with it unless that is NULL. */
static void answer(struct session *session, uint8_t type, uint32_t id, enum cap_error encoded,
                   struct cap_buf *payload, const struct cap_bytes *body)
{
    session_send(session, type, id, encoded, payload);
    if (body != NULL) {
        check_sent(session, framing_body(&session->connection.output, id, *body));
    }
}

const struct verdict *session_reply(struct session *session, uint8_t type, uint32_t id,
                                    enum cap_error encoded, struct cap_buf *payload,
                                    const struct cap_bytes *body)
{
    answer(session, type, id, encoded, payload, body);
    return dealt_with(session);
}

/* The figures that the detail of an ERROR has, if any. */
static bool read_figures(enum cap_error error, const struct cap_buf *detail,
                         struct refusal_figures *ret_figures)
{
    struct proto_shortage shortage;
    if (!proto_is_shortage(error) ||
        proto_shortage_decode(cap_buf_bytes(detail), &shortage) != CAP_OK) {
        return false;
    }
    *ret_figures = (struct refusal_figures){.need = shortage.need, .have = shortage.have};
    return true;
}

/* Sends an ERROR, and leaves what has to be left of its request. Takes the detail over. */
static void refuse(struct session *session, uint32_t id, uint8_t type, enum cap_error error,
                   const char *message, bool body_open, struct cap_buf *detail)
{
    if (!is_open(session)) {
        cap_buf_free(detail);
        return;
    }
    struct refusal_figures figures;
    bool has_figures = read_figures(error, detail, &figures);
    message = message == NULL ? cap_error_text(error) : message;
    shard_refused(session->shard, session_number(session), session_peer(session),
                  proto_type_name(type), error, message, has_figures ? &figures : NULL);
    send_error(session, id, error, message, detail->len);
    if (remainder_add(&session->remainders, id, body_open, detail) != CAP_OK) {
        session_fail(session, 0, CAP_E_NO_MEMORY, NULL);
    }
}

const struct verdict *session_refuse_detailed(struct session *session, uint32_t id, uint8_t type,
                                              enum cap_error error, const char *message,
                                              struct cap_buf *detail)
{
    const struct route *route = hub_route(session->connection.hub, type);
    bool has_body = route != NULL && route->has_body && session_may_route(session, route);
    if (has_body && session->remainders.open >= session->limits.requests) {
        cap_buf_free(detail);
        session_fail(session, 0, CAP_E_TOO_MANY_REQUESTS, "too many refused uploads are left open");
    } else {
        refuse(session, id, type, error, message, has_body, detail);
    }
    return dealt_with(session);
}

const struct verdict *session_refuse(struct session *session, uint32_t id, uint8_t type,
                                     enum cap_error error, const char *message)
{
    struct cap_buf none = {0};
    return session_refuse_detailed(session, id, type, error, message, &none);
}

const struct verdict *session_pending(struct session *session, struct request *request)
{
    request->shard = session->shard;
    request->session = session;
    request->next = session->requests;
    request->started_us = request->moved_us = session_now(session);
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
    session->asked_us = session_now(session);
    request->session = NULL;
    return session;
}

void request_answer(struct request *request, uint8_t type, enum cap_error encoded,
                    struct cap_buf *payload, const struct cap_bytes *body)
{
    if (request->session == NULL) {
        cap_buf_free(payload);
        return;
    }
    must(!request->body_open);
    struct session *session = take_off(request);
    answer(session, type, request->id, encoded, payload, body);
    update(session);
}

void request_answer_fd(struct request *request, uint8_t type, enum cap_error encoded,
                       struct cap_buf *payload, int fd)
{
    if (request->session == NULL) {
        cap_buf_free(payload);
        close(fd);
        return;
    }
    struct session *session = take_off(request);
    enum cap_error error = encoded;
    if (error == CAP_OK) {
        error = framing_message_fd(&session->connection.output, type, request->id,
                                   cap_buf_bytes(payload), fd);
    }
    if (error != CAP_OK) {
        close(fd);
    }
    cap_buf_free(payload);
    check_sent(session, error);
    update(session);
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
    update(session);
}

void request_stream(struct request *request, uint8_t type, enum cap_error encoded,
                    struct cap_buf *payload, struct stream *stream)
{
    struct session *session = request->session;
    if (session == NULL) {
        cap_buf_free(payload);
        return;
    }
    session_send(session, type, request->id, encoded, payload);
    output_add(&session->connection.output, stream);
    update(session);
}

void request_pass(struct request *request, const struct route *route, struct cap_bytes payload)
{
    if (request->session != NULL) {
        struct session *session = take_off(request);
        session->verdicts = 0;
        (void)route->begin(route->room, session, request->id, request->type, payload);
        must(session->verdicts == 1);
        update(session);
    }
}

void request_end(struct request *request)
{
    if (request->session != NULL) {
        update(take_off(request));
    }
}

void request_resume(struct request *request, struct stream *stream)
{
    if (request->session != NULL) {
        output_resume(&request->session->connection.output, stream);
        update(request->session);
    }
}

void request_cut(struct request *request, struct stream *stream, enum cap_error error)
{
    struct session *session = request->session;
    if (session != NULL) {
        output_end(&session->connection.output, stream, error);
        update(session);
    }
}

size_t session_requests(const struct session *session)
{
    return session->request_count + session->remainders.count;
}
