/*
 * The sockets that the daemon listens on: for clients, for HTTP and for operators, bound at start
 * or passed by systemd, and the file that tells their addresses. Main thread only.
 */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include "daemon/net/bind.h"
#include "daemon/net/hub.h"

#define SOCKETS_MAX CONTEXT_ADDRESSES_MAX /* for clients */

struct listener;

struct sockets {
    struct context *context;
    struct listener *listeners[SOCKETS_MAX];
    size_t count;
    struct bound http[SOCKETS_MAX]; /* for HTTP; bound only, until the room has them */
    size_t http_count;
    bool http_taken;    /* the room has them; their addresses are still to be told */
    struct bound admin; /* the fd is -1 while there is none, and once the admin room has it */
    bool address_file_written; /* by us: ours to remove */
};

/* No sockets. The context outlives it. */
void sockets_init(struct sockets *sockets, struct context *context);

/*
 * Whether an address can be the admin socket's; opens nothing. CAP_E_INVALID_ARGUMENT with a
 * sentence.
 */
enum cap_error sockets_check_admin(const char *address, const struct bind_access *access,
                                   char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Whether the addresses can be what they are configured to be, and whether there is one for
 * clients, as far as it can be seen without opening them. CAP_E_INVALID_ARGUMENT with a sentence.
 */
enum cap_error sockets_check(const struct config *config, char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Opens all of them. Clients are accepted as soon as the loop of `hub` turns; sockets for HTTP and
 * the admin socket, which has `admin` as its access if we make it, are bound only. On failure
 * sockets_close is to be called. CAP_E_INVALID_ARGUMENT, CAP_E_IO, CAP_E_NO_MEMORY with a sentence.
 */
enum cap_error sockets_open(struct sockets *sockets, struct hub *hub,
                            const struct bind_access *admin, char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Writes the addresses for clients to the file of --address-file, if there is one, one per line: a
 * reader of it finds all of them or no file. CAP_E_IO, also if something else than a regular file
 * has that path, and others with a sentence.
 */
enum cap_error sockets_write_addresses(struct sockets *sockets,
                                       char ret_reason[CONFIG_REASON_SIZE]);

/* Logs the addresses. */
void sockets_log(const struct sockets *sockets);

/* Goes on accepting after descriptors had run out; about ten times a second. */
void sockets_tick(struct sockets *sockets);

/* Accepts no client any more. Run the loop until the handles are closed. */
void sockets_close_clients(struct sockets *sockets);

/* As sockets_close_clients; the address file and the admin socket's path go as well. */
void sockets_close(struct sockets *sockets);

#endif
