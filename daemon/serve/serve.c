/* The room's parts, and what it says of failures. */
#include "daemon/serve/serve.h"

#include <stdio.h>

/* Parts of the memory for the record cache. */
#define RECORDS_PART 4u /* for records; the rest is for places: most caps are small */
#define KINDS_PART   6u /* as much again, for kinds */

#define GONE_TAKE 64u /* caps that are forgotten at a time */

enum cap_error serve_open(struct serve *serve, struct shard *shard, struct serve_set *set)
{
    const struct context *context = shard->context;
    const struct config *config = &context->config;
    uint64_t readers = config->readers / context->shard_count;
    *serve =
        (struct serve){.shard = shard, .set = set, .gone = &set->gone, .whole_epoch = SERVE_NEVER};
    TAILQ_INIT(&serve->windows);
    uint64_t cache = config->record_cache / context->shard_count;
    uint64_t records = cache / RECORDS_PART;
    enum cap_error error = records_open(&serve->records, context->env, records);
    if (error == CAP_OK) {
        const struct places *other = set->count == 0 ? NULL : &set->rooms[0]->places;
        error = places_open(&serve->places, context->env, cache - records, other);
    }
    if (error == CAP_OK) {
        error = kinds_open(&serve->kinds, context->env, cache / KINDS_PART);
    }
    if (error == CAP_OK) {
        error =
            pieces_open(&serve->pieces, context->env, config->body_cache / context->shard_count);
    }
    if (error == CAP_OK) {
        error = readers_open(&serve->readers, &shard->loop, readers < 2 ? 2 : (size_t)readers);
    }
    if (error != CAP_OK) {
        records_close(&serve->records);
        places_close(&serve->places);
        kinds_close(&serve->kinds);
        pieces_close(&serve->pieces);
        return error;
    }
    (void)uv_timer_init(&shard->loop, &serve->timer);
    serve->timer.data = serve;
    uv_unref((uv_handle_t *)&serve->timer);
    serve->open = true;
    set->rooms[set->count++] = serve;
    return CAP_OK;
}

/* --- What is gone ----------------------------------------------------------------------------- */

static void forget(struct serve *serve, const struct cap_hash *hash)
{
    records_drop(&serve->records, hash);
    places_drop(&serve->places, hash);
    kinds_drop(&serve->kinds, hash);
    pieces_drop(&serve->pieces, hash);
}

static void forget_all(struct serve *serve)
{
    records_clear(&serve->records);
    places_clear(&serve->places);
    kinds_clear(&serve->kinds);
    pieces_clear(&serve->pieces);
}

void serve_catch_up(struct serve *serve)
{
    struct cap_hash hashes[GONE_TAKE];
    uint64_t epoch = serve_epoch(serve);
    size_t count = GONE_TAKE;
    if (epoch == serve->epoch) {
        return;
    }
    serve->epoch = epoch;
    uint64_t at = atomic_load(&serve->gone_at);
    while (count == GONE_TAKE) {
        if (!gone_take(serve->gone, &at, hashes, GONE_TAKE, &count)) {
            forget_all(serve);
        }
        for (size_t i = 0; i < count; i++) {
            forget(serve, &hashes[i]);
        }
        atomic_store(&serve->gone_at, at);
    }
}

/* Whether another room has forgotten all that this one has: else it may know what is gone. */
static bool is_up_to_date(struct serve *other, const struct serve *serve)
{
    return other != serve && atomic_load(&other->gone_at) >= atomic_load(&serve->gone_at);
}

struct record *serve_find_record(struct serve *serve, const struct cap_hash *hash)
{
    struct record *record = records_find(&serve->records, hash);
    for (size_t i = 0; record == NULL && i < serve->set->count; i++) {
        struct serve *other = serve->set->rooms[i];
        struct record *copy =
            is_up_to_date(other, serve) ? records_copy(&other->records, hash) : NULL;
        if (copy != NULL) {
            records_add(&serve->records, copy);
            record = records_find(&serve->records, hash);
        }
    }
    return record;
}

struct place *serve_find_place(struct serve *serve, const struct cap_hash *hash)
{
    struct place *place = places_find(&serve->places, hash);
    for (size_t i = 0; place == NULL && i < serve->set->count; i++) {
        struct serve *other = serve->set->rooms[i];
        if (is_up_to_date(other, serve)) {
            place = places_learn(&serve->places, &other->places, hash);
        }
    }
    return place;
}

bool serve_load(struct serve *serve, struct place *place, const struct cap_hash *hash,
                uint64_t now_us, uint8_t *dst)
{
    const struct context *context = serve->shard->context;
    return place_is_warm(&serve->places, place, context->env, now_us) &&
           place_load(&serve->places, place, hash, context->store, dst);
}

void serve_close(struct serve *serve)
{
    if (!serve->open) {
        return;
    }
    serve->open = false;
    readers_close(&serve->readers);
    records_close(&serve->records);
    places_close(&serve->places);
    kinds_close(&serve->kinds);
    chunks_close(&serve->chunks);
    pieces_close(&serve->pieces);
    uv_close((uv_handle_t *)&serve->timer, NULL);
}

size_t serve_jobs(const struct serve *serve)
{
    return serve->readers.jobs;
}

/* Whether an error says that the store is at fault, rather than the request or the moment. */
static bool is_fault(enum cap_error error)
{
    switch ((int)error) {
    case CAP_E_NOT_FOUND:
    case CAP_E_QUARANTINED: /* reported when it was found */
    case CAP_E_FORBIDDEN_CAP:
    case CAP_E_RANGE_OUT_OF_BODY:
    case CAP_E_CANCELLED:
    case CAP_E_READERS_FULL:
    case CAP_E_NO_MEMORY:
    case CAP_E_MEMORY_LIMIT:
        return false;
    default:
        return true;
    }
}

void serve_failed(struct serve *serve, const struct cap_hash *hash, enum cap_error error,
                  char ret_message[SERVE_MESSAGE_SIZE])
{
    char hex[CAP_HASH_HEX_SIZE];
    if (error == CAP_E_FORBIDDEN_CAP) {
        context_say_forbidden(serve->shard->context->store, hash, ret_message, SERVE_MESSAGE_SIZE);
        return;
    }
    cap_hash_format(hash, hex);
    snprintf(ret_message, SERVE_MESSAGE_SIZE, "%s: %s", hex, cap_error_text(error));
    if (is_fault(error)) {
        context_store_fault(serve->shard->context, error, ret_message);
    }
}
