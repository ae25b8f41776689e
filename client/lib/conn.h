/*
 * A connection inside: one request at a time over frames, both directions polled at once.
 *
 * The way of a call: client_begin (a fresh id), client_send (frames queue in `out`), client_await
 * or client_step (bytes move until an answer is there), client_end (the message is set, and the
 * connection closed when the stream is beyond use). Frames of earlier ids are remains of requests
 * that ended early, and are skipped.
 */
#ifndef CLIENT_LIB_CONN_H
#define CLIENT_LIB_CONN_H

#include "client/lib/internal.h"
#include "proto/message.h"

#define CLIENT_IN_SIZE ((size_t)64 << 10)

/* Bytes per ms that a body moves at least, on the whole, whatever the daemon does to seem busy. */
#define CLIENT_LEAST_RATE 1u

struct capstore {
    uint32_t timeout_ms;
    bool no_verify;
    uint64_t max_body;
    uint64_t max_caps;
    bool (*progress)(void *ctx, const struct capstore_progress *progress);
    void *progress_ctx;
    char agent[CAPSTORE_AGENT_MAX + 1];

    int fd;            /* -1: not connected */
    bool write_closed; /* the daemon takes no more; what it sent before is still read */
    bool broken;       /* the stream is beyond use: close at the end of the call */
    bool heard;        /* something came from the peer */
    uint32_t id;       /* of the request that runs, or ran last */
    uint64_t grace_ms; /* what the daemon may take longer: it hashes what was sent */
    uint64_t moved;    /* bytes that lengthen what the call may take in all: sent ones, body ones */
    int64_t waited_ns; /* what the call took so far, the caller's own functions not counted */
    struct proto_reader reader;
    struct cap_bytes input; /* received and not yet parsed, inside of `in` */
    struct cap_buf out;
    size_t out_sent;

    struct capstore_daemon_info info;
    struct proto_limits limits;

    char message[CAPSTORE_MESSAGE_SIZE];
    struct cap_buf detail; /* of the last error */
    struct cap_ssz_list unresolved;
    uint8_t in[CLIENT_IN_SIZE];
};

/* Starts a call: forgets the last one's outcome, takes a new id. CAP_E_CONNECTION_LOST when not
 * connected. */
enum cap_error client_begin(struct capstore *store);

/* Ends a call: sets the message when there is none, closes a stream that cannot be used again.
 * Returns the public error. */
enum capstore_error client_end(struct capstore *store, enum cap_error error);

/* Says more about an error that is being returned; the first one to speak wins. Returns it. */
enum cap_error client_say(struct capstore *store, enum cap_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds bytes that a call moved to what it may take: only those that the daemon cannot make up. */
void client_moved(struct capstore *store, uint64_t len);

/* Queues one frame of the current id. CAP_E_NO_MEMORY. */
enum cap_error client_send(struct capstore *store, enum proto_type type, uint8_t flags,
                           struct cap_bytes payload);

/*
 * Moves bytes until a frame of the current id is there (*ret_have), or, when `until_sent`, until
 * everything queued is sent. A frame of id 0 ends the call with the daemon's error. CAP_E_TIMED_OUT
 * when nothing moved for too long, or when the call as a whole is slower than CLIENT_LEAST_RATE.
 */
enum cap_error client_step(struct capstore *store, bool until_sent, struct proto_event *ret_event,
                           bool *ret_have);

/* Waits for the next frame of the current id; an ERROR is taken and returned as its error. */
enum cap_error client_next(struct capstore *store, struct proto_event *ret_event);

/* Waits for a message of `type`. CAP_E_BAD_REPLY for another. */
enum cap_error client_await(struct capstore *store, enum proto_type type,
                            struct cap_bytes *ret_payload);

/* Takes an ERROR message that client_step yielded, its detail included. Returns its error. */
enum cap_error client_take_error(struct capstore *store, struct cap_bytes payload);

/*
 * Receives a body of `len` bytes, handing each piece to `write`. CAP_E_LENGTH_MISMATCH when the
 * daemon sends another length. `report`: tell the progress callback.
 */
enum cap_error client_receive(struct capstore *store, uint64_t len, bool report,
                              enum cap_error (*write)(void *ctx, struct cap_bytes piece),
                              void *ctx);

/* Tells the daemon to drop the current request. Best effort: the call failed already. */
void client_cancel(struct capstore *store);

/* Reports progress. CAP_E_CANCELLED when the caller says stop. */
enum cap_error client_report(struct capstore *store, bool upload, uint64_t done, uint64_t total);

#endif
