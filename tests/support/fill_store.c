/*
 * fill_store DIR COUNT LEN: a store in DIR with COUNT caps of LEN bytes each, written through the
 * library in a fraction of the time that publishing them takes.
 *
 * Cap `i` has the hash whose four 64-bit words are splitmix64 of 4 i, 4 i + 1, ... and a body that
 * begins with the hash and goes on with its bytes. The daemon compares what it reads with the
 * store's own checksums, not with the hash. DIR may hold caps of an earlier run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/store/store.h"

#define BATCH 4000u

static uint64_t splitmix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static struct cap_hash hash_of(uint64_t index)
{
    struct cap_hash hash;
    for (size_t i = 0; i < 4; i++) {
        uint64_t word = splitmix64(4 * index + i);
        memcpy(hash.bytes + 8 * i, &word, 8);
    }
    return hash;
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

/* Writes one large body ahead of its cap. */
static enum cap_error stage(struct cap_store *store, struct cap_put *put)
{
    bool done = false;
    enum cap_error error = cap_store_stage_begin(store, put->info.body_len, &put->stage);
    while (error == CAP_OK && !done) {
        error = cap_store_stage_step(store, put->stage, &put->body, &done);
    }
    return error;
}

static void on_decided(void *ctx, struct cap_admission *admission)
{
    (void)ctx;
    (void)admission;
}

static enum cap_error fill(struct cap_store *store, struct cap_put *puts, uint64_t first,
                           size_t count, uint64_t len)
{
    const struct cap_admit_watch watch = {.decided = on_decided};
    struct cap_admission admission = {.puts = puts, .put_count = count};
    struct cap_admission *admissions[] = {&admission};
    enum cap_error error = CAP_OK;
    for (size_t i = 0; i < count && error == CAP_OK; i++) {
        puts[i] = (struct cap_put){
            .hash = hash_of(first + i),
            .info = {.kind = CAP_KIND_DATA, .body_len = len, .size = len},
        };
        puts[i].body = (struct cap_source){.read = read_body, .ctx = &puts[i].hash};
        if (len > CAP_ADMIT_LEN / BATCH) {
            error = stage(store, &puts[i]);
        }
    }
    if (error != CAP_OK) {
        return error;
    }
    cap_store_admit(store, admissions, 1, &watch);
    return admission.error;
}

int main(int argc, char **argv)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = "filled for tests";
    struct cap_store_lmdb_config config = {.dir = argc == 4 ? argv[1] : NULL};
    struct cap_store *store = NULL;
    struct cap_put *puts = calloc(BATCH, sizeof(*puts));
    if (argc != 4 || puts == NULL) {
        fprintf(stderr, "usage: fill_store DIR COUNT LEN\n");
        free(puts);
        return 2;
    }
    uint64_t count = strtoull(argv[2], NULL, 10);
    uint64_t len = strtoull(argv[3], NULL, 10);
    (void)mkdir(argv[1], 0700);
    enum cap_error error = cap_store_lmdb_open(&config, id, &store);
    for (uint64_t i = 0; error == CAP_OK && i < count; i += BATCH) {
        error = fill(store, puts, i, count - i < BATCH ? (size_t)(count - i) : BATCH, len);
    }
    cap_store_close(store);
    free(puts);
    if (error != CAP_OK) {
        fprintf(stderr, "fill_store: %s\n", cap_error_text(error));
        return 1;
    }
    return 0;
}
