/* A client that took a socket of --listen for the admin socket, and speaks JSON to it. */
#ifndef DAEMON_NET_STRAY_H
#define DAEMON_NET_STRAY_H

#include "lib/cap/bytes.h"

#define STRAY_MESSAGE                                                                              \
    "this socket serves clients; the admin socket of capstored is the one of --admin"

/*
 * Whether the first bytes of a connection are JSON text. A frame begins with its length, and that
 * of a HELLO is below 256, so its second byte is zero.
 */
bool stray_is_json(struct cap_bytes first);

/* Answers with one line of JSON-RPC, as far as the socket takes it at once. */
void stray_refuse(int fd);

#endif
