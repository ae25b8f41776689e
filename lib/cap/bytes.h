/*
 * Bytes, hashes and growing buffers: the nouns that every room uses.
 *
 * All functions are pure and may be called on any thread. Integers are little-endian, as in SSZ.
 */
#ifndef LIB_CAP_BYTES_H
#define LIB_CAP_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/cap/error.h"

#define CAP_HASH_SIZE     32
#define CAP_HASH_HEX_SIZE 65 /* 64 digits and a NUL */

/* A borrowed run of bytes. `data` may be NULL only when `len` is 0. Valid as long as its owner
 * says. */
struct cap_bytes {
    const uint8_t *data;
    size_t len;
};

/* A 32-byte node or name: a CapHash, an image_content_hash, a root. */
struct cap_hash {
    uint8_t bytes[CAP_HASH_SIZE];
};

/* A run of bytes that its holder owns. Zero-initialised it is empty; release with cap_buf_free. */
struct cap_buf {
    uint8_t *data;
    size_t len;
    size_t capacity;
};

/* Integers at any alignment, little-endian. The caller has checked that the bytes are there. */
static inline uint16_t cap_load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (uint16_t)p[1] << 8);
}

static inline uint32_t cap_load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t cap_load64(const uint8_t *p)
{
    return (uint64_t)cap_load32(p) | (uint64_t)cap_load32(p + 4) << 32;
}

static inline void cap_store16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void cap_store32(uint8_t *p, uint32_t v)
{
    cap_store16(p, (uint16_t)v);
    cap_store16(p + 2, (uint16_t)(v >> 16));
}

static inline void cap_store64(uint8_t *p, uint64_t v)
{
    cap_store32(p, (uint32_t)v);
    cap_store32(p + 4, (uint32_t)(v >> 32));
}

/* `[from, from + len)` of `bytes`; the caller has checked that it lies inside. */
static inline struct cap_bytes cap_bytes_slice(struct cap_bytes bytes, size_t from, size_t len)
{
    /* Even adding 0 to NULL is undefined. */
    return (struct cap_bytes){bytes.data == NULL ? NULL : bytes.data + from, len};
}

/*
 * Order of keys: bytes compare lexicographically as unsigned, a prefix sorts first
 * (FORMATS.md section 2). Returns < 0, 0 or > 0.
 */
int cap_bytes_compare(struct cap_bytes a, struct cap_bytes b);

static inline bool cap_hash_equal(const struct cap_hash *a, const struct cap_hash *b)
{
    return memcmp(a->bytes, b->bytes, CAP_HASH_SIZE) == 0;
}

/* Writes 64 lower-case hex digits and a NUL. */
void cap_hash_format(const struct cap_hash *hash, char ret_hex[CAP_HASH_HEX_SIZE]);

/*
 * Reads exactly 64 hex digits of either case, with an optional 0x in front, from a NUL-terminated
 * text. CAP_E_INVALID_ARGUMENT otherwise, and then *ret_hash is untouched.
 */
enum cap_error cap_hash_parse(const char *text, struct cap_hash *ret_hash);

/* Writes 2 * bytes.len lower-case hex digits and a NUL to `ret_hex`, which has room for them. */
void cap_hex_format(struct cap_bytes bytes, char *ret_hex);

/*
 * Appends the bytes of `text_len` hex digits (either case) to `buf`. CAP_E_INVALID_ARGUMENT for an
 * odd count or another character, CAP_E_NO_MEMORY; then `buf` is as before.
 */
enum cap_error cap_hex_parse(const char *text, size_t text_len, struct cap_buf *buf);

/* Makes room for `more` bytes after `len` without changing it. CAP_E_NO_MEMORY leaves `buf` as it
 * was. */
enum cap_error cap_buf_reserve(struct cap_buf *buf, size_t more);

/* Appends a copy of `len` bytes. CAP_E_NO_MEMORY leaves `buf` as it was. `data` is not inside
 * `buf`. */
enum cap_error cap_buf_append(struct cap_buf *buf, const void *data, size_t len);

/* Appends `len` zero bytes. CAP_E_NO_MEMORY leaves `buf` as it was. */
enum cap_error cap_buf_append_zeros(struct cap_buf *buf, size_t len);

/* Appends one integer, little-endian. CAP_E_NO_MEMORY leaves `buf` as it was. */
enum cap_error cap_buf_append8(struct cap_buf *buf, uint8_t v);
enum cap_error cap_buf_append32(struct cap_buf *buf, uint32_t v);
enum cap_error cap_buf_append64(struct cap_buf *buf, uint64_t v);

/* A view of what `buf` holds; valid until it grows or is freed. */
static inline struct cap_bytes cap_buf_bytes(const struct cap_buf *buf)
{
    return (struct cap_bytes){buf->data, buf->len};
}

/* Releases the memory and leaves an empty buffer. */
void cap_buf_free(struct cap_buf *buf);

/*
 * A source of bytes read at any offset: memory, a spool file, a body in pieces. `read` fills all of
 * `len` bytes from `offset` or fails with CAP_E_IO (or the source's own error); it is never asked
 * for bytes past the length that came with the source. The maker of a source says which threads may
 * read it; `ctx` outlives every use.
 *
 * `next_data`, if not NULL, returns the first offset at or after `offset` where bytes may be other
 * than zero, or anything past the source's length when none are. A reader that skips zeros need not
 * read what lies before it.
 *
 * `work`, if not NULL, is told by whatever makes a cap of the source what it hashes beside the
 * bytes that it reads (lib/cap/work.h).
 *
 * `block_roots`, if not NULL, are those of the first `block_count` whole blocks of the source, as
 * cap_block_roots has them: such a block is not hashed again.
 */
struct cap_work;

struct cap_source {
    enum cap_error (*read)(void *ctx, uint64_t offset, void *dst, size_t len);
    void *ctx;
    const uint8_t
        *memory; /* when not NULL, byte i of the source is memory[i]: readers may skip `read` */
    uint64_t (*next_data)(void *ctx, uint64_t offset); /* NULL: holes are unknown */
    const struct cap_work *work;
    const struct cap_hash *block_roots;
    size_t block_count;
};

/* A source over bytes in memory, which the caller keeps alive and unchanged. Any thread may read
 * it. */
struct cap_source cap_source_memory(const struct cap_bytes *bytes);

/*
 * `len` bytes of a source at `offset`: from its memory without a copy, otherwise read into
 * `scratch`, which has room for `len`. *ret_data is valid while the source and `scratch` are.
 */
enum cap_error cap_source_get(const struct cap_source *source, uint64_t offset, size_t len,
                              uint8_t *scratch, const uint8_t **ret_data);

#endif
