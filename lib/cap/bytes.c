#include "lib/cap/bytes.h"

#include <stdlib.h>

#include "lib/cap/must.h"

#define BUF_MIN_CAPACITY 64u

int cap_bytes_compare(struct cap_bytes a, struct cap_bytes b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

void cap_hex_format(struct cap_bytes bytes, char *ret_hex)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.len; i++) {
        ret_hex[2 * i] = digits[bytes.data[i] >> 4];
        ret_hex[2 * i + 1] = digits[bytes.data[i] & 15];
    }
    ret_hex[2 * bytes.len] = '\0';
}

void cap_hash_format(const struct cap_hash *hash, char ret_hex[CAP_HASH_HEX_SIZE])
{
    cap_hex_format((struct cap_bytes){hash->bytes, CAP_HASH_SIZE}, ret_hex);
}

/* The value of a hex digit, or -1. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* Decodes `len` bytes from 2 * len digits; false at the first character that is none. */
static bool hex_decode(const char *text, size_t len, uint8_t *dst)
{
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        dst[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

enum cap_error cap_hash_parse(const char *text, struct cap_hash *ret_hash)
{
    struct cap_hash hash;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        text += 2;
    }
    /* A shorter text stops at its NUL, which is not a digit. */
    if (!hex_decode(text, CAP_HASH_SIZE, hash.bytes) || text[2 * CAP_HASH_SIZE] != '\0') {
        return CAP_E_INVALID_ARGUMENT;
    }
    *ret_hash = hash;
    return CAP_OK;
}

enum cap_error cap_hex_parse(const char *text, size_t text_len, struct cap_buf *buf)
{
    if (text_len % 2 != 0) {
        return CAP_E_INVALID_ARGUMENT;
    }
    enum cap_error error = cap_buf_reserve(buf, text_len / 2);
    if (error != CAP_OK) {
        return error;
    }
    if (text_len == 0) {
        return CAP_OK;
    }
    if (!hex_decode(text, text_len / 2, buf->data + buf->len)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    buf->len += text_len / 2;
    return CAP_OK;
}

enum cap_error cap_buf_reserve(struct cap_buf *buf, size_t more)
{
    expect(buf->len <= buf->capacity);
    if (more <= buf->capacity - buf->len) {
        return CAP_OK;
    }
    /* No object is larger than PTRDIFF_MAX, so `len` never is, and the sums below fit. */
    if (more > (size_t)PTRDIFF_MAX - buf->len) {
        return CAP_E_NO_MEMORY;
    }

    size_t needed = buf->len + more;
    size_t grown = buf->capacity + buf->capacity / 2; /* keeps appending linear */
    if (grown > (size_t)PTRDIFF_MAX) {
        grown = (size_t)PTRDIFF_MAX;
    }
    if (grown < needed) {
        grown = needed;
    }
    if (grown < BUF_MIN_CAPACITY) {
        grown = BUF_MIN_CAPACITY;
    }
    uint8_t *data = realloc(buf->data, grown);
    if (data == NULL) {
        return CAP_E_NO_MEMORY;
    }
    buf->data = data;
    buf->capacity = grown;
    return CAP_OK;
}

enum cap_error cap_buf_append(struct cap_buf *buf, const void *data, size_t len)
{
    if (len == 0) {
        return CAP_OK;
    }
    enum cap_error error = cap_buf_reserve(buf, len);
    if (error != CAP_OK) {
        return error;
    }
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    return CAP_OK;
}

enum cap_error cap_buf_append_zeros(struct cap_buf *buf, size_t len)
{
    if (len == 0) {
        return CAP_OK;
    }
    enum cap_error error = cap_buf_reserve(buf, len);
    if (error != CAP_OK) {
        return error;
    }
    memset(buf->data + buf->len, 0, len);
    buf->len += len;
    return CAP_OK;
}

enum cap_error cap_buf_append8(struct cap_buf *buf, uint8_t v)
{
    return cap_buf_append(buf, &v, sizeof(v));
}

enum cap_error cap_buf_append32(struct cap_buf *buf, uint32_t v)
{
    uint8_t bytes[sizeof(v)];
    cap_store32(bytes, v);
    return cap_buf_append(buf, bytes, sizeof(bytes));
}

enum cap_error cap_buf_append64(struct cap_buf *buf, uint64_t v)
{
    uint8_t bytes[sizeof(v)];
    cap_store64(bytes, v);
    return cap_buf_append(buf, bytes, sizeof(bytes));
}

void cap_buf_free(struct cap_buf *buf)
{
    if (buf == NULL) {
        return;
    }
    free(buf->data);
    *buf = (struct cap_buf){0};
}

static enum cap_error memory_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct cap_bytes *bytes = ctx;
    if (offset > bytes->len || len > bytes->len - offset) {
        return CAP_E_IO;
    }
    if (len > 0) {
        memcpy(dst, bytes->data + offset, len);
    }
    return CAP_OK;
}

struct cap_source cap_source_memory(const struct cap_bytes *bytes)
{
    /* `ctx` serves writable sources too; this one only reads through it. */
    return (struct cap_source){
        .read = memory_read, .ctx = (void *)(uintptr_t)bytes, .memory = bytes->data};
}

enum cap_error cap_source_get(const struct cap_source *source, uint64_t offset, size_t len,
                              uint8_t *scratch, const uint8_t **ret_data)
{
    if (source->memory != NULL) {
        *ret_data = source->memory + offset;
        return CAP_OK;
    }
    enum cap_error error = source->read(source->ctx, offset, scratch, len);
    if (error == CAP_OK) {
        *ret_data = scratch;
    }
    return error;
}
