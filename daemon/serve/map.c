/*
 * Mapping.
 *
 * Happy path: the cache has a copy, and a descriptor of it goes out with the reply at once. Or the
 * copy is made first, and the request waits.
 *
 * Failure modes.
 *   - The copy cannot be made: an ERROR, which names the hash or the limit.
 *   - Cancelled, or the connection goes: the wait is left, and the copy with it if nobody else
 *     waits. If the answer is on its way from another loop, it is dropped when it comes.
 *   - The client does not take its descriptors: it is refused others, because those that are in
 *     sockets count against the daemon's limit of open files.
 */
#include "daemon/serve/map.h"

#include <inttypes.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/serve/copies.h"
#include "daemon/serve/serve.h"
#include "proto/message.h"

/* Bytes in the socket that the client has not taken: a few dozen replies, as the kernel counts. */
#define MAP_UNREAD_MAX (64 << 10)

struct map {
    struct request request;
    struct serve *serve;
    struct copy_wait wait;
    bool freed; /* while an answer is on its way */
};

static void map_free(struct map *map)
{
    if (copies_leave(map->serve->set->copies, &map->wait)) {
        free(map);
    } else {
        map->freed = true;
    }
}

static enum cap_error encode(const struct copy_layout *layout, struct cap_buf *payload)
{
    const struct proto_map_reply reply = {
        .kind = (uint8_t)layout->kind,
        .body_len = layout->body_len,
        .size = layout->size,
        .len = layout->len,
        .rest_off = layout->rest_off,
        .rest_len = layout->rest_len,
    };
    return proto_map_reply_encode(&reply, payload);
}

/* The message of a failed wait, and in the log what is wrong with the store. */
static void explain(struct serve *serve, const struct copy_wait *wait, char *ret_message)
{
    char hex[CAP_HASH_HEX_SIZE];
    if (wait->why[0] == '\0') {
        serve_failed(serve, &wait->hash, wait->error, ret_message);
        return;
    }
    cap_hash_format(&wait->hash, hex);
    snprintf(ret_message, SERVE_MESSAGE_SIZE + LEDGER_WHY_SIZE, "%s: %s", hex, wait->why);
}

static void count(struct serve *serve, uint64_t started_us)
{
    serve->shard->stats.maps++;
    histogram_add(&serve->shard->stats.map_us,
                  env_monotonic_us(serve->shard->context->env) - started_us);
}

/* The copy is there, or cannot be made. */
static void on_copy(struct copy_wait *wait)
{
    struct map *map = CONTAINER_OF(wait, struct map, wait);
    struct cap_buf payload = {0};
    char message[SERVE_MESSAGE_SIZE + LEDGER_WHY_SIZE];
    if (map->freed) {
        if (wait->fd >= 0) {
            close(wait->fd);
        }
    } else if (wait->error == CAP_OK) {
        count(map->serve, map->request.started_us);
        enum cap_error encoded = encode(&wait->layout, &payload);
        request_answer_fd(&map->request, PROTO_MAP_REPLY, encoded, &payload, wait->fd);
    } else {
        explain(map->serve, wait, message);
        request_refuse(&map->request, wait->error, message, NULL);
    }
    free(map);
}

static void on_cancel(struct request *request)
{
    request_refuse(request, CAP_E_CANCELLED, NULL, NULL);
    map_free(CONTAINER_OF(request, struct map, request));
}

static void on_detach(struct request *request)
{
    map_free(CONTAINER_OF(request, struct map, request));
}

static const struct request_class map_request = {.cancel = on_cancel, .detach = on_detach};

/* Why the connection cannot be given a descriptor; NULL: it can. */
static const char *why_not(const struct session *session)
{
    if ((session->features & PROTO_FEATURE_MAP) != 0) {
        return NULL;
    }
    if (!session_peer(session)->local) {
        return "caps are mapped through a Unix socket only";
    }
    if ((session->context->features & PROTO_FEATURE_MAP) == 0) {
        return "this daemon maps no caps (map-cache, or the system)";
    }
    return "the HELLO did not ask for the feature that maps caps";
}

/* Whether the client takes what it is given. */
static bool keeps_up(const struct session *session)
{
    int unread = 0;
    return output_waiting(&session->connection.output) <= MAP_UNREAD_MAX &&
           (ioctl(session->connection.fd, SIOCOUTQ, &unread) != 0 || unread <= MAP_UNREAD_MAX);
}

/* Answers from the cache, or asks it; the wait becomes a request then. */
static const struct verdict *ask(struct serve *serve, struct session *session, uint32_t id,
                                 const struct proto_map *message)
{
    struct map *map = calloc(1, sizeof(*map));
    if (map == NULL) {
        return session_refuse(session, id, PROTO_MAP, CAP_E_NO_MEMORY, NULL);
    }
    map->serve = serve;
    map->wait = (struct copy_wait){
        .serve = serve, .account = session->account, .hash = message->hash, .done = on_copy};
    map->request = (struct request){
        .class = &map_request,
        .size = sizeof(*map),
        .id = id,
        .type = PROTO_MAP,
    };
    const struct verdict *verdict = session_pending(session, &map->request);
    if (copies_get(serve->set->copies, &map->wait)) {
        on_copy(&map->wait);
    }
    return verdict;
}

const struct verdict *map_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                struct cap_bytes payload)
{
    struct proto_map message;
    const char *why = why_not(session);
    if (why != NULL) {
        return session_refuse(session, id, type, CAP_E_UNSUPPORTED_REQUEST, why);
    }
    enum cap_error error = proto_map_decode(payload, &message);
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    if (!keeps_up(session)) {
        return session_refuse(session, id, type, CAP_E_TOO_MANY_REQUESTS,
                              "the descriptors sent before have not been received");
    }
    return ask(room, session, id, &message);
}
