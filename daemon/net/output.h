/*
 * What goes out on a connection: messages, and bodies in frames that take turns.
 *
 * Messages wait in a bounded buffer and go first at every frame's end. Bodies are streams; each
 * gets one frame of at most PROTO_FRAME_MAX bytes, then the next has its turn.
 */
#ifndef DAEMON_NET_OUTPUT_H
#define DAEMON_NET_OUTPUT_H

#include <sys/uio.h>

#include "lib/store/store.h"
#include "proto/frame.h"

#define OUTPUT_IOV (CAP_STORE_WINDOW_IOV + 1)

struct output;
struct stream;

/* What a stream says when it is asked for bytes. */
enum stream_answer {
    STREAM_READY,
    STREAM_WAITS,  /* not now: output_resume will be called */
    STREAM_FAILED, /* not at all: stream->error says why */
};

struct stream_class {
    /*
     * The next bytes of the body, up to `len`, as spans that stay valid until `release`; at least
     * one byte when READY.
     */
    enum stream_answer (*window)(struct stream *stream, size_t len, struct iovec *ret_iov,
                                 int *ret_count);
    /* The spans of a window that was READY are not used any more. NULL: nothing to do. */
    void (*release)(struct stream *stream);
    /* `len` bytes were handed to the socket. */
    void (*sent)(struct stream *stream, size_t len);
    /* The body is out (CAP_OK) or cannot be finished; the output has forgotten the stream. */
    void (*over)(struct stream *stream, enum cap_error error);
};

/* A body on its way out. Its owner keeps it until `over` or output_drop. */
struct stream {
    const struct stream_class *class;
    struct stream *next;
    uint32_t id;
    uint64_t left;        /* bytes not yet sent */
    enum cap_error error; /* why `window` failed */
    bool queued;
    enum cap_error ending; /* not CAP_OK: give it up with this at the end of its frame */
};

struct output {
    struct cap_buf messages;
    size_t messages_sent;
    struct stream *first;
    struct stream *last;
    struct stream *current; /* its frame is under way */
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    size_t header_sent;
    uint32_t frame_left;
    bool waits; /* current waits in the middle of its frame: nothing can be sent */
};

/* How a pump ended. */
enum pump_result {
    PUMP_IDLE,    /* nothing is left to send, or only streams that wait */
    PUMP_BLOCKED, /* the socket is full, or the turn is over: go on when it is writable */
    PUMP_LOST,    /* the connection is of no more use */
};

/* Appends a message frame. CAP_E_NO_MEMORY. */
enum cap_error output_message(struct output *output, uint8_t type, uint32_t id,
                              struct cap_bytes payload);

/* Appends a whole body as one frame, a copy; at most PROTO_FRAME_MAX bytes. CAP_E_NO_MEMORY. */
enum cap_error output_body(struct output *output, uint32_t id, struct cap_bytes body);

/* Adds a stream of `left` bytes, whose message has been appended. */
void output_add(struct output *output, struct stream *stream);

/* A stream that waited can go on. */
void output_resume(struct output *output, struct stream *stream);

/*
 * Gives a stream up: `over` is called with `error` as soon as its frame is complete, at once when
 * none is under way.
 */
void output_end(struct output *output, struct stream *stream, enum cap_error error);

/* Forgets every stream without a word; only the frame under way is kept if `keep_current`. */
void output_drop_streams(struct output *output, bool keep_current);

/* Sends what the socket takes, until `most` bytes are sent or more. *ret_sent counts bytes. */
enum pump_result output_pump(struct output *output, int fd, uint64_t most, uint64_t *ret_sent);

/* Whether there is something that a writable socket could take. */
bool output_wants(const struct output *output);

/* Bytes of messages that wait. */
size_t output_waiting(const struct output *output);

/* Bytes of memory that messages hold. */
size_t output_memory(const struct output *output);

/* Frees the buffers; streams are their owners'. */
void output_free(struct output *output);

#endif
