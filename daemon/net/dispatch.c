/* Messages to requests (PROTOCOL.md sections 3.1, 3.2, 3.6 and 3.7). */
#include "daemon/net/dispatch.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/core/ledger.h"
#include "daemon/core/must.h"
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
    (void)session_reply(session, PROTO_HELLO_REPLY, 0, encoded, &payload);
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

/* What every request is checked for before it is looked at. */
static enum cap_error check(const struct session *session, char ret_why[LEDGER_WHY_SIZE])
{
    size_t count = session_requests(session);
    if (session->context->phase != PHASE_RUNNING) {
        return CAP_E_DRAINING;
    }
    if (count >= session->context->config.max_requests) {
        snprintf(ret_why, LEDGER_WHY_SIZE,
                 "limit of %" PRIu64 " requests in flight of one connection reached (max-requests)",
                 session->context->config.max_requests);
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
    session->asked_us = env_monotonic_us(session->context->env);
    char why[LEDGER_WHY_SIZE] = "";
    enum cap_error error = check(session, why);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, why[0] == '\0' ? NULL : why);
    }
    uint8_t flags = proto_unknown_flags(type, payload);
    if (flags != 0) {
        return refuse_unknown(session, id, type, flags);
    }
    return route->begin(route->room, session, id, type, payload);
}

void dispatch_request(struct session *session, const struct proto_event *event, bool id_used)
{
    uint32_t id = event->frame.id;
    uint8_t type = event->frame.type;
    const struct route *route = hub_route(session->hub, type);
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
