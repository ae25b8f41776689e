/*
 * Frames: the bytes on the stream (PROTOCOL.md section 2). No sockets here.
 *
 * A frame is a 12-byte header and a payload: length u32, id u32, type u8, flags u8, two zero bytes.
 * A message is exactly one frame; a body is one or more BODY frames, the last one with the END
 * flag.
 */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include "lib/cap/bytes.h"

#define PROTO_FRAME_HEADER_SIZE 12u
#define PROTO_FRAME_MAX         (256u << 10) /* payload limit of this version; hello states it */
/* Of messages without lists of hashes, kinds or ranges; also the least frame limit. */
#define PROTO_MESSAGE_MAX 4096u
#define PROTO_VERSION     1u
#define PROTO_FLAG_END    1u

/* X(NAME, value, name). A reply's type is its request's with the high bit. */
#define PROTO_TYPES(X)                                                                             \
    X(HELLO, 0x01, hello)                                                                          \
    X(HAS, 0x02, has)                                                                              \
    X(GET, 0x03, get)                                                                              \
    X(STAT, 0x04, stat)                                                                            \
    X(PUT_DATA, 0x05, put_data)                                                                    \
    X(PUT_IMAGE, 0x06, put_image)                                                                  \
    X(CANCEL, 0x07, cancel)                                                                        \
    X(MAP, 0x08, map)                                                                              \
    X(GET_MANY, 0x09, get_many)                                                                    \
    X(PUT_CAP, 0x0a, put_cap)                                                                      \
    X(SLICE, 0x0b, slice)                                                                          \
    X(CLOSURE, 0x0c, closure)                                                                      \
    X(RESUME, 0x0d, resume)                                                                        \
    X(BODY, 0x10, body)                                                                            \
    X(HELLO_REPLY, 0x81, hello_reply)                                                              \
    X(HAS_REPLY, 0x82, has_reply)                                                                  \
    X(GET_REPLY, 0x83, get_reply)                                                                  \
    X(STAT_REPLY, 0x84, stat_reply)                                                                \
    X(PUT_DATA_REPLY, 0x85, put_data_reply)                                                        \
    X(PUT_IMAGE_REPLY, 0x86, put_image_reply)                                                      \
    X(MAP_REPLY, 0x88, map_reply)                                                                  \
    X(GET_MANY_REPLY, 0x89, get_many_reply)                                                        \
    X(PUT_CAP_REPLY, 0x8a, put_cap_reply)                                                          \
    X(SLICE_REPLY, 0x8b, slice_reply)                                                              \
    X(CLOSURE_REPLY, 0x8c, closure_reply)                                                          \
    X(RESUME_REPLY, 0x8d, resume_reply)                                                            \
    X(ERROR, 0xff, error)

enum proto_type {
#define PROTO_TYPE_ENUM(NAME, value, name) PROTO_##NAME = (value),
    PROTO_TYPES(PROTO_TYPE_ENUM)
#undef PROTO_TYPE_ENUM
};

struct proto_frame {
    uint32_t len; /* of the payload */
    uint32_t id;
    uint8_t type;
    uint8_t flags;
};

#define PROTO_REPLY_BIT 0x80u

/* The name of a type for logs, "unknown" for another value. Static. */
const char *proto_type_name(uint8_t type);

/* Whether the type is one of PROTO_TYPES. */
bool proto_type_is_known(uint8_t type);

/* Writes the header as `frame` states it, without a check. */
void proto_frame_encode(const struct proto_frame *frame,
                        uint8_t ret_header[PROTO_FRAME_HEADER_SIZE]);

/*
 * Decodes a header. In this order: CAP_E_BAD_FRAME for reserved bits or bytes that are set, for an
 * unknown type that is not a request's (it has the reply bit, or id 0), and for END on a message;
 * CAP_E_FRAME_TOO_LARGE for a length above `max_len`; CAP_E_MESSAGE_TOO_LARGE for a message above
 * PROTO_MESSAGE_MAX that is not HAS, HAS_REPLY, GET_MANY, SLICE or CLOSURE. A request of an unknown
 * type is a message like others; the daemon answers it with CAP_E_UNSUPPORTED_REQUEST. *ret_frame
 * is set in every case, so that an answer can name the id.
 */
enum cap_error proto_frame_decode(const uint8_t header[PROTO_FRAME_HEADER_SIZE], uint32_t max_len,
                                  struct proto_frame *ret_frame);

/*
 * Takes a stream of bytes in any pieces and yields messages (whole) and body pieces (as they come).
 * Memory: at most the header and one message of max_len bytes, allocated as its bytes arrive; none
 * for a message that arrives whole, none for bodies. One thread at a time.
 */
struct proto_reader {
    uint32_t max_len;
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    size_t header_filled;
    struct proto_frame frame;
    uint32_t taken; /* payload bytes of the frame seen so far */
    bool delivered; /* the frame was yielded to its end: the next call begins another */
    struct cap_buf message;
};

/*
 * What the reader yields. Bytes are valid until the next call or until the input is gone. A BODY
 * frame yields one event per piece, and one without bytes when its payload is empty.
 */
struct proto_event {
    struct proto_frame frame;
    struct cap_bytes bytes; /* a whole message's payload, or a piece of a BODY frame's */
    bool end;               /* BODY: this piece completes the body */
};

/* Makes an empty reader whose frames hold at most `max_len` bytes. Release with proto_reader_free.
 */
void proto_reader_init(struct proto_reader *reader, uint32_t max_len);

/*
 * Consumes from the front of *input until there is an event or nothing is left. CAP_OK with
 * *ret_have telling which. On an error of proto_frame_decode the stream is beyond repair (every
 * further call returns the same error); reader->frame names the frame. CAP_E_NO_MEMORY consumes
 * nothing of the current message.
 */
enum cap_error proto_reader_next(struct proto_reader *reader, struct cap_bytes *input,
                                 struct proto_event *ret_event, bool *ret_have);

/* Releases the memory; the reader may be initialised again. NULL is fine. */
void proto_reader_free(struct proto_reader *reader);

#endif
