/*
 * A window: a part of a body on its way from a reader to the socket.
 *
 * A reader looks it up in a snapshot of its own and reads its pages in; the loop sends them in
 * place. It is one window of the store's, or several where the device is not expected to be asked.
 * Until they are sent the window keeps the snapshot, which pins free space and a reader of the
 * store's: so only few windows wait for their sockets, and only for a moment. Past either bound the
 * oldest is dropped, and asked for again when its socket is writable.
 */
#ifndef DAEMON_SERVE_WINDOW_H
#define DAEMON_SERVE_WINDOW_H

#include "daemon/serve/serve.h"

#define WINDOW_PARTS   4u /* windows of the store's at most: 1 MiB, what a turn may send */
#define WINDOW_SPANS   (WINDOW_PARTS * CAP_STORE_WINDOW_IOV)
#define WINDOWS_MAX    64u /* that wait for their sockets, of one loop */
#define WINDOW_KEEP_MS 100u

struct window {
    TAILQ_ENTRY(window) link; /* of the room's, while it has a snapshot on the loop */
    struct serve *serve;
    struct cap_read *read; /* NULL: there is no window */
    uint64_t offset;       /* in the body, of what is not sent yet */
    struct iovec iov[WINDOW_SPANS];
    int count;
    int first; /* span that is not sent yet */
    size_t len;
    uint64_t since_us; /* monotonic: when the loop got it */
    bool was_in_memory;
};

/*
 * In a reader: `len` bytes (not 0) of a body from `offset`, which lies inside the body, or as many
 * as `parts` windows of the store's have, read in and checked by the store. On an error there is no
 * window. CAP_E_NOT_FOUND, CAP_E_CORRUPT, CAP_E_IO, or as the store fails.
 */
enum cap_error window_read(struct window *window, const struct cap_hash *hash, uint64_t offset,
                           uint64_t len, unsigned parts);

/* The same in a snapshot of the caller's, which stays there: the window is not one to keep. */
enum cap_error window_fill(struct window *window, struct cap_read *read,
                           const struct cap_hash *hash, uint64_t offset, uint64_t len,
                           unsigned parts);

/*
 * In a reader, in a snapshot of the caller's: copies `len` bytes (not 0, at most CAP_STORE_WINDOW)
 * of a body from `offset`, which must have them, to `dst`. Counts in *cold, unless NULL, when they
 * were not in memory. As window_fill; CAP_E_CORRUPT too for a body that is shorter.
 */
enum cap_error window_copy(struct serve *serve, struct cap_read *read, const struct cap_hash *hash,
                           uint64_t offset, size_t len, uint8_t *dst, unsigned *cold);

/* Ends a window that window_read has filled, in the reader: its spans are dead. */
void window_unread(struct window *window);

/* On the loop, from here: the reader has handed a window over, which is there. */
void window_keep(struct window *window);

/* Its next bytes, at most `len`, as spans, at most CAP_STORE_WINDOW_IOV. */
void window_spans(const struct window *window, size_t len, struct iovec *ret_iov, int *ret_count);

/* `len` bytes are sent. The last ones end it. */
void window_sent(struct window *window, size_t len);

/* Ends it. None is fine. */
void window_drop(struct window *window);

#endif
