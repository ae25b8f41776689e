/*
 * What only the LMDB engine promises: persistence, creation, readers, room.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/store/lmdb/lmdb.h"
#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

static struct fixture_engine lmdb = {.is_lmdb = true};
static struct fixture_engine few_readers = {.is_lmdb = true, .max_readers = 3};
static struct fixture_engine small = {.is_lmdb = true, .max_bytes = 8 << 20};

static void reopen(void **state)
{
    fixture_close(*state);
    assert_cap_ok(fixture_open(*state));
}

/* --- Persistence ------------------------------------------------------------------------------ */

static void test_reopen(void **state)
{
    struct fixture *fixture = *state;
    struct cap_store_lmdb_config config = {.dir = fixture->dir, .map_bytes = FIXTURE_MAP};
    const uint8_t other_id[CAP_STORE_ID_SIZE] = "another-store-id";
    struct cap_ref ref = {fake_hash(9), CAP_REF_INITIAL}, got;
    struct cap_read *read;
    uint64_t seed = 3;
    struct cap_put put = fake_image(&seed, 400000);
    size_t count;
    bool more;
    put.refs = &ref;
    put.ref_count = 1;
    assert_cap_ok(put_data(store_of(state), 1, 100));
    assert_cap_ok(put_data(store_of(state), 2, 1000000));
    assert_cap_ok(put_one(store_of(state), &put, NULL));
    fixture_close(fixture);
    assert_cap_ok(cap_store_lmdb_open(&config, other_id, &fixture->store));
    assert_memory_equal(cap_store_id(fixture->store), fixture_id, CAP_STORE_ID_SIZE);
    assert_cap_ok(check_cap(fixture->store, 1, 100));
    assert_cap_ok(check_cap(fixture->store, 2, 1000000));
    assert_cap_ok(check_cap(fixture->store, 3, 400000));
    struct cap_counts counts = get_counts(fixture->store);
    assert_int_equal(counts.caps[CAP_KIND_DATA], 2);
    assert_int_equal(counts.refs, 1);
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_ok(cap_store_refs(read, &ref.hash, CAP_REFS_IN, NULL, 1, &got, &count, &more));
    assert_int_equal(count, 1);
    cap_store_read_end(read);
    assert_cap_ok(put_data(fixture->store, 4, 70000)); /* body ids go on where they were */
    assert_cap_ok(check_cap(fixture->store, 2, 1000000));
    assert_cap_ok(check_cap(fixture->store, 4, 70000));
}

/* A crash leaves stages; the next open drops them and their room is used again. */
static void test_stages_dropped_at_open(void **state)
{
    uint64_t seed = 1, stage, again;
    struct cap_put put = fake_data(&seed, 40 << 20);
    struct cap_space before, after;
    assert_cap_ok(stage_all(store_of(state), seed, 40 << 20, &stage));
    assert_cap_ok(cap_store_space(store_of(state), &before));
    reopen(state);
    assert_cap_ok(cap_store_space(store_of(state), &after));
    /* But for some pages of LMDB's list of them. */
    assert_true(after.free_bytes + (100 << 10) >= before.free_bytes + (40 << 20));
    put.stage = stage;
    assert_cap_error(put_one(store_of(state), &put, NULL), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(check_cap(store_of(state), seed, 40 << 20), CAP_E_NOT_FOUND);
    assert_cap_ok(stage_all(store_of(state), seed, 40 << 20, &again));
    assert_true(again > stage);
    assert_cap_ok(cap_store_space(store_of(state), &before));
    assert_true(before.file_bytes < (60 << 20));
}

/* --- Creation --------------------------------------------------------------------------------- */

static void write_file(const char *dir, const char *name, size_t len)
{
    char path[256], byte = 'x';
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(write(fd, &byte, 1), 1);
    }
    close(fd);
}

static bool exists(const char *dir, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* What a crash while the store was created can leave is removed, with or without a store. */
static void test_leftovers_of_creation(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 2; i++) {
        write_file(fixture->dir, "store.lmdb.new", i == 0 ? 0 : 5000);
        write_file(fixture->dir, "store.lmdb.new-lock", 100);
        assert_cap_ok(put_data(fixture->store, 1, 10));
        reopen(state);
        assert_false(exists(fixture->dir, "store.lmdb.new"));
        assert_false(exists(fixture->dir, "store.lmdb.new-lock"));
        assert_cap_ok(check_cap(fixture->store, 1, 10));
    }
    fixture_close(fixture);
    fixture_remove_dir(fixture->dir);
    assert_int_equal(mkdir(fixture->dir, 0700), 0);
    write_file(fixture->dir, "store.lmdb.new", 5000);
    write_file(fixture->dir, "store.lmdb-lock", 100);
    assert_cap_ok(fixture_open(fixture));
    assert_false(exists(fixture->dir, "store.lmdb.new"));
    assert_cap_error(check_cap(fixture->store, 1, 10), CAP_E_NOT_FOUND);
}

static void test_bad_directory(void **state)
{
    struct cap_store_lmdb_config config = {.dir = "/nonexistent/dir"};
    struct cap_store *store = NULL;
    (void)state;
    assert_cap_error(cap_store_lmdb_open(&config, fixture_id, &store), CAP_E_IO);
    assert_null(store);
}

static void test_network_file_systems(void **state)
{
    (void)state;
    assert_true(lmdb_is_network(0x6969));
    assert_true(lmdb_is_network((long)0xff534d42));
    assert_true(lmdb_is_network((int)0xff534d42)); /* where f_type is signed and narrow */
    assert_false(lmdb_is_network(0xef53));         /* ext4 */
    assert_false(lmdb_is_network(0x01021994));     /* tmpfs */
}

/* --- Readers ---------------------------------------------------------------------------------- */

static void test_readers_full(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_read *reads[3], *fourth = NULL;
    struct cap_space space;
    assert_cap_ok(put_data(store, 1, 1000));
    for (int i = 0; i < 3; i++) {
        assert_cap_ok(cap_store_read_begin(store, &reads[i]));
    }
    assert_cap_error(cap_store_read_begin(store, &fourth), CAP_E_READERS_FULL);
    assert_null(fourth);
    assert_cap_ok(cap_store_space(store, &space)); /* figures need no reader of the caller's */
    assert_int_equal(space.readers, 3);
    assert_int_equal(space.max_readers, 3);
    assert_cap_ok(check_body(reads[1], 1, 1000)); /* reads go on */
    assert_cap_ok(put_data(store, 2, 1000));      /* and writes */
    cap_store_read_end(reads[0]);
    assert_cap_ok(check_cap(store, 2, 1000));
    cap_store_read_end(reads[1]);
    cap_store_read_end(reads[2]);
    for (int i = 0; i < 100; i++) {
        assert_cap_ok(check_cap(store, 1, 1000));
    }
}

static uint64_t oldest_reader(struct cap_store *store)
{
    struct cap_space space;
    assert_cap_ok(cap_store_space(store, &space));
    return space.oldest_reader_us;
}

/* That reads have been open for at least `min_us`, the first of them since `began`. */
static void assert_oldest(struct cap_store *store, uint64_t min_us, uint64_t began)
{
    uint64_t age = oldest_reader(store);
    assert_in_range(age, min_us, lmdb_now_us() - began); /* the clock is read after the age */
}

/* The age is that of the open read that began first, in whatever order they end. */
static void test_oldest_reader(void **state)
{
    static const struct timespec pause = {.tv_nsec = 50000000};
    struct cap_store *store = store_of(state);
    struct cap_read *reads[3];
    assert_int_equal(oldest_reader(store), 0);
    for (int round = 0; round < 2; round++) { /* new reads, then kept ones */
        uint64_t began[3];
        for (int i = 0; i < 3; i++) {
            began[i] = lmdb_now_us();
            assert_cap_ok(cap_store_read_begin(store, &reads[i]));
            nanosleep(&pause, NULL);
        }
        assert_oldest(store, 100000, began[0]);
        cap_store_read_end(reads[1]);
        assert_oldest(store, 100000, began[0]);
        cap_store_read_end(reads[0]);
        assert_oldest(store, 0, began[2]);
        cap_store_read_end(reads[2]);
        assert_int_equal(oldest_reader(store), 0);
    }
}

/* Ended reads do not pin pages, though their transactions are kept. */
static void test_idle_reads_pin_nothing(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_read *reads[8];
    struct cap_space space;
    assert_cap_ok(put_data(store, 1, 100));
    for (int i = 0; i < 8; i++) {
        assert_cap_ok(cap_store_read_begin(store, &reads[i]));
    }
    for (int i = 0; i < 8; i++) {
        cap_store_read_end(reads[i]);
    }
    for (int i = 0; i < 100; i++) {
        uint64_t stage;
        assert_cap_ok(stage_all(store, 5, 500000, &stage));
        assert_cap_ok(drop_stage(store, stage));
    }
    assert_cap_ok(cap_store_space(store, &space));
    assert_true(space.file_bytes < 4 << 20);
}

/* --- Room ------------------------------------------------------------------------------------- */

/* A full map is raised by opening with a larger one. */
static void test_larger_map_makes_room(void **state)
{
    struct fixture *fixture = *state;
    uint64_t seed = 1;
    while (put_data(fixture->store, seed, 500000) == CAP_OK) {
        seed++;
    }
    assert_cap_error(put_data(fixture->store, seed, 500000), CAP_E_MAP_FULL);
    fixture->engine.max_bytes = 16 << 20;
    reopen(state);
    assert_cap_ok(put_data(fixture->store, seed, 500000));
    for (uint64_t i = 1; i <= seed; i++) {
        assert_cap_ok(check_cap(fixture->store, i, 500000));
    }
    fixture->engine.max_bytes = 1 << 20; /* smaller than the file: the file wins, reads go on */
    reopen(state);
    assert_cap_ok(check_cap(fixture->store, seed, 500000));
    assert_cap_error(put_data(fixture->store, seed + 1, 500000), CAP_E_MAP_FULL);
}

/* A reader pins what is dropped: room comes back when it ends, without a restart. */
static void test_pinned_room_comes_back(void **state)
{
    struct cap_store *store = store_of(state);
    struct cap_read *read;
    enum cap_error error = CAP_OK;
    assert_cap_ok(put_data(store, 1, 1000));
    assert_cap_ok(cap_store_read_begin(store, &read));
    for (int i = 0; i < 40 && error == CAP_OK; i++) {
        uint64_t stage;
        error = stage_all(store, 2, 1000000, &stage);
        if (error == CAP_OK) {
            error = drop_stage(store, stage);
        }
    }
    assert_cap_error(error, CAP_E_MAP_FULL);
    assert_cap_ok(check_body(read, 1, 1000));
    cap_store_read_end(read);
    for (uint64_t seed = 10; seed < 14; seed++) {
        assert_cap_ok(put_data(store, seed, 1000000));
    }
    assert_cap_ok(check_cap(store, 13, 1000000));
}

static void test_space_figures(void **state)
{
    struct fixture *fixture = *state;
    struct cap_space space;
    struct stat st;
    char path[256];
    uint64_t stage;
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    assert_cap_ok(stage_all(fixture->store, 1, 10 << 20, &stage));
    assert_cap_ok(cap_store_space(fixture->store, &space));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(space.file_bytes, st.st_size);
    assert_true(space.file_bytes >= 10 << 20);
    assert_true(space.free_bytes < 1 << 20);
    assert_true(space.disk_free > 0);
    assert_cap_ok(drop_stage(fixture->store, stage));
    assert_cap_ok(cap_store_space(fixture->store, &space));
    assert_true(space.free_bytes >= 10 << 20);
    assert_true(space.free_bytes <= space.file_bytes);
}

/*
 * Commits of small caps go into pages that the file has already: growing a file is more work for
 * its system, which a sync waits for. The store stays sound with zeros behind its last page.
 */
static void test_small_puts_find_their_pages(void **state)
{
    struct fixture *fixture = *state;
    struct stat st;
    off_t size = 0;
    char path[256];
    unsigned grown = 0;
    const uint64_t count = 200;
    (void)snprintf(path, sizeof(path), "%s/store.lmdb", fixture->dir);
    for (uint64_t seed = 1; seed <= count; seed++) {
        assert_cap_ok(put_data(fixture->store, seed, 4096));
        assert_int_equal(stat(path, &st), 0);
        grown += st.st_size != size;
        size = st.st_size;
    }
    assert_true(grown >= 1);
    assert_true(grown <= 5);
    reopen(state);
    for (uint64_t seed = 1; seed <= count; seed++) {
        assert_cap_ok(check_cap(fixture->store, seed, 4096));
    }
    assert_cap_ok(put_data(fixture->store, count + 1, 4096));
}

#define PAGES 500u

/* `len` bytes from `from`, or as many as there are, of the body of `seed`. */
static void check_piece(struct cap_read *read, uint64_t seed, uint64_t body_len, uint64_t from,
                        size_t len)
{
    struct cap_hash hash = fake_hash(seed);
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    uint8_t bytes[16];
    int count = 0;
    size_t got = 0;
    assert_true(len <= sizeof(bytes));
    assert_cap_ok(cap_store_window(read, &hash, from, len, iov, &count, &got));
    assert_int_equal(got, body_len - from < len ? body_len - from : len);
    assert_cap_ok(cap_store_copy(read, iov, count, bytes));
    for (size_t i = 0; i < got; i++) {
        assert_int_equal(bytes[i], fake_byte(seed, from + i));
    }
}

/*
 * The few bytes of a body that do not fit into its pages lie among the records: a cap of one page
 * takes one page, not two. Lengths around every cut are read from every side of it.
 */
static void test_rests(void **state)
{
    static const uint64_t lens[] = {2009,  2010,  4071,  4072,  4073,  4125,         4583,
                                    4584,  4585,  8168,  8169,  8680,  8681,         61416,
                                    61417, 65000, 65511, 65512, 65513, 65512 + 4073, 262048 + 4125};
    struct fixture *fixture = *state;
    struct cap_space before, after;
    const size_t count = sizeof(lens) / sizeof(lens[0]);
    for (size_t i = 0; i < count; i++) {
        assert_cap_ok(put_data(fixture->store, 1 + i, lens[i]));
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t stage, seed = 100 + i;
        struct cap_put put = fake_data(&seed, lens[i]);
        assert_cap_ok(stage_all(fixture->store, seed, lens[i], &stage));
        put.stage = stage;
        assert_cap_ok(put_one(fixture->store, &put, NULL));
    }
    for (size_t i = 0; i < count; i++) {
        assert_cap_ok(check_cap(fixture->store, 1 + i, lens[i]));
        assert_cap_ok(check_cap(fixture->store, 100 + i, lens[i]));
        struct cap_read *read = begin_read(fixture->store);
        for (uint64_t from = lens[i] - 530; from < lens[i]; from++) {
            check_piece(read, 1 + i, lens[i], from, 7);
        }
        cap_store_read_end(read);
    }
    assert_cap_ok(cap_store_space(fixture->store, &before));
    static uint64_t seeds[PAGES];
    static struct cap_put puts[PAGES];
    for (size_t i = 0; i < PAGES; i++) {
        seeds[i] = 1000 + i;
        puts[i] = fake_data(&seeds[i], 4125);
    }
    assert_cap_ok(put_all(fixture->store, puts, PAGES));
    assert_cap_ok(cap_store_space(fixture->store, &after));
    uint64_t used = after.file_bytes - after.free_bytes - (before.file_bytes - before.free_bytes);
    assert_true(used / PAGES < 4900);
}

/* --- A full disk ------------------------------------------------------------------------------ */

#define DISK_BYTES "size=6m"

/* On a small tmpfs of our own; without the right to mount there is nothing to test here. */
static int setup_small_disk(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    if (fixture == NULL) {
        return -1;
    }
    fixture->engine.is_lmdb = true;
    if (!fixture_make_dir(fixture)) {
        return -1;
    }
    if (mount("tmpfs", fixture->dir, "tmpfs", 0, DISK_BYTES) != 0) {
        (void)rmdir(fixture->dir);
        free(fixture);
        *state = NULL;
        return 0;
    }
    *state = fixture;
    return fixture_open(fixture) == CAP_OK ? 0 : -1;
}

static int teardown_small_disk(void **state)
{
    struct fixture *fixture = *state;
    if (fixture == NULL) {
        return 0;
    }
    fixture_close(fixture);
    if (umount(fixture->dir) != 0) {
        return -1;
    }
    (void)rmdir(fixture->dir);
    free(fixture);
    return 0;
}

/* Full by our own hand, then by another's: refused by name, intact, and on when there is room. */
static void test_disk_full(void **state)
{
    struct fixture *fixture = *state;
    uint64_t stage, count = 0;
    enum cap_error error;
    if (fixture == NULL) {
        print_message("skipped: mounting is not allowed\n");
        skip();
        return;
    }
    assert_cap_error(stage_all(fixture->store, 1, 20 << 20, &stage), CAP_E_DISK_FULL);
    while ((error = put_data(fixture->store, 100 + count, 200000)) == CAP_OK) {
        count++;
    }
    assert_cap_error(error, CAP_E_DISK_FULL);
    assert_true(count > 5);
    write_file(fixture->dir, "hog", 0);
    {
        char path[256], block[4096] = {1};
        int fd;
        (void)snprintf(path, sizeof(path), "%s/hog", fixture->dir);
        fd = open(path, O_WRONLY);
        while (write(fd, block, sizeof(block)) > 0) {
        }
        close(fd);
        assert_cap_error(put_data(fixture->store, 1, 100000), CAP_E_DISK_FULL);
        for (uint64_t i = 0; i < count; i++) {
            assert_cap_ok(check_cap(fixture->store, 100 + i, 200000));
        }
        assert_int_equal(unlink(path), 0);
    }
    assert_cap_ok(put_data(fixture->store, 1, 100));
    reopen(state);
    assert_cap_ok(check_cap(fixture->store, 1, 100));
    assert_int_equal(get_counts(fixture->store).caps[CAP_KIND_DATA], count + 1);
}

/* --- Address space ---------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Where address space is limited the default map shrinks until it fits. */
static void test_limited_address_space(void **state)
{
    struct fixture *fixture = *state;
    int status;
    if (SANITIZED) { /* sanitizers need more address space than the limit */
        skip();
        return;
    }
    fixture_close(fixture);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = {UINT64_C(8) << 30, UINT64_C(8) << 30};
        struct cap_store_lmdb_config config = {.dir = fixture->dir};
        struct cap_store *store;
        int code = 1;
        if (setrlimit(RLIMIT_AS, &limit) == 0 &&
            cap_store_lmdb_open(&config, fixture_id, &store) == CAP_OK) {
            code = put_data(store, 1, 100000) == CAP_OK && check_cap(store, 1, 100000) == CAP_OK
                       ? 0
                       : 2;
            cap_store_close(store);
        }
        _exit(code);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_cap_ok(fixture_open(fixture));
    assert_cap_ok(check_cap(fixture->store, 1, 100000));
}

static void test_default_map(void **state)
{
    struct fixture *fixture = *state;
    struct cap_store_lmdb_config config = {.dir = fixture->dir};
    struct cap_space space;
    fixture_close(fixture);
    assert_cap_ok(cap_store_lmdb_open(&config, fixture_id, &fixture->store));
    assert_cap_ok(cap_store_space(fixture->store, &space));
    assert_true(space.map_bytes >= UINT64_C(1) << 30);
    assert_true(space.max_readers > 100);
}

#define WITH(engine, function)                                                                     \
    {                                                                                              \
#function, function, fixture_setup, fixture_teardown, &engine                              \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(lmdb, test_reopen),
        WITH(lmdb, test_stages_dropped_at_open),
        WITH(lmdb, test_leftovers_of_creation),
        WITH(lmdb, test_bad_directory),
        cmocka_unit_test(test_network_file_systems),
        WITH(few_readers, test_readers_full),
        WITH(few_readers, test_oldest_reader),
        WITH(lmdb, test_idle_reads_pin_nothing),
        WITH(small, test_larger_map_makes_room),
        WITH(small, test_pinned_room_comes_back),
        WITH(lmdb, test_space_figures),
        WITH(lmdb, test_rests),
        WITH(lmdb, test_small_puts_find_their_pages),
        cmocka_unit_test_setup_teardown(test_disk_full, setup_small_disk, teardown_small_disk),
        WITH(lmdb, test_limited_address_space),
        WITH(lmdb, test_default_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
