/*
 * A flow: the bytes of one body on their way to a socket, as a stream (net/output.h) asks for them.
 *
 * From the pieces that are kept (pieces.h), or in windows that readers look up, one ahead of what
 * is sent. A flow waits for its socket without a snapshot, but for a window or two, which are
 * dropped when it takes too long (window.h). Loop thread only.
 */
#ifndef DAEMON_SERVE_FLOW_H
#define DAEMON_SERVE_FLOW_H

#include "daemon/net/output.h"
#include "daemon/serve/window.h"

struct piece;

/* Its maker's, who sets the first members; zeroed it is closed. */
struct flow {
    struct serve *serve;
    const void *account; /* the peer that it is for */
    struct cap_hash hash;
    uint64_t body_len;
    uint64_t offset; /* of the next byte to send */
    uint64_t end;
    bool hot;                          /* the body is thought to be in memory */
    void (*ready)(struct flow *flow);  /* what the stream waited for has come */
    void (*closed)(struct flow *flow); /* after flow_close said false */

    struct window windows[2];
    struct window *now;  /* what is sent */
    struct window *next; /* what `job` reads: the first, or the one after `now` */
    struct read_job job;
    struct piece *piece; /* what `job` makes of `next`; NULL: it stays a window */
    bool piece_whole;
    enum cap_error next_error;
    bool open;
    bool waits; /* for `job` */
    bool asked; /* a reader has `job`, or it waits for one */
    bool again; /* the window was read in, and was gone from memory when its turn came */
};

/* Opens it. Not one that is open. */
void flow_open(struct flow *flow);

/*
 * A stream's `window` and `sent`. The store's errors are in stream->error: CAP_E_NOT_FOUND when the
 * cap is gone meanwhile, CAP_E_CORRUPT, CAP_E_IO.
 */
enum stream_answer flow_window(struct flow *flow, struct stream *stream, size_t len,
                               struct iovec *ret_iov, int *ret_count);
void flow_sent(struct flow *flow, const struct stream *stream, size_t len);

/* Closes it, for good or until flow_open. False: a reader still has it, and `closed` will be called
 * when it is done. One that is closed is fine. */
bool flow_close(struct flow *flow);

#endif
