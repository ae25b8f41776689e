/* Records in a table of chains and a clock. */
#include "daemon/serve/records.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_TYPICAL 256u /* bytes: a record without a body, as most are; one bucket for each */
#define MALLOC_HEAD    16u  /* bytes that the allocator takes beside a block */

static uint64_t size_of(const struct record *record)
{
    return sizeof(*record) + MALLOC_HEAD + (record->has_body ? record->info.body_len : 0);
}

static struct record_bucket *bucket_of(struct records *records, const struct cap_hash *hash)
{
    return &records->buckets[keyed_hash(records->keys, hash) & records->mask];
}

enum cap_error records_open(struct records *records, const struct env *env, uint64_t max)
{
    size_t buckets = 1;
    *records = (struct records){.max = max};
    STAILQ_INIT(&records->clock);
    if (uv_mutex_init(&records->lock) != 0) {
        return CAP_E_NO_MEMORY;
    }
    while (buckets < max / RECORD_TYPICAL) {
        buckets *= 2;
    }
    records->buckets = calloc(buckets, sizeof(*records->buckets));
    if (records->buckets == NULL) {
        uv_mutex_destroy(&records->lock);
        return CAP_E_NO_MEMORY;
    }
    records->mask = buckets - 1;
    return env->random(env->ctx, records->keys, sizeof(records->keys));
}

/* Drops the record that comes up next. Under the lock, or when nobody else looks any more. */
static void drop_first(struct records *records)
{
    struct record *record = STAILQ_FIRST(&records->clock);
    STAILQ_REMOVE_HEAD(&records->clock, clock);
    LIST_REMOVE(record, find);
    records->bytes -= size_of(record);
    records->count--;
    record_free(record);
}

void records_close(struct records *records)
{
    if (records->buckets == NULL) {
        return;
    }
    while (records->count > 0) {
        drop_first(records);
    }
    free(records->buckets);
    records->buckets = NULL;
    uv_mutex_destroy(&records->lock);
}

struct record *record_new(const struct cap_hash *hash, const struct cap_info *info, size_t body_len)
{
    struct record *record = malloc(sizeof(*record) + body_len);
    if (record != NULL) {
        *record = (struct record){.hash = *hash, .info = *info};
    }
    return record;
}

void record_free(struct record *record)
{
    free(record);
}

static struct record *look_up(struct records *records, const struct cap_hash *hash)
{
    struct record *record;
    LIST_FOREACH(record, bucket_of(records, hash), find)
    {
        if (cap_hash_equal(&record->hash, hash)) {
            return record;
        }
    }
    return NULL;
}

struct record *records_find(struct records *records, const struct cap_hash *hash)
{
    struct record *record = look_up(records, hash);
    if (record != NULL) {
        record->touched = true;
    }
    return record;
}

struct record *records_copy(struct records *records, const struct cap_hash *hash)
{
    struct record *copy = NULL;
    uv_mutex_lock(&records->lock);
    const struct record *record = look_up(records, hash);
    if (record != NULL) {
        size_t len = record->has_body ? (size_t)record->info.body_len : 0;
        copy = record_new(hash, &record->info, len);
        if (copy != NULL) {
            copy->has_body = record->has_body;
            copy->in_memory = record->in_memory;
            memcpy(copy->body, record->body, len);
        }
    }
    uv_mutex_unlock(&records->lock);
    return copy;
}

void records_note(struct records *records, struct record *record, bool in_memory)
{
    if (record->in_memory != in_memory) {
        uv_mutex_lock(&records->lock);
        record->in_memory = in_memory;
        uv_mutex_unlock(&records->lock);
    }
}

/* Turns the clock until `bytes` more have room. Under the lock. */
static void make_room(struct records *records, uint64_t bytes)
{
    while (records->bytes + bytes > records->max) {
        struct record *record = STAILQ_FIRST(&records->clock);
        if (!record->touched) {
            drop_first(records);
            continue;
        }
        record->touched = false;
        STAILQ_REMOVE_HEAD(&records->clock, clock);
        STAILQ_INSERT_TAIL(&records->clock, record, clock);
    }
}

void records_add(struct records *records, struct record *record)
{
    if (record == NULL) {
        return;
    }
    struct record *known = records_find(records, &record->hash);
    if (size_of(record) > records->max || (known != NULL && known->has_body >= record->has_body)) {
        record_free(record);
        return;
    }
    if (known != NULL) {
        known->touched = false; /* it is found no more, and goes when it comes up */
    }
    uv_mutex_lock(&records->lock);
    make_room(records, size_of(record));
    LIST_INSERT_HEAD(bucket_of(records, &record->hash), record, find);
    STAILQ_INSERT_TAIL(&records->clock, record, clock);
    records->bytes += size_of(record);
    records->count++;
    uv_mutex_unlock(&records->lock);
}
