/*
 * Asking.
 *
 * Happy path: a letter to each loop, which answers on its thread; the last answer wakes the thread
 * that asked. The letters lie in the question, which is freed when it has let go and the last of
 * them has been read.
 */
#include "daemon/admin/ask.h"

#include <stdlib.h>

#include "daemon/core/container.h"

/* The part of one loop. */
struct part {
    struct letter letter;
    struct admin_ask *ask;
    struct hub *hub;
    struct admin_clients *clients; /* the loop's until it has answered */
    bool answered;                 /* under the lock */
    bool in_time;                  /* the asker's */
};

struct admin_ask {
    uint64_t after;
    size_t max;
    size_t count; /* of parts */

    uv_mutex_t lock; /* of what follows */
    uv_cond_t all;
    size_t waiting; /* letters that have not been read */
    bool left;      /* by the asker */

    struct part parts[];
};

struct admin_clients *admin_clients_new(size_t max)
{
    struct admin_clients *clients = malloc(sizeof(*clients) + max * sizeof(clients->clients[0]));
    if (clients != NULL) {
        clients->count = 0;
        clients->more = false;
    }
    return clients;
}

static void destroy(struct admin_ask *ask)
{
    for (size_t i = 0; i < ask->count; i++) {
        free(ask->parts[i].clients);
    }
    uv_cond_destroy(&ask->all);
    uv_mutex_destroy(&ask->lock);
    free(ask);
}

/* On the loop's thread. */
static void on_letter(struct letter *letter)
{
    struct part *part = CONTAINER_OF(letter, struct part, letter);
    struct admin_ask *ask = part->ask;
    struct admin_clients *clients = part->clients;
    shard_publish_stats(part->hub->shard);
    clients->count = hub_clients(part->hub, ask->after, clients->clients, ask->max, &clients->more);
    uv_mutex_lock(&ask->lock);
    part->answered = true;
    bool last = --ask->waiting == 0;
    bool left = ask->left;
    if (last) {
        uv_cond_signal(&ask->all);
    }
    uv_mutex_unlock(&ask->lock);
    if (last && left) {
        destroy(ask);
    }
}

static struct admin_ask *make(const struct admin_rooms *rooms, uint64_t after, size_t max)
{
    size_t count = rooms->hubs->count;
    struct admin_ask *ask = calloc(1, sizeof(*ask) + count * sizeof(ask->parts[0]));
    if (ask == NULL || uv_mutex_init(&ask->lock) != 0) {
        free(ask);
        return NULL;
    }
    if (uv_cond_init(&ask->all) != 0) {
        uv_mutex_destroy(&ask->lock);
        free(ask);
        return NULL;
    }
    ask->after = after;
    ask->max = max;
    for (; ask->count < count; ask->count++) {
        struct part *part = &ask->parts[ask->count];
        *part = (struct part){
            .letter = {.run = on_letter},
            .ask = ask,
            .hub = rooms->hubs->hubs[ask->count],
            .clients = admin_clients_new(max),
        };
        if (part->clients == NULL) {
            destroy(ask);
            return NULL;
        }
    }
    return ask;
}

/* Until every letter has been read, or the time is over. Under the lock. */
static void wait_for_answers(struct admin_ask *ask, const struct env *env)
{
    uint64_t until = env_monotonic_us(env) + UINT64_C(1000) * ADMIN_ASK_MS;
    bool over = false;
    while (ask->waiting > 0 && !over) {
        uint64_t now = env_monotonic_us(env);
        over = now >= until || uv_cond_timedwait(&ask->all, &ask->lock, (until - now) * 1000) != 0;
    }
}

struct admin_ask *admin_ask(const struct admin_rooms *rooms, uint64_t after, size_t max)
{
    struct admin_ask *ask = make(rooms, after, max);
    if (ask == NULL) {
        return NULL;
    }
    uv_mutex_lock(&ask->lock);
    for (size_t i = 1; i < ask->count; i++) {
        /* A loop that has ended takes no letters. */
        if (mailbox_post(&ask->parts[i].hub->shard->mailbox, &ask->parts[i].letter)) {
            ask->waiting++;
        }
    }
    wait_for_answers(ask, rooms->context->env);
    ask->parts[0].answered = true;
    for (size_t i = 0; i < ask->count; i++) {
        ask->parts[i].in_time = ask->parts[i].answered;
    }
    uv_mutex_unlock(&ask->lock);
    return ask;
}

bool admin_ask_answered(const struct admin_ask *ask, size_t loop)
{
    return ask->parts[loop].in_time;
}

const struct admin_clients *admin_ask_clients(const struct admin_ask *ask, size_t loop)
{
    return ask->parts[loop].clients;
}

void admin_ask_free(struct admin_ask *ask)
{
    if (ask == NULL) {
        return;
    }
    uv_mutex_lock(&ask->lock);
    ask->left = true;
    bool last = ask->waiting == 0;
    uv_mutex_unlock(&ask->lock);
    if (last) {
        destroy(ask);
    }
}
