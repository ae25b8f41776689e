/* Headers before payloads. */
#include "daemon/net/framing.h"

#include "proto/frame.h"

_Static_assert(PROTO_FRAME_HEADER_SIZE <= OUTPUT_HEADER_MAX, "a frame's header fits");

static size_t body_header(const struct stream *stream, uint64_t len, bool last,
                          uint8_t ret_header[OUTPUT_HEADER_MAX])
{
    const struct proto_frame frame = {
        .len = (uint32_t)len,
        .id = stream->id,
        .type = PROTO_BODY,
        .flags = last ? PROTO_FLAG_END : 0,
    };
    proto_frame_encode(&frame, ret_header);
    return PROTO_FRAME_HEADER_SIZE;
}

const struct framing framing_proto = {.frame_max = PROTO_FRAME_MAX, .header = body_header};

static enum cap_error append(struct output *output, struct proto_frame frame,
                             struct cap_bytes payload)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    frame.len = (uint32_t)payload.len;
    proto_frame_encode(&frame, header);
    return output_append(output, (struct cap_bytes){header, sizeof(header)}, payload);
}

enum cap_error framing_message(struct output *output, uint8_t type, uint32_t id,
                               struct cap_bytes payload)
{
    return append(output, (struct proto_frame){.id = id, .type = type}, payload);
}

enum cap_error framing_message_fd(struct output *output, uint8_t type, uint32_t id,
                                  struct cap_bytes payload, int fd)
{
    const struct proto_frame frame = {.len = (uint32_t)payload.len, .id = id, .type = type};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    proto_frame_encode(&frame, header);
    return output_append_fd(output, (struct cap_bytes){header, sizeof(header)}, payload, fd);
}

enum cap_error framing_body(struct output *output, uint32_t id, struct cap_bytes body)
{
    return append(
        output, (struct proto_frame){.id = id, .type = PROTO_BODY, .flags = PROTO_FLAG_END}, body);
}
