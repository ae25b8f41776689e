/*
 * The room's life.
 *
 * Happy path. A connection is accepted on the main loop, its peer learned from the kernel and
 * counted, and given to the thread with the fewest. libmicrohttpd reads the request, on_request
 * answers it, on_completed and on_connection tell us when it is over.
 *
 * Failure modes.
 *   - Over a limit of connections: the client is told, as far as its socket takes it at once.
 *   - No memory for a connection: libmicrohttpd closes it.
 *   - A cap is not here, but there is a daemon above: the request waits for it (wait.h).
 *   - A client is slow: the tick shuts its socket (client.h), libmicrohttpd closes it.
 *   - Stopping: libmicrohttpd closes what is left, and its threads end.
 */
#include "daemon/http/http.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/http/request.h"

/*
 * What a connection has for the header of a request, and of an answer: a request with more is
 * refused. The closure of an Image less 200 caps that are here already takes 13 KiB of it.
 */
#define CONNECTION_MEMORY (32u << 10)
#define ACCEPTS_TURN      32u
#define LOOK_US           UINT64_C(250000)

bool http_is_built(void)
{
    return true;
}

/* --- Clients -------------------------------------------------------------------------------- */

static void release(struct http *http, struct http_client *client)
{
    ledger_disconnect(http->context->ledger, client->account);
    free(client);
}

static struct http_client *client_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static void end_answer(struct http *http, struct http_client *client)
{
    struct ledger *ledger = http->context->ledger;
    (void)ledger_memory_hold(ledger, client->account, &client->memory, 0);
    if (client->requesting) {
        client->requesting = false;
        ledger_request_end(ledger, client->account);
    }
}

/* A connection is known to libmicrohttpd, or forgotten by it and about to be closed. */
static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_thread *thread = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = info == NULL ? NULL : http_clients_begin(&thread->clients, info->connect_fd);
    } else if (*context != NULL) {
        struct http_client *client = *context;
        *context = NULL;
        http_clients_remove(&thread->clients, client);
        end_answer(thread->http, client);
        release(thread->http, client);
    }
}

/* The first line of a request is there. */
static void *on_line(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct http_thread *thread = cls;
    struct http_client *client = client_of(connection);
    (void)uri;
    if (client != NULL) {
        client->asked = false;
        client->waited = false;
        http_client_does(client, HTTP_ASKING, env_monotonic_us(thread->http->context->env));
    }
    return client;
}

/* RFC 9110 5.6.2. "Content-Length " is none, and libmicrohttpd takes it for a header of no account.
 */
static bool is_token(const char *name)
{
    static const char set[] = "!#$%&'*+-.^_`|~0123456789"
                              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return name[0] != '\0' && name[strspn(name, set)] == '\0';
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                 const char *value)
{
    bool *body = cls;
    (void)kind;
    if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        *body |= value == NULL || strcmp(value, "0") != 0;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0 || !is_token(name)) {
        *body = true;
    }
    return MHD_YES;
}

/*
 * Whether more comes than the header: nobody reads it, and the connection cannot go on. Every
 * header counts: of two lengths libmicrohttpd goes by the first, and a proxy in front perhaps by
 * the second, so that what it takes for a body would be answered as the next client's request.
 */
static bool has_body(struct MHD_Connection *connection)
{
    bool body = false;
    (void)MHD_get_connection_values(connection, MHD_HEADER_KIND, on_header, &body);
    return body;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **context)
{
    struct http_thread *thread = cls;
    struct http_client *client = *context;
    (void)version;
    (void)upload;
    (void)upload_size;
    if (client == NULL) {
        return MHD_NO;
    }
    if (!client->asked && !has_body(connection)) {
        client->asked = true;
        return MHD_YES; /* and is asked again: one that answers at once closes the connection */
    }
    const struct http_call call = {thread->http, thread, client, connection, url};
    client->given = 0;
    http_client_does(client, HTTP_ANSWERING, env_monotonic_us(thread->http->context->env));
    enum MHD_Result result = http_request(&call, method);
    if (!client->requesting) {
        client->requesting = true;
        ledger_request_begin(thread->http->context->ledger, client->account);
    }
    return result;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct http_thread *thread = cls;
    struct http_client *client = *context;
    (void)connection;
    (void)code;
    if (client != NULL) {
        end_answer(thread->http, client);
        http_client_does(client, HTTP_IDLE, env_monotonic_us(thread->http->context->env));
    }
}

/* --- Accepting ------------------------------------------------------------------------------ */

static void turn_away(struct http *http, int fd, const struct peer *peer, enum cap_error error)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\n"
                                 "Content-Type: application/json\r\nContent-Length: %zu\r\n"
                                 "Retry-After: 1\r\nCache-Control: no-store\r\n"
                                 "Connection: close\r\n\r\n%s";
    struct shard *shard = http->context->shards[0];
    char body[160];
    char text[512];
    uint8_t rest[4096];
    int body_len = snprintf(body, sizeof(body), "{\"error\":\"%s\",\"message\":\"%s\"}",
                            cap_error_name(error), cap_error_text(error));
    int len = snprintf(text, sizeof(text), answer, (size_t)body_len, body);
    shard->stats.connections_refused++;
    shard_refused(shard, 0, peer, "connection", error, cap_error_text(error), NULL);
    (void)send(fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    /* What has come already would turn the close into a reset. */
    (void)recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
    close(fd);
}

static struct http_thread *least_thread(struct http *http)
{
    struct http_thread *least = &http->threads[0];
    for (size_t i = 1; i < http->thread_count; i++) {
        if (http->threads[i].clients.count < least->clients.count) {
            least = &http->threads[i];
        }
    }
    return least;
}

/* Enters a record everywhere where a later fd of the same number could be mistaken for it. */
static void expect(struct http *http, struct http_thread *thread, struct http_client *client)
{
    for (size_t i = 0; i < http->thread_count; i++) {
        struct http_client *stale = http_clients_unknown(&http->threads[i].clients, client->fd);
        if (stale != NULL) {
            release(http, stale);
        }
    }
    http_clients_expect(&thread->clients, client);
}

/* Gives a connection, counted already, to a thread. CAP_E_NO_MEMORY: it stays the caller's. */
static enum cap_error hand_over(struct http *http, int fd, const struct peer *peer,
                                struct ledger_peer *account)
{
    struct http_thread *thread = least_thread(http);
    struct http_client *client = calloc(1, sizeof(*client));
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    socklen_t len = sizeof(address);
    if (client == NULL) {
        return CAP_E_NO_MEMORY;
    }
    client->fd = fd;
    client->peer = *peer;
    client->account = account;
    http_client_does(client, HTTP_ARRIVING, env_monotonic_us(http->context->env));
    (void)getpeername(fd, (struct sockaddr *)&address, &len);
    expect(http, thread, client);
    /* In any case the fd is libmicrohttpd's now. */
    if (MHD_add_connection(thread->daemon, fd, (struct sockaddr *)&address, len) != MHD_YES &&
        http_clients_forget(&thread->clients, client)) {
        release(http, client);
    }
    return CAP_OK;
}

static void admit(void *owner, int fd)
{
    const struct http_listener *listener = owner;
    struct http *http = listener->http;
    struct context *context = http->context;
    struct peer peer;
    struct ledger_peer *account = NULL;
    int on = 1;
    if (peer_of(fd, (unsigned)context->config.peer_prefix6, &peer) != CAP_OK) {
        close(fd);
        return;
    }
    if (!peer.local) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    enum cap_error error = ledger_connect(context->ledger, peer.key, &account);
    if (error == CAP_OK) {
        error = hand_over(http, fd, &peer, account);
        if (error == CAP_OK) {
            context->shards[0]->stats.connections++;
            return;
        }
        ledger_disconnect(context->ledger, account);
    }
    turn_away(http, fd, &peer, error);
}

static void on_paused(void *owner, enum cap_error error)
{
    const struct http_listener *listener = owner;
    context_fault(listener->http->context, error,
                  "too few file descriptors or too little memory to accept a connection");
}

static void on_closed(struct acceptor *acceptor)
{
    (void)acceptor; /* part of the room, which is freed when the loop has let go */
}

static void close_listeners(struct http *http)
{
    for (size_t i = 0; i < http->listener_count; i++) {
        struct http_listener *listener = &http->listeners[i];
        if (listener->open) {
            listener->open = false;
            acceptor_close(&listener->acceptor, on_closed);
            bound_release(&listener->bound);
        }
    }
}

/* --- Life ----------------------------------------------------------------------------------- */

/* Starts one more thread, a daemon of libmicrohttpd's that is given its connections. */
static enum cap_error open_thread(struct http *http)
{
    struct http_thread *thread = &http->threads[http->thread_count];
    thread->http = http;
    http_clients_init(&thread->clients);
    thread->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0,
        NULL, NULL, on_request, thread, MHD_OPTION_NOTIFY_CONNECTION, on_connection, thread,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, thread, MHD_OPTION_URI_LOG_CALLBACK, on_line,
        thread, MHD_OPTION_CONNECTION_LIMIT, 65536u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_END);
    if (thread->daemon == NULL) {
        return CAP_E_NO_MEMORY;
    }
    http->thread_count++;
    return CAP_OK;
}

static enum cap_error open_listener(struct http *http, const struct bound *bound)
{
    struct http_listener *listener = &http->listeners[http->listener_count];
    *listener = (struct http_listener){
        .http = http,
        .bound = *bound,
        .acceptor =
            {
                .fd = bound->fd,
                .turn_max = ACCEPTS_TURN,
                .accepted = admit,
                .paused = on_paused,
                .owner = listener,
            },
    };
    enum cap_error error = acceptor_open(&listener->acceptor, &http->context->shards[0]->loop);
    if (error == CAP_OK) {
        listener->open = true;
        http->listener_count++;
    }
    return error;
}

static void stop_threads(struct http *http)
{
    for (size_t i = 0; i < http->thread_count; i++) {
        struct http_client *client;
        MHD_stop_daemon(http->threads[i].daemon);
        while ((client = http_clients_take(&http->threads[i].clients)) != NULL) {
            release(http, client); /* libmicrohttpd never came to know it */
        }
    }
    http->thread_count = 0;
}

enum cap_error http_start(const struct admin_rooms *rooms, const struct bound *bounds, size_t count,
                          struct http **ret_http)
{
    enum cap_error error = CAP_OK;
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        return CAP_E_NO_MEMORY;
    }
    http->rooms = *rooms;
    http->context = rooms->context;
    http->beat_us = env_monotonic_us(http->context->env);
    pthread_mutex_init(&http->figures_lock, NULL);
    pthread_mutex_init(&http->metrics_lock, NULL);
    while (error == CAP_OK && http->thread_count < HTTP_THREADS) {
        error = open_thread(http);
    }
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        error = open_listener(http, &bounds[i]);
    }
    *ret_http = http;
    for (size_t i = 0; error != CAP_OK && i < http->listener_count; i++) {
        http->listeners[i].bound = (struct bound){.fd = -1};
    }
    return error;
}

void http_tick(struct http *http, const struct admin_figures *admin)
{
    if (http == NULL) {
        return;
    }
    const struct config *config = &http->context->config;
    const struct http_bounds bounds = {
        .now_us = env_monotonic_us(http->context->env),
        .hello_us = config->hello_ms * 1000,
        .idle_us = config->idle_ms * 1000,
        .progress_us = config->progress_ms * 1000,
        .upstream_us = config->upstream_timeout_ms * 1000,
        .draining = http->context->phase != PHASE_RUNNING,
    };
    http->beat_us = bounds.now_us;
    pthread_mutex_lock(&http->figures_lock);
    http->admin = *admin;
    pthread_mutex_unlock(&http->figures_lock);
    for (size_t i = 0; i < http->listener_count; i++) {
        if (http->listeners[i].open) {
            acceptor_tick(&http->listeners[i].acceptor);
        }
    }
    if (bounds.draining || bounds.now_us - http->looked_us >= LOOK_US) {
        http->looked_us = bounds.now_us;
        for (size_t i = 0; i < http->thread_count; i++) {
            http->context->http.cut += http_clients_judge(&http->threads[i].clients, &bounds);
        }
    }
}

void http_drain(struct http *http)
{
    if (http != NULL) {
        close_listeners(http);
    }
}

void http_stop(struct http *http)
{
    if (http != NULL) {
        close_listeners(http);
        stop_threads(http);
    }
}

void http_free(struct http *http)
{
    if (http != NULL) {
        pthread_mutex_destroy(&http->figures_lock);
        pthread_mutex_destroy(&http->metrics_lock);
        cap_buf_free(&http->metrics);
        free(http);
    }
}
