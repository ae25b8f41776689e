/*
 * The look at what keeps caps: roots in both directions, the queue of collection, and what each
 * publisher's caps come to.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lib/store/lmdb/check.h"
#include "lib/store/lmdb/keep.h"

/* --- Roots ------------------------------------------------------------------------------------ */

/* The cap under the glass is one that the entry names. */
static void look_at_hash(struct check *check, const struct cap_hash *hash)
{
    check->progress.hash = *hash;
    check->hash = &check->progress.hash;
}

enum cap_error lmdb_check_root(struct check *check, const struct check_entry *entry,
                               struct cap_bytes value)
{
    uint8_t rooted[STORE_KEY_MAX];
    struct cap_root root;
    if (entry->key_len > CAP_ROOT_NAME_MAX || store_root_decode(value, &root) != CAP_OK) {
        lmdb_check_find(check, "a root says what cannot be");
        lmdb_mend_delete(check, LMDB_ROOTS, entry->key, entry->key_len);
        return CAP_OK;
    }
    const int len = (int)entry->key_len;
    const char *name = (const char *)entry->key;
    memcpy(rooted, root.hash.bytes, CAP_HASH_SIZE);
    memcpy(rooted + CAP_HASH_SIZE, name, entry->key_len);
    look_at_hash(check, &root.hash);
    if (!lmdb_check_has(check, LMDB_ROOTED, rooted, CAP_HASH_SIZE + entry->key_len)) {
        lmdb_check_find(check, "the root %.*s is not in the index rooted", len, name);
        lmdb_mend_put(check, LMDB_ROOTED, rooted, CAP_HASH_SIZE + entry->key_len, "", 0);
    }
    if (!lmdb_check_has(check, LMDB_CAPS, root.hash.bytes, CAP_HASH_SIZE) &&
        !lmdb_check_is_lost(check, &root.hash)) {
        lmdb_check_find(check, "the root %.*s names it and it is not there", len, name);
        lmdb_mend_lost(check, &root.hash);
    }
    return CAP_OK;
}

enum cap_error lmdb_check_rooted(struct check *check, const struct check_entry *entry,
                                 struct cap_bytes value)
{
    uint8_t record[STORE_ROOT_SIZE];
    size_t len = 0;
    struct cap_root root;
    if (entry->key_len <= CAP_HASH_SIZE || value.len != 0 ||
        !lmdb_check_get(check, LMDB_ROOTS, entry->key + CAP_HASH_SIZE,
                        entry->key_len - CAP_HASH_SIZE, record, sizeof(record), &len) ||
        store_root_decode((struct cap_bytes){record, len}, &root) != CAP_OK ||
        memcmp(root.hash.bytes, entry->key, CAP_HASH_SIZE) != 0) {
        lmdb_check_find(check, "the index rooted has a root of it that is not there");
        lmdb_mend_delete(check, LMDB_ROOTED, entry->key, entry->key_len);
        if (check->hash != NULL) {
            lmdb_mend_due(check, check->hash, 0);
        }
    }
    return CAP_OK;
}

/* Whether the index rooted still says which cap a root named whose own record is damaged. */
bool lmdb_check_rooted_by(struct check *check, const uint8_t *name, size_t name_len,
                          struct cap_hash *ret_hash)
{
    static const struct cap_bytes start = {NULL, 0};
    struct check_entry *entry = &check->probed;
    bool found = false;
    while (!found && lmdb_check_next(check, &check->probe, LMDB_ROOTED, start, entry) == CAP_OK) {
        found = entry->key_len == CAP_HASH_SIZE + name_len &&
                memcmp(entry->key + CAP_HASH_SIZE, name, name_len) == 0;
    }
    lmdb_check_end_probe(check);
    if (found) {
        memcpy(ret_hash->bytes, entry->key, CAP_HASH_SIZE);
    }
    return found;
}

/* --- The queue -------------------------------------------------------------------------------- */

static bool is_due_record(struct cap_bytes value)
{
    size_t count = value.len / STORE_DUE_PREFIX;
    return count > 0 && count <= STORE_DUE_HASHES && value.len % STORE_DUE_PREFIX == 0;
}

enum cap_error lmdb_check_due(struct check *check, const struct check_entry *entry,
                              struct cap_bytes value)
{
    if (!is_due_record(value)) {
        lmdb_check_find(check, "a record of the queue of collection says what cannot be");
        lmdb_mend_delete(check, LMDB_DUE, entry->key, entry->key_len);
    }
    return CAP_OK;
}

static enum cap_error take_due(struct check_due *due, const struct check_entry *entry)
{
    struct cap_bytes value;
    uint64_t sequence;
    uint32_t time_s;
    if (entry->key_len != STORE_DUE_KEY || !lmdb_check_unseal(entry, &value) ||
        !is_due_record(value)) {
        return CAP_OK; /* which is found where the table is walked */
    }
    size_t count = value.len / STORE_DUE_PREFIX;
    store_due_key_load(entry->key, &time_s, &sequence);
    if (due->capacity - due->count < count) {
        size_t capacity = 2 * due->capacity + STORE_DUE_HASHES;
        struct check_due_entry *entries = realloc(due->entries, capacity * sizeof(*entries));
        if (entries == NULL) {
            return CAP_E_NO_MEMORY;
        }
        due->entries = entries;
        due->capacity = capacity;
    }
    for (size_t i = 0; i < count; i++) {
        struct check_due_entry *one = &due->entries[due->count++];
        memcpy(one->prefix, value.data + i * STORE_DUE_PREFIX, STORE_DUE_PREFIX);
        one->time_s = time_s;
    }
    return CAP_OK;
}

/* The latest of a prefix comes last. */
static int compare_entries(const void *a, const void *b)
{
    const struct check_due_entry *left = a;
    const struct check_due_entry *right = b;
    int order = memcmp(left->prefix, right->prefix, STORE_DUE_PREFIX);
    return order != 0 ? order : (left->time_s > right->time_s) - (left->time_s < right->time_s);
}

static int compare_prefixes(const void *a, const void *b)
{
    const struct check_due_entry *left = a;
    const struct check_due_entry *right = b;
    return memcmp(left->prefix, right->prefix, STORE_DUE_PREFIX);
}

/* Keeps the latest entry of each prefix. */
static void sort_due(struct check_due *due)
{
    size_t kept = 0;
    if (due->count > 0) {
        qsort(due->entries, due->count, sizeof(*due->entries), compare_entries);
    }
    for (size_t i = 0; i < due->count; i++) {
        if (i + 1 == due->count || compare_prefixes(&due->entries[i], &due->entries[i + 1]) != 0) {
            due->entries[kept++] = due->entries[i];
        }
    }
    due->count = kept;
}

/* Gathers the queue as this snapshot has it. */
static enum cap_error gather_due(struct check *check)
{
    static const struct cap_bytes start = {NULL, 0};
    struct check_entry *entry = &check->probed;
    struct check_due *due = &check->due;
    due->count = 0;
    enum cap_error error = lmdb_check_next(check, &check->probe, LMDB_DUE, start, entry);
    while (error == CAP_OK) {
        error = take_due(due, entry);
        if (error == CAP_OK) {
            error = lmdb_check_next(check, &check->probe, LMDB_DUE, start, entry);
        }
    }
    lmdb_check_end_probe(check);
    sort_due(due);
    due->snapshot = check->snapshot;
    due->gathered = true;
    return error == CAP_E_NOT_FOUND || error == CAP_E_CORRUPT ? CAP_OK : error;
}

/* Whether collection will look at a cap; if it has a lease then, again at the lease's end. */
static bool is_queued(const struct check_due *due, const struct cap_hash *hash)
{
    struct check_due_entry wanted = {.time_s = 0};
    const struct check_due_entry *found = NULL;
    memcpy(wanted.prefix, hash->bytes, STORE_DUE_PREFIX);
    if (due->count > 0) {
        found = bsearch(&wanted, due->entries, due->count, sizeof(wanted), compare_prefixes);
    }
    return found != NULL;
}

static enum cap_error find_needed(struct check *check, const struct store_cap *cap,
                                  unsigned *ret_needed)
{
    enum cap_error error;
    CHECK_GUARDED(
        check, error,
        lmdb_find_needed(check->store, check->txn, &check->probe, check->hash, cap, ret_needed));
    lmdb_check_end_probe(check);
    return error;
}

/*
 * What nothing keeps, or will not when its lease ends, is looked at then. The queue is gathered
 * once; a cap that has come into it since is not missed, since before something is found the queue
 * is gathered again.
 */
enum cap_error lmdb_check_queued(struct check *check, const struct store_cap *cap)
{
    struct check_due *due = &check->due;
    unsigned needed = 0;
    enum cap_error error = CAP_OK;
    if (check->mending && !check->repair) {
        return CAP_OK; /* what is put into the queue shows when it is committed */
    }
    if (!due->gathered) {
        error = gather_due(check);
    }
    if (error != CAP_OK || is_queued(due, check->hash)) {
        return error;
    }
    if (find_needed(check, cap, &needed) != CAP_OK || (needed & ~CAP_NEEDED_LEASE) != 0) {
        return CAP_OK;
    }
    if (due->snapshot != check->snapshot) {
        error = gather_due(check);
    }
    if (error == CAP_OK && !is_queued(due, check->hash)) {
        lmdb_check_find(check, "nothing refers to it, and collection will never look at it");
        lmdb_mend_due(check, check->hash, cap->info.kept_until_s);
    }
    return error;
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

enum cap_error lmdb_check_count_usage(struct check *check, const struct cap_info *info)
{
    struct check_usages *usages = &check->usages;
    uint32_t uid = info->publisher.uid;
    size_t at = owner_at(usages, uid);
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

static void compare_owner(struct check *check, const struct check_entry *entry)
{
    static const struct cap_usage none = {0};
    struct cap_bytes value;
    struct cap_usage says;
    if (entry->key_len != STORE_OWNER_KEY || !lmdb_check_unseal(entry, &value) ||
        store_owner_decode(value, &says) != CAP_OK) {
        lmdb_check_find(check, "a record of the index owners is damaged");
        return;
    }
    uint32_t uid = store_owner_key_load(entry->key);
    size_t at = owner_at(&check->usages, uid);
    bool known = at < check->usages.count && check->usages.of[at].uid == uid;
    const struct cap_usage *has = known ? &check->usages.of[at].usage : &none;
    if (says.caps != has->caps || says.bytes != has->bytes) {
        find_owner(check, uid, &says, has);
    }
    if (known) {
        check->usages.of[at].seen = true;
    }
}

enum cap_error lmdb_check_usages(struct check *check)
{
    static const struct cap_bytes start = {NULL, 0};
    static const struct cap_usage none = {0};
    struct check_entry *entry = &check->probed;
    enum cap_error error = lmdb_check_next(check, &check->probe, LMDB_OWNERS, start, entry);
    while (error == CAP_OK) {
        compare_owner(check, entry);
        error = lmdb_check_next(check, &check->probe, LMDB_OWNERS, start, entry);
    }
    lmdb_check_end_probe(check);
    for (size_t i = 0; i < check->usages.count; i++) {
        if (!check->usages.of[i].seen) {
            find_owner(check, check->usages.of[i].uid, &none, &check->usages.of[i].usage);
        }
    }
    if (error == CAP_E_CORRUPT) {
        lmdb_check_find(check, "the index owners cannot be read to its end");
    }
    return error == CAP_E_NOT_FOUND || error == CAP_E_CORRUPT ? CAP_OK : error;
}
