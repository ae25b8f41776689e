/* All sessions of a loop. */
#include "daemon/net/hub.h"

#include <stdlib.h>

#include "daemon/net/session.h"

static void on_turn(uv_idle_t *idle)
{
    struct hub *hub = idle->data;
    bool left = false;
    struct session *next;
    for (struct session *session = hub->sessions; session != NULL; session = next) {
        next = session->next;
        left = session_turn(session) || left;
    }
    if (!left) {
        (void)uv_idle_stop(&hub->turn);
    }
}

static void on_round_over(uv_prepare_t *prepare)
{
    struct hub *hub = prepare->data;
    round_over(&hub->round);
}

enum cap_error hub_open(struct hub *hub, struct shard *shard, const struct route *routes)
{
    *hub = (struct hub){.shard = shard, .routes = routes};
    hub->input = malloc(SESSION_INPUT);
    if (hub->input == NULL) {
        return CAP_E_NO_MEMORY;
    }
    round_init(&hub->round, shard->context->env);
    uv_idle_init(&shard->loop, &hub->turn);
    uv_prepare_init(&shard->loop, &hub->round_over);
    hub->turn.data = hub->round_over.data = hub;
    uv_prepare_start(&hub->round_over, on_round_over);
    hub->open = true;
    return CAP_OK;
}

void hub_close(struct hub *hub)
{
    if (!hub->open) {
        return;
    }
    hub->open = false;
    while (hub->sessions != NULL) {
        session_close(hub->sessions);
    }
    uv_close((uv_handle_t *)&hub->turn, NULL);
    uv_close((uv_handle_t *)&hub->round_over, NULL);
}

void hub_free(struct hub *hub)
{
    free(hub->input);
    hub->input = NULL;
}

const struct route *hub_route(const struct hub *hub, uint8_t type)
{
    for (const struct route *route = hub->routes; route->begin != NULL; route++) {
        if (route->type == type) {
            return route;
        }
    }
    return NULL;
}

void hub_turn_soon(struct hub *hub)
{
    (void)uv_idle_start(&hub->turn, on_turn);
}

void hub_tick(struct hub *hub)
{
    uint64_t now = env_monotonic_us(hub->shard->context->env);
    struct session *next;
    for (struct session *session = hub->sessions; session != NULL; session = next) {
        next = session->next;
        session_tick(session, now);
    }
}

void hub_resume(struct hub *hub)
{
    struct session *next;
    for (struct session *session = hub->sessions; session != NULL; session = next) {
        next = session->next;
        if (session->paused) {
            session_update(session);
        }
    }
}

void hub_drain(struct hub *hub)
{
    struct session *next;
    for (struct session *session = hub->sessions; session != NULL; session = next) {
        next = session->next;
        session_update(session);
    }
}

uint64_t hub_requests(const struct hub *hub)
{
    uint64_t requests = 0;
    for (const struct session *at = hub->sessions; at != NULL; at = at->next) {
        requests += session_requests(at);
    }
    return requests;
}

size_t hub_clients(const struct hub *hub, uint64_t after, struct client *ret_clients, size_t max,
                   bool *ret_more)
{
    const struct session *at = hub->sessions;
    size_t count = 0;
    while (at != NULL && at->next != NULL) {
        at = at->next;
    }
    for (; at != NULL && count < max; at = at->prev) {
        if (at->number > after) {
            session_describe(at, &ret_clients[count++]);
        }
    }
    *ret_more = at != NULL;
    return count;
}
