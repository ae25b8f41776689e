/*
 * map_speed ADDRESS BYTES COUNT SEED
 *
 * Publishes a Data cap of BYTES, maps it once, which has the daemon copy it, and then COUNT times
 * more, each time on the same connection and unmapped again; nothing of it is read. Prints one line
 * of JSON, in microseconds; `verify_us` is a map that hashes it.
 */
#include <capstore/capstore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_us(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Bytes of which no page is zero or like another. */
static enum capstore_error publish(struct capstore *store, size_t len, uint64_t seed,
                                   struct capstore_hash *ret_hash)
{
    struct capstore_put_result result;
    uint8_t *content = malloc(len);
    if (content == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    for (size_t i = 0; i < len; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        content[i] = (uint8_t)(seed >> 56 | 1);
    }
    struct capstore_bytes bytes = {content, len};
    struct capstore_source source = capstore_source_memory(&bytes);
    enum capstore_error error = capstore_put_data(store, &source, 0, 0, &result);
    free(content);
    if (error == CAPSTORE_OK) {
        *ret_hash = result.cap_hash;
    }
    return error;
}

/* Maps and unmaps; the time of the map alone. */
static enum capstore_error map_once(struct capstore *store, const struct capstore_hash *hash,
                                    enum capstore_verify verify, double *ret_us)
{
    struct capstore_map *map = NULL;
    double began = now_us();
    enum capstore_error error = capstore_map(store, hash, verify, &map);
    *ret_us = now_us() - began;
    capstore_map_free(map);
    return error;
}

static enum capstore_error measure(struct capstore *store, size_t len, size_t count, uint64_t seed)
{
    struct capstore_hash hash;
    double first = 0;
    double verify = 0;
    double *times = calloc(count, sizeof(*times));
    enum capstore_error error =
        times == NULL ? CAPSTORE_E_NO_MEMORY : publish(store, len, seed, &hash);
    if (error == CAPSTORE_OK) {
        error = map_once(store, &hash, CAPSTORE_VERIFY_NEVER, &first);
    }
    for (size_t i = 0; error == CAPSTORE_OK && i < count; i++) {
        error = map_once(store, &hash, CAPSTORE_VERIFY_NEVER, &times[i]);
    }
    if (error == CAPSTORE_OK) {
        error = map_once(store, &hash, CAPSTORE_VERIFY_ALWAYS, &verify);
    }
    if (error == CAPSTORE_OK) {
        qsort(times, count, sizeof(*times), by_value);
        printf("{\"first_us\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"verify_us\": %.1f}\n",
               first, times[count / 2], times[count - 1 - count / 100], verify);
    }
    free(times);
    return error;
}

int main(int argc, char **argv)
{
    struct capstore *store = NULL;
    if (argc != 5 || capstore_new(NULL, &store) != CAPSTORE_OK) {
        return 2;
    }
    size_t len = (size_t)strtoull(argv[2], NULL, 10);
    size_t count = (size_t)strtoull(argv[3], NULL, 10);
    enum capstore_error error =
        count > 0 ? capstore_connect(store, argv[1]) : CAPSTORE_E_INVALID_ARGUMENT;
    if (error == CAPSTORE_OK) {
        error = measure(store, len, count, strtoull(argv[4], NULL, 10));
    }
    if (error != CAPSTORE_OK) {
        fprintf(stderr, "%s: %s\n", capstore_error_name(error), capstore_message(store));
    }
    capstore_free(store);
    return error == CAPSTORE_OK ? 0 : 1;
}
