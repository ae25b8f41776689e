/*
 * The sending side of a connection.
 *
 * Happy path. A pump sends the rest of the frame that is under way, then what messages wait
 * together with one frame of the next stream, and so on until the socket is full or the turn's
 * bound is reached. The spans of a body come from its stream for each send, so nothing of the store
 * is held while the socket is full.
 *
 * Failure modes.
 *   - The stream cannot go on at a frame's beginning: it is over with its error, and its owner
 *     sends an ERROR. In the middle of a frame that is not possible: the connection is lost.
 *   - The stream waits (cold pages) at a frame's beginning: the next one has its turn. In the
 *     middle of a frame everything waits.
 *   - The socket takes no byte of a page that cannot be read (EFAULT): as a stream that fails.
 */
#include "daemon/net/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cap/must.h"

#define MESSAGE_ROOM     2048u      /* bytes of a message's memory: small answers share one */
#define MESSAGE_ROOM_MAX (8u << 10) /* one behind others that wait has twice the last one's */

/* Bytes that go out as they are. */
struct message {
    STAILQ_ENTRY(message) link;
    int fd; /* passed with the first byte; -1: none */
    size_t len;
    size_t sent;
    size_t capacity;
    uint8_t bytes[];
};

/* --- Messages --------------------------------------------------------------------------------- */

void output_init(struct output *output, const struct framing *framing)
{
    *output = (struct output){.framing = framing};
    STAILQ_INIT(&output->messages);
    TAILQ_INIT(&output->streams);
}

static void append_bytes(struct output *output, struct message *message, struct cap_bytes bytes)
{
    if (bytes.len > 0) {
        memcpy(message->bytes + message->len, bytes.data, bytes.len);
        message->len += bytes.len;
        output->waiting += bytes.len;
    }
}

static struct message *new_message(struct output *output, size_t len)
{
    size_t room = output->last == NULL ? MESSAGE_ROOM : 2 * output->last->capacity;
    room = room < MESSAGE_ROOM_MAX ? room : MESSAGE_ROOM_MAX;
    size_t capacity = len < room ? room : len;
    struct message *message = malloc(sizeof(*message) + capacity);
    if (message != NULL) {
        *message = (struct message){.fd = -1, .capacity = capacity};
        STAILQ_INSERT_TAIL(&output->messages, message, link);
        output->last = message;
        output->memory += sizeof(*message) + capacity;
    }
    return message;
}

enum cap_error output_append(struct output *output, struct cap_bytes head, struct cap_bytes rest)
{
    struct message *message = output->last;
    size_t len = head.len + rest.len;
    if (message == NULL || message->capacity - message->len < len) {
        message = new_message(output, len);
    }
    if (message == NULL) {
        return CAP_E_NO_MEMORY;
    }
    append_bytes(output, message, head);
    append_bytes(output, message, rest);
    return CAP_OK;
}

enum cap_error output_append_fd(struct output *output, struct cap_bytes head, struct cap_bytes rest,
                                int fd)
{
    struct message *message = new_message(output, head.len + rest.len);
    must(head.len + rest.len > 0);
    if (message == NULL) {
        return CAP_E_NO_MEMORY;
    }
    append_bytes(output, message, head);
    append_bytes(output, message, rest);
    message->fd = fd;
    return CAP_OK;
}

static void free_first_message(struct output *output)
{
    struct message *message = STAILQ_FIRST(&output->messages);
    STAILQ_REMOVE_HEAD(&output->messages, link);
    output->last = STAILQ_EMPTY(&output->messages) ? NULL : output->last;
    output->waiting -= message->len - message->sent;
    output->memory -= sizeof(*message) + message->capacity;
    if (message->fd >= 0) {
        close(message->fd);
    }
    free(message);
}

/*
 * The messages that can go in one call; *ret_fd is what goes with them, *ret_all whether no others
 * wait. Returns how many spans they are.
 */
static int gather_messages(const struct output *output, struct iovec *ret_iov, int *ret_fd,
                           bool *ret_all)
{
    struct message *message;
    int count = 0;
    *ret_all = false;
    STAILQ_FOREACH(message, &output->messages, link)
    {
        bool passes = message->fd >= 0;
        if (count == CALL_SPANS || (passes && count > 0)) {
            return count; /* a descriptor goes with the first byte of a call */
        }
        if (passes) {
            *ret_fd = message->fd;
        }
        ret_iov[count].iov_base = message->bytes + message->sent;
        ret_iov[count++].iov_len = message->len - message->sent;
    }
    *ret_all = true;
    return count;
}

/* Books sent bytes to the messages; returns how many are not theirs. */
static size_t book_messages(struct output *output, size_t n)
{
    while (n > 0 && !STAILQ_EMPTY(&output->messages)) {
        struct message *message = STAILQ_FIRST(&output->messages);
        size_t rest = message->len - message->sent;
        size_t of_message = n < rest ? n : rest;
        if (message->fd >= 0) {
            close(message->fd);
            message->fd = -1;
        }
        message->sent += of_message;
        output->waiting -= of_message;
        n -= of_message;
        if (of_message == rest) {
            free_first_message(output);
        }
    }
    return n;
}

/* --- Streams ---------------------------------------------------------------------------------- */

static void enqueue(struct output *output, struct stream *stream)
{
    stream->queued = true;
    TAILQ_INSERT_TAIL(&output->streams, stream, link);
}

static void unqueue(struct output *output, struct stream *stream)
{
    TAILQ_REMOVE(&output->streams, stream, link);
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
        unqueue(output, stream);
    }
    stream->class->over(stream, error);
}

void output_drop_streams(struct output *output, bool keep_current)
{
    while (!TAILQ_EMPTY(&output->streams)) {
        unqueue(output, TAILQ_FIRST(&output->streams));
    }
    if (!keep_current) {
        output->current = NULL;
        output->waits = false;
    }
}

/* --- Frames ----------------------------------------------------------------------------------- */

static void begin_frame(struct output *output, struct stream *stream)
{
    uint64_t most = output->framing->frame_max;
    uint64_t len = stream->left < most ? stream->left : most;
    bool last = len == stream->left && !stream->more;
    output->header_len = output->framing->header(stream, len, last, output->header);
    output->header_sent = 0;
    output->frame_left = len;
    output->current = stream;
}

static bool has_begun(const struct output *output)
{
    return output->current != NULL && output->header_sent > 0;
}

/* The frame under way is complete: the stream is over, or has its next turn after the others. */
static void end_frame(struct output *output)
{
    struct stream *stream = output->current;
    bool complete = stream->left == 0 && !stream->more;
    output->current = NULL;
    if (stream->ending != CAP_OK && !complete) {
        stream->class->over(stream, stream->ending);
    } else if (stream->left == 0) {
        stream->class->over(stream, CAP_OK);
    } else {
        enqueue(output, stream);
    }
}

/* The stream fails: at the frame's beginning only the stream, later the connection with it. */
static enum pump_result fail_frame(struct output *output)
{
    struct stream *stream = output->current;
    bool begun = has_begun(output);
    output->current = NULL;
    stream->class->over(stream, stream->error);
    return begun ? PUMP_LOST : PUMP_IDLE;
}

/* Takes a frame back of which nothing was sent, so that messages can go before it. */
static void put_back(struct output *output)
{
    struct stream *stream = output->current;
    if (stream == NULL || has_begun(output)) {
        return;
    }
    output->current = NULL;
    stream->queued = true;
    TAILQ_INSERT_HEAD(&output->streams, stream, link);
}

/* The spans of the frame under way, `most` bytes of its body; READY also without a frame. */
static enum stream_answer gather_frame(struct output *output, uint64_t most, struct iovec *ret_iov,
                                       int *ret_count)
{
    struct stream *stream = output->current;
    int count = 0;
    *ret_count = 0;
    if (stream == NULL) {
        return STREAM_READY;
    }
    if (output->frame_left > 0) {
        size_t len = output->frame_left < most ? (size_t)output->frame_left : (size_t)most;
        enum stream_answer answer = stream->class->window(stream, len, ret_iov + 1, &count);
        if (answer != STREAM_READY) {
            return answer;
        }
    }
    ret_iov[0].iov_base = output->header + output->header_sent;
    ret_iov[0].iov_len = output->header_len - output->header_sent;
    *ret_count = count + 1;
    return STREAM_READY;
}

/* Books sent bytes to the frame: its header, then its body. */
static void book_frame(struct output *output, size_t n)
{
    must(output->current != NULL);
    size_t header_rest = output->header_len - output->header_sent;
    size_t of_header = n < header_rest ? n : header_rest;
    output->header_sent += of_header;
    n -= of_header;
    if (n > 0) {
        output->frame_left -= n;
        output->current->left -= n;
        output->current->class->sent(output->current, n);
    }
    if (output->header_sent == output->header_len && output->frame_left == 0) {
        end_frame(output);
    }
}

/* --- The pump --------------------------------------------------------------------------------- */

static ssize_t send_iov(int socket, struct iovec *iov, int count, int passed)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    if (passed >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &passed, sizeof(int));
    }
    return calls_send(socket, &message);
}

/* What a call that sent nothing means. `error` is its errno. */
static enum pump_result not_sent(struct output *output, int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK) {
        put_back(output);
        return PUMP_BLOCKED;
    }
    if (error == EFAULT && output->current != NULL) {
        output->current->error = CAP_E_IO;
        return fail_frame(output);
    }
    return PUMP_LOST;
}

/* Sends spans, those from `lent` on by reference. Returns how many bytes went, or -1. */
static ssize_t send_spans(struct output *output, int socket, struct iovec *iov, int count, int lent,
                          int passed)
{
    size_t head = 0;
    if (lent == count) {
        return send_iov(socket, iov, count, passed);
    }
    for (int i = 0; i < lent; i++) {
        head += iov[i].iov_len;
    }
    ssize_t n = head > 0 ? send_iov(socket, iov, lent, passed) : 0;
    if (n < 0 || (size_t)n < head) {
        return n;
    }
    ssize_t more = handover_send(output->handover, &output->borrower, output->current->lends,
                                 iov + lent, count - lent);
    return more >= 0 ? n + more : n > 0 ? n : more; /* the error comes again at the next call */
}

/* Where the spans begin that are lent rather than copied; their count: nowhere. */
static int find_lent(struct output *output, const struct iovec *iov, int message_count,
                     int frame_count)
{
    size_t len = 0;
    int count = message_count + frame_count;
    if (output->handover == NULL || frame_count < 2 || output->current->lends == NULL) {
        return count;
    }
    for (int i = message_count + 1; i < count; i++) {
        len += iov[i].iov_len;
    }
    return len >= HANDOVER_MIN &&
                   handover_may(output->handover, &output->borrower, output->current->lends)
               ? message_count + 1
               : count;
}

/* Sends one piece of whatever comes next. *ret_more: there was something. */
static enum pump_result pump_once(struct output *output, int socket, uint64_t most, uint64_t *sent,
                                  bool *ret_more)
{
    struct iovec iov[CALL_SPANS + 1 + CAP_STORE_WINDOW_IOV];
    int passed = -1;
    int frame_count = 0;
    *ret_more = output_wants(output);
    if (!*ret_more) {
        return PUMP_IDLE;
    }
    bool all = true;
    int message_count = has_begun(output) ? 0 : gather_messages(output, iov, &passed, &all);
    /* The message that a stream follows may be among those that have to wait. */
    struct stream *next = all ? TAILQ_FIRST(&output->streams) : NULL;
    if (output->current == NULL && next != NULL) {
        unqueue(output, next);
        begin_frame(output, next);
    }
    switch (gather_frame(output, most, iov + message_count, &frame_count)) {
    case STREAM_READY:
        break;
    case STREAM_WAITS:
        output->waits = has_begun(output);
        output->current = output->waits ? output->current : NULL;
        return PUMP_IDLE; /* messages and other streams are next */
    case STREAM_FAILED:
        return fail_frame(output);
    }
    int lent = find_lent(output, iov, message_count, frame_count);
    ssize_t n = send_spans(output, socket, iov, message_count + frame_count, lent, passed);
    int error = errno;
    if (n < 0) {
        return not_sent(output, error);
    }
    *sent += (uint64_t)n;
    size_t of_frame = message_count > 0 ? book_messages(output, (size_t)n) : (size_t)n;
    if (of_frame > 0) {
        book_frame(output, of_frame);
    }
    put_back(output);
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

size_t output_plan(const struct output *output, struct iovec *ret_spans)
{
    int passed = -1;
    bool all;
    if (output->current != NULL || !TAILQ_EMPTY(&output->streams)) {
        return 0;
    }
    int count = gather_messages(output, ret_spans, &passed, &all);
    return passed >= 0 ? 0 : (size_t)count;
}

void output_sent(struct output *output, size_t n)
{
    must(book_messages(output, n) == 0);
}

bool output_wants(const struct output *output)
{
    if (output->current != NULL) {
        return !output->waits;
    }
    return !STAILQ_EMPTY(&output->messages) || !TAILQ_EMPTY(&output->streams);
}

size_t output_waiting(const struct output *output)
{
    return output->waiting;
}

size_t output_memory(const struct output *output)
{
    return output->memory;
}

void output_lend(struct output *output, struct handover *handover, int socket)
{
    output->handover = handover;
    output->borrower = (struct borrower){.socket = socket};
}

bool output_is_lent(struct output *output)
{
    return output->handover != NULL && handover_holds(output->handover, &output->borrower);
}

void output_close(struct output *output)
{
    if (output->handover != NULL) {
        handover_end(output->handover, &output->borrower);
        output->handover = NULL;
    }
}

void output_free(struct output *output)
{
    while (!STAILQ_EMPTY(&output->messages)) {
        free_first_message(output);
    }
}
