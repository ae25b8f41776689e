/*
 * Parts of caps that are not here: slices, readers, lazy maps.
 *
 * A slice is some pages of a cap with what proves them against its CapHash, so that it may come
 * from anywhere. A reader fetches slices when its bytes are asked for and keeps what was proven. A
 * lazy map does so when memory is touched: a program runs before the rest of it has come.
 *
 * What is given out is proven, always: options.no_verify means nothing here. Where the daemon makes
 * no slices, whole bodies are fetched, verified, and read from.
 *
 * Pages are of CAPSTORE_PAGE_SIZE bytes of content: the logical bytes of a Data cap, the code of an
 * Image.
 *
 * Threads: any number of threads may use readers and lazy maps of one store (struct capstore) at a
 * time: they take turns, whether they use the same one or several. While they do, nothing else may
 * be done with that store; its callbacks run on whichever thread reads. So who reads on several
 * threads opens a store for it.
 *
 * A connection that was made with capstore_connect and is lost is made again, once per read.
 */
#ifndef CAPSTORE_SLICE_H
#define CAPSTORE_SLICE_H

#include <capstore/cap.h>

#ifdef __cplusplus
extern "C" {
#endif

struct capstore;

#define CAPSTORE_RANGES_MAX 256 /* of a slice that is asked for */

/* Pages [first, first + pages) of a cap. */
struct capstore_range {
    uint64_t first;
    uint64_t pages;
};

/* ---- slices ---- */

/* What the head of a slice proves. */
struct capstore_slice_head {
    enum capstore_kind kind;
    uint64_t size;                    /* Data: logical bytes, perhaps near 2^64. Image: of code */
    uint64_t page_count;              /* begun in `size` */
    const struct capstore_cap *image; /* the Image without its code, as capstore_map_image; NULL for
                                       * a Data cap. Borrowed for the call */
};

/*
 * Takes what is proven: the head, then pages in ascending order, each of the slice's once. An error
 * that a function returns ends the slice with that error. A function may be NULL.
 */
struct capstore_slice_sink {
    enum capstore_error (*head)(void *ctx, const struct capstore_slice_head *head);
    /* At most 16 whole pages, zeros behind the end of the code; borrowed for the call. */
    enum capstore_error (*pages)(void *ctx, uint64_t first, size_t count, const uint8_t *bytes);
    /* Pages of zeros: perhaps very many. */
    enum capstore_error (*zeros)(void *ctx, uint64_t first, uint64_t count);
    void *ctx;
};

/* Checks a slice while it arrives; opaque. Belongs to one thread at a time. */
struct capstore_slice_verifier;

/*
 * A verifier of a slice of the cap `hash`: with exactly these ranges, in any order, or, if `ranges`
 * is NULL, with whatever ranges it states. Copies its arguments. CAPSTORE_E_NO_MEMORY. Release with
 * capstore_slice_verifier_free. Memory: some 100 KiB, and an Image's structure, up to 17 MiB.
 */
enum capstore_error capstore_slice_verifier_new(const struct capstore_hash *hash,
                                                const struct capstore_range *ranges, size_t count,
                                                const struct capstore_slice_sink *sink,
                                                struct capstore_slice_verifier **ret_verifier);

/*
 * Takes the next bytes, borrowed for the call. CAPSTORE_E_SLICE_MISMATCH,
 * CAPSTORE_E_SLICE_MALFORMED, CAPSTORE_E_STRUCTURE_TOO_LARGE, CAPSTORE_E_NO_MEMORY, or as the sink
 * fails; after a failure the verifier can only be asked where, and freed.
 */
enum capstore_error capstore_slice_verifier_take(struct capstore_slice_verifier *verifier,
                                                 struct capstore_bytes bytes);

/* The bytes have ended. CAPSTORE_E_SLICE_MALFORMED when the slice is not complete. */
enum capstore_error capstore_slice_verifier_finish(struct capstore_slice_verifier *verifier);

/* Where a slice is wrong. */
struct capstore_slice_where {
    uint64_t offset; /* in the slice */
    /* Of CAPSTORE_E_SLICE_MISMATCH: the node whose hash the slice does not have. One level above
     * the root of the tree of pages stands for the CapHash. */
    unsigned level;
    uint64_t index;
};

/* Where it failed with CAPSTORE_E_SLICE_MISMATCH or CAPSTORE_E_SLICE_MALFORMED. */
struct capstore_slice_where
capstore_slice_verifier_where(const struct capstore_slice_verifier *verifier);

/* NULL is fine. */
void capstore_slice_verifier_free(struct capstore_slice_verifier *verifier);

/*
 * Fetches the slice of these pages, in any order, at most CAPSTORE_RANGES_MAX ranges; none: the
 * head alone. It is verified on the way and passed to `write` as it arrives: as long as the call
 * has not succeeded, what was written is a piece of a slice and no more. `sink` may be NULL.
 * CAPSTORE_E_NOT_FOUND, CAPSTORE_E_RANGE_OUT_OF_BODY, CAPSTORE_E_SLICE_MISMATCH,
 * CAPSTORE_E_SLICE_MALFORMED (the message says where), CAPSTORE_E_INVALID_ARGUMENT,
 * CAPSTORE_E_UNSUPPORTED_REQUEST: the daemon makes no slices.
 */
enum capstore_error capstore_slice(struct capstore *store, const struct capstore_hash *hash,
                                   const struct capstore_range *ranges, size_t count,
                                   const struct capstore_slice_sink *sink, capstore_write_cb *write,
                                   void *ctx);

/* ---- readers ---- */

/* A cap of which parts are fetched when they are needed; opaque. */
struct capstore_reader;

/* How a reader keeps what it has. Start from CAPSTORE_OPEN_OPTIONS_INIT; zero means the default. */
struct capstore_open_options {
    size_t struct_size; /* sizeof(struct capstore_open_options) */
    /*
     * A directory that exists, or NULL. Pages are kept there too, in a sparse file for each cap,
     * and another reader of this cap goes on with them, in this process or a later one or at the
     * same time. The directory need not be trusted: what is read from it is verified like what
     * comes from a daemon, and what does not verify is fetched again. When writing there fails, the
     * reader goes on without it.
     */
    const char *cache_directory;
    uint64_t max_memory; /* bytes of pages in memory; default 64 MiB, at least 1 MiB. A whole body,
                          * from a daemon that makes no slices, counts only up to options.max_body
                          */
    uint32_t readahead;  /* most bytes to fetch at a time ahead of what is asked for; default 4 MiB.
                          * It begins with 64 KiB and doubles while reads run on */
};

#define CAPSTORE_OPEN_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct capstore_open_options), NULL, 0, 0                                           \
    }

/*
 * Opens a cap for reading: asks for the head of its slice and nothing more, or not even that when
 * the cache has it. `store` must outlive the reader. `options` may be NULL; it is copied. The
 * caller owns *ret_reader. CAPSTORE_E_NOT_FOUND, or as capstore_slice and capstore_get fail;
 * capstore_message(store) says more.
 */
enum capstore_error capstore_open(struct capstore *store, const struct capstore_hash *hash,
                                  const struct capstore_open_options *options,
                                  struct capstore_reader **ret_reader);

/* Releases a reader that no thread and no lazy map uses. NULL is fine. */
void capstore_reader_free(struct capstore_reader *reader);

/* Whether it is an Image or a Data cap. */
enum capstore_kind capstore_reader_kind(const struct capstore_reader *reader);

/* The hash that it was opened by. */
const struct capstore_hash *capstore_reader_hash(const struct capstore_reader *reader);

/* Exact length of an Image's code, or logical size of a Data cap, which may be near 2^64. */
uint64_t capstore_reader_size(const struct capstore_reader *reader);

/* An Image without its code, as capstore_map_image; NULL for a Data cap. It belongs to the reader,
 * never changes, and needs no lock. */
const struct capstore_cap *capstore_reader_image(const struct capstore_reader *reader);

/*
 * Copies bytes [offset, offset + len) of the content to `dst`, cut at its end; *ret_len, which may
 * be NULL, is how many: 0 at the end and past it. `dst` is not in lazy memory of the same store.
 * What is not here is fetched. On failure nothing in `dst` counts; what was proven before is kept.
 * CAPSTORE_E_SLICE_MISMATCH, CAPSTORE_E_CONNECTION_LOST and as capstore_slice and capstore_get
 * fail; a read may be tried again. capstore_message(store) says more, once no other thread reads.
 */
enum capstore_error capstore_read(struct capstore_reader *reader, uint64_t offset, void *dst,
                                  size_t len, size_t *ret_len);

/* What a reader has done; counts begin with 0 when it is opened. */
struct capstore_read_counts {
    uint64_t requests;      /* to the daemon */
    uint64_t fetched_pages; /* proven, of slices or whole bodies */
    uint64_t cached_pages;  /* proven, of the cache */
    uint64_t dropped_pages; /* of the cache, because they did not verify */
    bool cache_failed;      /* nothing more is written to the cache */
};

/* What it has done so far. Any thread. */
struct capstore_read_counts capstore_reader_stats(const struct capstore_reader *reader);

/* ---- lazy maps ---- */

/* Memory whose pages are fetched when they are touched; opaque. */
struct capstore_lazy;

/* A page that could not be fetched, or not be proven. */
struct capstore_lazy_failure {
    const struct capstore_hash *hash; /* of the cap */
    uint64_t page;                    /* of its content */
    void *address;                    /* where it belongs */
    enum capstore_error error;
    const char *message; /* for a person; as the others valid for the call */
};

/* How a lazy map behaves. Start from CAPSTORE_LAZY_OPTIONS_INIT. */
struct capstore_lazy_options {
    size_t struct_size; /* sizeof(struct capstore_lazy_options) */
    /*
     * Hears of a page that cannot be had, on the map's thread; it must touch no lazy memory. True:
     * try again, as often as it is returned. Otherwise, and without a function, a thread that
     * touches the page gets SIGBUS, now and from then on: never wrong bytes.
     */
    bool (*failed)(void *ctx, const struct capstore_lazy_failure *failure);
    void *ctx;
};

#define CAPSTORE_LAZY_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct capstore_lazy_options), NULL, NULL                                           \
    }

/*
 * Maps the content of a reader, readable and private to this process, and serves it on a thread of
 * the map's own, which takes no signals. `reader` must outlive the map. `options` may be NULL. The
 * caller owns *ret_lazy. CAPSTORE_E_NOT_SUPPORTED where the kernel does not let this process have a
 * userfaultfd: capstore_message of the reader's store says what to set. CAPSTORE_E_INVALID_ARGUMENT
 * for content of no bytes; CAPSTORE_E_NO_MEMORY, also when the address space has no room.
 *
 * Touch it as memory: a system call may fail with EFAULT on a page that is not there yet, unless
 * the process is privileged or vm.unprivileged_userfaultfd is 1. A child of fork(2) does not have
 * the memory. It must not be remapped or unmapped but by capstore_lazy_free.
 */
enum capstore_error capstore_map_lazy(struct capstore_reader *reader,
                                      const struct capstore_lazy_options *options,
                                      struct capstore_lazy **ret_lazy);

/*
 * Opens an Image and the Data cap behind each of its mappings, each once, and maps them lazily
 * where capstore_space_place would: at base + address, over what was mapped there, where [base,
 * base + len) is a range that the caller has reserved (mmap with PROT_NONE), aligned to a page;
 * later spans over earlier ones; what only a runtime knows is left as it was. Mappings that are not
 * read-only may be written to. CAPSTORE_E_INVALID_ARGUMENT for a span that does not begin at a page
 * or reaches past the range; CAPSTORE_E_WRONG_KIND for a Data cap; otherwise as capstore_open and
 * capstore_map_lazy. After a failure that is not of the arguments some of the range may be
 * unusable. `store` must outlive the map.
 */
enum capstore_error capstore_space_lazy(struct capstore *store, const struct capstore_hash *hash,
                                        const struct capstore_open_options *open_options,
                                        const struct capstore_lazy_options *options, void *base,
                                        uint64_t len, struct capstore_lazy **ret_lazy);

/* Unmaps all of it, while nobody touches it, and ends the thread. The range of capstore_space_lazy
 * is reserved again where spans lay. NULL is fine. */
void capstore_lazy_free(struct capstore_lazy *lazy);

/* The memory of capstore_map_lazy: the content, with zeros up to the end of its last page. Empty
 * for capstore_space_lazy. */
struct capstore_bytes capstore_lazy_bytes(const struct capstore_lazy *lazy);

/* The Image of capstore_space_lazy without its code, or of the reader that was mapped; NULL: a Data
 * cap. It belongs to the map, or the reader. */
const struct capstore_cap *capstore_lazy_image(const struct capstore_lazy *lazy);

/* What the readers of the map have done so far, together. Any thread. */
struct capstore_read_counts capstore_lazy_stats(const struct capstore_lazy *lazy);

#ifdef __cplusplus
}
#endif

#endif
