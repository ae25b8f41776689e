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
#include "daemon/net/request.h"

struct ledger_peer;

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
    bool paused; /* not read because of its uploads: hub_resume goes on */
    struct output output;
    bool sending;              /* output was waiting after the last pump */
    struct cap_read *snapshot; /* during a turn only */
    struct request *requests;
    size_t request_count;
    size_t refused_count; /* of these, refused uploads whose body is open */
    size_t request_bytes; /* memory of these */
    uint64_t held;        /* memory taken from the ledger for buffers and requests */
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

/*
 * Appends a message of the request's id and frees its payload. `encoded` is what encoding it said:
 * a client that cannot be answered must not wait, so any failure ends the session, at the next
 * tick.
 */
void session_send(struct session *session, uint8_t type, uint32_t id, enum cap_error encoded,
                  struct cap_buf *payload);

/*
 * Answers a request with an ERROR: counted, logged, sent. `message` may be NULL: the error's own
 * sentence. `detail_len` bytes follow as a stream if not 0.
 */
void session_refuse(struct session *session, uint32_t id, uint8_t type, enum cap_error error,
                    const char *message, uint64_t detail_len);

/* Adds a request that its maker has filled; sets session, shard, times. */
void session_add(struct session *session, struct request *request);

/* Takes a request off the session: it is answered, and its body ended. The caller frees it. */
void session_remove(struct session *session, struct request *request);

/* Counts an upload that is answered while its body is open. */
void session_mark_refused(struct session *session, struct request *request);

/* A snapshot of the store for the turn under way. As cap_store_read_begin. */
enum cap_error session_snapshot(struct session *session, struct cap_read **ret_read);

/* Sends and polls as things now stand. Call it after anything outside of a turn changed them. */
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
