/*
 * The sending side of a connection.
 *
 * Happy path. A pump sends the rest of the frame that is under way, then all messages, then one
 * frame of the next stream, and so on until the socket is full or the turn's bound is reached. The
 * spans of a body come from its stream for each send, so nothing of the store is held while the
 * socket is full.
 *
 * Failure modes.
 *   - The stream cannot go on at a frame's beginning: it is over with its error, and its owner
 * sends an ERROR. In the middle of a frame that is not possible: the connection is lost.
 *   - The stream waits (cold pages) at a frame's beginning: the next one has its turn. In the
 *     middle of a frame everything waits.
 *   - The socket takes no byte of a page that cannot be read (EFAULT): as a stream that fails.
 */
#include "daemon/net/output.h"

#include <errno.h>
#include <sys/socket.h>

#define MESSAGES_KEEP (16u << 10)

/*
 * Gives the room of sent messages back, once it is half of all: a client that always leaves some
 * unread must not make the buffer grow.
 */
static void forget_sent(struct output *output)
{
    struct cap_buf *messages = &output->messages;
    size_t rest = messages->len - output->messages_sent;
    if (output->messages_sent < rest || output->messages_sent == 0) {
        return;
    }
    memmove(messages->data, messages->data + output->messages_sent, rest);
    messages->len = rest;
    output->messages_sent = 0;
}

/* Appends a frame, whose header lacks only its length. */
static enum cap_error append_frame(struct output *output, struct proto_frame frame,
                                   struct cap_bytes payload)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    frame.len = (uint32_t)payload.len;
    forget_sent(output);
    enum cap_error error = cap_buf_reserve(&output->messages, sizeof(header) + payload.len);
    if (error != CAP_OK) {
        return error;
    }
    proto_frame_encode(&frame, header);
    error = cap_buf_append(&output->messages, header, sizeof(header));
    if (error == CAP_OK && payload.len > 0) {
        error = cap_buf_append(&output->messages, payload.data, payload.len);
    }
    return error;
}

enum cap_error output_message(struct output *output, uint8_t type, uint32_t id,
                              struct cap_bytes payload)
{
    return append_frame(output, (struct proto_frame){.id = id, .type = type}, payload);
}

enum cap_error output_body(struct output *output, uint32_t id, struct cap_bytes body)
{
    return append_frame(
        output, (struct proto_frame){.id = id, .type = PROTO_BODY, .flags = PROTO_FLAG_END}, body);
}

/* --- Streams ---------------------------------------------------------------------------------- */

static void enqueue(struct output *output, struct stream *stream)
{
    stream->next = NULL;
    stream->queued = true;
    if (output->last == NULL) {
        output->first = stream;
    } else {
        output->last->next = stream;
    }
    output->last = stream;
}

static struct stream *dequeue(struct output *output)
{
    struct stream *stream = output->first;
    output->first = stream->next;
    output->last = stream->next == NULL ? NULL : output->last;
    stream->next = NULL;
    stream->queued = false;
    return stream;
}

static void unlink_stream(struct output *output, struct stream *stream)
{
    struct stream *before = NULL;
    for (struct stream *at = output->first; at != stream; at = at->next) {
        before = at;
    }
    if (before == NULL) {
        output->first = stream->next;
    } else {
        before->next = stream->next;
    }
    output->last = output->last == stream ? before : output->last;
    stream->queued = false;
}

void output_add(struct output *output, struct stream *stream)
{
    enqueue(output, stream);
}

void output_resume(struct output *output, struct stream *stream)
{
    if (stream == output->current) {
        output->waits = false;
    } else if (!stream->queued) {
        enqueue(output, stream);
    }
}

void output_end(struct output *output, struct stream *stream, enum cap_error error)
{
    if (stream == output->current) {
        stream->ending = error;
        return;
    }
    if (stream->queued) {
        unlink_stream(output, stream);
    }
    stream->class->over(stream, error);
}

void output_drop_streams(struct output *output, bool keep_current)
{
    while (output->first != NULL) {
        (void)dequeue(output);
    }
    if (!keep_current) {
        output->current = NULL;
        output->waits = false;
    }
}

/* --- Frames ----------------------------------------------------------------------------------- */

static void begin_frame(struct output *output, struct stream *stream)
{
    uint64_t len = stream->left < PROTO_FRAME_MAX ? stream->left : PROTO_FRAME_MAX;
    const struct proto_frame frame = {
        .len = (uint32_t)len,
        .id = stream->id,
        .type = PROTO_BODY,
        .flags = len == stream->left ? PROTO_FLAG_END : 0,
    };
    proto_frame_encode(&frame, output->header);
    output->header_sent = 0;
    output->frame_left = (uint32_t)len;
    output->current = stream;
}

/* The frame under way is complete: the stream is over, or has its next turn after the others. */
static void end_frame(struct output *output)
{
    struct stream *stream = output->current;
    bool complete = stream->left == 0;
    output->current = NULL;
    if (complete || stream->ending != CAP_OK) {
        stream->class->over(stream, complete ? CAP_OK : stream->ending);
    } else {
        enqueue(output, stream);
    }
}

/* The stream fails: at the frame's beginning only the stream, later the connection with it. */
static enum pump_result fail_frame(struct output *output)
{
    struct stream *stream = output->current;
    bool begun = output->header_sent > 0;
    output->current = NULL;
    stream->class->over(stream, stream->error);
    return begun ? PUMP_LOST : PUMP_IDLE;
}

/* Takes a frame back of which nothing was sent, so that messages can go before it. */
static void put_back(struct output *output)
{
    struct stream *stream = output->current;
    if (output->header_sent > 0) {
        return;
    }
    output->current = NULL;
    stream->queued = true;
    stream->next = output->first;
    output->first = stream;
    output->last = output->last == NULL ? stream : output->last;
}

static ssize_t send_iov(int fd, struct iovec *iov, int count)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    ssize_t n;
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* Books `n` sent bytes to the header, then to the body. */
static void book(struct output *output, size_t n)
{
    size_t header_rest = PROTO_FRAME_HEADER_SIZE - output->header_sent;
    size_t of_header = n < header_rest ? n : header_rest;
    output->header_sent += of_header;
    n -= of_header;
    if (n > 0) {
        output->frame_left -= (uint32_t)n;
        output->current->left -= n;
        output->current->class->sent(output->current, n);
    }
}

/*
 * Sends of the current frame what the socket takes, `most` bytes of its body. PUMP_IDLE: go on with
 * what comes next.
 */
static enum pump_result send_frame(struct output *output, int fd, uint64_t most, uint64_t *sent)
{
    struct iovec iov[OUTPUT_IOV];
    struct stream *stream = output->current;
    int count = 0;
    if (output->frame_left > 0) {
        size_t len = output->frame_left < most ? output->frame_left : (size_t)most;
        switch (stream->class->window(stream, len, iov + 1, &count)) {
        case STREAM_READY:
            break;
        case STREAM_WAITS:
            output->waits = output->header_sent > 0;
            output->current = output->waits ? stream : NULL;
            return PUMP_IDLE;
        case STREAM_FAILED:
            return fail_frame(output);
        }
    }
    iov[0].iov_base = output->header + output->header_sent;
    iov[0].iov_len = PROTO_FRAME_HEADER_SIZE - output->header_sent;
    ssize_t n = send_iov(fd, iov, count + 1);
    int failed = errno;
    if (count > 0 && stream->class->release != NULL) {
        stream->class->release(stream);
    }
    errno = failed;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        put_back(output);
        return PUMP_BLOCKED;
    }
    if (n < 0 && errno == EFAULT) {
        stream->error = CAP_E_IO;
        return fail_frame(output);
    }
    if (n < 0) {
        return PUMP_LOST;
    }
    *sent += (uint64_t)n;
    book(output, (size_t)n);
    if (output->header_sent == PROTO_FRAME_HEADER_SIZE && output->frame_left == 0) {
        end_frame(output);
    }
    return PUMP_IDLE;
}

static enum pump_result send_messages(struct output *output, int fd, uint64_t *sent)
{
    struct iovec iov = {
        .iov_base = output->messages.data + output->messages_sent,
        .iov_len = output->messages.len - output->messages_sent,
    };
    ssize_t n = send_iov(fd, &iov, 1);
    if (n < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK ? PUMP_BLOCKED : PUMP_LOST;
    }
    *sent += (uint64_t)n;
    output->messages_sent += (size_t)n;
    if (output->messages_sent == output->messages.len) {
        output->messages_sent = 0;
        output->messages.len = 0;
        if (output->messages.capacity > MESSAGES_KEEP) {
            cap_buf_free(&output->messages);
        }
    }
    return PUMP_IDLE;
}

/* Sends one piece of whatever comes next. *ret_more: there was something. */
static enum pump_result pump_once(struct output *output, int fd, uint64_t most, uint64_t *sent,
                                  bool *ret_more)
{
    *ret_more = true;
    if (output->current != NULL) {
        *ret_more = !output->waits;
        return output->waits ? PUMP_IDLE : send_frame(output, fd, most, sent);
    }
    if (output->messages.len > 0) {
        return send_messages(output, fd, sent);
    }
    if (output->first != NULL) {
        begin_frame(output, dequeue(output));
        return send_frame(output, fd, most, sent);
    }
    *ret_more = false;
    return PUMP_IDLE;
}

enum pump_result output_pump(struct output *output, int fd, uint64_t most, uint64_t *ret_sent)
{
    uint64_t sent = 0;
    bool more = true;
    enum pump_result result = PUMP_IDLE;
    while (more && result == PUMP_IDLE && sent < most) {
        result = pump_once(output, fd, most - sent, &sent, &more);
    }
    *ret_sent = sent;
    return more && result == PUMP_IDLE ? PUMP_BLOCKED : result;
}

bool output_wants(const struct output *output)
{
    if (output->current != NULL) {
        return !output->waits;
    }
    return output->messages.len > 0 || output->first != NULL;
}

size_t output_waiting(const struct output *output)
{
    return output->messages.len - output->messages_sent;
}

size_t output_memory(const struct output *output)
{
    return output->messages.capacity;
}

void output_free(struct output *output)
{
    cap_buf_free(&output->messages);
}
