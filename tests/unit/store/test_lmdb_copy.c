/*
 * Copies of an LMDB store: backup, and compaction under readers, across crashes and faults.
 *
 * This program puts its own renameat, fsync and what LMDB writes by in front of the C library's:
 * they end the process, or fail, when they are told to.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

#define INTERPOSED __attribute__((visibility("default")))

enum strike { NEVER, BEFORE_RENAME, AFTER_RENAME, RENAME_FAILS, SYNC_FAILS, WRITE_FAILS };

static enum strike strike;
static unsigned writes_left; /* before one fails */

INTERPOSED int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    if (strike == BEFORE_RENAME) {
        _exit(0);
    }
    if (strike == RENAME_FAILS) {
        errno = EIO;
        return -1;
    }
    int rc = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
    if (strike == AFTER_RENAME) {
        _exit(0);
    }
    return rc;
}

INTERPOSED int fsync(int fd)
{
    struct stat st;
    if (strike == SYNC_FAILS && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

static bool write_fails(int error)
{
    if (strike != WRITE_FAILS || writes_left-- > 0) {
        return false;
    }
    strike = NEVER;
    errno = error;
    return true;
}

INTERPOSED ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    return write_fails(ENOSPC) ? -1 : syscall(SYS_pwrite64, fd, bytes, len, at);
}

INTERPOSED ssize_t writev(int fd, const struct iovec *iov, int count)
{
    return write_fails(ENOSPC) ? -1 : syscall(SYS_writev, fd, iov, count);
}

INTERPOSED int fdatasync(int fd)
{
    return write_fails(EIO) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

/* --- Stores ----------------------------------------------------------------------------------- */

#define CAPS UINT64_C(300)

/* Some of several slices, some of two pieces, some empty. */
static uint64_t len_of(uint64_t seed)
{
    return seed % 50 == 7 ? 3000000 : seed % 13 * 700;
}

static void fill_store(struct cap_store *store)
{
    const uint64_t image = CAPS;
    struct cap_put put = fake_image(&image, 5000);
    struct cap_ref refs[2] = {{fake_hash(1), CAP_REF_PINNED}, {fake_hash(2), CAP_REF_INITIAL}};
    for (uint64_t seed = 0; seed < CAPS; seed++) {
        assert_cap_ok(put_data(store, seed, len_of(seed)));
    }
    put.refs = refs;
    put.ref_count = 2;
    assert_cap_ok(put_one(store, &put, NULL));
}

/* Room in the middle of the file that nobody uses. */
static void waste_room(struct cap_store *store)
{
    uint64_t stage;
    assert_cap_ok(stage_all(store, 999, 20 << 20, &stage));
    assert_cap_ok(put_data(store, CAPS + 1, 100));
    assert_cap_ok(drop_stage(store, stage));
}

static void assert_filled(struct cap_store *store)
{
    struct cap_ref refs[4];
    const struct cap_hash image = fake_hash(CAPS);
    for (uint64_t seed = 0; seed < CAPS; seed++) {
        assert_cap_ok(check_cap(store, seed, len_of(seed)));
    }
    assert_cap_ok(check_cap(store, CAPS, 5000));
    assert_int_equal(page_refs(store, &image, CAP_REFS_OUT, 4, refs), 2);
    assert_int_equal(get_counts(store).caps[CAP_KIND_IMAGE], 1);
}

static void on_finding(void *ctx, const struct cap_hash *hash, const char *what)
{
    (void)ctx;
    (void)hash;
    /* Caps with made-up names do not have them by their bodies: the copy is not to blame. */
    if (strstr(what, "hash") == NULL && strstr(what, "body") == NULL) {
        fail_msg("the check finds: %s", what);
    }
}

static void assert_sound(const char *dir)
{
    const struct cap_check_watch watch = {.finding = on_finding};
    uint64_t findings;
    assert_cap_ok(cap_store_lmdb_check(dir, &watch, &findings));
}

static bool exists(const char *dir, const char *name)
{
    char path[128];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return lstat(path, &st) == 0;
}

/* --- Watching --------------------------------------------------------------------------------- */

/* What go_on does. */
struct watch {
    struct cap_store *store;
    uint64_t publish; /* the number of a cap to publish at each slice; 0: none */
    unsigned slices;
    unsigned stop_at; /* the slice that is the last; 0: none */
    bool dies;        /* there */
    struct cap_copy_progress last;
};

static bool go_on(void *ctx, const struct cap_copy_progress *progress)
{
    struct watch *watch = ctx;
    assert_true(progress->records >= watch->last.records);
    assert_true(progress->records <= progress->records_total);
    assert_true(progress->bytes >= watch->last.bytes);
    assert_true(progress->bytes <= progress->bytes_total);
    watch->last = *progress;
    if (watch->publish != 0) {
        assert_cap_ok(put_data(watch->store, watch->publish++, 5000));
    }
    if (++watch->slices == watch->stop_at && watch->dies) {
        _exit(0);
    }
    return watch->slices != watch->stop_at;
}

static struct cap_copy copy_with(struct watch *watch)
{
    return (struct cap_copy){.go_on = go_on, .ctx = watch};
}

/* --- Backup ----------------------------------------------------------------------------------- */

static struct fixture_engine lmdb = {.is_lmdb = true};

/* What was committed before is in it, what comes later is not, and it is smaller. */
static void test_backup(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other = {.engine = lmdb};
    struct watch watch = {.store = fixture->store, .publish = 1000};
    struct cap_copy copy = copy_with(&watch);
    fill_store(fixture->store);
    waste_room(fixture->store);
    assert_true(fixture_make_dir(&other));
    assert_cap_ok(cap_store_backup(fixture->store, other.dir, &copy));
    assert_true(watch.slices > 3);
    assert_int_equal(watch.last.records, watch.last.records_total);
    assert_true(copy.need >= copy.file_bytes && copy.have >= copy.need);
    assert_true(copy.file_bytes + (15 << 20) < copy.file_bytes_before);
    assert_sound(other.dir);
    assert_cap_ok(fixture_open(&other));
    assert_memory_equal(cap_store_id(other.store), fixture_id, CAP_STORE_ID_SIZE);
    assert_filled(other.store);
    assert_true(is_there(fixture->store, 1000) && !is_there(other.store, 1000));
    assert_cap_ok(put_data(other.store, 2000, 10000));
    assert_cap_ok(check_cap(other.store, 2000, 10000));
    fixture_close(&other);
    assert_sound(other.dir);
    fixture_remove_dir(other.dir);
    assert_filled(fixture->store);
}

/* A stage that is being written is copied too, and swept where the copy is opened. */
static void test_backup_of_stage(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other = {.engine = lmdb};
    struct watch watch = {.store = fixture->store};
    struct cap_copy copy = copy_with(&watch);
    uint64_t stage;
    struct cap_space space;
    assert_cap_ok(stage_all(fixture->store, 999, 10 << 20, &stage));
    assert_true(fixture_make_dir(&other));
    assert_cap_ok(cap_store_backup(fixture->store, other.dir, &copy));
    assert_true(copy.file_bytes > 10 << 20);
    assert_cap_ok(fixture_open(&other));
    assert_cap_ok(cap_store_space(other.store, &space));
    assert_true(space.free_bytes > 9 << 20);
    fixture_close(&other);
    assert_sound(other.dir);
    fixture_remove_dir(other.dir);
}

static void test_backup_cancelled(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other = {.engine = lmdb};
    struct watch watch = {.store = fixture->store, .stop_at = 2};
    struct cap_copy copy = copy_with(&watch);
    fill_store(fixture->store);
    assert_true(fixture_make_dir(&other));
    assert_cap_error(cap_store_backup(fixture->store, other.dir, &copy), CAP_E_CANCELLED);
    assert_int_equal(rmdir(other.dir), 0); /* it is empty */
    assert_cap_error(cap_store_backup(fixture->store, other.dir, &copy), CAP_E_IO);
}

static void test_no_room(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other = {.engine = lmdb};
    struct watch watch = {.store = fixture->store};
    struct cap_copy copy = copy_with(&watch);
    copy.keep_free = UINT64_MAX;
    fill_store(fixture->store);
    assert_true(fixture_make_dir(&other));
    assert_cap_error(cap_store_backup(fixture->store, other.dir, &copy), CAP_E_DISK_FULL);
    assert_true(copy.need > 3000000);
    assert_int_equal(copy.have, 0);
    assert_cap_error(cap_store_compact(fixture->store, &copy), CAP_E_DISK_FULL);
    assert_int_equal(watch.slices, 0);
    assert_int_equal(rmdir(other.dir), 0);
    assert_filled(fixture->store);
}

/* A file that somebody has cut ends the copy, not the process. */
static void test_backup_of_cut_file(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other = {.engine = lmdb};
    struct watch watch = {.store = fixture->store};
    struct cap_copy copy = copy_with(&watch);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    fill_store(fixture->store);
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture)); /* in front of the handler of the test's runner */
    assert_true(fixture_make_dir(&other));
    assert_int_equal(truncate(path, 1 << 20), 0);
    assert_cap_error(cap_store_backup(fixture->store, other.dir, &copy), CAP_E_IO);
    assert_int_equal(rmdir(other.dir), 0);
    assert_cap_error(cap_store_compact(fixture->store, &copy), CAP_E_IO);
}

/* --- Compaction ------------------------------------------------------------------------------- */

/* Snapshots of before go on in the old file, places of before are refused, writing goes on. */
static void test_compact(void **state)
{
    struct fixture *fixture = *state;
    struct watch watch = {.store = fixture->store};
    struct cap_copy copy = copy_with(&watch);
    const struct cap_hash hash = fake_hash(3);
    struct cap_space before, after;
    struct cap_info info;
    struct cap_place place;
    uint8_t body[4096];
    fill_store(fixture->store);
    waste_room(fixture->store);
    assert_cap_ok(cap_store_space(fixture->store, &before));
    struct cap_read *old = begin_read(fixture->store);
    assert_cap_ok(cap_store_locate(old, &hash, &info, &place));
    assert_cap_ok(cap_store_compact(fixture->store, &copy));
    assert_cap_ok(cap_store_space(fixture->store, &after));
    assert_true(after.file_bytes + (15 << 20) < before.file_bytes);
    assert_int_equal(copy.file_bytes_before, before.file_bytes);
    assert_int_equal(copy.file_bytes, after.file_bytes);
    assert_filled(fixture->store);
    assert_cap_ok(check_body(old, 7, len_of(7)));
    assert_cap_error(cap_store_load(fixture->store, &place, body), CAP_E_NOT_FOUND);
    assert_false(cap_store_let_go(fixture->store));
    assert_cap_error(cap_store_compact(fixture->store, &copy), CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(check_body(old, 7, len_of(7)));
    cap_store_read_end(old);
    assert_true(cap_store_let_go(fixture->store));
    assert_cap_error(cap_store_load(fixture->store, &place, body), CAP_E_NOT_FOUND);
    assert_cap_ok(put_data(fixture->store, 5000, 4000000));
    watch = (struct watch){.store = fixture->store};
    assert_cap_ok(cap_store_compact(fixture->store, &copy));
    assert_true(cap_store_let_go(fixture->store));
    assert_filled(fixture->store);
    assert_false(exists(fixture->dir, "store.lmdb.new"));
    assert_false(exists(fixture->dir, "store.lmdb.new-lock"));
    fixture_close(fixture);
    assert_sound(fixture->dir);
    assert_cap_ok(fixture_open(fixture));
    assert_filled(fixture->store);
    assert_cap_ok(check_cap(fixture->store, 5000, 4000000));
}

/*
 * A later map may lie where an older one did, of a longer file: what a stale place leads to there
 * is not in the new file at all. The device is not at fault, and writing goes on.
 */
static void test_stale_places(void **state)
{
    struct fixture *fixture = *state;
    const struct cap_hash hash = fake_hash(CAPS + 1); /* behind the room that waste_room leaves */
    uint8_t body[4096];
    struct cap_place places[4];
    struct cap_info info;
    fill_store(fixture->store);
    waste_room(fixture->store);
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture)); /* in front of the handler of the test's runner */
    for (size_t round = 0; round < 4; round++) {
        struct watch watch = {.store = fixture->store};
        struct cap_copy copy = copy_with(&watch);
        struct cap_read *read = begin_read(fixture->store);
        assert_cap_ok(cap_store_locate(read, &hash, &info, &places[round]));
        cap_store_read_end(read);
        assert_cap_ok(cap_store_compact(fixture->store, &copy));
        assert_true(cap_store_let_go(fixture->store));
        for (size_t i = 0; i <= round; i++) {
            (void)cap_store_load(fixture->store, &places[i], body);
        }
        assert_cap_ok(put_data(fixture->store, 5000 + round, 100));
    }
    assert_filled(fixture->store);
}

/* A stage that is half written goes on in the new file. */
static void test_compact_between_steps(void **state)
{
    struct fixture *fixture = *state;
    struct watch watch = {.store = fixture->store};
    struct cap_copy copy = copy_with(&watch);
    const uint64_t seed = 7;
    struct cap_source body = fake_source(&seed);
    struct cap_put put = fake_data(&seed, 9 << 20);
    bool done = false;
    assert_cap_ok(cap_store_stage_begin(fixture->store, 9 << 20, &put.stage));
    assert_cap_ok(stage_step(fixture->store, put.stage, &body, &done));
    assert_cap_ok(cap_store_compact(fixture->store, &copy));
    assert_true(cap_store_let_go(fixture->store));
    while (!done) {
        assert_cap_ok(stage_step(fixture->store, put.stage, &body, &done));
    }
    assert_cap_ok(put_one(fixture->store, &put, NULL));
    assert_cap_ok(check_cap(fixture->store, 7, 9 << 20));
    fixture_close(fixture);
    assert_sound(fixture->dir);
}

static void test_compact_cancelled(void **state)
{
    struct fixture *fixture = *state;
    struct watch watch = {.store = fixture->store, .stop_at = 2};
    struct cap_copy copy = copy_with(&watch);
    struct cap_space before, after;
    fill_store(fixture->store);
    assert_cap_ok(cap_store_space(fixture->store, &before));
    assert_cap_error(cap_store_compact(fixture->store, &copy), CAP_E_CANCELLED);
    assert_cap_ok(cap_store_space(fixture->store, &after));
    assert_int_equal(after.file_bytes, before.file_bytes);
    assert_false(exists(fixture->dir, "store.lmdb.new"));
    assert_filled(fixture->store);
    assert_cap_ok(put_data(fixture->store, 5000, 100));
}

static void test_compact_rename_fails(void **state)
{
    struct fixture *fixture = *state;
    struct watch watch = {.store = fixture->store};
    struct cap_copy copy = copy_with(&watch);
    fill_store(fixture->store);
    strike = RENAME_FAILS;
    assert_cap_error(cap_store_compact(fixture->store, &copy), CAP_E_IO);
    strike = NEVER;
    assert_cap_ok(cap_store_failure(fixture->store));
    assert_true(cap_store_let_go(fixture->store));
    assert_cap_ok(put_data(fixture->store, 5000, 100));
    assert_false(exists(fixture->dir, "store.lmdb.new"));
    fixture_close(fixture);
    assert_sound(fixture->dir);
    assert_cap_ok(fixture_open(fixture));
    assert_filled(fixture->store);
    assert_true(is_there(fixture->store, 5000));
}

/* Whichever write or sync of the copy fails, it leaves nothing, and the store goes on. */
static void test_every_write_fails(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other = {.engine = lmdb};
    enum cap_error error = CAP_E_IO;
    unsigned failures = 0;
    assert_true(fixture_make_dir(&other));
    fill_store(fixture->store);
    for (unsigned at = 0; error != CAP_OK; at += at < 20 ? 1 : 7) {
        struct watch watch = {.store = fixture->store};
        struct cap_copy copy = copy_with(&watch);
        strike = WRITE_FAILS;
        writes_left = at;
        error = at % 2 == 0 ? cap_store_compact(fixture->store, &copy)
                            : cap_store_backup(fixture->store, other.dir, &copy);
        bool failed = strike == NEVER;
        strike = NEVER;
        assert_true(failed ? error == CAP_E_DISK_FULL || error == CAP_E_IO : error == CAP_OK);
        failures += failed ? 1 : 0;
        assert_false(exists(fixture->dir, "store.lmdb.new"));
        assert_false(exists(other.dir, "store.lmdb.new"));
        assert_cap_ok(cap_store_failure(fixture->store));
        assert_cap_ok(put_data(fixture->store, 5000 + at, 100));
    }
    assert_true(failures > 15);
    assert_filled(fixture->store);
    (void)cap_store_let_go(fixture->store);
    fixture_remove_dir(other.dir);
}

/* Which file a crash would leave is unknown then: nothing may be acknowledged. */
static void test_compact_sync_fails(void **state)
{
    struct fixture *fixture = *state;
    struct watch watch = {.store = fixture->store};
    struct cap_copy copy = copy_with(&watch);
    fill_store(fixture->store);
    strike = SYNC_FAILS;
    assert_cap_error(cap_store_compact(fixture->store, &copy), CAP_E_IO);
    strike = NEVER;
    assert_cap_error(cap_store_failure(fixture->store), CAP_E_IO);
    assert_cap_error(put_data(fixture->store, 5000, 100), CAP_E_STORE_FAILED);
    assert_filled(fixture->store);
    assert_true(cap_store_let_go(fixture->store));
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture));
    assert_filled(fixture->store);
    assert_cap_ok(put_data(fixture->store, 5000, 100));
}

/* The process ends there; then everything is there in one file. */
static void die_at(struct fixture *fixture, enum strike at, unsigned slice)
{
    int status;
    fixture_close(fixture);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct watch watch = {.stop_at = slice, .dies = true};
        struct cap_copy copy = copy_with(&watch);
        strike = at;
        if (fixture_open(fixture) == CAP_OK) {
            (void)cap_store_compact(fixture->store, &copy);
        }
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_cap_ok(fixture_open(fixture));
    assert_false(exists(fixture->dir, "store.lmdb.new"));
    assert_false(exists(fixture->dir, "store.lmdb.new-lock"));
    assert_filled(fixture->store);
    assert_cap_ok(put_data(fixture->store, 5000 + slice, 100));
    fixture_close(fixture);
    assert_sound(fixture->dir);
    assert_cap_ok(fixture_open(fixture));
}

static void test_compact_crashes(void **state)
{
    struct fixture *fixture = *state;
    struct cap_space before, after;
    fill_store(fixture->store);
    waste_room(fixture->store);
    assert_cap_ok(cap_store_space(fixture->store, &before));
    die_at(fixture, NEVER, 1);
    die_at(fixture, NEVER, 3);
    die_at(fixture, BEFORE_RENAME, 0);
    assert_cap_ok(cap_store_space(fixture->store, &after));
    assert_int_equal(after.file_bytes, before.file_bytes);
    die_at(fixture, AFTER_RENAME, 0);
    assert_cap_ok(cap_store_space(fixture->store, &after));
    assert_true(after.file_bytes + (15 << 20) < before.file_bytes);
}

/* --- Readers meanwhile ------------------------------------------------------------------------ */

struct reader {
    struct cap_store *store;
    atomic_bool *stop;
    atomic_uint turns;
    atomic_uint loads;            /* of a place that held */
    _Atomic enum cap_error error; /* that ended it */
    pthread_t thread;
};

/* Whether a cap's bytes are at a place. A later map may lie where an older one did: then others
 * are, and the reader has to tell. */
static bool loads(const struct reader *reader, uint64_t seed, const struct cap_place *place)
{
    uint8_t body[CAP_STORE_PLACE_MAX];
    if (place->at == NULL || cap_store_load(reader->store, place, body) != CAP_OK) {
        return false;
    }
    for (size_t i = 0; i < place->len; i++) {
        if (body[i] != fake_byte(seed, i)) {
            return false;
        }
    }
    return true;
}

/* As a loop does it: snapshots, and loads of places, each over when the turn is. */
static enum cap_error take_turn(struct reader *reader, uint64_t seed, struct cap_place *places)
{
    const struct cap_hash hash = fake_hash(seed);
    struct cap_info info;
    struct cap_read *read;
    if (loads(reader, seed, &places[seed])) {
        atomic_fetch_add(&reader->loads, 1);
        return CAP_OK;
    }
    enum cap_error error = cap_store_read_begin(reader->store, &read);
    if (error != CAP_OK) {
        return error;
    }
    error = check_body(read, seed, len_of(seed));
    if (error == CAP_OK) {
        error = cap_store_locate(read, &hash, &info, &places[seed]);
    }
    cap_store_read_end(read);
    return error;
}

static void *run_reader(void *arg)
{
    struct reader *reader = arg;
    struct cap_place places[CAPS] = {0};
    for (uint64_t seed = 0; !atomic_load(reader->stop) && reader->error == CAP_OK; seed++) {
        reader->error = take_turn(reader, seed % CAPS, places);
        atomic_fetch_add(&reader->turns, 1);
    }
    return NULL;
}

/* Waits until a reader has counted to `least`. */
static void wait_for(struct reader *reader, atomic_uint *count, unsigned least)
{
    while (atomic_load(count) < least) {
        assert_cap_ok(atomic_load(&reader->error)); /* it turns no more */
        usleep(100);
    }
}

/* No load that began before is under way when every reader has begun another turn. */
static void wait_for_turns(struct reader *readers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        wait_for(&readers[i], &readers[i].turns, atomic_load(&readers[i].turns) + 2);
    }
}

static void test_compact_under_readers(void **state)
{
    struct fixture *fixture = *state;
    struct watch watch = {.store = fixture->store};
    struct cap_copy copy = copy_with(&watch);
    struct reader readers[3];
    atomic_bool stop = false;
    fill_store(fixture->store);
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture)); /* in front of the handler of the test's runner */
    for (size_t i = 0; i < 3; i++) {
        readers[i] = (struct reader){.store = fixture->store, .stop = &stop};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, run_reader, &readers[i]), 0);
    }
    for (unsigned round = 0; round < 5; round++) {
        watch = (struct watch){.store = fixture->store};
        assert_cap_ok(cap_store_compact(fixture->store, &copy));
        assert_cap_ok(put_data(fixture->store, 5000 + round, 100));
        wait_for_turns(readers, 3);
        while (!cap_store_let_go(fixture->store)) {
            usleep(100);
        }
    }
    for (size_t i = 0; i < 3; i++) {
        wait_for(&readers[i], &readers[i].loads, 1);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_cap_ok(readers[i].error);
    }
    assert_filled(fixture->store);
}

#define TEST(function)                                                                             \
    {                                                                                              \
#function, function, fixture_setup, fixture_teardown, &lmdb                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_backup),
        TEST(test_backup_of_stage),
        TEST(test_backup_cancelled),
        TEST(test_no_room),
        TEST(test_backup_of_cut_file),
        TEST(test_compact),
        TEST(test_stale_places),
        TEST(test_compact_between_steps),
        TEST(test_compact_cancelled),
        TEST(test_compact_rename_fails),
        TEST(test_every_write_fails),
        TEST(test_compact_sync_fails),
        TEST(test_compact_crashes),
        TEST(test_compact_under_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
