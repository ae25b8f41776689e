/*
 * Who is at the other end of a connection, as the kernel attests it.
 */
#ifndef DAEMON_CORE_PEER_H
#define DAEMON_CORE_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "lib/cap/error.h"

#define PEER_TEXT_SIZE 96
#define PEER_KEY_SIZE  64

struct peer {
    bool local;   /* a Unix socket: uid, gid and pid are the kernel's word */
    uint32_t uid; /* UINT32_MAX when not local */
    uint32_t gid;
    int64_t pid;               /* 0 when not local */
    char text[PEER_TEXT_SIZE]; /* "unix:uid=1000,pid=42" or "tcp:127.0.0.1:4711" */
    char key[PEER_KEY_SIZE];   /* what limits per peer count by, see peer_from_address */
};

/*
 * Asks the kernel about a connected socket. `prefix6` is how many leading bits of an IPv6 address
 * name a peer. CAP_E_IO.
 */
enum cap_error peer_of(int fd, unsigned prefix6, struct peer *ret_peer);

/*
 * Who is at an address of IPv4 or IPv6. Keys are "uid=1000" (of peer_of), "192.0.2.1", and
 * "2001:db8:1:2::/64": a host that has one address of an IPv6 network usually has all of it. An
 * IPv4 address that is mapped into IPv6 is that IPv4 address. Pure.
 */
void peer_from_address(const struct sockaddr_storage *address, unsigned prefix6,
                       struct peer *ret_peer);

/*
 * Whether it is on a Unix socket and root or the daemon's own user, who can take the machine's
 * memory without the daemon.
 */
bool peer_is_own(const struct peer *peer);

#endif
