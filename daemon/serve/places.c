/* Sets of entries, each of one line of the processor's cache. */
#include "daemon/serve/places.h"

#include <sys/mman.h>
#include <sys/param.h>
#define XXH_INLINE_ALL /* a call costs as much as the sum of a hash */
#include <xxhash.h>

#define LINE      64u
#define SEEN_MASK 0x7fffffffu
#define SET_SIZE  PLACES_SET
#define AHEAD_MAX 1536u /* bytes of a body: behind these the processor goes on by itself */

#define ADDRESS_MASK ((UINT64_C(1) << 48) - 1) /* what `at` and `rest` hold */
#define REST_MAX     1023u                     /* bytes: what `rest_len` holds */
#define KIND_MAX     63u                       /* what `kind` holds */

_Static_assert(2 * sizeof(struct place) == LINE, "a place takes half a line");
_Static_assert(PLACES_BODY_MAX <= UINT16_MAX, "a place holds the length");
_Static_assert(PLACES_SECRET >= XXH3_SECRET_SIZE_MIN, "a secret of that length will do");

static size_t table_len(const struct places *places)
{
    return places->sets * SET_SIZE * sizeof(struct place);
}

enum cap_error places_open(struct places *places, const struct env *env, uint64_t bytes,
                           const struct places *other)
{
    uint64_t sets = bytes / (SET_SIZE * sizeof(struct place));
    *places = (struct places){
        .sets = sets < UINT32_MAX ? (size_t)sets : UINT32_MAX,
        .trust_ms = PLACES_TRUST_MS,
    };
    if (places->sets == 0) {
        return CAP_OK;
    }
    size_t len = table_len(places);
    void *mapped = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        places->sets = 0;
        return CAP_E_NO_MEMORY;
    }
    if (uv_mutex_init(&places->lock) != 0) {
        (void)munmap(mapped, len);
        *places = (struct places){0};
        return CAP_E_NO_MEMORY;
    }
    places->entries = mapped;
    /* Of pages of 4 KiB each lookup would need another, whose address the processor has to find. */
    (void)madvise(mapped, len, MADV_HUGEPAGE);
    enum cap_error error = env->random(env->ctx, places->keys, sizeof(places->keys));
    if (other != NULL) {
        memcpy(places->secrets, other->secrets, sizeof(places->secrets));
    } else if (error == CAP_OK) {
        error = env->random(env->ctx, places->secrets, sizeof(places->secrets));
    }
    return error;
}

void places_close(struct places *places)
{
    if (places->sets > 0) {
        uv_mutex_destroy(&places->lock);
        (void)munmap(places->entries, table_len(places));
    }
    *places = (struct places){0};
}

/*
 * Where a table that has sets looks for a hash. It lies in the first set but where that was full:
 * with one set only, a table half full would lack room for one hash in fifty.
 */
struct search {
    uint32_t tag;
    struct place *sets[2];
};

static struct search search_for(const struct places *places, const struct cap_hash *hash)
{
    struct search search;
    uint32_t first = keyed_hash(places->keys, hash);
    uint32_t second =
        first * UINT32_C(0x9e3779b1); /* Fibonacci hashing; odd, so it loses nothing */
    /* The top bits of a product choose evenly, whatever the number of sets. */
    search.sets[0] = &places->entries[((uint64_t)first * places->sets >> 32) * SET_SIZE];
    search.sets[1] = &places->entries[((uint64_t)second * places->sets >> 32) * SET_SIZE];
    memcpy(&search.tag, hash->bytes, sizeof(search.tag));
    return search;
}

static uint32_t to_ms(uint64_t us)
{
    return (uint32_t)(us / 1000);
}

uint64_t places_bytes(const struct places *places)
{
    return places->count * sizeof(struct place);
}

static uint64_t keyed_sum(const uint8_t secret[PLACES_SECRET], const void *data, size_t len)
{
    return XXH3_64bits_withSecret(data, len, secret, PLACES_SECRET);
}

/* Of a body and its hash: under one secret for both they could be played off against each other. */
static uint64_t checksum(const struct places *places, const struct cap_hash *hash,
                         const uint8_t *body, size_t len)
{
    return keyed_sum(places->secrets[0], body, len) ^
           keyed_sum(places->secrets[1], hash->bytes, sizeof(hash->bytes));
}

/* The entry of a hash. */
static struct place *look_up(const struct search *search)
{
    for (size_t i = 0; i < 2 * SET_SIZE; i++) {
        struct place *place = &search->sets[i / SET_SIZE][i % SET_SIZE];
        if (place->tag == search->tag && place->at != 0) {
            return place;
        }
    }
    return NULL;
}

static struct place *find(const struct places *places, const struct cap_hash *hash)
{
    if (places->sets == 0) {
        return NULL;
    }
    const struct search search = search_for(places, hash);
    return look_up(&search);
}

static const uint8_t *address(uint64_t at)
{
    return (const uint8_t *)(uintptr_t)at; /* NOLINT(performance-no-int-to-ptr): 48 bits of one */
}

void places_expect(const struct places *places, const struct cap_hash *hash)
{
    if (places->sets > 0) {
        const struct place *set = search_for(places, hash).sets[0];
        for (size_t i = 0; i < SET_SIZE; i += LINE / sizeof(*set)) {
            __builtin_prefetch(&set[i]);
        }
    }
}

void places_expect_body(const struct places *places, const struct cap_hash *hash)
{
    const struct place *place = find(places, hash);
    for (size_t at = 0; place != NULL && at < place->len && at < AHEAD_MAX; at += LINE) {
        __builtin_prefetch(address(place->at) + at);
    }
}

struct place *places_find(struct places *places, const struct cap_hash *hash)
{
    struct place *place = find(places, hash);
    if (place != NULL) {
        place->touched = 1;
    }
    return place;
}

/* The entry that a hash takes: its own, a free one, or one not asked for lately. */
static struct place *make_room(struct places *places, const struct search *search)
{
    struct place *known = look_up(search);
    for (size_t i = 0; known == NULL && i < 2 * SET_SIZE; i++) {
        struct place *place = &search->sets[i / SET_SIZE][i % SET_SIZE];
        known = place->at == 0 ? place : NULL;
    }
    places->next++;
    for (size_t i = 0; known == NULL && i < SET_SIZE; i++) {
        struct place *place = &search->sets[0][(places->next + i) % SET_SIZE];
        known = place->touched == 0 ? place : NULL;
        place->touched = 0;
    }
    return known == NULL ? &search->sets[0][places->next % SET_SIZE] : known;
}

/* Enters it in a table that has sets. */
static struct place *put(struct places *places, const struct search *search,
                         const struct place *place)
{
    uv_mutex_lock(&places->lock);
    struct place *entry = make_room(places, search);
    places->count += entry->at == 0 ? 1 : 0;
    *entry = *place;
    uv_mutex_unlock(&places->lock);
    return entry;
}

struct place *places_learn(struct places *places, struct places *other, const struct cap_hash *hash)
{
    struct place place = {0};
    if (places->sets == 0 || other->sets == 0) {
        return NULL;
    }
    uv_mutex_lock(&other->lock);
    const struct place *known = find(other, hash);
    if (known != NULL) {
        place.tag = known->tag;
        place.at = known->at;
        place.rest = known->rest;
        place.rest_len = known->rest_len;
        place.check = known->check;
        place.len = known->len;
        place.kind = known->kind;
    }
    uv_mutex_unlock(&other->lock);
    if (known == NULL) {
        return NULL;
    }
    const struct search search = search_for(places, hash);
    return put(places, &search, &place);
}

void places_add(struct places *places, const struct cap_hash *hash, enum cap_kind kind,
                const struct cap_place *place, const uint8_t *body, uint64_t now_us)
{
    uint64_t at = (uintptr_t)place->at;
    uint64_t rest = (uintptr_t)place->rest;
    if (places->sets == 0 || !places_take(place) || place->rest_len > REST_MAX ||
        (at | rest) > ADDRESS_MASK) {
        return;
    }
    const struct search search = search_for(places, hash);
    const struct place found = {
        .tag = search.tag,
        .at = at & ADDRESS_MASK,
        .rest = rest & ADDRESS_MASK,
        .check = checksum(places, hash, body, place->len),
        .seen_ms = to_ms(now_us) & SEEN_MASK,
        .len = (uint16_t)place->len,
        .rest_len = place->rest_len & REST_MAX,
        .kind = (unsigned)kind & KIND_MAX,
    };
    (void)put(places, &search, &found);
}

/* Frees an entry. Under the lock. */
static void forget(struct places *places, struct place *place)
{
    place->at = 0;
    places->count--;
}

void places_drop(struct places *places, const struct cap_hash *hash)
{
    if (places->sets == 0) {
        return;
    }
    const struct search search = search_for(places, hash);
    for (struct place *place; (place = look_up(&search)) != NULL;) {
        uv_mutex_lock(&places->lock);
        forget(places, place);
        uv_mutex_unlock(&places->lock);
    }
}

void places_clear(struct places *places)
{
    if (places->sets == 0) {
        return;
    }
    uv_mutex_lock(&places->lock);
    for (size_t i = 0; places->count > 0 && i < places->sets * SET_SIZE; i++) {
        if (places->entries[i].at != 0) {
            forget(places, &places->entries[i]);
        }
    }
    uv_mutex_unlock(&places->lock);
}

static struct cap_place where(const struct place *place)
{
    return (struct cap_place){
        .at = address(place->at),
        .rest = address(place->rest),
        .len = place->len,
        .rest_len = place->rest_len,
    };
}

/* Whether pages that were last looked at so long ago are taken to be in memory. */
static bool is_trusted(struct places *places, uint32_t age_ms)
{
    if (age_ms < PLACES_TRUST_MS) {
        return true;
    }
    return age_ms < places->trust_ms && ++places->trust_used % PLACES_TRUST_SAMPLE != 0;
}

/* Learns from pages that were looked at after `age_ms`. */
static void adapt_trust(struct places *places, uint32_t age_ms, bool resident)
{
    if (!resident) {
        places->trust_ms = PLACES_TRUST_MS;
        places->trust_kept = 0;
    } else if (age_ms >= places->trust_ms && ++places->trust_kept == PLACES_TRUST_GROWS) {
        places->trust_ms = MIN(2 * places->trust_ms, PLACES_TRUST_MAX_MS);
        places->trust_kept = 0;
    }
}

bool place_is_warm(struct places *places, struct place *place, const struct env *env,
                   uint64_t now_us)
{
    uint32_t now_ms = to_ms(now_us);
    uint32_t age_ms = (now_ms - place->seen_ms) & SEEN_MASK;
    if (!is_trusted(places, age_ms)) {
        const struct cap_place at = where(place);
        bool resident = env->resident(env->ctx, at.at, cap_place_first(&at)) &&
                        (at.rest_len == 0 || env->resident(env->ctx, at.rest, at.rest_len));
        adapt_trust(places, age_ms, resident);
        if (!resident) {
            return false;
        }
    }
    place->seen_ms = now_ms & SEEN_MASK;
    return true;
}

bool place_load(struct places *places, struct place *place, const struct cap_hash *hash,
                struct cap_store *store, uint8_t *dst)
{
    const struct cap_place from = where(place);
    if (cap_store_load(store, &from, dst) == CAP_OK &&
        checksum(places, hash, dst, place->len) == place->check) {
        return true;
    }
    uv_mutex_lock(&places->lock);
    forget(places, place);
    uv_mutex_unlock(&places->lock);
    return false;
}
