/*
 * Verifies a store that nobody has open, completely, and changes nothing unless it is to repair.
 *
 * Happy path. The file's pages are looked at by themselves. Then the tables are walked
 * (check_tables.c) in one snapshot, or, with repair, in slices, after each of which what it found
 * is put right.
 *
 * Failure modes. The file may hold any bytes. What LMDB hands out is bounded before it is used, and
 * no memory is taken for a claimed length before so many bytes have been seen. LMDB itself trusts
 * its pages: on some it crashes or never ends, so the caller runs this in a process of its own, and
 * a file whose pages are damaged is not written to.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/store/lmdb/check.h"
#include "lib/store/lmdb/keep.h"

#define REPAIR_ROOM (UINT64_C(1) << 30) /* address space for what a repair adds to the file */

/* What was found is put right, and the walk goes on in what that made. */
static enum cap_error pause_to_mend(struct check *check)
{
    if (check->mend_count == 0) {
        return CAP_OK;
    }
    /* Not aborted: it opened the tables. */
    enum cap_error error = lmdb_error(-1, mdb_txn_commit(check->txn));
    check->txn = NULL;
    if (error == CAP_OK) {
        error = lmdb_check_settle(check);
    }
    if (error == CAP_OK) {
        error = lmdb_error(-1, mdb_txn_begin(check->store->env, NULL, MDB_RDONLY, &check->txn));
    }
    check->snapshot++;
    return error;
}

/* Writes a record of state in the place of one that is damaged; the counts are counted later. */
static enum cap_error renew_state(struct check *check)
{
    struct lmdb_store *store = check->store;
    struct store_state state = {.next_body = 1};
    MDB_txn *txn;
    enum cap_error error = lmdb_check_last_body(check, &state.next_body);
    if (error == CAP_OK) {
        error = lmdb_error(-1, mdb_txn_commit(check->txn)); /* not aborted: it opened the tables */
        check->txn = NULL;
    }
    if (error == CAP_OK) {
        error = lmdb_begin(store, &txn);
    }
    if (error != CAP_OK) {
        return error;
    }
    state.next_body++;
    error = lmdb_state_put(store, txn, &state);
    if (error == CAP_OK) {
        error = lmdb_commit(store, txn);
    } else {
        mdb_txn_abort(txn);
    }
    check->state = state;
    lmdb_check_find(check, "the record of counts is damaged or missing");
    lmdb_check_tell(check);
    check->outcome.mended += error == CAP_OK;
    return error == CAP_OK
               ? lmdb_error(-1, mdb_txn_begin(store->env, NULL, MDB_RDONLY, &check->txn))
               : error;
}

static enum cap_error check_tables(struct check *check)
{
    enum cap_error error = lmdb_state_get(check->store, check->txn, &check->state);
    if (error != CAP_OK) {
        check->state = (struct store_state){.next_body = UINT64_MAX};
    }
    store_clock_start(&check->store->base, check->state.clock_s);
    if (error != CAP_OK && check->repair) {
        error = renew_state(check);
        if (error != CAP_OK) {
            return error;
        }
    }
    check->store->next_body = check->state.next_body;
    const struct cap_counts *counts = &check->state.counts;
    check->progress.caps_total = counts->caps[CAP_KIND_IMAGE] + counts->caps[CAP_KIND_DATA];
    check->progress.bytes_total =
        counts->body_bytes[CAP_KIND_IMAGE] + counts->body_bytes[CAP_KIND_DATA];
    if (check->repair) {
        check->pause = pause_to_mend;
    }
    return lmdb_check_tables(check);
}

/* What LMDB would trust: read by ourselves, before LMDB is asked for more. */
static enum cap_error look_at_pages(struct check *check, int fd, uint32_t page_size)
{
    struct check_meta meta;
    struct stat file;
    if (fstat(fd, &file) != 0) {
        return lmdb_error(-1, errno);
    }
    check->progress.index = "of pages";
    lmdb_check_step(check, 0);
    lmdb_check_meta(check, fd, page_size, &meta);
    enum cap_error error =
        lmdb_check_pages(check, fd, page_size, (uint64_t)file.st_size / page_size, &meta);
    check->outcome.unmended += check->found_count > 0;
    check->repair = check->repair && check->found_count == 0;
    lmdb_check_tell(check);
    return error;
}

static enum cap_error check_txn(struct check *check)
{
    uint8_t id[CAP_STORE_ID_SIZE];
    MDB_stat stat;
    (void)mdb_env_stat(check->store->env, &stat); /* these two fail on NULL only */
    (void)mdb_env_get_fd(check->store->env, &check->store->fd);
    check->store->page_size = stat.ms_psize;
    enum cap_error error = look_at_pages(check, check->store->fd, stat.ms_psize);
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
    check->outcome.unmended += check->found_count > 0;
    lmdb_check_tell(check);
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
    unsigned access = check->repair ? 0 : MDB_RDONLY;
    int rc = stat(path, &file) == 0 ? 0 : errno;
    if (rc == 0) { /* else it would be what the file says */
        check->store->map_bytes = (uint64_t)file.st_size + gap + (check->repair ? REPAIR_ROOM : 0);
        rc = mdb_env_set_mapsize(check->store->env, (size_t)check->store->map_bytes);
    }
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(check->store->env, LMDB_TABLES);
    }
    if (rc == 0) {
        rc = mdb_env_open(check->store->env, path, MDB_NOSUBDIR | MDB_NOLOCK | access, 0600);
    }
    return rc == 0 ? mdb_txn_begin(check->store->env, NULL, MDB_RDONLY, &check->txn) : rc;
}

/*
 * LMDB needs a larger map than there can be: `why`. Either memory is short, or the file says that
 * it has more pages than it has: then that is found.
 */
static enum cap_error check_unopened(struct check *check, const char *path, enum cap_error why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum cap_error error =
        fd >= 0 ? look_at_pages(check, fd, (uint32_t)sysconf(_SC_PAGESIZE)) : lmdb_error(-1, errno);
    if (fd >= 0) {
        close(fd);
    }
    return error != CAP_OK || check->outcome.findings > 0 ? error : why;
}

static enum cap_error check_env(struct check *check, const char *path)
{
    int rc = open_env(check, path);
    enum cap_error error = lmdb_error(-1, rc);
    if (rc == 0) {
        error = check_txn(check);
        lmdb_check_close(check);
        if (check->txn != NULL) {
            mdb_txn_abort(check->txn);
        }
    } else if (error == CAP_E_NO_MEMORY || error == CAP_E_STORE_FAILED) {
        error = check_unopened(check, path, error);
    } else if (error == CAP_E_CORRUPT || error == CAP_E_STORE_VERSION ||
               error == CAP_E_INVALID_ARGUMENT) {
        lmdb_check_find(check, "%s is not a file of the storage engine: %s", path,
                        mdb_strerror(rc));
        check->outcome.unmended++;
        lmdb_check_tell(check);
        error = CAP_OK;
    }
    return error;
}

static enum cap_error check_file(struct check *check, const char *path)
{
    enum cap_error error = lmdb_error(-1, mdb_env_create(&check->store->env));
    if (error == CAP_OK) {
        error = check_env(check, path);
        mdb_env_close(check->store->env);
    }
    return error;
}

/* What a write transaction needs of the engine. */
static struct lmdb_store *new_store(void)
{
    struct lmdb_store *store = calloc(1, sizeof(*store));
    if (store != NULL) {
        store->fd = -1;
        store_holds_init(&store->base.holds);
        pthread_mutex_init(&store->lock, NULL);
    }
    return store;
}

static void free_store(struct lmdb_store *store)
{
    if (store != NULL) {
        lmdb_corpses_free(store);
        store_gone_free(&store->base);
        pthread_mutex_destroy(&store->lock);
        free(store->write.due);
        free(store->write.healed);
        free(store);
    }
}

static enum cap_error check_dir(const char *dir, bool repair, const struct cap_check_watch *watch,
                                struct cap_check_outcome *ret_outcome)
{
    char path[PATH_MAX];
    int len = snprintf(path, sizeof(path), "%s/" LMDB_FILE_NAME, dir);
    if (len < 0 || len >= (int)sizeof(path)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    struct check *check = calloc(1, sizeof(*check));
    struct lmdb_store *store = new_store();
    enum cap_error error = CAP_E_NO_MEMORY;
    if (check != NULL && store != NULL) {
        check->watch = watch;
        check->store = store;
        check->repair = repair;
        error = check_file(check, path);
        lmdb_check_free(check);
        *ret_outcome = check->outcome;
    }
    free_store(store);
    free(check);
    return error;
}

enum cap_error cap_store_lmdb_check(const char *dir, const struct cap_check_watch *watch,
                                    uint64_t *ret_findings)
{
    struct cap_check_outcome outcome = {0};
    enum cap_error error = check_dir(dir, false, watch, &outcome);
    *ret_findings = outcome.findings;
    return error;
}

enum cap_error cap_store_lmdb_repair(const char *dir, const struct cap_check_watch *watch,
                                     struct cap_check_outcome *ret_outcome)
{
    *ret_outcome = (struct cap_check_outcome){0};
    return check_dir(dir, true, watch, ret_outcome);
}
