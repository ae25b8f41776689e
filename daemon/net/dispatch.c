/* Messages to requests (PROTOCOL.md sections 3.1, 3.2, 3.6 and 3.7). */
#include "daemon/net/dispatch.h"

#include <stdio.h>

#include "proto/message.h"

#define AGENT "capstored " CAPSTORE_VERSION

static void send_hello_reply(struct session *session, const struct proto_hello *hello)
{
    const struct config *config = &session->context->config;
    struct cap_buf payload = {0};
    struct proto_hello_reply m = {
        .version = PROTO_VERSION,
        .limits =
            {
                .frame = PROTO_FRAME_MAX,
                .requests = (uint32_t)config->max_requests,
                .hashes = (uint32_t)config->max_hashes,
                .upload = config->max_upload,
                .structure = config->max_structure,
                .data = config->max_data,
                .idle_ms = (uint32_t)config->idle_ms,
                .progress_ms = (uint32_t)config->progress_ms,
            },
        .agent = {(const uint8_t *)AGENT, sizeof(AGENT) - 1},
        .has_features = hello->has_features,
        .features = hello->features & PROTO_FEATURES,
    };
    memcpy(m.store_id, cap_store_id(session->context->store), sizeof(m.store_id));
    enum cap_error encoded = proto_hello_reply_encode(&m, &payload);
    session_send(session, PROTO_HELLO_REPLY, 0, encoded, &payload);
}

void dispatch_hello(struct session *session, const struct proto_event *event)
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
    session->phase = SESSION_OPEN;
    send_hello_reply(session, &hello);
}

static const struct route *find_route(const struct session *session, uint8_t type)
{
    for (const struct route *route = session->hub->routes; route->begin != NULL; route++) {
        if (route->type == type) {
            return route;
        }
    }
    return NULL;
}

/* What every request is checked for before it is looked at. */
static enum cap_error check(const struct session *session)
{
    if (session->context->phase != PHASE_RUNNING) {
        return CAP_E_DRAINING;
    }
    if (session->request_count >= session->context->config.max_requests) {
        return CAP_E_TOO_MANY_REQUESTS;
    }
    return CAP_OK;
}

/* A request of a type that a later version may know. */
static void refuse_unknown(struct session *session, uint32_t id, uint8_t type)
{
    char message[64];
    snprintf(message, sizeof(message), "this daemon does not know requests of type 0x%02x", type);
    session_refuse(session, id, type, CAP_E_UNSUPPORTED_REQUEST, message, 0);
}

void dispatch_request(struct session *session, const struct proto_event *event, bool id_used)
{
    uint32_t id = event->frame.id;
    uint8_t type = event->frame.type;
    const struct route *route = find_route(session, type);
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
    if (route == NULL) {
        refuse_unknown(session, id, type);
        return;
    }
    session->shard->stats.requests[type]++;
    session->asked_us = env_monotonic_us(session->context->env);
    enum cap_error error = check(session);
    if (error == CAP_OK) {
        error = route->begin(route->room, session, id, type, event->bytes);
    }
    if (error == CAP_OK) {
        return;
    }
    if (route->has_body && session->refused_count >= session->context->config.max_requests) {
        session_fail(session, 0, CAP_E_TOO_MANY_REQUESTS, "too many refused uploads are left open");
        return;
    }
    char message[32];
    uint8_t flags = proto_unknown_flags(type, event->bytes);
    snprintf(message, sizeof(message), "unknown flags 0x%02x", flags);
    session_refuse(session, id, type, error,
                   error == CAP_E_BAD_MESSAGE && flags != 0 ? message : NULL, 0);
    if (route->has_body) {
        route->skip(route->room, session, id, type);
    }
}
