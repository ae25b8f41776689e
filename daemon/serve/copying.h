/*
 * Copying one cap into a sealed memfd, as a runtime maps it.
 *
 * What the descriptor holds:
 *   - Image: the code from offset 0, with zeros up to the end of its last page; at `rest_off`, a
 *     multiple of the page size, the served body without its code, `rest_len` bytes. So the served
 *     body is three ranges of the descriptor: CAP_IMAGE_FRONT bytes at rest_off, `size` bytes at 0,
 *     and the others of the rest.
 *   - Data: the logical pages where they belong, and holes for pages of zeros. Nothing is at or
 *     past COPY_DATA_MAX, where a Data cap has no page that is not zero. `rest_len` is 0.
 * It is sealed against every change of its bytes and its length, and opened for reading only.
 *
 * In a reader, but for the drop: it waits for the device. One step is short, so that peers can take
 * turns.
 */
#ifndef DAEMON_SERVE_COPYING_H
#define DAEMON_SERVE_COPYING_H

#include "lib/cap/data_cap.h"
#include "lib/store/store.h"

#define COPY_DATA_MAX (UINT64_C(1) << 44) /* 2^32 pages: all that a Data cap can name */

struct copy_layout {
    enum cap_kind kind;
    uint64_t body_len; /* of the served body */
    uint64_t size;     /* Image: bytes of code. Data: logical bytes */
    uint64_t len;      /* of the descriptor */
    uint64_t rest_off;
    uint64_t rest_len;
};

struct copying {
    struct cap_store *store;
    struct cap_hash hash;
    struct copy_layout layout;
    uint64_t bytes; /* memory that the finished descriptor takes */
    int fd;         /* -1: none yet */
    uint64_t at;    /* Image: bytes of the body that are copied. Data: the same of its head */
    uint64_t pages; /* Data: that are not zero, as the store says */
    uint8_t *head;  /* Data: what precedes the arena, `head_len` bytes; NULL: not yet known */
    uint64_t head_len;
    struct cap_data_view view; /* of the head, once it is whole */
    size_t page;               /* Data: of `view`, not copied yet */
    uint64_t seen;             /* Data: end of the arena's bytes that were copied */
};

/* Looks the cap up: fills `layout` and `bytes` in. CAP_E_NOT_FOUND, or as the store fails. */
enum cap_error copying_find(struct copying *copying, struct cap_store *store,
                            const struct cap_hash *hash);

/*
 * Copies the next piece; *ret_done once all are there. The descriptor is made when first needed.
 * CAP_E_MEMORY_LIMIT where the process may not have so long a file, CAP_E_NO_MEMORY,
 * CAP_E_CORRUPT, or as the store fails: drop it then.
 */
enum cap_error copying_step(struct copying *copying, bool *ret_done);

/*
 * Seals the finished copy and hands out the descriptor, the caller's. CAP_E_NO_MEMORY where there
 * are too many open files, CAP_E_IO where the system does not do this.
 */
enum cap_error copying_seal(struct copying *copying, int *ret_fd);

/* Releases what it holds. A zeroed one with fd -1 is fine. Any thread. */
void copying_drop(struct copying *copying);

#endif
