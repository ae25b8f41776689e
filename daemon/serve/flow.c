/*
 * Whenever the stream's turn comes, a reader looks up the next window and reads it in, and the loop
 * hands it to the socket in place. Caps do not change, so the next window is of the same bytes. Of
 * a body that is fetched again the reader copies the window to the pieces, and whatever these have
 * goes out from there.
 *
 * Failure modes.
 *   - The cap or its window is not there, or cannot be read: the stream fails with the store's
 *     error.
 *   - The window is not in memory any more when its turn comes: it is read in once more, and then
 *     sent in any case, so that a busy machine makes progress.
 *   - The socket is full for longer than a window is kept: it is dropped and asked for again.
 *   - Closed: a job that waits is withdrawn, what a reader has is dropped when it comes back.
 */
#include "daemon/serve/flow.h"

#include "daemon/core/container.h"
#include "daemon/serve/pieces.h"
#include "daemon/serve/warm.h"
#include "lib/cap/must.h"

_Static_assert(PIECE_SIZE == WINDOW_PARTS * CAP_STORE_WINDOW, "a window makes a piece");

static void end_piece(struct flow *flow, bool whole)
{
    if (flow->piece != NULL) {
        piece_end(&flow->serve->pieces, flow->piece, whole);
        flow->piece = NULL;
    }
}

static void drop_windows(struct flow *flow)
{
    window_drop(&flow->windows[0]);
    window_drop(&flow->windows[1]);
}

/* --- Windows ---------------------------------------------------------------------------------- */

/* In a reader. */
static bool on_read(struct read_job *job)
{
    struct flow *flow = CONTAINER_OF(job, struct flow, job);
    flow->next_error = window_read(flow->next, &flow->hash, flow->next->offset,
                                   flow->end - flow->next->offset, job->hot ? WINDOW_PARTS : 1);
    flow->piece_whole =
        flow->next_error == CAP_OK && flow->piece != NULL && flow->next->len == flow->piece->len &&
        cap_store_copy(flow->next->read, flow->next->iov, flow->next->count, flow->piece->bytes) ==
            CAP_OK;
    if (flow->piece_whole) {
        window_unread(flow->next);
    }
    return true;
}

static void on_read_done(struct read_job *job)
{
    struct flow *flow = CONTAINER_OF(job, struct flow, job);
    struct serve *serve = flow->serve;
    flow->asked = false;
    if (flow->next_error == CAP_OK) {
        struct record *record = records_find(&serve->records, &flow->hash);
        if (record != NULL) {
            records_note(&serve->records, record, flow->next->was_in_memory);
        }
        flow->job.hot = flow->next->was_in_memory;
        serve->shard->stats.cold_windows += flow->next->was_in_memory ? 0 : 1;
    }
    if (flow->next->read != NULL) {
        window_keep(flow->next);
    }
    end_piece(flow, flow->piece_whole);
    if (!flow->open) {
        drop_windows(flow);
        flow->closed(flow);
    } else if (flow->waits) {
        flow->waits = false;
        flow->ready(flow);
    }
}

/* The piece that a window from `offset` would be; NULL: none, or it is not to be kept. */
static struct piece *begin_piece(struct flow *flow, uint64_t offset)
{
    uint64_t rest = flow->body_len - offset;
    size_t len = rest < PIECE_SIZE ? (size_t)rest : PIECE_SIZE;
    if (!flow->job.hot || offset % PIECE_SIZE != 0 || flow->end - offset < len) {
        return NULL;
    }
    return pieces_begin(&flow->serve->pieces, flow->serve->shard->handover, &flow->hash, offset,
                        len);
}

/* Has the next window read, from `offset`. */
static enum stream_answer ask(struct flow *flow, uint64_t offset)
{
    must(!flow->asked); /* a reader has `next` otherwise */
    window_drop(flow->next);
    flow->next->offset = offset;
    flow->piece = begin_piece(flow, offset);
    enum cap_error error = readers_submit(&flow->serve->readers, &flow->job);
    if (error != CAP_OK) {
        end_piece(flow, false);
        flow->next_error = error;
        return STREAM_FAILED;
    }
    flow->asked = true;
    return STREAM_WAITS;
}

/* There is no window to send: takes the next one, or has it read. READY: it is `now`. */
static enum stream_answer take_next(struct flow *flow)
{
    if (flow->asked) {
        return STREAM_WAITS;
    }
    if (flow->next->offset != flow->offset) {
        return ask(flow, flow->offset); /* what was before it had to be dropped */
    }
    if (flow->next_error != CAP_OK) {
        return STREAM_FAILED;
    }
    if (flow->next->read == NULL) {
        return ask(flow, flow->offset);
    }
    struct window *taken = flow->next;
    flow->next = flow->now;
    flow->now = taken;
    return STREAM_READY;
}

/*
 * A body in memory is read ahead from `end`, where what is at hand ends, so that its stream does
 * not wait for a thread to look it up.
 */
static void read_ahead(struct flow *flow, uint64_t end)
{
    struct piece_part part;
    if (flow->job.hot && !flow->asked && flow->next->read == NULL && end < flow->end &&
        flow->serve->window_count < WINDOWS_MAX / 2 &&
        !pieces_find(&flow->serve->pieces, &flow->hash, end, &part)) {
        (void)ask(flow, end);
    }
}

/* --- The stream ------------------------------------------------------------------------------- */

/* The next bytes, if they are kept. Returns the loan of their memory, or NULL. */
static struct loan *find_piece(struct flow *flow, size_t len, struct iovec *ret_iov, int *ret_count)
{
    struct piece_part part;
    if (flow->now->read != NULL ||
        !pieces_find(&flow->serve->pieces, &flow->hash, flow->offset, &part)) {
        return NULL;
    }
    *ret_iov = (struct iovec){part.bytes, part.len < len ? part.len : len};
    *ret_count = 1;
    return part.loan;
}

static enum stream_answer find_window(struct flow *flow, size_t len, struct iovec *ret_iov,
                                      int *ret_count)
{
    if (flow->now->read == NULL) {
        enum stream_answer answer = take_next(flow);
        if (answer != STREAM_READY) {
            return answer;
        }
    }
    window_spans(flow->now, len, ret_iov, ret_count);
    if (!flow->again && !warm_is_resident(flow->serve->shard->context->env, ret_iov, *ret_count)) {
        flow->again = true;
        flow->job.hot = false;
        window_drop(flow->now);
        return flow->asked ? STREAM_WAITS : ask(flow, flow->offset);
    }
    read_ahead(flow, flow->now->offset + flow->now->len);
    return STREAM_READY;
}

enum stream_answer flow_window(struct flow *flow, struct stream *stream, size_t len,
                               struct iovec *ret_iov, int *ret_count)
{
    serve_catch_up(flow->serve);
    stream->lends = find_piece(flow, len, ret_iov, ret_count);
    if (stream->lends != NULL) {
        return STREAM_READY;
    }
    enum stream_answer answer = find_window(flow, len, ret_iov, ret_count);
    flow->waits = answer == STREAM_WAITS;
    if (answer == STREAM_FAILED) {
        stream->error = flow->next_error;
    }
    return answer;
}

void flow_sent(struct flow *flow, const struct stream *stream, size_t len)
{
    if (stream->lends == NULL) {
        window_sent(flow->now, len);
    }
    flow->offset += len;
    flow->again = false;
    flow->serve->shard->stats.body_bytes_out += len;
    if (stream->lends != NULL) {
        flow->serve->shard->stats.body_bytes_kept += len;
        /* Only now: to make room for a piece ends others, and the one just sent may be among them.
         */
        read_ahead(flow, (flow->offset + PIECE_SIZE - 1) / PIECE_SIZE * PIECE_SIZE);
    }
}

/* --- Opening and closing ---------------------------------------------------------------------- */

void flow_open(struct flow *flow)
{
    must(!flow->open && !flow->asked);
    flow->now = &flow->windows[0];
    flow->next = &flow->windows[1];
    *flow->now = *flow->next = (struct window){.serve = flow->serve};
    flow->next->offset = flow->offset;
    flow->next_error = CAP_OK;
    flow->job = (struct read_job){
        .account = flow->account, .hot = flow->hot, .run = on_read, .done = on_read_done};
    flow->waits = flow->again = false;
    flow->open = true;
}

bool flow_close(struct flow *flow)
{
    if (!flow->open) {
        return !flow->asked;
    }
    flow->open = false;
    if (flow->asked && !readers_withdraw(&flow->serve->readers, &flow->job)) {
        return false;
    }
    flow->asked = false;
    end_piece(flow, false);
    drop_windows(flow);
    return true;
}
