/*
 * Opening, creating and closing an LMDB store.
 *
 * Happy path: the data file is there, LMDB opens it, the file is as long as it says, the format is
 * ours, stages of an earlier life are dropped.
 *
 * Failure modes. A crash while the store is created: it is made under another name, committed,
 * synced and only then renamed, so a leftover is never mistaken for a store; the next open removes
 * it. A truncated file would mean SIGBUS on a read, so its length is compared with LMDB's last page
 * before anything is read. Another format or a network file system is refused. A disk or map too
 * full to drop old stages is no reason not to serve: they stay listed and are swept later.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/store/lmdb/keep.h"
#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

#define MAP_DEFAULT     (UINT64_C(1) << 40)
#define MAP_MIN         (UINT64_C(1) << 20)
#define MAP_GIVE_UP     (UINT64_C(1) << 30) /* the least that the default falls back to */
#define READERS_DEFAULT 512u
#define OWN_READERS     1u  /* the gauge */
#define READER_SIZE     64u /* of one reader in LMDB's lock file */
#define ENV_FLAGS       (MDB_NOSUBDIR | MDB_NOTLS)

static const char *const table_names[LMDB_TABLES] = {
    [LMDB_META] = "meta",         [LMDB_CAPS] = "caps",       [LMDB_BULK] = "bulk",
    [LMDB_STAGES] = "stages",     [LMDB_REFS] = "refs",       [LMDB_REVS] = "revs",
    [LMDB_CONTENTS] = "contents", [LMDB_FACTS] = "facts",     [LMDB_ROOTS] = "roots",
    [LMDB_ROOTED] = "rooted",     [LMDB_DUE] = "due",         [LMDB_OWNERS] = "owners",
    [LMDB_ALIASES] = "aliases",   [LMDB_REMOVED] = "removed",
};

static char format_name[] = "format"; /* LMDB takes keys as mutable, but does not write to them */
static const struct cap_bytes format_key = {(const uint8_t *)format_name, 6};

const char *lmdb_table_name(enum lmdb_table table)
{
    return table_names[table];
}

/* --- The directory ---------------------------------------------------------------------------- */

bool lmdb_is_network(long type)
{
    static const uint32_t networks[] = {
        0x6969,     /* nfs */
        0x517b,     /* smb */
        0xff534d42, /* cifs */
        0xfe534d42, /* smb2 */
        0x00c36400, /* ceph */
        0x5346414f, /* afs */
        0x6b414653, /* kafs */
        0x73757245, /* coda */
        0x564c,     /* ncp */
        0x0bd00bd0, /* lustre */
        0x01021997, /* 9p */
        0x7461636f, /* ocfs2 */
        0x01161970, /* gfs2 */
    };
    for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
        if ((uint32_t)type == networks[i]) {
            return true;
        }
    }
    return false;
}

/* Some file systems (FUSE, network) have no fsync of directories; that is told, not refused. */
enum cap_error lmdb_sync_dir(int dir, bool *ret_unsynced)
{
    if (fsync(dir) == 0) {
        return CAP_OK;
    }
    switch (errno) {
    case EINVAL:
    case EBADF:
    case EISDIR:
    case ENOSYS:
    case ENOTTY:
    case EOPNOTSUPP:
        if (ret_unsynced != NULL) {
            *ret_unsynced = true;
        }
        return CAP_OK;
    default:
        return lmdb_error(dir, errno);
    }
}

/* The directory may be as new as the store. One that we may not open is not ours to sync. */
static enum cap_error sync_parent(const struct cap_store_lmdb_config *config, int dir)
{
    int parent = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) {
        return CAP_OK;
    }
    enum cap_error error = lmdb_sync_dir(parent, config->ret_unsynced);
    close(parent);
    return error;
}

enum cap_error lmdb_remove_file(int dir, const char *name)
{
    return unlinkat(dir, name, 0) == 0 || errno == ENOENT ? CAP_OK : lmdb_error(dir, errno);
}

enum cap_error lmdb_path(const char *dir, const char *name, char ret_path[PATH_MAX])
{
    int len = snprintf(ret_path, PATH_MAX, "%s/%s", dir, name);
    return len > 0 && len < PATH_MAX ? CAP_OK : CAP_E_INVALID_ARGUMENT;
}

/* --- The environment -------------------------------------------------------------------------- */

static void on_assert(MDB_env *env, const char *message)
{
    (void)env;
    (void)message; /* LMDB prints it where nothing is guarded */
    lmdb_guard_asserted();
}

static enum cap_error try_open_env(int dir, const char *path, uint64_t map_bytes,
                                   uint32_t max_readers, MDB_env **ret_env)
{
    MDB_env *env;
    int rc = mdb_env_create(&env);
    if (rc != 0) {
        return lmdb_error(dir, rc);
    }
    (void)mdb_env_set_assert(env, on_assert); /* fails without an environment only */
    rc = mdb_env_set_mapsize(env, (size_t)map_bytes);
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(env, LMDB_TABLES);
    }
    if (rc == 0) {
        rc = mdb_env_set_maxreaders(env, max_readers + OWN_READERS);
    }
    if (rc == 0) {
        rc = mdb_env_open(env, path, ENV_FLAGS, 0600);
    }
    if (rc != 0) {
        mdb_env_close(env);
        return lmdb_error(dir, rc);
    }
    *ret_env = env;
    return CAP_OK;
}

/*
 * LMDB makes its lock file a hole and maps it: on a full disk its first write there is SIGBUS. So
 * the file has its room before LMDB opens it. File systems that cannot do that are left to it.
 */
static enum cap_error reserve_lock(int dir, const char *path, uint32_t readers)
{
    char lock[PATH_MAX];
    int len = snprintf(lock, sizeof(lock), "%s-lock", path);
    off_t room = (off_t)sysconf(_SC_PAGESIZE) + (off_t)(readers + OWN_READERS) * READER_SIZE;
    enum cap_error error = CAP_OK;
    if (len < 0 || len >= (int)sizeof(lock)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return lmdb_error(dir, errno);
    }
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, room) != 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS) {
        error = lmdb_error(fd, errno);
    }
    close(fd);
    return error;
}

enum cap_error lmdb_open_env(int dir, const char *path, uint64_t map_bytes, uint32_t max_readers,
                             MDB_env **ret_env)
{
    enum cap_error error = reserve_lock(dir, path, max_readers);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return error == CAP_OK ? try_open_env(dir, path, map_bytes / page * page, max_readers, ret_env)
                           : error;
}

/* The default map is only address space, but that may be limited too: then take less of it. */
static enum cap_error open_env(const struct cap_store_lmdb_config *config, int dir,
                               const char *path, MDB_env **ret_env)
{
    uint32_t readers = config->max_readers ? config->max_readers : READERS_DEFAULT;
    uint64_t map = config->map_bytes ? config->map_bytes : MAP_DEFAULT;
    if (readers > UINT32_MAX / 2 || map > SIZE_MAX / 2) {
        return CAP_E_INVALID_ARGUMENT;
    }
    if (map < MAP_MIN) {
        map = MAP_MIN;
    }
    enum cap_error error = lmdb_open_env(dir, path, map, readers, ret_env);
    while (error == CAP_E_NO_MEMORY && config->map_bytes == 0 && map > MAP_GIVE_UP) {
        map /= 2;
        error = lmdb_open_env(dir, path, map, readers, ret_env);
    }
    return error;
}

enum cap_error lmdb_open_tables(struct lmdb_store *store, MDB_txn *txn, unsigned flags)
{
    for (int i = 0; i < LMDB_TABLES; i++) {
        int rc = mdb_dbi_open(txn, table_names[i], flags, &store->tables[i]);
        if (rc != 0) {
            return rc == MDB_NOTFOUND ? CAP_E_CORRUPT : lmdb_error(store->fd, rc);
        }
    }
    return CAP_OK;
}

/* --- Creation --------------------------------------------------------------------------------- */

static enum cap_error write_first(struct lmdb_store *store, MDB_txn *txn,
                                  const uint8_t id[CAP_STORE_ID_SIZE])
{
    uint8_t format[STORE_FORMAT_SIZE];
    struct store_state state = {.next_body = 1}; /* 0 says "no stage" */
    enum cap_error error = lmdb_open_tables(store, txn, MDB_CREATE);
    if (error != CAP_OK) {
        return error;
    }
    store_format_encode(id, format);
    error = lmdb_put(store, txn, LMDB_META, format_key, (struct cap_bytes){format, sizeof(format)});
    return error == CAP_OK ? lmdb_state_put(store, txn, &state) : error;
}

static enum cap_error write_new_file(const struct cap_store_lmdb_config *config, int dir,
                                     const char *path, const uint8_t id[CAP_STORE_ID_SIZE])
{
    struct lmdb_store draft = {.fd = dir};
    MDB_txn *txn;
    store_clock_start(&draft.base, 0);
    enum cap_error error = open_env(config, dir, path, &draft.env);
    if (error != CAP_OK) {
        return error;
    }
    error = lmdb_begin(&draft, &txn);
    if (error == CAP_OK) {
        error = write_first(&draft, txn, id);
        if (error == CAP_OK) {
            error = lmdb_commit(&draft, txn);
        } else {
            mdb_txn_abort(txn);
        }
    }
    mdb_env_close(draft.env);
    return error;
}

enum cap_error lmdb_sync_file(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return lmdb_error(dir, errno);
    }
    enum cap_error error = fsync(fd) == 0 ? CAP_OK : lmdb_error(dir, errno);
    close(fd);
    return error;
}

static enum cap_error create(const struct cap_store_lmdb_config *config, int dir,
                             const uint8_t id[CAP_STORE_ID_SIZE])
{
    char path[PATH_MAX];
    enum cap_error error = lmdb_path(config->dir, LMDB_TEMP_NAME, path);
    if (error == CAP_OK) {
        error = write_new_file(config, dir, path, id);
    }
    if (error == CAP_OK) {
        error = lmdb_sync_file(dir, LMDB_TEMP_NAME);
    }
    if (error == CAP_OK) {
        error = lmdb_sync_dir(dir, config->ret_unsynced);
    }
    if (error == CAP_OK) {
        error = lmdb_remove_file(dir, LMDB_LOCK_NAME); /* of a store that somebody took away */
    }
    if (error == CAP_OK && renameat(dir, LMDB_TEMP_NAME, dir, LMDB_FILE_NAME) != 0) {
        error = lmdb_error(dir, errno);
    }
    if (error == CAP_OK) {
        error = lmdb_remove_file(dir, LMDB_TEMP_LOCK);
    }
    if (error == CAP_OK) {
        error = lmdb_sync_dir(dir, config->ret_unsynced);
    }
    return error == CAP_OK ? sync_parent(config, dir) : error;
}

/* Looks at the directory, clears leftovers, and creates the data file if it is not there. */
static enum cap_error prepare(const struct cap_store_lmdb_config *config, int dir,
                              const uint8_t id[CAP_STORE_ID_SIZE])
{
    struct statfs fs;
    struct stat st;
    if (fstatfs(dir, &fs) != 0) {
        return lmdb_error(dir, errno);
    }
    if (lmdb_is_network(fs.f_type)) {
        return CAP_E_INVALID_ARGUMENT;
    }
    enum cap_error error = lmdb_remove_file(dir, LMDB_TEMP_NAME);
    if (error == CAP_OK) {
        error = lmdb_remove_file(dir, LMDB_TEMP_LOCK);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (fstatat(dir, LMDB_FILE_NAME, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? create(config, dir, id) : lmdb_error(dir, errno);
    }
    /* An empty file LMDB would take for a new store. */
    return S_ISREG(st.st_mode) && st.st_size > 0 ? CAP_OK : CAP_E_CORRUPT;
}

/* --- The length of the file ------------------------------------------------------------------- */

/* Counts the pages from `first` on that LMDB's free list holds. LMDB's code. */
static int count_free_from(MDB_txn *txn, uint64_t first, uint64_t *ret_count)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t found = 0;
    int rc = mdb_cursor_open(txn, 0, &cursor);
    if (rc != 0) {
        return rc;
    }
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        size_t count = 0, page;

        if (value.mv_size >= sizeof(count)) {
            memcpy(&count, value.mv_data, sizeof(count));
        }
        if (count > value.mv_size / sizeof(count) - 1) {
            break;
        }
        for (size_t i = 1; i <= count; i++) {
            memcpy(&page, (const uint8_t *)value.mv_data + i * sizeof(page), sizeof(page));
            found += page >= first;
        }
    }
    mdb_cursor_close(cursor);
    if (rc != MDB_NOTFOUND) {
        return rc == 0 ? MDB_CORRUPTED : rc;
    }
    *ret_count = found;
    return 0;
}

/*
 * LMDB does not write a page that one transaction both takes and gives back, so a sound file may
 * lack some free pages at its end. Whether these are free only the free list tells, which may lie
 * in the gap of a file that was cut; so the gap is first filled with a hole, which LMDB reports as
 * damage where the end of a file would be SIGBUS.
 */
static enum cap_error fill_gap(struct lmdb_store *store, uint64_t file_pages, uint64_t used_pages)
{
    off_t before = (off_t)(file_pages * store->page_size);
    uint64_t gap = used_pages - file_pages;
    uint64_t free_pages = 0;
    MDB_txn *txn;
    if (gap > LMDB_GAP_MAX) {
        return CAP_E_CORRUPT;
    }
    if (ftruncate(store->fd, (off_t)(used_pages * store->page_size)) != 0) {
        return lmdb_error(store->fd, errno);
    }
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (rc == 0) {
        rc = count_free_from(txn, file_pages, &free_pages);
        mdb_txn_abort(txn);
    }
    if (rc == 0 && free_pages == gap) {
        return CAP_OK;
    }
    if (ftruncate(store->fd, before) != 0) { /* left as found, for repair */
        return lmdb_error(store->fd, errno);
    }
    return rc == 0 ? CAP_E_CORRUPT : lmdb_error(store->fd, rc);
}

static enum cap_error check_length(struct lmdb_store *store)
{
    MDB_envinfo info;
    struct stat st;
    uint64_t file_pages, used_pages;
    (void)mdb_env_info(store->env, &info);
    if (fstat(store->fd, &st) != 0) {
        return lmdb_error(store->fd, errno);
    }
    file_pages = (uint64_t)st.st_size / store->page_size;
    used_pages = (uint64_t)info.me_last_pgno + 1;
    store->map_bytes = (uint64_t)info.me_mapsize;
    return file_pages < used_pages ? fill_gap(store, file_pages, used_pages) : CAP_OK;
}

/* --- Opening ---------------------------------------------------------------------------------- */

enum cap_error lmdb_load_format(struct lmdb_store *store, MDB_txn *txn,
                                uint8_t ret_id[CAP_STORE_ID_SIZE])
{
    MDB_val key = {format_key.len, format_name};
    MDB_val value;
    int rc = mdb_dbi_open(txn, table_names[LMDB_META], 0, &store->tables[LMDB_META]);
    if (rc == 0) { /* as it lies there: another version's may have no seal of ours */
        rc = mdb_get(txn, store->tables[LMDB_META], &key, &value);
    }
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? CAP_E_CORRUPT : lmdb_error(store->fd, rc);
    }
    return store_format_decode(format_key, (struct cap_bytes){value.mv_data, value.mv_size},
                               ret_id);
}

/*
 * Where LMDB has mapped the file, which it does not tell: the format record lies in its leaf page,
 * and a page begins with its number. Pages of a file from a machine with larger ones need not lie
 * at multiples of their size; then there is no guard.
 */
static void find_map(struct lmdb_store *store, MDB_txn *txn)
{
    MDB_val key = {format_key.len, format_name};
    MDB_val value;
    size_t number;
    if (store->page_size > (uint64_t)sysconf(_SC_PAGESIZE) ||
        mdb_get(txn, store->tables[LMDB_META], &key, &value) != 0) {
        return;
    }
    const uint8_t *at = value.mv_data;
    const uint8_t *page = at - (uintptr_t)at % store->page_size;
    memcpy(&number, page, sizeof(number));
    if (number < store->map_bytes / store->page_size) {
        store->map.from = (uintptr_t)page - number * (uintptr_t)store->page_size;
        store->map.to = store->map.from + (uintptr_t)store->map_bytes;
    }
}

static enum cap_error load_in(struct lmdb_store *store, MDB_txn *txn)
{
    struct store_state state;
    enum cap_error error = lmdb_load_format(store, txn, store->base.id);
    if (error == CAP_OK) {
        error = lmdb_open_tables(store, txn, 0);
    }
    if (error == CAP_OK) {
        error = lmdb_state_get(store, txn, &state);
    }
    if (error == CAP_OK) {
        store->next_body = state.next_body;
        store_clock_start(&store->base, state.clock_s);
        find_map(store, txn);
    }
    return error;
}

/* Handles of databases outlive the transaction that opened them only if it commits. */
static enum cap_error load(struct lmdb_store *store)
{
    MDB_txn *txn;
    enum cap_error error = lmdb_error(store->fd, mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn));
    if (error != CAP_OK) {
        return error;
    }
    error = load_in(store, txn);
    if (error != CAP_OK) {
        mdb_txn_abort(txn);
        return error;
    }
    return lmdb_error(store->fd, mdb_txn_commit(txn));
}

enum cap_error lmdb_load_env(struct lmdb_store *store)
{
    MDB_stat stat;
    int fd, dead;
    (void)mdb_env_get_fd(store->env, &fd);
    store->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (store->fd < 0) {
        return lmdb_error(fd, errno);
    }
    (void)mdb_env_stat(store->env, &stat);
    store->page_size = stat.ms_psize;
    enum cap_error error = check_length(store);
    if (error == CAP_OK) {
        error = lmdb_error(store->fd, mdb_reader_check(store->env, &dead));
    }
    return error == CAP_OK ? load(store) : error;
}

enum cap_error lmdb_open_gauge(struct lmdb_store *store)
{
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &store->gauge.txn);
    if (rc != 0) {
        return lmdb_error(store->fd, rc);
    }
    mdb_txn_reset(store->gauge.txn);
    store->gauge.base.store = &store->base;
    store->gauge.env = store->env;
    return CAP_OK;
}

static enum cap_error sweep_all(struct lmdb_store *store)
{
    enum cap_error error = CAP_OK;
    bool more = true;
    store->sweep = true;
    while (more && error == CAP_OK) {
        error = lmdb_sweep(&store->base, 0, &more);
    }
    return error == CAP_E_DISK_FULL || error == CAP_E_MAP_FULL ? CAP_OK : error;
}

static enum cap_error load_corpses(struct lmdb_store *store)
{
    MDB_txn *txn;
    enum cap_error error = lmdb_error(store->fd, mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn));
    if (error == CAP_OK) {
        error = lmdb_corpses_load(store, txn);
        mdb_txn_abort(txn);
    }
    return error;
}

static enum cap_error open_store(struct lmdb_store *store,
                                 const struct cap_store_lmdb_config *config, int dir,
                                 const char *path)
{
    enum cap_error error = open_env(config, dir, path, &store->env);
    if (error == CAP_OK) {
        error = lmdb_load_env(store);
    }
    if (error == CAP_OK) {
        error = lmdb_open_gauge(store);
    }
    if (error == CAP_OK) {
        error = load_corpses(store);
    }
    return error == CAP_OK ? sweep_all(store) : error;
}

/* Also of a store that is half open. */
static void lmdb_close(struct cap_store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    lmdb_read_free_idle(store);
    while (store->stages != NULL) {
        lmdb_stage_forget(store, store->stages);
    }
    if (store->gauge.txn != NULL) {
        mdb_txn_abort(store->gauge.txn);
    }
    if (store->old_env != NULL) {
        mdb_env_close(store->old_env);
    }
    if (store->env != NULL) {
        mdb_env_close(store->env);
    }
    if (store->fd >= 0) {
        close(store->fd);
    }
    free(store->dir);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->gauge_lock);
    lmdb_corpses_free(store);
    store_gone_free(&store->base);
    free(store->write.due);
    free(store->write.healed);
    free(store);
}

static const struct cap_store_ops lmdb_ops = {
    .name = "lmdb",
    .close = lmdb_close,
    .space = lmdb_space,
    .clear_stale_readers = lmdb_clear_stale_readers,
    .read_begin = lmdb_read_begin,
    .read_end = lmdb_read_end,
    .find = lmdb_find,
    .window = lmdb_window,
    .peek = lmdb_peek,
    .copy = lmdb_copy,
    .locate = lmdb_locate,
    .take = lmdb_take,
    .load = lmdb_load,
    .facts = lmdb_facts,
    .forbidden = lmdb_forbidden,
    .broken = lmdb_broken,
    .page_roots = lmdb_page_roots,
    .nodes = lmdb_nodes,
    .list = lmdb_list,
    .refs = lmdb_refs,
    .find_content = lmdb_find_content,
    .counts = lmdb_counts,
    .roots = lmdb_roots,
    .roots_of = lmdb_roots_of,
    .needed = lmdb_needed,
    .owner = lmdb_owner,
    .owners = lmdb_owners,
    .keep = lmdb_keep,
    .root_set = lmdb_root_set,
    .root_remove = lmdb_root_remove,
    .remove = lmdb_remove,
    .collect = lmdb_collect,
    .removed = lmdb_removed,
    .due = lmdb_due,
    .stage_begin = lmdb_stage_begin,
    .stage_step = lmdb_stage_step,
    .stage_drop = lmdb_stage_drop,
    .sweep = lmdb_sweep,
    .forbid = lmdb_forbid,
    .allow = lmdb_allow,
    .quarantine = lmdb_quarantine,
    .scrub = lmdb_scrub,
    .scrub_state = lmdb_scrub_state,
    .admit = lmdb_admit,
    .backup = lmdb_backup,
    .compact = lmdb_compact,
    .let_go = lmdb_let_go,
};

static struct lmdb_store *new_store(const struct cap_store_lmdb_config *config)
{
    struct lmdb_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return NULL;
    }
    store->dir = strdup(config->dir);
    if (store->dir == NULL) {
        free(store);
        return NULL;
    }
    store->base.ops = &lmdb_ops;
    store->fd = -1;
    store->max_readers = config->max_readers ? config->max_readers : READERS_DEFAULT;
    store_holds_init(&store->base.holds);
    TAILQ_INIT(&store->idle);
    TAILQ_INIT(&store->open);
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->gauge_lock, NULL);
    return store;
}

static enum cap_error open_in(const struct cap_store_lmdb_config *config, int dir,
                              const uint8_t new_id[CAP_STORE_ID_SIZE], struct cap_store **ret_store)
{
    char path[PATH_MAX];
    enum cap_error error = lmdb_path(config->dir, LMDB_FILE_NAME, path);
    if (error == CAP_OK) {
        error = prepare(config, dir, new_id);
    }
    if (error != CAP_OK) {
        return error;
    }
    struct lmdb_store *store = new_store(config);
    if (store == NULL) {
        return CAP_E_NO_MEMORY;
    }
    error = open_store(store, config, dir, path);
    if (error != CAP_OK) {
        lmdb_close(&store->base);
        return error;
    }
    lmdb_guard_install();
    *ret_store = &store->base;
    return CAP_OK;
}

enum cap_error cap_store_lmdb_open(const struct cap_store_lmdb_config *config,
                                   const uint8_t new_id[CAP_STORE_ID_SIZE],
                                   struct cap_store **ret_store)
{
    int dir = open(config->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return lmdb_error(-1, errno);
    }
    enum cap_error error = open_in(config, dir, new_id, ret_store);
    close(dir);
    return error;
}
