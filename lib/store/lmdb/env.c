/*
 * The LMDB environment as the engine's files use it: errors, records, transactions, room.
 *
 * Room. A full map must not become a trap: LMDB copies pages even to delete, so a store filled to
 * the last page could never be emptied. lmdb_check_room therefore refuses a write of the user's
 * while some pages are left, counting those at the end of the map and those in the free list. A
 * full disk is the same, but that somebody else may fill it at any time: so the pages that are kept
 * for deleting are in the file already (fallocate), or in the free list. Both are early answers;
 * what LMDB itself says in the end is translated by lmdb_error.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>

#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

#define DISK_NEARLY_FULL (UINT64_C(16) << 20) /* below it, EIO is taken for "no space" */
#define DISK_HEADROOM    (UINT64_C(1) << 20)
#define HEADROOM_PART    64u /* of the map */
#define HEADROOM_MIN     64u /* pages */
#define HEADROOM_MAX     4096u
#define KEPT_PAGES       256u    /* of the file: a cap of 64 references is removed by some 200 */
#define KEPT_MORE        64u     /* the file grows by as many at a time where the disk has room */
#define WRITE_SLACK      32u     /* pages that any write takes: copies of branches and leaves */
#define FREE_RECORDS_MAX 100000u /* bound of the walk over the free list */
#define AHEAD_BYTES      (UINT64_C(1) << 20) /* written in a millisecond; 200 caps of one page */
/* A long write makes long runs of pages in the system's cache, of which each later write and sync
 * of one page is slower. */
#define AHEAD_PIECE 4096u
#define FREE_LIST   0 /* the number of LMDB's own free list among its databases */

static uint64_t disk_free(int fd)
{
    struct statvfs fs;
    if (fd < 0 || fstatvfs(fd, &fs) != 0) {
        return UINT64_MAX;
    }
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* Whether the process may hardly make the file longer (`ulimit -f`). */
static bool is_near_size_limit(int fd)
{
    struct rlimit limit;
    struct stat st;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           fstat(fd, &st) == 0 && (uint64_t)st.st_size + DISK_NEARLY_FULL > limit.rlim_cur;
}

enum cap_error lmdb_error(int fd, int code)
{
    switch (code) {
    case MDB_SUCCESS:
        return CAP_OK;
    case MDB_NOTFOUND:
        return CAP_E_NOT_FOUND;
    case MDB_MAP_FULL:
        return CAP_E_MAP_FULL;
    case MDB_READERS_FULL:
        return CAP_E_READERS_FULL;
    case MDB_VERSION_MISMATCH:
        return CAP_E_STORE_VERSION;
    case MDB_PANIC:
    case MDB_MAP_RESIZED: /* somebody else wrote; mapping anew under open readers is not safe */
        return CAP_E_STORE_FAILED;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_BAD_TXN: /* an earlier call met a bad page */
    case MDB_INCOMPATIBLE:
        return CAP_E_CORRUPT;
    case MDB_TXN_FULL:
    case ENOMEM:
        return CAP_E_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return CAP_E_DISK_FULL;
    case EINVAL:
        return CAP_E_INVALID_ARGUMENT;
    case EIO: /* also what LMDB makes of a write that was cut short */
        return disk_free(fd) < DISK_NEARLY_FULL || is_near_size_limit(fd) ? CAP_E_DISK_FULL
                                                                          : CAP_E_IO;
    default:
        return CAP_E_IO;
    }
}

/* LMDB takes keys and values as mutable pointers but does not write through them. */
static MDB_val value_of(struct cap_bytes bytes)
{
    MDB_val val = {.mv_size = bytes.len};
    memcpy(&val.mv_data, &bytes.data, sizeof(val.mv_data));
    return val;
}

enum cap_error lmdb_get(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                        struct cap_bytes key, struct cap_bytes *ret_value)
{
    MDB_val k = value_of(key);
    MDB_val v;
    int rc = mdb_get(txn, store->tables[table], &k, &v);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    return lmdb_unseal(&k, &v, ret_value) ? CAP_OK : CAP_E_CORRUPT;
}

bool lmdb_unseal(const MDB_val *key, const MDB_val *value, struct cap_bytes *ret_value)
{
    uint64_t seed = store_seed((struct cap_bytes){key->mv_data, key->mv_size});
    return store_unseal(seed, (struct cap_bytes){value->mv_data, value->mv_size}, ret_value);
}

static enum cap_error put(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                          struct cap_bytes key, struct cap_bytes value, unsigned flags)
{
    uint8_t sealed[STORE_VALUE_MAX + STORE_SEAL_SIZE];
    MDB_val k = value_of(key);
    MDB_val v = {value.len + STORE_SEAL_SIZE, sealed};
    if (value.len > STORE_VALUE_MAX) {
        return CAP_E_INTERNAL;
    }
    memcpy(sealed, value.data, value.len);
    store_seal(store_seed(key), sealed, value.len);
    int rc = mdb_put(txn, store->tables[table], &k, &v, flags);
    if (rc == MDB_KEYEXIST && flags == MDB_APPEND) {
        rc = mdb_put(txn, store->tables[table], &k, &v, 0);
    }
    return lmdb_error(store->fd, rc);
}

enum cap_error lmdb_put(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                        struct cap_bytes key, struct cap_bytes value)
{
    return put(store, txn, table, key, value, 0);
}

enum cap_error lmdb_append(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                           struct cap_bytes key, struct cap_bytes value)
{
    return put(store, txn, table, key, value, MDB_APPEND);
}

enum cap_error lmdb_delete(const struct lmdb_store *store, MDB_txn *txn, enum lmdb_table table,
                           struct cap_bytes key)
{
    MDB_val k = value_of(key);
    int rc = mdb_del(txn, store->tables[table], &k, NULL);
    return rc == MDB_NOTFOUND ? CAP_OK : lmdb_error(store->fd, rc);
}

enum cap_error lmdb_find_cap(const struct lmdb_store *store, MDB_txn *txn,
                             const struct cap_hash *hash, struct store_cap *ret_cap)
{
    struct cap_bytes bytes;
    enum cap_error error =
        lmdb_get(store, txn, LMDB_CAPS, (struct cap_bytes){hash->bytes, CAP_HASH_SIZE}, &bytes);
    return error == CAP_OK ? store_cap_decode(bytes, ret_cap) : error;
}

enum cap_error lmdb_put_cap(const struct lmdb_store *store, MDB_txn *txn,
                            const struct cap_hash *hash, const struct store_cap *cap)
{
    uint8_t bytes[STORE_CAP_MAX];
    size_t len = store_cap_encode(cap, bytes);
    return lmdb_put(store, txn, LMDB_CAPS, (struct cap_bytes){hash->bytes, CAP_HASH_SIZE},
                    (struct cap_bytes){bytes, len});
}

static const struct cap_bytes state_key = {(const uint8_t *)"state", 5};

enum cap_error lmdb_state_get(const struct lmdb_store *store, MDB_txn *txn,
                              struct store_state *ret_state)
{
    struct cap_bytes bytes;
    enum cap_error error = lmdb_get(store, txn, LMDB_META, state_key, &bytes);
    if (error == CAP_E_NOT_FOUND) {
        return CAP_E_CORRUPT;
    }
    return error == CAP_OK ? store_state_decode(bytes, ret_state) : error;
}

enum cap_error lmdb_state_put(const struct lmdb_store *store, MDB_txn *txn,
                              const struct store_state *state)
{
    uint8_t bytes[STORE_STATE_SIZE];
    struct store_state now = *state;
    now.clock_s = cap_store_clock(&store->base);
    store_state_encode(&now, bytes);
    return lmdb_put(store, txn, LMDB_META, state_key, (struct cap_bytes){bytes, sizeof(bytes)});
}

enum cap_error lmdb_begin(struct lmdb_store *store, MDB_txn **ret_txn)
{
    if (atomic_load(&store->base.failure) != CAP_OK) {
        return CAP_E_STORE_FAILED;
    }
    if (atomic_load(&store->map.bad)) {
        return CAP_E_IO;
    }
    return lmdb_error(store->fd, mdb_txn_begin(store->env, NULL, 0, ret_txn));
}

/* After a failed meta write LMDB refuses every transaction; only asking for one tells. */
static bool is_dead(struct lmdb_store *store)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc == 0) {
        mdb_txn_abort(txn);
    }
    return rc == MDB_PANIC;
}

enum cap_error lmdb_commit(struct lmdb_store *store, MDB_txn *txn)
{
    int rc = mdb_txn_commit(txn);
    store->knows_free = false;
    if (rc == 0) {
        return CAP_OK;
    }
    enum cap_error error = is_dead(store) ? CAP_E_STORE_FAILED : lmdb_error(store->fd, rc);
    if (error == CAP_E_STORE_FAILED || error == CAP_E_IO) {
        atomic_store(&store->base.failure, error);
    }
    return error;
}

/* --- Room ------------------------------------------------------------------------------------- */

/* Of what transactions before `until` have freed. */
static enum cap_error sum_free_list(struct lmdb_read *gauge, size_t until, uint64_t *ret_pages)
{
    const struct lmdb_store *store = lmdb_of(gauge->base.store);
    MDB_val key, value;
    uint64_t pages = 0;
    size_t count, freed_by;
    enum cap_error error = lmdb_error(store->fd, mdb_txn_renew(gauge->txn));
    if (error == CAP_OK) {
        error = lmdb_cursor_open(gauge, FREE_LIST);
    }
    if (error != CAP_OK) {
        return error;
    }
    int rc = 0;
    for (unsigned i = 0; i < FREE_RECORDS_MAX; i++) {
        rc = mdb_cursor_get(gauge->cursor, &key, &value, MDB_NEXT);
        if (rc != 0 || value.mv_size < sizeof(count) || key.mv_size != sizeof(freed_by)) {
            break;
        }
        memcpy(&freed_by, key.mv_data, sizeof(freed_by));
        if (freed_by >= until) {
            break;
        }
        memcpy(&count, value.mv_data, sizeof(count)); /* a list begins with its length */
        pages += count;
    }
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return lmdb_error(store->fd, rc);
    }
    *ret_pages = pages;
    return CAP_OK;
}

/* Counts the pages in LMDB's free list that transactions before `until` have freed. Under the
 * gauge's lock. */
static enum cap_error count_free(struct lmdb_store *store, size_t until, uint64_t *ret_pages)
{
    enum cap_error error;
    LMDB_GUARDED(&store->map, error, sum_free_list(&store->gauge, until, ret_pages));
    error = lmdb_cursor_close(&store->gauge, error);
    mdb_txn_reset(store->gauge.txn); /* fine if it is */
    return error;
}

/* Where the store ends; *ret_file_bytes is the length of its file. */
static enum cap_error measure_tail(struct lmdb_store *store, struct lmdb_room *ret_room,
                                   uint64_t *ret_file_bytes)
{
    MDB_envinfo info;
    struct stat st;
    uint64_t used, file;
    enum cap_error error;
    LMDB_GUARDED(&store->map, error, lmdb_error(store->fd, mdb_env_info(store->env, &info)));
    if (error != CAP_OK) {
        return error;
    }
    if (fstat(store->fd, &st) != 0) {
        return lmdb_error(store->fd, errno);
    }
    used = (uint64_t)info.me_last_pgno + 1;
    file = (uint64_t)st.st_size / store->page_size;
    ret_room->map_pages = (uint64_t)info.me_mapsize / store->page_size;
    ret_room->map_pages -= used < ret_room->map_pages ? used : ret_room->map_pages;
    ret_room->file_pages = file > used ? file - used : 0;
    ret_room->end = used * store->page_size;
    *ret_file_bytes = (uint64_t)st.st_size;
    return CAP_OK;
}

static uint64_t headroom(const struct lmdb_store *store)
{
    uint64_t pages = store->map_bytes / store->page_size / HEADROOM_PART;
    if (pages < HEADROOM_MIN) {
        return HEADROOM_MIN;
    }
    return pages < HEADROOM_MAX ? pages : HEADROOM_MAX;
}

enum cap_error lmdb_measure_room(struct lmdb_store *store, struct lmdb_room *ret_room)
{
    uint64_t file_bytes;
    ret_room->disk_pages = disk_free(store->fd) / store->page_size;
    return measure_tail(store, ret_room, &file_bytes);
}

/* The transaction of the oldest snapshot that is open: it pins what was freed since. */
static size_t oldest_snapshot(struct lmdb_store *store)
{
    pthread_mutex_lock(&store->lock);
    const struct lmdb_read *oldest = TAILQ_FIRST(&store->open);
    size_t id = oldest == NULL ? SIZE_MAX : mdb_txn_id(oldest->txn);
    pthread_mutex_unlock(&store->lock);
    return id;
}

/*
 * Whether the file has `wanted` pages behind its last one in use, or those that the map has: with
 * `extend` it is given them, else it only could be.
 */
static bool fits_file(const struct lmdb_store *store, struct lmdb_room *room, uint64_t wanted,
                      bool extend)
{
    uint64_t most = MIN(wanted, room->map_pages);
    uint64_t needed = most > room->file_pages ? most - room->file_pages : 0;
    if (needed == 0 || (!extend && room->disk_pages >= needed + DISK_HEADROOM / store->page_size)) {
        return true;
    }
    if (room->disk_pages < needed + DISK_HEADROOM / store->page_size) {
        return false;
    }
    uint64_t pages =
        needed + (room->disk_pages * store->page_size < DISK_NEARLY_FULL ? 0 : KEPT_MORE);
    uint64_t from = room->end + room->file_pages * store->page_size;
    if (fallocate(store->fd, 0, (off_t)from, (off_t)(pages * store->page_size)) != 0) {
        return errno == EOPNOTSUPP || errno == ENOSYS; /* then LMDB will tell */
    }
    room->file_pages += pages;
    room->disk_pages -= MIN(pages, room->disk_pages);
    return true;
}

/* Counts the free pages that can be used again. The committed list changes with a commit only, and
 * what is pinned with the oldest snapshot: one walk, however many puts ask. */
static enum cap_error know_free(struct lmdb_store *store)
{
    size_t until = oldest_snapshot(store);
    if (store->knows_free && store->free_until == until) {
        return CAP_OK;
    }
    pthread_mutex_lock(&store->gauge_lock);
    enum cap_error error = count_free(store, until, &store->free_pages);
    pthread_mutex_unlock(&store->gauge_lock);
    store->knows_free = error == CAP_OK;
    store->free_until = until;
    return error;
}

static enum cap_error check_room(struct lmdb_store *store, struct lmdb_room *room, uint64_t bytes,
                                 bool extend)
{
    uint64_t need = bytes / (store->page_size - 16) + WRITE_SLACK;
    uint64_t need_map = need + headroom(store);
    uint64_t need_file = need + KEPT_PAGES;
    bool fits = fits_file(store, room, need_file, extend);
    if (room->map_pages >= need_map && fits) {
        return CAP_OK;
    }
    enum cap_error error = know_free(store);
    if (error != CAP_OK) {
        return error;
    }
    if (room->map_pages + store->free_pages < need_map) {
        return CAP_E_MAP_FULL;
    }
    return fits || room->file_pages + store->free_pages >= need_file ? CAP_OK : CAP_E_DISK_FULL;
}

enum cap_error lmdb_check_room(struct lmdb_store *store, struct lmdb_room *room, uint64_t bytes)
{
    return check_room(store, room, bytes, true);
}

enum cap_error lmdb_foresee_room(struct lmdb_store *store, uint64_t bytes)
{
    struct lmdb_room room;
    enum cap_error error = lmdb_measure_room(store, &room);
    return error == CAP_OK ? check_room(store, &room, bytes, false) : error;
}

#ifdef CLOCK_MONOTONIC_COARSE
#define CLOCK_CHEAP CLOCK_MONOTONIC_COARSE
#else
#define CLOCK_CHEAP CLOCK_MONOTONIC
#endif

uint64_t lmdb_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_CHEAP, &now); /* lint: allow clock_gettime; an age, which decides nothing */
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void lmdb_write_ahead(struct lmdb_store *store, struct lmdb_room *room)
{
    static const uint8_t zeros[AHEAD_PIECE];
    const struct iovec iov = {(void *)(uintptr_t)zeros, sizeof(zeros)};
    uint64_t pages = AHEAD_BYTES / store->page_size;
    uint64_t from = MAX(room->end, store->written_to);
    uint64_t written = (from - room->end) / store->page_size;
    if (written > KEPT_PAGES + 2 * (uint64_t)WRITE_SLACK ||
        room->map_pages < written + pages + headroom(store) ||
        room->disk_pages * store->page_size < DISK_NEARLY_FULL) {
        return;
    }
    uint64_t at = from;
    while (at < from + AHEAD_BYTES &&
           pwritev(store->fd, &iov, 1, (off_t)at) == (ssize_t)sizeof(zeros)) {
        at += sizeof(zeros);
    }
    store->written_to = at;
    pages = (at - room->end) / store->page_size;
    if (pages > room->file_pages) {
        room->disk_pages -= MIN(pages - room->file_pages, room->disk_pages);
        room->file_pages = pages;
    }
}

enum cap_error lmdb_space(struct cap_store *base, struct cap_space *ret_space)
{
    struct lmdb_store *store = lmdb_of(base);
    struct cap_space space = {0};
    struct lmdb_room room;
    uint64_t free_pages;
    pthread_mutex_lock(&store->gauge_lock); /* also keeps the environment */
    enum cap_error error = count_free(store, SIZE_MAX, &free_pages);
    if (error == CAP_OK) {
        error = measure_tail(store, &room, &space.file_bytes);
        space.foreign_pid = lmdb_foreign_reader(store);
    }
    pthread_mutex_unlock(&store->gauge_lock);
    if (error != CAP_OK) {
        return error;
    }
    space.free_bytes = (free_pages + room.file_pages) * store->page_size;
    space.free_bytes -= MIN(space.free_bytes, KEPT_PAGES * store->page_size);
    space.map_bytes = store->map_bytes;
    uint64_t kept = headroom(store) + WRITE_SLACK; /* as in check_room */
    uint64_t room_pages = room.map_pages + free_pages;
    space.room_bytes = (room_pages - MIN(room_pages, kept)) * (store->page_size - 16);
    space.disk_free = disk_free(store->fd);
    space.max_readers = store->max_readers;
    pthread_mutex_lock(&store->lock);
    const struct lmdb_read *oldest = TAILQ_FIRST(&store->open);
    space.readers = store->open_count;
    space.oldest_reader_us = oldest == NULL ? 0 : lmdb_now_us() - oldest->since_us;
    pthread_mutex_unlock(&store->lock);
    *ret_space = space;
    return CAP_OK;
}

enum cap_error lmdb_clear_stale_readers(struct cap_store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    int dead;
    pthread_mutex_lock(&store->gauge_lock); /* keeps the environment */
    enum cap_error error = lmdb_error(store->fd, mdb_reader_check(store->env, &dead));
    pthread_mutex_unlock(&store->gauge_lock);
    return error;
}
