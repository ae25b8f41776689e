/* Where small bodies lie: found once, then loaded without a walk. */
#include "lib/store/lmdb/lmdb.h"

static struct lmdb_store *store_of(const struct lmdb_read *read)
{
    return lmdb_of(read->base.store);
}

static struct lmdb_read *read_of(struct cap_read *base)
{
    return STORE_CONTAINER_OF(base, struct lmdb_read, base);
}

/* Where the chunk with byte `at` of a body lies. CAP_E_CORRUPT: it is not there, or of another
 * length. */
static enum cap_error locate_chunk(const struct lmdb_read *read, const struct store_cap *cap,
                                   const struct lmdb_chunk *chunk, const uint8_t **ret_at,
                                   uint64_t *ret_seed)
{
    const struct lmdb_store *store = store_of(read);
    uint8_t wanted[STORE_CHUNK_KEY];
    store_chunk_key(cap->body, STORE_STREAM_BODY, chunk->number, wanted);
    MDB_val key = {sizeof(wanted), wanted};
    MDB_val value;
    int rc = mdb_get(read->txn, store->tables[LMDB_BULK], &key, &value);
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return lmdb_error(store->fd, rc);
    }
    if (rc == MDB_NOTFOUND || value.mv_size != chunk->len + STORE_SEAL_SIZE) {
        return CAP_E_CORRUPT;
    }
    *ret_at = value.mv_data;
    *ret_seed = store_seed((struct cap_bytes){wanted, sizeof(wanted)});
    return CAP_OK;
}

static enum cap_error locate(struct lmdb_read *read, const struct cap_hash *hash,
                             struct cap_info *ret_info, struct cap_place *ret_place)
{
    struct lmdb_store *store = store_of(read);
    struct store_cap cap;
    enum cap_error error = lmdb_find_served(store, read->txn, hash, &cap);
    if (error != CAP_OK) {
        return error;
    }
    *ret_info = cap.info;
    *ret_place = (struct cap_place){0};
    if (cap.info.body_len == 0 || cap.info.body_len > CAP_STORE_PLACE_MAX) {
        return CAP_OK;
    }
    struct cap_place place = {.len = (uint32_t)cap.info.body_len};
    struct lmdb_chunk chunk = lmdb_chunk_at(STORE_STREAM_BODY, place.len, 0);
    error = locate_chunk(read, &cap, &chunk, &place.at, &place.seed);
    if (error == CAP_OK && chunk.len < place.len) {
        chunk = lmdb_chunk_at(STORE_STREAM_BODY, place.len, chunk.len);
        place.rest_len = (uint32_t)chunk.len;
        error = locate_chunk(read, &cap, &chunk, &place.rest, &place.rest_seed);
    }
    if (error == CAP_OK) {
        *ret_place = place;
    } else if (error == CAP_E_CORRUPT) {
        error = lmdb_damaged(store, hash);
    }
    return error;
}

_Static_assert(CAP_STORE_PLACE_MAX <= LMDB_BODY_CHUNK,
               "a body with a place is one chunk and its rest");

enum cap_error lmdb_locate(struct cap_read *base, const struct cap_hash *hash,
                           struct cap_info *ret_info, struct cap_place *ret_place)
{
    struct lmdb_read *read = read_of(base);
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error, locate(read, hash, ret_info, ret_place));
    return lmdb_cursor_close(read, error);
}

/* The seals behind the pieces of a place. */
struct seals {
    uint64_t first;
    uint64_t rest;
};

static enum cap_error load(const struct cap_place *place, uint8_t *dst, struct seals *ret_seals)
{
    uint32_t first = cap_place_first(place);
    memcpy(dst, place->at, first);
    ret_seals->first = cap_load64(place->at + first);
    if (place->rest_len > 0) {
        memcpy(dst + first, place->rest, place->rest_len);
        ret_seals->rest = cap_load64(place->rest + place->rest_len);
    }
    return CAP_OK;
}

static bool seals_hold(const struct cap_place *place, const uint8_t *bytes,
                       const struct seals *seals)
{
    uint32_t first = cap_place_first(place);
    return store_seal_holds(place->seed, bytes, first, seals->first) &&
           (place->rest_len == 0 ||
            store_seal_holds(place->rest_seed, bytes + first, place->rest_len, seals->rest));
}

enum cap_error lmdb_take(struct cap_read *base, const struct cap_hash *hash,
                         const struct cap_place *place, void *dst)
{
    struct lmdb_read *read = read_of(base);
    struct seals seals = {0};
    enum cap_error error;
    LMDB_GUARDED(&store_of(read)->map, error, load(place, dst, &seals));
    if (error == CAP_OK && !seals_hold(place, dst, &seals)) {
        error = lmdb_damaged(store_of(read), hash);
    }
    return lmdb_cursor_close(read, error);
}

/* Whether bytes and the seal behind them lie in a map. */
static bool holds(const struct lmdb_map *map, const uint8_t *at, uint32_t len)
{
    uintptr_t begin = (uintptr_t)at;
    return begin >= map->from && begin < map->to && map->to - begin >= len + STORE_SEAL_SIZE;
}

enum cap_error lmdb_load(struct cap_store *base, const struct cap_place *place, void *dst)
{
    const struct lmdb_store *store = lmdb_of(base);
    uintptr_t from = atomic_load_explicit(&store->map.from, memory_order_relaxed);
    /*
     * A map of its own: a place of a file before it was compacted may lead behind the end of this
     * one, which says nothing of the device. Whether that is bad a snapshot will find out.
     */
    struct lmdb_map map = {.from = from, .to = from + (uintptr_t)store->map_bytes};
    struct seals seals;
    enum cap_error error;
    if (from != 0 && !(holds(&map, place->at, cap_place_first(place)) &&
                       (place->rest_len == 0 || holds(&map, place->rest, place->rest_len)))) {
        return CAP_E_NOT_FOUND; /* a map that may be gone */
    }
    LMDB_GUARDED(&map, error, load(place, dst, &seals));
    return error;
}
