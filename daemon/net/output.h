/*
 * The sending side of a connection: messages in order, and bodies in frames that take turns.
 *
 * Messages wait in a queue and go first at every frame's end; one can carry a file descriptor.
 * Bodies are streams; each gets one frame, then the next has its turn. What a frame looks like is
 * the speaker's (framing.h has ours). Loop thread only.
 */
#ifndef DAEMON_NET_OUTPUT_H
#define DAEMON_NET_OUTPUT_H

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "daemon/net/calls.h"
#include "daemon/net/handover.h"
#include "lib/cap/bytes.h"
#include "lib/store/store.h"

#define OUTPUT_HEADER_MAX 16u /* bytes of a frame's header */

struct message;
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
     * The next bytes of the body, up to `len`, as at most CAP_STORE_WINDOW_IOV spans, which are
     * used before the pump returns; at least one byte when READY. It may set stream->lends.
     */
    enum stream_answer (*window)(struct stream *stream, size_t len, struct iovec *ret_iov,
                                 int *ret_count);
    /* `len` bytes were handed to the socket. */
    void (*sent)(struct stream *stream, size_t len);
    /*
     * The body, or what was known of it (`more`), is out (CAP_OK), or it cannot be finished. The
     * output has forgotten the stream; output_resume brings one with more back.
     */
    void (*over)(struct stream *stream, enum cap_error error);
};

/* A body on its way out. Its owner keeps it until `over` or output_drop_streams. */
struct stream {
    const struct stream_class *class;
    TAILQ_ENTRY(stream) link;
    uint32_t id;
    uint64_t left; /* bytes not yet sent */
    bool more;     /* the body goes on after these, in frames of its own: as a stream again */
    enum cap_error error; /* why `window` failed */
    struct loan
        *lends; /* of the memory that the spans lie in (handover.h); NULL: they are copied */
    bool queued;
    enum cap_error ending; /* not CAP_OK: give it up with this at the end of its frame */
};

/* How bodies are cut into frames. */
struct framing {
    uint64_t frame_max; /* bytes of a body in one frame */
    /* Writes the header of a frame of `len` bytes and returns its length. */
    size_t (*header)(const struct stream *stream, uint64_t len, bool last,
                     uint8_t ret_header[OUTPUT_HEADER_MAX]);
};

/* Zeroed but for `framing`: empty. */
struct output {
    const struct framing *framing; /* NULL where there are no streams */
    struct handover *handover;     /* for spans that are lent; NULL: all are copied */
    struct borrower borrower;
    STAILQ_HEAD(message_list, message) messages;
    struct message *last; /* of these */
    size_t waiting;       /* bytes of these that have not been sent */
    size_t memory;        /* that they take */
    TAILQ_HEAD(stream_list, stream) streams;
    struct stream *current; /* its frame is under way */
    uint8_t header[OUTPUT_HEADER_MAX];
    size_t header_len;
    size_t header_sent;
    uint64_t frame_left;
    bool waits; /* current waits in the middle of its frame: nothing can be sent */
};

/* How a pump ended. */
enum pump_result {
    PUMP_IDLE,    /* nothing is left to send, or only streams that wait */
    PUMP_BLOCKED, /* the socket is full, or the turn is over: go on when it is writable */
    PUMP_LOST,    /* the connection is unusable */
};

/* Makes an empty output. `framing` outlives it. */
void output_init(struct output *output, const struct framing *framing);

/* Appends a copy of `head` and `rest` as one message. CAP_E_NO_MEMORY. */
enum cap_error output_append(struct output *output, struct cap_bytes head, struct cap_bytes rest);

/*
 * As output_append, and passes `fd` with the first byte (SCM_RIGHTS; the socket must be a Unix
 * one). The descriptor is taken over on success, and closed when it was sent or dropped.
 */
enum cap_error output_append_fd(struct output *output, struct cap_bytes head, struct cap_bytes rest,
                                int fd);

/* Adds a stream of `left` bytes, whose message has been appended. */
void output_add(struct output *output, struct stream *stream);

/* A stream that waited, or one with `more` whose next bytes are there, can go on. */
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

/*
 * The beginning of what is to be sent, as up to CALL_SPANS spans that are good until it changes,
 * where that is messages only and no descriptor goes with them. Returns how many; 0: the pump has
 * to do it. output_sent books `n` bytes of them, which were sent.
 */
size_t output_plan(const struct output *output, struct iovec *ret_spans);
void output_sent(struct output *output, size_t n);

/* Whether there is something that a writable socket could take. */
bool output_wants(const struct output *output);

/* Bytes of messages that wait. */
size_t output_waiting(const struct output *output);

/* Bytes of memory that messages hold. */
size_t output_memory(const struct output *output);

/* From now on spans are lent to the socket, a Unix one. `handover` outlives output_close. */
void output_lend(struct output *output, struct handover *handover, int socket);

/* Whether the socket may hold pages that were lent to it. */
bool output_is_lent(struct output *output);

/* The socket is about to be closed: nothing is sent any more. */
void output_close(struct output *output);

/* Frees the messages; streams are their owners'. */
void output_free(struct output *output);

#endif
