/*
 * Verifies a store that nobody has open, completely, and changes nothing.
 *
 * Happy path. The file's pages are looked at by themselves. Every table is walked in the order of
 * its keys, and every value compared with its seal. Of every cap the body is read and rebuilt: that
 * gives its CapHash, its page roots and its references, which are compared with what is stored.
 * Then what is there but named by nothing: chunks without a cap, references in one direction only.
 *
 * Failure modes. The file may hold any bytes. What LMDB hands out is bounded before it is used, and
 * no memory is taken for a claimed length before so many bytes have been seen. LMDB itself trusts
 * its pages: on some it crashes or never ends, so the caller runs this in a process of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/store/lmdb/check.h"

void lmdb_check_find(struct check *check, const char *format, ...)
{
    char what[200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    check->findings++;
    check->watch->finding(check->watch->ctx, check->hash, what);
}

void lmdb_check_step(struct check *check, uint64_t bytes)
{
    check->progress.bytes += bytes;
    if (check->watch->progress != NULL) {
        check->watch->progress(check->watch->ctx, &check->progress);
    }
}

/* Names the hash that a key begins with while something is found; NULL when it has none. */
static void look_at(struct check *check, const MDB_val *key)
{
    struct cap_check_progress *progress = &check->progress;
    progress->has_hash = key != NULL && key->mv_size >= CAP_HASH_SIZE;
    check->hash = NULL;
    if (progress->has_hash) {
        memcpy(progress->hash.bytes, key->mv_data, CAP_HASH_SIZE);
        check->hash = &progress->hash;
    }
    lmdb_check_step(check, 0);
}

/* --- Tables ----------------------------------------------------------------------------------- */

/* Whether the keys of a table begin with a hash of a cap. */
static bool has_hashes(enum lmdb_table table)
{
    return table == LMDB_CAPS || table == LMDB_REFS || table == LMDB_REVS ||
           table == LMDB_CONTENTS || table == LMDB_FACTS || table == LMDB_ROOTED;
}

static int compare_keys(const uint8_t *a, size_t a_len, const MDB_val *b)
{
    int order = memcmp(a, b->mv_data, a_len < b->mv_size ? a_len : b->mv_size);
    return order != 0 ? order : (a_len > b->mv_size) - (a_len < b->mv_size);
}

/* Whether the key that a cursor came to is found by itself: the branches above it lead there. */
static bool is_found(struct check *check, enum lmdb_table table, MDB_val key, const MDB_val *value)
{
    MDB_val there;
    return mdb_get(check->txn, check->store->tables[table], &key, &there) == 0 &&
           there.mv_data == value->mv_data;
}

enum cap_error lmdb_check_walk(struct check *check, enum lmdb_table table, size_t key_size,
                               bool sealed, lmdb_check_visitor *visit)
{
    uint8_t before[STORE_KEY_MAX];
    size_t before_len = 0;
    uint64_t entries = 0;
    MDB_cursor *cursor;
    MDB_stat stat;
    MDB_val key;
    MDB_val value;
    enum cap_error error = CAP_OK;
    check->progress.index = lmdb_table_name(table);
    look_at(check, NULL);
    int rc = mdb_cursor_open(check->txn, check->store->tables[table], &cursor);
    if (rc != 0) {
        return lmdb_error(-1, rc);
    }
    for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0 && error == CAP_OK;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct cap_bytes bytes = {value.mv_data, value.mv_size};
        entries++;
        look_at(check, has_hashes(table) ? &key : NULL);
        if (key.mv_size > sizeof(before) || (key_size != 0 && key.mv_size != key_size)) {
            lmdb_check_find(check, "a key of %zu bytes in the index %s", key.mv_size,
                            lmdb_table_name(table));
            continue;
        }
        if (entries > 1 && compare_keys(before, before_len, &key) >= 0) {
            lmdb_check_find(check, "the index %s is out of order", lmdb_table_name(table));
        }
        if (!is_found(check, table, key, &value)) {
            lmdb_check_find(check, "in the index %s and not found there by its key",
                            lmdb_table_name(table));
        }
        memcpy(before, key.mv_data, key.mv_size);
        before_len = key.mv_size;
        if (sealed && (value.mv_size > STORE_VALUE_MAX + STORE_SEAL_SIZE ||
                       !lmdb_unseal(&key, &value, &bytes))) {
            lmdb_check_find(check, "damaged in the index %s: its checksum does not match",
                            lmdb_table_name(table));
            continue;
        }
        error = visit(check, &key, bytes);
    }
    mdb_cursor_close(cursor);
    check->hash = NULL;
    if (rc != 0 && rc != MDB_NOTFOUND) {
        lmdb_check_find(check, "the index %s cannot be read to its end: %s", lmdb_table_name(table),
                        mdb_strerror(rc));
        return rc == EIO || rc == ENOMEM ? lmdb_error(-1, rc) : CAP_OK;
    }
    if (error == CAP_OK && mdb_stat(check->txn, check->store->tables[table], &stat) == 0 &&
        stat.ms_entries != entries) {
        lmdb_check_find(check, "the index %s has %" PRIu64 " entries and says %zu",
                        lmdb_table_name(table), entries, stat.ms_entries);
    }
    return error;
}

bool lmdb_check_get(struct check *check, enum lmdb_table table, const void *key, size_t key_len,
                    struct cap_bytes *ret_value)
{
    return lmdb_get(check->store, check->txn, table, (struct cap_bytes){key, key_len}, ret_value) ==
           CAP_OK;
}

/* --- Caps ------------------------------------------------------------------------------------- */

/* The wire Image that it was first published with leads to it. */
static void check_content(struct check *check, const struct store_cap *cap)
{
    struct cap_bytes value;
    if (cap->info.has_content_hash &&
        (!lmdb_check_get(check, LMDB_CONTENTS, cap->info.content_hash.bytes, CAP_HASH_SIZE,
                         &value) ||
         value.len != CAP_HASH_SIZE || memcmp(value.data, check->hash, CAP_HASH_SIZE) != 0)) {
        lmdb_check_find(check, "its image_content_hash does not lead to it");
    }
}

static enum cap_error add_owner(struct check *check, const struct owner *owner)
{
    if (check->owner_count == check->owner_capacity) {
        size_t capacity = 2 * check->owner_capacity + 64;
        struct owner *owners = realloc(check->owners, capacity * sizeof(*owners));
        if (owners == NULL) {
            return CAP_E_NO_MEMORY;
        }
        check->owners = owners;
        check->owner_capacity = capacity;
    }
    check->owners[check->owner_count++] = *owner;
    return CAP_OK;
}

static enum cap_error visit_cap(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    struct store_cap cap = {0};
    (void)key;
    enum cap_error error = store_cap_decode(value, &cap);
    check->progress.caps++;
    if (error == CAP_E_STORE_VERSION) {
        lmdb_check_find(check, "its record has flags that this version does not know: 0x%x",
                        cap.unknown);
        return CAP_OK;
    }
    if (error != CAP_OK) {
        lmdb_check_find(check, "its record says what cannot be");
        return CAP_OK;
    }
    if (cap.body >= check->state.next_body) {
        lmdb_check_find(check, "its body %" PRIu64 " is one that is still to come", cap.body);
    }
    struct owner owner = {.body = cap.body};
    for (int i = 0; i < STORE_STREAMS; i++) {
        enum store_stream stream = (enum store_stream)i;
        uint64_t len = lmdb_stream_len(&cap.info, stream);
        owner.chunks[i] = len == 0 ? 0 : lmdb_chunk_at(stream, len, len - 1).number + 1;
    }
    store_counts_add(&check->counts, &cap.info);
    check_content(check, &cap);
    lmdb_check_cap(check, &cap);
    error = lmdb_check_keep_cap(check, &cap.info);
    return error == CAP_OK ? add_owner(check, &owner) : error;
}

/* --- References, contents, facts ------------------------------------------------------------ */

/* A pair has its mirror in the other table, with the same value. */
static void check_mirror(struct check *check, enum lmdb_table other, const MDB_val *key,
                         struct cap_bytes value)
{
    uint8_t mirror[STORE_PAIR_KEY];
    struct cap_bytes there;
    memcpy(mirror, (const uint8_t *)key->mv_data + CAP_HASH_SIZE, CAP_HASH_SIZE);
    memcpy(mirror + CAP_HASH_SIZE, key->mv_data, CAP_HASH_SIZE);
    if (value.len != 1 || !lmdb_check_get(check, other, mirror, sizeof(mirror), &there) ||
        there.len != 1 || there.data[0] != value.data[0]) {
        lmdb_check_find(check, "a reference is not the same in both directions (index %s)",
                        lmdb_table_name(other));
    }
}

static enum cap_error visit_ref(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    const uint8_t *pair = key->mv_data;
    struct cap_bytes record;
    struct cap_hash target;
    char hex[CAP_HASH_HEX_SIZE];
    check_mirror(check, LMDB_REVS, key, value);
    memcpy(target.bytes, pair + CAP_HASH_SIZE, CAP_HASH_SIZE);
    cap_hash_format(&target, hex);
    if (!lmdb_check_get(check, LMDB_CAPS, pair, CAP_HASH_SIZE, &record)) {
        lmdb_check_find(check, "has a reference and is not there");
    }
    if (!lmdb_check_get(check, LMDB_CAPS, target.bytes, CAP_HASH_SIZE, &record)) {
        lmdb_check_find(check, "names %s, which is not there", hex);
    }
    check->progress.refs++;
    return CAP_OK;
}

static enum cap_error visit_rev(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    check_mirror(check, LMDB_REFS, key, value);
    return CAP_OK;
}

static enum cap_error visit_content(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    struct cap_bytes record;
    (void)key;
    if (value.len != CAP_HASH_SIZE ||
        !lmdb_check_get(check, LMDB_CAPS, value.data, value.len, &record)) {
        lmdb_check_find(check, "an image_content_hash that leads to no cap");
    }
    return CAP_OK;
}

static enum cap_error visit_fact(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    struct cap_bytes record;
    (void)value;
    if (!lmdb_check_get(check, LMDB_CAPS, key->mv_data, CAP_HASH_SIZE, &record)) {
        lmdb_check_find(check, "a fact is known of it and it is not there");
    }
    return CAP_OK;
}

/* --- Bulk ------------------------------------------------------------------------------------- */

static enum cap_error visit_stage(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    struct owner owner = {.body = store_body_key_load(key->mv_data), .is_stage = true};
    if (value.len != STORE_STAGE_SIZE || owner.body >= check->state.next_body) {
        lmdb_check_find(check, "the unfinished upload %" PRIu64 " says what cannot be", owner.body);
    }
    return add_owner(check, &owner);
}

static int compare_owners(const void *a, const void *b)
{
    const struct owner *left = a;
    const struct owner *right = b;
    return (left->body > right->body) - (left->body < right->body);
}

static void check_owners(struct check *check)
{
    if (check->owner_count > 0) {
        qsort(check->owners, check->owner_count, sizeof(*check->owners), compare_owners);
    }
    for (size_t i = 1; i < check->owner_count; i++) {
        if (check->owners[i - 1].body == check->owners[i].body) {
            lmdb_check_find(check, "body %" PRIu64 " has more than one owner",
                            check->owners[i].body);
        }
    }
}

/* A chunk has an owner, which expects it. What a cap's chunks hold has been seen with the cap. */
static enum cap_error visit_chunk(struct check *check, const MDB_val *key, struct cap_bytes value)
{
    const uint8_t *name = key->mv_data;
    const struct owner wanted = {.body = store_body_key_load(name)};
    const struct owner *owner = NULL;
    uint32_t chunk = 0;
    for (size_t i = 9; i < STORE_CHUNK_KEY; i++) {
        chunk = chunk << 8 | name[i];
    }
    if (check->owner_count > 0) {
        owner = bsearch(&wanted, check->owners, check->owner_count, sizeof(wanted), compare_owners);
    }
    uint8_t stream = name[8];
    if (owner == NULL || stream >= STORE_STREAMS ||
        (!owner->is_stage && chunk >= owner->chunks[stream])) {
        lmdb_check_find(check, "chunk %" PRIu32 " of body %" PRIu64 " belongs to nothing", chunk,
                        wanted.body);
    } else if (owner->is_stage) {
        const MDB_val whole = {value.len, (void *)(uintptr_t)value.data};
        if (!lmdb_unseal(key, &whole, &value)) {
            lmdb_check_find(check,
                            "chunk %" PRIu32 " of the unfinished upload %" PRIu64 " is damaged",
                            chunk, wanted.body);
        }
        lmdb_check_step(check, value.len);
    }
    return CAP_OK;
}

/* --- The whole -------------------------------------------------------------------------------- */

static void compare_counts(struct check *check)
{
    const struct cap_counts *stored = &check->state.counts;
    check->hash = NULL;
    for (int kind = CAP_KIND_IMAGE; kind < CAP_STORE_KINDS; kind++) {
        if (stored->caps[kind] != check->counts.caps[kind] ||
            stored->body_bytes[kind] != check->counts.body_bytes[kind]) {
            lmdb_check_find(check,
                            "the counts say %" PRIu64 " %s caps of %" PRIu64
                            " bytes; there are %" PRIu64 " of %" PRIu64,
                            stored->caps[kind], kind == CAP_KIND_IMAGE ? "Image" : "Data",
                            stored->body_bytes[kind], check->counts.caps[kind],
                            check->counts.body_bytes[kind]);
        }
    }
    if (stored->refs != check->counts.refs || stored->refs != check->progress.refs) {
        lmdb_check_find(check,
                        "the counts say %" PRIu64 " references; records say %" PRIu64
                        ", the index has %" PRIu64,
                        stored->refs, check->counts.refs, check->progress.refs);
    }
}

static enum cap_error check_tables(struct check *check)
{
    enum cap_error error = lmdb_state_get(check->store, check->txn, &check->state);
    if (error != CAP_OK) {
        lmdb_check_find(check, "the record of counts is damaged or missing");
        check->state.next_body = UINT64_MAX;
    }
    check->progress.caps_total =
        check->state.counts.caps[CAP_KIND_IMAGE] + check->state.counts.caps[CAP_KIND_DATA];
    check->progress.bytes_total = check->state.counts.body_bytes[CAP_KIND_IMAGE] +
                                  check->state.counts.body_bytes[CAP_KIND_DATA];
    bool counted = error == CAP_OK;
    store_clock_start(&check->store->base, check->state.clock_s);
    error = lmdb_check_walk(check, LMDB_DUE, STORE_DUE_KEY, true, lmdb_check_due);
    if (error == CAP_OK) {
        lmdb_check_due_sort(check);
        error = lmdb_check_walk(check, LMDB_CAPS, CAP_HASH_SIZE, true, visit_cap);
    }
    if (error == CAP_OK) {
        error = lmdb_check_walk(check, LMDB_REFS, STORE_PAIR_KEY, true, visit_ref);
    }
    if (error == CAP_OK) {
        error = lmdb_check_walk(check, LMDB_REVS, STORE_PAIR_KEY, true, visit_rev);
    }
    if (error == CAP_OK) {
        error = lmdb_check_walk(check, LMDB_CONTENTS, CAP_HASH_SIZE, true, visit_content);
    }
    if (error == CAP_OK) {
        error = lmdb_check_walk(check, LMDB_FACTS, STORE_FACT_KEY, true, visit_fact);
    }
    if (error == CAP_OK) {
        error = lmdb_check_walk(check, LMDB_STAGES, STORE_BODY_KEY, true, visit_stage);
    }
    if (error == CAP_OK) {
        check_owners(check);
        error = lmdb_check_walk(check, LMDB_BULK, STORE_CHUNK_KEY, false, visit_chunk);
    }
    if (error == CAP_OK) {
        error = lmdb_check_walk(check, LMDB_ROOTS, 0, true, lmdb_check_root);
    }
    if (error == CAP_OK) {
        error = lmdb_check_walk(check, LMDB_ROOTED, 0, true, lmdb_check_rooted);
    }
    if (error == CAP_OK) {
        error = lmdb_check_walk(check, LMDB_OWNERS, STORE_OWNER_KEY, true, lmdb_check_owner);
    }
    if (error == CAP_OK) {
        lmdb_check_keep_end(check);
    }
    if (error == CAP_OK && counted) {
        compare_counts(check);
    }
    return error;
}

/* What LMDB would trust: read by ourselves, before LMDB is asked for more. */
static enum cap_error check_pages(struct check *check)
{
    MDB_stat stat;
    struct stat file;
    int fd = -1;
    (void)mdb_env_stat(check->store->env, &stat); /* these two fail on NULL only */
    (void)mdb_env_get_fd(check->store->env, &fd);
    if (fstat(fd, &file) != 0) {
        return lmdb_error(-1, errno);
    }
    check->progress.index = "of pages";
    lmdb_check_step(check, 0);
    return lmdb_check_pages(check, fd, stat.ms_psize, (uint64_t)file.st_size / stat.ms_psize);
}

static enum cap_error check_txn(struct check *check)
{
    uint8_t id[CAP_STORE_ID_SIZE];
    enum cap_error error = check_pages(check);
    if (error == CAP_OK) {
        error = lmdb_load_format(check->store, check->txn, id);
        if (error == CAP_E_CORRUPT) {
            lmdb_check_find(check, "the format record is damaged or missing");
        }
    }
    if (error == CAP_OK) {
        error = lmdb_open_tables(check->store, check->txn, 0);
        if (error == CAP_E_CORRUPT) {
            lmdb_check_find(check, "an index is missing");
        }
    }
    if (error == CAP_OK) {
        error = check_tables(check);
    }
    return error == CAP_E_CORRUPT ? CAP_OK : error;
}

/* Opens it so that not even LMDB's lock file is made: nobody else has the store. */
static int open_env(struct check *check, const char *path)
{
    struct stat file;
    size_t gap = LMDB_GAP_MAX * (size_t)sysconf(_SC_PAGESIZE);
    int rc = stat(path, &file) == 0 ? 0 : errno;
    if (rc == 0) { /* else it would be what the file says */
        rc = mdb_env_set_mapsize(check->store->env, (size_t)file.st_size + gap);
    }
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(check->store->env, LMDB_TABLES);
    }
    if (rc == 0) {
        rc = mdb_env_open(check->store->env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK, 0600);
    }
    return rc == 0 ? mdb_txn_begin(check->store->env, NULL, MDB_RDONLY, &check->txn) : rc;
}

/*
 * LMDB needs a larger map than there can be: `why`. Either memory is short, or the file says that
 * it has more pages than it has: then that is found.
 */
static enum cap_error check_unopened(struct check *check, const char *path, enum cap_error why)
{
    struct stat file;
    uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum cap_error error = fd >= 0 && fstat(fd, &file) == 0 ? CAP_OK : lmdb_error(-1, errno);
    if (error == CAP_OK) {
        error = lmdb_check_pages(check, fd, page, (uint64_t)file.st_size / page);
    }
    if (fd >= 0) {
        close(fd);
    }
    return error != CAP_OK || check->findings > 0 ? error : why;
}

static enum cap_error check_env(struct check *check, const char *path)
{
    int rc = open_env(check, path);
    enum cap_error error = lmdb_error(-1, rc);
    if (rc == 0) {
        error = check_txn(check);
        mdb_txn_abort(check->txn);
    } else if (error == CAP_E_NO_MEMORY || error == CAP_E_STORE_FAILED) {
        error = check_unopened(check, path, error);
    } else if (error == CAP_E_CORRUPT || error == CAP_E_STORE_VERSION ||
               error == CAP_E_INVALID_ARGUMENT) {
        lmdb_check_find(check, "%s is not a file of the storage engine: %s", path,
                        mdb_strerror(rc));
        error = CAP_OK;
    }
    return error;
}

enum cap_error cap_store_lmdb_check(const char *dir, const struct cap_check_watch *watch,
                                    uint64_t *ret_findings)
{
    char path[PATH_MAX];
    struct check check = {.watch = watch};
    int len = snprintf(path, sizeof(path), "%s/" LMDB_FILE_NAME, dir);
    if (len < 0 || len >= (int)sizeof(path)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    check.store = calloc(1, sizeof(*check.store));
    if (check.store == NULL) {
        return CAP_E_NO_MEMORY;
    }
    check.store->fd = -1;
    enum cap_error error = lmdb_error(-1, mdb_env_create(&check.store->env));
    if (error == CAP_OK) {
        error = check_env(&check, path);
        mdb_env_close(check.store->env);
    }
    lmdb_check_keep_free(&check);
    free(check.owners);
    free(check.store);
    *ret_findings = check.findings;
    return error;
}
