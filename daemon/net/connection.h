/*
 * A connection: bytes in and out on one socket, within turns and bounds. It knows neither frames
 * nor requests; what is said on it is its speaker's (speaker.h speaks our protocol). Loop thread
 * only.
 *
 * Words: a *turn* is one pass of the loop for one connection, which begins when all that are ready
 * have received (hub_ready). A connection *ends*: what must go out goes out, then it *lingers*
 * until the client closes, so that the last bytes are not lost, and closes. One whose client has
 * not read what was lent to its socket (handover.h) is *kept*: closed but for the socket, and
 * counted as its peer's, until the client has read or closed.
 */
#ifndef DAEMON_NET_CONNECTION_H
#define DAEMON_NET_CONNECTION_H

#include "daemon/net/hub.h"
#include "daemon/net/output.h"

struct connection;
struct ledger_peer;

/*
 * Memory for buffers and requests that a connection has whatever others hold: room for a HELLO and
 * for as many lookups and downloads in flight as max_requests allows by default, at 1 KiB each.
 */
#define CONNECTION_FLOOR (64u << 10)

enum connection_phase {
    CONNECTION_OPEN,
    CONNECTION_ENDING,    /* the last bytes go out */
    CONNECTION_LINGERING, /* nothing goes out any more; input is thrown away */
    CONNECTION_KEPT,      /* closed but for the socket, of which the client still has lent pages */
    CONNECTION_CLOSED,
};

/* What speaks on a connection. */
struct speaker {
    const struct framing *framing; /* of bodies that it sends */
    /* Adds the messages, as far as they are whole, of what will be input. */
    void (*ahead)(struct connection *connection, struct cap_bytes input, struct coming *coming);
    /*
     * Takes a message from the front of *input, of one byte at least, and others for as long as
     * connection_may_handle; what it leaves comes again in another turn.
     */
    void (*input)(struct connection *connection, struct cap_bytes *input, uint64_t until_us);
    /* A turn of input is over. */
    void (*turn)(struct connection *connection);
    /* How many bytes of input it can take now; 0: none before hub_resume. */
    size_t (*room)(const struct connection *connection);
    /* Bytes of memory it holds for the connection. */
    uint64_t (*memory)(const struct connection *connection);
    /* A limit of the connection is broken: says so to the client, and connection_end. */
    void (*fail)(struct connection *connection, enum cap_error error, const char *message);
    /* Looks at the clock, while open. */
    void (*tick)(struct connection *connection, uint64_t now_us);
    /* The daemon drains: ends the connection if nothing is in flight. */
    void (*drain)(struct connection *connection);
    /* The connection is closed: drops what is in flight. Nothing can be sent. */
    void (*closed)(struct connection *connection);
    /* The loop has let go: frees the speaker, in which the connection lies. */
    void (*free)(struct connection *connection);
    size_t (*requests)(const struct connection *connection);
    /* Adds what it knows to a row that the connection has filled. */
    void (*describe)(const struct connection *connection, struct client *client);
};

struct connection {
    struct member member; /* of the hub */
    const struct speaker *speaker;
    struct hub *hub;
    struct shard *shard;
    struct context *context;
    int fd;
    uv_poll_t poll;
    int events; /* polled for */
    enum connection_phase phase;
    struct peer peer;
    struct ledger_peer *account;
    struct cap_bytes arrived; /* received, in the hub's buffer, for the turn that is to come */
    bool filled;              /* that was all it had room for: there may be more */
    struct cap_buf leftover;  /* received, not handled in its turn */
    size_t leftover_at;
    struct output output;
    bool sending; /* output was waiting after the last pump */
    bool busy;    /* in a turn, a tick or a pump, whose end sends and polls */
    bool starved; /* not read because there is no memory for it beyond its floor */
    uint64_t starved_us;
    uint64_t held; /* memory counted in the ledger, beyond CONNECTION_FLOOR */
    uint64_t connected_us;
    uint64_t progress_us; /* how long a client may take no bytes, or get no memory; 0: any time */
    uint64_t input_us;    /* monotonic: when bytes last came */
    uint64_t output_us;   /* when bytes last went out, or there was none to send */
    uint64_t deadline_us; /* of one that ends */
    uint64_t bytes_in;
    uint64_t bytes_out;
};

/*
 * Opens a connection, zeroed but for progress_us, on a connected nonblocking socket whose peer has
 * been admitted to the ledger. On failure both stay the caller's. CAP_E_NO_MEMORY.
 */
enum cap_error connection_open(struct connection *connection, const struct speaker *speaker,
                               struct hub *hub, int fd, const struct peer *peer,
                               struct ledger_peer *account);

/*
 * Closes at once, or keeps the socket where it must; the speaker is told, and freed when the loop
 * has let go.
 */
void connection_close(struct connection *connection);

/*
 * No more input is handled; what has been appended to the output goes out, then it closes. Streams
 * are the speaker's to drop.
 */
void connection_end(struct connection *connection);

/* There is no answer that could be sent: closes at the next tick. */
void connection_give_up(struct connection *connection);

/*
 * Whether more input may be handled before `until_us`: the phase, the answers that wait, the memory
 * (which this counts), the time.
 */
bool connection_may_handle(struct connection *connection, uint64_t until_us);

/*
 * Sends and polls as things now stand: after anything outside of a turn changed them. Within a turn
 * it does nothing, since the turn's end will.
 */
void connection_update(struct connection *connection);

/* The same before the loop waits, so that what else happens until then goes out in the same call.
 */
void connection_update_soon(struct connection *connection);

/* How long ago `then_us` was; 0 where the tick itself has moved it. */
uint64_t passed_us(uint64_t now_us, uint64_t then_us);

#endif
