/* PUT_DATA: one Data cap, from raw bytes or from its canonical body. */
#include "daemon/publish/upload.h"

#include <stdlib.h>

static bool is_canonical(const struct upload *upload)
{
    return (upload->of.data.flags & PROTO_PUT_CANONICAL) != 0;
}

/* What the message alone shows to be wrong is refused before the body. */
static enum cap_error data_begin(struct upload *upload)
{
    struct upload_data *data = &upload->of.data;
    enum cap_error error = CAP_OK;
    if (is_canonical(upload)) {
        error = upload->total_len < CAP_DATA_BODY_FIXED ? CAP_E_BODY_NOT_CANONICAL : CAP_OK;
    } else if (data->size > UINT64_MAX - (CAP_PAGE_SIZE - 1)) {
        error = CAP_E_INVALID_ARGUMENT;
    } else {
        data->pages = upload->total_len / CAP_PAGE_SIZE + 1;
        error = upload_check_memory(upload);
    }
    return error == CAP_OK ? upload_make_spool(upload, upload->total_len) : error;
}

/* The fixed part of a canonical body tells how many pages it has. All goes to the spool. */
static enum cap_error data_take(struct upload *upload, struct cap_bytes *piece)
{
    struct upload_data *data = &upload->of.data;
    const struct cap_bytes front = {data->front, sizeof(data->front)};
    uint64_t head_len = 0;
    size_t missing = sizeof(data->front) - data->front_filled;
    size_t n = piece->len < missing ? piece->len : missing;
    if (!is_canonical(upload) || n == 0) {
        return CAP_OK;
    }
    memcpy(data->front + data->front_filled, piece->data, n);
    data->front_filled += n;
    if (data->front_filled < sizeof(data->front)) {
        return CAP_OK;
    }
    enum cap_error error = cap_data_body_head_len(front, upload->total_len, &head_len);
    if (error != CAP_OK) {
        return error;
    }
    data->pages = (head_len - CAP_DATA_BODY_FIXED) / CAP_PAGE_REF_SIZE;
    return upload_check_memory(upload);
}

static uint64_t data_hash_memory(const struct upload *upload)
{
    return upload->of.data.pages * UPLOAD_PAGE_MEMORY;
}

static uint64_t data_hash_cost(const struct upload *upload)
{
    /* Many pages of a canonical body may share a window. */
    return is_canonical(upload) ? upload->of.data.pages * CAP_PAGE_SIZE : upload->total_len;
}

/* In a worker. */
static enum cap_error data_hash(struct upload *upload)
{
    struct upload_data *data = &upload->of.data;
    struct cap_source source = upload_hash_source(upload);
    enum cap_error error;
    if (is_canonical(upload)) {
        error = cap_data_from_body(&source, upload->total_len, &data->cap.data);
    } else {
        error = cap_data_from_content(&source, upload->total_len, data->size, UINT64_MAX,
                                      &data->cap.data);
    }
    if (error != CAP_OK) {
        return error;
    }
    data->cap.bytes = upload->spooled;
    struct cap_put *put = calloc(1, sizeof(*put));
    if (put == NULL) {
        return CAP_E_NO_MEMORY;
    }
    upload_fill_data(upload, &data->cap, put);
    upload->job.admission = (struct cap_admission){.puts = put, .put_count = 1};
    return CAP_OK;
}

static void data_reply(struct upload *upload)
{
    const struct cap_data *data = &upload->of.data.cap.data;
    struct cap_buf payload = {0};
    const struct proto_put_data_reply m = {
        .cap_hash = data->hash,
        .size = data->size,
        .body_len = data->body.len,
        .is_new = upload->job.admission.puts[0].is_new ? 1 : 0,
    };
    enum cap_error encoded = proto_put_data_reply_encode(&m, &payload);
    request_answer(&upload->request, PROTO_PUT_DATA_REPLY, encoded, &payload);
}

static void data_release(struct upload *upload)
{
    cap_data_free(&upload->of.data.cap.data);
}

const struct upload_kind upload_data_kind = {
    .begin = data_begin,
    .take = data_take,
    .hash_memory = data_hash_memory,
    .hash_cost = data_hash_cost,
    .hash = data_hash,
    .reply = data_reply,
    .release = data_release,
};
