/* GET, SLICE and CLOSURE: what comes becomes a body. */
#include "client/lib/task.h"

#include <inttypes.h>
#include <stdio.h>

#include "lib/cap/constants.h"

#define URL_MOST ((size_t)6 << 10) /* with the hashes at hand: proxies take 8 KiB */

/* ---- GET ---- */

/* Says what of the body follows, of `total` bytes. */
static void reply_get(struct client_task *task, uint64_t total)
{
    struct cap_buf payload = {0};
    const struct proto_get_reply reply = {CLIENT_PLACEHOLDER, total, task->offset, task->len};
    task->left = task->len;
    client_task_reply_encoded(task->translator, PROTO_GET_REPLY, task->id,
                              proto_get_reply_encode(&reply, &payload), &payload);
}

/* Cuts what was asked to what there is. CAP_E_RANGE_OUT_OF_BODY. */
static enum cap_error cut_range(struct client_transfer *transfer, struct client_task *task,
                                uint64_t total)
{
    if (task->offset > total) {
        return client_transfer_say(transfer, CAP_E_RANGE_OUT_OF_BODY, "%s",
                                   cap_error_text(CAP_E_RANGE_OUT_OF_BODY));
    }
    if (task->len > total - task->offset) {
        task->len = total - task->offset;
    }
    return CAP_OK;
}

static enum cap_error get_begun(struct client_transfer *transfer)
{
    struct client_task *task = ((struct client_part *)transfer->ctx)->task;
    const struct client_http_head *head = &transfer->head;
    uint64_t total = 0;
    bool ranged = task->offset != 0 || task->len != PROTO_TO_END;
    enum cap_error error = client_learn_length(transfer, &total);
    if (error == CAP_OK) {
        error = cut_range(transfer, task, total);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (transfer->status == 206 && (!ranged || task->len == 0 || head->first != task->offset ||
                                    head->last != task->offset + task->len - 1)) {
        return client_wrong_range(transfer);
    }
    task->skip = transfer->status == 200 ? task->offset : 0;
    reply_get(task, total);
    return CAP_OK;
}

static enum cap_error get_take(struct client_transfer *transfer, struct cap_bytes bytes,
                               bool *ret_enough)
{
    struct client_task *task = ((struct client_part *)transfer->ctx)->task;
    size_t skipped = bytes.len < task->skip ? bytes.len : (size_t)task->skip;
    task->skip -= skipped;
    bytes = cap_bytes_slice(bytes, skipped, bytes.len - skipped);
    size_t some = bytes.len < task->left ? bytes.len : (size_t)task->left;
    if (some > 0) {
        client_task_body(task, cap_bytes_slice(bytes, 0, some), false);
        task->left -= some;
    }
    if (some < bytes.len && transfer->status == 206) {
        return client_transfer_say(transfer, CAP_E_BAD_REPLY, "more came than was announced");
    }
    *ret_enough = some < bytes.len; /* the rest of a whole body */
    return CAP_OK;
}

static void get_ended(struct client_transfer *transfer, enum cap_error error)
{
    struct client_part *part = transfer->ctx;
    struct client_task *task = part->task;
    client_part_free(part);
    if (error == CAP_E_RANGE_OUT_OF_BODY && transfer->status == 416 && transfer->head.has_total &&
        transfer->head.total == task->offset) {
        task->len = 0; /* the end of the body is in range, but of it HTTP has nothing to send */
        reply_get(task, transfer->head.total);
        error = CAP_OK;
    }
    if (error == CAP_OK && task->left > 0) {
        error = client_transfer_say(transfer, CAP_E_CONNECTION_LOST,
                                    "the answer ended %" PRIu64 " bytes early; retry", task->left);
    }
    client_task_end_body(task, error, transfer->message);
}

/* A GET of no bytes ends: its offset has to be within the body. */
static void none_ended(struct client_transfer *transfer, enum cap_error error)
{
    struct client_part *part = transfer->ctx;
    struct client_task *task = part->task;
    uint64_t total = part->body_len;
    if (error == CAP_OK) {
        error = client_head_judge(transfer, 1);
    }
    if (error == CAP_OK) {
        error = cut_range(transfer, task, total);
    }
    client_part_free(part);
    if (error == CAP_OK) {
        reply_get(task, total);
    }
    client_task_end_body(task, error, transfer->message);
}

enum cap_error client_begin_get(struct client_task *task, struct cap_bytes payload)
{
    static const struct client_transfer_calls calls = {get_begun, get_take, get_ended};
    static const struct client_transfer_calls none_calls = {client_head_begun, client_head_take,
                                                            none_ended};
    struct proto_get get;
    char url[CLIENT_URL_MAX];
    char range[48] = "";
    if (proto_get_decode(payload, &get) != CAP_OK) {
        return CAP_E_BAD_MESSAGE;
    }
    task->offset = get.offset;
    task->len = get.len;
    if (get.len == 0) {
        return client_head_begin(task, &get.hash, 0, &none_calls);
    }
    client_task_url(task->translator, url, "caps", &get.hash, "");
    if (get.len > UINT64_MAX - get.offset) { /* to the end */
        snprintf(range, sizeof(range), "%" PRIu64 "-", get.offset);
    } else {
        snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, get.offset,
                 get.offset + get.len - 1);
    }
    bool all = get.offset == 0 && get.len == PROTO_TO_END;
    return client_part_begin(task, url, all ? NULL : range, &calls, 0);
}

/* ---- SLICE ---- */

static enum cap_error slice_begun(struct client_transfer *transfer)
{
    struct client_task *task = ((struct client_part *)transfer->ctx)->task;
    struct cap_buf payload = {0};
    const struct proto_slice_reply reply = {.kind = CLIENT_PLACEHOLDER};
    if (transfer->status != 200) {
        return client_wrong_range(transfer);
    }
    client_task_reply_encoded(task->translator, PROTO_SLICE_REPLY, task->id,
                              proto_slice_reply_encode(&reply, &payload), &payload);
    return CAP_OK;
}

static enum cap_error slice_take(struct client_transfer *transfer, struct cap_bytes bytes,
                                 bool *ret_enough)
{
    (void)ret_enough;
    client_task_body(((struct client_part *)transfer->ctx)->task, bytes, false);
    return CAP_OK;
}

static void slice_ended(struct client_transfer *transfer, enum cap_error error)
{
    struct client_part *part = transfer->ctx;
    struct client_task *task = part->task;
    client_part_free(part);
    client_task_end_body(task, error, transfer->message);
}

enum cap_error client_begin_slice(struct client_task *task, struct cap_bytes payload)
{
    static const struct client_transfer_calls calls = {slice_begun, slice_take, slice_ended};
    struct proto_slice slice;
    char url[CLIENT_URL_MAX];
    if (proto_slice_decode(payload, &slice) != CAP_OK) {
        return CAP_E_BAD_MESSAGE;
    }
    client_task_url(task->translator, url, "caps", &slice.hash, "/slice?pages=");
    size_t len = strlen(url);
    for (size_t i = 0; i < slice.count; i++) {
        const uint8_t *range = slice.ranges.data + i * PROTO_RANGE_SIZE;
        uint64_t first = cap_load64(range);
        uint64_t last = first + cap_load64(range + sizeof(first)) - 1;
        len += (size_t)snprintf(url + len, sizeof(url) - len, "%s%" PRIu64 "-%" PRIu64,
                                i > 0 ? "," : "", first, last);
    }
    return client_part_begin(task, url, NULL, &calls, 0);
}

/* ---- CLOSURE ---- */

static void pass_entry(void *ctx, struct cap_bytes bytes)
{
    client_task_body(ctx, bytes, false);
}

static enum cap_error closure_begun(struct client_transfer *transfer)
{
    return transfer->status == 200 ? CAP_OK : client_wrong_range(transfer);
}

static enum cap_error closure_take(struct client_transfer *transfer, struct cap_bytes bytes,
                                   bool *ret_enough)
{
    struct client_task *task = ((struct client_part *)transfer->ctx)->task;
    (void)ret_enough;
    enum cap_error error = client_closure_stream_take(task->entries, bytes);
    return error == CAP_E_BAD_REPLY
               ? client_transfer_say(transfer, error, "what comes is not a closure")
               : error;
}

static void closure_ended(struct client_transfer *transfer, enum cap_error error);

/* Asks for the closure of the next root. */
static enum cap_error ask_closure(struct client_task *task)
{
    static const struct client_transfer_calls calls = {closure_begun, closure_take, closure_ended};
    char url[CLIENT_URL_MAX];
    struct cap_hash root;
    memcpy(root.bytes, task->hashes.data + task->next * CAP_HASH_SIZE, sizeof(root.bytes));
    client_task_url(task->translator, url, "closures", &root,
                    task->list ? "?list&have=" : "?have=");
    size_t len = strlen(url);
    /* What is at hand is a hint: what is not named comes, and the handle passes it by. */
    const size_t lists[] = {task->have.len, task->next * CAP_HASH_SIZE};
    const uint8_t *const bytes[] = {task->have.data, task->hashes.data};
    const char *between = "";
    for (size_t list = 0; list < 2; list++) {
        for (size_t at = 0; at < lists[list] && len + CAP_HASH_HEX_SIZE < URL_MOST;
             at += CAP_HASH_SIZE) {
            char hex[CAP_HASH_HEX_SIZE];
            cap_hex_format((struct cap_bytes){bytes[list] + at, CAP_HASH_SIZE}, hex);
            len += (size_t)snprintf(url + len, sizeof(url) - len, "%s%s", between, hex);
            between = ",";
        }
    }
    return client_part_begin(task, url, NULL, &calls, 0);
}

/* What becomes of an answer that has ended. */
static enum cap_error judge_closure(struct client_task *task, struct client_transfer *transfer,
                                    enum cap_error error)
{
    struct cap_hash root;
    memcpy(root.bytes, task->hashes.data + task->next * CAP_HASH_SIZE, sizeof(root.bytes));
    if (client_is_absent(error) && !transfer->begun) {
        return client_closure_stream_absent(task->entries, &root);
    }
    if (error == CAP_OK && !client_closure_stream_is_whole(task->entries)) {
        return client_transfer_say(transfer, CAP_E_BAD_REPLY, "the closure ends within an entry");
    }
    return error;
}

static void closure_ended(struct client_transfer *transfer, enum cap_error error)
{
    struct client_part *part = transfer->ctx;
    struct client_task *task = part->task;
    client_part_free(part);
    error = judge_closure(task, transfer, error);
    task->next++;
    if (error == CAP_OK && task->next < task->hashes.len / CAP_HASH_SIZE) {
        error = ask_closure(task);
        if (error == CAP_OK) {
            return;
        }
    }
    client_task_end_body(task, error, transfer->message);
}

enum cap_error client_begin_closure(struct client_task *task, struct cap_bytes payload)
{
    struct proto_closure closure;
    const struct proto_closure_reply reply = {.max = UINT32_MAX};
    struct cap_buf encoded = {0};
    if (proto_closure_decode(payload, &closure) != CAP_OK) {
        return CAP_E_BAD_MESSAGE;
    }
    if ((closure.roots.len + closure.have.len) / CAP_HASH_SIZE > CLIENT_HASHES_MOST) {
        return CAP_E_TOO_MANY_HASHES;
    }
    task->list = (closure.flags & PROTO_CLOSURE_LIST) != 0;
    task->entries =
        client_closure_stream_new(task->list, closure.roots.len > CAP_HASH_SIZE, pass_entry, task);
    if (task->entries == NULL ||
        cap_buf_append(&task->hashes, closure.roots.data, closure.roots.len) != CAP_OK ||
        cap_buf_append(&task->have, closure.have.data, closure.have.len) != CAP_OK) {
        return CAP_E_NO_MEMORY;
    }
    enum cap_error error = closure.roots.len > 0 ? ask_closure(task) : CAP_OK;
    if (error != CAP_OK) {
        return error;
    }
    client_task_reply_encoded(task->translator, PROTO_CLOSURE_REPLY, task->id,
                              proto_closure_reply_encode(&reply, &encoded), &encoded);
    if (closure.roots.len == 0) {
        client_task_end_body(task, CAP_OK, "");
    }
    return CAP_OK;
}
