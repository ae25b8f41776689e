/*
 * The walk over a store's tables: every entry in the order of its keys, its seal, and what the
 * other tables say of it.
 *
 * Each look is by itself: it needs no other entry to have been looked at before, so a walk can end
 * anywhere and go on in another snapshot or another life. But for one: that a body has an owner,
 * and what the counts sum up to, is known only of one snapshot of all caps. That is taken before
 * the walk over the bulk; records alone are read in it. Ids of bodies are given away once, so a
 * body that nobody owned then will be nobody's for ever.
 *
 * What is found is told when the entry is done with, and not at all when its cap went meanwhile.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/param.h>

#include "lib/store/lmdb/check.h"
#include "lib/store/lmdb/keep.h"

#define SLICE_COST (UINT64_C(1) << 20) /* between two pauses: 15 ms at 64 MiB/s */
#define ENTRY_COST 128u                /* of an entry, in bytes: a small record and its branch */

/* --- What is found ---------------------------------------------------------------------------- */

void lmdb_check_find(struct check *check, const char *format, ...)
{
    va_list args;
    if (check->found_count < CHECK_FOUND) {
        va_start(args, format);
        (void)vsnprintf(check->found[check->found_count], CHECK_WHAT, format, args);
        va_end(args);
    }
    check->found_count++;
}

void lmdb_check_tell(struct check *check)
{
    check->outcome.findings += check->found_count;
    for (uint64_t i = 0; i < check->found_count && i < CHECK_FOUND; i++) {
        if (check->watch->finding != NULL) {
            check->watch->finding(check->watch->ctx, check->hash, check->found[i]);
        }
    }
    check->found_count = 0;
}

void lmdb_check_step(struct check *check, uint64_t bytes)
{
    check->progress.bytes += bytes;
    check->progress.bytes_total = MAX(check->progress.bytes_total, check->progress.bytes);
    check->cost += bytes;
    if (check->watch->progress != NULL && !check->mending) {
        check->watch->progress(check->watch->ctx, &check->progress);
    }
}

enum cap_error lmdb_check_breathe(struct check *check)
{
    if (check->pause == NULL || check->mending || check->cost < SLICE_COST) {
        return CAP_OK;
    }
    lmdb_check_close(check);
    enum cap_error error = check->pause(check);
    check->cost = 0;
    return error;
}

/* --- Loads ------------------------------------------------------------------------------------ */

static enum cap_error get_copy(struct check *check, enum lmdb_table table, struct cap_bytes key,
                               void *ret_value, size_t max, size_t *ret_len)
{
    struct cap_bytes value;
    enum cap_error error = lmdb_get(check->store, check->txn, table, key, &value);
    if (error != CAP_OK) {
        return error;
    }
    if (value.len > max) {
        return CAP_E_CORRUPT;
    }
    memcpy(ret_value, value.data, value.len);
    *ret_len = value.len;
    return CAP_OK;
}

bool lmdb_check_get(struct check *check, enum lmdb_table table, const void *key, size_t key_len,
                    void *ret_value, size_t max, size_t *ret_len)
{
    const struct cap_bytes name = {key, key_len};
    enum cap_error error;
    CHECK_GUARDED(check, error, get_copy(check, table, name, ret_value, max, ret_len));
    return error == CAP_OK;
}

bool lmdb_check_has(struct check *check, enum lmdb_table table, const void *key, size_t key_len)
{
    uint8_t value[CHECK_VALUE_MAX];
    size_t len;
    return lmdb_check_get(check, table, key, key_len, value, sizeof(value), &len);
}

bool lmdb_check_record(struct check *check, const struct cap_hash *hash, struct store_cap *ret_cap)
{
    uint8_t value[STORE_CAP_MAX];
    size_t len;
    return lmdb_check_get(check, LMDB_CAPS, hash->bytes, CAP_HASH_SIZE, value, sizeof(value),
                          &len) &&
           store_cap_decode((struct cap_bytes){value, len}, ret_cap) == CAP_OK;
}

/* Moves the cursor and copies what it comes to. */
static int move(struct check *check, MDB_cursor *cursor, enum lmdb_table table, MDB_cursor_op op,
                struct cap_bytes from, struct check_entry *ret_entry)
{
    uint8_t start[CHECK_KEY_MAX];
    MDB_val key = {from.len, start};
    MDB_val value;
    MDB_val there;
    if (from.len > 0) {
        memcpy(start, from.data, from.len);
    }
    int rc = mdb_cursor_get(cursor, &key, &value, op);
    if (rc != 0) {
        return rc;
    }
    if (key.mv_size > CHECK_KEY_MAX) {
        return MDB_CORRUPTED;
    }
    const void *at = value.mv_data;
    ret_entry->key_len = key.mv_size;
    memcpy(ret_entry->key, key.mv_data, key.mv_size);
    ret_entry->value_len = value.mv_size;
    if (table != LMDB_BULK && value.mv_size <= CHECK_VALUE_MAX) {
        memcpy(ret_entry->value, value.mv_data, value.mv_size);
    }
    ret_entry->is_found =
        mdb_get(check->txn, check->store->tables[table], &key, &there) == 0 && there.mv_data == at;
    return 0;
}

static enum cap_error next(struct check *check, MDB_cursor **cursor, enum lmdb_table table,
                           struct cap_bytes from, struct check_entry *ret_entry)
{
    MDB_stat stat;
    MDB_cursor_op op = MDB_NEXT;
    int rc = 0;
    if (*cursor == NULL) {
        /* Reads the table's root, which mdb_cursor_open would do with the cursor in its hands. */
        rc = mdb_stat(check->txn, check->store->tables[table], &stat);
        op = from.len > 0 ? MDB_SET_RANGE : MDB_FIRST;
        if (rc == 0) {
            rc = mdb_cursor_open(check->txn, check->store->tables[table], cursor);
        }
    }
    if (rc == 0) {
        rc = move(check, *cursor, table, op, from, ret_entry);
    }
    return lmdb_error(-1, rc);
}

enum cap_error lmdb_check_next(struct check *check, MDB_cursor **cursor, enum lmdb_table table,
                               struct cap_bytes from, struct check_entry *ret_entry)
{
    enum cap_error error;
    CHECK_GUARDED(check, error, next(check, cursor, table, from, ret_entry));
    return error;
}

static void close_one(MDB_cursor **cursor)
{
    if (*cursor != NULL) {
        mdb_cursor_close(*cursor);
        *cursor = NULL;
    }
}

void lmdb_check_close(struct check *check)
{
    close_one(&check->cursor);
    close_one(&check->probe);
}

void lmdb_check_end_probe(struct check *check)
{
    close_one(&check->probe);
}

bool lmdb_check_unseal(const struct check_entry *entry, struct cap_bytes *ret_value)
{
    uint64_t seed = store_seed((struct cap_bytes){entry->key, entry->key_len});
    return entry->value_len <= CHECK_VALUE_MAX &&
           store_unseal(seed, (struct cap_bytes){entry->value, entry->value_len}, ret_value);
}

bool lmdb_check_is_lost(struct check *check, const struct cap_hash *hash)
{
    uint8_t key[STORE_FACT_KEY];
    memcpy(key, hash->bytes, CAP_HASH_SIZE);
    key[CAP_HASH_SIZE] = CAP_FACT_LOST;
    return lmdb_check_has(check, LMDB_FACTS, key, sizeof(key));
}

/* Whether the references of a cap that was removed are still there: then a stage says so. */
static bool is_corpse(struct check *check, const uint8_t *hash)
{
    static const struct cap_bytes start = {NULL, 0};
    struct check_entry stage;
    struct cap_bytes value;
    bool found = false;
    while (!found && lmdb_check_next(check, &check->probe, LMDB_STAGES, start, &stage) == CAP_OK) {
        found = lmdb_check_unseal(&stage, &value) && lmdb_is_corpse(value) &&
                memcmp(value.data + STORE_STAGE_SIZE, hash, CAP_HASH_SIZE) == 0;
    }
    lmdb_check_end_probe(check);
    return found;
}

/* Whether a hash is that of a cap, or of what is left of one. */
static bool has_cap_or_corpse(struct check *check, const uint8_t *hash)
{
    return lmdb_check_has(check, LMDB_CAPS, hash, CAP_HASH_SIZE) || is_corpse(check, hash);
}

/* --- Caps ------------------------------------------------------------------------------------- */

/* Looks at one sound value, without its seal. An error ends the walk. */
typedef enum cap_error visitor(struct check *check, const struct check_entry *entry,
                               struct cap_bytes value);

/* The wire Image that it was first published with leads to it. */
static void check_content(struct check *check, const struct store_cap *cap)
{
    const struct cap_hash *content = &cap->info.content_hash;
    struct cap_hash value;
    size_t len;
    if (cap->info.has_content_hash &&
        (!lmdb_check_get(check, LMDB_CONTENTS, content->bytes, CAP_HASH_SIZE, value.bytes,
                         sizeof(value.bytes), &len) ||
         len != CAP_HASH_SIZE || !cap_hash_equal(&value, check->hash))) {
        lmdb_check_find(check, "its image_content_hash does not lead to it");
        lmdb_mend_put(check, LMDB_CONTENTS, content->bytes, CAP_HASH_SIZE, check->hash->bytes,
                      CAP_HASH_SIZE);
    }
}

static enum cap_error visit_cap(struct check *check, const struct check_entry *entry,
                                struct cap_bytes value)
{
    struct store_cap cap = {0};
    enum cap_error error = store_cap_decode(value, &cap);
    if (error == CAP_E_STORE_VERSION) {
        lmdb_check_find(check, "its record has flags that this version does not know: 0x%x",
                        cap.unknown);
        return CAP_OK;
    }
    if (error != CAP_OK) {
        lmdb_check_find(check, "its record says what cannot be");
        lmdb_mend_delete(check, LMDB_CAPS, entry->key, entry->key_len);
        return CAP_OK;
    }
    if (!check->is_online && cap.body >= check->state.next_body) {
        lmdb_check_find(check, "its body %" PRIu64 " is one that is still to come", cap.body);
        if (check->mending && check->repair) {
            check->store->next_body = MAX(check->store->next_body, cap.body + 1);
            check->state.next_body = check->store->next_body;
        }
    }
    check_content(check, &cap);
    error = lmdb_check_queued(check, &cap);
    if (error == CAP_OK) {
        error = lmdb_check_cap(check, &cap);
    }
    if (error == CAP_OK && cap.info.quarantined && check->bad_body == 0) {
        lmdb_check_find(check, "it is quarantined, and its bytes are sound");
        lmdb_mend_release(check);
    }
    return error;
}

/* --- References, contents, facts -------------------------------------------------------------- */

/* Whether a pair has its mirror in the other table, with the same value. */
static bool has_mirror(struct check *check, enum lmdb_table other, const uint8_t *pair,
                       struct cap_bytes value)
{
    uint8_t mirror[STORE_PAIR_KEY];
    uint8_t there;
    size_t len;
    memcpy(mirror, pair + CAP_HASH_SIZE, CAP_HASH_SIZE);
    memcpy(mirror + CAP_HASH_SIZE, pair, CAP_HASH_SIZE);
    bool same = value.len == 1 &&
                lmdb_check_get(check, other, mirror, sizeof(mirror), &there, 1, &len) && len == 1 &&
                there == value.data[0];
    if (!same) {
        lmdb_check_find(check, "a reference is not the same in both directions (index %s)",
                        lmdb_table_name(other));
    }
    return same;
}

static enum cap_error visit_ref(struct check *check, const struct check_entry *entry,
                                struct cap_bytes value)
{
    const uint8_t *pair = entry->key;
    struct cap_hash target;
    char hex[CAP_HASH_HEX_SIZE];
    memcpy(target.bytes, pair + CAP_HASH_SIZE, CAP_HASH_SIZE);
    bool same = has_mirror(check, LMDB_REVS, pair, value);
    check->progress.refs += !check->mending;
    if (!has_cap_or_corpse(check, pair)) {
        lmdb_check_find(check, "has a reference and is not there");
        lmdb_mend_unref(check, pair);
    } else if (!same && value.len == 1) {
        lmdb_mend_ref(check, pair, value.data[0]);
    }
    if (!lmdb_check_has(check, LMDB_CAPS, target.bytes, CAP_HASH_SIZE) &&
        !lmdb_check_is_lost(check, &target)) {
        lmdb_mend_lost(check, &target);
        cap_hash_format(&target, hex);
        lmdb_check_find(check, "names %s, which is not there", hex);
    }
    return CAP_OK;
}

/* References say what they are in both directions; a cap with a sound body has been asked. */
static enum cap_error visit_rev(struct check *check, const struct check_entry *entry,
                                struct cap_bytes value)
{
    uint8_t pair[STORE_PAIR_KEY];
    uint8_t tables;
    size_t len;
    if (has_mirror(check, LMDB_REFS, entry->key, value)) {
        return CAP_OK;
    }
    memcpy(pair, entry->key + CAP_HASH_SIZE, CAP_HASH_SIZE);
    memcpy(pair + CAP_HASH_SIZE, entry->key, CAP_HASH_SIZE);
    if (lmdb_check_get(check, LMDB_REFS, pair, sizeof(pair), &tables, 1, &len) && len == 1) {
        lmdb_mend_ref(check, pair, tables);
    } else {
        lmdb_mend_unref(check, pair);
    }
    return CAP_OK;
}

static enum cap_error visit_content(struct check *check, const struct check_entry *entry,
                                    struct cap_bytes value)
{
    if (value.len != CAP_HASH_SIZE || !has_cap_or_corpse(check, value.data)) {
        lmdb_check_find(check, "an image_content_hash that leads to no cap");
        lmdb_mend_delete(check, LMDB_CONTENTS, entry->key, entry->key_len);
    }
    return CAP_OK;
}

static enum cap_error visit_alias(struct check *check, const struct check_entry *entry,
                                  struct cap_bytes value)
{
    struct cap_hash leads_to;
    size_t len;
    bool leads = lmdb_check_get(check, LMDB_CONTENTS, entry->key + CAP_HASH_SIZE, CAP_HASH_SIZE,
                                leads_to.bytes, sizeof(leads_to.bytes), &len) &&
                 len == CAP_HASH_SIZE && memcmp(leads_to.bytes, entry->key, CAP_HASH_SIZE) == 0;
    if (value.len != 0 || !leads) {
        lmdb_check_find(check, "another image_content_hash of it does not lead to it");
        lmdb_mend_delete(check, LMDB_ALIASES, entry->key, entry->key_len);
    } else if (!has_cap_or_corpse(check, entry->key)) {
        lmdb_check_find(check, "has another image_content_hash and is not there");
        lmdb_mend_delete(check, LMDB_ALIASES, entry->key, entry->key_len);
    }
    return CAP_OK;
}

static enum cap_error visit_removed(struct check *check, const struct check_entry *entry,
                                    struct cap_bytes value)
{
    struct cap_removed removed;
    struct cap_hash hash;
    if (store_removed_decode(value, &hash, &removed) != CAP_OK) {
        lmdb_check_find(check, "a record of the index removed says what cannot be");
        lmdb_mend_delete(check, LMDB_REMOVED, entry->key, entry->key_len);
    }
    return CAP_OK;
}

static enum cap_error visit_fact(struct check *check, const struct check_entry *entry,
                                 struct cap_bytes value)
{
    uint8_t kind = entry->key[CAP_HASH_SIZE];
    (void)value;
    if (kind == CAP_FACT_DAMAGED && !lmdb_check_has(check, LMDB_CAPS, entry->key, CAP_HASH_SIZE)) {
        lmdb_check_find(check, "a fact is known of it and it is not there");
        lmdb_mend_delete(check, LMDB_FACTS, entry->key, entry->key_len);
    }
    if (kind == CAP_FACT_LOST && lmdb_check_has(check, LMDB_CAPS, entry->key, CAP_HASH_SIZE)) {
        lmdb_check_find(check, "a fact says that it is missing");
        lmdb_mend_delete(check, LMDB_FACTS, entry->key, entry->key_len);
    }
    return CAP_OK;
}

/* --- Walks ------------------------------------------------------------------------------------ */

static enum cap_error visit_stage(struct check *check, const struct check_entry *entry,
                                  struct cap_bytes value)
{
    uint64_t body = store_body_key_load(entry->key);
    if ((value.len != STORE_STAGE_SIZE && !lmdb_is_corpse(value)) ||
        (!check->is_online && body >= check->state.next_body)) {
        lmdb_check_find(check, "the unfinished upload %" PRIu64 " says what cannot be", body);
        lmdb_mend_delete(check, LMDB_STAGES, entry->key, entry->key_len);
    }
    return CAP_OK;
}

/* What a walk knows of its table. */
struct walk {
    enum lmdb_table table;
    size_t key_size; /* 0: any */
    bool has_hash;   /* a key begins with a CapHash, or an image_content_hash */
    bool sealed;     /* the walk looks at the seals; else `visit` gets no value */
    visitor *visit;
};

/* The queue comes before what is added to it, the caps before what their bodies prove. */
static const struct walk walks[] = {
    {LMDB_DUE, STORE_DUE_KEY, false, true, lmdb_check_due},
    {LMDB_CAPS, CAP_HASH_SIZE, true, true, visit_cap},
    {LMDB_REFS, STORE_PAIR_KEY, true, true, visit_ref},
    {LMDB_REVS, STORE_PAIR_KEY, true, true, visit_rev},
    {LMDB_CONTENTS, CAP_HASH_SIZE, true, true, visit_content},
    {LMDB_ALIASES, STORE_PAIR_KEY, true, true, visit_alias},
    {LMDB_FACTS, STORE_FACT_KEY, true, true, visit_fact},
    {LMDB_ROOTS, 0, false, true, lmdb_check_root},
    {LMDB_ROOTED, 0, true, true, lmdb_check_rooted},
    {LMDB_REMOVED, STORE_SEQUENCE_KEY, false, true, visit_removed},
    {LMDB_STAGES, STORE_BODY_KEY, false, true, visit_stage},
    {LMDB_BULK, STORE_CHUNK_KEY, false, false, lmdb_check_chunk},
};

#define WALKS (sizeof(walks) / sizeof(walks[0]))

/* An entry whose seal is broken: nothing of it can be used. */
static void mend_broken(struct check *check, const struct walk *walk,
                        const struct check_entry *entry)
{
    uint8_t mirror[STORE_PAIR_KEY];
    uint8_t tables;
    size_t len;
    if (walk->table == LMDB_REFS || walk->table == LMDB_REVS) {
        enum lmdb_table other = walk->table == LMDB_REFS ? LMDB_REVS : LMDB_REFS;
        memcpy(mirror, entry->key + CAP_HASH_SIZE, CAP_HASH_SIZE);
        memcpy(mirror + CAP_HASH_SIZE, entry->key, CAP_HASH_SIZE);
        if (lmdb_check_get(check, other, mirror, sizeof(mirror), &tables, 1, &len) && len == 1) {
            lmdb_mend_put(check, walk->table, entry->key, entry->key_len, &tables, 1);
            return;
        }
    }
    if (walk->table == LMDB_ROOTS) {
        uint8_t record[STORE_ROOT_SIZE];
        struct cap_root root = {.set_us = store_wall_us()};
        if (lmdb_check_rooted_by(check, entry->key, entry->key_len, &root.hash)) {
            store_root_encode(&root, record);
            lmdb_mend_put(check, LMDB_ROOTS, entry->key, entry->key_len, record, sizeof(record));
            return;
        }
    }
    lmdb_mend_delete(check, walk->table, entry->key, entry->key_len);
}

/* Names what a key begins with while something is found. */
static void look_at(struct check *check, const struct walk *walk, const struct check_entry *entry)
{
    struct cap_check_progress *progress = &check->progress;
    progress->has_hash = entry != NULL && walk->has_hash && entry->key_len >= CAP_HASH_SIZE;
    check->hash = NULL;
    if (progress->has_hash) {
        memcpy(progress->hash.bytes, entry->key, CAP_HASH_SIZE);
        check->hash = &progress->hash;
    }
    lmdb_check_step(check, 0);
}

/* Looks at one entry, which is not told yet. */
static enum cap_error visit(struct check *check, const struct walk *walk,
                            const struct check_entry *entry)
{
    struct cap_bytes value = {NULL, 0};
    const char *name = lmdb_table_name(walk->table);
    check->bad_body = 0;
    check->is_moved = false;
    look_at(check, walk, entry);
    if (walk->key_size != 0 && entry->key_len != walk->key_size) {
        lmdb_check_find(check, "a key of %zu bytes in the index %s", entry->key_len, name);
        lmdb_mend_delete(check, walk->table, entry->key, entry->key_len);
        return CAP_OK;
    }
    if (!entry->is_found) {
        lmdb_check_find(check, "in the index %s and not found there by its key", name);
    }
    if (walk->sealed && !lmdb_check_unseal(entry, &value)) {
        lmdb_check_find(check, "damaged in the index %s: its checksum does not match", name);
        mend_broken(check, walk, entry);
        return CAP_OK;
    }
    return walk->visit(check, entry, value);
}

/* Remembers the entry, if something is to be done about what was found there. */
static void note_mend(struct check *check, enum lmdb_table table, const struct check_entry *entry)
{
    if (check->found_count == 0 || check->pause == NULL ||
        !(check->repair || check->bad_body != 0)) {
        check->outcome.unmended += check->found_count > 0;
        return;
    }
    struct check_mend *mend = &check->mends[check->mend_count++];
    mend->table = table;
    mend->key_len = entry->key_len;
    mend->body = check->bad_body;
    memcpy(mend->key, entry->key, entry->key_len);
    if (check->mend_count == CHECK_MENDS) {
        check->cost = UINT64_MAX / 2; /* pause now */
    }
}

/* The order of the key before and the entry's. */
static int compare_keys(const struct check_entry *entry, struct cap_bytes before)
{
    int order = memcmp(before.data, entry->key, MIN(before.len, entry->key_len));
    return order != 0 ? order : (before.len > entry->key_len) - (before.len < entry->key_len);
}

static enum cap_error walk_on(struct check *check, const struct walk *walk)
{
    struct check_entry *entry = &check->entry;
    uint8_t before[CHECK_KEY_MAX];
    const struct cap_bytes from = {before, entry->key_len};
    bool seeks = check->cursor == NULL && from.len > 0;
    memcpy(before, entry->key, from.len);
    enum cap_error error = lmdb_check_next(check, &check->cursor, walk->table, from, entry);
    if (error == CAP_OK && seeks && compare_keys(entry, from) == 0) {
        error = lmdb_check_next(check, &check->cursor, walk->table, from, entry);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (from.len > 0 && compare_keys(entry, from) >= 0) {
        lmdb_check_find(check, "the index %s is out of order", lmdb_table_name(walk->table));
        lmdb_check_tell(check);
        return CAP_E_NOT_FOUND; /* it could lead on for ever */
    }
    check->cost += ENTRY_COST;
    error = visit(check, walk, entry);
    if (error == CAP_E_CANCELLED && check->is_moved) {
        check->found_count = 0;
        error = CAP_OK;
    }
    if (error == CAP_OK) {
        check->progress.caps += walk->table == LMDB_CAPS;
        check->progress.caps_total = MAX(check->progress.caps_total, check->progress.caps);
        note_mend(check, walk->table, entry);
        check->done_len = entry->key_len;
        memcpy(check->done, entry->key, entry->key_len);
    }
    lmdb_check_tell(check);
    return error == CAP_OK ? lmdb_check_breathe(check) : error;
}

static enum cap_error walk_table(struct check *check, const struct walk *walk)
{
    enum cap_error error = CAP_OK;
    check->progress.index = lmdb_table_name(walk->table);
    look_at(check, walk, NULL);
    if (walk->table == LMDB_BULK) {
        error = lmdb_check_owners(check);
    }
    while (error == CAP_OK) {
        error = walk_on(check, walk);
    }
    lmdb_check_close(check);
    check->hash = NULL;
    if (error == CAP_E_NOT_FOUND) {
        return CAP_OK;
    }
    if (error == CAP_E_CORRUPT) {
        lmdb_check_find(check, "the index %s cannot be read to its end",
                        lmdb_table_name(walk->table));
        lmdb_check_tell(check);
        return CAP_OK;
    }
    return error;
}

enum cap_error lmdb_check_tables(struct check *check)
{
    enum cap_error error = CAP_OK;
    check->entry.key_len = check->done_len;
    memcpy(check->entry.key, check->done, check->done_len);
    while (error == CAP_OK && check->walk < WALKS) {
        error = walk_table(check, &walks[check->walk]);
        if (error == CAP_OK) {
            check->walk++;
            check->entry.key_len = check->done_len = 0;
            check->cost = UINT64_MAX / 2; /* what is noted is mended before the next table */
            error = lmdb_check_breathe(check);
        }
    }
    return error;
}

/* --- Mending ---------------------------------------------------------------------------------- */

static const struct walk *walk_of(enum lmdb_table table)
{
    for (size_t i = 0; i < WALKS; i++) {
        if (walks[i].table == table) {
            return &walks[i];
        }
    }
    return NULL;
}

/* Loads the entry as it is now; false when it is gone. */
static bool load_mend(struct check *check, const struct check_mend *mend,
                      struct check_entry *ret_entry)
{
    const struct cap_bytes key = {mend->key, mend->key_len};
    enum cap_error error = lmdb_check_next(check, &check->probe, mend->table, key, ret_entry);
    lmdb_check_end_probe(check);
    return error == CAP_OK && compare_keys(ret_entry, key) == 0;
}

/* Looks at the entry again; *ret_found says whether something is found. */
static enum cap_error revisit(struct check *check, const struct check_mend *mend, bool repair,
                              bool *ret_found)
{
    struct check_entry *entry = &check->mend_entry;
    enum cap_error error = CAP_OK;
    bool wanted = check->repair;
    check->found_count = 0;
    if (load_mend(check, mend, entry)) {
        check->repair = repair;
        error = visit(check, walk_of(mend->table), entry);
        check->repair = wanted;
    }
    *ret_found = check->found_count > 0;
    check->found_count = 0;
    return error == CAP_OK ? check->mend_error : error;
}

static enum cap_error mend_one(struct check *check, const struct check_mend *mend)
{
    bool found = true;
    enum cap_error error = CAP_OK;
    if (mend->table == LMDB_META) {
        error = lmdb_mend_counts(check);
        found = false;
    } else if (mend->body != 0) {
        error = lmdb_mend_quarantine(check, mend);
    } else {
        error = revisit(check, mend, true, &found);
        if (error == CAP_OK) {
            error = revisit(check, mend, false, &found);
        }
    }
    check->outcome.mended += !found;
    check->outcome.unmended += found;
    return error;
}

enum cap_error lmdb_check_mend(struct check *check)
{
    enum cap_error error = CAP_OK;
    check->mending = true;
    check->mend_error = CAP_OK;
    for (unsigned i = 0; error == CAP_OK && i < check->mend_count; i++) {
        error = mend_one(check, &check->mends[i]);
    }
    lmdb_check_end_probe(check);
    check->mending = false;
    check->mend_count = 0;
    return error;
}
