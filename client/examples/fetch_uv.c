/*
 * Fetches caps in a program whose loop is libuv's: fetch_uv ADDRESS HASH...
 *
 * struct watch is all that a loop needs: one handle that waits for the socket, one timer, and
 * watch_again after every call that may have changed what to wait for.
 */
#include <capstore/async.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

struct watch {
    struct capstore *store;
    uv_loop_t *loop;
    uv_poll_t *poll; /* of the descriptor `fd`, or NULL */
    int fd;
    uv_timer_t timer;
};

static void watch_again(struct watch *watch);

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

static void stop_poll(struct watch *watch)
{
    if (watch->poll != NULL) {
        uv_close((uv_handle_t *)watch->poll, free_handle);
    }
    watch->poll = NULL;
    watch->fd = -1;
}

static void process(struct watch *watch, int revents)
{
    /* An error has reached the callback of every request; the descriptor is gone then. */
    (void)capstore_process(watch->store, revents);
    watch_again(watch);
}

static void on_ready(uv_poll_t *handle, int status, int events)
{
    int revents =
        ((events & UV_READABLE) != 0 ? POLLIN : 0) | ((events & UV_WRITABLE) != 0 ? POLLOUT : 0);
    process(handle->data, status < 0 ? POLLERR : revents);
}

static void on_time(uv_timer_t *timer)
{
    process(timer->data, 0);
}

/* Makes the loop wait for what the handle waits for now. */
static void watch_again(struct watch *watch)
{
    int fd = capstore_fd(watch->store);
    if (fd != watch->fd) {
        stop_poll(watch); /* libuv's handle is for one descriptor */
        watch->poll = fd >= 0 ? malloc(sizeof(*watch->poll)) : NULL;
        if (watch->poll != NULL && uv_poll_init(watch->loop, watch->poll, fd) == 0) {
            watch->poll->data = watch;
            watch->fd = fd;
        } else if (fd >= 0) {
            fprintf(stderr, "cannot watch the connection\n");
            exit(2);
        }
    }
    if (watch->poll != NULL) {
        int events = capstore_events(watch->store);
        int wanted = ((events & POLLIN) != 0 ? UV_READABLE : 0) |
                     ((events & POLLOUT) != 0 ? UV_WRITABLE : 0);
        (void)uv_poll_start(watch->poll, wanted, on_ready);
    }
    int timeout_ms = capstore_timeout_ms(watch->store);
    if (timeout_ms < 0) {
        (void)uv_timer_stop(&watch->timer);
    } else {
        uv_update_time(watch->loop);
        (void)uv_timer_start(&watch->timer, on_time, (uint64_t)timeout_ms, 0);
    }
}

/* ---- the program ---- */

struct program {
    struct watch watch;
    struct capstore_hash *hashes;
    size_t count;
    size_t left;
    size_t fetched;
};

/* The watch ends with the last request: then nothing keeps the loop. */
static void stop(struct program *program)
{
    stop_poll(&program->watch);
    capstore_close(program->watch.store);
    uv_close((uv_handle_t *)&program->watch.timer, NULL);
}

static void on_fetched(void *ctx, const struct capstore_answer *answer)
{
    struct program *program = ctx;
    if (answer->error == CAPSTORE_OK) {
        printf("%zu bytes\n", capstore_cap_body(answer->cap).len); /* verified against its hash */
        capstore_cap_free(answer->cap);
        program->fetched++;
    } else {
        fprintf(stderr, "%s: %s\n", capstore_error_name(answer->error),
                capstore_message(program->watch.store));
    }
    if (--program->left == 0) {
        stop(program);
    }
}

static void on_connected(void *ctx, const struct capstore_answer *answer)
{
    struct program *program = ctx;
    enum capstore_error error = answer->error;
    for (size_t i = 0; i < program->count && error == CAPSTORE_OK; i++) {
        error = capstore_async_get(program->watch.store, &program->hashes[i], on_fetched, program,
                                   NULL);
        program->left += error == CAPSTORE_OK ? 1 : 0;
    }
    if (error != CAPSTORE_OK) {
        fprintf(stderr, "%s: %s\n", capstore_error_name(error),
                capstore_message(program->watch.store));
    }
    if (program->left == 0) {
        stop(program);
    }
}

int main(int argc, char **argv)
{
    struct program program = {.watch = {.loop = uv_default_loop(), .fd = -1}};
    struct watch *watch = &program.watch;
    if (argc < 3 || capstore_new(NULL, &watch->store) != CAPSTORE_OK ||
        uv_timer_init(watch->loop, &watch->timer) != 0) {
        fprintf(stderr, "usage: fetch_uv ADDRESS HASH...\n");
        return 2;
    }
    watch->timer.data = watch;
    program.count = (size_t)argc - 2;
    program.hashes = calloc(program.count, sizeof(*program.hashes));
    enum capstore_error error = program.hashes != NULL ? CAPSTORE_OK : CAPSTORE_E_NO_MEMORY;
    for (size_t i = 0; i < program.count && error == CAPSTORE_OK; i++) {
        error = capstore_hash_parse(argv[2 + i], &program.hashes[i]);
    }
    if (error == CAPSTORE_OK) {
        error = capstore_async_connect(watch->store, argv[1], on_connected, &program);
    }
    if (error == CAPSTORE_OK) {
        watch_again(watch);
    } else {
        fprintf(stderr, "%s: %s\n", capstore_error_name(error), capstore_message(watch->store));
        uv_close((uv_handle_t *)&watch->timer, NULL);
    }
    (void)uv_run(watch->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(watch->loop);
    capstore_free(watch->store);
    free(program.hashes);
    return program.fetched == program.count ? 0 : 1;
}
