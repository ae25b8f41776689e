/* Records in a table of chains and a clock. */
#include "daemon/serve/records.h"

#include <stdlib.h>

#define RECORD_SIZE (sizeof(struct record) + 16u) /* bytes, with the allocator's own */

static struct record_bucket *bucket_of(struct records *records, const struct cap_hash *hash)
{
    return &records->buckets[keyed_hash(records->keys, hash) & records->mask];
}

enum cap_error records_open(struct records *records, const struct env *env, uint64_t max)
{
    size_t buckets = 1;
    *records = (struct records){.max = max / RECORD_SIZE};
    TAILQ_INIT(&records->clock);
    if (uv_mutex_init(&records->lock) != 0) {
        return CAP_E_NO_MEMORY;
    }
    while (buckets < records->max) {
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

/* Drops the record that comes up next. Under the lock, or when nobody else looks any more. */
static void drop_first(struct records *records)
{
    struct record *record = TAILQ_FIRST(&records->clock);
    TAILQ_REMOVE(&records->clock, record, clock);
    LIST_REMOVE(record, find);
    records->count--;
    free(record);
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

void records_clear(struct records *records)
{
    uv_mutex_lock(&records->lock);
    while (records->count > 0) {
        drop_first(records);
    }
    uv_mutex_unlock(&records->lock);
}

void records_drop(struct records *records, const struct cap_hash *hash)
{
    struct record *record = look_up(records, hash);
    if (record == NULL) {
        return;
    }
    uv_mutex_lock(&records->lock);
    LIST_REMOVE(record, find);
    TAILQ_REMOVE(&records->clock, record, clock);
    records->count--;
    uv_mutex_unlock(&records->lock);
    free(record);
}

uint64_t records_bytes(const struct records *records)
{
    return records->count * RECORD_SIZE;
}

struct record *record_new(const struct cap_hash *hash, const struct cap_info *info)
{
    struct record *record = malloc(sizeof(*record));
    if (record != NULL) {
        *record = (struct record){.hash = *hash, .info = *info};
    }
    return record;
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
        copy = record_new(hash, &record->info);
        if (copy != NULL) {
            copy->in_memory = record->in_memory;
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

/* Turns the clock until there is room for one more. Under the lock. */
static void make_room(struct records *records)
{
    while (records->count >= records->max) {
        struct record *record = TAILQ_FIRST(&records->clock);
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it cannot follow the list's links back */
        if (!record->touched) {
            drop_first(records);
            continue;
        }
        record->touched = false;
        TAILQ_REMOVE(&records->clock, record, clock);
        TAILQ_INSERT_TAIL(&records->clock, record, clock);
    }
}

void records_add(struct records *records, struct record *record)
{
    if (record == NULL) {
        return;
    }
    if (records->max == 0 || records_find(records, &record->hash) != NULL) {
        free(record);
        return;
    }
    uv_mutex_lock(&records->lock);
    make_room(records);
    LIST_INSERT_HEAD(bucket_of(records, &record->hash), record, find);
    TAILQ_INSERT_TAIL(&records->clock, record, clock);
    records->count++;
    uv_mutex_unlock(&records->lock);
}
