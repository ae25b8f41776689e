/* What the files of this room share: the room itself and its threads. */
#ifndef DAEMON_HTTP_LIFE_H
#define DAEMON_HTTP_LIFE_H

#include <microhttpd.h>

#include "daemon/admin/metrics.h"
#include "daemon/http/client.h"
#include "daemon/net/acceptor.h"
#include "daemon/net/bind.h"

#define HTTP_THREADS       4u /* so that a cold page keeps a quarter of the clients waiting */
#define HTTP_LISTENERS_MAX CONTEXT_ADDRESSES_MAX

struct http_thread {
    struct http *http;
    struct MHD_Daemon *daemon;
    struct http_clients clients;
};

struct http_listener {
    struct http *http;
    struct bound bound; /* its path is released before its descriptor */
    struct acceptor acceptor;
    bool open;
};

struct http {
    struct admin_rooms rooms;
    struct context *context;
    struct http_listener listeners[HTTP_LISTENERS_MAX];
    size_t listener_count;
    struct http_thread threads[HTTP_THREADS];
    size_t thread_count;
    uint64_t looked_us; /* when the clients' clocks were last looked at */

    /* Any thread. */
    atomic_uint_fast64_t beat_us; /* monotonic: the main loop's last tick */

    pthread_mutex_t figures_lock;
    struct admin_figures admin; /* under it */

    pthread_mutex_t metrics_lock; /* of what follows: one scrape is written at a time */
    struct cap_buf metrics;
    uint64_t metrics_us; /* monotonic; 0: never written */
};

#endif
