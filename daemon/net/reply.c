/* HELLO_REPLY and ERROR. */
#include "daemon/net/reply.h"

#include "daemon/net/framing.h"

#define AGENT "capstored " CAPSTORE_VERSION

struct proto_limits reply_limits(const struct config *config)
{
    return (struct proto_limits){
        .frame = PROTO_FRAME_MAX,
        .requests = (uint32_t)config->max_requests,
        .hashes = (uint32_t)config->max_hashes,
        .upload = config->max_upload,
        .structure = config->max_structure,
        .data = config->max_data,
        .idle_ms = (uint32_t)config->idle_ms,
        .progress_ms = (uint32_t)config->progress_ms,
    };
}

enum cap_error reply_hello(const struct context *context, const struct proto_limits *limits,
                           const struct proto_hello *hello, uint64_t features,
                           struct cap_buf *ret_payload)
{
    struct proto_hello_reply m = {
        .version = PROTO_VERSION,
        .limits = *limits,
        .agent = {(const uint8_t *)AGENT, sizeof(AGENT) - 1},
        .has_features = hello->has_features,
        .features = features,
    };
    memcpy(m.store_id, cap_store_id(context->store), sizeof(m.store_id));
    return proto_hello_reply_encode(&m, ret_payload);
}

enum cap_error reply_error(enum cap_error error, const char *message, uint64_t detail_len,
                           struct cap_buf *ret_payload)
{
    const char *name = cap_error_name(error);
    size_t len = strlen(message);
    const struct proto_error m = {
        .code = (uint16_t)-error,
        .name = {(const uint8_t *)name, strlen(name)},
        .message = {(const uint8_t *)message, len < PROTO_TEXT_MAX ? len : PROTO_TEXT_MAX},
        .detail_len = detail_len,
    };
    return proto_error_encode(&m, ret_payload);
}

void reply_turn_away(int fd, enum cap_error error)
{
    struct output output;
    struct cap_buf payload = {0};
    uint64_t sent = 0;
    output_init(&output, NULL);
    if (reply_error(error, cap_error_text(error), 0, &payload) == CAP_OK &&
        framing_message(&output, PROTO_ERROR, 0, cap_buf_bytes(&payload)) == CAP_OK) {
        (void)output_pump(&output, fd, UINT64_MAX, &sent);
    }
    cap_buf_free(&payload);
    output_free(&output);
}
