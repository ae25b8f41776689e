/*
 * The stream of a connection: bytes out, bytes in, and the time that they may take.
 *
 * Happy path: what is queued is written, what arrived is read and handed frame by frame to
 * client_take. Failure modes: the daemon breaks the protocol, is silent past the timeout, is too
 * slow, or hangs up; every request ends then, and the stream is closed. When writing fails the
 * other direction is read to its end first, because the reason may already be on its way.
 *
 * The clock of a connection leaves out the time that the caller's own functions take.
 */
#include <poll.h>
#include <unistd.h>

#include "client/lib/conn.h"
#include "client/lib/link.h"
#include "lib/cap/must.h"

#define NS_PER_MS     INT64_C(1000000)
#define LONGEST_MS    ((uint64_t)INT32_MAX * 1000) /* in ns far from overflowing */
#define TURN_READS    16 /* of one call: 1 MiB, then the caller's loop has its turn */
#define TURN_WRITES   4  /* as much, in frames; then a refusal may have arrived */
#define CLOCK_FOREVER INT64_MAX

int64_t client_now_ns(const struct capstore *store)
{
    return client_clock_ns() - store->caller_ns;
}

void client_moved(struct capstore *store, uint64_t len)
{
    store->moved = len > UINT64_MAX - store->moved ? UINT64_MAX : store->moved + len;
}

/* ---- out ---- */

enum cap_error client_send(struct capstore *store, enum proto_type type, uint8_t flags, uint32_t id,
                           struct cap_bytes payload)
{
    struct proto_frame frame = {
        .len = (uint32_t)payload.len, .id = id, .type = (uint8_t)type, .flags = flags};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    proto_frame_encode(&frame, header);
    size_t before = store->out.len;
    must(payload.len <= UINT32_MAX);
    enum cap_error error = cap_buf_append(&store->out, header, sizeof(header));
    if (error == CAP_OK && payload.len > 0) {
        error = cap_buf_append(&store->out, payload.data, payload.len);
    }
    if (error != CAP_OK) {
        store->out.len = before;
    } else {
        client_moved(store, payload.len);
    }
    return error;
}

static bool out_pending(const struct capstore *store)
{
    return !store->write_closed && store->out_sent < store->out.len;
}

/* Whether there is something to be written. */
static bool wants_write(const struct capstore *store)
{
    bool room = store->lanes_used < store->limits.requests;
    return !store->write_closed &&
           (store->out_sent < store->out.len || client_list_first(&store->uploads) != NULL ||
            (room && client_list_first(&store->queued) != NULL));
}

/* Writes once; false when no more goes now. */
static bool write_some(struct capstore *store)
{
    size_t n;
    must(store->out_sent < store->out.len);
    size_t left = store->out.len - store->out_sent;
    if (client_link_write(store->fd, store->out.data + store->out_sent, left, &n) != CAP_OK) {
        store->write_closed = true; /* reading will say why */
        return false;
    }
    must(n <= left);
    store->out_sent += n;
    if (n > 0) {
        store->heard_ns = client_now_ns(store);
    }
    if (store->out_sent == store->out.len) {
        store->out.len = 0;
        store->out_sent = 0;
    }
    return n == left;
}

static void write_all(struct capstore *store)
{
    for (int i = 0; i < TURN_WRITES; i++) {
        client_start_queued(store);
        if (!out_pending(store) && !store->write_closed) {
            client_pump(store);
        }
        if (!out_pending(store) || !write_some(store)) {
            return;
        }
    }
}

/* ---- in ---- */

/* Takes every frame of what was received. */
static enum cap_error parse(struct capstore *store)
{
    while (store->input.len > 0) {
        struct proto_event event;
        bool have = false;
        enum cap_error error = proto_reader_next(&store->reader, &store->input, &event, &have);
        if (error != CAP_OK && error != CAP_E_NO_MEMORY) {
            return client_say(store, CAP_E_BAD_REPLY,
                              "the peer does not speak the capstore protocol: %s",
                              cap_error_text(error));
        }
        if (error == CAP_OK && have) {
            error = client_take(store, &event);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    return CAP_OK;
}

/* Reads once; *ret_more when there may be more. */
static enum cap_error read_some(struct capstore *store, bool *ret_more)
{
    size_t n;
    enum cap_error error =
        client_link_read(store->fd, store->in, sizeof(store->in), &n, &store->passed);
    if (error != CAP_OK) {
        return error;
    }
    store->input = (struct cap_bytes){store->in, n};
    *ret_more = n == sizeof(store->in);
    /* Read as a frame, what a line of JSON begins with is a length that no hello has. */
    bool json = !store->heard && n >= 2 && memcmp(store->in, "{\"", 2) == 0;
    if (n > 0) {
        store->heard = true;
        store->heard_ns = client_now_ns(store);
    }
    if (json) {
        return client_say(store, CAP_E_BAD_REPLY,
                          "this is capstored's admin socket, which speaks JSON; connect to its "
                          "client socket");
    }
    return parse(store);
}

/* ---- time ---- */

/*
 * When the request of a lane is late: nothing moved on the connection for the timeout, or the
 * request as a whole took longer than the bytes that moved meanwhile account for. Bytes that arrive
 * one by one, or that mean nothing, extend the first indefinitely; the second only bodies extend.
 */
static int64_t late_ns(const struct capstore *store, const struct client_lane *lane)
{
    const struct capstore_request *request = lane->request;
    uint64_t earned_ms = (store->moved - lane->moved) / CLIENT_LEAST_RATE;
    uint64_t grace_ms = 0;
    if (request == NULL && client_list_first(&store->queued) == NULL) {
        return CLOCK_FOREVER; /* nobody waits for it */
    }
    if (request != NULL && !request->uploading) {
        grace_ms = request->grace_ms < LONGEST_MS ? request->grace_ms : LONGEST_MS;
    }
    earned_ms = earned_ms < LONGEST_MS ? earned_ms : LONGEST_MS;
    int64_t from_ns = store->heard_ns > lane->began_ns ? store->heard_ns : lane->began_ns;
    int64_t idle_ns = from_ns + (int64_t)(store->timeout_ms + grace_ms) * NS_PER_MS;
    uint64_t more_ms = earned_ms > grace_ms ? earned_ms : grace_ms;
    int64_t last_ns = lane->began_ns + (int64_t)(store->timeout_ms + more_ms) * NS_PER_MS;
    return idle_ns < last_ns ? idle_ns : last_ns;
}

/* CAP_E_TIMED_OUT when a request is late. */
static enum cap_error check_time(struct capstore *store)
{
    int64_t now_ns = client_now_ns(store);
    if (now_ns < store->check_ns) {
        return CAP_OK;
    }
    int64_t next_ns = CLOCK_FOREVER;
    if (store->hello.request != NULL) {
        next_ns = late_ns(store, &store->hello);
    }
    for (uint32_t i = 0; i < store->lane_count; i++) {
        if (store->lanes[i].id != 0) {
            int64_t lane_ns = late_ns(store, &store->lanes[i]);
            next_ns = lane_ns < next_ns ? lane_ns : next_ns;
        }
    }
    store->check_ns = next_ns;
    if (now_ns < next_ns) {
        return CAP_OK;
    }
    return client_say(store, CAP_E_TIMED_OUT, "no answer within %u.%03u s; %s",
                      (unsigned)(store->timeout_ms / 1000), (unsigned)(store->timeout_ms % 1000),
                      store->heard ? "the daemon may be stuck or overloaded: retry, or allow it "
                                     "more time"
                                   : "is this capstored's client socket, or is the daemon stuck?");
}

/* ---- both ---- */

enum cap_error client_process(struct capstore *store, bool readable)
{
    enum cap_error error = CAP_OK;
    must(!store->inside && store->fd >= 0);
    store->inside = true;
    client_forget(store);
    write_all(store);
    bool more = readable || store->write_closed;
    for (int i = 0; i < TURN_READS && more && error == CAP_OK; i++) {
        error = read_some(store, &more);
    }
    if (error == CAP_OK) {
        error = check_time(store);
    }
    if (error != CAP_OK) {
        char message[CAPSTORE_MESSAGE_SIZE];
        if (error == CAP_E_CONNECTION_LOST && !store->heard) {
            (void)client_say(store, error,
                             "the peer closed the connection without an answer; is this "
                             "capstored's client socket?");
        }
        (void)client_say(store, error, "%s", cap_error_text(error));
        memcpy(message, store->message, sizeof(message));
        client_fail_all(store, error, message);
    }
    store->inside = false;
    return error;
}

enum cap_error client_wait(struct capstore *store)
{
    bool readable = false;
    bool writable = false;
    int64_t until_ms = INT64_MAX / 2;
    must(store->fd >= 0);
    if (store->check_ns != CLOCK_FOREVER) {
        until_ms = (store->check_ns + store->caller_ns) / NS_PER_MS + 1;
    }
    enum cap_error error =
        client_link_wait(store->fd, wants_write(store), until_ms, &readable, &writable);
    if (error == CAP_E_IO) {
        client_fail_all(store, error, cap_error_text(error));
        return error;
    }
    return client_process(store, readable);
}

void client_shut(struct capstore *store)
{
    if (store->http != NULL) {
        client_http_stop(store->http, store->fd);
        store->http = NULL;
    }
    if (store->fd >= 0) {
        close(store->fd);
    }
    if (store->passed >= 0) {
        close(store->passed);
    }
    store->fd = store->passed = -1;
    client_stop_dialling(store);
    store->write_closed = false;
    proto_reader_free(&store->reader);
    proto_reader_init(&store->reader, PROTO_FRAME_MAX);
    store->input = (struct cap_bytes){NULL, 0};
    cap_buf_free(&store->out);
    store->out_sent = 0;
}

/* ---- the caller's loop ---- */

int capstore_fd(const struct capstore *store)
{
    if (store->dialling != NULL) {
        /* Nothing can be learned of a socket that only waits: poll(2) says that it hung up. */
        return store->dialling->dial.full ? -1 : store->dialling->dial.fd;
    }
    return store->fd;
}

int capstore_events(const struct capstore *store)
{
    if (store->dialling != NULL) {
        return store->dialling->dial.full ? 0 : POLLOUT;
    }
    if (store->fd < 0) {
        return 0;
    }
    return wants_write(store) ? POLLIN | POLLOUT : POLLIN;
}

int capstore_timeout_ms(const struct capstore *store)
{
    if (client_list_first(&store->done) != NULL) {
        return 0;
    }
    if (store->dialling != NULL) {
        int64_t left_ms = store->dialling->deadline_ms - client_clock_ms();
        int pause_ms = client_dial_pause_ms(&store->dialling->dial);
        left_ms = left_ms < 0 ? 0 : left_ms > INT32_MAX ? INT32_MAX : left_ms;
        return pause_ms >= 0 && pause_ms < left_ms ? pause_ms : (int)left_ms;
    }
    bool idle =
        client_list_first(&store->started) == NULL && client_list_first(&store->queued) == NULL;
    if (store->fd < 0 || idle || store->check_ns == CLOCK_FOREVER) {
        return -1;
    }
    int64_t left_ns = store->check_ns - client_now_ns(store);
    int64_t left_ms = left_ns <= 0 ? 0 : left_ns / NS_PER_MS + 1;
    return left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
}

enum capstore_error capstore_process(struct capstore *store, int revents)
{
    if (store->inside) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    client_forget(store);
    enum cap_error error = CAP_OK;
    if (store->dialling != NULL) {
        error = client_dial_on(store);
        revents = 0;
    } else if (store->fd < 0) {
        error = CAP_E_CONNECTION_LOST;
    }
    if (error == CAP_OK && store->fd >= 0) {
        error = client_process(store, (revents & ~POLLOUT) != 0);
    }
    char message[CAPSTORE_MESSAGE_SIZE];
    memcpy(message, store->message, sizeof(message));
    client_deliver(store);
    client_forget(store);
    memcpy(store->message, message, sizeof(message));
    return client_end(store, error);
}

size_t capstore_pending(const struct capstore *store)
{
    return store->pending;
}
