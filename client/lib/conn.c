/*
 * The connection: frames out, frames in, one request at a time.
 *
 * Happy path: a request queues its frames, client_step writes them while it listens, and yields the
 * frames that answer. Failure modes: the daemon refuses (an ERROR of our id: the call ends, the
 * stream stays usable), ends the whole connection (id 0: the call ends, the stream is closed),
 * breaks the protocol, is silent past the timeout, is too slow, or hangs up (the stream is closed).
 * When writing fails the other direction is read to its end first, because the reason may already
 * be on its way.
 */
#include "client/lib/conn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/lib/link.h"
#include "lib/cap/must.h"

/* ---- the handle ---- */

#define DEFAULT_TIMEOUT_MS 30000u              /* a person gives up about then */
#define DEFAULT_MAX_BODY   (UINT64_C(1) << 30) /* bytes of memory that a daemon may make us fill */
#define DEFAULT_MAX_CAPS   (UINT64_C(1) << 20) /* 48 MiB of hashes and their table */
#define MIN_FRAME          4096u               /* smaller frames would leave no room for messages */

static bool agent_valid(const char *agent)
{
    size_t len = strlen(agent);
    if (len > CAPSTORE_AGENT_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (agent[i] < ' ' || agent[i] > '~') {
            return false;
        }
    }
    return true;
}

static void take_options(struct capstore *store, const struct capstore_options *options)
{
    store->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : DEFAULT_TIMEOUT_MS;
    store->max_body = options->max_body != 0 ? options->max_body : DEFAULT_MAX_BODY;
    store->max_caps = options->max_caps != 0 ? options->max_caps : DEFAULT_MAX_CAPS;
    store->no_verify = options->no_verify;
    store->progress = options->progress;
    store->progress_ctx = options->progress_ctx;
    const char *agent = options->agent != NULL ? options->agent : "libcapstore " CAPSTORE_VERSION;
    memcpy(store->agent, agent, strlen(agent) + 1);
}

enum capstore_error capstore_new(const struct capstore_options *options,
                                 struct capstore **ret_store)
{
    static const struct capstore_options defaults = CAPSTORE_OPTIONS_INIT;
    if (options == NULL) {
        options = &defaults;
    }
    if (options->struct_size < sizeof(*options) ||
        (options->agent != NULL && !agent_valid(options->agent))) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    struct capstore *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    store->fd = store->passed = -1;
    take_options(store, options);
    proto_reader_init(&store->reader, PROTO_FRAME_MAX);
    *ret_store = store;
    return CAPSTORE_OK;
}

void capstore_free(struct capstore *store)
{
    if (store == NULL) {
        return;
    }
    capstore_close(store);
    cap_buf_free(&store->detail);
    free(store);
}

void capstore_close(struct capstore *store)
{
    if (store->fd >= 0) {
        close(store->fd);
    }
    if (store->passed >= 0) {
        close(store->passed);
    }
    store->fd = store->passed = -1;
    store->write_closed = false;
    store->broken = false;
    store->heard = false;
    store->id = 0;
    store->grace_ms = 0;
    store->moved = 0;
    store->waited_ns = 0;
    proto_reader_free(&store->reader);
    proto_reader_init(&store->reader, PROTO_FRAME_MAX);
    store->input = (struct cap_bytes){NULL, 0};
    cap_buf_free(&store->out);
    store->out_sent = 0;
}

bool capstore_connected(const struct capstore *store)
{
    return store->fd >= 0;
}

const char *capstore_message(const struct capstore *store)
{
    return store->message;
}

/* ---- beginning and ending a call ---- */

static void forget(struct capstore *store)
{
    store->message[0] = '\0';
    store->unresolved = (struct cap_ssz_list){0};
    cap_buf_free(&store->detail);
}

enum cap_error client_begin(struct capstore *store)
{
    forget(store);
    if (store->fd < 0) {
        return client_say(store, CAP_E_CONNECTION_LOST, "not connected");
    }
    store->grace_ms = 0;
    store->moved = 0;
    store->waited_ns = 0;
    store->id++;
    if (store->id == 0) { /* id 0 is the connection's own */
        store->id = 1;
    }
    return CAP_OK;
}

enum cap_error client_say(struct capstore *store, enum cap_error error, const char *format, ...)
{
    if (store->message[0] != '\0') {
        return error;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(store->message, sizeof(store->message), format, args);
    va_end(args);
    return error;
}

enum capstore_error client_end(struct capstore *store, enum cap_error error)
{
    if (error != CAP_OK) {
        client_say(store, error, "%s", cap_error_text(error));
    } else {
        store->message[0] = '\0';
    }
    if (store->broken) {
        capstore_close(store);
    }
    return client_public(error);
}

/* ---- moving bytes ---- */

void client_moved(struct capstore *store, uint64_t len)
{
    store->moved = len > UINT64_MAX - store->moved ? UINT64_MAX : store->moved + len;
}

enum cap_error client_send(struct capstore *store, enum proto_type type, uint8_t flags,
                           struct cap_bytes payload)
{
    struct proto_frame frame = {
        .len = (uint32_t)payload.len, .id = store->id, .type = (uint8_t)type, .flags = flags};
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

static void write_some(struct capstore *store, bool *ret_progress)
{
    size_t n;
    must(store->out_sent < store->out.len);
    if (client_link_write(store->fd, store->out.data + store->out_sent,
                          store->out.len - store->out_sent, &n) != CAP_OK) {
        store->write_closed = true; /* reading will say why */
        return;
    }
    must(n <= store->out.len - store->out_sent);
    store->out_sent += n;
    *ret_progress = *ret_progress || n > 0;
    if (store->out_sent == store->out.len) {
        store->out.len = 0;
        store->out_sent = 0;
    }
}

static enum cap_error read_some(struct capstore *store, bool *ret_progress)
{
    size_t n;
    must(store->input.len == 0); /* what was received is parsed */
    enum cap_error error =
        client_link_read(store->fd, store->in, sizeof(store->in), &n, &store->passed);
    if (error != CAP_OK) {
        return error;
    }
    store->input = (struct cap_bytes){store->in, n};
    /* Read as a frame, what a line of JSON begins with is a length that no hello has. */
    bool json = !store->heard && n >= 2 && memcmp(store->in, "{\"", 2) == 0;
    store->heard = store->heard || n > 0;
    if (json) {
        return client_say(store, CAP_E_BAD_REPLY,
                          "this is capstored's admin socket, which speaks JSON; connect to its "
                          "client socket");
    }
    *ret_progress = *ret_progress || n > 0;
    return CAP_OK;
}

/* The timeout and `more_ms`, from now. */
static int64_t deadline_in(const struct capstore *store, uint64_t more_ms)
{
    uint64_t most = (uint64_t)INT32_MAX * 1000;
    return client_clock_ms() + (int64_t)(store->timeout_ms + (more_ms < most ? more_ms : most));
}

/* When the daemon must have moved something. */
static int64_t next_deadline(const struct capstore *store)
{
    return deadline_in(store, store->grace_ms);
}

/*
 * When the call must be over. Bytes that arrive one by one, or that mean nothing, can extend the
 * other deadline indefinitely; this one only bodies extend.
 */
static int64_t last_deadline(const struct capstore *store)
{
    uint64_t earned_ms = store->moved / CLIENT_LEAST_RATE;
    return deadline_in(store, earned_ms > store->grace_ms ? earned_ms : store->grace_ms) -
           store->waited_ns / 1000000;
}

/* Waits once and moves what can be moved; extends the deadline if anything was. */
static enum cap_error exchange(struct capstore *store, int64_t *deadline_ms, int64_t last_ms)
{
    bool readable;
    bool writable;
    bool progress = false;
    if (client_clock_ms() >= last_ms) {
        return CAP_E_TIMED_OUT;
    }
    enum cap_error error =
        client_link_wait(store->fd, out_pending(store),
                         *deadline_ms < last_ms ? *deadline_ms : last_ms, &readable, &writable);
    if (error == CAP_OK && readable) {
        error = read_some(store, &progress);
    }
    if (error == CAP_OK && writable) {
        write_some(store, &progress);
    }
    if (progress) {
        *deadline_ms = next_deadline(store);
    }
    return error;
}

/* Explains a timeout. */
static enum cap_error say_timed_out(struct capstore *store)
{
    return client_say(store, CAP_E_TIMED_OUT, "no answer within %u.%03u s; %s",
                      (unsigned)(store->timeout_ms / 1000), (unsigned)(store->timeout_ms % 1000),
                      store->heard ? "the daemon may be stuck or overloaded: retry, or allow it "
                                     "more time"
                                   : "is this capstored's client socket, or is the daemon stuck?");
}

/* Whether a frame belongs to the current request; CAP_E_BAD_REPLY for one that belongs to none. */
static enum cap_error sort_frame(struct capstore *store, const struct proto_event *event,
                                 bool *ret_ours)
{
    *ret_ours = event->frame.id == store->id;
    if (*ret_ours || (int32_t)(event->frame.id - store->id) < 0) {
        return CAP_OK;
    }
    return client_say(store, CAP_E_BAD_REPLY, "the daemon answered a request that was not made");
}

/* The daemon's message, made safe to print. */
static void take_message(struct capstore *store, struct cap_bytes text)
{
    size_t room = sizeof(store->message) - 1;
    size_t len = text.len < room ? text.len : room;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = text.data[i];
        store->message[i] = (char)(c >= ' ' && c <= '~' ? c : '?');
    }
    store->message[len] = '\0';
}

static enum cap_error bad_error(struct capstore *store)
{
    store->broken = true;
    store->message[0] = '\0';
    return client_say(store, CAP_E_BAD_REPLY, "the daemon's error does not decode");
}

/* Errors that end the connection, whatever id they carry (PROTOCOL.md section 3.6). */
static bool ends_connection(enum cap_error code)
{
    return code == CAP_E_BAD_FRAME || code == CAP_E_UNSUPPORTED_VERSION ||
           code == CAP_E_FRAME_TOO_LARGE || code == CAP_E_MESSAGE_TOO_LARGE ||
           code == CAP_E_ID_IN_USE;
}

/* Takes the code and the message of an ERROR; the detail behind it is the caller's to receive. */
static enum cap_error take_error(struct capstore *store, struct cap_bytes payload,
                                 uint64_t *ret_detail_len)
{
    struct proto_error message;
    *ret_detail_len = 0;
    if (proto_error_decode(payload, &message) != CAP_OK) {
        return bad_error(store);
    }
    enum cap_error code = cap_error_from_code(message.code);
    if (code == CAP_OK) {
        return bad_error(store);
    }
    take_message(store, message.message);
    store->broken = store->broken || ends_connection(code);
    *ret_detail_len = message.detail_len;
    return code;
}

/* Takes frames from what was received until one is ours. */
static enum cap_error parse(struct capstore *store, struct proto_event *ret_event, bool *ret_have)
{
    *ret_have = false;
    while (store->input.len > 0) {
        bool have = false;
        enum cap_error error = proto_reader_next(&store->reader, &store->input, ret_event, &have);
        if (error != CAP_OK && error != CAP_E_NO_MEMORY) {
            return client_say(store, CAP_E_BAD_REPLY,
                              "the peer does not speak the capstore protocol: %s",
                              cap_error_text(error));
        }
        if (error != CAP_OK) {
            return error;
        }
        if (!have) {
            continue;
        }
        if (ret_event->frame.id == 0 && store->id != 0 && ret_event->frame.type == PROTO_ERROR) {
            uint64_t detail_len;
            store->broken = true;
            return take_error(store, ret_event->bytes, &detail_len);
        }
        error = sort_frame(store, ret_event, ret_have);
        if (error != CAP_OK || *ret_have) {
            return error;
        }
    }
    return CAP_OK;
}

static enum cap_error step(struct capstore *store, bool until_sent, struct proto_event *ret_event,
                           bool *ret_have)
{
    int64_t deadline_ms = next_deadline(store);
    int64_t last_ms = last_deadline(store);
    for (;;) {
        enum cap_error error = parse(store, ret_event, ret_have);
        if (error != CAP_OK || *ret_have) {
            return error;
        }
        if (until_sent && !store->write_closed && !out_pending(store)) {
            return CAP_OK;
        }
        error = exchange(store, &deadline_ms, last_ms);
        if (error != CAP_OK) {
            return error == CAP_E_TIMED_OUT ? say_timed_out(store) : error;
        }
    }
}

enum cap_error client_step(struct capstore *store, bool until_sent, struct proto_event *ret_event,
                           bool *ret_have)
{
    int64_t entered_ns = client_clock_ns();
    enum cap_error error = step(store, until_sent, ret_event, ret_have);
    store->waited_ns += client_clock_ns() - entered_ns;
    if (error != CAP_OK) {
        store->broken = true;
    }
    return error;
}

/* ---- answers ---- */

static enum cap_error unexpected(struct capstore *store, uint8_t type)
{
    store->broken = true;
    return client_say(store, CAP_E_BAD_REPLY, "the daemon sent a %s frame out of place",
                      proto_type_name(type));
}

/* Waits for the next frame of the current id; an ERROR is taken in and returned as its error. */
static enum cap_error next_frame(struct capstore *store, struct proto_event *ret_event)
{
    bool have;
    enum cap_error error = client_step(store, false, ret_event, &have);
    if (error == CAP_OK && ret_event->frame.type == PROTO_ERROR) {
        error = client_take_error(store, ret_event->bytes);
    }
    return error;
}

enum cap_error client_await(struct capstore *store, enum proto_type type,
                            struct cap_bytes *ret_payload)
{
    struct proto_event event;
    enum cap_error error = next_frame(store, &event);
    if (error != CAP_OK) {
        return error;
    }
    if (event.frame.type != type) {
        return unexpected(store, event.frame.type);
    }
    *ret_payload = event.bytes;
    return CAP_OK;
}

enum cap_error client_receive(struct capstore *store, uint64_t len, bool report,
                              enum cap_error (*write)(void *ctx, struct cap_bytes piece), void *ctx)
{
    uint64_t done = 0;
    for (bool end = false; !end;) {
        struct proto_event event;
        enum cap_error error = next_frame(store, &event);
        if (error != CAP_OK) {
            return error;
        }
        if (event.frame.type != PROTO_BODY) {
            return unexpected(store, event.frame.type);
        }
        if (event.bytes.len > len - done || (event.end && event.bytes.len != len - done)) {
            store->broken = true;
            return CAP_E_LENGTH_MISMATCH;
        }
        if (event.bytes.len > 0) {
            error = write(ctx, event.bytes);
        }
        client_moved(store, event.bytes.len);
        done += event.bytes.len;
        expect(done <= len);
        end = event.end;
        if (error == CAP_OK && report) {
            error = client_report(store, false, done, len);
        }
        if (error != CAP_OK) {
            if (!end) {
                client_cancel(store);
            }
            return error;
        }
    }
    return CAP_OK;
}

/*
 * The detail of an error. Unlike other bodies it cannot contain an error: a daemon must not nest
 * them.
 */
static enum cap_error take_detail(struct capstore *store, uint64_t len)
{
    for (bool end = false; !end;) {
        struct proto_event event;
        bool have;
        enum cap_error error = client_step(store, false, &event, &have);
        if (error != CAP_OK) {
            return error;
        }
        if (event.frame.type != PROTO_BODY) {
            return unexpected(store, event.frame.type);
        }
        expect(store->detail.len <= len);
        uint64_t left = len - store->detail.len;
        if (event.bytes.len > left || (event.end && event.bytes.len != left)) {
            store->broken = true;
            return CAP_E_LENGTH_MISMATCH;
        }
        error = cap_buf_append(&store->detail, event.bytes.data, event.bytes.len);
        client_moved(store, event.bytes.len);
        if (error != CAP_OK) {
            store->broken = true;
            return error;
        }
        end = event.end;
    }
    return CAP_OK;
}

enum cap_error client_take_error(struct capstore *store, struct cap_bytes payload)
{
    uint64_t detail_len;
    enum cap_error code = take_error(store, payload, &detail_len);
    if (store->broken || detail_len == 0) {
        return code;
    }
    if (detail_len > store->max_body) {
        client_cancel(store);
        return code;
    }
    /* A failure to receive the detail has its own message. */
    char kept[CAPSTORE_MESSAGE_SIZE];
    memcpy(kept, store->message, sizeof(kept));
    store->message[0] = '\0';
    enum cap_error error = take_detail(store, detail_len);
    if (error != CAP_OK) {
        return error;
    }
    memcpy(store->message, kept, sizeof(kept));
    if (code == CAP_E_UNRESOLVED_SLOT &&
        proto_unresolved_decode(cap_buf_bytes(&store->detail), &store->unresolved) != CAP_OK) {
        return bad_error(store);
    }
    return code;
}

void client_cancel(struct capstore *store)
{
    struct proto_event event;
    bool have = true;
    if (store->broken ||
        client_send(store, PROTO_CANCEL, 0, (struct cap_bytes){NULL, 0}) != CAP_OK) {
        return;
    }
    /* What still arrives for this id is ignored; client_step fails only if the stream does. */
    while (have && client_step(store, true, &event, &have) == CAP_OK) {
        ;
    }
}

enum cap_error client_report(struct capstore *store, bool upload, uint64_t done, uint64_t total)
{
    struct capstore_progress progress = {upload, done, total};
    if (store->progress == NULL || store->progress(store->progress_ctx, &progress)) {
        return CAP_OK;
    }
    return CAP_E_CANCELLED;
}

/* ---- hello ---- */

static enum cap_error take_hello(struct capstore *store, struct cap_bytes payload)
{
    struct proto_hello_reply reply;
    if (proto_hello_reply_decode(payload, &reply) != CAP_OK || reply.limits.hashes == 0 ||
        reply.limits.frame < MIN_FRAME || (reply.features & ~PROTO_FEATURE_MAP) != 0) {
        return client_say(store, CAP_E_BAD_REPLY, "the daemon's hello does not make sense");
    }
    if (reply.version != PROTO_VERSION) {
        return CAP_E_UNSUPPORTED_VERSION;
    }
    store->limits = reply.limits;
    store->info = (struct capstore_daemon_info){
        .protocol_version = reply.version,
        .max_hashes = reply.limits.hashes,
        .max_upload = reply.limits.upload,
        .max_structure = reply.limits.structure,
        .max_data = reply.limits.data,
        .idle_ms = reply.limits.idle_ms,
    };
    memcpy(store->info.store_id, reply.store_id, sizeof(store->info.store_id));
    size_t len = reply.agent.len < CAPSTORE_AGENT_MAX ? reply.agent.len : CAPSTORE_AGENT_MAX;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = reply.agent.data[i];
        store->info.agent[i] = (char)(c >= ' ' && c <= '~' ? c : '?');
    }
    return CAP_OK;
}

static enum cap_error say_hello(struct capstore *store)
{
    struct proto_hello hello = {
        .version_min = PROTO_VERSION,
        .version_max = PROTO_VERSION,
        .agent = {(const uint8_t *)store->agent, strlen(store->agent)},
        .has_features = true,
        .features = PROTO_FEATURE_MAP,
    };
    struct cap_buf payload = {0};
    struct cap_bytes reply;
    enum cap_error error = proto_hello_encode(&hello, &payload);
    if (error == CAP_OK) {
        error = client_send(store, PROTO_HELLO, 0, cap_buf_bytes(&payload));
    }
    cap_buf_free(&payload);
    if (error == CAP_OK) {
        error = client_await(store, PROTO_HELLO_REPLY, &reply);
    }
    if (error == CAP_OK) {
        error = take_hello(store, reply);
    }
    return error;
}

static enum cap_error connected(struct capstore *store, int fd)
{
    store->fd = fd;
    store->info = (struct capstore_daemon_info){0};
    enum cap_error error = client_link_prepare(fd);
    if (error == CAP_OK) {
        error = say_hello(store);
    }
    if (error == CAP_E_CONNECTION_LOST && !store->heard) {
        (void)client_say(store, error,
                         "the peer closed the connection without an answer; is this capstored's "
                         "client socket?");
    }
    if (error != CAP_OK) {
        store->broken = true; /* a connection without a hello is unusable */
    }
    return error;
}

enum capstore_error capstore_connect_fd(struct capstore *store, int fd)
{
    capstore_close(store);
    forget(store);
    return client_end(store, connected(store, fd));
}

enum capstore_error capstore_connect(struct capstore *store, const char *address)
{
    capstore_close(store);
    forget(store);
    struct client_address parsed;
    enum cap_error error = client_address_parse(address, &parsed);
    if (error != CAP_OK) {
        return client_end(store, client_say(store, error,
                                            "%.200s is not an address; expected unix:PATH or "
                                            "tcp:HOST:PORT",
                                            address));
    }
    char detail[CLIENT_LINK_DETAIL_SIZE];
    int fd;
    error = client_link_connect(&parsed, store->timeout_ms, &fd, detail);
    if (error != CAP_OK) {
        return client_end(
            store, client_say(store, error, "cannot connect to %.200s: %s", address, detail));
    }
    return client_end(store, connected(store, fd));
}

enum capstore_error capstore_info(struct capstore *store, struct capstore_daemon_info *ret_info)
{
    forget(store);
    if (store->fd < 0) {
        return client_end(store, client_say(store, CAP_E_CONNECTION_LOST, "not connected"));
    }
    *ret_info = store->info;
    return client_end(store, CAP_OK);
}
