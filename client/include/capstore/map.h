/*
 * Caps mapped into memory without a copy.
 *
 * On a Unix socket a daemon gives a cap out as a file in memory that nobody can change any more.
 * All processes that map it share its pages. The library checks that the file is sealed before it
 * relies on that, and hashes the content as the caller wishes.
 *
 * A map never changes, so any number of threads may read one, and it lives on when the handle is
 * closed. The daemon counts what it gave out as memory of its user until all maps of it are freed.
 *
 * Images are laid out by a capstore_space: its list says what lies where, capstore_space_place maps
 * all of it.
 */
#ifndef CAPSTORE_MAP_H
#define CAPSTORE_MAP_H

#include <capstore/cap.h>

#ifdef __cplusplus
extern "C" {
#endif

struct capstore;

/* A mapped cap; opaque. */
struct capstore_map;

/* When a mapped cap is hashed. Its structure is checked in any case. */
enum capstore_verify {
    CAPSTORE_VERIFY_ONCE = 0,   /* unless this process holds a map of the same file, verified */
    CAPSTORE_VERIFY_ALWAYS = 1, /* each time */
    CAPSTORE_VERIFY_NEVER = 2,  /* the daemon is trusted */
};

/*
 * Maps a cap for reading. The caller owns *ret_map. CAPSTORE_E_NOT_FOUND; CAPSTORE_E_MEMORY_LIMIT
 * when the daemon has no room, CAPSTORE_E_UNSUPPORTED_REQUEST when it, or the transport, has no
 * maps: capstore_get works in both cases. CAPSTORE_E_HASH_MISMATCH, CAPSTORE_E_BODY_NOT_CANONICAL,
 * CAPSTORE_E_BODY_TOO_LARGE (the structure of an Image, by options.max_body), CAPSTORE_E_NO_MEMORY,
 * also when too many files are open. CAPSTORE_E_BAD_REPLY when the file is not sealed or not as
 * stated. `verify` is CAPSTORE_VERIFY_NEVER for a handle with options.no_verify.
 */
enum capstore_error capstore_map(struct capstore *store, const struct capstore_hash *hash,
                                 enum capstore_verify verify, struct capstore_map **ret_map);

/* Unmaps it. NULL is fine. */
void capstore_map_free(struct capstore_map *map);

/* Whether it is an Image or a Data cap. */
enum capstore_kind capstore_map_kind(const struct capstore_map *map);

/* The hash that was asked for. */
const struct capstore_hash *capstore_map_hash(const struct capstore_map *map);

/* Whether this file was hashed, by this call or an earlier one, and has that hash. */
bool capstore_map_verified(const struct capstore_map *map);

/* The descriptor, open for reading; it belongs to the map. Offset 0 is where the code, or the data,
 * begins. */
int capstore_map_fd(const struct capstore_map *map);

/* Exact length of an Image's code, or logical size of a Data cap, which may be near 2^64. */
uint64_t capstore_map_size(const struct capstore_map *map);

/*
 * The bytes in memory, at a page's boundary, readable: an Image's code, with zeros up to the end of
 * its last page; the logical bytes of a Data cap up to 2^44, past which all are zero. `data` is
 * NULL when there are none, or when the address space has no room for a Data cap of this size: the
 * descriptor can be mapped in parts then.
 */
struct capstore_bytes capstore_map_bytes(const struct capstore_map *map);

/*
 * An Image without its code, in memory: capstore_image_* describe the Image, except that
 * capstore_image_code finds no code (it belongs at CAPSTORE_CODE_BASE) and that the body is that of
 * the Image without code. NULL for a Data cap. It belongs to the map.
 */
const struct capstore_cap *capstore_map_image(const struct capstore_map *map);

/* ---- the memory of a program ---- */

/* An Image and the Data caps behind its mappings, all of them mapped; opaque. */
struct capstore_space;

/* A range of a program's memory. */
struct capstore_span {
    uint64_t address;
    uint64_t len;      /* as the Image says; of the code up to the end of its last page */
    bool read_only;    /* shared; otherwise a program writes to a copy of its own */
    int fd;            /* what is there, from offset 0; -1: only a runtime knows. The space's */
    uint64_t file_len; /* bytes that come from the file, whole pages; zeros follow up to `len` */
};

/*
 * Maps an Image and the Data cap behind each of its mappings (of struct capstore_region), each
 * once, as capstore_map does. The caller owns *ret_space. CAPSTORE_E_WRONG_KIND for a Data cap.
 */
enum capstore_error capstore_space(struct capstore *store, const struct capstore_hash *hash,
                                   enum capstore_verify verify, struct capstore_space **ret_space);

/* Releases it; what capstore_space_place mapped stays. NULL is fine. */
void capstore_space_free(struct capstore_space *space);

/* The Image; the space's. */
const struct capstore_map *capstore_space_image(const struct capstore_space *space);

/* How many spans there are: one for the code, if there is any, then one for each mapping. */
size_t capstore_space_count(const struct capstore_space *space);

/* Span `i` < capstore_space_count(space): the code first, then the mappings in list order. */
struct capstore_span capstore_space_span(const struct capstore_space *space, size_t i);

/*
 * Maps every span that has a descriptor at base + address, over what was mapped there: [base, base
 * + len) is a range that the caller has reserved (mmap with PROT_NONE), aligned to a page. Later
 * spans lie over earlier ones. CAPSTORE_E_INVALID_ARGUMENT for a span that does not begin at a page
 * or reaches past the range; then nothing was mapped. CAPSTORE_E_NO_MEMORY: some of it may be.
 */
enum capstore_error capstore_space_place(const struct capstore_space *space, void *base,
                                         uint64_t len);

#ifdef __cplusplus
}
#endif

#endif
