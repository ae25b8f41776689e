/*
 * Frames and the reader that cuts a stream into them.
 *
 * The reader holds a header that arrived in pieces and a message that did; everything else is
 * passed through from the caller's input without a copy. A header is judged as soon as it is
 * complete, before any of its payload, so a peer cannot make us hold what we would refuse.
 */
#include "proto/frame.h"

#include "lib/cap/must.h"

const char *proto_type_name(uint8_t type)
{
    switch (type) {
#define PROTO_TYPE_NAME(NAME, value, name)                                                         \
    case PROTO_##NAME:                                                                             \
        return #name;
        PROTO_TYPES(PROTO_TYPE_NAME)
#undef PROTO_TYPE_NAME
    }
    return "unknown";
}

bool proto_type_is_known(uint8_t type)
{
    switch (type) {
#define PROTO_TYPE_KNOWN(NAME, value, name) case PROTO_##NAME:
        PROTO_TYPES(PROTO_TYPE_KNOWN)
#undef PROTO_TYPE_KNOWN
        return true;
    }
    return false;
}

/* PROTOCOL.md section 2.1. */
void proto_frame_encode(const struct proto_frame *frame,
                        uint8_t ret_header[PROTO_FRAME_HEADER_SIZE])
{
    cap_store32(ret_header, frame->len);
    cap_store32(ret_header + 4, frame->id);
    ret_header[8] = frame->type;
    ret_header[9] = frame->flags;
    cap_store16(ret_header + 10, 0);
}

/* Of messages, only lists of hashes, kinds and ranges may fill a frame (PROTOCOL.md section 2.1).
 */
static uint32_t message_max(uint8_t type)
{
    bool is_list = type == PROTO_HAS || type == PROTO_HAS_REPLY || type == PROTO_GET_MANY ||
                   type == PROTO_SLICE || type == PROTO_CLOSURE;
    return is_list ? UINT32_MAX : PROTO_MESSAGE_MAX;
}

/* Whether a frame of an unknown type can be answered like a request. */
static bool is_request(const struct proto_frame *frame)
{
    return (frame->type & PROTO_REPLY_BIT) == 0 && frame->id != 0;
}

enum cap_error proto_frame_decode(const uint8_t header[PROTO_FRAME_HEADER_SIZE], uint32_t max_len,
                                  struct proto_frame *ret_frame)
{
    struct proto_frame frame = {
        .len = cap_load32(header),
        .id = cap_load32(header + 4),
        .type = header[8],
        .flags = header[9],
    };
    *ret_frame = frame;
    if ((frame.flags & ~PROTO_FLAG_END) != 0 || cap_load16(header + 10) != 0) {
        return CAP_E_BAD_FRAME;
    }
    if (!proto_type_is_known(frame.type) && !is_request(&frame)) {
        return CAP_E_BAD_FRAME;
    }
    if (frame.flags != 0 && frame.type != PROTO_BODY) {
        return CAP_E_BAD_FRAME;
    }
    if (frame.len > max_len) {
        return CAP_E_FRAME_TOO_LARGE;
    }
    if (frame.type != PROTO_BODY && frame.len > message_max(frame.type)) {
        return CAP_E_MESSAGE_TOO_LARGE;
    }
    return CAP_OK;
}

void proto_reader_init(struct proto_reader *reader, uint32_t max_len)
{
    *reader = (struct proto_reader){.max_len = max_len};
}

static struct cap_bytes take(struct cap_bytes *input, size_t len)
{
    struct cap_bytes front = {input->data, len};
    if (len > 0) {
        *input = cap_bytes_slice(*input, len, input->len - len);
    }
    return front;
}

static size_t at_most(size_t wanted, size_t there)
{
    return wanted < there ? wanted : there;
}

static void begin_frame(struct proto_reader *reader)
{
    reader->header_filled = 0;
    reader->taken = 0;
    reader->delivered = false;
    /* A long message is rare: its memory is not held against the next one. */
    if (reader->message.capacity > PROTO_MESSAGE_MAX) {
        cap_buf_free(&reader->message);
    }
    reader->message.len = 0;
}

static void fill_header(struct proto_reader *reader, struct cap_bytes *input)
{
    size_t len = at_most(PROTO_FRAME_HEADER_SIZE - reader->header_filled, input->len);
    if (len == 0) {
        return;
    }
    memcpy(reader->header + reader->header_filled, take(input, len).data, len);
    reader->header_filled += len;
}

static bool read_body(struct proto_reader *reader, struct cap_bytes *input,
                      struct proto_event *ret_event)
{
    const struct proto_frame *frame = &reader->frame;
    size_t len = at_most(frame->len - reader->taken, input->len);
    if (len == 0 && frame->len > 0) {
        return false;
    }
    reader->taken += (uint32_t)len;
    reader->delivered = reader->taken == frame->len;
    *ret_event = (struct proto_event){
        .frame = *frame,
        .bytes = take(input, len),
        .end = reader->delivered && (frame->flags & PROTO_FLAG_END) != 0,
    };
    return true;
}

static enum cap_error read_message(struct proto_reader *reader, struct cap_bytes *input,
                                   struct proto_event *ret_event, bool *ret_have)
{
    size_t missing = reader->frame.len - reader->taken;
    size_t len = at_most(missing, input->len);
    bool whole = reader->taken == 0 && len == missing;
    must(reader->message.len == reader->taken && reader->taken <= reader->frame.len);
    if (!whole && len > 0) {
        enum cap_error error = cap_buf_append(&reader->message, input->data, len);
        if (error != CAP_OK) {
            return error;
        }
    }
    struct cap_bytes here = take(input, len);
    reader->taken += (uint32_t)len;
    reader->delivered = len == missing;
    *ret_have = reader->delivered;
    if (reader->delivered) {
        *ret_event = (struct proto_event){
            .frame = reader->frame,
            .bytes = whole ? here : cap_buf_bytes(&reader->message),
        };
    }
    return CAP_OK;
}

enum cap_error proto_reader_next(struct proto_reader *reader, struct cap_bytes *input,
                                 struct proto_event *ret_event, bool *ret_have)
{
    if (reader->delivered) {
        begin_frame(reader);
    }
    fill_header(reader, input);
    if (reader->header_filled < PROTO_FRAME_HEADER_SIZE) {
        *ret_have = false;
        return CAP_OK;
    }
    /* Decoded again for every piece: it costs nothing, and an error stays an error. */
    enum cap_error error = proto_frame_decode(reader->header, reader->max_len, &reader->frame);
    if (error != CAP_OK) {
        return error;
    }
    if (reader->frame.type != PROTO_BODY) {
        return read_message(reader, input, ret_event, ret_have);
    }
    *ret_have = read_body(reader, input, ret_event);
    return CAP_OK;
}

void proto_reader_free(struct proto_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    cap_buf_free(&reader->message);
    *reader = (struct proto_reader){.max_len = reader->max_len};
}
