/*
 * Messages as data: each is a table of fields in the order of PROTOCOL.md section 4, and a function
 * that says which values are possible.
 */
#include "proto/message.h"

#include "lib/cap/must.h"
#include "lib/cap/wire_image.h"
#include "proto/layout.h"

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
#define HAS_KEEP_FIELDS(S, F, V)             F(S, INTEGER, keep_s) HAS_FIELDS(S, F, V)
#define HAS_REPLY_FIELDS(S, F, V)            V(S, BYTES, kinds, 0)
#define HAS_REPLY_KEEP_FIELDS(S, F, V)       HAS_REPLY_FIELDS(S, F, V) V(S, BYTES, kept_s, 0)
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
#define PUT_DATA_KEEP_FIELDS(S, F, V)  PUT_DATA_FIELDS(S, F, V) F(S, INTEGER, keep_s)
#define PUT_DATA_REPLY_FIELDS(S, F, V)                                                             \
    F(S, RAW, cap_hash) F(S, INTEGER, size) F(S, INTEGER, body_len) F(S, INTEGER, is_new)
#define PUT_DATA_REPLY_KEEP_FIELDS(S, F, V) PUT_DATA_REPLY_FIELDS(S, F, V) F(S, INTEGER, kept_s)
#define PUT_IMAGE_FIELDS(S, F, V)           F(S, INTEGER, flags) F(S, INTEGER, total_len)
#define PUT_IMAGE_KEEP_FIELDS(S, F, V)      PUT_IMAGE_FIELDS(S, F, V) F(S, INTEGER, keep_s)
#define PUT_IMAGE_REPLY_FIELDS(S, F, V)                                                            \
    F(S, RAW, cap_hash)                                                                            \
    F(S, RAW, content_hash)                                                                        \
    F(S, INTEGER, body_len)                                                                        \
    F(S, INTEGER, is_new)                                                                          \
    F(S, INTEGER, data_new)                                                                        \
    F(S, INTEGER, data_present)
#define PUT_IMAGE_REPLY_KEEP_FIELDS(S, F, V) PUT_IMAGE_REPLY_FIELDS(S, F, V) F(S, INTEGER, kept_s)
#define PUT_CAP_FIELDS(S, F, V)                                                                    \
    F(S, INTEGER, flags) F(S, INTEGER, kind) F(S, RAW, hash) F(S, INTEGER, total_len)
#define PUT_CAP_KEEP_FIELDS(S, F, V)       PUT_CAP_FIELDS(S, F, V) F(S, INTEGER, keep_s)
#define PUT_CAP_REPLY_FIELDS(S, F, V)      F(S, INTEGER, is_new)
#define PUT_CAP_REPLY_KEEP_FIELDS(S, F, V) PUT_CAP_REPLY_FIELDS(S, F, V) F(S, INTEGER, kept_s)
#define RESUME_FORM(S, F, V)               F(S, RAW, token) F(S, INTEGER, offset)
#define PUT_DATA_RESUME_FIELDS(S, F, V)    PUT_DATA_KEEP_FIELDS(S, F, V) RESUME_FORM(S, F, V)
#define PUT_IMAGE_RESUME_FIELDS(S, F, V)   PUT_IMAGE_KEEP_FIELDS(S, F, V) RESUME_FORM(S, F, V)
#define PUT_CAP_RESUME_FIELDS(S, F, V)     PUT_CAP_KEEP_FIELDS(S, F, V) RESUME_FORM(S, F, V)
#define SLICE_FIELDS(S, F, V)              F(S, RAW, hash) V(S, BYTES, ranges, 0)
#define SLICE_REPLY_FIELDS(S, F, V)        F(S, INTEGER, kind) F(S, INTEGER, body_len) F(S, INTEGER, size)
#define CLOSURE_FIELDS(S, F, V)            F(S, INTEGER, flags) V(S, BYTES, roots, 0) V(S, BYTES, have, 0)
#define CLOSURE_REPLY_FIELDS(S, F, V)      F(S, INTEGER, max)
#define RESUME_FIELDS(S, F, V)             F(S, RAW, token)
#define RESUME_REPLY_FIELDS(S, F, V)       F(S, INTEGER, total_len) F(S, INTEGER, offset)
#define ERROR_FIELDS(S, F, V)                                                                      \
    F(S, INTEGER, code)                                                                            \
    V(S, TEXT, name, PROTO_NAME_MAX)                                                               \
    V(S, TEXT, message, PROTO_TEXT_MAX)                                                            \
    F(S, INTEGER, detail_len)
#define UNRESOLVED_FIELDS(S, F, V)                                                                 \
    F(S, INTEGER, table) F(S, INTEGER, kind) F(S, RAW, cap_hash) V(S, BYTES, slot, 0)
#define SHORTAGE_FIELDS(S, F, V)                                                                   \
    F(S, INTEGER, need) F(S, INTEGER, have) V(S, TEXT, limit, PROTO_NAME_MAX)

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

static bool has_reply_keep_possible(const void *message)
{
    const struct proto_has_reply *m = message;
    if (m->kept_s.len != m->kinds.len * sizeof(uint32_t) || !has_reply_possible(m)) {
        return false;
    }
    for (size_t i = 0; i < m->kinds.len; i++) {
        if (m->kinds.data[i] == 0 && proto_kept_s(m, i) != 0) {
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

static uint64_t range_at(const struct proto_slice *m, size_t index, size_t at)
{
    return cap_load64(m->ranges.data + index * PROTO_RANGE_SIZE + at);
}

static bool slice_possible(const void *message)
{
    const struct proto_slice *m = message;
    size_t count = m->ranges.len / PROTO_RANGE_SIZE;
    uint64_t end = 0;
    if (m->ranges.len % PROTO_RANGE_SIZE != 0 || count > PROTO_SLICE_RANGES_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t first = range_at(m, i, 0), pages = range_at(m, i, sizeof(uint64_t));
        if (pages == 0 || pages > UINT64_MAX - first || (i > 0 && first <= end)) {
            return false;
        }
        end = first + pages;
    }
    return true;
}

static bool slice_reply_possible(const void *message)
{
    const struct proto_slice_reply *m = message;
    return kind_possible(m->kind);
}

static bool closure_possible(const void *message)
{
    const struct proto_closure *m = message;
    return (m->flags & ~PROTO_CLOSURE_LIST) == 0 && m->roots.len % CAP_HASH_SIZE == 0 &&
           m->have.len % CAP_HASH_SIZE == 0;
}

static bool is_token(const uint8_t token[PROTO_TOKEN_SIZE])
{
    static const uint8_t none[PROTO_TOKEN_SIZE];
    return memcmp(token, none, PROTO_TOKEN_SIZE) != 0;
}

static bool resume_possible(const void *message)
{
    const struct proto_resume *m = message;
    return is_token(m->token);
}

static bool resume_reply_possible(const void *message)
{
    const struct proto_resume_reply *m = message;
    return m->offset <= m->total_len;
}

/* Only what has a token goes on. */
static bool place_possible(const uint8_t token[PROTO_TOKEN_SIZE], uint64_t offset,
                           uint64_t total_len)
{
    return offset <= total_len && (offset == 0 || is_token(token));
}

static bool put_data_possible(const void *message)
{
    const struct proto_put_data *m = message;
    return (m->flags == 0 || (m->flags == PROTO_PUT_CANONICAL && m->size == 0)) &&
           place_possible(m->token, m->offset, m->total_len);
}

static bool put_data_reply_possible(const void *message)
{
    const struct proto_put_data_reply *m = message;
    return m->is_new <= 1;
}

static bool put_image_possible(const void *message)
{
    const struct proto_put_image *m = message;
    return (m->flags & ~PROTO_IMAGE_FLAGS) == 0 &&
           place_possible(m->token, m->offset, m->total_len);
}

static bool put_image_reply_possible(const void *message)
{
    const struct proto_put_image_reply *m = message;
    return m->is_new <= 1;
}

static bool put_cap_possible(const void *message)
{
    const struct proto_put_cap *m = message;
    return m->flags == 0 && kind_possible(m->kind) &&
           place_possible(m->token, m->offset, m->total_len);
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

static bool shortage_possible(const void *message)
{
    const struct proto_shortage *m = message;
    return m->need > m->have;
}

LAYOUT(hello, HELLO_FIELDS, struct hello_wire, 16, hello_possible)
LAYOUT(hello_features, HELLO_FEATURES_FIELDS, struct hello_wire, 24, hello_possible)
LAYOUT(hello_reply, HELLO_REPLY_FIELDS, struct proto_hello_reply, 66, hello_reply_possible)
LAYOUT(hello_reply_features, HELLO_REPLY_FEATURES_FIELDS, struct proto_hello_reply, 74,
       hello_reply_possible)
LAYOUT(has, HAS_FIELDS, struct proto_has, 4, has_possible)
LAYOUT(has_reply, HAS_REPLY_FIELDS, struct proto_has_reply, 4, has_reply_possible)
LAYOUT(has_keep, HAS_KEEP_FIELDS, struct proto_has, 8, has_possible)
LAYOUT(has_reply_keep, HAS_REPLY_KEEP_FIELDS, struct proto_has_reply, 8, has_reply_keep_possible)
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
LAYOUT(put_data_keep, PUT_DATA_KEEP_FIELDS, struct proto_put_data, 21, put_data_possible)
LAYOUT(put_data_reply_keep, PUT_DATA_REPLY_KEEP_FIELDS, struct proto_put_data_reply, 53,
       put_data_reply_possible)
LAYOUT(put_image_keep, PUT_IMAGE_KEEP_FIELDS, struct proto_put_image, 13, put_image_possible)
LAYOUT(put_image_reply_keep, PUT_IMAGE_REPLY_KEEP_FIELDS, struct proto_put_image_reply, 85,
       put_image_reply_possible)
LAYOUT(put_cap_keep, PUT_CAP_KEEP_FIELDS, struct proto_put_cap, 46, put_cap_possible)
LAYOUT(put_cap_reply_keep, PUT_CAP_REPLY_KEEP_FIELDS, struct proto_put_cap_reply, 5,
       put_cap_reply_possible)
LAYOUT(put_data_resume, PUT_DATA_RESUME_FIELDS, struct proto_put_data, 45, put_data_possible)
LAYOUT(put_image_resume, PUT_IMAGE_RESUME_FIELDS, struct proto_put_image, 37, put_image_possible)
LAYOUT(put_cap_resume, PUT_CAP_RESUME_FIELDS, struct proto_put_cap, PROTO_UPLOAD_MAX,
       put_cap_possible)
LAYOUT(slice, SLICE_FIELDS, struct proto_slice, 36, slice_possible)
LAYOUT(slice_reply, SLICE_REPLY_FIELDS, struct proto_slice_reply, 17, slice_reply_possible)
LAYOUT(closure, CLOSURE_FIELDS, struct proto_closure, 9, closure_possible)
LAYOUT(closure_reply, CLOSURE_REPLY_FIELDS, struct proto_closure_reply, 4, any_possible)
LAYOUT(resume, RESUME_FIELDS, struct proto_resume, 16, resume_possible)
LAYOUT(resume_reply, RESUME_REPLY_FIELDS, struct proto_resume_reply, 16, resume_reply_possible)
LAYOUT(error, ERROR_FIELDS, struct proto_error, 18, error_possible)
LAYOUT(unresolved, UNRESOLVED_FIELDS, struct proto_unresolved, 38, unresolved_possible)
LAYOUT(shortage, SHORTAGE_FIELDS, struct proto_shortage, 20, shortage_possible)

#define ENCODER(name)                                                                              \
    enum cap_error proto_##name##_encode(const struct proto_##name *m, struct cap_buf *buf)        \
    {                                                                                              \
        return proto_encode(&name##_layout, m, PROTO_FRAME_MAX, buf);                              \
    }
#define DECODER(name)                                                                              \
    enum cap_error proto_##name##_decode(struct cap_bytes in, struct proto_##name *ret)            \
    {                                                                                              \
        return proto_decode(&name##_layout, in, ret);                                              \
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
ENCODER(slice_reply)
DECODER(slice_reply)
ENCODER(closure)
DECODER(closure)
ENCODER(closure_reply)
DECODER(closure_reply)
ENCODER(resume)
DECODER(resume)
ENCODER(resume_reply)
DECODER(resume_reply)
ENCODER(error)
DECODER(error)
ENCODER(shortage)
DECODER(shortage)

/* The forms of a connection with leases, and of one whose uploads go on, of the same values. */
#define CODEC_FORM(name, form)                                                                     \
    enum cap_error proto_##name##_##form##_encode(const struct proto_##name *m,                    \
                                                  struct cap_buf *buf)                             \
    {                                                                                              \
        return proto_encode(&name##_##form##_layout, m, PROTO_FRAME_MAX, buf);                     \
    }                                                                                              \
    enum cap_error proto_##name##_##form##_decode(struct cap_bytes in, struct proto_##name *ret)   \
    {                                                                                              \
        return proto_decode(&name##_##form##_layout, in, ret);                                     \
    }

CODEC_FORM(has_reply, keep)
CODEC_FORM(put_data, keep)
CODEC_FORM(put_data_reply, keep)
CODEC_FORM(put_image, keep)
CODEC_FORM(put_image_reply, keep)
CODEC_FORM(put_cap, keep)
CODEC_FORM(put_cap_reply, keep)
CODEC_FORM(put_data, resume)
CODEC_FORM(put_image, resume)
CODEC_FORM(put_cap, resume)

/*
 * HELLO and HELLO_REPLY have a short form that ends with `agent`, and one with `features` behind.
 * What tells them apart is where `agent` begins: its offset, at the end of the short form's fixed
 * part, is that part's size in one and more in the other.
 */
static bool is_short_form(const struct proto_layout *short_form, struct cap_bytes in)
{
    size_t end = short_form->fixed_size;
    return in.len >= end && cap_load32(in.data + end - CAP_SSZ_OFFSET_SIZE) == end;
}

enum cap_error proto_hello_encode(const struct proto_hello *m, struct cap_buf *buf)
{
    struct hello_wire wire = {.hello = *m};
    memcpy(wire.magic, PROTO_MAGIC, sizeof(wire.magic));
    return proto_encode(m->has_features ? &hello_features_layout : &hello_layout, &wire,
                        PROTO_FRAME_MAX, buf);
}

enum cap_error proto_hello_decode(struct cap_bytes in, struct proto_hello *ret)
{
    struct hello_wire wire;
    bool has_features = !is_short_form(&hello_layout, in);
    enum cap_error error =
        proto_decode(has_features ? &hello_features_layout : &hello_layout, in, &wire);
    if (error == CAP_OK) {
        *ret = wire.hello;
        ret->has_features = has_features;
    }
    return error;
}

enum cap_error proto_hello_reply_encode(const struct proto_hello_reply *m, struct cap_buf *buf)
{
    return proto_encode(m->has_features ? &hello_reply_features_layout : &hello_reply_layout, m,
                        PROTO_FRAME_MAX, buf);
}

enum cap_error proto_hello_reply_decode(struct cap_bytes in, struct proto_hello_reply *ret)
{
    bool has_features = !is_short_form(&hello_reply_layout, in);
    enum cap_error error =
        proto_decode(has_features ? &hello_reply_features_layout : &hello_reply_layout, in, ret);
    if (error == CAP_OK) {
        ret->has_features = has_features;
    }
    return error;
}

uint8_t proto_unknown_flags(uint8_t type, struct cap_bytes payload, uint64_t features)
{
    size_t more = (features & PROTO_FEATURE_KEEP) != 0 ? sizeof(uint32_t) : 0;
    if ((features & PROTO_FEATURE_RESUME) != 0) {
        more += PROTO_TOKEN_SIZE + sizeof(uint64_t);
    }
    if (type == PROTO_PUT_DATA && payload.len == put_data_layout.fixed_size + more) {
        return (uint8_t)(payload.data[0] & ~PROTO_PUT_CANONICAL);
    }
    if (type == PROTO_PUT_IMAGE && payload.len == put_image_layout.fixed_size + more) {
        return (uint8_t)(payload.data[0] & ~PROTO_IMAGE_FLAGS);
    }
    if (type == PROTO_PUT_CAP && payload.len == put_cap_layout.fixed_size + more) {
        return payload.data[0];
    }
    return 0;
}

static enum cap_error encode_has(const struct proto_layout *layout, const struct proto_has *m,
                                 struct cap_buf *buf)
{
    if (m->hashes.len / CAP_HASH_SIZE != m->count) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return proto_encode(layout, m, PROTO_FRAME_MAX, buf);
}

static enum cap_error decode_has(const struct proto_layout *layout, struct cap_bytes in,
                                 struct proto_has *ret)
{
    enum cap_error error = proto_decode(layout, in, ret);
    if (error == CAP_OK) {
        ret->count = ret->hashes.len / CAP_HASH_SIZE;
    }
    return error;
}

enum cap_error proto_has_encode(const struct proto_has *m, struct cap_buf *buf)
{
    return encode_has(&has_layout, m, buf);
}

enum cap_error proto_has_decode(struct cap_bytes in, struct proto_has *ret)
{
    return decode_has(&has_layout, in, ret);
}

enum cap_error proto_has_keep_encode(const struct proto_has *m, struct cap_buf *buf)
{
    return encode_has(&has_keep_layout, m, buf);
}

enum cap_error proto_has_keep_decode(struct cap_bytes in, struct proto_has *ret)
{
    return decode_has(&has_keep_layout, in, ret);
}

enum cap_error proto_get_many_encode(const struct proto_get_many *m, struct cap_buf *buf)
{
    if (m->hashes.len / CAP_HASH_SIZE != m->count) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return proto_encode(&get_many_layout, m, PROTO_FRAME_MAX, buf);
}

enum cap_error proto_get_many_decode(struct cap_bytes in, struct proto_get_many *ret)
{
    enum cap_error error = proto_decode(&get_many_layout, in, ret);
    if (error == CAP_OK) {
        ret->count = ret->hashes.len / CAP_HASH_SIZE;
    }
    return error;
}

enum cap_error proto_slice_encode(const struct proto_slice *m, struct cap_buf *buf)
{
    if (m->ranges.len / PROTO_RANGE_SIZE != m->count) {
        return CAP_E_INVALID_ARGUMENT;
    }
    return proto_encode(&slice_layout, m, PROTO_FRAME_MAX, buf);
}

enum cap_error proto_slice_decode(struct cap_bytes in, struct proto_slice *ret)
{
    enum cap_error error = proto_decode(&slice_layout, in, ret);
    if (error == CAP_OK) {
        ret->count = ret->ranges.len / PROTO_RANGE_SIZE;
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
        len += proto_encoded_len(&unresolved_layout, &slots[i]);
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
        proto_write(&unresolved_layout, &slots[i], list + end);
        end += (size_t)proto_encoded_len(&unresolved_layout, &slots[i]);
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
        if (proto_decode(&unresolved_layout, cap_ssz_list_at(&list, i), &slot) != CAP_OK) {
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
    (void)proto_decode(&unresolved_layout, cap_ssz_list_at(list, index), ret);
}

bool proto_is_shortage(enum cap_error error)
{
    return error == CAP_E_DISK_FULL || error == CAP_E_MAP_FULL || error == CAP_E_QUOTA_EXCEEDED;
}
