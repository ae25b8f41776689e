/*
 * The nouns of libcapstore: hashes, spans of bytes, sources of bytes, kinds and tables.
 *
 * Functions here are pure and may be called on any thread.
 */
#ifndef CAPSTORE_TYPES_H
#define CAPSTORE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <capstore/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CAPSTORE_HASH_SIZE     32
#define CAPSTORE_HASH_HEX_SIZE 65 /* 64 digits and a NUL */
#define CAPSTORE_PAGE_SIZE     4096u
#define CAPSTORE_NUM_REGS      13u
#define CAPSTORE_CODE_BASE     UINT64_C(0x00400000) /* where the code region maps */
#define CAPSTORE_DATA_BASE     UINT64_C(0x10000000) /* where data begins */
#define CAPSTORE_MAX_CODE_SIZE (CAPSTORE_DATA_BASE - CAPSTORE_CODE_BASE) /* bytes; 252 MiB */
#define CAPSTORE_MESSAGE_SIZE  512 /* of a message for a person, its NUL included */

/* The name of a cap (CapHash), or the chain identity of a wire Image (image_content_hash). */
struct capstore_hash {
    uint8_t bytes[CAPSTORE_HASH_SIZE];
};

/* A borrowed run of bytes, such as a key. `data` may be NULL when `len` is 0. */
struct capstore_bytes {
    const uint8_t *data;
    size_t len;
};

/* Takes a piece of a body; the pieces come in order. An error ends the call with that error. */
typedef enum capstore_error capstore_write_cb(void *ctx, struct capstore_bytes piece);

/* What a cap is. */
enum capstore_kind {
    CAPSTORE_KIND_IMAGE = 1,
    CAPSTORE_KIND_DATA = 2,
};

/* Which of an Image's two slot tables. */
enum capstore_table {
    CAPSTORE_TABLE_PINNED = 0,  /* mapped read-only */
    CAPSTORE_TABLE_INITIAL = 1, /* copied for each instance */
};

/*
 * Bytes that can be read at any offset: memory, a file, anything behind a function. `read` fills
 * all of `len` bytes from `offset` or returns an error, which becomes the error of the call that
 * reads; it is called on the calling thread, only within [0, source.len). `ctx` outlives every
 * use of the source.
 *
 * `next_data` may be NULL. Otherwise it returns the next offset at or after `offset` where bytes
 * may differ from zero, UINT64_MAX if there is none. Holes are then skipped without being read when
 * a Data cap is made of the source.
 */
struct capstore_source {
    enum capstore_error (*read)(void *ctx, uint64_t offset, void *dst, size_t len);
    void *ctx;
    uint64_t len;
    uint64_t (*next_data)(void *ctx, uint64_t offset);
};

/* A source over bytes in memory. It refers to *bytes: both stay alive and unchanged while it is
 * used. */
struct capstore_source capstore_source_memory(const struct capstore_bytes *bytes);

/*
 * A source over the first `len` bytes of an open file that can be read at any offset (pread), its
 * holes known. It refers to *fd, which stays alive and open, and may move its file offset. A file
 * that turns out to be shorter is CAPSTORE_E_IO.
 */
struct capstore_source capstore_source_fd(const int *fd, uint64_t len);

/* "image" or "data"; "unknown" for another value. Static. */
const char *capstore_kind_name(enum capstore_kind kind);

/* "pinned" or "initial"; "unknown" for another value. Static. */
const char *capstore_table_name(enum capstore_table table);

/* Writes 64 lower-case hex digits and a NUL. */
void capstore_hash_format(const struct capstore_hash *hash, char ret_hex[CAPSTORE_HASH_HEX_SIZE]);

/*
 * Reads 64 hex digits of either case, with an optional 0x in front, from a NUL-terminated text.
 * CAPSTORE_E_INVALID_ARGUMENT otherwise, and then *ret_hash is untouched.
 */
enum capstore_error capstore_hash_parse(const char *text, struct capstore_hash *ret_hash);

/* Whether two hashes are equal. */
bool capstore_hash_equal(const struct capstore_hash *a, const struct capstore_hash *b);

/* The version of the library, such as "0.1.0". Static. */
const char *capstore_version(void);

/*
 * The name of the SHA-256 code in use: "avx512-shani", "avx512", "shani", "avx2", "armv8" or
 * "sodium", unless told otherwise the fastest that this CPU runs. Static.
 */
const char *capstore_sha256(void);

/*
 * Uses the SHA-256 code of that name from now on, in the whole process: for tests and measurements,
 * since all compute the same. CAPSTORE_E_INVALID_ARGUMENT for a name that this build does not have,
 * CAPSTORE_E_NOT_FOUND for code that this CPU does not run; then nothing changes.
 */
enum capstore_error capstore_sha256_use(const char *name);

#ifdef __cplusplus
}
#endif

#endif
