/*
 * The check of what keeps caps: roots in both directions, the queue of collection, and what each
 * publisher's caps come to.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lib/store/lmdb/check.h"

/* --- Roots ------------------------------------------------------------------------------------ */

enum cap_error lmdb_check_root(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    uint8_t rooted[STORE_KEY_MAX];
    struct cap_bytes record;
    struct cap_root root;
    if (key->mv_size > CAP_ROOT_NAME_MAX || store_root_decode(value, &root) != CAP_OK) {
        lmdb_check_find(check, "a root says what cannot be");
        return CAP_OK;
    }
    const int len = (int)key->mv_size;
    const char *name = key->mv_data;
    memcpy(rooted, root.hash.bytes, CAP_HASH_SIZE);
    memcpy(rooted + CAP_HASH_SIZE, name, key->mv_size);
    check->hash = &root.hash;
    if (!lmdb_check_get(check, LMDB_ROOTED, rooted, CAP_HASH_SIZE + key->mv_size, &record)) {
        lmdb_check_find(check, "the root %.*s is not in the index rooted", len, name);
    }
    if (!lmdb_check_get(check, LMDB_CAPS, root.hash.bytes, CAP_HASH_SIZE, &record)) {
        lmdb_check_find(check, "the root %.*s names it and it is not there", len, name);
    }
    check->hash = NULL;
    return CAP_OK;
}

enum cap_error lmdb_check_rooted(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    const uint8_t *bytes = key->mv_data;
    struct cap_bytes record;
    struct cap_root root;
    if (key->mv_size <= CAP_HASH_SIZE || value.len != 0 ||
        !lmdb_check_get(check, LMDB_ROOTS, bytes + CAP_HASH_SIZE, key->mv_size - CAP_HASH_SIZE,
                        &record) ||
        store_root_decode(record, &root) != CAP_OK ||
        memcmp(root.hash.bytes, bytes, CAP_HASH_SIZE) != 0) {
        lmdb_check_find(check, "the index rooted has a root of it that is not there");
    }
    return CAP_OK;
}

/* --- The queue -------------------------------------------------------------------------------- */

enum cap_error lmdb_check_due(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    struct check_due *due = &check->due;
    uint32_t time_s;
    uint64_t sequence;
    size_t count = value.len / STORE_DUE_PREFIX;
    store_due_key_load(key->mv_data, &time_s, &sequence);
    if (count == 0 || count > STORE_DUE_HASHES || value.len % STORE_DUE_PREFIX != 0) {
        lmdb_check_find(check, "a record of the queue of collection says what cannot be");
        return CAP_OK;
    }
    if (due->capacity - due->count < count) {
        size_t capacity = 2 * due->capacity + STORE_DUE_HASHES;
        struct due_entry *entries = realloc(due->entries, capacity * sizeof(*entries));
        if (entries == NULL) {
            return CAP_E_NO_MEMORY;
        }
        due->entries = entries;
        due->capacity = capacity;
    }
    for (size_t i = 0; i < count; i++) {
        struct due_entry *entry = &due->entries[due->count++];
        memcpy(entry->prefix, value.data + i * STORE_DUE_PREFIX, STORE_DUE_PREFIX);
        entry->time_s = time_s;
    }
    return CAP_OK;
}

/* The latest of a prefix comes last. */
static int compare_entries(const void *a, const void *b)
{
    const struct due_entry *left = a;
    const struct due_entry *right = b;
    int order = memcmp(left->prefix, right->prefix, STORE_DUE_PREFIX);
    return order != 0 ? order : (left->time_s > right->time_s) - (left->time_s < right->time_s);
}

void lmdb_check_due_sort(struct check *check)
{
    struct check_due *due = &check->due;
    size_t kept = 0;
    if (due->count > 0) {
        qsort(due->entries, due->count, sizeof(*due->entries), compare_entries);
    }
    for (size_t i = 0; i < due->count; i++) {
        if (i + 1 == due->count ||
            memcmp(due->entries[i].prefix, due->entries[i + 1].prefix, STORE_DUE_PREFIX) != 0) {
            due->entries[kept++] = due->entries[i];
        }
    }
    due->count = kept;
}

static int compare_prefixes(const void *a, const void *b)
{
    const struct due_entry *left = a;
    const struct due_entry *right = b;
    return memcmp(left->prefix, right->prefix, STORE_DUE_PREFIX);
}

/* What nothing keeps, or will not when its lease ends, is looked at then. */
static void check_looked_at(struct check *check, const struct cap_info *info)
{
    const struct store_cap cap = {.info = *info};
    struct due_entry wanted;
    const struct due_entry *found = NULL;
    MDB_cursor *cursor = NULL;
    unsigned needed = 0;
    if (lmdb_find_needed(check->store, check->txn, &cursor, check->hash, &cap, &needed) != CAP_OK ||
        (needed & ~CAP_NEEDED_LEASE) != 0) {
        return;
    }
    memcpy(wanted.prefix, check->hash->bytes, STORE_DUE_PREFIX);
    if (check->due.count > 0) {
        found = bsearch(&wanted, check->due.entries, check->due.count, sizeof(wanted),
                        compare_prefixes);
    }
    if (found == NULL || (found->time_s < info->kept_until_s && (needed & CAP_NEEDED_LEASE) != 0)) {
        lmdb_check_find(check, "nothing refers to it, and collection will never look at it");
    }
}

/* --- Owners ----------------------------------------------------------------------------------- */

/* Where the uid is among those that were counted, or would be. */
static size_t owner_at(const struct check_usages *usages, uint32_t uid)
{
    size_t from = 0;
    size_t to = usages->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (usages->of[middle].uid < uid) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

enum cap_error lmdb_check_keep_cap(struct check *check, const struct cap_info *info)
{
    struct check_usages *usages = &check->usages;
    uint32_t uid = info->publisher.uid;
    size_t at = owner_at(usages, uid);
    check_looked_at(check, info);
    if (at == usages->count || usages->of[at].uid != uid) {
        if (usages->count == usages->capacity) {
            size_t capacity = 2 * usages->capacity + 16;
            struct check_usage *of = realloc(usages->of, capacity * sizeof(*of));
            if (of == NULL) {
                return CAP_E_NO_MEMORY;
            }
            usages->of = of;
            usages->capacity = capacity;
        }
        memmove(usages->of + at + 1, usages->of + at, (usages->count - at) * sizeof(*usages->of));
        usages->of[at] = (struct check_usage){.uid = uid};
        usages->count++;
    }
    usages->of[at].usage.caps++;
    usages->of[at].usage.bytes += info->body_len;
    return CAP_OK;
}

static void find_owner(struct check *check, uint32_t uid, const struct cap_usage *says,
                       const struct cap_usage *has)
{
    lmdb_check_find(check,
                    "the index owners says that uid %" PRIu32 " has %" PRIu64 " caps of %" PRIu64
                    " bytes; there are %" PRIu64 " of %" PRIu64,
                    uid, says->caps, says->bytes, has->caps, has->bytes);
}

enum cap_error lmdb_check_owner(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    uint32_t uid = store_owner_key_load(key->mv_data);
    size_t at = owner_at(&check->usages, uid);
    bool known = at < check->usages.count && check->usages.of[at].uid == uid;
    struct cap_usage none = {0};
    const struct cap_usage *has = known ? &check->usages.of[at].usage : &none;
    struct cap_usage says;
    if (store_owner_decode(value, &says) != CAP_OK) {
        lmdb_check_find(check, "a record of the index owners says what cannot be");
    } else if (says.caps != has->caps || says.bytes != has->bytes) {
        find_owner(check, uid, &says, has);
    }
    if (known) {
        check->usages.of[at].seen = true;
    }
    return CAP_OK;
}

void lmdb_check_keep_end(struct check *check)
{
    const struct cap_usage none = {0};
    for (size_t i = 0; i < check->usages.count; i++) {
        if (!check->usages.of[i].seen) {
            find_owner(check, check->usages.of[i].uid, &none, &check->usages.of[i].usage);
        }
    }
}

void lmdb_check_keep_free(struct check *check)
{
    free(check->due.entries);
    free(check->usages.of);
}
