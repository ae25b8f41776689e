/*
 * Fetching.
 *
 * Happy path. The cap is looked up, GET_REPLY goes out, and the body becomes a stream: whenever its
 * turn comes, the window at its position is looked up in the turn's snapshot and handed to the
 * socket in place. Caps are immutable, so the next window is of the same bytes.
 *
 * Failure modes.
 *   - The window is not resident: a worker reads it in (its own snapshot), the stream waits, other
 *     streams go on. It is sent then whatever mincore says, so that a busy machine makes progress.
 *   - The window cannot be read: the stream is over with the store's error; at a frame's beginning
 *     the client gets an ERROR that names it.
 *   - Cancelled: at the next frame's end. The connection goes: the worker's end frees the fetch.
 */
#include "daemon/serve/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "proto/message.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* System pages that the spans of one window can touch, with room for their ends. */
#define WINDOW_PAGES (CAP_STORE_WINDOW / 4096u + 2u)

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

/* --- Cold pages
 * ----------------------------------------------------------------------------------- */

/* The system pages that a span touches. */
static void page_range(const struct iovec *span, uintptr_t *ret_start, size_t *ret_len)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)span->iov_base & ~(page - 1);
    *ret_start = start;
    *ret_len = (uintptr_t)span->iov_base + span->iov_len - start;
}

static bool is_resident(const struct iovec *iov, int count)
{
    unsigned char pages[WINDOW_PAGES];
    for (int i = 0; i < count; i++) {
        uintptr_t start;
        size_t len;
        page_range(&iov[i], &start, &len);
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        size_t n = (len + page - 1) / page;
        if (n > WINDOW_PAGES || mincore((void *)start, len, pages) != 0) {
            continue; /* not to be known: send it */
        }
        for (size_t k = 0; k < n; k++) {
            if ((pages[k] & 1) == 0) {
                return false;
            }
        }
    }
    return true;
}

/* Has the kernel read a span in. CAP_E_IO when the device cannot. */
static enum cap_error populate(const struct iovec *span)
{
    uintptr_t start;
    size_t len;
    page_range(span, &start, &len);
    if (madvise((void *)start, len, MADV_POPULATE_READ) == 0) {
        return CAP_OK;
    }
    if (errno != EINVAL) {
        return CAP_E_IO;
    }
    /* A kernel before 5.14: touch the pages. */
    const volatile uint8_t *bytes = span->iov_base;
    for (size_t at = 0; at < span->iov_len; at += 4096) {
        (void)bytes[at];
    }
    return CAP_OK;
}

/* In a worker: looks the window up in a snapshot of its own and reads it in. */
static void on_warm(uv_work_t *work)
{
    struct fetch *fetch = work->data;
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    struct cap_read *read = NULL;
    int count = 0;
    size_t len = 0;
    enum cap_error error = cap_store_read_begin(fetch->request.shard->context->store, &read);
    if (error == CAP_OK) {
        error =
            cap_store_window(read, &fetch->hash, fetch->offset, fetch->warm_len, iov, &count, &len);
    }
    for (int i = 0; error == CAP_OK && i < count; i++) {
        error = populate(&iov[i]);
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
    stream->error = fetch->warmed ? fetch->warm_error : CAP_OK;
    if (stream->error == CAP_OK) {
        stream->error = session_snapshot(fetch->request.session, &read);
    }
    if (stream->error == CAP_OK) {
        stream->error =
            cap_store_window(read, &fetch->hash, fetch->offset, len, ret_iov, ret_count, &there);
    }
    if (stream->error == CAP_OK && there == 0) {
        stream->error = CAP_E_CORRUPT;
    }
    if (stream->error != CAP_OK) {
        return STREAM_FAILED;
    }
    if (!fetch->warmed && !is_resident(ret_iov, *ret_count)) {
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
