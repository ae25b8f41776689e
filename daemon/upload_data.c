/* PUT_DATA: one Data cap, from raw bytes or from its canonical body. */
#include "daemon/upload.h"

#include <stdlib.h>

static enum cap_error data_take(struct upload *upload, struct cap_bytes *piece)
{
    (void)upload;
    (void)piece; /* all of it goes to the spool */
    return CAP_OK;
}

static uint64_t data_hash_memory(const struct upload *upload)
{
    /* A canonical body names pages by 12 bytes and may cut each to one byte. */
    uint64_t page =
        (upload->of.data.flags & PROTO_PUT_CANONICAL) != 0 ? CAP_PAGE_REF_SIZE + 1 : CAP_PAGE_SIZE;
    return (upload->total_len / page + 1) * UPLOAD_PAGE_MEMORY;
}

/* In a worker. */
static enum cap_error data_hash(struct upload *upload)
{
    struct upload_data *data = &upload->of.data;
    struct cap_source source = spool_source(upload->spool, &upload->job.cancelled);
    enum cap_error error;
    if ((data->flags & PROTO_PUT_CANONICAL) != 0) {
        error = cap_data_from_body(&source, upload->total_len, &data->cap.data);
    } else {
        error = cap_data_from_content(&source, upload->total_len, data->size, UINT64_MAX,
                                      &data->cap.data);
    }
    if (error != CAP_OK) {
        return error;
    }
    data->cap.bytes = source;
    upload->job.caps = calloc(1, sizeof(*upload->job.caps));
    if (upload->job.caps == NULL) {
        return CAP_E_NO_MEMORY;
    }
    upload->job.cap_count = 1;
    upload_fill_data(upload, &data->cap, upload->job.caps);
    return CAP_OK;
}

static void data_reply(struct upload *upload)
{
    const struct cap_data *data = &upload->of.data.cap.data;
    struct session *session = upload->request.session;
    struct cap_buf payload = {0};
    const struct proto_put_data_reply m = {
        .cap_hash = data->hash,
        .size = data->size,
        .body_len = data->body.len,
        .is_new = upload->job.caps[0].is_new ? 1 : 0,
    };
    if (proto_put_data_reply_encode(&m, &payload) == CAP_OK) {
        session_send(session, PROTO_PUT_DATA_REPLY, upload->request.id, cap_buf_bytes(&payload));
    }
    cap_buf_free(&payload);
}

static void data_release(struct upload *upload)
{
    cap_data_free(&upload->of.data.cap.data);
}

const struct upload_kind upload_data_kind = {
    .take = data_take,
    .hash_memory = data_hash_memory,
    .hash = data_hash,
    .reply = data_reply,
    .release = data_release,
};
