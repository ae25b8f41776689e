/*
 * Messages as tables of fields, from which one encoder and one decoder work. Internal to proto.
 *
 * The wire size of a fixed field is the size of its member, so a table also gives its message's
 * fixed size at compile time; LAYOUT pins it to the document's figure.
 */
#ifndef PROTO_LAYOUT_H
#define PROTO_LAYOUT_H

#include "lib/cap/ssz.h"

enum proto_field_kind {
    FIELD_INTEGER, /* of 1, 2, 4 or 8 bytes */
    FIELD_RAW,     /* bytes as they are: hashes, identifiers */
    FIELD_BYTES,   /* variable: any bytes */
    FIELD_TEXT,    /* variable: printable ASCII, bounded */
};

struct proto_field {
    enum proto_field_kind kind;
    size_t at;   /* offset of the member */
    size_t size; /* of the member when fixed, CAP_SSZ_VARIABLE otherwise */
    size_t max;  /* of a text, in bytes */
};

struct proto_layout {
    const struct proto_field *fields;
    size_t count;
    size_t fixed_size; /* of the encoding's fixed part */
    size_t struct_size;
    bool (*possible)(const void *message);
};

#define PROTO_FIELDS_MAX 12
#define PROTO_LAYOUT_MAX 128u /* bytes of the largest struct */

#define FIXED_FIELD(S, KIND, member)                                                               \
    {FIELD_##KIND, offsetof(S, member), sizeof(((S *)NULL)->member), 0},
#define VARIABLE_FIELD(S, KIND, member, limit)                                                     \
    {FIELD_##KIND, offsetof(S, member), CAP_SSZ_VARIABLE, limit},
#define FIXED_SIZE(S, KIND, member)           +sizeof(((S *)NULL)->member)
#define VARIABLE_SIZE(S, KIND, member, limit) +CAP_SSZ_OFFSET_SIZE

/* The field table and layout of a message, its fixed size pinned to the document's figure. */
#define LAYOUT(name, FIELDS, S, documented_size, possible_values)                                  \
    static const struct proto_field name##_fields[] = {FIELDS(S, FIXED_FIELD, VARIABLE_FIELD)};    \
    _Static_assert((0 FIELDS(S, FIXED_SIZE, VARIABLE_SIZE)) == (documented_size),                  \
                   #name " is not as PROTOCOL.md section 4 says");                                 \
    _Static_assert(sizeof(name##_fields) / sizeof(*name##_fields) <= PROTO_FIELDS_MAX, #name);     \
    _Static_assert(sizeof(S) <= PROTO_LAYOUT_MAX, #name);                                          \
    static const struct proto_layout name##_layout = {                                             \
        name##_fields, sizeof(name##_fields) / sizeof(*name##_fields), (documented_size),          \
        sizeof(S), possible_values};

/* The length of the encoding of a message. */
uint64_t proto_encoded_len(const struct proto_layout *layout, const void *message);

/* Writes a message that is possible to `out`, which has room for its proto_encoded_len. */
void proto_write(const struct proto_layout *layout, const void *from, uint8_t *out);

/*
 * Appends the encoding of a message. CAP_E_INVALID_ARGUMENT for one that is not possible,
 * CAP_E_MESSAGE_TOO_LARGE for more than `max_len` bytes, CAP_E_NO_MEMORY.
 */
enum cap_error proto_encode(const struct proto_layout *layout, const void *message,
                            uint64_t max_len, struct cap_buf *buf);

/* Reads a message into its struct, which is untouched on failure. CAP_E_BAD_MESSAGE. */
enum cap_error proto_decode(const struct proto_layout *layout, struct cap_bytes in,
                            void *ret_message);

#endif
