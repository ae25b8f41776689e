#include "tests/bench/net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/message.h"

void net_die(const char *what, const uint8_t *bytes, size_t len)
{
    fprintf(stderr, "bench: %s", what);
    if (len > 0) {
        fprintf(stderr, ": ");
    }
    for (size_t i = 0; i < len && i < 200; i++) {
        fputc(bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '.', stderr);
    }
    fputc('\n', stderr);
    exit(1);
}

void net_die_errno(const char *what)
{
    fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static socklen_t resolve_unix(const char *path, struct sockaddr_storage *ret_name)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(name.sun_path)) {
        net_die("the socket's path is too long", NULL, 0);
    }
    memcpy(name.sun_path, path, strlen(path) + 1);
    memcpy(ret_name, &name, sizeof(name));
    return sizeof(name);
}

static socklen_t resolve_tcp(const char *address, struct sockaddr_storage *ret_name)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= sizeof(host)) {
        net_die("an address is unix:PATH or tcp:HOST:PORT", NULL, 0);
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        net_die("no such host", (const uint8_t *)host, strlen(host));
    }
    socklen_t len = found->ai_addrlen;
    memcpy(ret_name, found->ai_addr, len);
    freeaddrinfo(found);
    return len;
}

static socklen_t resolve(const char *address, struct sockaddr_storage *ret_name)
{
    if (strncmp(address, "unix:", 5) == 0) {
        return resolve_unix(address + 5, ret_name);
    }
    if (strncmp(address, "tcp:", 4) == 0) {
        return resolve_tcp(address + 4, ret_name);
    }
    net_die("an address is unix:PATH or tcp:HOST:PORT", NULL, 0);
}

/* A socket of the family, with TCP_NODELAY: what a listener accepts inherits it. */
static int open_socket(int family)
{
    const int on = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        (family == AF_INET && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)) {
        net_die_errno("a socket");
    }
    return fd;
}

int net_connect(const char *address)
{
    struct sockaddr_storage name;
    socklen_t len = resolve(address, &name);
    int fd = open_socket(name.ss_family);
    if (connect(fd, (const struct sockaddr *)&name, len) != 0) {
        net_die_errno(address);
    }
    return fd;
}

int net_listen(const char *address)
{
    struct sockaddr_storage name;
    socklen_t len = resolve(address, &name);
    int fd = open_socket(name.ss_family);
    const int on = 1; /* a port that is held for us */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&name, len) != 0 || listen(fd, SOMAXCONN) != 0) {
        net_die_errno(address);
    }
    return fd;
}

uint8_t net_message(int fd, uint8_t *buf)
{
    size_t got = 0, need = PROTO_FRAME_HEADER_SIZE;
    while (got < need) {
        ssize_t more = recv(fd, buf + got, need - got, 0);
        if (more <= 0) {
            net_die("the daemon closed the connection", buf, got);
        }
        got += (size_t)more;
        if (got == PROTO_FRAME_HEADER_SIZE) {
            need += cap_load32(buf);
        }
        if (need > PROTO_MESSAGE_MAX) {
            net_die("a message is too long", NULL, 0);
        }
    }
    if (buf[8] == PROTO_ERROR) {
        net_die("the daemon refused", buf, got);
    }
    return buf[8];
}

void net_hello(int fd)
{
    const struct proto_hello hello = {
        .version_min = PROTO_VERSION,
        .version_max = PROTO_VERSION,
        .agent = {(const uint8_t *)"bench", 5},
        .has_features = true,
        .features = PROTO_FEATURE_GET_MANY | PROTO_FEATURE_SLICE,
    };
    uint8_t bytes[PROTO_MESSAGE_MAX];
    struct cap_buf payload = {
        .data = bytes + PROTO_FRAME_HEADER_SIZE,
        .capacity = sizeof(bytes) - PROTO_FRAME_HEADER_SIZE,
    };
    if (proto_hello_encode(&hello, &payload) != CAP_OK) {
        net_die("HELLO cannot be encoded", NULL, 0);
    }
    const struct proto_frame frame = {.len = (uint32_t)payload.len, .type = PROTO_HELLO};
    proto_frame_encode(&frame, bytes);
    size_t len = PROTO_FRAME_HEADER_SIZE + payload.len;
    if (send(fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len) {
        net_die_errno("HELLO");
    }
    if (net_message(fd, bytes) != PROTO_HELLO_REPLY) {
        net_die("no HELLO_REPLY", NULL, 0);
    }
}
