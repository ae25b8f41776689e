/*
 * Who is at the other end of a connection, as the kernel attests it.
 */
#ifndef DAEMON_CORE_PEER_H
#define DAEMON_CORE_PEER_H

#include <stdbool.h>
#include <stdint.h>
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
    char key[PEER_KEY_SIZE];   /* what limits per peer count by: "uid=1000" or "127.0.0.1" */
};

/* Asks the kernel about a connected socket. CAP_E_IO. */
enum cap_error peer_of(int fd, struct peer *ret_peer);

#endif
