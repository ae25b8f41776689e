/* Peer credentials of Unix sockets, addresses of TCP ones. */
#include "daemon/core/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/core/oserror.h"

static enum cap_error local_peer(int fd, struct peer *peer)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
        return error_of_errno(errno);
    }
    peer->local = true;
    peer->uid = cred.uid;
    peer->gid = cred.gid;
    peer->pid = cred.pid;
    snprintf(peer->text, sizeof(peer->text), "unix:uid=%u,pid=%ld", (unsigned)cred.uid,
             (long)cred.pid);
    snprintf(peer->key, sizeof(peer->key), "uid=%u", (unsigned)cred.uid);
    return CAP_OK;
}

static void inet_peer(const struct sockaddr_storage *address, struct peer *peer)
{
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    bool six = address->ss_family == AF_INET6;
    if (six) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        port = ntohs(in6->sin6_port);
    } else if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
        port = ntohs(in4->sin_port);
    }
    snprintf(peer->text, sizeof(peer->text), six ? "tcp:[%s]:%u" : "tcp:%s:%u", host, port);
    snprintf(peer->key, sizeof(peer->key), "%s", host);
}

enum cap_error peer_of(int fd, struct peer *ret_peer)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    struct peer peer = {.uid = UINT32_MAX, .gid = UINT32_MAX};
    if (getpeername(fd, (struct sockaddr *)&address, &len) != 0) {
        return error_of_errno(errno);
    }
    if (address.ss_family == AF_UNIX) {
        enum cap_error error = local_peer(fd, &peer);
        if (error != CAP_OK) {
            return error;
        }
    } else {
        inet_peer(&address, &peer);
    }
    *ret_peer = peer;
    return CAP_OK;
}
