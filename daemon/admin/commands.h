/*
 * Commands of the admin socket, each from its line to its answer, and the threads they work in.
 *
 * The threads are ADMIN_COMMANDS_MAX of their own, so that operators are answered while the disk
 * keeps uploads waiting; further commands wait in order. A command may outlive the connection that
 * it came from.
 *
 * Loop thread only, but for admin_command_run, which touches the command alone.
 */
#ifndef DAEMON_ADMIN_COMMANDS_H
#define DAEMON_ADMIN_COMMANDS_H

#include <sys/queue.h>

#include "daemon/admin/jsonrpc.h"
#include "daemon/admin/methods.h"
#include "daemon/core/pool.h"

struct admin;
struct admin_connection;

struct admin_command {
    struct admin *admin;
    struct admin_connection *connection; /* NULL once that has closed */
    struct jsonrpc_request request;
    struct admin_call call;
    bool ran;              /* what follows says with which outcome */
    bool succeeded;        /* otherwise call.error is set */
    struct cap_buf line;   /* the answer; empty for a notification */
    enum cap_error failed; /* the answer could not be written */

    /* The queue's own, from here. */
    void (*done)(struct admin_command *command);
    struct admin_commands *commands;
    STAILQ_ENTRY(admin_command) link;
    struct pool_job work;
    bool running; /* in a thread; otherwise it waits */
};

STAILQ_HEAD(admin_command_queue, admin_command);

struct admin_commands {
    struct pool pool;
    struct pool_outlet outlet;
    struct admin_command_queue waiting; /* the oldest first */
    unsigned running;
};

/* Starts the threads, for the loop of `shard`, which outlives them. CAP_E_NO_MEMORY. */
enum cap_error admin_commands_open(struct admin_commands *commands, const struct env *env,
                                   struct shard *shard);

/* When every command is abandoned. The loop must run until those in threads are done. */
void admin_commands_close(struct admin_commands *commands);

/* After admin_commands_close and the loop: ends the threads. */
void admin_commands_free(struct admin_commands *commands);

/* Runs what admin_call_begin accepted, and writes the answer into the command's line. Any thread.
 */
void admin_command_run(struct admin_command *command);

/* Writes the answer of a command that did not run: its error. */
void admin_command_refuse(struct admin_command *command);

/*
 * Runs a command in a thread as soon as one is free for it. Then calls `done` on the loop, which
 * takes the command over.
 */
void admin_command_submit(struct admin_commands *commands, struct admin_command *command,
                          void (*done)(struct admin_command *command));

/* Parts a command from its connection: one that waits is freed, one in a thread is still `done`. */
void admin_command_abandon(struct admin_command *command);

/* Frees a command that is not in a thread. */
void admin_command_free(struct admin_command *command);

#endif
