/*
 * A session: one connected client. Loop thread only.
 *
 * Words: a *message* is one frame; a *body* is the BODY frames that follow one; a *request* is a
 * message that gets an answer; a *turn* is one pass of the loop for one session. A session *fails*
 * when a connection error is sent: nothing more is read into requests, what must go out goes out,
 * then it *lingers* until the client closes, so that the error is not lost, and closes.
 */
#ifndef DAEMON_NET_SESSION_H
#define DAEMON_NET_SESSION_H

#include "daemon/net/hub.h"
#include "daemon/net/output.h"
#include "daemon/net/remainder.h"
#include "daemon/net/request.h"

struct ledger_peer;

/*
 * Memory for buffers and requests that a session has whatever others hold: room for a HELLO and for
 * as many lookups and downloads in flight as max_requests allows by default, at 1 KiB each.
 */
#define SESSION_FLOOR (64u << 10)

/* Requests that a session may have in flight whatever the limits of its peer and of all. */
#define SESSION_REQUESTS_FLOOR 4u

enum session_phase {
    SESSION_HELLO, /* waits for the HELLO */
    SESSION_OPEN,
    SESSION_FAILED,    /* the last frames go out */
    SESSION_LINGERING, /* nothing goes out any more; input is thrown away */
    SESSION_CLOSED,
};

struct session {
    struct hub *hub;
    struct shard *shard;
    struct context *context;
    struct session *next; /* of the hub, newest first */
    struct session *prev;
    uint64_t number;
    int fd;
    uv_poll_t poll;
    int events; /* polled for */
    enum session_phase phase;
    struct peer peer;
    struct ledger_peer *account;
    char agent[65];
    struct proto_reader reader;
    struct cap_buf leftover; /* received, not yet handled */
    size_t leftover_at;
    bool paused;  /* not read because of its uploads: hub_resume goes on */
    bool starved; /* not read because there is no memory for it beyond its floor */
    uint64_t starved_us;
    struct output output;
    bool sending; /* output was waiting after the last pump */
    struct request *requests;
    size_t request_count;
    struct remainders remainders; /* of refused requests */
    unsigned verdicts;            /* given for the message at hand */
    bool busy;                    /* in a turn or a pump, whose end sends and polls */
    size_t request_bytes;         /* memory of these */
    uint64_t held;                /* memory counted in the ledger, beyond SESSION_FLOOR */
    uint64_t connected_us;
    uint64_t asked_us;    /* monotonic: when a request last came or ended */
    uint64_t input_us;    /* when bytes last came */
    uint64_t output_us;   /* when bytes last went out, or there was none to send */
    uint64_t deadline_us; /* of a failed session */
    uint64_t bytes_in;
    uint64_t bytes_out;
};

/*
 * Takes over a connected nonblocking socket whose peer has been admitted to the ledger. On failure
 * both stay the caller's. CAP_E_NO_MEMORY.
 */
enum cap_error session_new(struct hub *hub, int fd, const struct peer *peer,
                           struct ledger_peer *account);

/* Closes at once; requests are detached. Frees itself when the loop has let go. */
void session_close(struct session *session);

/* Sends an error of the connection and ends it (PROTOCOL.md section 3.6). */
void session_fail(struct session *session, uint32_t id, enum cap_error error, const char *message);

/* --- Messages: each gets one of these verdicts ------------------------------------------------ */

/*
 * Answers a message at once and frees the payload. `encoded` is what encoding it said: a client
 * that cannot be answered must not wait, so any failure ends the session, at the next tick.
 */
const struct verdict *session_reply(struct session *session, uint8_t type, uint32_t id,
                                    enum cap_error encoded, struct cap_buf *payload);

/* As session_reply, and a body of at most PROTO_FRAME_MAX bytes with it, which is copied. */
const struct verdict *session_reply_body(struct session *session, uint8_t type, uint32_t id,
                                         enum cap_error encoded, struct cap_buf *payload,
                                         struct cap_bytes body);

/*
 * Refuses a message at once with an ERROR: counted, logged, sent. `message` may be NULL: the
 * error's own sentence. If a body follows it is skipped.
 */
const struct verdict *session_refuse(struct session *session, uint32_t id, uint8_t type,
                                     enum cap_error error, const char *message);

/*
 * Takes a request that will be answered, see request.h; it stays its maker's. Before a thread gets
 * it: this sets what the thread may need.
 */
const struct verdict *session_pending(struct session *session, struct request *request);

/* --- Requests: their one answer --------------------------------------------------------------- */

/*
 * Each of these sends, now or at the end of the turn, and the first three and request_end take the
 * request off its session. If the connection is gone they do nothing but free what they are given.
 */

/* The reply, all of it. As session_reply. */
void request_answer(struct request *request, uint8_t type, enum cap_error encoded,
                    struct cap_buf *payload);

/* As request_answer, and a body with it, as session_reply_body. */
void request_answer_body(struct request *request, uint8_t type, enum cap_error encoded,
                         struct cap_buf *payload, struct cap_bytes body);

/*
 * The refusal: as session_refuse, with `detail` (NULL or empty: none) as the detail of the ERROR;
 * its bytes are taken over. What the client still sends of a body is skipped, in net.
 */
void request_refuse(struct request *request, enum cap_error error, const char *message,
                    struct cap_buf *detail);

/* A reply that `stream`, the maker's, follows; the request goes on until request_end or _refuse. */
void request_stream(struct request *request, uint8_t type, enum cap_error encoded,
                    struct cap_buf *payload, struct stream *stream);

/* Its stream is out: the answer is complete. */
void request_end(struct request *request);

/* A stream that waited can go on. */
void request_resume(struct request *request, struct stream *stream);

/* Gives its stream up: `over` is called with `error`, at once or at the end of its frame. */
void request_cut(struct request *request, struct stream *stream, enum cap_error error);

/* --- The session ------------------------------------------------------------------------------ */

/* Requests in flight: those without a complete answer, and the remainders. */
size_t session_requests(const struct session *session);

/*
 * Sends and polls as things now stand: for who changed what a request can take. Answers do it
 * themselves. Within a turn it does nothing, since the turn's end will.
 */
void session_update(struct session *session);

/* Looks at the clock: idle, progress, linger. `now` is monotonic. */
void session_tick(struct session *session, uint64_t now);

/* Handles input that was left over for fairness. Returns whether some is still left. */
bool session_turn(struct session *session);

/* Stops reading requests: those in flight finish, an idle session is told and closed. */
void session_drain(struct session *session);

/* Fills the client's row for the admin socket. */
void session_describe(const struct session *session, struct client *ret_client);

#endif
