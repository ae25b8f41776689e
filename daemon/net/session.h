/*
 * A session: what a client of our protocol (PROTOCOL.md) asks on a connection, and the answers.
 * What comes in is its speaker's (speaker.h). Loop thread only.
 *
 * Words: a *message* is one frame; a *body* is the BODY frames that follow one; a *request* is a
 * message that gets an answer. A session *fails* when a connection error is sent: nothing more is
 * read into requests, and its connection ends.
 */
#ifndef DAEMON_NET_SESSION_H
#define DAEMON_NET_SESSION_H

#include "daemon/net/connection.h"
#include "daemon/net/remainder.h"
#include "daemon/net/request.h"
#include "proto/frame.h"
#include "proto/message.h"

/* Requests that a session may have in flight whatever the limits of its peer and of all. */
#define SESSION_REQUESTS_FLOOR 4u

struct session {
    struct connection connection;
    struct shard *shard; /* of the connection, as are the next two */
    struct context *context;
    struct ledger_peer *account;
    bool greeted;      /* the HELLO has come */
    uint64_t features; /* that hold for the connection, as do the limits */
    struct proto_limits limits;
    char agent[65];
    struct proto_reader reader;
    struct request *requests;
    size_t request_count;
    size_t request_bytes;         /* memory of these */
    struct remainders remainders; /* of refused requests */
    unsigned verdicts;            /* given for the message at hand */
    size_t told;                  /* of the next messages, how many their room knows of */
    uint64_t asked_us;            /* monotonic: when a request last came or ended */
};

/* Who is connected, as the kernel attests it. */
const struct peer *session_peer(const struct session *session);

/* Its number; see struct member. */
uint64_t session_number(const struct session *session);

/* --- Messages: each gets one of these verdicts ------------------------------------------------ */

/*
 * Answers a message at once and frees the payload; `body`, of at most PROTO_FRAME_MAX bytes, is
 * copied, and NULL if the reply has none. `encoded` is what encoding it said: a client that cannot
 * be answered must not wait, so any failure ends the session, at the next tick.
 */
const struct verdict *session_reply(struct session *session, uint8_t type, uint32_t id,
                                    enum cap_error encoded, struct cap_buf *payload,
                                    const struct cap_bytes *body);

/*
 * Refuses a message at once with an ERROR: counted, logged, sent. `message` may be NULL: the
 * error's own sentence. If a body follows it is skipped.
 */
const struct verdict *session_refuse(struct session *session, uint32_t id, uint8_t type,
                                     enum cap_error error, const char *message);

/* The same with the bytes of `detail`, which are taken over, as the detail of the ERROR. */
const struct verdict *session_refuse_detailed(struct session *session, uint32_t id, uint8_t type,
                                              enum cap_error error, const char *message,
                                              struct cap_buf *detail);

/*
 * Takes a request that will be answered, see request.h; it stays its maker's. Before a thread gets
 * it: this sets what the thread may need.
 */
const struct verdict *session_pending(struct session *session, struct request *request);

/* --- Requests: their one answer --------------------------------------------------------------- */

/*
 * Each of these sends, at the end of the turn or before the loop waits, and the first three and
 * request_end take the request off its session. If the connection is gone they do nothing but free
 * what they are given.
 */

/* The reply, all of it. As session_reply. */
void request_answer(struct request *request, uint8_t type, enum cap_error encoded,
                    struct cap_buf *payload, const struct cap_bytes *body);

/* The same with a descriptor (framing.h), which is taken over in any case. */
void request_answer_fd(struct request *request, uint8_t type, enum cap_error encoded,
                       struct cap_buf *payload, int fd);

/*
 * The refusal: as session_refuse, with `detail` (NULL or empty: none) as the detail of the ERROR;
 * its bytes are taken over. What the client still sends of a body is skipped, in net.
 */
void request_refuse(struct request *request, enum cap_error error, const char *message,
                    struct cap_buf *detail);

/* A reply that `stream`, the maker's, follows; the request goes on until request_end or _refuse. */
void request_stream(struct request *request, uint8_t type, enum cap_error encoded,
                    struct cap_buf *payload, struct stream *stream);

/*
 * The message that it was made for, with the same payload, goes to a room after all: the request is
 * off its session, and `route->begin` is asked as if the message came now. Only for a message
 * without a body. If the connection is gone, nothing happens.
 */
void request_pass(struct request *request, const struct route *route, struct cap_bytes payload);

/* Its stream is out: the answer is complete. */
void request_end(struct request *request);

/* A stream can go on: see output_resume. */
void request_resume(struct request *request, struct stream *stream);

/* Gives its stream up: `over` is called with `error`, at once or at the end of its frame. */
void request_cut(struct request *request, struct stream *stream, enum cap_error error);

/* Whether the connection has the feature that the route needs. */
static inline bool session_may_route(const struct session *session, const struct route *route)
{
    return (route->feature & ~session->features) == 0;
}

/* Whether it is a connection with leases: its messages have the forms of the feature KEEP. */
static inline bool session_keeps(const struct session *session)
{
    return (session->features & PROTO_FEATURE_KEEP) != 0;
}

/* --- For the speaker -------------------------------------------------------------------------- */

/* The monotonic clock. */
uint64_t session_now(const struct session *session);

/* Requests in flight: those without a complete answer, and the remainders. */
size_t session_requests(const struct session *session);

/* Sends a message and frees its payload. As session_reply. */
void session_send(struct session *session, uint8_t type, uint32_t id, enum cap_error encoded,
                  struct cap_buf *payload);

/*
 * Sends an error of the connection and ends it (PROTOCOL.md section 3.6). `message` may be NULL:
 * the error's own sentence.
 */
void session_fail(struct session *session, uint32_t id, enum cap_error error, const char *message);

/* The connection is gone: no request and no remainder is left. */
void session_detach(struct session *session);

#endif
