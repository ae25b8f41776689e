/*
 * The connections of one loop, and what they share: the receive buffer, the round, and the routes
 * by which messages reach the rooms. It knows a connection by the calls in struct member_class
 * only. Loop thread only; each loop has its own, and a set joins them.
 */
#ifndef DAEMON_NET_HUB_H
#define DAEMON_NET_HUB_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "daemon/core/context.h"
#include "daemon/net/calls.h"
#include "daemon/net/handover.h"
#include "daemon/net/round.h"
#include "lib/cap/bytes.h"

struct member;
struct session;

/*
 * Proof that a message was dealt with: it is answered, or a request will be. Only session.h makes
 * one, so that a handler that does neither does not compile.
 */
struct verdict;

#define ROUTE_AHEAD 32u /* messages that are looked at before the first of them is handled */

/* What serves one type of message. A table of them ends with a row whose `begin` is NULL. */
struct route {
    uint8_t type;     /* enum proto_type */
    bool has_body;    /* BODY frames follow; they are skipped when the message is refused */
    uint64_t feature; /* without it the type is unknown, and no body follows; 0: none */
    const struct verdict *(*begin)(void *room, struct session *session, uint32_t id, uint8_t type,
                                   struct cap_bytes payload);
    void *room; /* what `begin` gets */
    /*
     * Payloads of this type, at most ROUTE_AHEAD, none of them checked, that `begin` will get soon:
     * what it needs of them can be fetched from memory together. NULL: nothing.
     */
    void (*ahead)(void *room, const struct cap_bytes *payloads, size_t count);
};

/* Messages that have been received, all of one type whose route has `ahead`. Zeroed: none. */
struct coming {
    const struct route *route;
    size_t count;
    struct cap_bytes payloads[ROUTE_AHEAD]; /* in what was received */
};

/* Tells their room of them, and forgets them. */
void coming_tell(struct coming *coming);

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

/* What the hub asks of a connection. */
struct member_class {
    bool (*turn)(struct member *member); /* handles leftover input; whether some is left */
    /*
     * Plan, as `call`, what it would receive now, `len` bytes at `dst` or less, or what it would
     * send; change nothing. `call` has the socket and a count of 0 where that is nothing.
     */
    void (*plan_receive)(const struct member *member, uint8_t *dst, size_t len, struct call *call);
    void (*plan_send)(const struct member *member, struct call *call);
    /* Book the planned call, which was made; `received` says whether there is input to handle. */
    bool (*received)(struct member *member, const struct call *call);
    void (*sent)(struct member *member, const struct call *call);
    void (*arrived)(struct member *member); /* handles what it has received */
    void (*tick)(struct member *member, uint64_t now_us);
    void (*update)(struct member *member); /* looks again at what it may read, and at the phase */
    void (*close)(struct member *member);
    size_t (*requests)(const struct member *member);
    void (*describe)(const struct member *member, struct client *ret_client);
};

/* A connection, as the hub holds it. */
struct member {
    const struct member_class *class;
    TAILQ_ENTRY(member) link;
    TAILQ_ENTRY(member) pause_link;
    bool paused; /* in the hub's list of those that are not read until hub_resume */
    TAILQ_ENTRY(member) due_link;
    bool due; /* in the hub's list of those that are updated before the loop waits */
    TAILQ_ENTRY(member) ready_link;
    bool ready; /* in the hub's list of those that may receive */
    TAILQ_ENTRY(member) arrived_link;
    bool arrived;    /* in the hub's list of those that have received */
    uint64_t number; /* unique in the process, rising */
};

/* A list of members. */
TAILQ_HEAD(member_list, member);

/* The hubs of all loops; the first is that of the loop that accepts. */
struct hub_set {
    struct hub *hubs[CONTEXT_SHARDS_MAX];
    size_t count;
};

/* Bytes for the receives that are made together: each has an equal share. */
#define HUB_INPUT (2 * SESSION_INPUT)

struct hub {
    struct shard *shard;
    const struct hub_set *set; /* NULL: it is alone */
    const struct route *routes;
    struct member_list members; /* newest first */
    struct member_list paused;
    struct member_list due;
    struct member_list ready;
    size_t ready_count;
    struct member_list arrived;
    struct coming coming; /* of the messages of these */
    struct calls calls;
    struct call plans[CALLS_MAX];
    atomic_size_t session_count; /* any thread may look, as at the next two */
    atomic_size_t arriving;      /* connections on their way from the loop that accepts */
    atomic_size_t paused_count;
    struct letter resume;
    atomic_bool resuming;     /* the letter is on its way */
    uint8_t *input;           /* what has arrived: HUB_INPUT bytes */
    uint8_t *more;            /* behind it, SESSION_INPUT bytes: for further receives of a turn */
    struct handover handover; /* where shard->handover points, if it was opened */
    struct round round;
    uv_idle_t turn;          /* runs while connections have input left over */
    uv_check_t all_ready;    /* the loop has looked at every socket that was ready */
    uv_prepare_t round_over; /* the loop looks at sockets again */
    bool open;               /* the handles above are */
};

/* An empty hub on the shard's loop; both `shard` and `routes` outlive it. CAP_E_NO_MEMORY. */
enum cap_error hub_open(struct hub *hub, struct shard *shard, const struct route *routes);

/* Enters it in a set, which outlives it; before a second loop runs. */
void hub_join(struct hub *hub, struct hub_set *set);

/* The hub of the set that has the fewest connections, with those that are on their way to it. */
struct hub *hub_least(struct hub *hub);

/* Closes every connection and the handles; the loop must run until it has let go of them. */
void hub_close(struct hub *hub);

/* After hub_close and the loop; also of a zeroed hub. */
void hub_free(struct hub *hub);

/* Takes a member whose class is set, and gives it its number; the member stays its maker's. */
void hub_add(struct hub *hub, struct member *member);

/* Lets it go. */
void hub_remove(struct hub *hub, struct member *member);

/* Enters it in the list of those that hub_resume looks at, or takes it from there. */
void hub_pause(struct hub *hub, struct member *member, bool paused);

/* Has a member updated before the loop looks at sockets again. */
void hub_update_soon(struct hub *hub, struct member *member);

/*
 * A member's socket has bytes. When every socket has been looked at, or CALLS_MAX are ready, they
 * receive in one system call; then what all of them need is fetched from memory together, each
 * handles its input, and they send, again in one system call.
 */
void hub_ready(struct hub *hub, struct member *member);

/*
 * Looks again at those whose uploads had no room, on every loop: after buffers went to the disk.
 * The other loops do so soon.
 */
void hub_resume(struct hub *hub);

/* The row of a type; NULL if clients may not send it. */
const struct route *hub_route(const struct hub *hub, uint8_t type);

/* Has connections handle the input that they left over, in the next turn of the loop. */
void hub_turn_soon(struct hub *hub);

/* Looks at the clock of every connection, and again at those that had no room. */
void hub_tick(struct hub *hub);

/* Has idle connections close, and the others when they are done: the daemon drains. */
void hub_drain(struct hub *hub);

/* Requests in flight. Walks the connections. */
uint64_t hub_requests(const struct hub *hub);

/*
 * Up to `max` clients with a number above `after`, ascending; returns how many. *ret_more says
 * whether there are others.
 */
size_t hub_clients(const struct hub *hub, uint64_t after, struct client *ret_clients, size_t max,
                   bool *ret_more);

#endif
