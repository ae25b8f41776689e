/* The encoder and the decoder. */
#include "proto/layout.h"

#include <stddef.h>

#include "lib/cap/must.h"

/* Members are read and written by memcpy: the tables know their sizes, not their types. */
static uint64_t load_member(const uint8_t *member, size_t size)
{
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;
    switch (size) {
    case sizeof(v16):
        memcpy(&v16, member, sizeof(v16));
        return v16;
    case sizeof(v32):
        memcpy(&v32, member, sizeof(v32));
        return v32;
    case sizeof(v64):
        memcpy(&v64, member, sizeof(v64));
        return v64;
    }
    return *member;
}

static void store_member(uint8_t *member, size_t size, const uint8_t *wire)
{
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;
    switch (size) {
    case sizeof(v16):
        v16 = cap_load16(wire);
        memcpy(member, &v16, sizeof(v16));
        return;
    case sizeof(v32):
        v32 = cap_load32(wire);
        memcpy(member, &v32, sizeof(v32));
        return;
    case sizeof(v64):
        v64 = cap_load64(wire);
        memcpy(member, &v64, sizeof(v64));
        return;
    }
    *member = *wire;
}

static void write_integer(uint8_t *out, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

static struct cap_bytes member_span(const struct proto_field *field, const uint8_t *message)
{
    struct cap_bytes span;
    memcpy(&span, message + field->at, sizeof(span));
    if (field->kind == FIELD_TEXT && span.len > field->max) {
        span.len = field->max;
    }
    return span;
}

static bool printable(uint8_t c)
{
    return c >= 0x20 && c <= 0x7e;
}

static void write_span(uint8_t *out, const struct proto_field *field, struct cap_bytes span)
{
    if (span.len > 0) {
        memcpy(out, span.data, span.len);
    }
    for (size_t i = 0; field->kind == FIELD_TEXT && i < span.len; i++) {
        if (!printable(out[i])) {
            out[i] = '?';
        }
    }
}

uint64_t proto_encoded_len(const struct proto_layout *layout, const void *message)
{
    uint64_t len = layout->fixed_size;
    for (size_t i = 0; i < layout->count; i++) {
        if (layout->fields[i].size == CAP_SSZ_VARIABLE) {
            len += member_span(&layout->fields[i], message).len;
        }
    }
    return len;
}

void proto_write(const struct proto_layout *layout, const void *from, uint8_t *out)
{
    const uint8_t *message = from;
    uint8_t *fixed = out;
    size_t end = layout->fixed_size;
    for (size_t i = 0; i < layout->count; i++) {
        const struct proto_field *field = &layout->fields[i];
        if (field->size == CAP_SSZ_VARIABLE) {
            struct cap_bytes span = member_span(field, message);
            cap_store32(fixed, (uint32_t)end);
            write_span(out + end, field, span);
            end += span.len;
            fixed += CAP_SSZ_OFFSET_SIZE;
            continue;
        }
        if (field->kind == FIELD_RAW) {
            memcpy(fixed, message + field->at, field->size);
        } else {
            write_integer(fixed, load_member(message + field->at, field->size), field->size);
        }
        fixed += field->size;
    }
    must(fixed == out + layout->fixed_size);
    expect(end == proto_encoded_len(layout, message));
}

enum cap_error proto_encode(const struct proto_layout *layout, const void *message,
                            uint64_t max_len, struct cap_buf *buf)
{
    if (!layout->possible(message)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    uint64_t len = proto_encoded_len(layout, message);
    if (len > max_len) {
        return CAP_E_MESSAGE_TOO_LARGE;
    }
    enum cap_error error = cap_buf_reserve(buf, (size_t)len);
    if (error != CAP_OK) {
        return error;
    }
    proto_write(layout, message, buf->data + buf->len);
    buf->len += (size_t)len;
    return CAP_OK;
}

static bool text_possible(const struct proto_field *field, struct cap_bytes span)
{
    if (span.len > field->max) {
        return false;
    }
    for (size_t i = 0; i < span.len; i++) {
        if (!printable(span.data[i])) {
            return false;
        }
    }
    return true;
}

/* Sets the member of `message` that `field` describes; false for a text that cannot be. */
static bool read_field(const struct proto_field *field, struct cap_bytes span, uint8_t *message)
{
    uint8_t *member = message + field->at;
    switch (field->kind) {
    case FIELD_INTEGER:
        store_member(member, field->size, span.data);
        return true;
    case FIELD_RAW:
        memcpy(member, span.data, field->size);
        return true;
    case FIELD_TEXT:
        if (!text_possible(field, span)) {
            return false;
        }
        break;
    case FIELD_BYTES:
        break;
    }
    memcpy(member, &span, sizeof(span));
    return true;
}

enum cap_error proto_decode(const struct proto_layout *layout, struct cap_bytes in,
                            void *ret_message)
{
    size_t sizes[PROTO_FIELDS_MAX];
    struct cap_bytes spans[PROTO_FIELDS_MAX];
    _Alignas(max_align_t) uint8_t message[PROTO_LAYOUT_MAX]; /* a failure leaves the caller's */

    for (size_t i = 0; i < layout->count; i++) {
        sizes[i] = layout->fields[i].size;
    }
    if (cap_ssz_container(in, in.len, sizes, layout->count, spans) != CAP_OK) {
        return CAP_E_BAD_MESSAGE;
    }
    memset(message, 0, sizeof(message));
    for (size_t i = 0; i < layout->count; i++) {
        if (!read_field(&layout->fields[i], spans[i], message)) {
            return CAP_E_BAD_MESSAGE;
        }
    }
    if (!layout->possible(message)) {
        return CAP_E_BAD_MESSAGE;
    }
    memcpy(ret_message, message, layout->struct_size);
    return CAP_OK;
}
