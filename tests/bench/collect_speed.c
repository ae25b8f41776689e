/*
 * collect_speed DIR LIVE GARBAGE LEN: fills a store with LIVE caps of LEN bytes that have a lease
 * and GARBAGE that have none, published in turn, and collects. Prints one line of JSON: what was
 * collected, in how many slices, the time and the processor's, how many bytes were written, and
 * the longest slice.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/store/store.h"
#include "tests/support/filled.h"

#define BATCH 4000u
#define SLICE 256u /* caps: what the daemon collects at a time */
#define LEASE (UINT64_C(30) * 86400)

static void check(enum cap_error error)
{
    if (error != CAP_OK) {
        fprintf(stderr, "collect_speed: %s\n", cap_error_text(error));
        exit(1);
    }
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Bytes that this process has handed to write calls, with which LMDB writes pages. */
static uint64_t written(void)
{
    char line[64];
    uint64_t bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL &&
           sscanf(line, "wchar: %" SCNu64, &bytes) != 1) {
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return bytes;
}

static enum cap_error read_body(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct cap_hash *hash = ctx;
    uint8_t *bytes = dst;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = hash->bytes[(offset + i) % CAP_HASH_SIZE];
    }
    return CAP_OK;
}

static void on_decided(void *ctx, struct cap_admission *admission)
{
    (void)ctx;
    check(admission->error);
}

/* Publishes caps [first, first + count) in one commit. */
static void publish(struct cap_store *store, uint64_t first, size_t count, uint64_t len,
                    uint64_t keep_s)
{
    static struct cap_put puts[BATCH];
    const struct cap_admit_watch watch = {.decided = on_decided};
    struct cap_admission admission = {.puts = puts, .put_count = count, .keep_s = keep_s};
    struct cap_admission *admissions[] = {&admission};
    for (size_t i = 0; i < count; i++) {
        puts[i] = (struct cap_put){
            .hash = filled_hash(first + i),
            .info = {.kind = CAP_KIND_DATA, .body_len = len, .size = len},
        };
        puts[i].body = (struct cap_source){.read = read_body, .ctx = &puts[i].hash};
    }
    cap_store_admit(store, admissions, 1, &watch);
}

/* The garbage in as many parts as the live caps have batches, so that it lies among them. */
static void fill(struct cap_store *store, uint64_t live, uint64_t garbage, uint64_t len)
{
    uint64_t batches = (live > garbage ? live : garbage) / BATCH + 1;
    uint64_t kept = 0;
    uint64_t rest = 0;
    for (uint64_t i = 1; i <= batches; i++) {
        uint64_t until = live * i / batches;
        publish(store, kept, (size_t)(until - kept), len, LEASE);
        kept = until;
        until = garbage * i / batches;
        publish(store, live + rest, (size_t)(until - rest), len, 0);
        rest = until;
    }
}

static void collect(struct cap_store *store)
{
    struct cap_collected did = {.more = true};
    uint64_t caps = 0;
    unsigned slices = 0;
    double longest = 0;
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    double began = seconds(CLOCK_MONOTONIC);
    uint64_t before = written();
    for (; did.more; slices++) {
        double at = seconds(CLOCK_MONOTONIC);
        check(cap_store_collect(store, SLICE, &did));
        double took = seconds(CLOCK_MONOTONIC) - at;
        longest = took > longest ? took : longest;
        caps += did.caps;
    }
    printf("{\"collected\": %" PRIu64 ", \"slices\": %u, \"seconds\": %.3f, \"cpu\": %.3f, "
           "\"written\": %" PRIu64 ", \"longest\": %.4f}\n",
           caps, slices, seconds(CLOCK_MONOTONIC) - began, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu,
           written() - before, longest);
}

int main(int argc, char **argv)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = "for collection ";
    struct cap_store_lmdb_config config = {.dir = argc == 5 ? argv[1] : NULL};
    struct cap_store *store = NULL;
    if (argc != 5) {
        fprintf(stderr, "usage: collect_speed DIR LIVE GARBAGE LEN\n");
        return 2;
    }
    (void)mkdir(argv[1], 0700);
    check(cap_store_lmdb_open(&config, id, &store));
    fill(store, strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10),
         strtoull(argv[4], NULL, 10));
    collect(store);
    cap_store_close(store);
    return 0;
}
