/*
 * Many requests in flight on one handle, for a caller with a loop of its own.
 *
 * Connect with capstore_async_connect, or with capstore_connect, which blocks until the daemon has
 * said hello. Then submit requests with the functions here, and let the loop watch capstore_fd for
 * capstore_events, for at most capstore_timeout_ms; then call capstore_process. Readiness is
 * level-triggered, as with poll(2). All three may have changed after any call on the handle: ask
 * again before each wait.
 *
 *     while (left > 0) {
 *         struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
 *         poll(&entry, 1, capstore_timeout_ms(store));
 *         error = capstore_process(store, entry.revents);
 *     }
 *
 * capstore_map, capstore_space and capstore_closure only block: a loop that must not wait for them
 * leaves them to a handle of their own on another thread.
 *
 * The examples fetch_many.c and fetch_uv.c (libuv) are such loops, complete.
 *
 * Any number of requests may be submitted: those beyond the daemon's limit wait their turn in the
 * library. Answers come in any order.
 *
 * Callbacks: a request that was submitted with CAPSTORE_OK has its callback run exactly once, by
 * capstore_process, by a blocking call on the same handle, by capstore_close or by capstore_free,
 * on the thread that called; never inside the call that submitted it. A callback may submit more,
 * cancel others and close the handle. It must not free the handle nor make a blocking call on it
 * (CAPSTORE_E_INVALID_ARGUMENT). Sources and write functions must not use the handle at all.
 *
 * Threads, verification and memory are as in capstore.h; the bodies of requests that are in flight
 * together hold at most options.max_bodies bytes, and a body for which there is no room fails with
 * CAPSTORE_E_MEMORY_LIMIT. A body is hashed by capstore_process, about 10 ns a byte without
 * hardware support for SHA-256, a long one while it arrives: about 1 MiB per call.
 *
 * Errors: a request fails alone, and the connection stays usable, unless the stream itself is
 * unusable: then every request ends with that error, and the handle is no longer connected.
 * Nothing is sent again. options.timeout_ms holds for each request from when it is sent; time in
 * the queue does not count, nor does time in the caller's functions that the library calls. A late
 * answer makes the connection unusable; a caller with less patience cancels the request.
 * options.progress is not called.
 */
#ifndef CAPSTORE_ASYNC_H
#define CAPSTORE_ASYNC_H

#include <capstore/capstore.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A request from its submission to the end of its callback; opaque. */
struct capstore_request;

/* ---- the caller's loop ---- */

/* The socket, or -1 when there is none to wait for. The handle owns it; only wait for it. */
int capstore_fd(const struct capstore *store);

/* What to wait for: POLLIN, or POLLIN | POLLOUT, or POLLOUT while connecting; 0 when there is no
 * socket. */
int capstore_events(const struct capstore *store);

/* Milliseconds after which capstore_process must be called although nothing happened; 0: at once;
 * -1: never. */
int capstore_timeout_ms(const struct capstore *store);

/*
 * Sends and receives what it can without waiting, then runs callbacks. `revents` is what poll(2)
 * said of the socket; 0 after a timeout. Any other value than CAPSTORE_OK means that the handle is
 * not connected (any more); the callbacks have run.
 */
enum capstore_error capstore_process(struct capstore *store, int revents);

/* How many requests were submitted and have not had their callback. Connecting is not one. */
size_t capstore_pending(const struct capstore *store);

struct capstore_answer;

/* Takes the outcome of a request. */
typedef void capstore_done_cb(void *ctx, const struct capstore_answer *answer);

/*
 * Begins to connect, after closing an earlier connection, to an address as for capstore_connect;
 * the callback runs when the daemon has said hello, or with the error of capstore_connect. Until
 * then the handle is not connected (nothing can be submitted: CAPSTORE_E_CONNECTION_LOST), but
 * capstore_fd, capstore_events and capstore_timeout_ms say what to wait for; the descriptor
 * changes, to another number, where a name has several addresses. options.timeout_ms holds for
 * connecting and then for the hello; capstore_close gives up. Only resolving a host name blocks.
 *
 * CAPSTORE_E_INVALID_ARGUMENT (also inside a callback), CAPSTORE_E_CONNECT when it is refused at
 * once, CAPSTORE_E_NO_MEMORY; then the callback does not run.
 */
enum capstore_error capstore_async_connect(struct capstore *store, const char *address,
                                           capstore_done_cb *done, void *ctx);

/* ---- requests ---- */

/*
 * How a request ended. With an error, capstore_message says more, and capstore_unresolved lists the
 * slots, as after a blocking call. Only the result that was asked for is set, and only on success.
 * Valid during the callback, except for *cap, which belongs to the callback from then on. Later
 * versions may append members.
 */
struct capstore_answer {
    enum capstore_error error;
    struct capstore_cap *cap; /* capstore_async_get: release with capstore_cap_free */
    const uint8_t *kinds;     /* capstore_async_has: as capstore_has */
    size_t kind_count;
    struct capstore_stat_result stat;
    struct capstore_put_result put;
    struct capstore_publish_result publish;
    const struct capstore_kept *kept; /* capstore_async_keep: as capstore_keep */
    size_t kept_count;
};

/*
 * Each of these submits what the blocking call of that name does; the arguments mean the same.
 * Hashes are copied; what a source or a write function uses must stay until the callback.
 * *ret_request, unless NULL, can be cancelled until the callback runs. When the call fails, nothing
 * was submitted and the callback does not run: CAPSTORE_E_CONNECTION_LOST when not connected,
 * CAPSTORE_E_NO_MEMORY, CAPSTORE_E_INVALID_ARGUMENT, or as stated there.
 */

/* Fetches and verifies. */
enum capstore_error capstore_async_get(struct capstore *store, const struct capstore_hash *hash,
                                       capstore_done_cb *done, void *ctx,
                                       struct capstore_request **ret_request);

/*
 * Fetches and verifies many caps, at most info.max_hashes, else CAPSTORE_E_TOO_MANY_HASHES. `got`
 * is called for each as it arrives, by capstore_process, with `ctx` too; it must not use the
 * handle. `done` runs after the last of them, or with the error that ended the request early.
 * CAPSTORE_E_UNSUPPORTED_REQUEST: the daemon does not know such requests; use capstore_async_get.
 */
enum capstore_error capstore_async_get_many(struct capstore *store,
                                            const struct capstore_hash *hashes, size_t count,
                                            capstore_got_cb *got, capstore_done_cb *done, void *ctx,
                                            struct capstore_request **ret_request);

/* Fetches a part; `write` is called by capstore_process, with `ctx` too. */
enum capstore_error capstore_async_get_range(struct capstore *store,
                                             const struct capstore_hash *hash, uint64_t offset,
                                             uint64_t len, capstore_write_cb *write,
                                             capstore_done_cb *done, void *ctx,
                                             struct capstore_request **ret_request);

/* Asks which caps are there: at most info.max_hashes, else CAPSTORE_E_TOO_MANY_HASHES. */
enum capstore_error capstore_async_has(struct capstore *store, const struct capstore_hash *hashes,
                                       size_t count, capstore_done_cb *done, void *ctx,
                                       struct capstore_request **ret_request);

/* Has caps kept: at most info.max_hashes, else CAPSTORE_E_TOO_MANY_HASHES.
 * CAPSTORE_E_UNSUPPORTED_REQUEST as for capstore_keep. */
enum capstore_error capstore_async_keep(struct capstore *store, const struct capstore_hash *hashes,
                                        size_t count, uint32_t keep_s, capstore_done_cb *done,
                                        void *ctx, struct capstore_request **ret_request);

/* Asks what the daemon knows of a cap. */
enum capstore_error capstore_async_stat(struct capstore *store, const struct capstore_hash *hash,
                                        capstore_done_cb *done, void *ctx,
                                        struct capstore_request **ret_request);

/* Publishes a Data cap. Content that is mostly holes is read and hashed before this returns: the
 * source's error. */
enum capstore_error capstore_async_put_data(struct capstore *store,
                                            const struct capstore_source *content, uint64_t size,
                                            unsigned flags, capstore_done_cb *done, void *ctx,
                                            struct capstore_request **ret_request);

/* Publishes a cap by its hash and served body, whose front is read before this returns. */
enum capstore_error capstore_async_put_cap(struct capstore *store, const struct capstore_hash *hash,
                                           enum capstore_kind kind,
                                           const struct capstore_source *body,
                                           capstore_done_cb *done, void *ctx,
                                           struct capstore_request **ret_request);

/* Uploads a wire Image, part of whose structure is read before this returns. */
enum capstore_error capstore_async_publish(struct capstore *store,
                                           const struct capstore_source *wire, unsigned flags,
                                           capstore_done_cb *done, void *ctx,
                                           struct capstore_request **ret_request);

/*
 * Gives a request up: its callback runs later with CAPSTORE_E_CANCELLED, or with its outcome if it
 * was done already. What was being published may have been published.
 */
void capstore_cancel(struct capstore_request *request);

#ifdef __cplusplus
}
#endif

#endif
