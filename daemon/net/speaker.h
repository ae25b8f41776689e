/* The speaker of our protocol on a connection: what comes in becomes a session's requests. */
#ifndef DAEMON_NET_SPEAKER_H
#define DAEMON_NET_SPEAKER_H

#include "daemon/net/door.h"

/* By which listeners of our protocol let clients in. */
extern const struct door session_door;

#endif
