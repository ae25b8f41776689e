/*
 * Messages as data: each is a table of fields in the order of PROTOCOL.md section 4, from which one
 * encoder and one decoder work, and a function that says which values are possible.
 *
 * The wire size of a fixed field is the size of its member, so the tables also give each message's
 * fixed size at compile time; the assertions pin them to the document's figures.
 */
#include "proto/message.h"

#include "lib/cap/must.h"
#include "lib/cap/wire_image.h"

enum field_kind {
    FIELD_INTEGER, /* of 1, 2, 4 or 8 bytes */
    FIELD_RAW,     /* bytes as they are: hashes, identifiers */
    FIELD_BYTES,   /* variable: any bytes */
    FIELD_TEXT,    /* variable: printable ASCII, bounded */
};

struct field {
    enum field_kind kind;
    size_t at;   /* offset of the member */
    size_t size; /* of the member when fixed, CAP_SSZ_VARIABLE otherwise */
    size_t max;  /* of a text, in bytes */
};

struct layout {
    const struct field *fields;
    size_t count;
    size_t fixed_size; /* of the encoding's fixed part */
    size_t struct_size;
    bool (*possible)(const void *message);
};

#define MAX_FIELDS 12

/* F(struct, KIND, member) is a fixed field, V(struct, KIND, member, max) a variable one. */
#define HELLO_FIELDS(S, F, V)                                                                      \
    F(S, RAW, magic)                                                                               \
    F(S, INTEGER, hello.version_min)                                                               \
    F(S, INTEGER, hello.version_max)                                                               \
    V(S, TEXT, hello.agent, PROTO_AGENT_MAX)
#define HELLO_FEATURES_FIELDS(S, F, V) HELLO_FIELDS(S, F, V) F(S, INTEGER, hello.features)
#define HELLO_REPLY_FIELDS(S, F, V)                                                                \
    F(S, INTEGER, version)                                                                         \
    F(S, RAW, store_id)                                                                            \
    F(S, INTEGER, limits.frame)                                                                    \
    F(S, INTEGER, limits.requests)                                                                 \
    F(S, INTEGER, limits.hashes)                                                                   \
    F(S, INTEGER, limits.upload)                                                                   \
    F(S, INTEGER, limits.structure)                                                                \
    F(S, INTEGER, limits.data)                                                                     \
    F(S, INTEGER, limits.idle_ms)                                                                  \
    F(S, INTEGER, limits.progress_ms)                                                              \
    V(S, TEXT, agent, PROTO_AGENT_MAX)
#define HELLO_REPLY_FEATURES_FIELDS(S, F, V) HELLO_REPLY_FIELDS(S, F, V) F(S, INTEGER, features)
#define HAS_FIELDS(S, F, V)                  V(S, BYTES, hashes, 0)
#define HAS_REPLY_FIELDS(S, F, V)            V(S, BYTES, kinds, 0)
#define GET_FIELDS(S, F, V)                  F(S, RAW, hash) F(S, INTEGER, offset) F(S, INTEGER, len)
#define GET_REPLY_FIELDS(S, F, V)                                                                  \
    F(S, INTEGER, kind) F(S, INTEGER, body_len) F(S, INTEGER, offset) F(S, INTEGER, len)
#define STAT_FIELDS(S, F, V) F(S, RAW, hash)
#define STAT_REPLY_FIELDS(S, F, V)                                                                 \
    F(S, INTEGER, kind)                                                                            \
    F(S, INTEGER, body_len)                                                                        \
    F(S, INTEGER, size)                                                                            \
    F(S, INTEGER, page_count)                                                                      \
    F(S, INTEGER, ref_count)                                                                       \
    F(S, INTEGER, published_us)                                                                    \
    F(S, RAW, content_hash)
#define MAP_FIELDS(S, F, V) F(S, RAW, hash)
#define MAP_REPLY_FIELDS(S, F, V)                                                                  \
    F(S, INTEGER, kind)                                                                            \
    F(S, INTEGER, body_len)                                                                        \
    F(S, INTEGER, size)                                                                            \
    F(S, INTEGER, len)                                                                             \
    F(S, INTEGER, rest_off)                                                                        \
    F(S, INTEGER, rest_len)
#define GET_MANY_FIELDS(S, F, V)       V(S, BYTES, hashes, 0)
#define GET_MANY_REPLY_FIELDS(S, F, V) F(S, INTEGER, count)
#define PUT_DATA_FIELDS(S, F, V)       F(S, INTEGER, flags) F(S, INTEGER, size) F(S, INTEGER, total_len)
#define PUT_DATA_REPLY_FIELDS(S, F, V)                                                             \
    F(S, RAW, cap_hash) F(S, INTEGER, size) F(S, INTEGER, body_len) F(S, INTEGER, is_new)
#define PUT_IMAGE_FIELDS(S, F, V) F(S, INTEGER, flags) F(S, INTEGER, total_len)
#define PUT_IMAGE_REPLY_FIELDS(S, F, V)                                                            \
    F(S, RAW, cap_hash)                                                                            \
    F(S, RAW, content_hash)                                                                        \
    F(S, INTEGER, body_len)                                                                        \
    F(S, INTEGER, is_new)                                                                          \
    F(S, INTEGER, data_new)                                                                        \
    F(S, INTEGER, data_present)
#define PUT_CAP_FIELDS(S, F, V)                                                                    \
    F(S, INTEGER, flags) F(S, INTEGER, kind) F(S, RAW, hash) F(S, INTEGER, total_len)
#define PUT_CAP_REPLY_FIELDS(S, F, V) F(S, INTEGER, is_new)
#define ERROR_FIELDS(S, F, V)                                                                      \
    F(S, INTEGER, code)                                                                            \
    V(S, TEXT, name, PROTO_NAME_MAX)                                                               \
    V(S, TEXT, message, PROTO_TEXT_MAX)                                                            \
    F(S, INTEGER, detail_len)
#define UNRESOLVED_FIELDS(S, F, V)                                                                 \
    F(S, INTEGER, table) F(S, INTEGER, kind) F(S, RAW, cap_hash) V(S, BYTES, slot, 0)

/* HELLO with the magic in front, which callers need not carry. */
struct hello_wire {
    uint8_t magic[sizeof(PROTO_MAGIC) - 1];
    struct proto_hello hello;
};

static bool kind_possible(uint8_t kind)
{
    return kind == CAP_KIND_IMAGE || kind == CAP_KIND_DATA;
}

static bool hello_possible(const void *message)
{
    const struct hello_wire *m = message;
    return memcmp(m->magic, PROTO_MAGIC, sizeof(m->magic)) == 0 && m->hello.version_min >= 1 &&
           m->hello.version_min <= m->hello.version_max;
}

static bool hello_reply_possible(const void *message)
{
    const struct proto_hello_reply *m = message;
    return m->version >= 1 && m->limits.frame >= PROTO_MESSAGE_MAX;
}

static bool has_possible(const void *message)
{
    const struct proto_has *m = message;
    return m->hashes.len % CAP_HASH_SIZE == 0;
}

static bool get_many_possible(const void *message)
{
    const struct proto_get_many *m = message;
    return m->hashes.len % CAP_HASH_SIZE == 0;
}

static bool has_reply_possible(const void *message)
{
    const struct proto_has_reply *m = message;
    for (size_t i = 0; i < m->kinds.len; i++) {
        if (m->kinds.data[i] != 0 && !kind_possible(m->kinds.data[i])) {
            return false;
        }
    }
    return true;
}

static bool any_possible(const void *message)
{
    return message != NULL;
}

static bool get_reply_possible(const void *message)
{
    const struct proto_get_reply *m = message;
    return kind_possible(m->kind) && m->offset <= m->body_len && m->len <= m->body_len - m->offset;
}

static bool stat_reply_possible(const void *message)
{
    static const struct cap_hash zero;
    const struct proto_stat_reply *m = message;
    return kind_possible(m->kind) &&
           (m->kind != CAP_KIND_DATA || cap_hash_equal(&m->content_hash, &zero));
}

static bool map_reply_possible(const void *message)
{
    const struct proto_map_reply *m = message;
    return kind_possible(m->kind) && m->rest_off <= m->len && m->rest_len <= m->len - m->rest_off &&
           (m->kind == CAP_KIND_DATA ? m->rest_off == 0 && m->rest_len == 0
                                     : m->size <= m->rest_off);
}

static bool put_data_possible(const void *message)
{
    const struct proto_put_data *m = message;
    return m->flags == 0 || (m->flags == PROTO_PUT_CANONICAL && m->size == 0);
}

static bool put_data_reply_possible(const void *message)
{
    const struct proto_put_data_reply *m = message;
    return m->is_new <= 1;
}

static bool put_image_possible(const void *message)
{
    const struct proto_put_image *m = message;
    return (m->flags & ~PROTO_IMAGE_FLAGS) == 0;
}

static bool put_image_reply_possible(const void *message)
{
    const struct proto_put_image_reply *m = message;
    return m->is_new <= 1;
}

static bool put_cap_possible(const void *message)
{
    const struct proto_put_cap *m = message;
    return m->flags == 0 && kind_possible(m->kind);
}

static bool put_cap_reply_possible(const void *message)
{
    const struct proto_put_cap_reply *m = message;
    return m->is_new <= 1;
}

static bool error_possible(const void *message)
{
    const struct proto_error *m = message;
    return m->code != 0;
}

static bool unresolved_possible(const void *message)
{
    const struct proto_unresolved *m = message;
    bool either = m->table == CAP_TABLE_PINNED && m->kind == 0;
    return m->table <= CAP_TABLE_INITIAL && (kind_possible(m->kind) || either);
}

#define FIXED_FIELD(S, KIND, member)                                                               \
    {FIELD_##KIND, offsetof(S, member), sizeof(((S *)NULL)->member), 0},
#define VARIABLE_FIELD(S, KIND, member, limit)                                                     \
    {FIELD_##KIND, offsetof(S, member), CAP_SSZ_VARIABLE, limit},
#define FIXED_SIZE(S, KIND, member)           +sizeof(((S *)NULL)->member)
#define VARIABLE_SIZE(S, KIND, member, limit) +CAP_SSZ_OFFSET_SIZE

/* The field table and layout of a message, its fixed size pinned to the document's figure. */
#define LAYOUT(name, FIELDS, S, documented_size, possible_values)                                  \
    static const struct field name##_fields[] = {FIELDS(S, FIXED_FIELD, VARIABLE_FIELD)};          \
    _Static_assert((0 FIELDS(S, FIXED_SIZE, VARIABLE_SIZE)) == (documented_size),                  \
                   #name " is not as PROTOCOL.md section 4 says");                                 \
    _Static_assert(sizeof(name##_fields) / sizeof(*name##_fields) <= MAX_FIELDS, #name);           \
    static const struct layout name##_layout = {name##_fields,                                     \
                                                sizeof(name##_fields) / sizeof(*name##_fields),    \
                                                (documented_size), sizeof(S), possible_values};

LAYOUT(hello, HELLO_FIELDS, struct hello_wire, 16, hello_possible)
LAYOUT(hello_features, HELLO_FEATURES_FIELDS, struct hello_wire, 24, hello_possible)
LAYOUT(hello_reply, HELLO_REPLY_FIELDS, struct proto_hello_reply, 66, hello_reply_possible)
LAYOUT(hello_reply_features, HELLO_REPLY_FEATURES_FIELDS, struct proto_hello_reply, 74,
       hello_reply_possible)
LAYOUT(has, HAS_FIELDS, struct proto_has, 4, has_possible)
LAYOUT(has_reply, HAS_REPLY_FIELDS, struct proto_has_reply, 4, has_reply_possible)
LAYOUT(get, GET_FIELDS, struct proto_get, 48, any_possible)
LAYOUT(get_reply, GET_REPLY_FIELDS, struct proto_get_reply, 25, get_reply_possible)
LAYOUT(stat, STAT_FIELDS, struct proto_stat, 32, any_possible)
LAYOUT(stat_reply, STAT_REPLY_FIELDS, struct proto_stat_reply, 73, stat_reply_possible)
LAYOUT(map, MAP_FIELDS, struct proto_map, 32, any_possible)
LAYOUT(map_reply, MAP_REPLY_FIELDS, struct proto_map_reply, 41, map_reply_possible)
LAYOUT(get_many, GET_MANY_FIELDS, struct proto_get_many, 4, get_many_possible)
LAYOUT(get_many_reply, GET_MANY_REPLY_FIELDS, struct proto_get_many_reply, 4, any_possible)
LAYOUT(put_data, PUT_DATA_FIELDS, struct proto_put_data, 17, put_data_possible)
LAYOUT(put_data_reply, PUT_DATA_REPLY_FIELDS, struct proto_put_data_reply, 49,
       put_data_reply_possible)
LAYOUT(put_image, PUT_IMAGE_FIELDS, struct proto_put_image, 9, put_image_possible)
LAYOUT(put_image_reply, PUT_IMAGE_REPLY_FIELDS, struct proto_put_image_reply, 81,
       put_image_reply_possible)
LAYOUT(put_cap, PUT_CAP_FIELDS, struct proto_put_cap, 42, put_cap_possible)
LAYOUT(put_cap_reply, PUT_CAP_REPLY_FIELDS, struct proto_put_cap_reply, 1, put_cap_reply_possible)
LAYOUT(error, ERROR_FIELDS, struct proto_error, 18, error_possible)
LAYOUT(unresolved, UNRESOLVED_FIELDS, struct proto_unresolved, 38, unresolved_possible)

/* Room for any message while it is decoded, so that a failure leaves the caller's untouched. */
union any_message {
    struct hello_wire hello;
    struct proto_hello_reply hello_reply;
    struct proto_has has;
    struct proto_has_reply has_reply;
    struct proto_get get;
    struct proto_get_reply get_reply;
    struct proto_stat stat;
    struct proto_stat_reply stat_reply;
    struct proto_map map;
    struct proto_map_reply map_reply;
    struct proto_get_many get_many;
    struct proto_get_many_reply get_many_reply;
    struct proto_put_data put_data;
    struct proto_put_data_reply put_data_reply;
    struct proto_put_cap put_cap;
    struct proto_put_cap_reply put_cap_reply;
    struct proto_put_image put_image;
    struct proto_put_image_reply put_image_reply;
    struct proto_error error;
    struct proto_unresolved unresolved;
};

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

static struct cap_bytes member_span(const struct field *field, const uint8_t *message)
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

static void write_span(uint8_t *out, const struct field *field, struct cap_bytes span)
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

static uint64_t encoded_len(const struct layout *layout, const void *message)
{
    uint64_t len = layout->fixed_size;
    for (size_t i = 0; i < layout->count; i++) {
        if (layout->fields[i].size == CAP_SSZ_VARIABLE) {
            len += member_span(&layout->fields[i], message).len;
        }
    }
    return len;
}

/* Writes a message that is possible to `out`, which has room for its encoded_len. */
static void write_fields(const struct layout *layout, const uint8_t *message, uint8_t *out)
{
    uint8_t *fixed = out;
    size_t end = layout->fixed_size;
    for (size_t i = 0; i < layout->count; i++) {
        const struct field *field = &layout->fields[i];
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
    expect(end == encoded_len(layout, message));
}

static enum cap_error encode(const struct layout *layout, const void *message, uint64_t max_len,
                             struct cap_buf *buf)
{
    if (!layout->possible(message)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    uint64_t len = encoded_len(layout, message);
    if (len > max_len) {
        return CAP_E_MESSAGE_TOO_LARGE;
    }
    enum cap_error error = cap_buf_reserve(buf, (size_t)len);
    if (error != CAP_OK) {
        return error;
    }
    write_fields(layout, message, buf->data + buf->len);
    buf->len += (size_t)len;
    return CAP_OK;
}

static bool text_possible(const struct field *field, struct cap_bytes span)
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
static bool read_field(const struct field *field, struct cap_bytes span, uint8_t *message)
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

static enum cap_error decode(const struct layout *layout, struct cap_bytes in, void *ret_message)
{
    size_t sizes[MAX_FIELDS];
    struct cap_bytes spans[MAX_FIELDS];
    union any_message message;
    uint8_t *bytes = (uint8_t *)&message;

    for (size_t i = 0; i < layout->count; i++) {
        sizes[i] = layout->fields[i].size;
    }
    if (cap_ssz_container(in, in.len, sizes, layout->count, spans) != CAP_OK) {
        return CAP_E_BAD_MESSAGE;
    }
    memset(&message, 0, sizeof(message));
    for (size_t i = 0; i < layout->count; i++) {
        if (!read_field(&layout->fields[i], spans[i], bytes)) {
            return CAP_E_BAD_MESSAGE;
        }
    }
    if (!layout->possible(&message)) {
        return CAP_E_BAD_MESSAGE;
    }
    memcpy(ret_message, &message, layout->struct_size);
    return CAP_OK;
}

#define ENCODER(name)                                                                              \
    enum cap_error proto_##name##_encode(const struct proto_##name *m, struct cap_buf *buf)        \
    {                                                                                              \
        return encode(&name##_layout, m, PROTO_FRAME_MAX, buf);                                    \
    }
#define DECODER(name)                                                                              \
    enum cap_error proto_##name##_decode(struct cap_bytes in, struct proto_##name *ret)            \
    {                                                                                              \
        return decode(&name##_layout, in, ret);                                                    \
    }

ENCODER(has_reply)
DECODER(has_reply)
ENCODER(get)
DECODER(get)
ENCODER(get_reply)
DECODER(get_reply)
ENCODER(stat)
DECODER(stat)
ENCODER(stat_reply)
DECODER(stat_reply)
ENCODER(map)
DECODER(map)
ENCODER(map_reply)
DECODER(map_reply)
ENCODER(put_data)
DECODER(put_data)
ENCODER(get_many_reply)
DECODER(get_many_reply)
ENCODER(put_data_reply)
DECODER(put_data_reply)
ENCODER(put_image)
DECODER(put_image)
ENCODER(put_image_reply)
DECODER(put_image_reply)
ENCODER(put_cap)
DECODER(put_cap)
ENCODER(put_cap_reply)
DECODER(put_cap_reply)
ENCODER(error)
DECODER(error)

/*
 * HELLO and HELLO_REPLY have a short form that ends with `agent`, and one with `features` behind.
 * What tells them apart is where `agent` begins: its offset, at the end of the short form's fixed
 * part, is that part's size in one and more in the other.
 */
static bool is_short_form(const struct layout *short_form, struct cap_bytes in)
{
    size_t end = short_form->fixed_size;
    return in.len >= end && cap_load32(in.data + end - CAP_SSZ_OFFSET_SIZE) == end;
}

enum cap_error proto_hello_encode(const struct proto_hello *m, struct cap_buf *buf)
{
    struct hello_wire wire = {.hello = *m};
    memcpy(wire.magic, PROTO_MAGIC, sizeof(wire.magic));
    return encode(m->has_features ? &hello_features_layout : &hello_layout, &wire, PROTO_FRAME_MAX,
                  buf);
}

enum cap_error proto_hello_decode(struct cap_bytes in, struct proto_hello *ret)
{
    struct hello_wire wire;
    bool has_features = !is_short_form(&hello_layout, in);
    enum cap_error error = decode(has_features ? &hello_features_layout : &hello_layout, in, &wire);
    if (error == CAP_OK) {
        *ret = wire.hello;
        ret->has_features = has_features;
    }
    return error;
}

enum cap_error proto_hello_reply_encode(const struct proto_hello_reply *m, struct cap_buf *buf)
{
    return encode(m->has_features ? &hello_reply_features_layout : &hello_reply_layout, m,
                  PROTO_FRAME_MAX, buf);
}

enum cap_error proto_hello_reply_decode(struct cap_bytes in, struct proto_hello_reply *ret)
{
    bool has_features = !is_short_form(&hello_reply_layout, in);
    enum cap_error error =
        decode(has_features ? &hello_reply_features_layout : &hello_reply_layout, in, ret);
    if (error == CAP_OK) {
        ret->has_features = has_features;
    }
    return error;
}

uint8_t proto_unknown_flags(uint8_t type, struct cap_bytes payload)
{
    if (type == PROTO_PUT_DATA && payload.len == put_data_layout.fixed_size) {
        return (uint8_t)(payload.data[0] & ~PROTO_PUT_CANONICAL);
    }
    if (type == PROTO_PUT_IMAGE && payload.len == put_image_layout.fixed_size) {
        return (uint8_t)(payload.data[0] & ~PROTO_IMAGE_FLAGS);
    }
    if (type == PROTO_PUT_CAP && payload.len == put_cap_layout.fixed_size) {
        return payload.data[0];
    }
    return 0;
}

enum cap_error proto_has_encode(const struct proto_has *m, struct cap_buf *buf)
{
    if (m->hashes.len / CAP_HASH_SIZE != m->count) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return encode(&has_layout, m, PROTO_FRAME_MAX, buf);
}

enum cap_error proto_has_decode(struct cap_bytes in, struct proto_has *ret)
{
    enum cap_error error = decode(&has_layout, in, ret);
    if (error == CAP_OK) {
        ret->count = ret->hashes.len / CAP_HASH_SIZE;
    }
    return error;
}

enum cap_error proto_get_many_encode(const struct proto_get_many *m, struct cap_buf *buf)
{
    if (m->hashes.len / CAP_HASH_SIZE != m->count) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return encode(&get_many_layout, m, PROTO_FRAME_MAX, buf);
}

enum cap_error proto_get_many_decode(struct cap_bytes in, struct proto_get_many *ret)
{
    enum cap_error error = decode(&get_many_layout, in, ret);
    if (error == CAP_OK) {
        ret->count = ret->hashes.len / CAP_HASH_SIZE;
    }
    return error;
}

/* Length of the encoded list, or the error that encoding it would meet. */
static enum cap_error unresolved_len(const struct proto_unresolved *slots, size_t count,
                                     uint64_t *ret_len)
{
    uint64_t len = (uint64_t)count * CAP_SSZ_OFFSET_SIZE;
    for (size_t i = 0; i < count; i++) {
        if (!unresolved_possible(&slots[i])) {
            return CAP_E_INVALID_ARGUMENT;
        }
        len += encoded_len(&unresolved_layout, &slots[i]);
        if (len > UINT32_MAX) {
            return CAP_E_MESSAGE_TOO_LARGE;
        }
    }
    *ret_len = len;
    return CAP_OK;
}

enum cap_error proto_unresolved_encode(const struct proto_unresolved *slots, size_t count,
                                       struct cap_buf *buf)
{
    uint64_t len;
    enum cap_error error = unresolved_len(slots, count, &len);
    if (error == CAP_OK) {
        error = cap_buf_reserve(buf, (size_t)len);
    }
    if (error != CAP_OK || count == 0) {
        return error;
    }

    uint8_t *list = buf->data + buf->len;
    size_t end = count * CAP_SSZ_OFFSET_SIZE;
    for (size_t i = 0; i < count; i++) {
        cap_store32(list + i * CAP_SSZ_OFFSET_SIZE, (uint32_t)end);
        write_fields(&unresolved_layout, (const uint8_t *)&slots[i], list + end);
        end += (size_t)encoded_len(&unresolved_layout, &slots[i]);
    }
    must(end == len);
    buf->len += end;
    return CAP_OK;
}

enum cap_error proto_unresolved_decode(struct cap_bytes in, struct cap_ssz_list *ret_list)
{
    struct cap_ssz_list list;
    struct proto_unresolved slot;
    if (cap_ssz_list(in, &list) != CAP_OK) {
        return CAP_E_BAD_MESSAGE;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (decode(&unresolved_layout, cap_ssz_list_at(&list, i), &slot) != CAP_OK) {
            return CAP_E_BAD_MESSAGE;
        }
    }
    *ret_list = list;
    return CAP_OK;
}

void proto_unresolved_at(const struct cap_ssz_list *list, size_t index,
                         struct proto_unresolved *ret)
{
    /* proto_unresolved_decode has accepted every entry, so this cannot fail. */
    (void)decode(&unresolved_layout, cap_ssz_list_at(list, index), ret);
}
