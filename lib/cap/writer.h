/*
 * An SSZ writer with a memory: the first failure sticks, and what follows it does nothing. So an
 * encoder is a straight line of fields, and asks once, at its end, whether all went well.
 */
#ifndef LIB_CAP_WRITER_H
#define LIB_CAP_WRITER_H

#include "lib/cap/bytes.h"

/* Zero-initialised it is empty. Whoever made it frees `buf` with cap_buf_free. */
struct cap_writer {
    struct cap_buf buf;
    enum cap_error error; /* CAP_OK, CAP_E_NO_MEMORY or CAP_E_BODY_TOO_LARGE */
};

/* Appends a copy of bytes, which are not inside of the writer. */
void cap_writer_bytes(struct cap_writer *writer, struct cap_bytes bytes);
/* Appends zeros: offsets that cap_writer_begin sets later. */
void cap_writer_zeros(struct cap_writer *writer, size_t len);
/* Append one integer, little-endian. */
void cap_writer_u8(struct cap_writer *writer, uint8_t value);
void cap_writer_u32(struct cap_writer *writer, uint32_t value);
void cap_writer_u64(struct cap_writer *writer, uint64_t value);

/*
 * Begins a variable field or element here: sets the offset at position `offset_at`, which was
 * written as zeros, relative to `base`. CAP_E_BODY_TOO_LARGE sticks when it does not fit 32 bits.
 */
void cap_writer_begin(struct cap_writer *writer, size_t base, size_t offset_at);

#endif
