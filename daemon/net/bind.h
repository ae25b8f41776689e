/*
 * Listening sockets at start: unix:PATH and tcp:HOST:PORT, ours or inherited from systemd.
 */
#ifndef DAEMON_NET_BIND_H
#define DAEMON_NET_BIND_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/context.h"
#include "lib/cap/error.h"

#define BIND_ADDRESS_SIZE CONTEXT_ADDRESS_SIZE

/* A bound and listening socket. */
struct bound {
    int fd;
    char address[BIND_ADDRESS_SIZE]; /* as the kernel tells it: the port is the one in use */
    char *path;                      /* of a Unix socket that we made; NULL otherwise */
    uint64_t device;
    uint64_t inode;
};

/* Who may connect to a Unix socket that we make. */
struct bind_access {
    uint64_t mode;  /* its permissions; CONFIG_MODE_UMASK: what the umask leaves */
    uint32_t group; /* its group; BIND_OWN_GROUP: ours */
};

#define BIND_OWN_GROUP UINT32_MAX

/*
 * Whether an address is well formed and can have this access; opens nothing. Abstract sockets
 * (unix:@NAME) have neither permissions nor a group. CAP_E_INVALID_ARGUMENT with a sentence.
 */
enum cap_error bind_check(const char *address, const struct bind_access *access,
                          char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Binds an address and listens. A Unix socket has its permissions and group before anybody can
 * connect. A stale Unix socket, one that nobody serves, is replaced; anything else at its path is
 * left alone. Of several daemons that start on one path at once, one succeeds.
 * CAP_E_INVALID_ARGUMENT, CAP_E_IO, CAP_E_NO_MEMORY with a sentence.
 */
enum cap_error bind_address(const char *address, const struct bind_access *access,
                            struct bound *ret_bound, char ret_reason[CONFIG_REASON_SIZE]);

/* Takes over an inherited fd. CAP_E_INVALID_ARGUMENT when it does not listen. */
enum cap_error bind_inherit(int fd, struct bound *ret_bound, char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Gives the Unix socket another access: of a path that we made and that is still ours; any other
 * keeps its own. CAP_E_IO with a sentence.
 */
enum cap_error bound_set_access(const struct bound *bound, const struct bind_access *access,
                                char ret_reason[CONFIG_REASON_SIZE]);

/* Removes the path, if it is still ours, and closes the fd. One that is empty is fine. */
void bound_release(struct bound *bound);

#endif
