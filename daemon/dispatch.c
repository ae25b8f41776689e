/* Messages to requests (PROTOCOL.md sections 3.1, 3.2, 3.6 and 3.7). */
#include "daemon/dispatch.h"

#include <stdio.h>

#include "daemon/fetch.h"
#include "daemon/lookup.h"
#include "daemon/upload.h"
#include "proto/message.h"

#define AGENT "capstored " CAPSTORE_VERSION

static void send_hello_reply(struct session *session)
{
    const struct config *config = &session->server->config;
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
    };
    memcpy(m.store_id, cap_store_id(session->server->store), sizeof(m.store_id));
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
    session->server->stats.requests[PROTO_HELLO]++;
    if (hello.version_min > PROTO_VERSION || hello.version_max < PROTO_VERSION) {
        session_fail(session, 0, CAP_E_UNSUPPORTED_VERSION, "this daemon speaks version 1");
        return;
    }
    session->phase = SESSION_OPEN;
    send_hello_reply(session);
}

static bool is_upload(uint8_t type)
{
    return type == PROTO_PUT_DATA || type == PROTO_PUT_IMAGE;
}

static bool is_request(uint8_t type)
{
    return type == PROTO_HAS || type == PROTO_GET || type == PROTO_STAT || is_upload(type);
}

/* What every request is checked for before it is looked at. */
static enum cap_error check(const struct session *session)
{
    if (session->server->phase != SERVER_RUNNING) {
        return CAP_E_DRAINING;
    }
    if (session->request_count >= session->server->config.max_requests) {
        return CAP_E_TOO_MANY_REQUESTS;
    }
    return CAP_OK;
}

static enum cap_error begin(struct session *session, const struct proto_event *event)
{
    switch (event->frame.type) {
    case PROTO_HAS:
        return lookup_has(session, event->frame.id, event->bytes);
    case PROTO_STAT:
        return lookup_stat(session, event->frame.id, event->bytes);
    case PROTO_GET:
        return fetch_begin(session, event->frame.id, event->bytes);
    case PROTO_PUT_DATA:
    case PROTO_PUT_IMAGE:
        return upload_begin(session, event->frame.id, event->frame.type, event->bytes);
    default:
        return CAP_E_INTERNAL;
    }
}

void dispatch_request(struct session *session, const struct proto_event *event, bool id_used)
{
    uint32_t id = event->frame.id;
    uint8_t type = event->frame.type;
    if (!is_request(type)) {
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
    session->server->stats.requests[type]++;
    session->asked_us = env_monotonic_us(session->server->env);
    enum cap_error error = check(session);
    if (error == CAP_OK) {
        error = begin(session, event);
    }
    if (error == CAP_OK) {
        return;
    }
    if (is_upload(type) && session->refused_count >= session->server->config.max_requests) {
        session_fail(session, 0, CAP_E_TOO_MANY_REQUESTS, "too many refused uploads are left open");
        return;
    }
    session_refuse(session, id, type, error, NULL, 0);
    if (is_upload(type)) {
        upload_begin_refused(session, id, type);
    }
}
