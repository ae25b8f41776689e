/*
 * The daemon's life: start, signals, drain, end. It composes the rooms and is known to main only.
 *
 * server_start opens everything, starts the threads and says READY; server_run turns the main loop,
 * which accepts, serves clients as the others do, and has the admin socket, until a drain or a stop
 * is complete; server_close releases. SIGTERM and SIGINT drain; a second one stops at once; SIGHUP
 * reads the configuration again. The admin socket still answers while the daemon drains and is
 * stopped last.
 *
 * Main thread only, but for server_stop.
 */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include "daemon/core/context.h"
#include "daemon/loop.h"
#include "daemon/reload.h"
#include "daemon/sockets.h"

#define SERVER_SIGNALS 3u

struct admin;
struct http;
struct upstream;

struct server {
    struct context context;
    struct loop *loops; /* the first is the main thread's */
    size_t loop_count;
    struct hub_set hubs;
    struct serve_set serves;
    struct writer *writer;
    struct room room;
    struct upkeep_jobs *jobs;
    struct backups *backups;
    struct gc *gc;
    struct scrub *scrub;
    struct upstream *upstream; /* NULL: none */
    struct admin *admin;
    struct http *http;
    struct sockets sockets;
    uv_timer_t tick;
    uv_timer_t watchdog;
    uv_async_t wake; /* ends the main loop for whichever thread asks */
    uv_signal_t signals[SERVER_SIGNALS];
    bool handles_open; /* the timers and signals above */
    struct pool_job clear_readers;
    bool clearing;
    uint64_t cleared_us;
    uint64_t drain_deadline_us;
    uint64_t watchdog_beat;
    _Atomic(int) exit_code;
    struct reload reload;
};

/*
 * Opens state directory, store and sockets with a parsed config, which the server takes over, and
 * tells systemd that it is ready. A `store` that is open already is taken over instead (NULL: the
 * one in the state directory). On failure everything is released but config and `store`, and
 * ret_reason holds a sentence for a person.
 */
enum cap_error server_start(struct server *server, const struct env *env, struct config *config,
                            struct cap_store *store, char ret_reason[CONFIG_REASON_SIZE]);

/* Turns the main loop until the daemon is to end. Returns the exit status of the process. */
int server_run(struct server *server);

/* Releases everything; after server_run, or instead of it. */
void server_close(struct server *server);

/*
 * Stops accepting, refuses new requests with CAP_E_DRAINING, lets what is in flight finish within
 * config.drain_ms, then ends server_run. A second call does nothing.
 */
void server_drain(struct server *server);

/* Ends server_run at once; what is in flight is dropped, what was acknowledged is safe. Any thread.
 */
void server_stop(struct server *server);

#endif
