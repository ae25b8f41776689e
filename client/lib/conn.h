/*
 * Inside a connection: one request at a time over frames, both directions polled together.
 *
 * The course of a call: client_begin (a fresh id), client_send (frames queue in `out`),
 * client_await or client_step (bytes move until an answer is there), client_end (the message is
 * set, and the connection closed if the stream is unusable). Frames of earlier ids are left over
 * from requests that ended early, and are skipped.
 */
#ifndef CLIENT_LIB_CONN_H
#define CLIENT_LIB_CONN_H

#include "client/lib/internal.h"
#include "proto/message.h"

#define CLIENT_IN_SIZE ((size_t)64 << 10) /* of one read: a quarter of the largest frame */

/* Bytes per ms that a body must average, or the call ends: a daemon that sends a byte now and then
 * would otherwise hold its caller indefinitely. 1 byte/ms is 8 kbit/s, below any real network. */
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
    bool broken;       /* the stream is unusable: close at the end of the call */
    bool heard;        /* something came from the peer */
    int passed;        /* a descriptor that came last, and that no call has taken; -1: none */
    uint32_t id;       /* of the request that runs, or ran last */
    uint64_t grace_ms; /* extra time for the daemon to hash what was sent */
    uint64_t moved;    /* bytes sent and bytes of bodies: each extends the time of the whole call */
    int64_t waited_ns; /* what the call took so far, without the caller's callbacks */
    struct proto_reader reader;
    struct cap_bytes input; /* received and not yet parsed, within `in` */
    struct cap_buf out;
    size_t out_sent;

    struct capstore_daemon_info info;
    struct proto_limits limits;

    char message[CAPSTORE_MESSAGE_SIZE];
    struct cap_buf detail; /* of the last error */
    struct cap_ssz_list unresolved;
    uint8_t in[CLIENT_IN_SIZE];
};

/* Starts a call: forgets the outcome of the last one, takes a new id. CAP_E_CONNECTION_LOST when
 * not connected. */
enum cap_error client_begin(struct capstore *store);

/* Ends a call: sets the message if there is none, closes an unusable stream.
 * Returns the public error. */
enum capstore_error client_end(struct capstore *store, enum cap_error error);

/* Sets the message of an error that is being returned, unless there is one. Returns the error. */
enum cap_error client_say(struct capstore *store, enum cap_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Extends the time of the call for bytes that it moved; only for those that the daemon cannot
 * produce at will. */
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

/* Waits for a message of `type`. CAP_E_BAD_REPLY for another. */
enum cap_error client_await(struct capstore *store, enum proto_type type,
                            struct cap_bytes *ret_payload);

/* Takes an ERROR message that client_step yielded, its detail included. Returns its error. */
enum cap_error client_take_error(struct capstore *store, struct cap_bytes payload);

/*
 * Receives a body of `len` bytes, handing each piece to `write`. CAP_E_LENGTH_MISMATCH when the
 * daemon sends another length. `report`: call the progress callback.
 */
enum cap_error client_receive(struct capstore *store, uint64_t len, bool report,
                              enum cap_error (*write)(void *ctx, struct cap_bytes piece),
                              void *ctx);

/* Tells the daemon to drop the current request. Best effort: the call has failed already. */
void client_cancel(struct capstore *store);

/* Reports progress. CAP_E_CANCELLED if the caller's function says to stop. */
enum cap_error client_report(struct capstore *store, bool upload, uint64_t done, uint64_t total);

#endif
