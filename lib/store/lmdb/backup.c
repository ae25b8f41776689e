/*
 * Copying a store, table by table and record by record, to a file of its own.
 *
 * LMDB can copy its file too, but in one go: it cannot be slowed down or stopped, tells no
 * progress, and loads from the map in a way that ends the process where the device cannot give a
 * page. Here a slice of records is loaded under the guard into a buffer, and then written in one
 * transaction of the new file with its sync. Records arrive in the order of their keys, so the new
 * file's pages are full.
 *
 * Happy path. One snapshot; room is looked for; the new file is made under a temporary name, filled
 * slice by slice, closed and synced.
 *
 * Failure modes. Whatever fails, the new file is removed; one that a crash leaves is removed when a
 * store is next opened in that directory. Errors of the new file's disk do not fail the store.
 * Damage in an index ends the copy; a damaged record is copied as it is, so that what can still be
 * read around it is not lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/store/lmdb/lmdb.h"

#define COPY_SLACK                                                                                 \
    (UINT64_C(2) << 20) /* bytes: pages that each transaction copies to change them */
#define RECORD_MAX  (LMDB_BODY_CHUNK + STORE_SEAL_SIZE) /* bytes of the longest value */
#define RECORD_HEAD 8u                                  /* lengths of key and value */

struct copying {
    struct lmdb_store *store;
    struct lmdb_read *read;
    struct lmdb_store draft; /* the new file: environment, tables, descriptor */
    struct cap_copy *copy;
    struct cap_copy_progress progress;
    enum lmdb_table table; /* that is being copied */
    uint64_t entries[LMDB_TABLES];
    bool held;       /* the record under the cursor did not fit */
    bool table_ends; /* it has no more records than those in the buffer */
    uint8_t *buffer; /* CAP_COPY_SLICE */
    size_t used;
};

/* --- Reading ---------------------------------------------------------------------------------- */

/* Appends a record to the buffer; false: it does not fit. */
static bool keep_record(struct copying *copying, const MDB_val *key, const MDB_val *value)
{
    size_t len = RECORD_HEAD + key->mv_size + value->mv_size;
    uint8_t *at = copying->buffer + copying->used;
    if (CAP_COPY_SLICE - copying->used < len) {
        return false;
    }
    cap_store32(at, (uint32_t)key->mv_size);
    cap_store32(at + 4, (uint32_t)value->mv_size);
    memcpy(at + RECORD_HEAD, key->mv_data, key->mv_size);
    memcpy(at + RECORD_HEAD + key->mv_size, value->mv_data, value->mv_size);
    copying->used += len;
    return true;
}

/* Loads records into the buffer, as many as fit, or as the table has. */
static enum cap_error fill(struct copying *copying)
{
    struct lmdb_read *read = copying->read;
    const struct lmdb_store *store = copying->store;
    MDB_val key, value;
    int rc = 0;
    copying->used = 0;
    if (read->cursor == NULL) {
        enum cap_error error = lmdb_cursor_open(read, store->tables[copying->table]);
        if (error != CAP_OK) {
            return error;
        }
        copying->held = false;
    }
    for (;;) {
        rc = mdb_cursor_get(read->cursor, &key, &value, copying->held ? MDB_GET_CURRENT : MDB_NEXT);
        if (rc != 0) {
            break;
        }
        if (key.mv_size > (size_t)mdb_env_get_maxkeysize(read->env) || value.mv_size > RECORD_MAX) {
            return CAP_E_CORRUPT;
        }
        copying->held = !keep_record(copying, &key, &value);
        if (copying->held) {
            return CAP_OK;
        }
    }
    copying->table_ends = rc == MDB_NOTFOUND;
    return copying->table_ends ? CAP_OK : lmdb_error(store->fd, rc);
}

/* On its own, since what LMDB_GUARDED jumps past must not live in registers. */
static enum cap_error guarded_fill(struct copying *copying)
{
    enum cap_error error;
    LMDB_GUARDED(&copying->store->map, error, fill(copying));
    return error;
}

/* How much there is to copy. */
static enum cap_error count(struct copying *copying)
{
    for (int i = 0; i < LMDB_TABLES; i++) {
        MDB_stat stat;
        int rc = mdb_stat(copying->read->txn, copying->store->tables[i], &stat);
        if (rc != 0) {
            return lmdb_error(copying->store->fd, rc);
        }
        copying->entries[i] = stat.ms_entries;
        copying->progress.records_total += stat.ms_entries;
        copying->progress.bytes_total +=
            (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) * stat.ms_psize;
    }
    return CAP_OK;
}

static enum cap_error guarded_count(struct copying *copying)
{
    enum cap_error error;
    LMDB_GUARDED(&copying->store->map, error, count(copying));
    return error;
}

/* --- Writing ---------------------------------------------------------------------------------- */

static int put_records(struct copying *copying, MDB_txn *txn)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < copying->used;) {
        uint8_t *record = copying->buffer + at;
        MDB_val key = {cap_load32(record), record + RECORD_HEAD};
        MDB_val value = {cap_load32(record + 4), record + RECORD_HEAD + key.mv_size};
        rc = mdb_put(txn, copying->draft.tables[copying->table], &key, &value, MDB_APPEND);
        at += RECORD_HEAD + key.mv_size + value.mv_size;
        copying->progress.records++;
        copying->progress.bytes += key.mv_size + value.mv_size;
        copying->entries[copying->table]--;
    }
    return rc;
}

/* Writes what is in the buffer, with one sync. */
static enum cap_error drain(struct copying *copying)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(copying->draft.env, NULL, 0, &txn);
    if (rc != 0) {
        return lmdb_error(copying->draft.fd, rc);
    }
    rc = put_records(copying, txn);
    if (rc == MDB_KEYEXIST) { /* keys of a damaged page, out of order */
        rc = MDB_CORRUPTED;
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return lmdb_error(copying->draft.fd, rc);
    }
    return lmdb_error(copying->draft.fd, mdb_txn_commit(txn));
}

static enum cap_error copy_table(struct copying *copying)
{
    enum cap_error error = CAP_OK;
    copying->table_ends = false;
    while (error == CAP_OK && !copying->table_ends) {
        error = guarded_fill(copying);
        if (error == CAP_OK && copying->used > 0) {
            error = drain(copying);
        }
        if (error == CAP_OK && copying->used > 0 &&
            !copying->copy->go_on(copying->copy->ctx, &copying->progress)) {
            error = CAP_E_CANCELLED;
        }
    }
    error = lmdb_cursor_close(copying->read, error);
    return error == CAP_OK && copying->entries[copying->table] != 0 ? CAP_E_CORRUPT : error;
}

static enum cap_error copy_tables(struct copying *copying)
{
    enum cap_error error = CAP_OK;
    for (int i = 0; error == CAP_OK && i < LMDB_TABLES; i++) {
        copying->table = (enum lmdb_table)i;
        error = copy_table(copying);
    }
    return error;
}

/* --- The new file ----------------------------------------------------------------------------- */

static enum cap_error find_room(struct copying *copying, int dir_fd)
{
    struct statvfs fs;
    struct cap_copy *copy = copying->copy;
    if (fstatvfs(dir_fd, &fs) != 0) {
        return lmdb_error(dir_fd, errno);
    }
    uint64_t have = (uint64_t)fs.f_bavail * fs.f_frsize;
    copy->need = copying->progress.bytes_total + COPY_SLACK;
    copy->have = have > copy->keep_free ? have - copy->keep_free : 0;
    return copy->have >= copy->need ? CAP_OK : CAP_E_DISK_FULL;
}

static enum cap_error make_tables(struct lmdb_store *draft)
{
    MDB_txn *txn;
    int fd;
    (void)mdb_env_get_fd(draft->env, &fd); /* LMDB's: for errors only */
    draft->fd = fd;
    int rc = mdb_txn_begin(draft->env, NULL, 0, &txn);
    if (rc != 0) {
        return lmdb_error(fd, rc);
    }
    enum cap_error error = lmdb_open_tables(draft, txn, MDB_CREATE);
    if (error != CAP_OK) {
        mdb_txn_abort(txn);
        return error;
    }
    return lmdb_error(fd, mdb_txn_commit(txn));
}

static enum cap_error write_file(struct copying *copying, const char *dir, int dir_fd)
{
    char path[PATH_MAX];
    enum cap_error error = lmdb_path(dir, LMDB_TEMP_NAME, path);
    if (error == CAP_OK) { /* more room than it can take, so that its map is never full */
        error = lmdb_open_env(dir_fd, path, 2 * copying->copy->need, 1, &copying->draft.env);
    }
    if (error != CAP_OK) {
        return error;
    }
    error = make_tables(&copying->draft);
    if (error == CAP_OK) {
        error = copy_tables(copying);
    }
    mdb_env_close(copying->draft.env);
    return error == CAP_OK ? lmdb_sync_file(dir_fd, LMDB_TEMP_NAME) : error;
}

static enum cap_error measure(struct copying *copying, int dir_fd)
{
    struct stat before, after;
    if (fstat(copying->store->fd, &before) != 0 ||
        fstatat(dir_fd, LMDB_TEMP_NAME, &after, AT_SYMLINK_NOFOLLOW) != 0) {
        return lmdb_error(dir_fd, errno);
    }
    copying->copy->file_bytes_before = (uint64_t)before.st_size;
    copying->copy->file_bytes = (uint64_t)after.st_size;
    return CAP_OK;
}

static enum cap_error copy_snapshot(struct copying *copying, const char *dir, int dir_fd)
{
    enum cap_error error = guarded_count(copying);
    if (error == CAP_OK) {
        error = find_room(copying, dir_fd);
    }
    if (error != CAP_OK) {
        return error;
    }
    error = write_file(copying, dir, dir_fd);
    if (error == CAP_OK) {
        error = measure(copying, dir_fd);
    }
    if (error != CAP_OK) {
        (void)lmdb_remove_file(dir_fd, LMDB_TEMP_NAME);
        (void)lmdb_remove_file(dir_fd, LMDB_TEMP_LOCK);
    }
    return error;
}

enum cap_error lmdb_copy_to(struct lmdb_store *store, const char *dir, int dir_fd,
                            struct cap_copy *copy)
{
    struct copying copying = {.store = store, .copy = copy};
    struct cap_read *read;
    copying.buffer = malloc(CAP_COPY_SLICE);
    if (copying.buffer == NULL) {
        return CAP_E_NO_MEMORY;
    }
    enum cap_error error = lmdb_read_begin(&store->base, &read);
    if (error == CAP_OK) {
        copying.read = STORE_CONTAINER_OF(read, struct lmdb_read, base);
        error = copy_snapshot(&copying, dir, dir_fd);
        lmdb_read_end(read);
    }
    free(copying.buffer);
    return error;
}

/* --- Backup ----------------------------------------------------------------------------------- */

static enum cap_error backup_in(struct lmdb_store *store, const char *dir, int dir_fd,
                                struct cap_copy *copy)
{
    enum cap_error error = lmdb_copy_to(store, dir, dir_fd, copy);
    if (error != CAP_OK) {
        return error;
    }
    error = lmdb_remove_file(dir_fd, LMDB_TEMP_LOCK);
    if (error == CAP_OK && renameat(dir_fd, LMDB_TEMP_NAME, dir_fd, LMDB_FILE_NAME) != 0) {
        error = lmdb_error(dir_fd, errno);
        (void)lmdb_remove_file(dir_fd, LMDB_TEMP_NAME);
    }
    return error == CAP_OK ? lmdb_sync_dir(dir_fd, NULL) : error;
}

enum cap_error lmdb_backup(struct cap_store *base, const char *dir, struct cap_copy *copy)
{
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return lmdb_error(-1, errno);
    }
    enum cap_error error = backup_in(lmdb_of(base), dir, dir_fd, copy);
    close(dir_fd);
    return error;
}
