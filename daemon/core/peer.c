/* Peer credentials of Unix sockets, addresses of TCP ones. */
#include "daemon/core/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/oserror.h"

static enum cap_error local_peer(int fd, struct peer *peer)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
        return error_of_errno(errno);
    }
    *peer = (struct peer){
        .local = true,
        .uid = cred.uid,
        .gid = cred.gid,
        .pid = cred.pid,
    };
    snprintf(peer->text, sizeof(peer->text), "unix:uid=%u,pid=%ld", (unsigned)cred.uid,
             (long)cred.pid);
    snprintf(peer->key, sizeof(peer->key), "uid=%u", (unsigned)cred.uid);
    return CAP_OK;
}

/* Clears the bits of an address after the first `prefix`. */
static void mask(uint8_t *bytes, size_t len, unsigned prefix)
{
    for (size_t i = 0; i < len; i++) {
        unsigned bits = prefix > 8 * i ? prefix - 8 * (unsigned)i : 0;
        bytes[i] &= bits >= 8 ? 0xff : (uint8_t)(0xff00 >> bits);
    }
}

static void from_ipv4(struct in_addr address, unsigned port, struct peer *peer)
{
    char host[INET_ADDRSTRLEN] = "?";
    (void)inet_ntop(AF_INET, &address, host, sizeof(host));
    snprintf(peer->text, sizeof(peer->text), "tcp:%s:%u", host, port);
    snprintf(peer->key, sizeof(peer->key), "%s", host);
}

static void from_ipv6(struct in6_addr address, unsigned port, unsigned prefix, struct peer *peer)
{
    char host[INET6_ADDRSTRLEN] = "?";
    (void)inet_ntop(AF_INET6, &address, host, sizeof(host));
    snprintf(peer->text, sizeof(peer->text), "tcp:[%s]:%u", host, port);
    mask(address.s6_addr, sizeof(address.s6_addr), prefix);
    (void)inet_ntop(AF_INET6, &address, host, sizeof(host));
    snprintf(peer->key, sizeof(peer->key), "%s/%u", host, prefix);
}

void peer_from_address(const struct sockaddr_storage *address, unsigned prefix6,
                       struct peer *ret_peer)
{
    struct peer peer = {.uid = UINT32_MAX, .gid = UINT32_MAX, .text = "?", .key = "?"};
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
        from_ipv4(in4->sin_addr, ntohs(in4->sin_port), &peer);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            struct in_addr mapped;
            memcpy(&mapped, &in6->sin6_addr.s6_addr[12], sizeof(mapped));
            from_ipv4(mapped, ntohs(in6->sin6_port), &peer);
        } else {
            from_ipv6(in6->sin6_addr, ntohs(in6->sin6_port), prefix6, &peer);
        }
    }
    *ret_peer = peer;
}

enum cap_error peer_of(int fd, unsigned prefix6, struct peer *ret_peer)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    if (getpeername(fd, (struct sockaddr *)&address, &len) != 0) {
        return error_of_errno(errno);
    }
    if (address.ss_family == AF_UNIX) {
        return local_peer(fd, ret_peer);
    }
    peer_from_address(&address, prefix6, ret_peer);
    return CAP_OK;
}

bool peer_is_own(const struct peer *peer)
{
    return peer->local && (peer->uid == 0 || peer->uid == geteuid());
}
