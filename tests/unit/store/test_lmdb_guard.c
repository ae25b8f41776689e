/*
 * A file that is cut while its store is open: reads say CAP_E_IO, and what is still there reads.
 * Every fault that is not a read's stays what it was.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store/fixture.h"
#include "tests/unit/support.h"

#define CAPS  60u
#define PAGE  4096u
#define ROOTS 3u
#define TAKEN 42 /* exit status of the handler that was there before */

static struct fixture_engine lmdb = {.is_lmdb = true, .max_readers = 20};

static void file_path(const struct fixture *fixture, char path[256])
{
    (void)snprintf(path, 256, "%s/store.lmdb", fixture->dir);
}

/* cmocka puts its own handler of SIGBUS in place for every function; opening takes it over. */
static void reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    assert_cap_ok(fixture_open(fixture));
}

static uint64_t len_of(uint64_t seed)
{
    return seed % 4 == 0 ? 3000 * seed : 100 * seed;
}

/*
 * An Image with page roots that refers to two caps, then caps of all sizes: a long body ends the
 * file. Where the index did, a cut of one page would leave nothing to be read.
 */
static void fill(struct fixture *fixture)
{
    uint64_t seed = 1000;
    struct cap_hash roots[ROOTS] = {fake_hash(1), fake_hash(2), fake_hash(3)};
    struct cap_ref refs[] = {{fake_hash(1), CAP_REF_PINNED}, {fake_hash(2), CAP_REF_INITIAL}};
    struct cap_put put = fake_image(&seed, 5000);
    put.info.size = (uint64_t)ROOTS * CAP_PAGE_SIZE;
    put.page_roots = roots;
    put.refs = refs;
    put.ref_count = 2;
    put.info.has_content_hash = true;
    put.info.content_hash = fake_hash(2000);
    assert_cap_ok(put_one(fixture->store, &put, NULL));
    for (uint64_t i = 1; i <= CAPS; i++) {
        assert_cap_ok(put_data(fixture->store, i, len_of(i)));
    }
}

static void count_result(enum cap_error error, unsigned *ok)
{
    if (error != CAP_OK) {
        assert_cap_error(error, CAP_E_IO);
    }
    *ok += error == CAP_OK ? 1 : 0;
}

/* Every kind of read, each in a snapshot of its own. Returns how many were answered. */
static unsigned read_all(struct cap_store *store)
{
    struct cap_list_query query = {.max = 2 * CAPS, .scan_max = 2 * CAPS};
    static struct cap_listed items[2 * CAPS];
    struct cap_hash image = fake_hash(1000), content = fake_hash(2000), hash, roots[ROOTS];
    struct cap_counts counts;
    struct cap_space space;
    struct cap_ref refs[4];
    struct cap_fact fact;
    size_t count;
    bool more;
    unsigned ok = 0;
    for (unsigned what = 0; what < 7; what++) {
        struct cap_read *read = NULL;
        enum cap_error error = cap_store_read_begin(store, &read);
        if (error != CAP_OK) {
            assert_cap_error(error, CAP_E_IO);
            continue;
        }
        switch (what) {
        case 0:
            count_result(cap_store_list(read, &query, items, &count, &hash, &more), &ok);
            break;
        case 1:
            count_result(cap_store_refs(read, &image, CAP_REFS_OUT, NULL, 4, refs, &count, &more),
                         &ok);
            break;
        case 2:
            count_result(
                cap_store_refs(read, &refs[0].hash, CAP_REFS_IN, NULL, 4, refs, &count, &more),
                &ok);
            break;
        case 3:
            count_result(cap_store_find_content(read, &content, &hash), &ok);
            break;
        case 4:
            count_result(cap_store_counts(read, &counts), &ok);
            break;
        case 5:
            count_result(cap_store_page_roots(read, &image, 0, ROOTS, roots), &ok);
            break;
        default:
            count_result(cap_store_facts(read, &image, 1, &fact, &count), &ok);
            break;
        }
        cap_store_read_end(read);
    }
    count_result(cap_store_space(store, &space), &ok);
    return ok;
}

static unsigned read_caps(struct cap_store *store)
{
    unsigned ok = 0;
    for (uint64_t i = 1; i <= CAPS; i++) {
        count_result(check_cap(store, i, len_of(i)), &ok);
    }
    return ok;
}

static void restore_file(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static void assert_file_is(const char *path, const uint8_t *bytes, size_t len)
{
    size_t now;
    uint8_t *there = load_file(path, &now);
    assert_int_equal(now, len);
    assert_memory_equal(there, bytes, len);
    free(there);
}

/* Cut shorter page by page, down to nothing, and whole again: the store lives on. */
static void test_cut(void **state)
{
    struct fixture *fixture = *state;
    struct cap_space space;
    char path[256];
    size_t len;
    unsigned some = 0;
    fill(fixture);
    reopen(fixture);
    file_path(fixture, path);
    uint8_t *bytes = load_file(path, &len);
    unsigned caps = read_caps(fixture->store);
    assert_int_equal(caps, CAPS);
    assert_int_equal(read_all(fixture->store), 8);
    for (size_t cut = len / PAGE; cut-- > 0;) {
        assert_int_equal(truncate(path, (off_t)(cut * PAGE)), 0);
        unsigned now = read_caps(fixture->store);
        assert_true(now <= caps);
        some += now > 0 && now < CAPS ? 1 : 0;
        caps = now;
        (void)read_all(fixture->store);
    }
    assert_true(some > 10);
    assert_int_equal(caps, 0);
    assert_int_equal(read_all(fixture->store), 0);
    restore_file(path, bytes, len);
    /* Reads are served as before; nothing is written over what could not be read. */
    assert_cap_error(put_data(fixture->store, 3000, 100000), CAP_E_IO);
    assert_file_is(path, bytes, len);
    free(bytes);
    assert_int_equal(read_caps(fixture->store), CAPS);
    assert_int_equal(read_all(fixture->store), 8);
    assert_cap_ok(cap_store_space(fixture->store, &space));
    assert_int_equal(space.readers, 0);
    reopen(fixture);
    assert_cap_ok(put_data(fixture->store, 3000, 100000)); /* nothing was noted as damaged */
    assert_cap_ok(put_data(fixture->store, 4, len_of(4)));
    assert_cap_ok(check_cap(fixture->store, 3000, 100000));
}

/* Every page zero: LMDB's assertions meet them before anything of ours. */
static void test_zeroed(void **state)
{
    struct fixture *fixture = *state;
    char path[256];
    size_t len;
    fill(fixture);
    reopen(fixture);
    file_path(fixture, path);
    uint8_t *bytes = load_file(path, &len);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(truncate(path, (off_t)len), 0);
    for (uint64_t i = 1; i <= CAPS; i++) {
        assert_true(check_cap(fixture->store, i, len_of(i)) != CAP_OK);
    }
    assert_true(put_data(fixture->store, 3000, 1000) != CAP_OK);
    restore_file(path, bytes, len);
    free(bytes);
    assert_int_equal(read_caps(fixture->store), CAPS);
}

/* A window that was handed out, and whose pages go before it is copied. */
static void test_cut_under_a_window(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fake_hash(1);
    struct cap_read *read = NULL;
    struct cap_info info;
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    static uint8_t copy[CAP_STORE_WINDOW];
    char path[256];
    size_t len, file_len;
    int count;
    assert_cap_ok(put_data(fixture->store, 1, 200000));
    reopen(fixture);
    file_path(fixture, path);
    uint8_t *bytes = load_file(path, &file_len);
    assert_cap_ok(cap_store_read_begin(fixture->store, &read));
    assert_cap_ok(cap_store_window(read, &hash, 0, CAP_STORE_WINDOW, iov, &count, &len));
    assert_int_equal(len, 200000);
    assert_cap_ok(cap_store_copy(read, iov, count, copy));
    assert_int_equal(copy[199999], fake_byte(1, 199999));
    assert_int_equal(truncate(path, 0), 0);
    assert_cap_error(cap_store_copy(read, iov, count, copy), CAP_E_IO);
    assert_cap_error(cap_store_find(read, &hash, &info), CAP_E_IO);
    restore_file(path, bytes, file_len);
    assert_cap_ok(cap_store_find(read, &hash, &info)); /* the snapshot is usable */
    assert_cap_ok(cap_store_copy(read, iov, count, copy));
    cap_store_read_end(read);
    free(bytes);
}

/* A place whose page goes: what lies there cannot be loaded, and can again when it is back. */
static void test_cut_under_a_place(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash hash = fake_hash(1);
    struct cap_place place;
    struct cap_info info;
    uint8_t body[1000];
    char path[256];
    size_t file_len;
    assert_cap_ok(put_data(fixture->store, 1, sizeof(body)));
    reopen(fixture);
    file_path(fixture, path);
    uint8_t *bytes = load_file(path, &file_len);
    struct cap_read *read = begin_read(fixture->store);
    assert_cap_ok(cap_store_locate(read, &hash, &info, &place));
    assert_int_equal(truncate(path, 0), 0);
    assert_cap_error(cap_store_take(read, &hash, &place, body), CAP_E_IO);
    assert_cap_error(cap_store_load(fixture->store, &place, body), CAP_E_IO);
    assert_cap_error(cap_store_locate(read, &hash, &info, &place), CAP_E_IO);
    restore_file(path, bytes, file_len);
    cap_store_read_end(read);
    assert_cap_ok(cap_store_load(fixture->store, &place, body));
    assert_int_equal(body[999], fake_byte(1, 999));
    free(bytes);
}

#define THREADS 4u

static void *read_on(void *arg)
{
    struct fixture *fixture = arg;
    uintptr_t wrong = 0;
    for (unsigned round = 0; round < 200; round++) {
        for (uint64_t i = 1; i <= CAPS; i += 7) {
            enum cap_error error = check_cap(fixture->store, i, len_of(i));
            wrong += error != CAP_OK && error != CAP_E_IO ? 1 : 0;
        }
    }
    return (void *)wrong; /* NOLINT(performance-no-int-to-ptr): a count */
}

/* Each thread has its own guard. */
static void test_cut_under_threads(void **state)
{
    struct fixture *fixture = *state;
    pthread_t threads[THREADS];
    char path[256];
    size_t len;
    fill(fixture);
    reopen(fixture);
    file_path(fixture, path);
    uint8_t *bytes = load_file(path, &len);
    assert_int_equal(truncate(path, (off_t)(len / 2 / PAGE * PAGE)), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, fixture), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *wrong = fixture;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    restore_file(path, bytes, len);
    free(bytes);
    assert_int_equal(read_caps(fixture->store), CAPS);
}

/* --- What is not guarded ---------------------------------------------------------------------- */

static void before_us(int number)
{
    (void)number;
    _exit(TAKEN);
}

/* A fault outside of the store, in a mapping of the child's own. */
static void fault_elsewhere(struct fixture *fixture)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/other", fixture->dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    const volatile uint8_t *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) {
        (void)map[0];
    }
}

static void fault_in_writer(struct fixture *fixture)
{
    char path[256];
    file_path(fixture, path);
    if (truncate(path, 0) == 0) {
        (void)put_data(fixture->store, 1, 1000);
    }
}

/* The loop's and anybody's own loads from a window are not the store's. */
static void fault_in_window(struct fixture *fixture)
{
    struct cap_hash hash = fake_hash(1);
    struct cap_read *read = NULL;
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    size_t len;
    int count;
    char path[256];
    file_path(fixture, path);
    if (put_data(fixture->store, 1, 100000) == CAP_OK &&
        cap_store_read_begin(fixture->store, &read) == CAP_OK &&
        cap_store_window(read, &hash, 0, 1000, iov, &count, &len) == CAP_OK &&
        truncate(path, 0) == 0) {
        (void)*(const volatile uint8_t *)iov[0].iov_base;
    }
}

static void sent(struct fixture *fixture)
{
    (void)fixture;
    (void)raise(SIGBUS);
}

/* The wait status of a child that has a handler, or none, opens the store and then runs `what`. */
static int child(struct fixture *fixture, void (*handler)(int),
                 void (*what)(struct fixture *fixture))
{
    int status = 0;
    fixture_close(fixture);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGBUS, handler);
        if (fixture_open(fixture) == CAP_OK) {
            what(fixture);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_other_faults(void **state)
{
    struct fixture *fixture = *state;
    static void (*const all[])(struct fixture *) = {fault_elsewhere, sent, fault_in_window,
                                                    fault_in_writer};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        for (unsigned handled = 0; handled < 2; handled++) {
            int status = child(fixture, handled != 0 ? before_us : SIG_DFL, all[i]);
            if (handled != 0) {
                assert_true(WIFEXITED(status));
                assert_int_equal(WEXITSTATUS(status), TAKEN);
            } else {
                assert_true(WIFSIGNALED(status));
                assert_int_equal(WTERMSIG(status), SIGBUS);
            }
            char path[256];
            file_path(fixture, path);
            (void)unlink(path);
            assert_cap_ok(fixture_open(fixture));
        }
    }
}

#define WITH(function)                                                                             \
    {                                                                                              \
#function, function, fixture_setup, fixture_teardown, &lmdb                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_cut),
        WITH(test_zeroed),
        WITH(test_cut_under_a_window),
        WITH(test_cut_under_a_place),
        WITH(test_cut_under_threads),
        WITH(test_other_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
