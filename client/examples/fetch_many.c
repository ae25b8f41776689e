/* Fetches many caps at once with a loop of its own: fetch_many ADDRESS HASH... */
#include <capstore/async.h>
#include <poll.h>
#include <stdio.h>

struct total {
    size_t caps;
    size_t bytes;
};

static void on_done(void *ctx, const struct capstore_answer *answer)
{
    struct total *total = ctx;
    if (answer->error != CAPSTORE_OK) {
        fprintf(stderr, "%s\n", capstore_error_name(answer->error));
        return;
    }
    total->caps++;
    total->bytes += capstore_cap_body(answer->cap).len; /* verified against its hash */
    capstore_cap_free(answer->cap);
}

int main(int argc, char **argv)
{
    struct capstore *store;
    struct total total = {0, 0};

    if (argc < 3 || capstore_new(NULL, &store) != CAPSTORE_OK) {
        return 2;
    }
    enum capstore_error error = capstore_connect(store, argv[1]);
    for (int i = 2; i < argc && error == CAPSTORE_OK; i++) {
        struct capstore_hash hash;
        error = capstore_hash_parse(argv[i], &hash);
        if (error == CAPSTORE_OK) {
            error = capstore_async_get(store, &hash, on_done, &total, NULL);
        }
    }
    while (error == CAPSTORE_OK && capstore_pending(store) > 0) {
        struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
        (void)poll(&entry, 1, capstore_timeout_ms(store));
        error = capstore_process(store, entry.revents);
    }
    if (error != CAPSTORE_OK) {
        fprintf(stderr, "%s: %s\n", capstore_error_name(error), capstore_message(store));
    }
    printf("%zu caps, %zu bytes\n", total.caps, total.bytes);
    capstore_free(store);
    return total.caps == (size_t)argc - 2 ? 0 : 1;
}
