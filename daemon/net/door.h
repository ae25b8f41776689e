/*
 * How accepted sockets come to speak: each listener has a door. Ours is session_door (speaker.h);
 * another protocol comes through another one. Loop thread only.
 */
#ifndef DAEMON_NET_DOOR_H
#define DAEMON_NET_DOOR_H

#include "daemon/net/hub.h"

struct ledger_peer;

struct door {
    /*
     * Takes over a connected nonblocking socket whose peer has been admitted to the ledger. On
     * failure both stay the caller's. CAP_E_NO_MEMORY.
     */
    enum cap_error (*open)(struct hub *hub, int fd, const struct peer *peer,
                           struct ledger_peer *account);
    /* Tells a client why it cannot stay, as far as its socket takes it at once. */
    void (*turn_away)(int fd, enum cap_error error);
};

#endif
