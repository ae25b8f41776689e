/*
 * Who owns the bulk, and what the counts sum up to. Both are known of one snapshot only, in which
 * records alone are read.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/param.h>

#include "lib/store/lmdb/check.h"

static enum cap_error add_body(struct check_bodies *bodies, uint64_t body)
{
    if (bodies->count == bodies->capacity) {
        size_t capacity = 2 * bodies->capacity + 64;
        uint64_t *all = realloc(bodies->all, capacity * sizeof(*all));
        if (all == NULL) {
            return CAP_E_NO_MEMORY;
        }
        bodies->all = all;
        bodies->capacity = capacity;
    }
    bodies->all[bodies->count++] = body;
    return CAP_OK;
}

static int compare_bodies(const void *a, const void *b)
{
    uint64_t left, right;
    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return (left > right) - (left < right);
}

static void sort_bodies(struct check *check, struct check_bodies *bodies)
{
    if (bodies->count > 0) {
        qsort(bodies->all, bodies->count, sizeof(*bodies->all), compare_bodies);
    }
    for (size_t i = 1; i < bodies->count; i++) {
        if (bodies->all[i - 1] == bodies->all[i]) {
            lmdb_check_find(check, "body %" PRIu64 " has more than one owner", bodies->all[i]);
        }
    }
}

static bool is_among(const struct check_bodies *bodies, uint64_t body)
{
    return bodies->count > 0 &&
           bsearch(&body, bodies->all, bodies->count, sizeof(body), compare_bodies) != NULL;
}

/* Takes a cap or a stage for what it owns and counts. */
static enum cap_error take_owner(struct check *check, enum lmdb_table table,
                                 const struct check_entry *entry, struct cap_counts *counts)
{
    struct store_cap cap;
    struct cap_bytes value;
    if (table == LMDB_STAGES) {
        return entry->key_len == STORE_BODY_KEY
                   ? add_body(&check->staged, store_body_key_load(entry->key))
                   : CAP_OK;
    }
    if (!lmdb_check_unseal(entry, &value) || store_cap_decode(value, &cap) != CAP_OK) {
        return CAP_OK; /* it has been found */
    }
    store_counts_add(counts, &cap.info);
    enum cap_error error = lmdb_check_count_usage(check, &cap.info);
    return error == CAP_OK ? add_body(&check->owned, cap.body) : error;
}

static enum cap_error take_owners(struct check *check, enum lmdb_table table,
                                  struct cap_counts *counts)
{
    static const struct cap_bytes start = {NULL, 0};
    struct check_entry *entry = &check->mend_entry;
    enum cap_error error = lmdb_check_next(check, &check->probe, table, start, entry);
    while (error == CAP_OK) {
        error = take_owner(check, table, entry, counts);
        if (error == CAP_OK) {
            error = lmdb_check_next(check, &check->probe, table, start, entry);
        }
    }
    lmdb_check_end_probe(check);
    return error == CAP_E_NOT_FOUND || error == CAP_E_CORRUPT ? CAP_OK : error;
}

static void compare_counts(struct check *check, const struct cap_counts *counted)
{
    struct cap_counts *stored = &check->state.counts;
    for (int kind = CAP_KIND_IMAGE; kind < CAP_STORE_KINDS; kind++) {
        if (stored->caps[kind] != counted->caps[kind] ||
            stored->body_bytes[kind] != counted->body_bytes[kind]) {
            lmdb_check_find(check,
                            "the counts say %" PRIu64 " %s caps of %" PRIu64
                            " bytes; there are %" PRIu64 " of %" PRIu64,
                            stored->caps[kind], kind == CAP_KIND_IMAGE ? "Image" : "Data",
                            stored->body_bytes[kind], counted->caps[kind],
                            counted->body_bytes[kind]);
        }
    }
    if (stored->refs != counted->refs) {
        lmdb_check_find(check, "the counts say %" PRIu64 " references; there are %" PRIu64,
                        stored->refs, counted->refs);
    }
}

static void note_counts(struct check *check)
{
    struct check_mend *mend = &check->mends[check->mend_count];
    if (check->found_count > 0 && check->repair && check->mend_count < CHECK_MENDS) {
        *mend = (struct check_mend){.table = LMDB_META};
        check->mend_count++;
    } else {
        check->outcome.unmended += check->found_count > 0;
    }
}

static enum cap_error load_state(struct check *check)
{
    enum cap_error error;
    CHECK_GUARDED(check, error, lmdb_state_get(check->store, check->txn, &check->state));
    return error;
}

enum cap_error lmdb_check_owners(struct check *check)
{
    struct cap_counts counts = {0};
    enum cap_error error = CAP_OK;
    check->owned.count = check->staged.count = check->usages.count = 0;
    check->limit = UINT64_MAX;
    if (check->anchor != NULL) {
        error = check->anchor(check);
    }
    if (error == CAP_OK) {
        error = load_state(check);
    }
    bool is_state_sound = error == CAP_OK;
    if (error == CAP_OK || error == CAP_E_CORRUPT) {
        error = take_owners(check, LMDB_CAPS, &counts);
    }
    if (error == CAP_OK) {
        error = take_owners(check, LMDB_STAGES, &counts);
    }
    if (error != CAP_OK) {
        return error;
    }
    sort_bodies(check, &check->owned);
    sort_bodies(check, &check->staged);
    lmdb_check_tell(check);
    if (is_state_sound) {
        compare_counts(check, &counts);
    } else {
        lmdb_check_find(check, "the record of counts is damaged or missing");
    }
    error = lmdb_check_usages(check);
    note_counts(check);
    lmdb_check_tell(check);
    return error;
}

enum cap_error lmdb_check_last_body(struct check *check, uint64_t *ret_body)
{
    static const struct cap_bytes start = {NULL, 0};
    struct check_entry *entry = &check->probed;
    struct cap_counts counts = {0};
    enum cap_error error = take_owners(check, LMDB_CAPS, &counts);
    if (error == CAP_OK) {
        error = take_owners(check, LMDB_STAGES, &counts);
    }
    for (size_t i = 0; i < check->owned.count; i++) {
        *ret_body = MAX(*ret_body, check->owned.all[i]);
    }
    for (size_t i = 0; i < check->staged.count; i++) {
        *ret_body = MAX(*ret_body, check->staged.all[i]);
    }
    while (error == CAP_OK) {
        error = lmdb_check_next(check, &check->probe, LMDB_BULK, start, entry);
        if (error == CAP_OK && entry->key_len == STORE_CHUNK_KEY) {
            *ret_body = MAX(*ret_body, store_body_key_load(entry->key));
        }
    }
    lmdb_check_end_probe(check);
    return error == CAP_E_NOT_FOUND ? CAP_OK : error;
}

/* All that counts, as the write transaction has it. */
static enum cap_error count_anew(struct check *check, struct cap_counts *ret_counts)
{
    struct check_bodies owned = check->owned; /* of the anchor: that one is needed */
    check->owned = (struct check_bodies){0};
    check->usages.count = 0;
    *ret_counts = (struct cap_counts){0};
    enum cap_error error = take_owners(check, LMDB_CAPS, ret_counts);
    free(check->owned.all);
    check->owned = owned;
    return error;
}

enum cap_error lmdb_mend_counts(struct check *check)
{
    struct lmdb_store *store = check->store;
    enum cap_error error = count_anew(check, &store->write.state.counts);
    if (error == CAP_OK) {
        error = lmdb_error(-1, mdb_drop(check->txn, store->tables[LMDB_OWNERS], 0));
    }
    for (size_t i = 0; error == CAP_OK && i < check->usages.count; i++) {
        uint8_t key[STORE_OWNER_KEY];
        uint8_t value[STORE_OWNER_SIZE];
        store_owner_key(check->usages.of[i].uid, key);
        store_owner_encode(&check->usages.of[i].usage, value);
        error = lmdb_put(store, check->txn, LMDB_OWNERS, (struct cap_bytes){key, sizeof(key)},
                         (struct cap_bytes){value, sizeof(value)});
    }
    store->write.owner_count = 0; /* counted, too */
    return error;
}

static enum cap_error unseal(struct check *check, const struct check_entry *entry)
{
    uint8_t name[CHECK_KEY_MAX];
    MDB_val key = {entry->key_len, name};
    MDB_val chunk;
    struct cap_bytes value;
    memcpy(name, entry->key, entry->key_len);
    int rc = mdb_get(check->txn, check->store->tables[LMDB_BULK], &key, &chunk);
    if (rc != 0) {
        return lmdb_error(-1, rc);
    }
    return lmdb_unseal(&key, &chunk, &value) ? CAP_OK : CAP_E_CORRUPT;
}

static enum cap_error unseal_chunk(struct check *check, const struct check_entry *entry)
{
    enum cap_error error;
    CHECK_GUARDED(check, error, unseal(check, entry));
    return error;
}

/* A body that nobody owned when the owners were gathered. */
static bool is_orphan(struct check *check, const uint8_t *key)
{
    uint64_t body = store_body_key_load(key);
    return key[8] >= STORE_STREAMS ||
           (body < check->limit && !is_among(&check->owned, body) &&
            !is_among(&check->staged, body) &&
            (!check->mending || lmdb_stage_of(check->store, body) == NULL));
}

/* What a cap's chunks hold has been seen with the cap, and that it has none too many. */
enum cap_error lmdb_check_chunk(struct check *check, const struct check_entry *entry,
                                struct cap_bytes value)
{
    uint64_t body = store_body_key_load(entry->key);
    uint32_t chunk = 0;
    enum cap_error error = CAP_OK;
    (void)value;
    for (size_t i = 9; i < STORE_CHUNK_KEY; i++) {
        chunk = chunk << 8 | entry->key[i];
    }
    if (is_orphan(check, entry->key)) {
        lmdb_check_find(check, "chunk %" PRIu32 " of body %" PRIu64 " belongs to nothing", chunk,
                        body);
        lmdb_mend_delete(check, LMDB_BULK, entry->key, entry->key_len);
    } else if (is_among(&check->staged, body)) {
        error = unseal_chunk(check, entry);
        if (error == CAP_E_CORRUPT) {
            lmdb_check_find(check,
                            "chunk %" PRIu32 " of the unfinished upload %" PRIu64 " is damaged",
                            chunk, body);
            if (lmdb_stage_of(check->store, body) == NULL &&
                lmdb_check_has(check, LMDB_STAGES, entry->key, STORE_BODY_KEY)) {
                lmdb_mend_delete(check, LMDB_BULK, entry->key, entry->key_len);
            }
        }
        lmdb_check_step(check, entry->value_len);
    }
    return error == CAP_E_CORRUPT ? CAP_OK : error;
}

void lmdb_check_free(struct check *check)
{
    free(check->owned.all);
    free(check->staged.all);
    free(check->due.entries);
    free(check->usages.of);
    check->owned = check->staged = (struct check_bodies){0};
}
