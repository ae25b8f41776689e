/*
 * One connection to the admin socket: lines come in, answers go out. Internal to the room.
 *
 * A command under way (commands.h) belongs to its connection until that closes.
 */
#ifndef DAEMON_ADMIN_CONNECTION_H
#define DAEMON_ADMIN_CONNECTION_H

#include <sys/queue.h>

#include "daemon/admin/commands.h"
#include "daemon/admin/gauges.h"
#include "daemon/admin/level.h"
#include "daemon/admin/metrics.h"
#include "daemon/net/acceptor.h"

struct admin_connection;
LIST_HEAD(admin_connections, admin_connection);

/* The admin socket: what its connections share. */
struct admin {
    struct admin_rooms rooms;
    _Atomic(struct admin_group) operators; /* changed by any thread */
    struct acceptor acceptor;
    bool stopped;
    bool told_groups; /* that supplementary groups are not known */
    struct admin_connections connections;
    struct admin_commands commands;
    struct admin_figures figures;
    unsigned subscribers; /* connections with a subscription */
    uv_timer_t events;    /* runs while there are some */
    bool events_open;
};

/*
 * Makes a connection of a connected socket, which it takes over in every case. Its level comes from
 * what the kernel says of its peer. CAP_E_IO, CAP_E_NO_MEMORY.
 */
enum cap_error admin_connection_open(struct admin *admin, int fd);

/* Closes; the memory goes when libuv is done with it. Its command is abandoned. Idempotent. */
void admin_connection_close(struct admin_connection *connection);

/* Prepares the timer of the events; admin_events_close lets go of it. */
void admin_events_open(struct admin *admin);
void admin_events_close(struct admin *admin);

/* Closes connections whose peers have been idle, or have not read, for too long. */
void admin_connections_tick(struct admin *admin);

#endif
