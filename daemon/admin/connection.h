/*
 * One connection to the admin socket, and the commands that come over it. Internal to the room.
 *
 * connection: a stream with lines coming in and answers going out.
 * job: one command from its line to its answer. It holds the request and its call. It belongs to
 * its connection until that closes; while it is on a worker it outlives it.
 */
#ifndef DAEMON_ADMIN_CONNECTION_H
#define DAEMON_ADMIN_CONNECTION_H

#include "daemon/admin/admin.h"
#include "daemon/admin/jsonrpc.h"
#include "daemon/admin/methods.h"
#include "daemon/admin/metrics.h"

struct admin_connection;

struct admin_job {
    uv_work_t work;
    struct admin *admin;
    struct admin_connection *connection; /* NULL once that has closed */
    struct jsonrpc_request request;
    struct admin_call call;
    bool ran;              /* what follows says with which outcome */
    bool succeeded;        /* otherwise call.error is set */
    struct cap_buf line;   /* the answer; empty for a notification */
    enum cap_error failed; /* the answer could not be written */
    bool running;          /* on a worker; otherwise it waits in admin->jobs */
    struct admin_job *next;
};

struct admin {
    struct admin_rooms rooms;
    struct admin_group operators;
    int listen_fd; /* -1 once closed */
    uv_poll_t listener;
    uv_timer_t backoff; /* accepting rests when descriptors are spent */
    bool stopped;
    bool told_groups; /* that supplementary groups are not known */
    struct admin_connection *connections;
    struct admin_job *jobs; /* that wait for a worker, the oldest first */
    unsigned running;
    struct admin_figures figures;
};

/*
 * Makes a connection of a socket that it takes over, in every case. Its level comes from the
 * kernel's word on its peer.
 */
enum cap_error admin_connection_open(struct admin *admin, int fd);

/* Closes; the memory goes when libuv is done with it. Its waiting job is dropped. Idempotent. */
void admin_connection_close(struct admin_connection *connection);

/* The next one in the list of admin->connections. */
struct admin_connection *admin_connection_next(struct admin_connection *connection);

/*
 * Answers a job and frees it; the connection, if there still is one, goes on in the next turn of
 * the loop.
 */
void admin_connection_finish(struct admin_job *job);

/* Runs a job that admin_call_begin accepted and writes its answer: on whatever thread it works. */
void admin_job_run(struct admin_job *job);

/* Queues a job whose method works on a worker. */
void admin_job_submit(struct admin_job *job);

/* Forgets a job that waits; one that runs loses its connection only. */
void admin_job_abandon(struct admin_job *job);

/* Frees a job that is not on a worker. */
void admin_job_free(struct admin_job *job);

#endif
