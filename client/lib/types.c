/* Hashes, names and the ready-made sources. */
#include <capstore/types.h>

#include <errno.h>
#include <unistd.h>

#include "client/lib/internal.h"
#include "lib/cap/sha256.h"

_Static_assert((int)CAPSTORE_KIND_IMAGE == (int)CAP_KIND_IMAGE, "one enum, two names");
_Static_assert((int)CAPSTORE_KIND_DATA == (int)CAP_KIND_DATA, "one enum, two names");
_Static_assert((int)CAPSTORE_TABLE_PINNED == (int)CAP_TABLE_PINNED, "one enum, two names");
_Static_assert((int)CAPSTORE_TABLE_INITIAL == (int)CAP_TABLE_INITIAL, "one enum, two names");

static enum capstore_error memory_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct capstore_bytes *bytes = ctx;
    if (offset > bytes->len || len > bytes->len - offset) {
        return CAPSTORE_E_IO;
    }
    if (len > 0) {
        memcpy(dst, bytes->data + offset, len);
    }
    return CAPSTORE_OK;
}

struct capstore_source capstore_source_memory(const struct capstore_bytes *bytes)
{
    /* The source only reads; its ctx is not const because a caller's own source may write. */
    return (struct capstore_source){memory_read, (void *)(uintptr_t)bytes, bytes->len, NULL};
}

static enum capstore_error fd_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const int *fd = ctx;
    uint8_t *at = dst;
    while (len > 0) {
        if (offset > INT64_MAX) {
            return CAPSTORE_E_IO;
        }
        ssize_t n = pread(*fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return CAPSTORE_E_IO;
        }
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return CAPSTORE_OK;
}

/* Where holes are not known (ESPIPE, EINVAL) everything may be data. */
static uint64_t fd_next_data(void *ctx, uint64_t offset)
{
    const int *fd = ctx;
    if (offset > INT64_MAX) {
        return offset;
    }
    off_t at = lseek(*fd, (off_t)offset, SEEK_DATA);
    if (at >= 0) {
        return (uint64_t)at;
    }
    return errno == ENXIO ? UINT64_MAX : offset;
}

struct capstore_source capstore_source_fd(const int *fd, uint64_t len)
{
    return (struct capstore_source){fd_read, (void *)(uintptr_t)fd, len, fd_next_data};
}

static enum cap_error window_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct client_window *window = ctx;
    return client_inner(window->source.read(window->source.ctx, window->start + offset, dst, len));
}

static uint64_t window_next_data(void *ctx, uint64_t offset)
{
    struct client_window *window = ctx;
    return window->source.next_data(window->source.ctx, window->start + offset) - window->start;
}

struct cap_source client_window_source(struct client_window *window)
{
    return (struct cap_source){
        .read = window_read,
        .ctx = window,
        .next_data = window->source.next_data != NULL ? window_next_data : NULL,
    };
}

const char *capstore_kind_name(enum capstore_kind kind)
{
    switch (kind) {
    case CAPSTORE_KIND_IMAGE:
        return "image";
    case CAPSTORE_KIND_DATA:
        return "data";
    }
    return "unknown";
}

const char *capstore_table_name(enum capstore_table table)
{
    switch (table) {
    case CAPSTORE_TABLE_PINNED:
        return cap_table_name(CAP_TABLE_PINNED);
    case CAPSTORE_TABLE_INITIAL:
        return cap_table_name(CAP_TABLE_INITIAL);
    }
    return "unknown";
}

void capstore_hash_format(const struct capstore_hash *hash, char ret_hex[CAPSTORE_HASH_HEX_SIZE])
{
    struct cap_hash inner = client_cap_hash(hash);
    cap_hash_format(&inner, ret_hex);
}

enum capstore_error capstore_hash_parse(const char *text, struct capstore_hash *ret_hash)
{
    struct cap_hash hash;
    enum cap_error error = cap_hash_parse(text, &hash);
    if (error == CAP_OK) {
        *ret_hash = client_hash(&hash);
    }
    return client_public(error);
}

bool capstore_hash_equal(const struct capstore_hash *a, const struct capstore_hash *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

const char *capstore_version(void)
{
    return CAPSTORE_VERSION;
}

const char *capstore_sha256(void)
{
    return cap_sha256_kernel_name();
}

enum capstore_error capstore_sha256_use(const char *name)
{
    return client_public(cap_sha256_use_kernel(name));
}
