/*
 * Inside a connection: requests in flight over one stream, in any number and order.
 *
 * The course of a request: client_request_new, client_submit (it waits in `queued`), started by
 * client_process as the daemon's limit allows (its id is in `lanes`), answered or failed (it is in
 * `done` with its outcome), delivered: its callback runs, or the blocking call that waits for it
 * takes it. client_run is all of that for one request. There is no other way through.
 *
 * A lane is an id that the daemon has yet to answer. A request that ends early leaves its lane
 * behind, without a request, until the daemon's answer has passed.
 */
#ifndef CLIENT_LIB_CONN_H
#define CLIENT_LIB_CONN_H

#include <pthread.h>

#include "client/lib/dial.h"
#include "client/lib/http.h"
#include "client/lib/internal.h"
#include "client/lib/list.h"
#include "client/lib/verify.h"
#include "proto/message.h"

#define CLIENT_IN_SIZE ((size_t)64 << 10) /* of one read: a quarter of the largest frame */

/* Bytes per ms that a body must average, or its request times out: a daemon that sends a byte now
 * and then would otherwise hold its caller indefinitely. 1 byte/ms is 8 kbit/s, below any real
 * network. */
#define CLIENT_LEAST_RATE 1u

/* A body that is read from a cap's windows in raw content. */
struct client_sparse {
    struct cap_data data;
    struct client_window content;
};

struct client_entries;
struct client_many;

struct capstore_request {
    struct client_link link;   /* queued, started or done */
    struct client_link upload; /* while its body is going out */
    struct capstore *store;
    enum { CLIENT_QUEUED, CLIENT_STARTED, CLIENT_DONE, CLIENT_DELIVERED } state;
    enum proto_type type;
    uint32_t id; /* 0: not started, or a hello */
    struct cap_buf payload;
    bool report;    /* progress goes to options.progress */
    bool uploading; /* in `uploads` */
    bool ended;     /* upload: its last frame is queued */
    uint64_t held;  /* of capstore.held */

    /* What is asked. */
    struct capstore_hash hash;
    uint64_t offset;          /* GET */
    uint64_t len;             /* GET; SLICE: about, for the progress */
    uint64_t most;            /* GET: longest body to keep */
    size_t count;             /* HAS */
    bool keeps;               /* HAS: the answer says for how long, too */
    capstore_write_cb *write; /* GET: takes the body instead of `body`. SLICE: takes it */
    void *write_ctx;
    struct capstore_source source;  /* uploads */
    struct client_many *many;       /* GET_MANY: what it asks, and how far its answer is */
    struct client_entries *entries; /* CLOSURE: its maker's, which takes the answer's entries */
    struct client_sparse *sparse;   /* what `source` reads from, or NULL */
    uint64_t sent;
    uint64_t resumed;  /* upload: where it went on last; 0: it began there */
    uint64_t grace_ms; /* extra time to hash what is sent */

    /* What came. */
    enum cap_error error;
    struct cap_buf body;          /* of a GET; else the payload of the reply */
    struct client_verify *verify; /* of a long body that is arriving, else NULL */
    struct capstore_answer answer;
    struct cap_buf detail; /* of an error */
    struct cap_ssz_list unresolved;
    struct proto_shortage shortage; /* zeros: none */
    char message[CAPSTORE_MESSAGE_SIZE];

    capstore_done_cb *done; /* NULL: a blocking call waits for it */
    void *done_ctx;
};

/* The request whose place in a list this is, or NULL. */
static inline struct capstore_request *client_linked(struct client_link *link)
{
    void *start = link == NULL ? NULL : (char *)link - offsetof(struct capstore_request, link);
    return (struct capstore_request *)start;
}

/* The request whose place in the list of uploads this is, or NULL. */
static inline struct capstore_request *client_uploading(struct client_link *link)
{
    void *start = link == NULL ? NULL : (char *)link - offsetof(struct capstore_request, upload);
    return (struct capstore_request *)start;
}

/* An id that is in use. */
struct client_lane {
    uint32_t id;          /* 0: free */
    enum proto_type type; /* of the request */
    enum { CLIENT_AWAIT, CLIENT_BODY, CLIENT_PIECES, CLIENT_STREAM, CLIENT_DETAIL } expects;
    uint64_t left; /* bytes of the body or the detail; of pieces and streams nobody knows */
    struct capstore_request *request; /* NULL: ended early */
    int64_t began_ns;                 /* by the connection's clock */
    uint64_t moved;                   /* what capstore.moved was then */
};

/* A connection that is being made for the caller's loop. */
struct client_dialling {
    struct client_dial dial;
    int64_t deadline_ms;
    char address[201]; /* for messages */
};

struct capstore {
    uint32_t timeout_ms;
    bool no_verify;
    bool hash_thread;
    uint64_t max_body;
    uint64_t max_bodies;
    uint64_t max_caps;
    uint64_t asked; /* features, in the hello */
    uint32_t keep_s;
    bool no_resume;
    char *address; /* of the connection, to be made again; NULL: it was given one */
    bool (*progress)(void *ctx, const struct capstore_progress *progress);
    void *progress_ctx;
    char agent[CAPSTORE_AGENT_MAX + 1];

    struct client_dialling *dialling; /* while capstore_async_connect is under way; else NULL */
    struct client_http *http;         /* the other end of `fd`, over HTTP; else NULL */
    pthread_mutex_t turn;             /* of those who read parts of caps on several threads */
    int fd;                           /* -1: not connected */
    bool write_closed; /* the daemon takes no more; what it sent before is still read */
    bool heard;        /* something came from the peer */
    bool inside;       /* client_process is running */
    int passed;        /* a descriptor that came last, and that no call has taken; -1: none */
    struct proto_reader reader;
    struct cap_bytes input; /* received and not yet parsed, within `in` */
    struct cap_buf out;
    size_t out_sent;

    struct client_link queued; /* of requests, as the next three */
    struct client_link started;
    struct client_link done;
    struct client_link uploads; /* those whose body is going out, in turn */
    struct client_lane hello;   /* id 0; its request is NULL after the hello */
    struct client_lane *lanes;  /* at id modulo lane_count */
    uint32_t lane_count;        /* 0 or a power of two, at least twice lanes_used */
    uint32_t lanes_used;
    uint32_t id;       /* of the request started last */
    size_t pending;    /* requests not yet delivered */
    uint64_t held;     /* bytes of bodies of requests that are not done */
    uint64_t moved;    /* bytes of payloads sent and of bodies: each extends the time of requests */
    int64_t caller_ns; /* spent in the caller's functions during waits; the clock leaves it out */
    int64_t heard_ns;  /* when bytes moved last */
    int64_t check_ns;  /* no request can be late before */

    struct capstore_daemon_info info;
    struct proto_limits limits;
    uint64_t features; /* that hold for the connection, of those that were asked for */

    char message[CAPSTORE_MESSAGE_SIZE];
    struct cap_buf detail; /* of the last error */
    struct cap_ssz_list unresolved;
    struct proto_shortage shortage; /* zeros: none */
    uint8_t in[CLIENT_IN_SIZE];
};

/* Whether the connection speaks of leases: its messages have other forms then. */
static inline bool client_leases(const struct capstore *store)
{
    return (store->features & PROTO_FEATURE_KEEP) != 0;
}

/* ---- calls ---- */

/* Starts a blocking call: forgets the outcome of the last one. CAP_E_CONNECTION_LOST when not
 * connected, CAP_E_INVALID_ARGUMENT inside a callback. */
enum cap_error client_begin(struct capstore *store);

/* Makes the connection to `address` again. As capstore_connect; without an address
 * CAP_E_CONNECTION_LOST. */
enum cap_error client_connect_again(struct capstore *store);

/* Ends a call: sets the message if there is none. Returns the public error. */
enum capstore_error client_end(struct capstore *store, enum cap_error error);

/* Sets the message of an error that is being returned, unless there is one. Returns the error. */
enum cap_error client_say(struct capstore *store, enum cap_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Forgets the outcome of the last call. */
void client_forget(struct capstore *store);

/* Waits until no other thread reads a part of a cap over the store. CAP_E_INVALID_ARGUMENT inside a
 * callback. */
enum cap_error client_take_turn(struct capstore *store);

/* Lets the next one read. */
void client_end_turn(struct capstore *store);

/* CAP_E_NOT_SUPPORTED, with the message of what cannot be done over HTTP. */
enum cap_error client_say_reading(struct capstore *store);

/* CAP_E_UNSUPPORTED_REQUEST, with a message, on a connection that does not speak of leases;
 * CAP_E_NOT_SUPPORTED on one over HTTP. */
enum cap_error client_check_leases(struct capstore *store);

/* ---- requests (request.c) ---- */

/* A request with a message's payload, which an encoder just made with the outcome `encoded` and
 * which the call takes over. CAP_E_NO_MEMORY or that outcome. */
enum cap_error client_request_new(struct capstore *store, enum proto_type type,
                                  enum cap_error encoded, struct cap_buf *payload,
                                  struct capstore_request **ret_request);

/* Releases a request that is in no queue. NULL is fine. */
void client_request_free(struct capstore_request *request);

/* Puts a request in the queue; the connection owns it until it is delivered. */
void client_submit(struct capstore_request *request, capstore_done_cb *done, void *ctx);

/* client_submit for a request that was just made, unless making it failed. */
enum cap_error client_submit_made(enum cap_error made, struct capstore_request *request,
                                  capstore_done_cb *done, void *ctx,
                                  struct capstore_request **ret_request);

/* Submits a request without a callback and processes until it is done; its outcome is that of the
 * handle. The caller frees it. */
enum cap_error client_run(struct capstore_request *request);

/* client_run for a request that was just made (`made` is how that ended), then frees it; its
 * answer is left in *ret_answer when it succeeded. */
enum cap_error client_call(enum cap_error made, struct capstore_request *request,
                           struct capstore_answer *ret_answer);

/* Sends what of the queue the daemon's limit allows. */
void client_start_queued(struct capstore *store);

/* Ends a request with an outcome; it is delivered later. */
void client_finish(struct capstore_request *request, enum cap_error error);

/* Ends a started request before the daemon has answered, and tells the daemon. */
void client_abandon(struct capstore_request *request, enum cap_error error);

/* Ends every request with this error and message, and closes the stream. */
void client_fail_all(struct capstore *store, enum cap_error error, const char *message);

/* Runs the callbacks of the requests that are done. */
void client_deliver(struct capstore *store);

/* Sets the message of a request that fails, unless there is one. Returns the error. */
enum cap_error client_tell(struct capstore_request *request, enum cap_error error,
                           const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- the stream (stream.c) ---- */

/* Nanoseconds by the connection's clock. */
int64_t client_now_ns(const struct capstore *store);

/* Queues one frame. CAP_E_NO_MEMORY. */
enum cap_error client_send(struct capstore *store, enum proto_type type, uint8_t flags, uint32_t id,
                           struct cap_bytes payload);

/* Counts bytes that extend the time of requests; only those that the daemon cannot produce at will.
 */
void client_moved(struct capstore *store, uint64_t len);

/* Moves what can be moved and judges what is late; runs no callback of a request that is done. An
 * error has ended every request and closed the stream. */
enum cap_error client_process(struct capstore *store, bool readable);

/* Waits until there is something to do, then client_process. */
enum cap_error client_wait(struct capstore *store);

/* Goes on with the connecting that is under way. An error has ended it and its request. */
enum cap_error client_dial_on(struct capstore *store);

/* Ends the connecting that is under way, if one is. */
void client_stop_dialling(struct capstore *store);

/* Closes the socket and forgets the stream. */
void client_shut(struct capstore *store);

/* ---- lanes (lane.c) ---- */

/* The lane of an id, or NULL. */
struct client_lane *client_lane_find(const struct capstore *store, uint32_t id);

/* Opens a lane with a fresh id. Lanes move. CAP_E_NO_MEMORY. */
enum cap_error client_lane_open(struct capstore *store, struct capstore_request *request,
                                uint32_t *ret_id);

/* Frees a lane. */
void client_lane_close(struct capstore *store, struct client_lane *lane);

/* ---- answers (answer.c) ---- */

/* Takes a frame from the daemon. An error means that the stream is unusable; store->message may say
 * why. */
enum cap_error client_take(struct capstore *store, const struct proto_event *event);

/* Reports progress. CAP_E_CANCELLED if the caller's function says to stop. */
enum cap_error client_report(struct capstore_request *request, bool upload, uint64_t done,
                             uint64_t total);

/* Takes the daemon's hello (conn.c). */
enum cap_error client_take_hello(struct capstore *store, struct cap_bytes payload);

/* ---- many caps (many.c) ---- */

/* Takes a GET_MANY_REPLY; `request` is NULL if it ended early. CAP_E_BAD_REPLY. */
enum cap_error client_many_reply(struct capstore_request *request, struct cap_bytes payload);

/* Takes bytes of its pieces; `end`: the last. CAP_E_BAD_REPLY. *ret_given_up is the error by which
 * the caller's function ends the request, or CAP_OK. */
enum cap_error client_many_take(struct capstore_request *request, struct cap_bytes bytes, bool end,
                                enum cap_error *ret_given_up);

/* Whether the daemon understands GET_MANY. */
bool client_many_offered(const struct capstore *store);

/* NULL is fine. */
void client_many_free(struct client_many *many);

/* How many hashes one request may hold (ask.c). */
size_t client_most_hashes(const struct capstore *store);

/* capstore_keep of at most that many, inside another call (ask.c). */
enum cap_error client_keep(struct capstore *store, const struct capstore_hash *hashes, size_t count,
                           uint32_t keep_s, struct capstore_kept *ret_kept);

/* ---- uploads (upload.c) ---- */

/* Queues pieces of the bodies that are going out, in turn; to be called when all is sent. */
void client_pump(struct capstore *store);

/* ---- uploads that go on (resume.c) ---- */

/* Whether the daemon keeps what comes of an upload: its messages have other forms then. */
bool client_resumes(const struct capstore *store);

/*
 * Before a blocking upload of `len` bytes: if it is worth it to have it go on when its connection
 * is lost, and the connection was made without asking for that, it is made again. As
 * capstore_connect.
 */
enum cap_error client_prepare_upload(struct capstore *store, uint64_t len);

/* Chooses the token of a blocking upload; leaves it alone, zeroed, where it is to have none. */
void client_name_upload(const struct capstore *store, uint64_t len,
                        uint8_t ret_token[PROTO_TOKEN_SIZE]);

/* client_call for an upload, which goes on over another connection if it has a token. */
enum cap_error client_call_upload(enum cap_error made, struct capstore_request *request,
                                  struct capstore_answer *ret_answer);

#endif
