/*
 * fill_store DIR COUNT LEN [FIRST]: a store in DIR with COUNT caps of LEN bytes each, written
 * through the library in a fraction of the time that publishing them takes.
 *
 * The hashes and bodies are those of filled.h, from FIRST (0) on. The daemon compares what it reads
 * with the store's own checksums, not with the hash. DIR may hold caps of an earlier run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/store/store.h"
#include "tests/support/filled.h"

#define BATCH 4000u

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
    enum cap_error error = cap_store_stage_begin(store, put->info.body_len, &put->stage);
    struct cap_staging staging = {.stage = put->stage, .body = &put->body};
    while (error == CAP_OK && !staging.done) {
        error = cap_store_stage_step(store, &staging, 1);
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
            .hash = filled_hash(first + i),
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
    struct cap_store_lmdb_config config = {.dir = argc >= 4 ? argv[1] : NULL};
    struct cap_store *store = NULL;
    struct cap_put *puts = calloc(BATCH, sizeof(*puts));
    if (argc < 4 || argc > 5 || puts == NULL) {
        fprintf(stderr, "usage: fill_store DIR COUNT LEN [FIRST]\n");
        free(puts);
        return 2;
    }
    uint64_t count = strtoull(argv[2], NULL, 10);
    uint64_t len = strtoull(argv[3], NULL, 10);
    uint64_t from = argc == 5 ? strtoull(argv[4], NULL, 10) : 0;
    (void)mkdir(argv[1], 0700);
    enum cap_error error = cap_store_lmdb_open(&config, id, &store);
    for (uint64_t i = 0; error == CAP_OK && i < count; i += BATCH) {
        error = fill(store, puts, from + i, count - i < BATCH ? (size_t)(count - i) : BATCH, len);
    }
    cap_store_close(store);
    free(puts);
    if (error != CAP_OK) {
        fprintf(stderr, "fill_store: %s\n", cap_error_text(error));
        return 1;
    }
    return 0;
}
