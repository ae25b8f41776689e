/*
 * Fetching.
 *
 * Happy path. The cap is looked up, GET_REPLY goes out, and the body becomes a stream: whenever its
 * turn comes, the window at its position is looked up in the turn's snapshot and handed to the
 * socket in place. Caps are immutable, so the next window is of the same bytes.
 *
 * Failure modes.
 *   - The window is not resident, or not checked yet: a worker reads it in (its own snapshot) and
 *     checks it, the stream waits, other streams go on. It is sent then whatever mincore says, so
 * that a busy machine makes progress.
 *   - The window cannot be read: the stream is over with the store's error; at a frame's beginning
 *     the client gets an ERROR that names it.
 *   - Cancelled: at the next frame's end. The connection goes: the worker's end frees the fetch.
 */
#include "daemon/serve/fetch.h"

#include <stdlib.h>

#include "daemon/core/container.h"
#include "daemon/serve/warm.h"
#include "proto/message.h"

struct fetch {
    struct request request;
    struct stream stream;
    struct cap_hash hash;
    uint64_t offset; /* of the next byte to send */

    uv_work_t work;
    bool warming;
    bool warmed; /* the window at `offset` has been read in */
    bool freed;  /* while a worker has it */
    size_t warm_len;
    enum cap_error warm_error;
};

static struct fetch *fetch_of(struct stream *stream)
{
    return CONTAINER_OF(stream, struct fetch, stream);
}

static void fetch_free(struct fetch *fetch)
{
    if (fetch->warming) {
        fetch->freed = true;
    } else {
        free(fetch);
    }
}

/* --- Cold pages ------------------------------------------------------------------------------- */

/* In a worker: looks the window up in a snapshot of its own and reads it in. */
static void on_warm(uv_work_t *work)
{
    struct fetch *fetch = work->data;
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    struct cap_read *read = NULL;
    int count = 0;
    size_t len = 0;
    bool checked = false;
    enum cap_error error = cap_store_read_begin(fetch->request.shard->context->store, &read);
    if (error == CAP_OK) {
        error = cap_store_peek(read, &fetch->hash, fetch->offset, fetch->warm_len, iov, &count,
                               &len, &checked);
    }
    error = error == CAP_OK ? warm_populate(fetch->request.shard->context->env, iov, count) : error;
    if (error == CAP_OK) {
        error =
            cap_store_window(read, &fetch->hash, fetch->offset, fetch->warm_len, iov, &count, &len);
    }
    cap_store_read_end(read);
    fetch->warm_error = error;
}

static void on_warmed(uv_work_t *work, int status)
{
    struct fetch *fetch = work->data;
    (void)status;
    pool_work_done(&fetch->request.shard->pool);
    fetch->warming = false;
    fetch->warmed = true;
    if (fetch->freed) {
        free(fetch);
    } else {
        request_resume(&fetch->request, &fetch->stream);
    }
}

static void start_warming(struct fetch *fetch, size_t len)
{
    fetch->warming = true;
    fetch->warm_len = len;
    fetch->work.data = fetch;
    fetch->request.shard->stats.cold_windows++;
    pool_work(&fetch->request.shard->pool, &fetch->work, on_warm, on_warmed);
}

/* --- The stream
 * ----------------------------------------------------------------------------------- */

static enum stream_answer fetch_window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                       int *ret_count)
{
    struct fetch *fetch = fetch_of(stream);
    struct cap_read *read = NULL;
    size_t there = 0;
    bool checked = false;
    if (fetch->warmed && len > fetch->warm_len) {
        len = fetch->warm_len; /* a busier turn asked for less, and only that was read in */
    }
    stream->error = fetch->warmed ? fetch->warm_error : CAP_OK;
    if (stream->error == CAP_OK) {
        stream->error = session_snapshot(fetch->request.session, &read);
    }
    if (stream->error == CAP_OK) {
        stream->error = cap_store_peek(read, &fetch->hash, fetch->offset, len, ret_iov, ret_count,
                                       &there, &checked);
    }
    if (stream->error == CAP_OK && fetch->warmed && !checked) { /* checked, and forgotten again */
        stream->error =
            cap_store_window(read, &fetch->hash, fetch->offset, len, ret_iov, ret_count, &there);
    }
    if (stream->error == CAP_OK && there == 0) {
        stream->error = CAP_E_CORRUPT;
    }
    if (stream->error != CAP_OK) {
        return STREAM_FAILED;
    }
    if (!fetch->warmed &&
        (!checked || !warm_is_resident(fetch->request.shard->context->env, ret_iov, *ret_count))) {
        start_warming(fetch, len);
        return STREAM_WAITS;
    }
    return STREAM_READY;
}

static void fetch_sent(struct stream *stream, size_t len)
{
    struct fetch *fetch = fetch_of(stream);
    fetch->offset += len;
    fetch->warmed = false;
    fetch->request.shard->stats.body_bytes_out += len;
}

static void fetch_over(struct stream *stream, enum cap_error error)
{
    struct fetch *fetch = fetch_of(stream);
    struct request *request = &fetch->request;
    struct shard *shard = request->shard;
    char hex[CAP_HASH_HEX_SIZE];
    char message[160];
    if (error == CAP_OK) {
        histogram_add(&shard->stats.fetch_us,
                      env_monotonic_us(shard->context->env) - request->started_us);
        request_end(request);
    } else if (error == CAP_E_CANCELLED) {
        request_refuse(request, error, NULL, NULL);
    } else {
        cap_hash_format(&fetch->hash, hex);
        snprintf(message, sizeof(message), "%s: %s", hex, cap_error_text(error));
        request_refuse(request, error, message, NULL);
        context_fault(shard->context, error, message);
    }
    fetch_free(fetch);
}

static const struct stream_class fetch_stream = {
    .window = fetch_window,
    .sent = fetch_sent,
    .over = fetch_over,
};

/* --- The request
 * ---------------------------------------------------------------------------------- */

static void on_cancel(struct request *request)
{
    struct fetch *fetch = CONTAINER_OF(request, struct fetch, request);
    request_cut(request, &fetch->stream, CAP_E_CANCELLED);
}

static void on_detach(struct request *request)
{
    fetch_free(CONTAINER_OF(request, struct fetch, request));
}

static const struct request_class fetch_class = {
    .cancel = on_cancel,
    .detach = on_detach,
};

const struct verdict *fetch_begin(void *room, struct session *session, uint32_t id, uint8_t type,
                                  struct cap_bytes payload)
{
    (void)room;
    struct proto_get get;
    struct cap_info info;
    struct cap_read *read = NULL;
    struct cap_buf reply = {0};
    enum cap_error error = proto_get_decode(payload, &get);
    error = error == CAP_OK ? session_snapshot(session, &read) : error;
    error = error == CAP_OK ? cap_store_find(read, &get.hash, &info) : error;
    if (error == CAP_OK && get.offset > info.body_len) {
        error = CAP_E_RANGE_OUT_OF_BODY;
    }
    if (error != CAP_OK) {
        return session_refuse(session, id, type, error, NULL);
    }
    struct fetch *fetch = calloc(1, sizeof(*fetch));
    if (fetch == NULL) {
        return session_refuse(session, id, type, CAP_E_NO_MEMORY, NULL);
    }
    uint64_t rest = info.body_len - get.offset;
    const struct proto_get_reply m = {
        .kind = (uint8_t)info.kind,
        .body_len = info.body_len,
        .offset = get.offset,
        .len = get.len < rest ? get.len : rest,
    };
    fetch->hash = get.hash;
    fetch->offset = get.offset;
    fetch->request = (struct request){
        .class = &fetch_class,
        .size = sizeof(*fetch),
        .id = id,
        .type = type,
    };
    fetch->stream = (struct stream){.class = &fetch_stream, .id = id, .left = m.len};
    const struct verdict *verdict = session_pending(session, &fetch->request);
    enum cap_error encoded = proto_get_reply_encode(&m, &reply);
    request_stream(&fetch->request, PROTO_GET_REPLY, encoded, &reply, &fetch->stream);
    return verdict;
}
