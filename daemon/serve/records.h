/*
 * What the store says of caps that were looked up lately, but for their bodies.
 *
 * A record is a copy, so that using it touches no page of the store. Caps do not change, so it
 * stays true until the cap is gone (gone.h); that a cap is not there is never kept. Bounded in
 * bytes; what has not been asked for since it last came up goes first (a clock).
 *
 * Each loop has its own. Its thread finds without a lock, and takes one to change what other loops
 * may see, which they do when they miss (records_copy). Loop thread only, but for that and
 * record_new.
 */
#ifndef DAEMON_SERVE_RECORDS_H
#define DAEMON_SERVE_RECORDS_H

#include <sys/queue.h>
#include <uv.h>

#include "daemon/core/env.h"
#include "daemon/core/keyed.h"
#include "lib/store/store.h"

struct record {
    LIST_ENTRY(record) find;
    TAILQ_ENTRY(record) clock;
    struct cap_hash hash;
    struct cap_info info;
    bool touched;   /* asked for since it last came up */
    bool in_memory; /* when a window of its body was last read, none of it had to be read in */
};

LIST_HEAD(record_bucket, record);

struct records {
    struct record_bucket *buckets;
    size_t mask; /* of their number, a power of two */
    uint32_t keys[KEYED_WORDS];
    TAILQ_HEAD(, record) clock;
    uint64_t count;
    uint64_t max;    /* of `count` */
    uv_mutex_t lock; /* of the table and of what its records say, but for `touched` */
};

/* An empty cache of at most `max` bytes; 0: it keeps nothing. CAP_E_NO_MEMORY, or as `env`. */
enum cap_error records_open(struct records *records, const struct env *env, uint64_t max);

/* Frees all records. A zeroed one is fine. */
void records_close(struct records *records);

/* Memory of the records, in bytes. */
uint64_t records_bytes(const struct records *records);

/* A record, the caller's until records_add or free. NULL: no memory. Any thread. */
struct record *record_new(const struct cap_hash *hash, const struct cap_info *info);

/* What is known of a cap; NULL: nothing. Valid until the next records_add. */
struct record *records_find(struct records *records, const struct cap_hash *hash);

/* A copy, the caller's, of what another loop knows of a cap; NULL: nothing, or no memory. */
struct record *records_copy(struct records *records, const struct cap_hash *hash);

/* Takes a record over; it may be freed at once. NULL is fine. */
void records_add(struct records *records, struct record *record);

/* Forgets what is known of a cap, or of all. */
void records_drop(struct records *records, const struct cap_hash *hash);
void records_clear(struct records *records);

/* Notes whether the pages of a record of `records` were in memory when they were last read. */
void records_note(struct records *records, struct record *record, bool in_memory);

#endif
