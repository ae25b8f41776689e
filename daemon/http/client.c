#include "daemon/http/client.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

void http_clients_init(struct http_clients *clients)
{
    *clients = (struct http_clients){.lock = PTHREAD_MUTEX_INITIALIZER};
    LIST_INIT(&clients->list);
    LIST_INIT(&clients->unknown);
}

/* Under the lock. */
static struct http_client *unknown_of(struct http_clients *clients, int fd)
{
    struct http_client *client;
    LIST_FOREACH(client, &clients->unknown, link)
    {
        if (client->fd == fd) {
            return client;
        }
    }
    return NULL;
}

static void take_out(struct http_clients *clients, struct http_client *client)
{
    LIST_REMOVE(client, link);
    clients->count--;
}

void http_clients_expect(struct http_clients *clients, struct http_client *client)
{
    pthread_mutex_lock(&clients->lock);
    LIST_INSERT_HEAD(&clients->unknown, client, link);
    clients->count++;
    pthread_mutex_unlock(&clients->lock);
}

struct http_client *http_clients_unknown(struct http_clients *clients, int fd)
{
    pthread_mutex_lock(&clients->lock);
    struct http_client *client = unknown_of(clients, fd);
    if (client != NULL) {
        take_out(clients, client);
    }
    pthread_mutex_unlock(&clients->lock);
    return client;
}

struct http_client *http_clients_begin(struct http_clients *clients, int fd)
{
    pthread_mutex_lock(&clients->lock);
    struct http_client *client = unknown_of(clients, fd);
    if (client != NULL) {
        LIST_REMOVE(client, link);
        LIST_INSERT_HEAD(&clients->list, client, link);
    }
    pthread_mutex_unlock(&clients->lock);
    return client;
}

void http_clients_remove(struct http_clients *clients, struct http_client *client)
{
    pthread_mutex_lock(&clients->lock);
    take_out(clients, client);
    pthread_mutex_unlock(&clients->lock);
}

bool http_clients_forget(struct http_clients *clients, const struct http_client *client)
{
    struct http_client *found;
    pthread_mutex_lock(&clients->lock);
    LIST_FOREACH(found, &clients->unknown, link)
    {
        if (found == client) {
            take_out(clients, found);
            break;
        }
    }
    pthread_mutex_unlock(&clients->lock);
    return found != NULL;
}

struct http_client *http_clients_take(struct http_clients *clients)
{
    pthread_mutex_lock(&clients->lock);
    struct http_client *client = LIST_FIRST(&clients->unknown);
    if (client != NULL) {
        take_out(clients, client);
    }
    pthread_mutex_unlock(&clients->lock);
    return client;
}

void http_client_does(struct http_client *client, enum http_doing doing, uint64_t now_us)
{
    client->since_us = now_us;
    client->doing = doing;
}

/* What began after the clock was read, on another thread, is not over. */
static bool is_over(uint64_t since_us, uint64_t now_us, uint64_t limit_us)
{
    return limit_us > 0 && now_us > since_us && now_us - since_us > limit_us;
}

/*
 * Whether an answer has stood still. What is still in the socket has not been taken; a block that
 * libmicrohttpd has and the socket does not is taken too early, which the highest value evens out.
 */
static bool stands_still(struct http_client *client, const struct http_bounds *bounds)
{
    uint64_t since = client->since_us;
    uint64_t given = client->given;
    int queued = 0;
    if (ioctl(client->fd, SIOCOUTQ, &queued) != 0 || queued < 0) {
        queued = 0;
    }
    uint64_t taken = given > (uint64_t)queued ? given - (uint64_t)queued : 0;
    if (client->answer_us != since) {
        client->answer_us = client->moved_us = since;
        client->taken = 0;
    }
    if (taken >= client->taken + HTTP_BLOCK) {
        client->taken = taken;
        client->moved_us = bounds->now_us;
    }
    return is_over(client->moved_us, bounds->now_us, bounds->progress_us);
}

/*
 * Whether it has closed its end. libmicrohttpd may miss that when the end comes together with a
 * request, and would wait for another one.
 */
static bool has_left(const struct http_client *client)
{
    uint8_t byte;
    return recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void http_clients_wait(struct http_clients *clients, struct http_client *client,
                       struct fetcher *fetcher, struct MHD_Connection *connection,
                       uint64_t since_us)
{
    pthread_mutex_lock(&clients->lock);
    http_client_does(client, HTTP_WAITING, since_us);
    http_wait_begin(&client->wait, fetcher, connection, ledger_peer_id(client->account));
    pthread_mutex_unlock(&clients->lock);
}

/* Ends a wait that has lasted too long, or whose client is gone. */
static void judge_wait(struct http_client *client, const struct http_bounds *bounds)
{
    if (is_over(client->since_us, bounds->now_us, bounds->upstream_us)) {
        http_wait_end(&client->wait, CAP_E_UPSTREAM_AWAY);
    } else if (has_left(client)) {
        http_wait_end(&client->wait, CAP_E_CANCELLED);
    }
}

/* Whether its time is over; *ret_slow: it is its own fault. */
static bool must_leave(struct http_client *client, const struct http_bounds *bounds, bool *ret_slow)
{
    enum http_doing doing = client->doing; /* before `since_us`, which is set first */
    uint64_t since = client->since_us;
    *ret_slow = true;
    switch (doing) {
    case HTTP_ARRIVING:
        *ret_slow = is_over(since, bounds->now_us, bounds->hello_us);
        return *ret_slow || bounds->draining || has_left(client);
    case HTTP_ASKING:
        *ret_slow = is_over(since, bounds->now_us, bounds->hello_us);
        return *ret_slow || has_left(client);
    case HTTP_IDLE:
        *ret_slow = false;
        return bounds->draining || is_over(since, bounds->now_us, bounds->idle_us) ||
               has_left(client);
    case HTTP_WAITING: /* it makes nobody wait */
        *ret_slow = false;
        return false;
    case HTTP_ANSWERING:
        return stands_still(client, bounds);
    }
    return false;
}

uint64_t http_clients_judge(struct http_clients *clients, const struct http_bounds *bounds)
{
    uint64_t slow = 0;
    struct http_client *client;
    pthread_mutex_lock(&clients->lock);
    LIST_FOREACH(client, &clients->list, link)
    {
        bool is_slow = false;
        if (client->doing == HTTP_WAITING) {
            judge_wait(client, bounds);
        } else if (!client->cut && must_leave(client, bounds, &is_slow)) {
            client->cut = true;
            slow += is_slow ? 1 : 0;
            (void)shutdown(client->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&clients->lock);
    return slow;
}
