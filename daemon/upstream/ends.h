/*
 * The two connections of a thread that brings caps: to the daemon above, by the client library, and
 * to our own front door, where what it brings is admitted like anybody's.
 *
 * Either belongs to its thread; another may cut it, so that the thread comes back at once from
 * whatever it waits for.
 */
#ifndef DAEMON_UPSTREAM_ENDS_H
#define DAEMON_UPSTREAM_ENDS_H

#include <capstore/async.h>

#include "daemon/net/hub.h"

#define ENDS_REASON_SIZE 256u

/* Bodies that are brought in memory: longer ones go through a file. */
#define ENDS_SMALL_MAX (UINT64_C(1) << 20)
#define ENDS_BODIES    (UINT64_C(4) << 20) /* that arrive at a time */

/* A socket that may be ended while its thread waits on it. */
struct tether {
    pthread_mutex_t lock; /* of what follows */
    int fd;               /* a descriptor of our own for the socket; -1: none */
    bool cut;
};

struct above {
    const char *address;
    config_number *timeout_ms;
    const uint8_t *own_id; /* of our store: who has it is ourselves */
    struct capstore *store;
    struct tether tether;
    bool fresh; /* the connection has been used by nobody before */
};

struct front {
    struct hub *hub;
    struct capstore *store; /* NULL: not open */
    struct tether tether;
};

/* What an error of the library says of the daemon above: CAP_E_NOT_FOUND, CAP_E_UPSTREAM_AWAY,
 * CAP_E_UPSTREAM_BROKEN, or an error of ours. */
enum cap_error above_judge(enum capstore_error error);

/* A connection that is not open; `address` and the rest outlive it. */
void above_init(struct above *above, const char *address, config_number *timeout_ms,
                const uint8_t *own_id);

/*
 * Opens it, unless it is open. CAP_E_UPSTREAM_AWAY, CAP_E_UPSTREAM_BROKEN, CAP_E_NO_MEMORY with a
 * sentence.
 */
enum cap_error above_open(struct above *above, char ret_reason[ENDS_REASON_SIZE]);

/* Closes it; it may be opened again, unless it was cut. */
void above_close(struct above *above);

/* As above_init, above_open and above_close, with the door of `hub`'s loop. */
void front_init(struct front *front, struct hub *hub);
enum cap_error front_open(struct front *front, char ret_reason[ENDS_REASON_SIZE]);
void front_close(struct front *front);

/* Ends the socket, and any that comes after it. Any thread. */
void tether_cut(struct tether *tether);

/* Whether it was cut. Any thread. */
bool tether_is_cut(struct tether *tether);

#endif
