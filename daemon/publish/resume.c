/*
 * Requests to go on.
 *
 * Happy path: the park knows how much is kept, and the answer goes out. Failure mode: the upload
 * has not ended yet, because its loop has not read all that its connection brought, or does not
 * know that it is lost. Then its loop is told through the park, and the park is asked again at
 * every tick: some thread may still work for the upload.
 */
#include "daemon/publish/resume.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/core/container.h"
#include "daemon/publish/park.h"

struct resume {
    struct request request;
    char peer[PEER_KEY_SIZE];
    uint8_t token[PROTO_TOKEN_SIZE];
};

static struct resume *resume_of(struct request *request)
{
    return CONTAINER_OF(request, struct resume, request);
}

/* Asks the park. False: the upload has not ended. */
static bool look(struct park *park, const char *peer, const uint8_t *token,
                 struct proto_resume_reply *ret_reply)
{
    const struct park_name name = {peer, token};
    return park_find(park, &name, &ret_reply->total_len, &ret_reply->offset);
}

static void on_tick(struct request *request, uint64_t now, bool paused)
{
    struct resume *resume = resume_of(request);
    struct proto_resume_reply reply;
    (void)now;
    (void)paused;
    if (look(request->shard->context->park, resume->peer, resume->token, &reply)) {
        struct cap_buf payload = {0};
        enum cap_error encoded = proto_resume_reply_encode(&reply, &payload);
        request_answer(request, PROTO_RESUME_REPLY, encoded, &payload, NULL);
        free(resume);
    }
}

static void on_cancel(struct request *request)
{
    request_refuse(request, CAP_E_CANCELLED, NULL, NULL);
    free(resume_of(request));
}

static void on_detach(struct request *request)
{
    free(resume_of(request));
}

static const struct request_class resume_class = {
    .cancel = on_cancel,
    .detach = on_detach,
    .tick = on_tick,
};

const struct verdict *resume_begin(void *publish, struct session *session, uint32_t id,
                                   uint8_t type, struct cap_bytes payload)
{
    struct proto_resume message;
    struct proto_resume_reply reply;
    const char *peer = session_peer(session)->key;
    (void)publish;
    enum cap_error error = proto_resume_decode(payload, &message);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    if (look(session->context->park, peer, message.token, &reply)) {
        struct cap_buf answer = {0};
        enum cap_error encoded = proto_resume_reply_encode(&reply, &answer);
        return session_reply(session, PROTO_RESUME_REPLY, id, encoded, &answer, NULL);
    }
    struct resume *resume = calloc(1, sizeof(*resume));
    if (resume == NULL) {
        return session_refuse(session, id, type, CAP_E_NO_MEMORY, NULL);
    }
    resume->request = (struct request){
        .class = &resume_class,
        .size = sizeof(*resume),
        .shard = session->shard,
        .id = id,
        .type = type,
    };
    memcpy(resume->peer, peer, sizeof(resume->peer));
    memcpy(resume->token, message.token, sizeof(resume->token));
    return session_pending(session, &resume->request);
}
