/*
 * The clients of one loop: their sessions, the receive buffer and the round that they share, and
 * the routes by which their messages reach the rooms. Loop thread only.
 */
#ifndef DAEMON_NET_HUB_H
#define DAEMON_NET_HUB_H

#include "daemon/core/context.h"
#include "daemon/net/round.h"
#include "lib/cap/bytes.h"

struct request;
struct session;

/*
 * Proof that a message was dealt with: it is answered, or a request will be. Only session.h makes
 * one, so that a handler that does neither does not compile.
 */
struct verdict;

/* What serves one type of message. A table of them ends with a row whose `begin` is NULL. */
struct route {
    uint8_t type;  /* enum proto_type */
    bool has_body; /* BODY frames follow; they are skipped when the message is refused */
    const struct verdict *(*begin)(void *room, struct session *session, uint32_t id, uint8_t type,
                                   struct cap_bytes payload);
    void *room; /* what `begin` gets */
};

struct hub {
    struct shard *shard;
    const struct route *routes;
    struct session *sessions; /* newest first */
    size_t session_count;
    uint64_t last_session;
    uint8_t *input; /* one receive buffer for all sessions */
    struct round round;
    uv_idle_t turn;          /* runs while sessions have input left over */
    uv_prepare_t round_over; /* the loop looks at sockets again */
    bool open;               /* the handles above are */
};

/* One connected client, for clients.list. */
struct client {
    uint64_t session; /* its number; numbers rise and are not used again */
    struct peer peer;
    char agent[65]; /* what it calls itself, printable ASCII, "" before its hello */
    uint64_t connected_us;
    uint64_t idle_ms; /* since bytes last moved */
    uint64_t requests;
    uint64_t uploads;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t output_bytes; /* answers that wait for the socket */
};

/* An empty hub on the shard's loop; both `shard` and `routes` outlive it. CAP_E_NO_MEMORY. */
enum cap_error hub_open(struct hub *hub, struct shard *shard, const struct route *routes);

/* Closes every session and the handles; the loop must run until it has let go of them. */
void hub_close(struct hub *hub);

/* After hub_close and the loop; also of a zeroed hub. */
void hub_free(struct hub *hub);

/* The row of a type; NULL if clients may not send it. */
const struct route *hub_route(const struct hub *hub, uint8_t type);

/* Has sessions handle the input that they left over, in the next turn of the loop. */
void hub_turn_soon(struct hub *hub);

/* Looks at the clock of every session. */
void hub_tick(struct hub *hub);

/* Goes on reading where uploads had no room. */
void hub_resume(struct hub *hub);

/* Has idle sessions close, and the others when they are done: the daemon drains. */
void hub_drain(struct hub *hub);

/* Requests in flight. Walks the sessions. */
uint64_t hub_requests(const struct hub *hub);

/*
 * Up to `max` clients with a number above `after`, ascending; returns how many. *ret_more says
 * whether there are others.
 */
size_t hub_clients(const struct hub *hub, uint64_t after, struct client *ret_clients, size_t max,
                   bool *ret_more);

#endif
