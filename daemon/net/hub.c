/* All connections of a loop. */
#include "daemon/net/hub.h"

#include <stdlib.h>
#include <sys/param.h>

#include "daemon/core/container.h"
#include "lib/cap/must.h"

_Static_assert(CONFIG_IO_URING_MAX <= CALLS_MAX, "calls_open takes what --io-uring may be");

/* Of the last connection of any loop. */
static atomic_uint_fast64_t last_number;

static void on_turn(uv_idle_t *idle)
{
    struct hub *hub = idle->data;
    bool left = false;
    struct member *next;
    for (struct member *at = TAILQ_FIRST(&hub->members); at != NULL; at = next) {
        next = TAILQ_NEXT(at, link);
        left = at->class->turn(at) || left;
    }
    if (!left) {
        (void)uv_idle_stop(&hub->turn);
    }
}

void hub_update_soon(struct hub *hub, struct member *member)
{
    if (!member->due) {
        TAILQ_INSERT_TAIL(&hub->due, member, due_link);
        member->due = true;
    }
}

static void not_due(struct hub *hub, struct member *member)
{
    if (member->due) {
        TAILQ_REMOVE(&hub->due, member, due_link);
        member->due = false;
    }
}

/* Updates up to CALLS_MAX that are due, which send in one system call. */
static void update_some(struct hub *hub)
{
    struct member *members[CALLS_MAX];
    size_t count = 0;
    for (; count < CALLS_MAX && !TAILQ_EMPTY(&hub->due); count++) {
        struct member *member = members[count] = TAILQ_FIRST(&hub->due);
        not_due(hub, member);
        member->class->plan_send(member, &hub->plans[count]);
    }
    calls_make(&hub->calls, hub->plans, count);
    for (size_t i = 0; i < count; i++) {
        members[i]->class->sent(members[i], &hub->plans[i]);
    }
    for (size_t i = 0; i < count; i++) { /* only now: an update may have another member send */
        members[i]->class->update(members[i]);
    }
}

static void update_due(struct hub *hub)
{
    while (!TAILQ_EMPTY(&hub->due)) {
        update_some(hub);
    }
}

void coming_tell(struct coming *coming)
{
    if (coming->count > 0) {
        coming->route->ahead(coming->route->room, coming->payloads, coming->count);
    }
    coming->count = 0;
    coming->route = NULL;
}

static void not_arrived(struct hub *hub, struct member *member)
{
    if (member->arrived) {
        TAILQ_REMOVE(&hub->arrived, member, arrived_link);
        member->arrived = false;
    }
}

/*
 * Has those that have received handle it, and then send: a client that answers at once is woken for
 * many answers rather than for each.
 */
static void handle_arrived(struct hub *hub)
{
    coming_tell(&hub->coming);
    while (!TAILQ_EMPTY(&hub->arrived)) {
        struct member *member = TAILQ_FIRST(&hub->arrived);
        not_arrived(hub, member);
        member->class->arrived(member);
    }
    update_due(hub);
}

static void not_ready(struct hub *hub, struct member *member)
{
    if (member->ready) {
        TAILQ_REMOVE(&hub->ready, member, ready_link);
        hub->ready_count--;
        member->ready = false;
    }
}

/* Has those that are ready receive, in one system call, and handle it. */
static void receive_ready(struct hub *hub)
{
    struct member *members[CALLS_MAX];
    size_t share = hub->ready_count == 0 ? 0 : MIN(SESSION_INPUT, HUB_INPUT / hub->ready_count);
    size_t count = 0;
    for (; !TAILQ_EMPTY(&hub->ready); count++) {
        struct member *member = members[count] = TAILQ_FIRST(&hub->ready);
        not_ready(hub, member);
        member->class->plan_receive(member, hub->input + count * share, share, &hub->plans[count]);
    }
    calls_make(&hub->calls, hub->plans, count);
    for (size_t i = 0; i < count; i++) {
        if (members[i]->class->received(members[i], &hub->plans[i])) {
            TAILQ_INSERT_TAIL(&hub->arrived, members[i], arrived_link);
            members[i]->arrived = true;
        }
    }
    handle_arrived(hub);
}

void hub_ready(struct hub *hub, struct member *member)
{
    if (!member->ready) {
        TAILQ_INSERT_TAIL(&hub->ready, member, ready_link);
        member->ready = true;
        hub->ready_count++;
    }
    if (hub->ready_count == CALLS_MAX) {
        receive_ready(hub);
    }
}

static void on_all_ready(uv_check_t *check)
{
    receive_ready(check->data);
}

static void on_round_over(uv_prepare_t *prepare)
{
    struct hub *hub = prepare->data;
    update_due(hub);
    round_over(&hub->round);
}

static void resume_own(struct hub *hub);

static void on_resume(struct letter *letter)
{
    struct hub *hub = CONTAINER_OF(letter, struct hub, resume);
    atomic_store(&hub->resuming, false);
    resume_own(hub);
}

enum cap_error hub_open(struct hub *hub, struct shard *shard, const struct route *routes)
{
    *hub = (struct hub){.shard = shard, .routes = routes, .resume = {.run = on_resume}};
    TAILQ_INIT(&hub->members);
    TAILQ_INIT(&hub->paused);
    TAILQ_INIT(&hub->due);
    TAILQ_INIT(&hub->ready);
    TAILQ_INIT(&hub->arrived);
    hub->input = malloc(HUB_INPUT + SESSION_INPUT);
    if (hub->input == NULL) {
        return CAP_E_NO_MEMORY;
    }
    hub->more = hub->input + HUB_INPUT;
    unsigned together = (unsigned)shard->context->config.io_uring;
    if (together > 0) { /* where it fails, each call is made by itself */
        (void)calls_open(&hub->calls, together);
    }
    if (handover_open(&hub->handover) == CAP_OK) { /* without it, all is copied */
        shard->handover = &hub->handover;
    }
    round_init(&hub->round, shard->context->env);
    uv_idle_init(&shard->loop, &hub->turn);
    uv_check_init(&shard->loop, &hub->all_ready);
    uv_prepare_init(&shard->loop, &hub->round_over);
    hub->turn.data = hub->all_ready.data = hub->round_over.data = hub;
    uv_check_start(&hub->all_ready, on_all_ready);
    uv_prepare_start(&hub->round_over, on_round_over);
    hub->open = true;
    return CAP_OK;
}

void hub_join(struct hub *hub, struct hub_set *set)
{
    must(set->count < CONTEXT_SHARDS_MAX);
    hub->set = set;
    set->hubs[set->count++] = hub;
}

static size_t load_of(const struct hub *hub)
{
    return hub->session_count + hub->arriving;
}

struct hub *hub_least(struct hub *hub)
{
    struct hub *least = hub;
    for (size_t i = 0; hub->set != NULL && i < hub->set->count; i++) {
        if (load_of(hub->set->hubs[i]) < load_of(least)) {
            least = hub->set->hubs[i];
        }
    }
    return least;
}

void hub_close(struct hub *hub)
{
    if (!hub->open) {
        return;
    }
    hub->open = false;
    while (!TAILQ_EMPTY(&hub->members)) {
        struct member *member = TAILQ_FIRST(&hub->members);
        member->class->close(member);
    }
    uv_close((uv_handle_t *)&hub->turn, NULL);
    uv_close((uv_handle_t *)&hub->all_ready, NULL);
    uv_close((uv_handle_t *)&hub->round_over, NULL);
}

void hub_free(struct hub *hub)
{
    calls_close(&hub->calls);
    free(hub->input);
    hub->input = NULL;
    if (hub->shard != NULL && hub->shard->handover != NULL) {
        hub->shard->handover = NULL;
        handover_close(&hub->handover);
    }
}

void hub_add(struct hub *hub, struct member *member)
{
    member->number = atomic_fetch_add(&last_number, 1) + 1;
    TAILQ_INSERT_HEAD(&hub->members, member, link);
    hub->session_count++;
}

void hub_remove(struct hub *hub, struct member *member)
{
    must(hub->session_count > 0);
    hub_pause(hub, member, false);
    not_due(hub, member);
    not_ready(hub, member);
    not_arrived(hub, member);
    TAILQ_REMOVE(&hub->members, member, link);
    hub->session_count--;
}

void hub_pause(struct hub *hub, struct member *member, bool paused)
{
    if (paused && !member->paused) {
        TAILQ_INSERT_TAIL(&hub->paused, member, pause_link);
        hub->paused_count++;
    } else if (!paused && member->paused) {
        TAILQ_REMOVE(&hub->paused, member, pause_link);
        hub->paused_count--;
    }
    member->paused = paused;
}

static void resume_own(struct hub *hub)
{
    struct member *member;
    /* Those that still have no room go to the end, so each is looked at once. */
    for (size_t count = hub->paused_count; count > 0 && !TAILQ_EMPTY(&hub->paused); count--) {
        member = TAILQ_FIRST(&hub->paused);
        hub_pause(hub, member, false);
        member->class->update(member);
    }
}

void hub_resume(struct hub *hub)
{
    resume_own(hub);
    for (size_t i = 0; hub->set != NULL && i < hub->set->count; i++) {
        struct hub *other = hub->set->hubs[i];
        if (other != hub && other->paused_count > 0 && !atomic_exchange(&other->resuming, true)) {
            (void)mailbox_post(&other->shard->mailbox, &other->resume);
        }
    }
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
    struct member *next;
    for (struct member *at = TAILQ_FIRST(&hub->members); at != NULL; at = next) {
        next = TAILQ_NEXT(at, link);
        at->class->tick(at, now);
    }
    resume_own(hub); /* another loop's buffers may have gone just before one of these was paused */
}

void hub_drain(struct hub *hub)
{
    struct member *next;
    for (struct member *at = TAILQ_FIRST(&hub->members); at != NULL; at = next) {
        next = TAILQ_NEXT(at, link);
        at->class->update(at);
    }
}

uint64_t hub_requests(const struct hub *hub)
{
    uint64_t requests = 0;
    const struct member *at;
    TAILQ_FOREACH(at, &hub->members, link)
    {
        requests += at->class->requests(at);
    }
    return requests;
}

size_t hub_clients(const struct hub *hub, uint64_t after, struct client *ret_clients, size_t max,
                   bool *ret_more)
{
    size_t count = 0;
    const struct member *at;
    *ret_more = false;
    TAILQ_FOREACH_REVERSE(at, &hub->members, member_list, link)
    {
        if (at->number <= after) {
            continue;
        }
        if (count == max) {
            *ret_more = true;
            break;
        }
        at->class->describe(at, &ret_clients[count++]);
    }
    return count;
}
