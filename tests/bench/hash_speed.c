/*
 * hash_speed nodes RUN SECONDS      nanoseconds per merkle node, in runs of RUN pairs
 * hash_speed region BYTES THREADS   seconds to hash BYTES as an Image's code, in equal parts
 *
 * Prints one line of JSON. The part of a thread is a tree of its own: their roots would have to be
 * joined, which takes no time.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/cap/merkle.h"
#include "lib/cap/sha256.h"

#define THREADS 64u
#define BATCH   (1u << 16) /* pairs hashed between two looks at the clock, at least */

struct part {
    pthread_t thread;
    struct cap_byte_tree tree;
    const uint8_t *bytes;
    size_t len;
    struct cap_hash root;
};

static double now(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* Bytes that are neither zero nor alike, so that nothing may be left out. */
static uint8_t *make_bytes(size_t len)
{
    uint8_t *bytes = malloc(len);
    for (size_t i = 0; bytes != NULL && i + 8 <= len; i += 8) {
        cap_store64(bytes + i, (i + 1) * UINT64_C(0x9e3779b97f4a7c15));
    }
    return bytes;
}

static int measure_nodes(size_t run, double seconds)
{
    uint8_t *pairs = make_bytes(run * 64), *out = malloc(run * CAP_HASH_SIZE);
    if (pairs == NULL || out == NULL) {
        free(pairs);
        free(out);
        return 1;
    }
    uint64_t count = 0;
    double began = now(), took = 0;
    do {
        for (size_t done = 0; done < BATCH; done += run) {
            cap_sha256_pairs(out, pairs, run);
            count += run;
        }
        took = now() - began;
    } while (took < seconds);
    printf("{\"ns_per_node\": %.2f, \"nodes\": %llu}\n", took * 1e9 / (double)count,
           (unsigned long long)count);
    free(pairs);
    free(out);
    return 0;
}

static void *hash_part(void *context)
{
    struct part *part = context;
    cap_byte_tree_init(&part->tree);
    cap_byte_tree_update(&part->tree, part->bytes, part->len);
    cap_byte_tree_list_root(&part->tree, &part->root);
    return NULL;
}

static int measure_region(size_t len, unsigned threads)
{
    static struct part parts[THREADS];
    uint8_t *bytes = make_bytes(len);
    if (bytes == NULL || threads == 0 || threads > THREADS) {
        free(bytes);
        return 1;
    }
    size_t share = len / threads;
    double began = now();
    for (unsigned i = 0; i < threads; i++) {
        parts[i].bytes = bytes + i * share;
        parts[i].len = i + 1 == threads ? len - i * share : share;
        if (pthread_create(&parts[i].thread, NULL, hash_part, &parts[i]) != 0) {
            exit(1);
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        (void)pthread_join(parts[i].thread, NULL);
    }
    double took = now() - began;
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(&parts[0].root, hex);
    printf("{\"seconds\": %.6f, \"ns_per_node\": %.2f, \"root\": \"%s\"}\n", took,
           took * 1e9 / ((double)len / CAP_HASH_SIZE), hex);
    free(bytes);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "nodes") == 0 && strtoull(argv[2], NULL, 10) > 0) {
        return measure_nodes(strtoull(argv[2], NULL, 10), strtod(argv[3], NULL));
    }
    if (argc == 4 && strcmp(argv[1], "region") == 0) {
        return measure_region(strtoull(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10));
    }
    fprintf(stderr, "usage: hash_speed nodes RUN SECONDS | region BYTES THREADS\n");
    return 2;
}
