/* Windows that are read in, kept for a moment and sent. */
#include "daemon/serve/window.h"

#include "daemon/serve/warm.h"
#include "lib/cap/must.h"

/*
 * Adds the store's next window, read in and checked by the store. Checked each time: pages that are
 * in memory may have been dropped and read from the device since the last time, ahead of others.
 */
static enum cap_error add_part(struct window *window, struct cap_read *read,
                               const struct cap_hash *hash, uint64_t offset, uint64_t len)
{
    const struct env *env = window->serve->shard->context->env;
    struct iovec *iov = window->iov + window->count;
    int count = 0;
    size_t there = 0;
    enum cap_error error = cap_store_peek(read, hash, offset, len, iov, &count, &there);
    if (error != CAP_OK) {
        return error;
    }
    bool in_memory = warm_is_resident(env, iov, count);
    window->was_in_memory = window->was_in_memory && in_memory;
    if (!in_memory) {
        error = warm_populate(env, iov, count);
    }
    if (error == CAP_OK) {
        error = cap_store_window(read, hash, offset, len, iov, &count, &there);
    }
    if (error == CAP_OK && there == 0) {
        error = CAP_E_CORRUPT; /* nobody asks for bytes past a body's end */
    }
    if (error == CAP_OK) {
        window->count += count;
        window->len += there;
    }
    return error;
}

enum cap_error window_fill(struct window *window, struct cap_read *read,
                           const struct cap_hash *hash, uint64_t offset, uint64_t len,
                           unsigned parts)
{
    enum cap_error error = CAP_OK;
    window->read = NULL;
    window->count = window->first = 0;
    window->len = 0;
    window->offset = offset;
    window->was_in_memory = true;
    for (unsigned i = 0; i < parts && error == CAP_OK && window->len < len; i++) {
        error = add_part(window, read, hash, offset + window->len, len - window->len);
    }
    return window->len > 0 ? CAP_OK : error; /* what is sound goes out first */
}

enum cap_error window_read(struct window *window, const struct cap_hash *hash, uint64_t offset,
                           uint64_t len, unsigned parts)
{
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(window->serve->shard->context->store, &read);
    window->read = NULL;
    if (error == CAP_OK) {
        error = window_fill(window, read, hash, offset, len, parts);
    }
    if (error == CAP_OK) {
        window->read = read;
        return CAP_OK;
    }
    cap_store_read_end(read);
    return error;
}

enum cap_error window_copy(struct serve *serve, struct cap_read *read, const struct cap_hash *hash,
                           uint64_t offset, size_t len, uint8_t *dst, unsigned *cold)
{
    struct window window = {.serve = serve};
    enum cap_error error = window_fill(&window, read, hash, offset, len, 1);
    if (error == CAP_OK && window.len != len) {
        error = CAP_E_CORRUPT;
    }
    if (cold != NULL) {
        *cold += error == CAP_OK && !window.was_in_memory;
    }
    return error == CAP_OK ? cap_store_copy(read, window.iov, window.count, dst) : error;
}

void window_unread(struct window *window)
{
    cap_store_read_end(window->read);
    window->read = NULL;
}

static void on_timer(uv_timer_t *timer);

static void start_timer(struct serve *serve)
{
    (void)uv_timer_start(&serve->timer, on_timer, WINDOW_KEEP_MS, 0);
}

void window_keep(struct window *window)
{
    struct serve *serve = window->serve;
    must(window->read != NULL);
    window->since_us = env_monotonic_us(serve->shard->context->env);
    if (serve->window_count == WINDOWS_MAX) {
        window_drop(TAILQ_FIRST(&serve->windows));
    }
    if (serve->window_count++ == 0 && !uv_is_active((uv_handle_t *)&serve->timer)) {
        start_timer(serve);
    }
    TAILQ_INSERT_TAIL(&serve->windows, window, link);
}

void window_spans(const struct window *window, size_t len, struct iovec *ret_iov, int *ret_count)
{
    int count = 0;
    for (int i = window->first; i < window->count && count < (int)CAP_STORE_WINDOW_IOV && len > 0;
         i++) {
        ret_iov[count] = window->iov[i];
        if (ret_iov[count].iov_len > len) {
            ret_iov[count].iov_len = len;
        }
        len -= ret_iov[count++].iov_len;
    }
    *ret_count = count;
}

void window_sent(struct window *window, size_t len)
{
    window->offset += len;
    window->len -= len;
    if (window->len == 0) {
        window_drop(window);
        return;
    }
    while (len >= window->iov[window->first].iov_len) {
        len -= window->iov[window->first++].iov_len;
    }
    struct iovec *span = &window->iov[window->first];
    span->iov_base = (uint8_t *)span->iov_base + len;
    span->iov_len -= len;
}

void window_drop(struct window *window)
{
    if (window->read == NULL) {
        return;
    }
    cap_store_read_end(window->read);
    window->read = NULL;
    window->serve->window_count--;
    TAILQ_REMOVE(&window->serve->windows, window, link);
}

/* Drops those that have waited for too long. */
static void on_timer(uv_timer_t *timer)
{
    struct serve *serve = timer->data;
    uint64_t now = env_monotonic_us(serve->shard->context->env);
    while (!TAILQ_EMPTY(&serve->windows)) {
        struct window *window = TAILQ_FIRST(&serve->windows);
        if (now - window->since_us < UINT64_C(1000) * WINDOW_KEEP_MS) {
            start_timer(serve);
            return;
        }
        window_drop(window);
    }
}
