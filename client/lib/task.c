/* What all kinds of tasks share. */
#include "client/lib/task.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/cap/constants.h"
#include "lib/cap/must.h"

static struct client_part *linked_part(struct client_link *link)
{
    void *start = (char *)link - offsetof(struct client_part, link);
    return (struct client_part *)start;
}

/* ---- frames ---- */

static void emit(struct client_translator *translator, enum proto_type type, uint8_t flags,
                 uint32_t id, struct cap_bytes payload)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    const struct proto_frame frame = {
        .len = (uint32_t)payload.len, .id = id, .type = (uint8_t)type, .flags = flags};
    must(payload.len <= PROTO_FRAME_MAX);
    proto_frame_encode(&frame, header);
    if (cap_buf_append(translator->out, header, sizeof(header)) != CAP_OK ||
        (payload.len > 0 && cap_buf_append(translator->out, payload.data, payload.len) != CAP_OK)) {
        translator->failed = true;
    }
}

void client_task_reply_encoded(struct client_translator *translator, enum proto_type type,
                               uint32_t id, enum cap_error encoded, struct cap_buf *payload)
{
    if (encoded == CAP_OK) {
        emit(translator, type, 0, id, cap_buf_bytes(payload));
    } else {
        translator->failed = true;
    }
    cap_buf_free(payload);
}

static struct cap_bytes text_bytes(const char *text)
{
    return (struct cap_bytes){(const uint8_t *)text, strlen(text)};
}

void client_translator_refuse(struct client_translator *translator, uint32_t id,
                              enum cap_error error, const char *message)
{
    struct cap_buf payload = {0};
    const struct proto_error reply = {
        .code = (uint16_t) - (int)error,
        .name = text_bytes(cap_error_name(error)),
        .message = text_bytes(message[0] != '\0' ? message : cap_error_text(error)),
    };
    client_task_reply_encoded(translator, PROTO_ERROR, id, proto_error_encode(&reply, &payload),
                              &payload);
}

void client_task_body(const struct client_task *task, struct cap_bytes bytes, bool end)
{
    emit(task->translator, PROTO_BODY, end ? PROTO_FLAG_END : 0, task->id, bytes);
}

/* ---- tasks ---- */

void client_part_free(struct client_part *part)
{
    client_list_remove(&part->link);
    free(part);
}

void client_task_end(struct client_task *task)
{
    while (client_list_first(&task->parts) != NULL) {
        struct client_part *part = linked_part(client_list_take(&task->parts));
        client_transfer_drop(part->transfer);
        free(part);
    }
    client_list_remove(&task->link);
    task->translator->task_count--;
    client_closure_stream_free(task->entries);
    cap_buf_free(&task->hashes);
    cap_buf_free(&task->kinds);
    cap_buf_free(&task->have);
    free(task);
}

void client_task_fail(struct client_task *task, enum cap_error error, const char *message)
{
    client_translator_refuse(task->translator, task->id, error, message);
    client_task_end(task);
}

void client_task_end_body(struct client_task *task, enum cap_error error, const char *message)
{
    if (error != CAP_OK) {
        client_task_fail(task, error, message);
        return;
    }
    client_task_body(task, (struct cap_bytes){NULL, 0}, true);
    client_task_end(task);
}

bool client_is_absent(enum cap_error error)
{
    return error == CAP_E_NOT_FOUND || error == CAP_E_FORBIDDEN_CAP || error == CAP_E_QUARANTINED;
}

enum cap_error client_part_begin(struct client_task *task, const char *url, const char *range,
                                 const struct client_transfer_calls *calls, size_t index)
{
    struct client_part *part = calloc(1, sizeof(*part));
    if (part == NULL) {
        return CAP_E_NO_MEMORY;
    }
    part->task = task;
    part->index = index;
    client_list_add(&task->parts, &part->link);
    enum cap_error error =
        client_transfer_start(&task->translator->transfers, url, range, task->type == PROTO_HELLO,
                              calls, part, &part->transfer);
    if (error != CAP_OK) {
        client_part_free(part);
    }
    return error;
}

void client_task_url(const struct client_translator *translator, char ret_url[CLIENT_URL_MAX],
                     const char *room, const struct cap_hash *hash, const char *behind)
{
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(hash, hex);
    snprintf(ret_url, CLIENT_URL_MAX, "%s/%s/%s%s", translator->base, room, hex, behind);
}

/* ---- the beginning of a body: HAS, STAT, and a GET of nothing ---- */

enum cap_error client_wrong_range(struct client_transfer *transfer)
{
    return client_transfer_say(transfer, CAP_E_BAD_REPLY,
                               "the answer has another range of bytes than was asked for");
}

enum cap_error client_learn_length(struct client_transfer *transfer, uint64_t *ret_len)
{
    if (transfer->status == 206 && transfer->head.has_range) {
        *ret_len = transfer->head.total;
        return CAP_OK;
    }
    if (transfer->status == 200 && transfer->has_length) {
        *ret_len = transfer->length;
        return CAP_OK;
    }
    if (transfer->status == 206) {
        return client_wrong_range(transfer);
    }
    return client_transfer_say(transfer, CAP_E_BAD_REPLY,
                               "the answer does not say how long the body is; a proxy may have "
                               "changed its encoding");
}

enum cap_error client_head_begun(struct client_transfer *transfer)
{
    struct client_part *part = transfer->ctx;
    enum cap_error error = client_learn_length(transfer, &part->body_len);
    if (error == CAP_OK && transfer->status == 206 && transfer->head.first != 0) {
        return client_wrong_range(transfer);
    }
    return error;
}

enum cap_error client_head_take(struct client_transfer *transfer, struct cap_bytes bytes,
                                bool *ret_enough)
{
    struct client_part *part = transfer->ctx;
    size_t room = CLIENT_HEAD_SIZE - part->head_len;
    size_t some = bytes.len < room ? bytes.len : room;
    memcpy(part->head + part->head_len, bytes.data, some);
    part->head_len += some;
    *ret_enough = bytes.len > room; /* a server that knows no ranges sends all of it */
    return CAP_OK;
}

enum cap_error client_head_judge(struct client_transfer *transfer, size_t least)
{
    const struct client_part *part = transfer->ctx;
    if (part->head_len == 0 || part->head_len < least || part->body_len < least ||
        (part->head[0] != CAP_KIND_IMAGE && part->head[0] != CAP_KIND_DATA)) {
        return client_transfer_say(transfer, CAP_E_HASH_MISMATCH, "what comes is not a cap");
    }
    return CAP_OK;
}

enum cap_error client_head_begin(struct client_task *task, const struct cap_hash *hash,
                                 size_t index, const struct client_transfer_calls *calls)
{
    char url[CLIENT_URL_MAX];
    client_task_url(task->translator, url, "caps", hash, "");
    return client_part_begin(task, url, "0-32", calls, index);
}
