/*
 * The translator's thread.
 *
 * Happy path: one loop waits for the handle's socket and libcurl's together, takes what came of
 * either, and writes the frames that follow from it.
 *
 * Failure modes. The handle reads more slowly than HTTP brings: transfers pause while OUT_MOST
 * bytes of frames wait. The handle is closed, or its socket shut: the thread ends at once, whatever
 * is under way. There is no memory: the thread ends, and the handle finds its stream closed. That a
 * server is silent or slow is for the handle's own clocks.
 */
#include "client/lib/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/lib/link.h"
#include "client/lib/translate.h"
#include "lib/cap/must.h"

#define OUT_MOST    ((size_t)256 << 10) /* one frame of the protocol's largest */
#define IN_SIZE     ((size_t)16 << 10)  /* of one read: requests are short */
#define WAIT_MS     60000               /* the sockets wake it; it does nothing by then */
#define CONNECTIONS 8L  /* to one server: it is how many requests of a handle go at once */
#define KEPT        16L /* connections that are kept for later, to all servers */

struct client_http {
    pthread_t thread;
    pid_t process; /* whose thread it is */
    int fd;        /* the thread's end */
    CURLM *multi;
    struct client_translator translator;
    struct proto_reader reader;
    struct cap_buf out;
    size_t out_sent;
    uint8_t in[IN_SIZE];
};

static size_t waiting(const struct client_http *http)
{
    return http->out.len - http->out_sent;
}

/* Writes what goes. False when the handle is gone. */
static bool write_some(struct client_http *http)
{
    while (waiting(http) > 0) {
        size_t n = 0;
        if (client_link_write(http->fd, http->out.data + http->out_sent, waiting(http), &n) !=
            CAP_OK) {
            return false;
        }
        http->out_sent += n;
        if (n == 0) {
            return true;
        }
    }
    http->out.len = http->out_sent = 0;
    return true;
}

/* Takes what the handle asks. False when it is gone, or asks what no handle does. */
static bool read_some(struct client_http *http)
{
    int passed = -1;
    size_t n = 0;
    if (client_link_read(http->fd, http->in, sizeof(http->in), &n, &passed) != CAP_OK) {
        return false;
    }
    struct cap_bytes input = {http->in, n};
    while (input.len > 0) {
        struct proto_event event;
        bool have = false;
        enum cap_error error = proto_reader_next(&http->reader, &input, &event, &have);
        if (error == CAP_OK && have) {
            error = client_translate(&http->translator, &event);
        }
        if (error != CAP_OK) {
            return false;
        }
    }
    return true;
}

/* Waits until one of the sockets wants something. False for want of memory. */
static bool wait(struct client_http *http)
{
    short events = CURL_WAIT_POLLIN;
    if (waiting(http) > 0) {
        events |= CURL_WAIT_POLLOUT;
    }
    struct curl_waitfd own = {http->fd, events, 0};
    return curl_multi_poll(http->multi, &own, 1, WAIT_MS, NULL) == CURLM_OK;
}

/* One turn. False: it was the last. */
static bool turn(struct client_http *http)
{
    struct client_transfers *transfers = &http->translator.transfers;
    int running;
    if (curl_multi_perform(http->multi, &running) != CURLM_OK) {
        return false;
    }
    client_transfers_collect(transfers);
    if (http->translator.failed || !write_some(http)) {
        return false;
    }
    transfers->full = waiting(http) >= OUT_MOST;
    if (!transfers->full) {
        client_transfers_resume(transfers); /* which may fill it again */
        transfers->full = waiting(http) >= OUT_MOST;
    }
    return wait(http) && read_some(http);
}

static void *translate(void *ctx)
{
    struct client_http *http = ctx;
    while (turn(http)) {
    }
    client_link_end(http->fd); /* the handle reads what was written, then the end */
    return NULL;
}

/* ---- life ---- */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static bool curl_is_ready;

static void init_curl(void)
{
    curl_is_ready = curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK;
}

static void release(struct client_http *http)
{
    client_translator_free(&http->translator);
    if (http->multi != NULL) {
        (void)curl_multi_cleanup(http->multi);
    }
    if (http->fd >= 0) {
        close(http->fd);
    }
    proto_reader_free(&http->reader);
    cap_buf_free(&http->out);
    free(http);
}

/* Starts the thread, which takes no signal: they are the program's. */
static bool start(struct client_http *http)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&http->thread, NULL, translate, http);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0;
}

enum cap_error client_http_start(const char *base, const char *agent, uint32_t timeout_ms,
                                 struct client_http **ret_http, int *ret_fd)
{
    int ends[2] = {-1, -1};
    pthread_once(&curl_once, init_curl);
    struct client_http *http = curl_is_ready ? calloc(1, sizeof(*http)) : NULL;
    if (http == NULL) {
        return CAP_E_NO_MEMORY;
    }
    http->fd = -1;
    http->process = getpid();
    proto_reader_init(&http->reader, PROTO_FRAME_MAX);
    http->multi = curl_multi_init();
    bool good = client_translator_init(&http->translator, http->multi, base, agent, timeout_ms,
                                       &http->out) == CAP_OK &&
                http->multi != NULL &&
                socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0;
    http->fd = ends[1];
    if (good) {
        (void)curl_multi_setopt(http->multi, CURLMOPT_MAX_HOST_CONNECTIONS, CONNECTIONS);
        (void)curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, KEPT);
        (void)curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
        good = start(http);
    }
    if (!good) {
        if (ends[0] >= 0) {
            close(ends[0]);
        }
        release(http);
        return CAP_E_NO_MEMORY;
    }
    *ret_http = http;
    *ret_fd = ends[0];
    return CAP_OK;
}

void client_http_stop(struct client_http *http, int fd)
{
    if (getpid() != http->process) {
        return; /* its thread, its sockets and the locks of libcurl are the other process's */
    }
    client_link_end(fd);
    must(pthread_join(http->thread, NULL) == 0);
    release(http);
}
