/*
 * Compaction: a store goes on in a copy of its file that has no free room.
 *
 * Happy path. The writer, who alone can change the store, copies it (backup.c), opens the copy as
 * the store's next environment, renames it over the old file, and puts it in the old one's place.
 * Reads that begin then are in the new file; those that are open stay in the old one, which has no
 * name any more and is closed when nobody is left in it (lmdb_let_go).
 *
 * What may still lead into the old map. Snapshots: each holds its environment, and the list of open
 * ones says which. Places (cap_store_load): these are addresses that no snapshot protects. A load
 * of one that is not in the current map is refused; one that is under way the caller waits for.
 * Later maps may lie where the old one was: then what is loaded is not what was taken, which the
 * caller of cap_store_load has to be able to tell in any case, or it is behind the file's end.
 *
 * Handles of tables are numbers that an environment gives in the order in which they are opened: so
 * they are the same in both, and only the environment changes.
 *
 * Crashes. Before the rename the old file is there under its name and the copy is a leftover. After
 * it the copy is the store; nothing was acknowledged that only the old file has. LMDB's lock file
 * may be of the wrong one: it is made anew at every opening. When the rename cannot be synced, it
 * is unknown which of the two a crash would leave: then nothing more is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/cap/must.h"
#include "lib/store/lmdb/lmdb.h"

/* --- The next environment --------------------------------------------------------------------- */

/* Opens the copy as the store itself is opened; `next` is zeroed, and may be half open on an error.
 */
static enum cap_error open_next(const struct lmdb_store *store, int dir_fd, struct lmdb_store *next)
{
    char path[PATH_MAX];
    next->fd = -1;
    enum cap_error error = lmdb_path(store->dir, LMDB_TEMP_NAME, path);
    if (error == CAP_OK) {
        error = lmdb_open_env(dir_fd, path, store->map_bytes, store->max_readers, &next->env);
    }
    if (error == CAP_OK) {
        error = lmdb_load_env(next);
    }
    if (error == CAP_OK) {
        error = lmdb_open_gauge(next);
    }
    if (error != CAP_OK) {
        return error;
    }
    must(memcmp(next->tables, store->tables, sizeof(next->tables)) == 0);
    must(next->map_bytes == store->map_bytes); /* lmdb_load knows a map by where it begins */
    return atomic_load(&next->map.from) == 0 ? CAP_E_INTERNAL : CAP_OK;
}

/* Of one that did not become the store's. */
static void close_next(struct lmdb_store *next)
{
    if (next->gauge.txn != NULL) {
        mdb_txn_abort(next->gauge.txn);
    }
    if (next->env != NULL) {
        mdb_env_close(next->env);
    }
    if (next->fd >= 0) {
        close(next->fd);
    }
}

/* --- The change ------------------------------------------------------------------------------- */

/* Puts the next environment in the place of the store's. */
static void change(struct lmdb_store *store, struct lmdb_store *next)
{
    pthread_mutex_lock(&store->gauge_lock);
    mdb_txn_abort(store->gauge.txn);
    store->gauge.txn = next->gauge.txn;
    store->gauge.env = next->env;
    pthread_mutex_lock(&store->lock);
    lmdb_read_free_idle(store);
    /* The old ends first: a handler of signals may look at any time. */
    atomic_store(&store->map.old_to, store->map.to);
    atomic_store(&store->map.old_from, store->map.from);
    atomic_store(&store->map.from, next->map.from);
    atomic_store(&store->map.to, next->map.to);
    store->old_env = store->env;
    store->env = next->env;
    pthread_mutex_unlock(&store->lock);
    pthread_mutex_unlock(&store->gauge_lock);
    (void)dup3(next->fd, store->fd, O_CLOEXEC); /* two descriptors that are open: cannot fail */
    close(next->fd);
    store->knows_free = false;
    store->written_to = 0;
}

/*
 * Has the copy take the old file's name. When the rename is done but cannot be synced the store
 * goes on reading in the copy, and nothing is written any more.
 */
static enum cap_error replace(struct lmdb_store *store, int dir_fd, struct lmdb_store *next)
{
    if (renameat(dir_fd, LMDB_TEMP_NAME, dir_fd, LMDB_FILE_NAME) != 0) {
        return lmdb_error(store->fd, errno);
    }
    (void)renameat(dir_fd, LMDB_TEMP_LOCK, dir_fd, LMDB_LOCK_NAME); /* made anew if it is missing */
    enum cap_error error = lmdb_sync_dir(dir_fd, NULL);
    change(store, next);
    if (error != CAP_OK) {
        atomic_store(&store->base.failure, error);
    }
    return error;
}

static enum cap_error compact_in(struct lmdb_store *store, int dir_fd, struct cap_copy *copy)
{
    struct lmdb_store next = {0};
    enum cap_error error = lmdb_copy_to(store, store->dir, dir_fd, copy);
    if (error != CAP_OK) {
        return error;
    }
    error = open_next(store, dir_fd, &next);
    if (error == CAP_OK) {
        error = replace(store, dir_fd, &next);
    }
    if (store->env != next.env) {
        close_next(&next);
        (void)lmdb_remove_file(dir_fd, LMDB_TEMP_NAME);
        (void)lmdb_remove_file(dir_fd, LMDB_TEMP_LOCK);
    }
    return error;
}

/* Whether it could go on in another file. */
static enum cap_error check(struct lmdb_store *store)
{
    if (atomic_load(&store->base.failure) != CAP_OK) {
        return CAP_E_STORE_FAILED;
    }
    if (atomic_load(&store->map.bad)) {
        return CAP_E_IO;
    }
    return store->old_env == NULL && atomic_load(&store->map.from) != 0 &&
                   store->page_size == (uint64_t)sysconf(_SC_PAGESIZE)
               ? CAP_OK
               : CAP_E_INVALID_ARGUMENT;
}

enum cap_error lmdb_compact(struct cap_store *base, struct cap_copy *copy)
{
    struct lmdb_store *store = lmdb_of(base);
    enum cap_error error = check(store);
    if (error != CAP_OK) {
        return error;
    }
    int dir_fd = open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return lmdb_error(store->fd, errno);
    }
    error = compact_in(store, dir_fd, copy);
    close(dir_fd);
    return error;
}

/* --- The end of the old one ------------------------------------------------------------------- */

bool lmdb_let_go(struct cap_store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    const struct lmdb_read *read;
    pthread_mutex_lock(&store->lock);
    MDB_env *old = store->old_env;
    bool used = false;
    TAILQ_FOREACH(read, &store->open, link)
    {
        used = used || read->env == old;
    }
    if (!used) {
        store->old_env = NULL;
        atomic_store(&store->map.old_from, 0);
        atomic_store(&store->map.old_to, 0);
    }
    pthread_mutex_unlock(&store->lock);
    if (!used && old != NULL) {
        mdb_env_close(old);
    }
    return !used;
}
