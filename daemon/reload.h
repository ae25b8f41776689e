/*
 * The configuration of a daemon that runs, read again: on SIGHUP, and for the admin socket.
 *
 * Happy path: the file is read and judged as at start, in a thread. What can change live is changed
 * in the configuration in use, which every thread reads; parts that keep a value of their own are
 * told. What takes a restart is named and stays.
 *
 * Failure modes: a file that cannot be read or says something wrong, a group that does not exist:
 * nothing changes, and a sentence says what is wrong and in which line.
 */
#ifndef DAEMON_RELOAD_H
#define DAEMON_RELOAD_H

#include "daemon/core/config.h"
#include "daemon/core/pool.h"

struct admin;
struct admin_group;
struct bind_access;
struct context;
struct sockets;
struct writer;

struct reload {
    /* What it reads and changes; set before the first one. */
    struct context *context;
    struct sockets *sockets;
    struct writer *writer;
    struct admin *admin;      /* NULL: none */
    uint64_t own_descriptors; /* see descriptors_fit */
    struct pool_outlet *pool; /* of the main thread's loop */

    pthread_mutex_t lock; /* one at a time */
    bool closed;          /* under it: the daemon ends */
    struct pool_job job;  /* of a SIGHUP; main thread, as are the next two */
    bool running;
    bool again; /* another one came meanwhile */
};

/*
 * The operators' group of a configuration, and whether its admin socket can be what it is to be;
 * opens nothing. CAP_E_INVALID_ARGUMENT with a sentence.
 */
enum cap_error reload_check_admin(const struct config *config, struct admin_group *ret_operators,
                                  char ret_reason[CONFIG_REASON_SIZE]);

/* The admin socket lets in the operators' group, if there is one, and our own user. */
struct bind_access reload_admin_access(const struct admin_group *operators);

/*
 * Reads the configuration again and says what differs from the one in use; `apply` takes over what
 * can change live. CAP_E_NOT_CONFIGURED without --config; CAP_E_INVALID_ARGUMENT, CAP_E_IO,
 * CAP_E_NO_MEMORY with a sentence. Any thread but the loops': it blocks.
 */
enum cap_error reload_run(struct reload *reload, bool apply, struct config_changes *ret_changes,
                          char ret_reason[CONFIG_REASON_SIZE]);

/* Has a thread do it, and tells systemd when it begins and ends. Main thread. */
void reload_start(struct reload *reload);

/* Waits for one that is under way; later ones fail. Before what they would change is closed. */
void reload_close(struct reload *reload);

#endif
