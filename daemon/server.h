/*
 * The daemon as one value: loop, store, writer, listeners, sessions, figures.
 *
 * Everything here belongs to the loop thread. Other rooms of the daemon (the admin socket) may read
 * the fields marked "open", and otherwise use the functions below.
 *
 * Life: server_start opens everything and says READY; server_run turns the loop until a drain or a
 * stop is complete; server_close releases. SIGTERM and SIGINT drain; a second one stops at once;
 * SIGHUP does nothing.
 *
 * The admin socket is a room of its own, daemon/admin, which provides in daemon/admin/admin.h:
 *
 *     enum cap_error admin_start(struct server *server, int listen_fd,
 *                                const struct admin_group *operators, struct admin **ret_admin);
 *         Takes over a bound and listening, nonblocking, close-on-exec Unix socket (ours or
 *         inherited) and serves on server->loop. On failure the fd stays the caller's.
 *     void admin_stop(struct admin *admin);
 *         Closes the listener (only closes: the path is the server's) and every connection, and
 *         cancels what is under way. Afterwards the loop is run until every handle and request of
 *         the admin socket is gone; then
 *     void admin_free(struct admin *admin);
 *         frees it. Both accept NULL.
 *
 * The admin socket goes on answering while the daemon drains and is stopped last.
 */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <uv.h>

#include "daemon/config.h"
#include "daemon/env.h"
#include "daemon/log.h"
#include "daemon/peer.h"
#include "daemon/refusals.h"
#include "daemon/stats.h"
#include "lib/store/store.h"

#define SERVER_LISTENERS_MAX 32u
#define SERVER_SIGNALS       3u

struct admin;
struct hashing;
struct ledger;
struct listener;
struct session;
struct state;
struct writer;

/* A bound and listening socket; see daemon/listener.h. */
struct bound {
    int fd;
    char *path; /* of a Unix socket that we made; NULL otherwise */
    uint64_t device;
    uint64_t inode;
};

enum server_phase {
    SERVER_STARTING,
    SERVER_RUNNING,
    SERVER_DRAINING,
    SERVER_STOPPING,
};

/* The last thing that went wrong inside of the daemon (not a peer's mistake). */
struct server_fault {
    uint64_t time_us; /* 0: nothing yet */
    enum cap_error error;
    char message[REFUSAL_MESSAGE_SIZE];
};

struct server {
    /* Open to other rooms. */
    uv_loop_t loop;
    const struct env *env;
    struct config config; /* do not change */
    struct log log;       /* log.level may be changed */
    struct stats stats;
    struct refusals refusals;
    struct cap_store *store; /* reading only; NULL before start */
    struct server_fault last_fault;
    enum server_phase phase;
    uint64_t started_us; /* real time */

    /* The server's own. */
    uint64_t started_monotonic_us;
    struct state *state;
    struct ledger *ledger;
    struct writer *writer;
    struct hashing *hashing;
    struct admin *admin;
    struct listener *listeners[SERVER_LISTENERS_MAX];
    size_t listener_count;
    struct bound admin_bound; /* the fd is -1 once the admin socket has taken it over */
    struct session *sessions; /* newest first */
    size_t session_count;
    uint64_t last_session;
    size_t upload_count;
    uint8_t *input; /* one receive buffer for all sessions */
    uv_timer_t tick;
    uv_idle_t turn;      /* runs while sessions have input left over */
    uv_prepare_t round;  /* a round of turns is over: the loop looks at sockets again */
    size_t turns;        /* of sessions in this round */
    size_t turns_before; /* and in the one before */
    uint64_t round_us;   /* when the first turn of this round began */
    uv_timer_t watchdog;
    uv_signal_t signals[SERVER_SIGNALS];
    bool loop_open;
    bool handles_open; /* the timers, idle and signals above */
    uv_work_t tend;
    bool tending;
    uint64_t tended_us;
    unsigned works; /* uv_queue_work requests under way */
    uint64_t drain_deadline_us;
    uint64_t watchdog_beat;
    uint64_t refusal_lines; /* log lines for refusals in this second */
    uint64_t refusal_second;
    int exit_code;
};

/*
 * Opens state directory, store and sockets with a parsed config, which the server takes over, and
 * tells systemd that it is ready. A `store` that is open already is taken over instead (NULL: the
 * one in the state directory). On failure everything is released but config and `store`, and
 * ret_reason holds a sentence for a person.
 */
enum cap_error server_start(struct server *server, const struct env *env, struct config *config,
                            struct cap_store *store, char ret_reason[CONFIG_REASON_SIZE]);

/* Turns the loop until the daemon is to end. Returns the exit status of the process. */
int server_run(struct server *server);

/* Releases everything; after server_run, or instead of it. */
void server_close(struct server *server);

/* Counts, records and logs a refusal. `what` is a request's name; `session` may be NULL. */
void server_refused(struct server *server, const struct session *session, const struct peer *peer,
                    const char *what, enum cap_error error, const char *message);

/* Records and logs something that went wrong inside; CAP_E_STORE_FAILED ends the daemon. */
void server_fault(struct server *server, enum cap_error error, const char *message);

/* Has sessions handle the input that they left over, in the next turn of the loop. */
void server_turn_soon(struct server *server);

/* One connected client, for clients.list. */
struct client {
    uint64_t session; /* its number; numbers rise and are not used again */
    struct peer peer;
    char agent[65]; /* what it calls itself, printable ASCII, "" before its hello */
    uint64_t connected_us;
    uint64_t idle_ms; /* since bytes last moved */
    uint64_t requests;
    uint64_t uploads;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t output_bytes; /* answers that wait for the socket */
};

/* The present values; walks the sessions. */
void server_gauges(struct server *server, struct gauges *ret_gauges);

/*
 * Up to `max` clients with a number above `after`, ascending; returns how many. *ret_more says
 * whether there are others.
 */
size_t server_clients(struct server *server, uint64_t after, struct client *ret_clients, size_t max,
                      bool *ret_more);

/*
 * Stops accepting, refuses new requests with CAP_E_DRAINING, lets what is in flight finish within
 * config.drain_ms, then ends server_run. A second call does nothing.
 */
void server_drain(struct server *server);

/* Ends server_run at once; what is in flight is dropped, what was acknowledged is safe. */
void server_stop(struct server *server);

#endif
