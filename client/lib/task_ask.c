/* HELLO, HAS and STAT: what has an answer without a body. */
#include "client/lib/task.h"

#include <stdio.h>

#include "lib/cap/constants.h"

#define HAS_AT_ONCE 8u /* as many connections as there are to one server */

/* ---- HELLO ---- */

static enum cap_error begun_anyhow(struct client_transfer *transfer)
{
    (void)transfer;
    return CAP_OK;
}

static void hello_ended(struct client_transfer *transfer, enum cap_error error)
{
    struct client_part *part = transfer->ctx;
    struct client_task *task = part->task;
    struct cap_buf payload = {0};
    struct proto_hello_reply reply = {
        .version = PROTO_VERSION,
        .limits =
            {
                .frame = PROTO_FRAME_MAX,
                .requests = CLIENT_TASKS_MOST,
                .hashes = CLIENT_HASHES_MOST,
                .upload = UINT64_MAX, /* refused for another reason */
                .structure = UINT64_MAX,
                .data = UINT64_MAX,
            },
        .agent = {(const uint8_t *)"HTTP", 4},
        .has_features = true,
        .features = PROTO_FEATURE_SLICE | PROTO_FEATURE_CLOSURE,
    };
    client_part_free(part);
    if (!transfer->answered) {
        client_task_fail(task, error, transfer->message); /* its id, 0, ends the connection */
        return;
    }
    if (transfer->head.has_store) {
        memcpy(reply.store_id, transfer->head.store_id, sizeof(reply.store_id));
    }
    client_task_reply_encoded(task->translator, PROTO_HELLO_REPLY, 0,
                              proto_hello_reply_encode(&reply, &payload), &payload);
    client_task_end(task);
}

static enum cap_error take_nothing(struct client_transfer *transfer, struct cap_bytes bytes,
                                   bool *ret_enough)
{
    (void)transfer;
    (void)bytes;
    (void)ret_enough;
    return CAP_OK;
}

enum cap_error client_begin_hello(struct client_task *task)
{
    static const struct client_transfer_calls calls = {begun_anyhow, take_nothing, hello_ended};
    char url[CLIENT_URL_MAX];
    snprintf(url, sizeof(url), "%s/healthz", task->translator->base);
    return client_part_begin(task, url, NULL, &calls, 0);
}

static void has_ended(struct client_transfer *transfer, enum cap_error error);

static const struct client_transfer_calls has_calls = {client_head_begun, client_head_take,
                                                       has_ended};

/* Begins as many as go at once. CAP_E_NO_MEMORY. */
static enum cap_error ask_more(struct client_task *task, size_t under_way)
{
    size_t count = task->hashes.len / CAP_HASH_SIZE;
    enum cap_error error = CAP_OK;
    for (; error == CAP_OK && task->next < count && under_way < HAS_AT_ONCE; under_way++) {
        struct cap_hash hash;
        memcpy(hash.bytes, task->hashes.data + task->next * CAP_HASH_SIZE, sizeof(hash.bytes));
        error = client_head_begin(task, &hash, task->next, &has_calls);
        task->next++;
    }
    return error;
}

static void reply_has(struct client_task *task)
{
    struct cap_buf payload = {0};
    const struct proto_has_reply reply = {.kinds = cap_buf_bytes(&task->kinds)};
    client_task_reply_encoded(task->translator, PROTO_HAS_REPLY, task->id,
                              proto_has_reply_encode(&reply, &payload), &payload);
    client_task_end(task);
}

static void has_ended(struct client_transfer *transfer, enum cap_error error)
{
    struct client_part *part = transfer->ctx;
    struct client_task *task = part->task;
    if (error == CAP_OK) {
        error = client_head_judge(transfer, 1);
    }
    if (error == CAP_OK) {
        task->kinds.data[part->index] = part->head[0];
    }
    client_part_free(part);
    if (error == CAP_OK || client_is_absent(error)) {
        error = ask_more(task, HAS_AT_ONCE - 1);
    }
    if (error != CAP_OK) {
        client_task_fail(task, error, transfer->message);
        return;
    }
    if (client_list_first(&task->parts) == NULL) {
        reply_has(task);
    }
}

enum cap_error client_begin_has(struct client_task *task, struct cap_bytes payload)
{
    struct proto_has has;
    if (proto_has_decode(payload, &has) != CAP_OK) {
        return CAP_E_BAD_MESSAGE;
    }
    if (has.count > CLIENT_HASHES_MOST) {
        return CAP_E_TOO_MANY_HASHES;
    }
    enum cap_error error = cap_buf_append(&task->hashes, has.hashes.data, has.hashes.len);
    if (error == CAP_OK) {
        error = cap_buf_append_zeros(&task->kinds, has.count); /* absent */
    }
    if (error == CAP_OK && has.count == 0) {
        reply_has(task);
        return CAP_OK;
    }
    return error == CAP_OK ? ask_more(task, 0) : error;
}

/* ---- STAT ---- */

#define DATA_PAGES_AT  17u /* of a Data body: its list of pages (FORMATS.md section 4) */
#define PAGE_REF_SIZE  12u
#define IMAGE_CODE_OFF 32u /* of an Image body behind its kind: the code begins there */

/* What a body's first bytes say, which is what STAT says elsewhere, and no more proven. */
static enum cap_error read_stat(struct client_transfer *transfer, struct proto_stat_reply *ret)
{
    const struct client_part *part = transfer->ctx;
    bool data = part->head[0] == CAP_KIND_DATA;
    enum cap_error error = client_head_judge(transfer, data ? DATA_PAGES_AT : CLIENT_HEAD_SIZE);
    if (error != CAP_OK) {
        return error;
    }
    *ret = (struct proto_stat_reply){.kind = part->head[0], .body_len = part->body_len};
    if (data) {
        uint32_t arena_off = cap_load32(part->head + 13);
        ret->size = cap_load64(part->head + 1);
        ret->page_count =
            arena_off > DATA_PAGES_AT - 1 ? (arena_off - (DATA_PAGES_AT - 1)) / PAGE_REF_SIZE : 0;
    } else {
        uint32_t endpoints_off = cap_load32(part->head + 5);
        ret->size = endpoints_off > IMAGE_CODE_OFF ? endpoints_off - IMAGE_CODE_OFF : 0;
    }
    return CAP_OK;
}

static void stat_ended(struct client_transfer *transfer, enum cap_error error)
{
    struct client_part *part = transfer->ctx;
    struct client_task *task = part->task;
    struct proto_stat_reply reply;
    struct cap_buf payload = {0};
    if (error == CAP_OK) {
        error = read_stat(transfer, &reply);
    }
    client_part_free(part);
    if (error != CAP_OK) {
        client_task_fail(task, error, transfer->message);
        return;
    }
    client_task_reply_encoded(task->translator, PROTO_STAT_REPLY, task->id,
                              proto_stat_reply_encode(&reply, &payload), &payload);
    client_task_end(task);
}

enum cap_error client_begin_stat(struct client_task *task, struct cap_bytes payload)
{
    static const struct client_transfer_calls calls = {client_head_begun, client_head_take,
                                                       stat_ended};
    struct proto_stat stat;
    return proto_stat_decode(payload, &stat) == CAP_OK
               ? client_head_begin(task, &stat.hash, 0, &calls)
               : CAP_E_BAD_MESSAGE;
}
