/*
 * Listening sockets: unix:PATH and tcp:HOST:PORT, ours or inherited from systemd. Loop thread.
 */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

#include "daemon/server.h"

struct listener;

/* Who may connect to a Unix socket that we make. */
struct listener_access {
    uint64_t mode;  /* its permissions; CONFIG_MODE_UMASK: what the umask leaves */
    uint32_t group; /* its group; LISTENER_OWN_GROUP: ours */
};

#define LISTENER_OWN_GROUP UINT32_MAX

/*
 * Binds an address and listens. A Unix socket has its permissions and group before anybody can
 * connect. A stale Unix socket, one that nobody serves, is replaced; anything
 * else at its path is left alone. CAP_E_INVALID_ARGUMENT, CAP_E_IO, CAP_E_NO_MEMORY with a
 * sentence.
 */
enum cap_error listener_bind(const char *address, const struct listener_access *access,
                             struct bound *ret_bound, char ret_reason[CONFIG_REASON_SIZE]);

/* Takes over an inherited fd. CAP_E_INVALID_ARGUMENT when it does not listen. */
enum cap_error listener_inherit(int fd, struct bound *ret_bound,
                                char ret_reason[CONFIG_REASON_SIZE]);

/* Removes the path, if it is still ours, and forgets the fd after closing it unless `keep_fd`. */
void bound_release(struct bound *bound, bool keep_fd);

/* Accepts sessions on a socket, which it takes over on success. CAP_E_NO_MEMORY. */
enum cap_error listener_start(struct server *server, const struct bound *bound,
                              struct listener **ret_listener);

/* Goes on accepting after descriptors had run out. */
void listener_resume(struct listener *listener);

/*
 * Closes, and frees itself when the loop has let go. Who connects is refused from then on; but the
 * queue of an inherited socket is systemd's and waits for our successor. NULL is fine.
 */
void listener_close(struct listener *listener);

#endif
