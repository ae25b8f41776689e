/*
 * What the files of libcapstore share; none of it is public.
 *
 * Inside the library errors are enum cap_error; client_public turns one into the public enum of the
 * same value at the border.
 */
#ifndef CLIENT_LIB_INTERNAL_H
#define CLIENT_LIB_INTERNAL_H

#include <capstore/async.h>
#include <capstore/capstore.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/wire_image.h"

/* The public error of the same value (error.c checks that they are the same). */
static inline enum capstore_error client_public(enum cap_error error)
{
    return (enum capstore_error)(int)error;
}

/* The inner error of the same value. */
static inline enum cap_error client_inner(enum capstore_error error)
{
    return (enum cap_error)(int)error;
}

static inline struct capstore_hash client_hash(const struct cap_hash *hash)
{
    struct capstore_hash copy;
    memcpy(copy.bytes, hash->bytes, sizeof(copy.bytes));
    return copy;
}

static inline struct cap_hash client_cap_hash(const struct capstore_hash *hash)
{
    struct cap_hash copy;
    memcpy(copy.bytes, hash->bytes, sizeof(copy.bytes));
    return copy;
}

static inline struct capstore_bytes client_bytes(struct cap_bytes bytes)
{
    return (struct capstore_bytes){bytes.data, bytes.len};
}

static inline struct cap_bytes client_cap_bytes(struct capstore_bytes bytes)
{
    return (struct cap_bytes){bytes.data, bytes.len};
}

/* Kinds and tables have the same values on both sides; the compiler checks (types.c). */
static inline enum capstore_kind client_kind(enum cap_kind kind)
{
    return (enum capstore_kind)(int)kind;
}

static inline enum capstore_table client_table(enum cap_table table)
{
    return (enum capstore_table)(int)table;
}

/* Entry `i` of a list of mappings, and step `step` of its source path. */
struct capstore_mapping client_mapping_at(const struct cap_ssz_list *mappings, size_t i);
struct capstore_bytes client_mapping_step(const struct cap_ssz_list *mappings, size_t i,
                                          size_t step);

/*
 * Reads the structure of a wire Image, the bytes before its arena, into the empty buffer *head,
 * whose memory grows with what was read. CAP_E_SSZ when the fixed part is not that of a wire Image,
 * CAP_E_NO_MEMORY, or the source's error; the caller frees *head in any case.
 */
enum cap_error client_read_head(const struct capstore_source *wire, struct cap_buf *head);

/* A window of a public source, read as a cap_source from offset 0. */
struct client_window {
    struct capstore_source source;
    uint64_t start;
};

/* A cap_source over *window, which outlives it; offsets count from window->start. */
struct cap_source client_window_source(struct client_window *window);

/* Whether more than half of a source is known holes. */
bool client_mostly_holes(const struct capstore_source *content);

/*
 * The Data cap of raw bytes and zeros up to `size`, as for capstore_data_hash; the windows of
 * its body are offsets into `content`. Holes are not read; memory grows with the pages that are
 * not zero.
 */
enum cap_error client_data_make(const struct capstore_source *content, uint64_t size,
                                struct cap_data *ret_data);

/* A fetched cap: its body and the view that fits its kind. */
struct capstore_cap {
    struct cap_buf body;
    enum cap_kind kind;
    struct capstore_hash hash;
    bool verified;
    struct cap_image_view image; /* when kind is CAP_KIND_IMAGE */
    struct cap_data_view data;   /* when kind is CAP_KIND_DATA */
};

struct client_verify;

/*
 * Makes a cap of *body, which it takes over on success only. `expected` may be NULL when `verify`
 * is set; without `verify` the body is decoded but not hashed and takes the name `expected`.
 * `begun`, unless NULL, has hashed the body while it arrived; it can only be freed afterwards.
 */
enum cap_error client_cap_make(struct cap_buf *body, const struct cap_hash *expected, bool verify,
                               struct client_verify *begun, struct capstore_cap **ret_cap);

#endif
