/*
 * lmdb_commits FILE LEN BATCH SECONDS: durable commits of bare LMDB, each of BATCH publications of
 * a Data cap of LEN bytes: the records that the store writes for one, with the store's flags, and
 * nothing around them. What capstored cannot exceed on this disk. Prints one line of JSON.
 */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/store/lmdb/lmdb.h"
#include "tests/support/filled.h"

#define MAP_SIZE  (UINT64_C(64) << 30)
#define RECORD    30u /* a cap's, with figures as small as these */
#define BODY_HEAD 29u /* a served body's bytes before the content of its only page */

enum table { CAPS, BULK, META, TABLES };

struct store {
    MDB_env *env;
    MDB_dbi tables[TABLES];
    uint64_t next;
    uint8_t *body;
    size_t body_len;
};

static void check(int code)
{
    if (code != 0) {
        fprintf(stderr, "lmdb_commits: %s\n", mdb_strerror(code));
        exit(1);
    }
}

static void open_store(struct store *store, const char *path)
{
    static const char *const names[TABLES] = {"caps", "bulk", "meta"};
    MDB_txn *txn = NULL;
    check(mdb_env_create(&store->env));
    check(mdb_env_set_mapsize(store->env, (size_t)MAP_SIZE));
    check(mdb_env_set_maxdbs(store->env, TABLES));
    check(mdb_env_open(store->env, path, MDB_NOSUBDIR | MDB_NOTLS, 0600));
    check(mdb_txn_begin(store->env, NULL, 0, &txn));
    for (int i = 0; i < TABLES; i++) {
        check(mdb_dbi_open(txn, names[i], MDB_CREATE, &store->tables[i]));
    }
    check(mdb_txn_commit(txn));
}

static void put(const struct store *store, MDB_txn *txn, enum table table, const void *key,
                size_t key_len, const void *value, size_t len)
{
    MDB_val k = {key_len, (void *)(uintptr_t)key};
    MDB_val v = {len, (void *)(uintptr_t)value};
    check(mdb_put(txn, store->tables[table], &k, &v, table == BULK ? MDB_APPEND : 0));
}

static void publish(struct store *store, MDB_txn *txn)
{
    uint8_t record[RECORD + STORE_SEAL_SIZE] = {1};
    uint8_t root[CAP_HASH_SIZE + STORE_SEAL_SIZE] = {1};
    uint8_t chunk[STORE_CHUNK_KEY] = {0};
    struct cap_hash hash = filled_hash(store->next);
    cap_store64(store->body + BODY_HEAD, store->next);
    for (unsigned i = 0; i < 8; i++) {
        chunk[i] = (uint8_t)(store->next >> (56 - 8 * i));
    }
    put(store, txn, CAPS, hash.bytes, sizeof(hash.bytes), record, sizeof(record));
    for (uint64_t at = 0; at < store->body_len;) {
        const struct lmdb_chunk piece = lmdb_chunk_at(STORE_STREAM_BODY, store->body_len, at);
        chunk[STORE_CHUNK_KEY - 1] = (uint8_t)piece.number;
        put(store, txn, BULK, chunk, sizeof(chunk), store->body + at, piece.len + STORE_SEAL_SIZE);
        at += piece.len;
    }
    chunk[STORE_CHUNK_KEY - 1] = 0;
    chunk[8] = 1; /* the other stream: page roots */
    put(store, txn, BULK, chunk, sizeof(chunk), root, sizeof(root));
    store->next++;
}

static double now(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: lmdb_commits FILE LEN BATCH SECONDS\n");
        return 2;
    }
    uint64_t batch = strtoull(argv[3], NULL, 10);
    double seconds = strtod(argv[4], NULL), took = 0;
    struct store store = {0};
    store.body_len = BODY_HEAD + strtoull(argv[2], NULL, 10);
    store.body = calloc(1, store.body_len + STORE_SEAL_SIZE);
    if (store.body == NULL) {
        return 1;
    }
    open_store(&store, argv[1]);
    uint8_t state[STORE_STATE_SIZE + STORE_SEAL_SIZE] = {0};
    double began = now();
    do {
        MDB_txn *txn = NULL;
        check(mdb_txn_begin(store.env, NULL, 0, &txn));
        for (uint64_t i = 0; i < batch; i++) {
            publish(&store, txn);
        }
        cap_store64(state, store.next);
        put(&store, txn, META, "state", 5, state, sizeof(state));
        check(mdb_txn_commit(txn));
        took = now() - began;
    } while (took < seconds);
    printf("{\"rate\": %.1f, \"commits_per_second\": %.1f}\n", (double)store.next / took,
           (double)store.next / (double)batch / took);
    mdb_env_close(store.env);
    free(store.body);
    return 0;
}
