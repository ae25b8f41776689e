/*
 * An SSZ writer whose first failure sticks; what follows does nothing. So an encoder is a straight
 * line of fields with one check at its end.
 *
 * A container is written piece by piece: its fixed part with zeros for offsets, then each variable
 * field in order, begun with cap_writer_begin, which sets its offset. So are the elements of a
 * list.
 *
 *     size_t base = out.buf.len;
 *     cap_writer_u64(&out, start);
 *     cap_writer_zeros(&out, CAP_SSZ_OFFSET_SIZE);
 *     cap_writer_begin(&out, base, base + 8);
 *     cap_writer_bytes(&out, field);
 */
#ifndef LIB_CAP_SSZ_WRITER_H
#define LIB_CAP_SSZ_WRITER_H

#include "lib/cap/bytes.h"

/* Zero-initialised it is empty. Its maker frees `buf` with cap_buf_free. */
struct cap_writer {
    struct cap_buf buf;
    enum cap_error error; /* CAP_OK, CAP_E_NO_MEMORY or CAP_E_BODY_TOO_LARGE */
};

/* Appends a copy of bytes, which are not the writer's own. */
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
