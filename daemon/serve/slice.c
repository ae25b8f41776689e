/*
 * Slices.
 *
 * Happy path. A reader looks the cap up and makes the first bytes of its slice (slice_encode.h)
 * from the roots and nodes that the store keeps, into a chunk, which goes out behind the
 * SLICE_REPLY. When the socket has taken it a reader makes the next ones, in a snapshot of its own,
 * and so on: one chunk for each job, and other peers have their turns between. So a chunk and an
 * encoder are all the memory that an answer takes, whatever it asks for, and no snapshot is held
 * while a socket is full. Caps do not change, so each part is of the same slice.
 *
 * Pages that were not asked for are looked at only where the store checks them together with others
 * that were: it seals 64 KiB at a time.
 *
 * Failure modes.
 *   - The cap is not there, is damaged where the slice needs it, or goes meanwhile: an ERROR, which
 *     ends the answer, perhaps when part of the slice was sent.
 *   - Few pages strewn over a huge cap cost much hashing and few bytes: the job gives way to other
 *     peers now and then, with what there is or with nothing.
 *   - Cancelled: at the end of the frame, or at once while a reader works. The connection goes: a
 *     job that waits is withdrawn; what a reader has is freed when it comes back.
 */
#include "daemon/serve/slice.h"

#include <stdlib.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/serve/serve.h"
#include "daemon/serve/slice_source.h"
#include "daemon/serve/window.h"
#include "lib/cap/slice_encode.h"
#include "proto/message.h"

_Static_assert(CHUNK_SIZE >= CAP_SLICE_ROOM, "an encoder can fill a chunk");
_Static_assert(CHUNK_SIZE <= CAP_STORE_WINDOW, "what is read at once is one window of the store's");

struct slice {
    struct request request;
    struct stream stream;
    struct serve *serve;
    struct ledger_peer *account;
    uint64_t held; /* memory of the ledger */
    bool replied;  /* the SLICE_REPLY is out */
    bool freed;    /* while a reader had it */
    bool asked; /* a reader has the job, or it waits for one: then what follows is the reader's */
    struct read_job job;
    uint8_t *chunk;
    size_t filled;
    size_t sent;
    struct cap_info info; /* once there is an encoder */
    struct cap_slice_encoder *encoder;
    bool done;            /* these are the last bytes */
    unsigned cold;        /* windows that were not in memory, in this job */
    enum cap_error error; /* ends the answer */
    struct cap_hash hash;
    size_t count;
    struct cap_range ranges[];
};

/* Of a request that is off its session. */
static void slice_free(struct slice *slice)
{
    if (slice->asked && !readers_withdraw(&slice->serve->readers, &slice->job)) {
        slice->freed = true;
        return;
    }
    cap_slice_encoder_free(slice->encoder);
    chunks_give(&slice->serve->chunks, slice->chunk);
    (void)ledger_memory_hold(slice->serve->shard->context->ledger, slice->account, &slice->held, 0);
    free(slice);
}

/* --- In a reader ------------------------------------------------------------------------------ */

/* The cap in a snapshot. */
struct source {
    struct slice_snapshot snapshot; /* first: slice_source.h */
    struct slice *slice;
};

static enum cap_error read_body(void *ctx, uint64_t offset, size_t len, uint8_t *dst)
{
    const struct source *source = ctx;
    struct slice *slice = source->slice;
    return window_copy(slice->serve, source->snapshot.read, &slice->hash, offset, len, dst,
                       &slice->cold);
}

static enum cap_error look_up(struct slice *slice, struct cap_read *read)
{
    enum cap_error error = cap_store_find(read, &slice->hash, &slice->info);
    if (error != CAP_OK) {
        return error;
    }
    const struct cap_slice_subject subject = slice_subject(&slice->info);
    return cap_slice_encoder_new(&subject, slice->ranges, slice->count, &slice->encoder);
}

static bool on_slice(struct read_job *job)
{
    struct slice *slice = CONTAINER_OF(job, struct slice, job);
    struct source source = {{NULL, &slice->hash}, slice};
    struct cap_read **read = &source.snapshot.read;
    const struct cap_slice_source parts = {read_body, slice_roots, slice_nodes, &source};
    slice->error = cap_store_read_begin(slice->serve->shard->context->store, read);
    if (slice->error == CAP_OK && slice->encoder == NULL) {
        slice->error = look_up(slice, *read);
    }
    if (slice->error == CAP_OK) {
        slice->error = cap_slice_encoder_next(slice->encoder, &parts, slice->chunk, CHUNK_SIZE,
                                              &slice->filled, &slice->done);
    }
    cap_store_read_end(*read);
    return slice->error != CAP_OK || slice->filled > 0 || slice->done;
}

/* --- The answer ------------------------------------------------------------------------------- */

static void refuse(struct slice *slice, enum cap_error error)
{
    char message[SERVE_MESSAGE_SIZE];
    serve_failed(slice->serve, &slice->hash, error, message);
    request_refuse(&slice->request, error, message, NULL);
    slice_free(slice);
}

/* Has the chunk sent, behind the reply if it is the first. */
static void send_chunk(struct slice *slice)
{
    struct cap_buf payload = {0};
    slice->sent = 0;
    slice->stream.left = slice->filled;
    slice->stream.more = !slice->done;
    if (slice->replied) {
        request_resume(&slice->request, &slice->stream);
        return;
    }
    slice->replied = true;
    for (size_t i = 0; i < slice->count; i++) {
        slice->serve->shard->stats.slice_pages += slice->ranges[i].pages;
    }
    const struct proto_slice_reply reply = {
        .kind = (uint8_t)slice->info.kind,
        .body_len = slice->info.body_len,
        .size = slice->info.size,
    };
    enum cap_error encoded = proto_slice_reply_encode(&reply, &payload);
    request_stream(&slice->request, PROTO_SLICE_REPLY, encoded, &payload, &slice->stream);
}

/* The chunk is free: has a reader fill it. */
static void go_on(struct slice *slice)
{
    slice->filled = 0;
    slice->cold = 0;
    enum cap_error error = readers_submit(&slice->serve->readers, &slice->job);
    slice->asked = error == CAP_OK;
    if (error != CAP_OK) {
        refuse(slice, error);
    }
}

static void on_slice_done(struct read_job *job)
{
    struct slice *slice = CONTAINER_OF(job, struct slice, job);
    slice->asked = false;
    slice->serve->shard->stats.cold_windows += slice->cold;
    if (slice->freed) {
        slice_free(slice);
    } else if (slice->error != CAP_OK) {
        refuse(slice, slice->error);
    } else {
        send_chunk(slice);
    }
}

static enum stream_answer slice_window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                       int *ret_count)
{
    const struct slice *slice = CONTAINER_OF(stream, struct slice, stream);
    *ret_iov = (struct iovec){slice->chunk + slice->sent, len};
    *ret_count = 1;
    return STREAM_READY;
}

static void slice_sent(struct stream *stream, size_t len)
{
    struct slice *slice = CONTAINER_OF(stream, struct slice, stream);
    slice->sent += len;
    slice->serve->shard->stats.body_bytes_out += len;
}

static void slice_over(struct stream *stream, enum cap_error error)
{
    struct slice *slice = CONTAINER_OF(stream, struct slice, stream);
    struct shard *shard = slice->serve->shard;
    if (error != CAP_OK) {
        request_refuse(&slice->request, error, NULL, NULL);
        slice_free(slice);
    } else if (stream->more) {
        go_on(slice);
    } else {
        histogram_add(&shard->stats.slice_us,
                      env_monotonic_us(shard->context->env) - slice->request.started_us);
        request_end(&slice->request);
        slice_free(slice);
    }
}

static const struct stream_class slice_stream = {
    .window = slice_window,
    .sent = slice_sent,
    .over = slice_over,
};

static void on_cancel(struct request *request)
{
    struct slice *slice = CONTAINER_OF(request, struct slice, request);
    request_cut(request, &slice->stream, CAP_E_CANCELLED);
}

static void on_detach(struct request *request)
{
    slice_free(CONTAINER_OF(request, struct slice, request));
}

static const struct request_class slice_request = {.cancel = on_cancel, .detach = on_detach};

/* --- The request ------------------------------------------------------------------------------ */

/* CAP_E_MEMORY_LIMIT, CAP_E_NO_MEMORY. */
static enum cap_error slice_new(struct serve *serve, const struct session *session,
                                const struct proto_slice *asked, struct slice **ret_slice)
{
    struct ledger *ledger = serve->shard->context->ledger;
    size_t ranges = asked->count * sizeof(struct cap_range);
    size_t size = sizeof(struct slice) + ranges;
    uint64_t held = 0;
    if (!ledger_memory_hold(ledger, session->account, &held,
                            size + ranges + CAP_SLICE_ENCODER_SIZE + CHUNK_SIZE)) {
        return CAP_E_MEMORY_LIMIT;
    }
    struct slice *slice = malloc(size);
    uint8_t *chunk = chunks_take(&serve->chunks);
    if (slice == NULL || chunk == NULL) {
        free(slice);
        chunks_give(&serve->chunks, chunk);
        (void)ledger_memory_hold(ledger, session->account, &held, 0);
        return CAP_E_NO_MEMORY;
    }
    *slice = (struct slice){
        .request = {.class = &slice_request},
        .stream = {.class = &slice_stream},
        .serve = serve,
        .account = session->account,
        .held = held,
        .chunk = chunk,
        .job = {.account = session->account, .run = on_slice, .done = on_slice_done},
        .hash = asked->hash,
        .count = asked->count,
    };
    for (size_t i = 0; i < asked->count; i++) {
        const uint8_t *range = asked->ranges.data + i * PROTO_RANGE_SIZE;
        slice->ranges[i] = (struct cap_range){cap_load64(range), cap_load64(range + 8)};
    }
    *ret_slice = slice;
    return CAP_OK;
}

const struct verdict *slice_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload)
{
    struct serve *serve = room;
    struct proto_slice asked;
    struct slice *slice = NULL;
    enum cap_error error = proto_slice_decode(payload, &asked);
    if (error == CAP_OK) {
        error = slice_new(serve, session, &asked, &slice);
    }
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    slice->request.id = slice->stream.id = id;
    slice->request.type = type;
    const struct verdict *verdict = session_pending(session, &slice->request);
    go_on(slice);
    return verdict;
}
