#include "lib/cap/ssz_writer.h"

#include "lib/cap/must.h"

void cap_writer_bytes(struct cap_writer *writer, struct cap_bytes bytes)
{
    if (writer->error == CAP_OK && bytes.len > 0) {
        writer->error = cap_buf_append(&writer->buf, bytes.data, bytes.len);
    }
}

void cap_writer_zeros(struct cap_writer *writer, size_t len)
{
    if (writer->error == CAP_OK) {
        writer->error = cap_buf_append_zeros(&writer->buf, len);
    }
}

void cap_writer_u8(struct cap_writer *writer, uint8_t value)
{
    if (writer->error == CAP_OK) {
        writer->error = cap_buf_append8(&writer->buf, value);
    }
}

void cap_writer_u32(struct cap_writer *writer, uint32_t value)
{
    if (writer->error == CAP_OK) {
        writer->error = cap_buf_append32(&writer->buf, value);
    }
}

void cap_writer_u64(struct cap_writer *writer, uint64_t value)
{
    if (writer->error == CAP_OK) {
        writer->error = cap_buf_append64(&writer->buf, value);
    }
}

void cap_writer_begin(struct cap_writer *writer, size_t base, size_t offset_at)
{
    if (writer->error != CAP_OK) {
        return;
    }
    uint64_t offset = writer->buf.len - base;
    if (offset > UINT32_MAX) {
        writer->error = CAP_E_BODY_TOO_LARGE;
        return;
    }
    must(offset_at + sizeof(uint32_t) <= writer->buf.len);
    expect(cap_load32(writer->buf.data + offset_at) == 0);
    cap_store32(writer->buf.data + offset_at, (uint32_t)offset);
}
