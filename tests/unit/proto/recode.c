#include "tests/unit/proto/recode.h"

#include <stdlib.h>

#define RECODE(NAME, name)                                                                         \
    case PROTO_##NAME: {                                                                           \
        struct proto_##name message;                                                               \
        enum cap_error error = proto_##name##_decode(payload, &message);                           \
        return error == CAP_OK ? proto_##name##_encode(&message, again) : error;                   \
    }

enum cap_error recode(uint8_t type, struct cap_bytes payload, struct cap_buf *again)
{
    switch (type) {
        RECODE(HELLO, hello)
        RECODE(HELLO_REPLY, hello_reply)
        RECODE(HAS, has)
        RECODE(HAS_REPLY, has_reply)
        RECODE(GET, get)
        RECODE(GET_REPLY, get_reply)
        RECODE(STAT, stat)
        RECODE(STAT_REPLY, stat_reply)
        RECODE(MAP, map)
        RECODE(MAP_REPLY, map_reply)
        RECODE(GET_MANY, get_many)
        RECODE(GET_MANY_REPLY, get_many_reply)
        RECODE(PUT_DATA, put_data)
        RECODE(PUT_DATA_REPLY, put_data_reply)
        RECODE(PUT_IMAGE, put_image)
        RECODE(PUT_IMAGE_REPLY, put_image_reply)
        RECODE(PUT_CAP, put_cap)
        RECODE(PUT_CAP_REPLY, put_cap_reply)
        RECODE(SLICE, slice)
        RECODE(SLICE_REPLY, slice_reply)
        RECODE(CLOSURE, closure)
        RECODE(CLOSURE_REPLY, closure_reply)
        RECODE(RESUME, resume)
        RECODE(RESUME_REPLY, resume_reply)
        RECODE(ERROR, error)
    case PROTO_CANCEL:
        return payload.len == 0 ? CAP_OK : CAP_E_BAD_MESSAGE;
    }
    return CAP_E_UNSUPPORTED_REQUEST;
}

#define RECODE_FORM(NAME, name, form)                                                              \
    case PROTO_##NAME: {                                                                           \
        struct proto_##name message;                                                               \
        enum cap_error error = proto_##name##_##form##_decode(payload, &message);                  \
        return error == CAP_OK ? proto_##name##_##form##_encode(&message, again) : error;          \
    }

enum cap_error recode_keep(uint8_t type, struct cap_bytes payload, struct cap_buf *again)
{
    switch (type) {
        RECODE_FORM(HAS, has, keep)
        RECODE_FORM(HAS_REPLY, has_reply, keep)
        RECODE_FORM(PUT_DATA, put_data, keep)
        RECODE_FORM(PUT_DATA_REPLY, put_data_reply, keep)
        RECODE_FORM(PUT_IMAGE, put_image, keep)
        RECODE_FORM(PUT_IMAGE_REPLY, put_image_reply, keep)
        RECODE_FORM(PUT_CAP, put_cap, keep)
        RECODE_FORM(PUT_CAP_REPLY, put_cap_reply, keep)
    }
    return recode(type, payload, again);
}

enum cap_error recode_resume(uint8_t type, struct cap_bytes payload, struct cap_buf *again)
{
    switch (type) {
        RECODE_FORM(PUT_DATA, put_data, resume)
        RECODE_FORM(PUT_IMAGE, put_image, resume)
        RECODE_FORM(PUT_CAP, put_cap, resume)
    }
    return recode_keep(type, payload, again);
}

enum cap_error recode_unresolved(struct cap_bytes detail, struct cap_buf *again)
{
    struct cap_ssz_list list;
    enum cap_error error = proto_unresolved_decode(detail, &list);
    if (error != CAP_OK) {
        return error;
    }
    struct proto_unresolved *slots = calloc(list.count + 1, sizeof(*slots));
    if (slots == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < list.count; i++) {
        proto_unresolved_at(&list, i, &slots[i]);
    }
    error = proto_unresolved_encode(slots, list.count, again);
    free(slots);
    return error;
}

enum cap_error recode_shortage(struct cap_bytes detail, struct cap_buf *again)
{
    struct proto_shortage shortage;
    enum cap_error error = proto_shortage_decode(detail, &shortage);
    return error == CAP_OK ? proto_shortage_encode(&shortage, again) : error;
}
